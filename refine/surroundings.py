"""What surrounds a voice: background sounds and rooms, recorded where there are some, else made.

    around = surroundings.of(corpus, noise="", rooms="", seed=0)
    noisy = around.add(waveforms, lengths, seed=1)

The shares and signal-to-noise ratios are those of the DINO recipe of Cho et al. 2022 (hyperion,
`reverb_noise_aug.yaml`): a kind of sound is drawn first, all kinds alike, then a sound of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.fft import next_fast_len
from torch import Tensor

from refine import audio, augment, paths
from refine.corpus import Corpus, CorpusError, open_corpus

SNR_DB = {"noise": (0.0, 18.0), "music": (3.0, 18.0), "babble": (3.0, 18.0)}
NOISE_SHARE, ROOM_SHARE = 0.7, 0.45
SOUND_S, ROOM_S = 5.0, 0.5  # kept of a sound, of an impulse response
ROOMS_MADE = 24  # of each size
RT60_S = {"small": (0.15, 0.4), "medium": (0.4, 0.9)}  # seconds until a room is 60 dB quieter
COLOURS = (0.0, 1.0, 2.0)  # power falls with f ** -colour: white, pink, brown
BABBLE_SOUNDS, BABBLE_VOICES = 24, (3, 7)
MUSIC = ("music",)  # a folder of that name beside the noise is drawn as its own kind


@dataclass(frozen=True)
class Surroundings:
    """Kinds of background sounds and kinds of rooms, ready to be drawn from."""

    sounds: Mapping[str, Float[Tensor, "sounds samples"]]
    rooms: Mapping[str, Float[Tensor, "rooms taps"]]
    noise_share: float = NOISE_SHARE
    room_share: float = ROOM_SHARE

    def add(
        self,
        waveforms: Float[Tensor, "batch samples"],
        lengths: Int[Tensor, " batch"],
        seed: int | torch.Generator,
    ) -> Float[Tensor, "batch samples"]:
        """Put every clip into a room of its own and beside a sound of its own, each by its share.

        Reverberation comes first: the sound is near the microphone. The level of the speech stays.
        """
        generator = (
            seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        )
        changed = waveforms.clone()
        for rows, kind in self._drawn(list(self.rooms), len(waveforms), self.room_share, generator):
            rooms = _fast(self.rooms[kind], waveforms.shape[1])
            changed[rows] = augment.reverberate(changed[rows], lengths[rows], rooms, generator)
        for rows, kind in self._drawn(
            list(self.sounds), len(waveforms), self.noise_share, generator
        ):
            changed[rows] = augment.add_noise(
                changed[rows], lengths[rows], self.sounds[kind], SNR_DB[kind], generator
            )
        return changed

    @staticmethod
    def _drawn(
        kinds: list[str], batch: int, share: float, generator: torch.Generator
    ) -> list[tuple[Tensor, str]]:
        """Rows that get a change, by its kind; those beyond `share` get none."""
        changed = torch.rand(batch, generator=generator) < share
        which = torch.randint(max(1, len(kinds)), (batch,), generator=generator)
        drawn = [
            (torch.nonzero(changed & (which == number)).flatten(), kind)
            for number, kind in enumerate(kinds)
        ]
        return [(rows, kind) for rows, kind in drawn if len(rows)]


def _fast(rooms: Float[Tensor, "rooms taps"], samples: int) -> Float[Tensor, "rooms more_taps"]:
    """The same rooms with zeros behind them, so that the convolution has a length FFTs like."""
    whole = samples + rooms.shape[1] - 1
    return torch.nn.functional.pad(rooms, (0, next_fast_len(whole, real=True) - whole))


def of(
    corpus: Corpus,
    noise: str = "",
    rooms: str = "",
    seed: int = 0,
    noise_share: float = NOISE_SHARE,
    room_share: float = ROOM_SHARE,
) -> Surroundings:
    """Surroundings for the clips of a corpus.

    Args:
        noise, rooms: folders of recordings. "": `noise` and `rir` among the recorded speech where
            they are, else made: coloured noise, decaying rooms. "made": made in any case.
        corpus: what babble is mixed from, 3 to 7 of its clips at a time.
    Raises: `CorpusError` for a folder that holds no usable sound.
    """
    if noise_share == 0 and room_share == 0:
        return Surroundings({}, {}, 0.0, 0.0)
    random = np.random.default_rng([seed, 7])
    folder = _folder(noise, "noise")
    sounds = {"noise": _recorded(folder, SOUND_S) if folder else _coloured(random)}
    if folder and (
        music := [folder.parent / name for name in MUSIC if (folder.parent / name).is_dir()]
    ):
        sounds["music"] = _recorded(music[0], SOUND_S)
    sounds["babble"] = _babble(corpus, random)
    made = {size: _decaying(RT60_S[size], random) for size in RT60_S}
    if recorded := _folder(rooms, "rir"):
        made["real"] = _recorded(recorded, ROOM_S, repeat=False)
    return Surroundings(sounds, made, noise_share, room_share)


def _folder(name: str, usual: str) -> Path | None:
    if name == "made":
        return None
    if name:
        return Path(name).expanduser()
    speech = paths.speech()
    return speech / usual if speech and (speech / usual).is_dir() else None


@lru_cache(maxsize=8)
def _recorded(folder: Path, seconds: float, repeat: bool = True) -> Float[Tensor, "sounds samples"]:
    """The sounds of a folder's train split, each `seconds` long; shorter ones are repeated."""
    sounds = open_corpus(folder)
    train = sounds.table["split"] == "train"
    clips = sounds.table["clip"][train if train.any() else slice(None)]
    samples = int(seconds * audio.SAMPLE_RATE)
    kept = []
    for clip in clips:
        wave = sounds.waveform(clip)
        if not np.abs(wave).max() > 0:
            continue
        if repeat:
            kept.append(np.resize(wave, samples))
        else:
            # the direct path stays first; what lies far behind it is cut
            wave = wave[max(0, int(np.abs(wave).argmax()) - 16) :][:samples]
            kept.append(np.pad(wave, (0, samples - len(wave))))
    if not kept:
        raise CorpusError(f"{folder}: no sound in it; give another folder, or made")
    return torch.from_numpy(np.stack(kept).astype(np.float32))


def _coloured(random: np.random.Generator, count: int = 30) -> Float[Tensor, "sounds samples"]:
    """Stationary noise with a falling spectrum."""
    samples = int(SOUND_S * audio.SAMPLE_RATE)
    frequency = np.fft.rfftfreq(samples, 1 / audio.SAMPLE_RATE)
    sounds = []
    for number in range(count):
        spectrum = np.fft.rfft(random.standard_normal(samples))
        slope = COLOURS[number % len(COLOURS)] / 2
        spectrum[1:] *= np.maximum(frequency[1:], 50.0) ** -slope
        wave = np.fft.irfft(spectrum, samples)
        sounds.append(0.1 * wave / np.abs(wave).max())
    return torch.from_numpy(np.stack(sounds).astype(np.float32))


def _decaying(
    rt60: tuple[float, float], random: np.random.Generator
) -> Float[Tensor, "rooms taps"]:
    """Impulse responses of rooms: a direct path, then noise that dies away (Polack 1988)."""
    samples = int(ROOM_S * audio.SAMPLE_RATE)
    time = np.arange(samples) / audio.SAMPLE_RATE
    rooms = []
    for _ in range(ROOMS_MADE):
        seconds = random.uniform(*rt60)
        tail = random.standard_normal(samples) * 10 ** (-3 * time / seconds)
        tail[: int(random.uniform(0.001, 0.01) * audio.SAMPLE_RATE)] = 0  # the first wall
        direct_to_tail = 10 ** (random.uniform(0, 12) / 10)
        tail /= np.sqrt(np.square(tail).sum() * direct_to_tail)
        tail[0] = 1.0
        rooms.append(tail)
    return torch.from_numpy(np.stack(rooms).astype(np.float32))


def _babble(corpus: Corpus, random: np.random.Generator) -> Float[Tensor, "sounds samples"]:
    """Several clips of the corpus at once, as loud as each other."""
    samples = int(SOUND_S * audio.SAMPLE_RATE)
    clips = corpus.table["clip"].tolist()
    voices = random.choice(clips, min(len(clips), 4 * BABBLE_SOUNDS), replace=False)
    waves = [corpus.waveform(clip) for clip in voices]
    waves = [np.resize(w / max(float(np.sqrt(np.mean(w**2))), 1e-6), samples) for w in waves]
    sounds = []
    for _ in range(BABBLE_SOUNDS):
        together = random.integers(BABBLE_VOICES[0], BABBLE_VOICES[1] + 1)
        drawn = random.integers(len(waves), size=together)
        sounds.append(0.03 * sum(np.roll(waves[i], random.integers(samples)) for i in drawn))
    return torch.from_numpy(np.stack(sounds).astype(np.float32))
