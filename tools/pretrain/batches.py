"""Batches of two views: crops with the same voice, or with the same words.

A `voice` batch pairs two different crops of one recording; a `words` batch pairs one crop with
itself, or with the same text in another voice, at another speed and pitch. Every crop is filtered,
put in a room and mixed with noise on its own. Targets come from the clean recording.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from pretrain.corpora import Store
from pretrain.targets import FIRST_CENTRE, IGNORE, Labels, frame_count
from refine.audio import HOP, SAMPLE_RATE

VOICE_SECONDS = (1.0, 1.6, 2.4, 4.0)  # crop lengths of a voice batch
VOICE_SHARES = (0.45, 0.25, 0.20, 0.10)
WORD_SECONDS = (1.0, 1.6)
WORD_SHARES = (0.7, 0.3)
UNTOUCHED = {"voice": 0.5, "words": 0.2}  # chance of a pair, or a crop, as it was recorded
# sources of a dozen voices or more: a voice batch from two of them must tell voices apart, since
# the recording channel does not
MANY_VOICES = ("librispeech", "espeak-ng", "speech_to_intent", "arabic_commands", "accents")
NARROW = 0.6  # chance of such a batch
VOICE_MINIMUM = 2.5  # seconds of a recording that gives two crops of one voice
SYNTHETIC = "espeak-ng"


@dataclass
class Batch:
    """Two views, row i of the first half belonging to row i of the second."""

    kind: str  # "voice" or "words"
    waveforms: torch.Tensor  # (2 pairs, samples), zero mean and unit variance a row
    labels: dict[str, torch.Tensor]  # codebook → (2 pairs, frames), -100 = no target
    mask: torch.Tensor  # (2 pairs, frames), True = hidden from the encoder
    altered: torch.Tensor  # (2 pairs,), True = speed and pitch changed


@dataclass
class Crop:
    """A stretch of one recording, played `rate` times faster."""

    recording: int
    start: float  # samples in the recording; may lie before its start or reach past its end
    rate: float


class Sampler:
    """Draws batches. All its randomness is in `generator`, so that a run can be resumed."""

    def __init__(
        self,
        store: Store,
        labels: dict[str, Sequence[Labels]],
        noises: Sequence[NDArray[np.float32]],
        rooms: Sequence[NDArray[np.float32]],
        seconds: float,
        synthetic_share: float,
        seed: int,
    ) -> None:
        self.store, self.labels, self.noises, self.rooms = store, labels, noises, rooms
        self.seconds = seconds
        self.generator = np.random.default_rng(seed)
        self.lengths = store.lengths()
        self.source = np.array(store.source)
        self.chance = recording_chances(store, synthetic_share)
        self._spectra: dict[int, NDArray[np.complex64]] = {}

    def draw(self, voice_share: float) -> Batch:
        """One batch of about `seconds` of audio."""
        kind = "voice" if self.generator.random() < voice_share else "words"
        options = (VOICE_SECONDS, VOICE_SHARES) if kind == "voice" else (WORD_SECONDS, WORD_SHARES)
        length = int(self.generator.choice(options[0], p=options[1]) * SAMPLE_RATE)
        pairs = max(int(self.seconds * SAMPLE_RATE / length / 2), 2)
        first, second = (
            self._voice_pairs(pairs, length) if kind == "voice" else self._word_pairs(pairs, length)
        )
        crops = first + second
        clean = np.stack([self._cut(crop, length) for crop in crops])
        frames = frame_count(length)
        labels = {
            name: torch.from_numpy(np.stack([self._labels(name, c, frames) for c in crops]))
            for name in self.labels
        }
        return Batch(
            kind,
            torch.from_numpy(self.disturb(clean, kind)),
            labels,
            torch.from_numpy(span_mask(len(crops), frames, self.generator)),
            torch.tensor([crop.rate != 1.0 for crop in crops]),
        )

    def _choose(self, count: int, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        chance = np.where(allowed, self.chance, 0.0)
        chance /= chance.sum()
        enough = int((chance > 0).sum()) >= count
        return self.generator.choice(len(chance), count, replace=not enough, p=chance)

    def _voice_pairs(self, pairs: int, length: int) -> tuple[list[Crop], list[Crop]]:
        """Two crops of each recording, as far apart as it is long; a third at a changed pitch."""
        need = max(VOICE_MINIMUM * SAMPLE_RATE, 1.25 * length)
        allowed = self.store.single_voice & (self.lengths >= need)
        if self.generator.random() < NARROW:
            near = allowed & np.isin(self.source, self.generator.choice(MANY_VOICES, 2, False))
            allowed = near if near.sum() >= pairs else allowed
        chosen = self._choose(pairs, allowed)
        first: list[Crop] = []
        second: list[Crop] = []
        for recording in chosen:
            rate = self._rate(0.3, 0.88, 1.14)
            room = self.lengths[recording] - length * rate
            early, late = sorted(self.generator.random(2) * max(room, 0))
            if self.generator.random() < 0.5:  # push the two apart
                early, late = early * 0.5, late + (room - late) * 0.5
            first.append(Crop(int(recording), float(early), rate))
            second.append(Crop(int(recording), float(late), rate))
        return first, second

    def _word_pairs(self, pairs: int, length: int) -> tuple[list[Crop], list[Crop]]:
        """The same words twice; up to four crops of one recording, so that its voice is no clue."""
        first: list[Crop] = []
        second: list[Crop] = []
        while len(first) < pairs:
            recording = int(self._choose(1, np.ones(len(self.store), bool))[0])
            twin = int(self.store.twin[recording])
            n = self.lengths[recording]
            if twin >= 0 and n < 1.3 * length and self.generator.random() < 0.7:
                for side, which in ((first, recording), (second, twin)):
                    side.append(self._centred(which, self.lengths[which] / 2, length, 0.9, 1.12))
                continue
            for _ in range(int(np.clip(n // length, 1, 4))):
                middle = n / 2
                if n >= 1.25 * length:
                    middle = self.generator.uniform(length / 2, n - length / 2)
                for side in (first, second):
                    shifted = middle + self.generator.uniform(-0.04, 0.04) * SAMPLE_RATE
                    side.append(self._centred(recording, shifted, length, 0.82, 1.22))
        return first[:pairs], second[:pairs]

    def _centred(self, recording: int, middle: float, length: int, low: float, high: float) -> Crop:
        rate = self._rate(0.75, low, high)
        return Crop(recording, middle - length * rate / 2, rate)

    def _rate(self, chance: float, low: float, high: float) -> float:
        if self.generator.random() >= chance:
            return 1.0
        return float(np.exp(self.generator.uniform(np.log(low), np.log(high))))

    def _cut(self, crop: Crop, length: int) -> NDArray[np.float32]:
        """The crop's samples, zeros outside the recording, shape (length,)."""
        sound = self.store.waveform(crop.recording)
        if crop.rate == 1.0:
            start = round(crop.start)
            cut = np.zeros(length, np.float32)
            low, high = max(start, 0), min(start + length, len(sound))
            cut[low - start : high - start] = sound[low:high]
            return cut
        times = crop.start + crop.rate * np.arange(length, dtype=np.float64)
        low = max(int(times[0]), 0)
        piece = sound[low : int(times[-1]) + 2].astype(np.float32)
        return np.interp(times - low, np.arange(len(piece)), piece, left=0, right=0).astype(
            np.float32
        )

    def _labels(self, name: str, crop: Crop, frames: int) -> NDArray[np.int64]:
        """The recording's labels at the crop's frames, -100 outside of it."""
        track = self.labels[name][crop.recording]
        centres = crop.start + crop.rate * (FIRST_CENTRE + HOP * np.arange(frames))
        at = np.round((centres - FIRST_CENTRE) / HOP).astype(int)
        inside = (at >= 0) & (at < len(track))
        found = np.full(frames, -100, np.int64)
        found[inside] = track[at[inside]]
        found[found == IGNORE] = -100
        return found

    def disturb(self, clean: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
        """Filter, room and noise on most rows; zero mean and unit variance after.

        In a voice batch both views of a pair pass the same filter, and half of the pairs are left
        as they were recorded: a voice is known by its long-term spectrum too.
        """
        rows, n = clean.shape
        size = scipy.fft.next_fast_len(n + SAMPLE_RATE // 2, real=True)
        filters = self._filters(rows, size)
        touched = np.asarray(self.generator.random(rows) >= UNTOUCHED[kind])
        if kind == "voice":
            filters[rows // 2 :] = filters[: rows // 2]
            touched[rows // 2 :] = touched[: rows // 2]
        spectrum = scipy.fft.rfft(clean, size, axis=1)
        spectrum *= np.where(touched[:, None], filters, np.float32(1))
        rooms = np.flatnonzero(touched & (self.generator.random(rows) < 0.25))
        if len(rooms) and self.rooms:
            which = self.generator.integers(len(self.rooms), size=len(rooms))
            spectrum[rooms] *= self._room_spectra(size)[which]
        sound = scipy.fft.irfft(spectrum, size, axis=1)[:, :n].astype(np.float32)
        sound /= np.sqrt((sound**2).mean(1, keepdims=True)) + 1e-3
        for row in np.flatnonzero(touched):
            sound[row] += self._noise(sound, int(row))
        sound -= sound.mean(1, keepdims=True)
        return sound / np.sqrt(sound.var(1, keepdims=True) + 1e-7)

    def _noise(self, sound: NDArray[np.float32], row: int) -> NDArray[np.float32]:
        n, chance = sound.shape[1], self.generator.random()
        level = np.float32(10 ** (-self.generator.uniform(5, 30) / 20))
        if chance < 0.45 and self.noises:
            noise = self.noises[int(self.generator.integers(len(self.noises)))]
            start = self.generator.integers(len(noise))
            return level * np.take(noise, np.arange(start, start + n), mode="wrap")
        if chance < 0.53:  # somebody else, further away
            return np.float32(0.6) * level * sound[row - 1]
        hiss: NDArray[np.float32] = self.generator.standard_normal((n,), dtype=np.float32)
        return np.float32(10 ** (-self.generator.uniform(25, 60) / 20)) * hiss

    def _filters(self, rows: int, size: int) -> NDArray[np.float32]:
        """A gain curve a row: a tilt and a slow wave over log frequency, at times a telephone."""
        hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
        octave = np.log2(np.maximum(hertz, 50.0) / 1000.0).astype(np.float32)
        draw = self.generator.random
        tilt = (draw((rows, 1), dtype=np.float32) - 0.5) * 4.0  # dB an octave, in ±2
        wave = (draw((rows, 1), dtype=np.float32)) * 5.0
        phase = draw((rows, 1), dtype=np.float32) * 6.28
        speed = 0.8 + 1.6 * draw((rows, 1), dtype=np.float32)
        gain = tilt * octave + wave * np.sin(speed * octave + phase)
        gain *= draw((rows, 1)) < 0.75
        telephone = draw((rows, 1)) < 0.08
        gain = np.where(telephone & ((hertz < 250) | (hertz > 3500)), -40.0, gain)
        return np.exp(gain * np.float32(np.log(10) / 20)).astype(np.float32)

    def _room_spectra(self, size: int) -> NDArray[np.complex64]:
        if size not in self._spectra:
            padded = np.stack([np.pad(r, (0, size - len(r))) for r in self.rooms])
            self._spectra[size] = scipy.fft.rfft(padded, axis=1).astype(np.complex64)
        return self._spectra[size]


def recording_chances(store: Store, synthetic_share: float) -> NDArray[np.float64]:
    """How often each recording is drawn: sources by the root of their length, within by length."""
    seconds = np.minimum(store.lengths() / SAMPLE_RATE, 8.0) + 1.0
    source = np.array(store.source)
    chance = np.zeros(len(store))
    for name in sorted(set(store.source)):
        of = source == name
        total = seconds[of].sum()
        chance[of] = seconds[of] / total * total**0.7
    synthetic = source == SYNTHETIC
    for of, share in ((synthetic, synthetic_share), (~synthetic, 1 - synthetic_share)):
        if of.any():
            chance[of] *= share / chance[of].sum()
    return chance / chance.sum()


def span_mask(
    rows: int, frames: int, generator: np.random.Generator, start: float = 0.065, span: int = 10
) -> NDArray[np.bool_]:
    """Spans of `span` frames begin at a frame with chance `start` (0.065 hides about half)."""
    begins = generator.random((rows, frames)) < start
    mask = begins.copy()
    for shift in range(1, span):
        mask[:, shift:] |= begins[:, :-shift]
    empty = ~mask.any(1)
    mask[empty, : min(span, frames // 2)] = True
    full = mask.all(1)
    mask[full, : frames // 3] = False
    return mask
