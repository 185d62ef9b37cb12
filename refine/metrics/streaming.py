"""The same metrics over a table that does not fit into memory: read twice by blocks, pairs drawn.

    blocks = np.array_split(np.load("vectors.npy", mmap_mode="r"), 64)
    found = measure(blocks, labels)
    found["isoscore"].value, found["eer"].value, found["eer"].error

First pass: covariance, class sums, sums of unit rows. Second pass: distances to the class means.
What is a mean over pairs is taken on drawn pairs, and `error` bounds how far it is from the value
over all of them. There is no interval over speakers here: for that, draw clips and `measure` them.
Partition isotropy is left out: its exponentials would need a third product as large as the first.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from refine.metrics.isotropy import RANKME_EPS, UNIFORMITY_T
from refine.metrics.silhouette import SILHOUETTE_CLIPS, silhouettes
from refine.metrics.verification import eer

PAIRS = 100_000  # drawn of each kind
LEVEL = 0.95  # with which the error bounds hold
PILOT = 4_096  # rows whose mean is taken off first: sums of squares keep their digits

Blocks = Sequence[np.ndarray]  # consecutive rows, (rows, d) float32 each, memory-mapped or not


class StreamError(ValueError):
    """A table that cannot be measured. The message says what was found."""


class Streamed(NamedTuple):
    """A value over all rows; of drawn pairs, how far it can be from that (None: exact)."""

    value: float
    error: float | None
    n: int  # rows, or pairs drawn


class _Sums(NamedTuple):
    """What the first pass leaves, all about the pilot mean."""

    centre: Float[np.ndarray, " d"]
    gram: Float[np.ndarray, "d d"]
    classes: Float[np.ndarray, "k d"]
    units: Float[np.ndarray, "k d"]  # of unit rows, seen from the origin


def measure(
    blocks: Blocks, labels: Sequence[Any] | np.ndarray, pairs: int = PAIRS, seed: int = 0
) -> dict[str, Streamed]:
    """Isotropy, class structure and verification of one factor.

    Args:
        blocks: consecutive parts of the table. labels: a class a row.
        pairs: drawn of each kind (any two, of one class, of two classes).
    Returns: `isoscore, effective_rank, rankme, mean_cosine, uniformity, within_spread,
        between_centroids, spread_ratio, davies_bouldin, cdnv, nc1, explained, alignment,
        silhouette, eer`, defined as in `metrics.isotropy`, `classes` and `verification`.
        `uniformity` is bounded by empirical Bernstein (Maurer & Pontil 2009), `eer` by the DKW
        inequality on both of its curves, `silhouette` is of drawn clips and has no bound (nan).
    Raises: `StreamError` for labels that are not one a row, less than two classes, a class of one
        row, values that are not finite, a row of zeros.
    """
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    ends = np.cumsum([len(block) for block in blocks])
    n, k = int(ends[-1]), len(names)
    sizes = np.bincount(codes).astype(np.float64)
    if len(codes) != n:
        raise StreamError(f"got {len(codes)} labels for {n} rows")
    if k < 2 or sizes.min() < 2:
        raise StreamError(f"got {k} classes, the smallest of {int(sizes.min())} rows; two and two")
    sums = _first_pass(blocks, codes, k)
    found = _isotropy(sums, n) | _classes(blocks, codes, sizes, sums)
    rng = np.random.default_rng(seed)
    rows = _Rows(blocks, ends)
    found["uniformity"] = _uniformity(rows, pairs, rng)
    found["eer"] = _eer(rows, codes, sizes, pairs, rng)
    drawn = np.sort(rng.choice(n, min(n, SILHOUETTE_CLIPS), replace=False))
    _, some = np.unique(codes[drawn], return_inverse=True)
    value = float(silhouettes(rows.take(drawn), some, int(some.max()) + 1)[0].mean())
    exact = len(drawn) == n
    found["silhouette"] = Streamed(value, None if exact else math.nan, len(drawn))
    return found


def _parts(blocks: Blocks, codes: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, Any]]:
    """Each block with the sparse matrix that sums its rows by class."""
    start = 0
    for block in blocks:
        part = codes[start : start + len(block)]
        one = np.ones(len(part), dtype=np.float32)
        yield block, csr_matrix((one, (part, np.arange(len(part)))), shape=(k, len(part)))
        start += len(block)


def _first_pass(blocks: Blocks, codes: np.ndarray, k: int) -> _Sums:
    d = blocks[0].shape[1]
    centre = np.asarray(blocks[0][:PILOT], dtype=np.float64).mean(axis=0).astype(np.float32)
    gram, classes, units = np.zeros((d, d)), np.zeros((k, d)), np.zeros((k, d))
    done = 0
    for block, by_class in _parts(blocks, codes, k):
        x = block - centre
        gram += x.T @ x
        classes += by_class @ x
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))
        if not np.isfinite(norms).all() or not norms.all():
            row = int(np.flatnonzero(~np.isfinite(norms) | (norms == 0))[0])
            what = "all zeros" if norms[row] == 0 else "not finite"
            raise StreamError(f"row {done + row} is {what}")
        units += by_class @ (block / norms[:, None])
        done += len(block)
    return _Sums(centre.astype(np.float64), gram, classes, units)


def _isotropy(sums: _Sums, n: int) -> dict[str, Streamed]:
    offset = sums.classes.sum(axis=0) / n  # of the mean from the pilot mean
    covariance = sums.gram / n - np.outer(offset, offset)
    variances = np.linalg.eigvalsh(covariance).clip(0)
    d = len(variances)
    ratio = variances.sum() ** 2 / (variances**2).sum()
    mean = sums.centre + offset
    raw = np.linalg.eigvalsh(covariance + np.outer(mean, mean)).clip(0)
    total = sums.units.sum(axis=0)
    values = {
        "isoscore": (ratio - 1) / (d - 1),
        "effective_rank": math.exp(_entropy(np.sqrt(variances), 0.0)),
        "rankme": math.exp(_entropy(np.sqrt(raw), RANKME_EPS)),
        "mean_cosine": (float(total @ total) - n) / (n * (n - 1)),
    }
    return {name: Streamed(float(value), None, n) for name, value in values.items()}


def _entropy(sigma: Float[np.ndarray, " d"], eps: float) -> float:
    share = sigma / sigma.sum() + eps
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def _classes(
    blocks: Blocks, codes: np.ndarray, sizes: Float[np.ndarray, " k"], sums: _Sums
) -> dict[str, Streamed]:
    """The second pass, and what follows from it."""
    n, k = len(codes), len(sizes)
    mu = sums.classes / sizes[:, None]
    m = mu - mu.mean(axis=0)
    _, sigma, right = np.linalg.svd(m, full_matrices=False)
    rank = min(k - 1, int((sigma > 1e-10 * sigma[0]).sum()))
    turn = (right[:rank] / sigma[:rank, None]).T.astype(np.float32)  # sigma of sum, not of mean
    near, shift = mu.astype(np.float32), sums.centre.astype(np.float32)
    distance, square, turned = np.zeros(k), np.zeros(k), np.zeros(k)
    start = 0
    for block in blocks:
        part = codes[start : start + len(block)]
        r = block - shift
        r -= near[part]
        v = np.einsum("nd,nd->n", r, r).astype(np.float64)
        distance += np.bincount(part, np.sqrt(v), minlength=k)
        square += np.bincount(part, v, minlength=k)
        turned += np.bincount(part, ((r @ turn) ** 2).sum(axis=1), minlength=k)
        start += len(block)
    S, V = distance / sizes, square / sizes
    gram = mu @ mu.T
    D2 = np.maximum(np.diag(gram)[:, None] + np.diag(gram) - 2 * gram, 0)
    np.fill_diagonal(D2, np.inf)
    if not D2.all():
        raise StreamError("two classes have the same mean; nothing is between them")
    D = np.sqrt(D2)
    pairs = k * (k - 1)
    between = float(np.where(np.isinf(D), 0, D).sum() / pairs)
    offset = sums.classes.sum(axis=0) / n
    total = float(np.trace(sums.gram)) - n * float(offset @ offset)
    cosine = np.einsum("kd,kd->k", sums.units, sums.units) - sizes
    values = {
        "within_spread": S.mean(),
        "between_centroids": between,
        "spread_ratio": S.mean() / between,
        "davies_bouldin": ((S[:, None] + S) / D).max(axis=1).mean(),
        "cdnv": ((V[:, None] + V) / (2 * D2)).sum() / pairs,
        "nc1": (turned / sizes).mean(),
        "explained": 1 - square.sum() / total,
        "alignment": (2 - 2 * cosine / (sizes * (sizes - 1))).mean(),
    }
    return {name: Streamed(float(value), None, n) for name, value in values.items()}


class _Rows:
    """Single rows of the blocks; read in the order of the table."""

    def __init__(self, blocks: Blocks, ends: np.ndarray):
        self.blocks, self.ends, self.n = blocks, ends, int(ends[-1])

    def take(self, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
        out = np.empty((len(rows), self.blocks[0].shape[1]), dtype=np.float64)
        of = np.searchsorted(self.ends, rows, side="right")
        for place in np.unique(of):
            mine = np.flatnonzero(of == place)
            mine = mine[np.argsort(rows[mine])]
            first = self.ends[place] - len(self.blocks[place])
            out[mine] = self.blocks[place][rows[mine] - first]
        return out

    def cosines(self, a: np.ndarray, b: np.ndarray, at_once: int = 10_000) -> np.ndarray:
        found = []
        for start in range(0, len(a), at_once):
            u, v = (self.take(rows[start : start + at_once]) for rows in (a, b))
            dot = np.einsum("nd,nd->n", u, v)
            found.append(dot / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1))
        return np.concatenate(found)


def _uniformity(rows: _Rows, pairs: int, rng: np.random.Generator) -> Streamed:
    a = rng.integers(0, rows.n, pairs)
    b = (a + rng.integers(1, rows.n, pairs)) % rows.n
    kernel = np.exp(-UNIFORMITY_T * (2 - 2 * rows.cosines(a, b)))
    mean, told = float(kernel.mean()), math.log(3 / (1 - LEVEL))
    slack = math.sqrt(2 * float(kernel.var(ddof=1)) * told / pairs) + 3 * told / pairs
    low = max(mean - slack, math.exp(-4 * UNIFORMITY_T))
    error = max(math.log((mean + slack) / mean), math.log(mean / low))
    return Streamed(math.log(mean), error, pairs)


def _eer(
    rows: _Rows,
    codes: np.ndarray,
    sizes: Float[np.ndarray, " k"],
    pairs: int,
    rng: np.random.Generator,
) -> Streamed:
    """Of pairs drawn with replacement, every pair of a kind as likely as every other."""
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    share = sizes * (sizes - 1)
    c = rng.choice(len(sizes), pairs, p=share / share.sum())
    size = sizes[c].astype(np.int64)
    first = rng.integers(0, size)
    second = (first + rng.integers(1, size)) % size
    same = rows.cosines(order[starts[c] + first], order[starts[c] + second])
    a = rng.integers(0, rows.n, pairs)
    b = rng.integers(0, rows.n, pairs)
    while (alike := codes[a] == codes[b]).any():
        a[alike] = rng.integers(0, rows.n, int(alike.sum()))
        b[alike] = rng.integers(0, rows.n, int(alike.sum()))
    scores = np.concatenate([same, rows.cosines(a, b)])
    value = eer(scores, np.arange(2 * pairs) < pairs)
    # each curve is within this of its own over all pairs, so their crossing is too
    error = math.sqrt(math.log(4 / (1 - LEVEL)) / (2 * pairs))
    return Streamed(value, error, 2 * pairs)
