"""What the network hears: recorded speech, synthesised speech, noise and rooms, held as int16."""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refine import audio

NON_COMMERCIAL = frozenset({"ravdess"})  # CC BY-NC-SA: evaluation only
NOT_SPEECH = frozenset({"noise", "rir"})
# folders of `pretrain` whose clips may join several voices: never a pair of one voice
JOINED = frozenset({"mycroft_precise", "custom_speech_commands", "tofugu_ja"})
LONGEST = 12 * audio.SAMPLE_RATE  # samples kept of a recording


@dataclass
class Store:
    """Many recordings in one array, with what the sampler must know of each."""

    samples: NDArray[np.int16]  # all recordings end to end
    starts: NDArray[np.int64]  # (recordings + 1,)
    source: list[str]  # the corpus or sub-folder of each recording
    single_voice: NDArray[np.bool_]  # one voice throughout
    twin: NDArray[np.int64]  # the same text in another voice, or -1
    fingerprints: dict[str, dict] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def waveform(self, index: int) -> NDArray[np.int16]:
        return self.samples[self.starts[index] : self.starts[index + 1]]

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "store.npz",
            samples=self.samples,
            starts=self.starts,
            single_voice=self.single_voice,
            twin=self.twin,
            source=np.array(self.source),
        )
        (folder / "store.json").write_text(json.dumps(self.fingerprints, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Store":
        data = np.load(folder / "store.npz")
        return cls(
            data["samples"],
            data["starts"],
            [str(s) for s in data["source"]],
            data["single_voice"],
            data["twin"],
            json.loads((folder / "store.json").read_text()),
        )


def to_int16(waveform: NDArray[np.float32]) -> NDArray[np.int16]:
    """Scaled to a peak of 0.5, so that a quiet clip keeps its resolution."""
    scale = 0.5 / max(float(np.abs(waveform).max()), 1e-4)
    return np.round(waveform * scale * 32767).astype(np.int16)


def training_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of `clips.csv` the network may hear: the train split, or all where there is none.

    Raises: ValueError for a corpus kept for evaluation, or for noise offered as speech.
    """
    if folder.name in NON_COMMERCIAL | NOT_SPEECH:
        kind = "non-commercial, kept for evaluation" if folder.name in NON_COMMERCIAL else "noise"
        raise ValueError(f"{folder.name} is {kind}: it cannot be in --corpora")
    with (folder / "clips.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [row for row in rows if row.get("split", "train") == "train"]


def read_corpora(folders: Sequence[Path]) -> Store:
    """Decode every training clip of the folders. Unreadable clips are left out and counted."""
    pieces, source, single, prints = [], [], [], {}
    for folder in folders:
        digest, seconds, left_out = hashlib.sha256(), 0.0, 0
        rows = training_rows(folder)
        for row in rows:
            try:
                sound = audio.load(folder / row["path"])
            except audio.AudioError:
                left_out += 1
                continue
            piece = to_int16(sound)[:LONGEST]
            digest.update(row["path"].encode() + piece.tobytes())
            seconds += len(piece) / audio.SAMPLE_RATE
            sub = Path(row["path"]).parts[0] if "source" in row else folder.name
            pieces.append(piece)
            source.append(sub)
            single.append(sub not in JOINED)
        prints[folder.name] = {
            "clips": len(rows) - left_out,
            "left_out": left_out,
            "hours": round(seconds / 3600, 3),
            "sha256": digest.hexdigest(),
        }
    return pack(pieces, source, single, [-1] * len(pieces), prints)


def pack(
    pieces: Sequence[NDArray[np.int16]],
    source: Sequence[str],
    single: Sequence[bool],
    twin: Sequence[int],
    prints: dict[str, dict],
) -> Store:
    """A store from separate recordings."""
    starts = np.concatenate([[0], np.cumsum([len(p) for p in pieces])]).astype(np.int64)
    return Store(
        np.concatenate(pieces), starts, list(source), np.array(single), np.array(twin), prints
    )


def merge(first: Store, second: Store) -> Store:
    """Two stores as one; the twins of the second are renumbered."""
    twin = np.where(second.twin >= 0, second.twin + len(first), -1)
    return Store(
        np.concatenate([first.samples, second.samples]),
        np.concatenate([first.starts, second.starts[1:] + first.starts[-1]]),
        first.source + second.source,
        np.concatenate([first.single_voice, second.single_voice]),
        np.concatenate([first.twin, twin]),
        {**first.fingerprints, **second.fingerprints},
    )


def read_noises(folder: Path) -> list[NDArray[np.float32]]:
    """The train split of a noise corpus, each clip at unit power."""
    sounds = []
    for row in _rows_of_any(folder):
        try:
            sound = audio.load(folder / row["path"])
        except audio.AudioError:
            continue
        sounds.append(sound / (sound.std() + 1e-6))
    return sounds


def read_rooms(folder: Path, simulated: int, seed: int) -> list[NDArray[np.float32]]:
    """Measured impulse responses from their direct path on, and simulated ones beside them."""
    rooms = []
    for row in _rows_of_any(folder):
        response = audio.load(folder / row["path"])
        onset = int(np.abs(response).argmax())
        rooms.append(response[onset : onset + audio.SAMPLE_RATE // 2] / np.abs(response).max())
    generator = np.random.default_rng(seed)
    for _ in range(simulated):
        decay = generator.uniform(0.1, 0.7)  # seconds to -60 dB
        n = int(min(decay, 0.5) * audio.SAMPLE_RATE)
        tail = generator.standard_normal(n) * 10 ** (-3 * np.arange(n) / (decay * 16_000))
        tail *= generator.uniform(0.02, 0.12)
        tail[: int(generator.uniform(0.001, 0.01) * audio.SAMPLE_RATE)] = 0
        tail[0] = 1.0
        rooms.append(tail)
    return [room.astype(np.float32) for room in rooms]


def _rows_of_any(folder: Path) -> list[dict[str, str]]:
    with (folder / "clips.csv").open(newline="", encoding="utf-8") as stream:
        return [r for r in csv.DictReader(stream) if r.get("split", "train") == "train"]
