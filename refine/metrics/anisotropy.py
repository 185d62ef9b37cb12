"""Where anisotropy comes from: single dimensions, the common mean, the first directions.

    contributions(x).sum()            # the mean cosine, dimension by dimension
    rogue(x)                          # dimensions that make up far more of it than the others
    dimensions(x, speakers)           # the part of each, and of the rogue ones, as Numbers
    removal(x, speakers=speakers)     # what is left without the mean, without k directions

Timkey & van Schijndel (2021, arXiv 2109.04404) for rogue dimensions; Mu & Viswanath (2018, arXiv
1702.01417) for removing the mean and the top directions. Everything is float64.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_array

from refine.metrics import expansions
from refine.metrics.decomposition import Space, decompose
from refine.metrics.directions import random_projection
from refine.metrics.influence import Smooth, Units, number, units
from refine.metrics.intervals import RESAMPLES, Groups, Number

SIGMAS = 3.0  # above the mean over dimensions: what counts as rogue
MOST_REMOVED = 8
TURNED_CLIPS = 2_000  # of more, so many are drawn for the control that turns the axes

Matrix = Float[np.ndarray, "n d"]


class Removed(NamedTuple):
    """A space after something was taken out of it."""

    what: str  # "as it is", "mean", "mean and 1", …
    mean_cosine: Number
    isoscore: Number
    effective_rank: Number


class Dimensions(NamedTuple):
    """What single dimensions hold of a space, and the rogue ones together."""

    cosine: list[Number]  # a dimension: its part of the mean cosine
    variance: list[Number]  # a dimension: its share of the variance
    rogue: list[int]  # largest first
    rogue_share: Number | None  # of the mean cosine; None where none is rogue, or that is 0


def variances(x: Matrix) -> Float[np.ndarray, " d"]:
    """Share of the total variance that each dimension holds; they sum to 1.

    Raises: `ValueError` for fewer than two rows, values that are not finite, rows all equal.
    """
    spread = _checked(x).var(axis=0)
    if spread.sum() <= 0:
        raise ValueError(f"all {len(x)} rows are equal; there is no variance to share out")
    return spread / spread.sum()


def contributions(x: Matrix) -> Float[np.ndarray, " d"]:
    """What each dimension adds to the mean cosine of two different rows; they sum to it.

    Over all pairs, not a sample: the sum over i != j of u_i u_j is (sum u)² - sum u².
    Range -1 to 1; 0 for an even cloud around the origin.
    Raises: `ValueError` for fewer than two rows, a row of zeros, values that are not finite.
    """
    return _parts(_unit(_checked(x)))


def rogue(x: Matrix, sigmas: float = SIGMAS) -> Int[np.ndarray, " k"]:
    """Dimensions whose contribution lies more than `sigmas` deviations above the mean one.

    Largest first; empty where none stands out. Raises: as `contributions`.
    """
    return _standing_out(contributions(x), sigmas)


def dimensions(
    x: Matrix, speakers: Groups | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> Dimensions:
    """`contributions`, `variances` and the share of the rogue dimensions, with 95 % intervals.

    Null: all dimensions alike. Control: the largest (of rogue ones, as many of the largest) after a
    random rotation of the axes, on at most `TURNED_CLIPS` drawn clips; a cone that no single
    dimension makes is as pointed there. Rogue ones are picked because they stand out, and stay the
    picked ones in a resample. Raises: as `variances` and `contributions`.
    """
    x = _checked(x)
    variances(x)  # refuses what has none
    n, d = x.shape
    of = units(n, speakers, seed=seed)
    unit, centred = _unit(x), x - x.mean(axis=0)
    turned = _turned(x, seed)
    parts, square = _parts(unit), centred**2
    total, spread = float(parts.sum()), square.sum()
    added = 2 * ((unit * unit.sum(axis=0) - unit**2) / (n * (n - 1)) - parts / n)
    shares = square.sum(axis=0) / spread
    held = (square - shares * square.sum(axis=1, keepdims=True)) / spread
    largest = np.sort(contributions(turned))[::-1]
    told = "Control: the largest after a random rotation"
    cosine = [
        number(
            smooth, of, f"{ABOUT['cosine']} {told}{_drawn(n)}.", (-1.0, 1.0), resamples, seed,
            null=total / d, control=float(largest[0]),
        )
        for smooth in _each(parts, added, of)
    ]  # fmt: skip
    widest = float(variances(turned).max())
    variance = [
        number(
            smooth, of, f"{ABOUT['variance']} {told}{_drawn(n)}.", (0.0, 1.0), resamples, seed,
            null=1 / d, control=widest,
        )
        for smooth in _each(shares, held, of)
    ]  # fmt: skip
    found = _standing_out(parts, SIGMAS)
    share = None
    if len(found) and abs(total) > 1e-6:
        value = parts[found].sum() / total
        moved = (added[:, found].sum(axis=1) - value * added.sum(axis=1)) / total
        share = number(
            _each(np.array([value]), moved[:, None], of)[0], of,
            f"{ABOUT['rogue']} Control: the {len(found)} largest after a random rotation"
            f"{_drawn(n)}.",
            resamples=resamples, seed=seed, null=len(found) / d,
            control=float(largest[: len(found)].sum() / largest.sum()),
        )  # fmt: skip
    return Dimensions(cosine, variance, found.tolist(), share)


def removal(
    x: Matrix,
    most: int = MOST_REMOVED,
    speakers: Groups | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Removed]:
    """The space as it is, without its mean, and without its first 1 … `most` directions too.

    IsoScore and effective rank do not see the mean; the mean cosine does. The mean and the
    directions are found in the same clips and move with them, which the intervals follow. Null: an
    isotropic Gaussian of this n and d, treated alike. Control: every coordinate shuffled over the
    clips on its own, treated alike. Directions "neither".
    Raises: `ValueError` as `contributions`; for `most` at or above min(n - 1, d).
    """
    x = _checked(x)
    n, d = x.shape
    space = decompose(x - x.mean(axis=0))
    if not 0 <= most < len(space.sigma) - 1:
        rank = len(space.sigma)
        raise ValueError(f"most: got {most}; from a space of rank {rank} take 0 to {rank - 2}")
    of = units(n, speakers, seed=seed)
    null = _null(n, d, most)
    control = _values(np.random.default_rng(seed).permuted(x, axis=0), most)
    found = []
    for step, smooths in enumerate(_steps(x, space, most)):
        ranks = (1.0, float(min(n - 1, d) - max(0, step - 1)))
        numbers = [
            number(
                Smooth(one.value, np.bincount(of.of, one.influence, minlength=of.count)), of,
                f"{told} {_taken(step)} {AFTER}", bounds, resamples, seed,
                null=null[step][place], control=control[step][place],
            )
            for place, (one, told, bounds) in enumerate(
                zip(smooths, LEFT, ((-1.0, 1.0), (0.0, 1.0), ranks), strict=True)
            )
        ]  # fmt: skip
        what = "as it is" if step == 0 else "mean" if step == 1 else f"mean and {step - 1}"
        found.append(Removed(what, *numbers))
    return found


def positive_cosines(
    x: Matrix, labels: Sequence[Any] | np.ndarray, pairs: int = 20_000, seed: int = 0
) -> Float[np.ndarray, " pairs"]:
    """Cosines of random pairs of different rows with the same label ("" is unknown).

    Every row of a label with two rows or more is drawn alike as the first of a pair.
    Raises: `ValueError` where no two rows share a label; as `contributions`.
    """
    x = _checked(x)
    names = np.asarray(labels, dtype=str)
    if len(names) != len(x):
        raise ValueError(f"labels: got {len(names)} for {len(x)} rows")
    codes = np.unique(names, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    usable = np.flatnonzero((counts[codes] > 1) & (names != ""))
    if not len(usable):
        raise ValueError(f"no two of the {len(x)} rows share a label; there is no positive pair")
    rng = np.random.default_rng(seed)
    first = rng.choice(usable, size=pairs)
    place = np.empty(len(x), dtype=np.int64)  # of each row among those of its label
    place[order] = np.arange(len(x)) - starts[codes[order]]
    size = counts[codes[first]]
    other = (place[first] + rng.integers(1, size)) % size
    second = order[starts[codes[first]] + other]
    unit = _unit(x)
    return np.clip(np.einsum("pd,pd->p", unit[first], unit[second]), -1, 1)


ABOUT = {
    "cosine": "What the dimension adds to the mean cosine of two clips; they sum to it. Null: all "
    "dimensions alike.",
    "variance": "Share of the total variance that the dimension holds. Null: all alike.",
    "rogue": "Share of the mean cosine that the rogue dimensions (more than "
    f"{SIGMAS:.0f} deviations above the mean one, Timkey & van Schijndel 2021) add together; above "
    "1 where the others take from it. Null: all dimensions alike.",
}
LEFT = (
    "Mean cosine of all pairs of clips",
    "IsoScore (Rudman 2022)",
    "Effective rank (Roy & Vetterli 2007)",
)
AFTER = (
    "(Mu & Viswanath 2018). Null: an isotropic Gaussian of the same size, treated alike. Control: "
    "every coordinate shuffled over the clips, treated alike."
)


def _taken(step: int) -> str:
    if step < 2:
        return ("of the vectors as they are", "without the mean")[step]
    return f"without the mean and the first {step - 1} principal direction{'s' * (step > 2)}"


def _steps(x: Matrix, space: Space, most: int) -> list[tuple[Smooth, Smooth, Smooth]]:
    """Mean cosine, IsoScore and effective rank as it is, without the mean, and without 1 … most."""
    shape = expansions.isoscore(space), expansions.entropy_rank(space)
    steps = [(expansions.mean_cosine(_unit(x)), *shape)]
    for k in range(most + 1):
        rest = expansions.without(space, k)
        shape = expansions.isoscore(rest), expansions.entropy_rank(rest)
        steps.append((expansions.mean_cosine_without(space, k), *shape))
    return steps


def _values(x: Matrix, most: int) -> list[tuple[float | None, ...]]:
    """The same without influences; None where a row or the space is used up."""
    n, centred = len(x), x - x.mean(axis=0)
    space = decompose(centred)
    y = space.left * space.sigma
    bare = space._replace(left=space.left[:0])  # no clip, no influence
    steps: list[tuple[float | None, ...]] = []
    for step in range(most + 2):
        k = max(0, step - 1)
        rows = x if step == 0 else y[:, k:]
        norms = np.linalg.norm(rows, axis=1)
        total = (1 / norms) @ rows if norms.all() else None
        cosine = None if total is None else float((total @ total - n) / (n * (n - 1)))
        rest = expansions.without(bare, k)
        shape = (expansions.isoscore, expansions.entropy_rank)
        left = [of(rest).value if len(rest.sigma) > 1 else None for of in shape]
        steps.append((cosine, *left))
    return steps


@lru_cache(maxsize=8)
def _null(n: int, d: int, most: int) -> list[tuple[float | None, ...]]:
    """Of an isotropic Gaussian; the same for every layer of an encoder, before and after."""
    return _values(np.random.default_rng(0).standard_normal((n, d)), most)


def _parts(unit: Matrix) -> Float[np.ndarray, " d"]:
    n = len(unit)
    return (unit.sum(axis=0) ** 2 - (unit**2).sum(axis=0)) / (n * (n - 1))


def _standing_out(added: Float[np.ndarray, " d"], sigmas: float) -> Int[np.ndarray, " k"]:
    # a space that is even up to rounding has no rogue dimension, whatever its deviations are
    limit = added.mean() + max(sigmas * added.std(), 1e-9)
    found = np.flatnonzero(added > limit)
    return found[np.argsort(-added[found], kind="stable")]


def _each(
    values: Float[np.ndarray, " c"], influences: Float[np.ndarray, "n c"], of: Units
) -> list[Smooth]:
    """A Smooth a column, its influences summed by unit."""
    n = len(of.of)
    by_unit = csc_array((np.ones(n), of.of, np.arange(n + 1)), shape=(of.count, n)) @ influences
    return [
        Smooth(float(value), each) for value, each in zip(values, by_unit.T.copy(), strict=True)
    ]


def _turned(x: Matrix, seed: int) -> Matrix:
    """Some clips on other axes, drawn at random."""
    rows = np.random.default_rng(seed).permutation(len(x))[:TURNED_CLIPS]
    return random_projection(x[rows], x.shape[1], seed)


def _drawn(n: int) -> str:
    return f", on {TURNED_CLIPS:,} drawn clips" if n > TURNED_CLIPS else ""


def _unit(x: Matrix) -> Matrix:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not length.all():
        raise ValueError(f"row {int(length.argmin())} is all zeros; it has no direction")
    return x / length


def _checked(x: Matrix) -> Matrix:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"x: got shape {x.shape}; give at least two rows")
    if not np.isfinite(x).all():
        raise ValueError("x: holds values that are not finite")
    return x
