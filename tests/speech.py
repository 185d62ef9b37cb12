"""Recordings made on the spot: voices of harmonics whose speaker and content are known."""

import csv
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000  # Hz
CONTENTS = {"one": (500, 1500), "two": (300, 2300), "three": (700, 1100)}  # formants, Hz
COLUMNS = ("path", "speaker", "content", "emotion", "text")


def tone(seconds: float, hz: float = 220.0, rate: int = RATE, level: float = 0.3) -> np.ndarray:
    """A sine, shape (seconds x rate,)."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype("f4")


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """White noise, shape (seconds x 16 000,)."""
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal(round(seconds * RATE))).astype("f4")


def voice(pitch: float, content: str, seconds: float, seed: int = 0) -> np.ndarray:
    """Harmonics of `pitch` (who) under two formants (what), with a little noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    wave = np.zeros_like(t)
    for harmonic in np.arange(1, int(4000 / pitch)) * pitch:
        gain = sum(np.exp(-(((harmonic - formant) / 150) ** 2)) for formant in CONTENTS[content])
        wave += gain * np.sin(2 * np.pi * harmonic * t)
    wave *= 0.3 / np.abs(wave).max() * np.hanning(len(t)) ** 0.2
    return (wave + noise(seconds, seed, 0.002)).astype("f4")


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    """Write a recording (format by suffix), its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


def make_corpus(
    folder: Path, speakers: int = 6, takes: int = 2, columns: tuple[str, ...] = COLUMNS
) -> Path:
    """A factorial corpus with clips.csv: speakers x three contents x takes, 0.4 to 1 s each."""
    rows = []
    for speaker in range(speakers):
        for number, content in enumerate(CONTENTS):
            for take in range(takes):
                name = f"{speaker:02}/{content}_{take}.wav"
                seconds = 0.4 + 0.1 * ((speaker + 2 * number + 3 * take) % 7)
                pitch = 100 * 1.15**speaker * (1 + 0.02 * take)
                write(folder / name, voice(pitch, content, seconds, seed=len(rows)))
                emotion = "calm" if take % 2 == 0 else "glad"
                rows.append((name, f"s{speaker:02}", content, emotion, content))
    keep = [COLUMNS.index(column) for column in columns]
    write_csv(folder / "clips.csv", [columns, *([row[i] for i in keep] for row in rows)])
    return folder


def write_csv(path: Path, rows: list, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    return path


def sparse_wav(path: Path, seconds: float, channels: int = 1) -> Path:
    """A valid 16-bit wav of any length that takes no room on the disk."""
    size = int(seconds * RATE) * 2 * channels
    layout = (16, 1, channels, RATE, RATE * 2 * channels, 2 * channels, 16)
    header = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", *layout)
    with path.open("wb") as stream:
        stream.write(header + b"data" + struct.pack("<I", size))
        stream.truncate(44 + size)
    return path


def clips(folder: Path, *names: str) -> Path:
    """Tones of those names, each 10 ms longer than the one before, from 0.2 s."""
    for number, name in enumerate(names):
        write(folder / name, tone(0.2 + 0.01 * number, 200 + 50 * number))
    return folder


def manifest(
    folder: Path, header: tuple, *rows: tuple, name: str = "clips.csv", **options: str
) -> Path:
    """A corpus of one clip a row; the first column names it."""
    clips(folder, *(row[0] for row in rows))
    write_csv(folder / name, [header, *rows], **options)
    return folder


def dropped(corpus) -> dict[str, str]:
    """The clips a corpus left out, with the reasons."""
    return {problem.clip: problem.reason for problem in corpus.problems if problem.dropped}


def notes(corpus) -> list[str]:
    """What a corpus says about itself as a whole."""
    return [problem.reason for problem in corpus.problems if not problem.clip]
