"""Maps of an embedding space: one joint PCA for before and after, and how far a map can be trusted.

Two maps fitted apart have nothing to do with each other: a cloud that moved and a cloud that was
merely turned look the same. One PCA fitted on both gives both the same axes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from refine.metrics.intervals import Groups, Number, from_values, usable_groups

QUALITY_CLIPS = 2_000  # neighbours are compared among at most so many clips, drawn with a seed

Matrix = Float[np.ndarray, "n d"]


class JointMap(NamedTuple):
    """Both spaces on the same axes; row i of both is the same clip."""

    before: Float[np.ndarray, "n dims"]
    after: Float[np.ndarray, "n dims"]
    explained: Float[np.ndarray, " dims"]  # share of the joint variance an axis shows
    shown_before: float  # share of the own variance of each space that the map shows: where this
    shown_after: float  # is low, the space is flattened by the map, not by nature
    note: str  # how it was fitted, for the caption


class Sample(NamedTuple):
    """What was drawn, and the sentence that says so."""

    rows: Int[np.ndarray, " drawn"]  # sorted
    n: int  # out of so many
    note: str


def joint_pca(
    before: Float[np.ndarray, "n d"], after: Float[np.ndarray, "n c"], dims: int = 2, seed: int = 0
) -> JointMap:
    """One PCA fitted on the unit rows of both spaces, stacked and centred by their common mean.

    Rows are normalised because every claim about these spaces is one about cosines, and because an
    encoder's scale would otherwise decide the axes. Of spaces of different width the narrower is
    first laid into the wider one by the orthogonal map that brings matching clips closest
    (Procrustes, Schönemann 1966). That changes no distance or cosine within a space, and being
    blind to rotation it shows only what no rotation explains.

    Args:
        before, after: one vector a clip, the same clips in the same order.
        seed: accepted like in every map; PCA has no chance in it.
    Returns: `JointMap`, coordinates float64; the sign of an axis is fixed by its largest loading.
    Raises: `ValueError` for unequal clips, fewer than `dims` + 1 of them or dimensions, a row of
        zeros or values that are not finite, rows that are all equal.
    """
    del seed
    if len(before) != len(after):
        raise ValueError(f"before has {len(before)} clips, after {len(after)}; map the same clips")
    if dims < 1 or min(2 * len(before) - 1, before.shape[1], after.shape[1]) < dims:
        raise ValueError(
            f"a map of {dims} dimensions needs more than that; got {before.shape}, {after.shape}"
        )
    first, second = _unit(before, "before"), _unit(after, "after")
    note = "one PCA fitted on the unit vectors of both"
    if first.shape[1] != second.shape[1]:
        narrow, wide = sorted((first.shape[1], second.shape[1]))
        note += f"; the {narrow} dimensions were laid into the {wide} by orthogonal Procrustes"
        if first.shape[1] < second.shape[1]:
            first = first @ _procrustes(first, second)
        else:
            second = second @ _procrustes(second, first)
    n = len(first)
    both = np.concatenate([first, second])
    both -= both.mean(axis=0)
    values, vectors = np.linalg.eigh(both.T @ both)
    if values[-1] <= 1e-20 * len(both):
        raise ValueError(f"all {n} clips have the same direction before and after; nothing to map")
    axes = vectors[:, ::-1][:, :dims]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dims)])
    explained = np.clip(values[::-1][:dims], 0, None) / values.clip(0).sum()
    xy = both @ axes
    return JointMap(
        xy[:n], xy[n:], explained, _shown(both[:n], xy[:n]), _shown(both[n:], xy[n:]), note
    )


def quality(
    x: Matrix,
    xy: Float[np.ndarray, "n dims"],
    k: int = 10,
    seed: int = 0,
    speakers: Groups | None = None,
) -> dict[str, Number]:
    """How far neighbours on a map are neighbours in the space, by cosine there.

    `trustworthiness` (Venna & Kaski 2001; scikit-learn): 1 - the mean penalty for clips that are
    close on the map but far in the space, by how far down the ranks they are; range 0 to 1, 1 best.
    `neighbours_kept`: share of the k nearest in the space that are among the k nearest on the map;
    range 0 to 1, 1 best. Both carry as `null` their value for a map that knows nothing, as
    `control` that of the same map with its clips shuffled, and are taken on at most 2 000 drawn
    clips: `n` says how many. speakers: a label a clip, for the intervals. k is at most (n - 1) / 2.
    Raises: `ValueError` for fewer than 3 clips, a map or speakers of other clips, a row of zeros.
    """
    if len(x) != len(xy):
        raise ValueError(f"the space has {len(x)} clips, the map {len(xy)}")
    if speakers is not None and len(speakers) != len(x):
        raise ValueError(f"speakers: got {len(speakers)} labels for {len(x)} clips")
    drawn = sample(len(x), QUALITY_CLIPS, seed)
    n = len(drawn.rows)
    k = min(k, (n - 1) // 2)
    if k < 1:
        raise ValueError(f"neighbours need at least 3 clips and k of 1; got {n} clips, k {k}")
    space = _unit(x[drawn.rows], "x")
    place = np.asarray(xy, dtype=np.float64)[drawn.rows]
    near_space, near_map = _order(space), _order(place)[:, :k]
    rank = np.empty(
        (n, n), dtype=np.int64
    )  # of each clip among the neighbours in the space, from 1
    np.put_along_axis(rank, near_space, np.arange(1, n)[None, :], axis=1)
    worst = k * (2 * n - 3 * k - 1) / 2

    def judged(near: Int[np.ndarray, "n k"]) -> dict[str, np.ndarray]:
        ranks = np.take_along_axis(rank, near, axis=1)
        penalty = np.clip(ranks - k, 0, None).sum(axis=1) / worst
        return {"trustworthiness": 1 - penalty, "neighbours_kept": (ranks <= k).mean(axis=1)}

    found = judged(near_map)
    at = np.random.default_rng(seed).permutation(n)  # clip i at the place of clip at[i]
    spoilt = judged(np.argsort(at)[near_map[at]])
    who = None if speakers is None else np.asarray(speakers, dtype=object)[drawn.rows]
    who, count = usable_groups(who)
    told = f"{drawn.note}. Null: a map that knows nothing. Control: its clips shuffled. " + (
        f"95 % interval over {count} speakers." if count else "95 % interval over clips."
    )
    blind = (n - 1 - k) * (n - k) / (2 * (n - 1)) * k / worst  # the mean penalty of random ranks
    return {
        "trustworthiness": from_values(
            found["trustworthiness"],
            f"Trustworthiness (Venna & Kaski 2001) of the {k} nearest on the map, {told}",
            who,
            range=(0.0, 1.0),
            direction="higher",
            null=1 - blind,
            control=float(spoilt["trustworthiness"].mean()),
        ),
        "neighbours_kept": from_values(
            found["neighbours_kept"],
            f"Share of the {k} nearest by cosine still among the {k} nearest, {told}",
            who,
            range=(0.0, 1.0),
            direction="higher",
            null=k / (n - 1),
            control=float(spoilt["neighbours_kept"].mean()),
        ),
    }


def sample(
    n: int, most: int, seed: int = 0, stratify: Sequence[Any] | np.ndarray | None = None
) -> Sample:
    """At most `most` of n rows, all of them where they fit; the note says what was taken.

    With `stratify` (a label a row) every label keeps its share, and at least one row while `most`
    allows it.
    Raises: `ValueError` for n or most below 1, labels that are not n.
    """
    if n < 1 or most < 1:
        raise ValueError(f"nothing to sample: n {n}, most {most}")
    if stratify is not None and len(stratify) != n:
        raise ValueError(f"stratify: got {len(stratify)} labels for {n} rows")
    if n <= most:
        return Sample(np.arange(n), n, f"all {n:,} clips")
    rng = np.random.default_rng(seed)
    if stratify is None:
        index = rng.choice(n, size=most, replace=False)
        return Sample(np.sort(index), n, f"{most:,} of {n:,} clips, drawn with seed {seed}")
    labels = np.unique(np.asarray(stratify, dtype=str), return_inverse=True)[1]
    shares = _shares(np.bincount(labels), most, rng)
    index = np.concatenate(
        [
            rng.choice(np.flatnonzero(labels == label), size=share, replace=False)
            for label, share in enumerate(shares)
        ]
    )
    left_out = int((shares == 0).sum())
    note = f"{most:,} of {n:,} clips, drawn with seed {seed}, each group by its share"
    return Sample(np.sort(index), n, note + (f" ({left_out} groups left out)" if left_out else ""))


def _shares(counts: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Rows a label: one each first, the rest in proportion, by largest remainder."""
    if len(counts) >= most:
        shares = np.zeros(len(counts), dtype=int)
        shares[rng.permutation(len(counts))[:most]] = 1
        return shares
    exact = (counts - 1) * (most - len(counts)) / (counts - 1).sum()
    shares = 1 + np.floor(exact).astype(int)
    missing = most - shares.sum()
    shares[np.argsort(-(exact % 1), kind="stable")[:missing]] += 1
    return shares


def _procrustes(narrow: Matrix, wide: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "d c"]:
    """The map with orthonormal rows that brings the narrow rows closest to the wide ones."""
    left, _, right = np.linalg.svd(narrow.T @ wide, full_matrices=False)
    return left @ right


def _order(x: Matrix) -> Int[np.ndarray, "n others"]:
    """The other rows of each row, nearest first."""
    square = (x**2).sum(axis=1)
    distance = square[:, None] + square[None, :] - 2 * x @ x.T
    np.fill_diagonal(distance, -np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, 1:]


def _shown(x: Matrix, xy: Float[np.ndarray, "n dims"]) -> float:
    own = x.var(axis=0).sum()
    return float(xy.var(axis=0).sum() / own) if own > 0 else 0.0


def _unit(x: Matrix, name: str) -> Matrix:
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: a map needs finite vectors; got NaN or infinity")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"{name}: row {int(norms.argmin())} is all zeros, so it has no direction")
    return x / norms
