"""Neutral copies: what a clip says, spoken by one monotone synthetic voice (paper 3).

Each text is spoken once and kept below `paths.cache()/neutral`; the clips of one text share a copy.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from refine import audio, paths
from refine.corpus import Corpus

VERSION = 1  # raised when the copies change, so that no old one is used
SPEED = 300  # seconds of speech synthesised a second on one core, at least
PREFERRED = "en"  # where the corpus names no language, or one that espeak-ng does not speak

Progress = Callable[[str, int, int], None]  # what is being done, done, in all


class NeutralError(ValueError):
    """A corpus that neutral copies cannot be made of. The message says what to do."""


def texts(corpus: Corpus, factor: str = "text") -> list[str]:
    """What each clip says, "" where unknown. `factor` may be a column of names: `turn_left`.

    Raises: `NeutralError` naming the columns there are when there is no such column.
    """
    if factor not in corpus.table.columns:
        known = [name for name in ("text", *corpus.factors) if name in corpus.table.columns]
        raise NeutralError(
            f"text_factor: {corpus.name} has no column {factor!r}; choose one of "
            f"{', '.join(known)}, or positives twin, which needs no text"
        )
    return [" ".join(text.replace("_", " ").split()) for text in corpus.table[factor].astype(str)]


def make(
    corpus: Corpus, spoken: Sequence[str], progress: Progress | None = None
) -> list[Path | None]:
    """The neutral copy of each clip as a wav file, spoken now where it is not there yet.

    Args:
        spoken: the text of each clip, "" for none.
        progress: called with the texts done and in all.
    Raises: `NeutralError` naming the clip whose text cannot be spoken.
    """
    from refine.synthesis import SynthesisError, Voice, speak_many

    voices = [Voice(language, None, pitch_range=0) for language in _languages(corpus)]
    folder = paths.cache() / "neutral"
    folder.mkdir(parents=True, exist_ok=True)
    copies: list[Path | None] = []
    missing: dict[Path, tuple[str, str, Voice]] = {}  # file -> clip, text, voice
    for clip, text, voice in zip(corpus.table["clip"], spoken, voices, strict=True):
        path = folder / f"{_key(text, voice)}.wav" if text else None
        copies.append(path)
        if path is not None and not path.exists():
            missing.setdefault(path, (clip, text, voice))
    waveforms = speak_many([(text, voice) for _, text, voice in missing.values()])
    for done, (path, (clip, _, _)) in enumerate(missing.items()):
        if progress is not None:
            progress("speaking neutral copies", done, len(missing))
        try:
            _write(path, next(waveforms))
        except SynthesisError as error:
            raise NeutralError(f"{clip}: no neutral copy ({error})") from error
    return copies


def _languages(corpus: Corpus) -> list[str]:
    """The language that each clip is spoken in, as espeak-ng names it."""
    from refine.synthesis import voices

    known = set(voices())
    if "language" not in corpus.table.columns:
        return [PREFERRED] * len(corpus.table)
    codes = corpus.table["language"].astype(str).str.strip().str.lower().str.replace("_", "-")
    return [
        next((code for code in (name, name.split("-")[0]) if code in known), PREFERRED)
        for name in codes
    ]


def _key(text: str, voice: object) -> str:
    content = json.dumps([VERSION, text, vars(voice)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _write(path: Path, waveform: np.ndarray) -> None:
    import soundfile

    # 0.1 s is the shortest clip; a short word ends in silence anyway
    waveform = np.pad(waveform, (0, max(0, audio.MIN_SAMPLES - len(waveform))))
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.wav")
    soundfile.write(temporary, waveform, audio.SAMPLE_RATE, subtype="PCM_16")
    temporary.replace(path)
