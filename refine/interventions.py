"""The intervention bench: change the voice or the words, and see which subspace moves, how far.

    first = Utterance("a quiet fox", "en+m3")
    second = replace(first, voice="en+f2")                   # same words, another voice
    moved = distances(vectors(first), vectors(second), blocks)
    scale = references(spaces)                               # what a distance means in this corpus

A cosine distance by itself says nothing: in a crowded space strangers are 0.02 apart. It is shown
beside pairs of the corpus, in units of two strangers who say different things.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from refine.audio import Waveform
from refine.demo import speakers
from refine.metrics.intervals import Number, bootstrap, usable_groups
from refine.spaces import BEFORE, Spaces
from refine.synthesis import Voice, speak

PAIRS = 2_000  # of each kind, drawn with a seed
FEWEST = 5  # pairs of a kind, below which nothing is said of it
OTHERS = "other voice, other words"
KINDS = (
    "same voice, same words",
    "same voice, other words",
    "other voice, same words",
    OTHERS,
)
CHANGES = ("voice", "words", "rate", "pitch")


class InterventionError(ValueError):
    """Two utterances that cannot be compared. The message says why."""


@dataclass(frozen=True)
class Utterance:
    """Something to say, and how; checked when it is spoken."""

    text: str
    voice: str = "en+m3"
    """Language, or language+variant, of espeak-ng."""
    rate: int = 175
    """Words per minute, 80 to 450."""
    pitch: int = 50
    """0 to 99; 50 is the voice's own."""

    def waveform(self) -> Waveform:
        """Speak it, 16 kHz mono. Raises: `SynthesisError`, `ValueError` naming the field."""
        language, _, variant = self.voice.partition("+")
        return speak(self.text, Voice(language, variant or None, self.rate, self.pitch))

    def differs(self, other: "Utterance") -> list[str]:
        """What of `CHANGES` is not the same in both."""
        words = self.text.split() != other.text.split()
        found = {
            "voice": self.voice != other.voice,
            "words": words,
            "rate": self.rate != other.rate,
            "pitch": self.pitch != other.pitch,
        }
        return [name for name in CHANGES if found[name]]


class References(NamedTuple):
    """Cosine distances of pairs of the corpus in one space."""

    pairs: dict[str, Float[np.ndarray, " pairs"]]  # kind -> distances
    medians: dict[str, Number]

    @property
    def unit(self) -> float:
        """The median of the pairs that share nothing: 1 on every axis."""
        return self.medians[OTHERS].value


class Scale(NamedTuple):
    """What distances mean in a corpus."""

    spaces: dict[str, References]
    clips: dict[str, list[tuple[int, int]]]  # kind -> rows of the pairs, the same in every space
    missing: tuple[str, ...]  # kinds the corpus has no pairs of


VOICES = tuple(
    speaker.voice.label for speaker in speakers()
)  # of the demo corpus: both genders, four accents


def distances(
    first: Float[np.ndarray, " d"], second: Float[np.ndarray, " d"], blocks: Mapping[str, slice]
) -> dict[str, float]:
    """Cosine distance 1 - cos of two vectors in each block: 0 the same direction, 2 opposite.

    Raises: `InterventionError` for vectors of unequal width, not finite, or without a direction.
    """
    first, second = (np.asarray(x, dtype=np.float64) for x in (first, second))
    if first.shape != second.shape or first.ndim != 1:
        raise InterventionError(
            f"vectors of shapes {first.shape} and {second.shape}; compare those of one encoder"
        )
    found = {}
    for name, columns in blocks.items():
        a, b = first[columns], second[columns]
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        if not np.isfinite(lengths) or lengths == 0:
            raise InterventionError(f"{name}: a vector is all zeros or not finite")
        found[name] = float(1 - np.clip(a @ b / lengths, -1, 1))
    return found


def references(
    spaces: Spaces, voice: str = "speaker", words: str = "content", seed: int = 0
) -> Scale:
    """Distances of drawn pairs of each kind in each space; the same pairs in all.

    voice, words: the factors that a pair shares or not. Kinds with less than `FEWEST` pairs are
    left out. Raises: `InterventionError` where the corpus does not know both factors, or has no
    pair that differs in both.
    """
    for factor in (voice, words):
        if factor not in spaces.table or (spaces.table[factor] == "").all():
            raise InterventionError(
                f"the corpus does not know {factor}, so it gives no scale; choose one with columns "
                f"{voice} and {words}, such as demo"
            )
    pairs = _pairs(spaces.table[voice].to_numpy(), spaces.table[words].to_numpy(), seed)
    if OTHERS not in pairs:
        raise InterventionError(
            "no two clips of the corpus differ in voice and words; choose a larger corpus or split"
        )
    people = spaces.table[voice].to_numpy(dtype=object)
    found = {}
    for name, x in spaces.x.items():
        unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)
        apart = {
            kind: 1 - np.einsum("pd,pd->p", unit[rows[:, 0]], unit[rows[:, 1]])
            for kind, rows in pairs.items()
        }
        medians = {
            kind: _median(values, kind, people[pairs[kind][:, 0]], seed)
            for kind, values in apart.items()
        }
        found[name] = References(apart, medians)
    clips = {kind: [(int(a), int(b)) for a, b in rows] for kind, rows in pairs.items()}
    return Scale(found, clips, tuple(kind for kind in KINDS if kind not in pairs))


def relative(moved: Mapping[str, float], scale: Scale) -> dict[str, float]:
    """Distances in units of two strangers who say different things: 0 still, 1 a stranger."""
    return {name: far / scale.spaces[name].unit for name, far in moved.items()}


def share_below(far: float, reference: References) -> dict[str, float]:
    """For each kind, the share of its pairs that are closer than `far`; 0.5 is its median."""
    return {kind: float((values < far).mean()) for kind, values in reference.pairs.items()}


def nearest(far: float, reference: References) -> str:
    """The kind of pair whose median is closest to a distance."""
    medians = {kind: number.value for kind, number in reference.medians.items()}
    return min(medians, key=lambda kind: abs(medians[kind] - far))


def density(
    values: Float[np.ndarray, " n"], grid: Float[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    """Density of some distances on a grid: a Gaussian a value, of Silverman's width.

    Raises: `InterventionError` for less than two values.
    """
    if len(values) < 2:
        raise InterventionError(f"got {len(values)} distances; a density needs two")
    q25, q75 = np.quantile(values, [0.25, 0.75])
    spread = min(float(np.std(values)), float(q75 - q25) / 1.34) or float(np.std(values))
    width = max(0.9 * spread * len(values) ** -0.2, 1e-3 * float(np.ptp(grid)))
    found = np.zeros(len(grid))
    for part in np.array_split(values, max(1, len(values) // 500)):
        found += np.exp(-0.5 * ((grid[:, None] - part) / width) ** 2).sum(axis=1)
    return found / (len(values) * width * np.sqrt(2 * np.pi))


def verdict(changed: list[str], moved: Mapping[str, float], recorded: bool = False) -> str:
    """What happened, in sentences.

    moved: space -> distance in strangers, "before" included. recorded: two clips were chosen.
    """
    what = {"voice": "the voice", "words": "the words", "rate": "the pace", "pitch": "the pitch"}
    named = [what.get(name, name) for name in changed]
    said = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    head = f"You changed {said or 'nothing'}."
    if recorded:
        head = f"The two clips differ in {said or 'neither voice nor words'}."
    ranked = sorted((name for name in moved if name != BEFORE), key=lambda name: -moved[name])
    parts = [f"the {name} subspace {moved[name]:.2f}" for name in ranked[1:]]
    tail = f"The {ranked[0]} subspace moved {moved[ranked[0]]:.2f} of the way to a stranger"
    tail += f", {', '.join(parts)}." if parts else "."
    return f"{head} {tail} Before, the one vector moved {moved[BEFORE]:.2f}."


PRESETS = {
    "voice": "Same words, another voice",
    "words": "Same voice, other words",
    "both": "Both",
    "rate": "Faster",
    "pitch": "Higher",
    "nothing": "The same again",
}


def preset(name: str, first: Utterance, second: Utterance, texts: list[str]) -> Utterance:
    """The second utterance after one click: the first, changed in one thing alone.

    Asked again for a voice or words, it takes the next one. `texts`: sentences to choose from.
    Raises: `InterventionError` for an unknown name.
    """
    if name not in PRESETS:
        raise InterventionError(f"preset: got {name!r}; expected one of {', '.join(PRESETS)}")
    made = first
    if name in ("voice", "both"):
        made = replace(made, voice=_next(VOICES, first.voice, second.voice, step=5))
    if name in ("words", "both"):
        made = replace(made, text=_next(tuple(texts), first.text, second.text))
    if name == "rate":
        made = replace(made, rate=min(450, round(first.rate * 1.5)))
    if name == "pitch":
        made = replace(made, pitch=min(99, first.pitch + 35))
    return made


def _next(options: tuple[str, ...], mine: str, current: str, step: int = 1) -> str:
    """The option after the current one that is not `mine`; a step of 5 changes the gender."""
    place = options.index(current) if current in options else -step
    for ahead in range(1, len(options) + 1):
        chosen = options[(place + (step if ahead == 1 else step + ahead - 1)) % len(options)]
        if chosen != mine:
            return chosen
    return mine


def _pairs(voice: np.ndarray, words: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Rows of the pairs of each kind, at most `PAIRS`, drawn without replacement."""
    rows = np.flatnonzero((voice != "") & (words != ""))
    rng = np.random.default_rng(seed)
    if len(rows) > 2_000:  # all pairs of 2 000 are looked at; of more, of as many drawn ones
        rows = np.sort(rng.choice(rows, 2_000, replace=False))
    left, right = (rows[side] for side in np.triu_indices(len(rows), k=1))
    same_voice, same_words = voice[left] == voice[right], words[left] == words[right]
    masks = (
        same_voice & same_words,
        same_voice & ~same_words,
        ~same_voice & same_words,
        ~same_voice & ~same_words,
    )
    found = {}
    for kind, mask in zip(KINDS, masks, strict=True):
        places = np.flatnonzero(mask)
        if len(places) >= FEWEST:
            if len(places) > PAIRS:
                places = np.sort(rng.choice(places, PAIRS, replace=False))
            found[kind] = np.stack([left[places], right[places]], axis=1)
    return found


def _median(values: np.ndarray, kind: str, people: np.ndarray, seed: int) -> Number:
    value = float(np.median(values))
    groups, count = usable_groups(people)
    low, high = bootstrap(
        lambda drawn: float(np.median(values[drawn])), len(values), groups, seed=seed
    )
    over = f"{count} speakers" if count else "pairs"
    return Number(
        value,
        min(low, value),
        max(high, value),
        len(values),
        f"Median cosine distance of pairs of clips: {kind}; n counts pairs. "
        f"95 % interval over {over} (of the pair's first clip).",
        range=(0.0, 2.0),
        groups=count,
    )


__all__ = [
    "BEFORE", "CHANGES", "KINDS", "OTHERS", "PRESETS", "VOICES", "InterventionError", "References",
    "Scale", "Utterance", "density", "distances", "nearest", "preset", "references", "relative",
    "share_below", "verdict",
]  # fmt: skip
