"""Who moved relative to its neighbours: the nearest clips of each clip, before and after.

    found = moves(before, after)
    found.kept[i], found.drift[i], found.order[:10]     # the ten that moved most

Cosine within each space, so nothing has to be aligned: only who lies next to whom counts. Exact,
by blocks in float32.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from refine.metrics.intervals import Groups, Number, from_values

K = 10
BLOCK = 1_024  # rows of cosines held at once
CHUNK = 64  # cosines of which the largest is looked at first

Matrix = Float[np.ndarray, "n d"]


class NeighboursError(ValueError):
    """Vectors that have no neighbours. The message says why."""


class Moves(NamedTuple):
    """Neighbours of each clip in both spaces, nearest first, and how they differ."""

    before: Int[np.ndarray, "n k"]
    after: Int[np.ndarray, "n k"]
    kept: Float[np.ndarray, " n"]  # share of the k nearest before that are so after
    drift: Float[np.ndarray, " n"]  # median rank after of the k nearest before; (k + 1) / 2 is best
    number: Number  # the mean of kept

    @property
    def order(self) -> Int[np.ndarray, " n"]:
        """Rows, the one that moved most first: least kept, then farthest drifted."""
        return np.lexsort((-self.drift, self.kept))


def nearest(x: Matrix, k: int = K) -> Int[np.ndarray, "n k"]:
    """The k nearest other rows of each row by cosine, nearest first.

    Raises: `NeighboursError` for values that are not finite, a row of zeros, k not 1 to n - 1.
    """
    unit = _unit(x, "x")
    _check(len(unit), k)
    return np.concatenate([_first(cosine, k) for cosine, _ in _blocks(unit)])


def moves(
    before: Matrix,
    after: Float[np.ndarray, "n e"],
    speakers: Groups | None = None,
    k: int = K,
    seed: int = 0,
) -> Moves:
    """Compare the neighbours of each clip in two spaces.

    Args:
        before, after: one vector a clip, the same clips in the same order; widths may differ.
        speakers: a label a clip, for the interval. k: at most half of the other clips.
    Returns: `Moves`; `number` is the mean share kept, range 0 to 1; null: k / (n - 1), neighbours
        drawn at random; control: neighbours after of another clip, drawn.
    Raises: `NeighboursError` as `nearest`, and for spaces of unequal clips.
    """
    if len(before) != len(after):
        raise NeighboursError(f"got {len(before)} clips before and {len(after)} after")
    first = nearest(before, k)
    n = len(first)
    unit = _unit(after, "after")
    second, drift = [], []
    for cosine, rows in _blocks(unit):
        second.append(_first(cosine, k))
        reached = np.take_along_axis(cosine, first[rows], axis=1)
        ranks = [(cosine > reached[:, place, None]).sum(axis=1) + 1 for place in range(k)]
        drift.append(np.median(ranks, axis=0))
    near = np.concatenate(second)
    kept = overlap(first, near)
    other = overlap(first, near[np.random.default_rng(seed).permutation(n)])
    number = from_values(
        kept,
        f"Share of the {k} nearest clips by cosine that are among the {k} nearest after, of {n:,} "
        "clips. Null: neighbours drawn at random. Control: the neighbours after of another clip.",
        speakers,
        seed=seed,
        range=(0.0, 1.0),
        null=k / (n - 1),
        control=float(other.mean()),
    )
    return Moves(first, near, kept, np.concatenate(drift), number)


def overlap(
    first: Int[np.ndarray, "n k"], second: Int[np.ndarray, "n k"]
) -> Float[np.ndarray, " n"]:
    """Share of the entries of a row that are in the same row of the other."""
    return (first[:, :, None] == second[:, None, :]).any(axis=2).mean(axis=1)


def own_class(near: Int[np.ndarray, "n k"], labels: np.ndarray) -> Float[np.ndarray, " n"]:
    """Share of the neighbours that are of the clip's class; NaN where its class is unknown."""
    share = (labels[near] == labels[:, None]).mean(axis=1)
    return np.where(labels == "", np.nan, share)


def say(near: Int[np.ndarray, "n k"], labels: np.ndarray) -> np.ndarray:
    """The commonest known class among the neighbours of each clip; ties by the alphabet."""
    names, codes = np.unique(labels, return_inverse=True)
    said = codes[near]
    votes = (said[:, :, None] == said[:, None, :]).sum(axis=2)
    votes[names[said] == ""] = 0
    best = (votes * len(names) - said).argmax(axis=1)
    return names[said[np.arange(len(near)), best]]


def _blocks(unit: Matrix) -> Iterator[tuple[Float[np.ndarray, "b n"], slice]]:
    """Cosines of some rows with all, their own taken out."""
    for start in range(0, len(unit), BLOCK):
        rows = slice(start, min(start + BLOCK, len(unit)))
        cosine = unit[rows] @ unit.T
        cosine[np.arange(cosine.shape[0]), np.arange(rows.start, rows.stop)] = -np.inf
        yield cosine, rows


def _first(cosine: Float[np.ndarray, "b n"], k: int) -> Int[np.ndarray, "b k"]:
    near = _largest(cosine, k)
    near.sort(axis=1)  # of equally near ones the lower row comes first
    order = np.argsort(-np.take_along_axis(cosine, near, axis=1), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1)


def _largest(cosine: Float[np.ndarray, "b n"], k: int) -> Int[np.ndarray, "b k"]:
    """Places of the k largest of each row, in any order.

    They lie in the k chunks whose largest are largest, so of 10 000 only some hundreds are sorted.
    """
    n = cosine.shape[1]
    if n <= 2 * k * CHUNK:
        return np.argpartition(cosine, n - k, axis=1)[:, -k:]
    whole = n // CHUNK * CHUNK
    best = np.maximum.reduce(cosine[:, :whole].reshape(len(cosine), -1, CHUNK), axis=2)
    chunks = np.argpartition(best, best.shape[1] - k, axis=1)[:, -k:]
    places = (chunks[:, :, None] * CHUNK + np.arange(CHUNK)).reshape(len(cosine), -1)
    rest = np.broadcast_to(np.arange(whole, n), (len(cosine), n - whole))
    places = np.concatenate([places, rest], axis=1)
    likely = np.take_along_axis(cosine, places, axis=1)
    return np.take_along_axis(places, _largest(likely, k), axis=1)


def _check(n: int, k: int) -> None:
    if not 1 <= k <= n - 1:
        raise NeighboursError(f"k: got {k} for {n} clips; expected 1 to the number of other clips")


def _unit(x: Any, name: str) -> Matrix:
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise NeighboursError(f"{name}: neighbours need finite vectors, one a row; got {x.shape}")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not norms.all():
        raise NeighboursError(
            f"{name}: row {int(norms.argmin())} is all zeros: it has no direction"
        )
    return x / norms
