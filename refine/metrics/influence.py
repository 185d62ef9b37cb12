"""Intervals of statistics too dear or too crooked to resample: their first-order expansion is.

    value + sum_g (w_g - 1) influence_g,    influence_g = d statistic / d w_g at w = 1

with w_g how often unit g (a speaker, or a bin of clips) is drawn: the infinitesimal jackknife
(Efron 1982). No class ever vanishes from a resample and no clip meets its own duplicate; before
and after on the same clips share their units, so the influence of a change is a difference.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from refine.metrics.intervals import RESAMPLES, Groups, Number, from_resamples, weights

MOST_UNITS = 200  # beyond, units are binned at random: 200 tell a spread to 5 %


@dataclass(frozen=True)
class Units:
    """What is drawn together: `of` is the unit of each clip, 0 to `count` - 1."""

    of: Int[np.ndarray, " n"]
    count: int
    groups: int | None  # speakers; None where single clips are drawn
    why: str = ""  # clips are drawn although there are speakers

    @property
    def told(self) -> str:
        """A sentence for a definition."""
        who = f"{self.groups} speakers" if self.groups else "clips"
        return f"95 % interval over {who}{self.why}."


class Smooth(NamedTuple):
    """A value and its derivative in the weight of each unit."""

    value: float
    influence: Float[np.ndarray, " units"]

    def minus(self, other: "Smooth") -> "Smooth":
        """The paired difference; both must be of the same units."""
        return Smooth(self.value - other.value, self.influence - other.influence)


def units(
    n: int,
    speakers: Groups | None = None,
    most: int = MOST_UNITS,
    seed: int = 0,
    fewest: int = 2,
) -> Units:
    """Speakers as units where `fewest` or more are known ("" stands alone), else clips.

    Raises: `ValueError` for speakers that are not one a clip, or less than two clips.
    """
    if n < 2:
        raise ValueError(f"an interval needs at least 2 clips; got {n}")
    groups, why = None, ""
    labels = np.arange(n)
    if speakers is not None:
        if len(speakers) != n:
            raise ValueError(f"speakers: got {len(speakers)} labels for {n} clips")
        names = [
            (row,) if name is None or name == "" else name for row, name in enumerate(speakers)
        ]
        known = {name: code for code, name in enumerate(dict.fromkeys(names))}
        if len(known) >= max(2, fewest):
            labels, groups = np.array([known[name] for name in names]), len(known)
        else:
            why = f" ({len(known)} speakers are too few to draw: nothing is said about others)"
            why = why.replace("1 speakers are", "1 speaker is")
    count = int(labels.max()) + 1
    if count > most:
        bins = np.random.default_rng(seed).permutation(np.arange(count) % most)
        labels, count = bins[labels], most
    return Units(labels, count, groups, why)


def number(
    smooth: Smooth,
    of: Units,
    definition: str,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    resamples: int = RESAMPLES,
    seed: int = 0,
    n: int | None = None,
    **about: Any,
) -> Number:
    """The Number of a statistic; `n` is the clips unless given, `about` further fields."""
    resampled = smooth.value + _moved(of.count, resamples, seed) @ smooth.influence
    low, high = from_resamples(smooth.value, resampled, of.count)
    return Number(
        float(smooth.value),
        max(low, min(bounds[0], smooth.value)),
        min(high, max(bounds[1], smooth.value)),
        len(of.of) if n is None else n,
        f"{definition} {of.told}",
        range=bounds,
        groups=of.groups,
        **about,
    )


@lru_cache(maxsize=4)
def _moved(count: int, resamples: int, seed: int) -> Float[np.ndarray, "resamples units"]:
    """w_g - 1 of each resample: the same for all numbers of the same units."""
    return weights(count, None, resamples, seed) - 1.0


def table(
    of: Units, codes: Int[np.ndarray, " n"], k: int, values: Float[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "units k"]:
    """Sum of values (or count of clips) by unit and class; a code below 0 counts nowhere."""
    known = codes >= 0
    index = of.of[known] * k + codes[known]
    flat = np.bincount(index, None if values is None else values[known], minlength=of.count * k)
    return flat.astype(np.float64).reshape(of.count, k)


def owners(counts: Float[np.ndarray, "units k"]) -> Int[np.ndarray, " k"] | None:
    """The unit of each class where every class lies within one unit (speakers), else None.

    Drawing units is then drawing classes: a class weighs as its unit does.
    """
    if len(counts) < 2 or not ((counts > 0).sum(axis=0) == 1).all():
        return None
    return counts.argmax(axis=0)


def mean_over_classes(
    values: Float[np.ndarray, " k"],
    influences: Float[np.ndarray, "units k"],
    owner: Int[np.ndarray, " k"] | None,
) -> Smooth:
    """The plain mean of one value a class, with each class drawn as its owner where it has one."""
    mean = float(values.mean())
    influence = influences.mean(axis=1)
    if owner is not None:
        influence = influence + np.bincount(
            owner, (values - mean) / len(values), minlength=len(influence)
        )
    return Smooth(mean, influence)
