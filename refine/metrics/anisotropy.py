"""Where anisotropy comes from: single dimensions, the common mean, the first directions.

    contributions(x).sum()            # the mean cosine, dimension by dimension
    rogue(x)                          # dimensions that make up far more of it than the others
    removal(x)                        # what is left without the mean, without k directions

Timkey & van Schijndel (2021, arXiv 2109.04404) for rogue dimensions; Mu & Viswanath (2018, arXiv
1702.01417) for removing the mean and the top directions. Everything is float64.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from refine.metrics import isotropy

SIGMAS = 3.0  # above the mean over dimensions: what counts as rogue
MOST_REMOVED = 8

Matrix = Float[np.ndarray, "n d"]


class Removed(NamedTuple):
    """A space after something was taken out of it."""

    what: str  # "as it is", "mean", "mean and 1", …
    mean_cosine: float
    isoscore: float
    effective_rank: float


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
    x = _checked(x)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not length.all():
        row = int(np.flatnonzero(length == 0)[0])
        raise ValueError(f"row {row} is all zeros; it has no direction")
    unit = x / length
    n = len(x)
    return (unit.sum(axis=0) ** 2 - (unit**2).sum(axis=0)) / (n * (n - 1))


def rogue(x: Matrix, sigmas: float = SIGMAS) -> Int[np.ndarray, " k"]:
    """Dimensions whose contribution lies more than `sigmas` deviations above the mean one.

    Largest first; empty where none stands out. Raises: as `contributions`.
    """
    added = contributions(x)
    # a space that is even up to rounding has no rogue dimension, whatever its deviations are
    limit = added.mean() + max(sigmas * added.std(), 1e-9)
    found = np.flatnonzero(added > limit)
    return found[np.argsort(-added[found], kind="stable")]


def removal(x: Matrix, most: int = MOST_REMOVED) -> list[Removed]:
    """The space as it is, without its mean, and without its first 1 … `most` directions too.

    IsoScore and effective rank do not see the mean; the mean cosine does.
    Raises: `ValueError` as `contributions`; for `most` at or above min(n - 1, d).
    """
    x = _checked(x)
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    rank = int((values > len(x) * np.finfo(np.float64).eps * values[-1]).sum())
    if not 0 <= most < rank - 1:
        raise ValueError(f"most: got {most}; from a space of rank {rank} take 0 to {rank - 2}")
    axes = vectors[:, ::-1]
    found = [_told("as it is", x), _told("mean", centred)]
    for k in range(1, most + 1):
        top = axes[:, :k]
        found.append(_told(f"mean and {k}", centred - (centred @ top) @ top.T))
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
    length = np.linalg.norm(x, axis=1)
    if not length.all():
        raise ValueError(f"row {int(np.flatnonzero(length == 0)[0])} is all zeros")
    inner = np.einsum("pd,pd->p", x[first], x[second])
    return np.clip(inner / (length[first] * length[second]), -1, 1)


def _told(what: str, x: Matrix) -> Removed:
    return Removed(what, isotropy.mean_cosine(x), isotropy.isoscore(x), isotropy.effective_rank(x))


def _checked(x: Matrix) -> Matrix:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"x: got shape {x.shape}; give at least two rows")
    if not np.isfinite(x).all():
        raise ValueError("x: holds values that are not finite")
    return x
