"""Vectors of synthesised speech, shipped, so that a lesson shows an encoder without loading one.

Twelve espeak-ng voices say eight sentences each: every clip differs from another by its voice, its
words, or both, and by nothing else. `tools/make_lesson_speech.py` writes the file.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from refine import paths

FILE = paths.ASSETS / "lessons" / "speech.npz"
SPACES = ("raw", "speaker", "content")  # mini; two subspaces of mini-interventional
KINDS = ("same words", "same voice", "unrelated")


class Speech(NamedTuple):
    """Clips and what each space makes of them."""

    clip: np.ndarray  # (n,) file names
    voice: np.ndarray  # (n,)
    words: np.ndarray  # (n,) a code a sentence
    text: np.ndarray  # (n,)
    vectors: dict[str, np.ndarray]  # space -> (n, dim), float64


@cache
def load(part: str = "grid") -> Speech:
    """`grid`: 96 clips of 12 voices; `samples`: the six clips that are shipped as sound.

    Raises: `ValueError` where the file is missing or not ours.
    """
    try:
        with np.load(FILE, allow_pickle=False) as kept:
            vectors = {name: kept[f"{part}_{name}"].astype(np.float64) for name in SPACES}
            clip, voice, words, text = (
                kept[f"{part}_{name}"] for name in ("clip", "voice", "words", "text")
            )
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{FILE.name}: the lessons' vectors cannot be read ({error}); "
            "make them again with tools/make_lesson_speech.py"
        ) from error
    return Speech(clip, voice, words, text, vectors)


def fingerprints() -> dict[str, str]:
    """The encoder each space was made by."""
    with np.load(FILE, allow_pickle=False) as kept:
        return {name: str(kept[f"encoder_{name}"]) for name in SPACES}


def pairs(speech: Speech) -> dict[str, np.ndarray]:
    """Indices (pairs, 2) of clips with the same words, the same voice, or neither in common."""
    i, j = np.triu_indices(len(speech.clip), k=1)
    voice, words = speech.voice[i] == speech.voice[j], speech.words[i] == speech.words[j]
    chosen = (words & ~voice, voice & ~words, ~words & ~voice)
    return {kind: np.column_stack([i[of], j[of]]) for kind, of in zip(KINDS, chosen, strict=True)}


def cosines(x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows, (pairs,)."""
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.einsum("pd,pd->p", u[pairs[:, 0]], u[pairs[:, 1]])


@cache
def told() -> dict[str, dict[str, float]]:
    """Share of the clips whose nearest clip (cosine) agrees: in voice, looked for among other
    sentences; in words, among other voices. `chance` is what a random such clip would give.
    """
    speech = load("grid")
    found = {}
    for name, x in speech.vectors.items():
        u = x / np.linalg.norm(x, axis=1, keepdims=True)
        near = u @ u.T
        found[name] = {
            "voice": _agrees(near, speech.voice, speech.words),
            "words": _agrees(near, speech.words, speech.voice),
        }
    voices, words = len(set(speech.voice)), len(set(speech.words))
    found["chance"] = {"voice": 1 / voices, "words": 1 / words}
    return found


def _agrees(near: np.ndarray, labels: np.ndarray, apart: np.ndarray) -> float:
    allowed = np.where(apart[:, None] != apart, near, -np.inf)
    return float((labels[allowed.argmax(axis=1)] == labels).mean())
