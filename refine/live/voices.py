"""Voices by name: enrolled from a few seconds, told apart live, "nobody enrolled" when none fits.

A voice is the mean direction of its pieces after the mean of a background has been taken off
(encoders crowd their vectors into a cone, and a raw cosine would call everybody alike). The
threshold comes from the enrolled pieces themselves: each against the other pieces of its voice, and
against everybody else's and the background.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from refine import files, paths

PIECES = 3  # of one enrolment
PIECE_S = 3.0  # s of speech in each
LONGEST_NAME = 40


class VoiceError(ValueError):
    """A voice that cannot be enrolled, found or kept, in one sentence."""


class Threshold(NamedTuple):
    """The score from which a voice is recognised, and what it was set from."""

    value: float
    own: int  # scores of pieces against their own voice
    other: int  # scores of pieces and background against a voice that is not theirs
    errors: float  # mean share of own below and other above it, on those same pieces


class Heard(NamedTuple):
    """Who speaks, of the enrolled."""

    name: str | None  # None: nobody enrolled
    scores: dict[str, float]  # name -> cosine, -1 to 1


@dataclass
class Voices:
    """The enrolled voices of one session, in one space."""

    background: Float[np.ndarray, "n dim"]
    pieces: dict[str, list[Float[np.ndarray, " dim"]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.centre = self.background.mean(axis=0)
        self._others = self._unit(self.background)
        self._known: Threshold | None = None

    def enrol(self, name: str, vectors: list[Float[np.ndarray, " dim"]]) -> None:
        """Add pieces to a voice. Raises: `VoiceError` for a name or pieces that will not do."""
        name = check_name(name)
        if not vectors:
            raise VoiceError(f"{name}: no speech was heard; speak for {PIECE_S:g} s, three times")
        self.pieces.setdefault(name, []).extend(np.asarray(v, dtype=np.float64) for v in vectors)
        self._known = None

    def delete(self, name: str) -> None:
        """Forget one voice. Raises: `VoiceError` where it is not enrolled."""
        if name not in self.pieces:
            raise VoiceError(f"{name}: not enrolled; there is {', '.join(self.pieces) or 'nobody'}")
        del self.pieces[name]
        self._known = None

    def forget(self) -> None:
        """Forget everybody."""
        self.pieces.clear()
        self._known = None

    def score(self, vector: Float[np.ndarray, " dim"]) -> dict[str, float]:
        """Cosine of a piece with every voice."""
        one = self._unit(np.asarray(vector)[None])[0]
        return {name: float(one @ self._mean(found)) for name, found in self.pieces.items()}

    def identify(self, vector: Float[np.ndarray, " dim"]) -> Heard:
        """The best voice at or above the threshold, or None."""
        scores = self.score(vector)
        if not scores:
            return Heard(None, {})
        best = max(scores, key=lambda name: scores[name])
        return Heard(best if scores[best] >= self.threshold.value else None, scores)

    @property
    def threshold(self) -> Threshold:
        """Where the two kinds of error are least, half-way between the scores on both sides."""
        if self._known is None:
            self._known = self._calibrate()
        return self._known

    def _calibrate(self) -> Threshold:
        own, other = [], []
        units = {name: self._unit(np.stack(found)) for name, found in self.pieces.items()}
        for name, rows in units.items():
            mean = self._mean(self.pieces[name])
            other += list(self._others @ mean)
            for place, row in enumerate(rows):
                rest = np.delete(rows, place, axis=0)
                if len(rest):  # against the other pieces of the voice
                    total = rest.mean(axis=0)
                    own.append(float(row @ total / np.linalg.norm(total)))
            for stranger, theirs in units.items():
                if stranger != name:
                    other += list(theirs @ mean)
        if not own or not other:
            raise VoiceError("voices: a threshold needs two pieces of a voice and a background")
        value, errors = equal_point(np.array(own), np.array(other))
        return Threshold(value, len(own), len(other), errors)

    def _mean(self, found: list[np.ndarray]) -> np.ndarray:
        total = self._unit(np.stack(found)).mean(axis=0)
        return total / max(float(np.linalg.norm(total)), 1e-12)

    def _unit(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64) - self.centre
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def equal_point(
    own: Float[np.ndarray, " n"], other: Float[np.ndarray, " m"]
) -> tuple[float, float]:
    """The threshold with the lowest mean of misses and false alarms, and that mean.

    Of several equally good ones the middle of the widest gap.
    """
    scores = np.unique(np.concatenate([own, other]))
    cuts = np.concatenate([[scores[0] - 0.01], (scores[1:] + scores[:-1]) / 2, [scores[-1] + 0.01]])
    missed = (own[None] < cuts[:, None]).mean(axis=1)
    false = (other[None] >= cuts[:, None]).mean(axis=1)
    errors = (missed + false) / 2
    best = np.flatnonzero(errors <= errors.min() + 1e-12)
    gaps = np.diff(np.concatenate([[scores[0] - 0.02], scores, [scores[-1] + 0.02]]))
    pick = best[np.argmax(gaps[best])]
    return float(cuts[pick]), float(errors[pick])


def check_name(name: str) -> str:
    """The name as it is kept. Raises: `VoiceError` for an empty or endless one."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME:
        raise VoiceError(f"name: got {len(name)} letters; give 1 to {LONGEST_NAME}")
    return name


def stored(fingerprint: str) -> Path:
    """The file of the voices that were saved for an encoder."""
    return paths.cache() / "voices" / f"{fingerprint[:16]}.json"


def save(voices: Voices, fingerprint: str) -> Path:
    """Keep names and vectors (no sound) on this computer. Returns the file."""
    path = stored(fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: [list(map(float, v)) for v in found] for name, found in voices.pieces.items()}
    files.write_json(path, {"encoder": fingerprint, "voices": content})
    return path


def load(fingerprint: str) -> dict[str, list[np.ndarray]]:
    """The voices that were saved for this very encoder; none where there is no such file."""
    path = stored(fingerprint)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise VoiceError(f"{path}: not readable; delete it and enrol again") from error
    if content.get("encoder") != fingerprint:
        return {}
    return {name: [np.array(v) for v in found] for name, found in content["voices"].items()}
