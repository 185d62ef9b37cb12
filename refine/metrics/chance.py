"""What classes that mean nothing look like: the null and the control of widths and distances.

Notation of `refine.metrics.classes`. Null, in closed form, from s the mean distance of a clip to
the mean of all and v the variance around it; D is the root mean square over shuffles, whose own
mean is a little below it in a space of few directions. Control: the labels shuffled once.

    S_a = s sqrt(1 - 1 / n_a),    D_ab = sqrt(v (1 / n_a + 1 / n_b))
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from refine.metrics.geometry import Geometry


class Blind(NamedTuple):
    """Widths and distances of classes that mean nothing; NaN where two of them coincide."""

    S: Float[np.ndarray, " k"]
    D: Float[np.ndarray, "k k"]  # infinite on the diagonal

    @property
    def between(self) -> float:
        """Mean distance of two class means."""
        return float(self.D[np.isfinite(self.D)].mean())

    def overlap(self, pair: tuple[int, int]) -> float:
        return float((self.S[pair[0]] + self.S[pair[1]]) / (self.D[pair] or np.nan))

    def width(self, a: int) -> float:
        return float(self.S[a] / (self.between or np.nan))


def by_chance(g: Geometry) -> Blind:
    """Of labels that mean nothing, classes as large as these: the null."""
    square = g.from_mean()
    shrunk = np.sqrt(square).mean() * np.sqrt(1 - 1 / g.sizes)
    spread = square.sum() / (g.n - 1)
    D = np.sqrt(spread * (1 / g.sizes[:, None] + 1 / g.sizes))
    np.fill_diagonal(D, np.inf)
    return Blind(shrunk, D)


def cdnv(g: Geometry) -> float:
    """The same of CDNV; v is in both of its parts, so class sizes are all that is left."""
    one = 1 / g.sizes
    pair = (2 - one[:, None] - one) / (2 * (one[:, None] + one))
    return float(pair[~np.eye(g.k, dtype=bool)].mean())


def shuffled(g: Geometry, seed: int = 0) -> Blind:
    """After the labels were shuffled once over the clips: the control."""
    drawn = np.random.default_rng(seed).permutation(g.n)
    mu, S = np.empty_like(g.mu), np.empty(g.k)
    for c, rows in enumerate(g.slices):
        r = g.raw[drawn[rows]] - g.mean
        mu[c] = r.mean(axis=0)
        r -= mu[c]
        S[c] = np.sqrt(np.einsum("nd,nd->n", r, r)).mean()
    square = np.einsum("kd,kd->k", mu, mu)
    D = np.sqrt(np.maximum(square[:, None] + square - 2 * mu @ mu.T, 0))
    np.fill_diagonal(D, np.inf)
    return Blind(S, D)
