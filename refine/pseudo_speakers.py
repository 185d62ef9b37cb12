"""Pseudo-speakers: recordings in voices they were not spoken in, while the words stay.

    folder = make(open_corpus("../shared/data/librispeech").subset("train"), cast(16))

Pitch, melody, resonances and tilt change (`refine.voice_change`); what is left of a recording, its
noise, its room, its timing, stays. No vocoder, and nothing to install.
"""

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from refine import options, paths
from refine.audio import SAMPLE_RATE, AudioError, Waveform
from refine.options import Range
from refine.pitch import fundamental
from refine.voice_change import with_envelope, with_pitch

if TYPE_CHECKING:
    from refine.corpus import Corpus
    from refine.corpus_scan import Progress

LAYOUT = 1  # raise it when the samples or the folder change, so that older caches are not opened
SPREAD = {  # how far a cast goes; beyond, people no longer sound like people
    "pitch": (0.72, 1.4),
    "melody": (0.6, 1.5),
    "formants": (0.86, 1.17),
    "tilt": (-3.0, 3.0),
}


class PseudoSpeakerError(ValueError):
    """Recordings that cannot be spoken by others. The message says why and what to do."""


@dataclass(frozen=True)
class PseudoSpeaker:
    """What is changed about a voice. The defaults change nothing."""

    name: str
    """How it is called in the column pseudo."""
    pitch: Annotated[float, Range(0.4, 2.5)] = 1.0
    """Factor on the fundamental frequency."""
    melody: Annotated[float, Range(0.0, 3.0)] = 1.0
    """Factor on the intervals of the melody, about its median; 0 is monotone."""
    formants: Annotated[float, Range(0.6, 1.6)] = 1.0
    """Factor on the resonances; below 1 is a longer vocal tract, a larger person."""
    tilt: Annotated[float, Range(-12.0, 12.0)] = 0.0
    """Decibels an octave added to the spectrum; below 0 is a softer, darker voice."""

    def __post_init__(self) -> None:
        options.check(self)


def cast(number: int, seed: int = 0) -> list[PseudoSpeaker]:
    """So many pseudo-speakers, p00 the voice as it is, the others spread evenly over `SPREAD`.

    The first of them are the same whatever the number (a Halton sequence, shifted by the seed).
    """
    if number < 1:
        raise PseudoSpeakerError(f"number: got {number}; expected at least 1 pseudo-speaker")
    shift = np.random.default_rng(seed).random(len(SPREAD))
    people = [PseudoSpeaker("p00")]
    for index in range(1, number):
        points = [
            (_halton(index, base) + offset) % 1
            for base, offset in zip((2, 3, 5, 7), shift, strict=True)
        ]
        values = {
            name: _between(*SPREAD[name], at) for name, at in zip(SPREAD, points, strict=True)
        }
        people.append(PseudoSpeaker(f"p{index:02d}", **values))
    return people


def change(
    waveform: Waveform, speaker: PseudoSpeaker, f0: NDArray[np.float64] | None = None
) -> Waveform:
    """The recording in another voice; shape (n,) in and out, 16 kHz, as loud as it was.

    Timing and words stay. Where there is no pitch (whispered, noise) only resonances and tilt
    change. A speaker who changes nothing returns the recording, bit for bit.

    `f0`: what `pitch.fundamental` says of the recording, where it is known already.
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise PseudoSpeakerError(f"a recording is (samples,); got shape {waveform.shape}")
    if _unchanged(speaker):
        return waveform
    samples = waveform.astype(np.float64)
    if speaker.pitch != 1 or speaker.melody != 1:
        f0 = fundamental(waveform) if f0 is None else f0
        samples = with_pitch(samples, f0, speaker.pitch, speaker.melody)
    if speaker.formants != 1 or speaker.tilt != 0:
        samples = with_envelope(samples, speaker.formants, speaker.tilt)
    power, loudness = np.mean(samples**2), np.mean(waveform.astype(np.float64) ** 2)
    samples *= math.sqrt(loudness / power) if power > 0 else 0.0
    samples *= min(1.0, 0.999 / max(np.abs(samples).max(), 1e-9))
    return samples.astype(np.float32)


def make(
    corpus: "Corpus",
    speakers: Sequence[PseudoSpeaker],
    cache: Path | None = None,
    progress: "Progress | None" = None,
    piece_s: float = 0.0,
) -> Path:
    """The folder of a corpus in which every pseudo-speaker says every clip of `corpus`.

    Kept by what is in it, so that a second call returns at once. Its `clips.csv` has the columns
    of the source; `speaker` is now "<speaker> as <pseudo>" where the voice changed, and `pseudo`,
    `original` (speaker) and `recording` (clip) say it in parts. 16 kHz FLAC.

    `piece_s`: cut each recording, at the same places in every voice, into even pieces of about so
    many seconds; 0 leaves it whole. A piece is a recording of its own ("a.wav#1") without a text.

    Raises: `PseudoSpeakerError` for fewer than two pseudo-speakers or a name that is there twice.
    """
    names = [speaker.name for speaker in speakers]
    if len(names) < 2 or len(set(names)) < len(names):
        raise PseudoSpeakerError(
            f"{len(names)} pseudo-speakers, {len(set(names))} names; give two or more, each with "
            "a name of its own"
        )
    key = repr((LAYOUT, [asdict(one) for one in speakers], corpus.fingerprint, piece_s))
    cache = cache or paths.cache()
    folder = cache / f"pseudo-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".pseudo-", dir=cache))
    try:
        write(unfinished, corpus, speakers, progress, piece_s)
        unfinished.chmod(0o755)  # mkdtemp's folder is its owner's alone
        unfinished.rename(folder)
    except OSError as error:
        if not folder.exists():  # else another process was faster, which is as good
            raise PseudoSpeakerError(
                f"{folder}: could not be written ({error.strerror or error}); free some space and "
                "try again"
            ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def write(
    folder: Path,
    corpus: "Corpus",
    speakers: Sequence[PseudoSpeaker],
    progress: "Progress | None" = None,
    piece_s: float = 0.0,
) -> None:
    """Every clip of a corpus in every voice, and `clips.csv`, into a folder; see `make`."""
    import pandas as pd
    import soundfile

    rows = []
    table = corpus.table.to_dict("records")
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        for done, (clip, versions) in enumerate(_spoken(corpus, table, speakers, pool), start=1):
            for speaker, whole in zip(speakers, versions, strict=True):
                pieces = _pieces(whole, piece_s)
                for number, waveform in enumerate(pieces):
                    row = _row(clip, speaker, number if len(pieces) > 1 else None)
                    path = folder / row["path"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
                    rows.append(row)
            if progress:
                progress(done * len(speakers), len(table) * len(speakers))
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)


def _pieces(waveform: Waveform, piece_s: float) -> list[Waveform]:
    count = round(len(waveform) / SAMPLE_RATE / piece_s) if piece_s else 1
    return np.array_split(waveform, max(1, count))


def _row(clip: dict[str, Any], speaker: PseudoSpeaker, piece: int | None) -> dict[str, Any]:
    """What `clips.csv` says of a clip in a voice."""
    name = PurePosixPath(clip["clip"])
    stem = name.stem if piece is None else f"{name.stem}_{piece}"
    original = clip.get("speaker", "")
    row = {"path": str(PurePosixPath(speaker.name) / name.with_name(f"{stem}.flac"))}
    row |= {key: clip[key] for key in clip if key not in ("clip", "duration_s")}
    row |= {"speaker": _name(original, speaker), "pseudo": speaker.name, "original": original}
    row["recording"] = clip["clip"] if piece is None else f"{clip['clip']}#{piece}"
    return row if piece is None else row | {"text": ""}


def _name(original: str, speaker: PseudoSpeaker) -> str:
    """A changed voice is a speaker of its own; an unchanged one is the original still."""
    if not original:
        return speaker.name
    return original if _unchanged(speaker) else f"{original} as {speaker.name}"


def _unchanged(speaker: PseudoSpeaker) -> bool:
    return astuple(speaker)[1:] == astuple(PseudoSpeaker("same"))[1:]


def _spoken(
    corpus: "Corpus", table: list[dict], speakers: Sequence[PseudoSpeaker], pool: ThreadPoolExecutor
) -> Iterator[tuple[dict, list[Waveform]]]:
    def speak(clip: dict) -> list[Waveform]:
        try:
            waveform = corpus.waveform(clip["clip"])
        except AudioError as error:
            raise PseudoSpeakerError(str(error)) from error
        f0 = fundamental(waveform)
        return [change(waveform, speaker, f0) for speaker in speakers]

    yield from zip(table, pool.map(speak, table), strict=True)


def _halton(index: int, base: int) -> float:
    """Point `index` of the van der Corput sequence of a base."""
    value, share = 0.0, 1.0
    while index:
        share /= base
        value += share * (index % base)
        index //= base
    return value


def _between(low: float, high: float, at: float) -> float:
    """Between two values, by ratio where both are positive."""
    value = low * (high / low) ** at if low > 0 else low + (high - low) * at
    return round(value, 3)
