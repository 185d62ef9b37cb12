"""Lesson 5: change the voice alone, or the words alone, and see which projection moves.

The toy: a clip is x = w a_words + v a_voice with unit axes at a known angle. Read each factor by
projecting x on its axis, or by undoing the mixture (the inverse of the axes), which knows both.
"""

from typing import Literal, NamedTuple

import numpy as np

from refine.lessons import speech

Reading = Literal["projected", "unmixed"]
Factor = Literal["voice", "words"]


class Moved(NamedTuple):
    words: float
    voice: float


def axes(degrees: float) -> np.ndarray:
    """Rows (2, 2): the axis of the words, along x, and that of the voice at an angle to it."""
    if not 0 < degrees < 180:
        raise ValueError(f"angle: got {degrees} degrees; expected between 0 and 180")
    angle = np.deg2rad(degrees)
    return np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])


def mixed(words: float, voice: float, degrees: float) -> np.ndarray:
    """The clip, (2,)."""
    return np.array([words, voice]) @ axes(degrees)


def read(x: np.ndarray, degrees: float, reading: Reading) -> Moved:
    """What a reading says of words and voice."""
    rows = axes(degrees)
    found = rows @ x if reading == "projected" else np.linalg.solve(rows.T, x)
    return Moved(float(found[0]), float(found[1]))


def moved(degrees: float, reading: Reading, words: float = 0.0, voice: float = 0.0) -> Moved:
    """How far each reading moves when the factors are moved by so much."""
    return read(mixed(words, voice, degrees), degrees, reading)


def distances(first: int, second: int) -> dict[str, float]:
    """How far a space moves from one sample clip to another, over what it moves on average
    between clips of another voice and other words. Cosine distance; 0 still, 1 as far as that.
    """
    clips = speech.load("samples")
    apart = speech.pairs(clips)["unrelated"]
    found = {}
    for space, x in clips.vectors.items():
        usual = float((1 - speech.cosines(x, apart)).mean())
        here = speech.cosines(x, np.array([[first, second]]))[0]
        found[space] = max(0.0, float(1 - here)) / usual
    return found


def changed(first: int, second: int) -> set[Factor]:
    """What differs between two sample clips."""
    clips = speech.load("samples")
    factors: set[Factor] = set()
    if clips.voice[first] != clips.voice[second]:
        factors.add("voice")
    if clips.words[first] != clips.words[second]:
        factors.add("words")
    return factors


def average(factor: Factor) -> dict[str, float]:
    """`distances`, meant over all pairs of the grid that differ in one factor alone."""
    clips = speech.load("grid")
    pairs = speech.pairs(clips)
    chosen = pairs["same words" if factor == "voice" else "same voice"]
    return {
        space: float(
            (1 - speech.cosines(x, chosen)).mean()
            / (1 - speech.cosines(x, pairs["unrelated"])).mean()
        )
        for space, x in clips.vectors.items()
    }
