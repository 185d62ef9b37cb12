"""Isotropy statistics with their first-order expansion: a value, and the influence of each clip.

    influence_i = d statistic / d w_i at w = 1    (see `refine.metrics.influence`)

From a decomposition X = left diag(sigma) V^T, a clip that weighs more moves a singular value by
d sigma_k / d w_i = left_ik^2 sigma_k / 2, and turns the singular vectors into one another.
"""

import numpy as np
from jaxtyping import Float

from refine.metrics.decomposition import Space
from refine.metrics.influence import Smooth

Rows = Float[np.ndarray, "n c"]


def isoscore(space: Space) -> Smooth:
    """(PR - 1) / (d - 1) with PR the participation ratio of sigma^2 (see `isotropy.isoscore`)."""
    power = space.sigma**2
    first, second = power.sum(), (power**2).sum()
    ratio = first**2 / second
    leverage = space.left**2
    change = 2 * ratio * (leverage @ power / first - leverage @ power**2 / second)
    return Smooth(float((ratio - 1) / (space.d - 1)), change / (space.d - 1))


def entropy_rank(space: Space, eps: float = 0.0) -> Smooth:
    """exp of the entropy of sigma / sum sigma + eps (see `isotropy.effective_rank`, `rankme`)."""
    share = space.sigma / space.sigma.sum()
    p = share + eps
    empty = space.most - len(p)  # directions of rank zero still hold eps each
    entropy = -(p * np.log(p)).sum() - (empty * eps * np.log(eps) if eps else 0.0)
    # the shares keep their sum
    change = space.left**2 @ (share / 2)  # d (sum sigma) / sum sigma
    logs = np.log(p) + 1
    influence = -(space.left**2 @ (logs * share / 2)) + change * (logs * share).sum()
    value = float(np.exp(entropy))
    return Smooth(value, value * influence)


def mean_cosine(unit: Rows) -> Smooth:
    """Mean inner product of two different rows, each of length 1."""
    n = len(unit)
    total = unit.sum(axis=0)
    value = float((total @ total - n) / (n * (n - 1)))
    return Smooth(value, 2 * ((unit @ total - 1) / (n - 1) - value) / n)


def without(space: Space, k: int) -> Space:
    """What is left of centred rows without their first k directions; d stays as it is."""
    return Space(space.sigma[k:], space.left[:, k:], space.most - k, space.d)


def mean_cosine_without(space: Space, k: int) -> Smooth:
    """The mean cosine of centred rows y_i without their first k directions, r_i.

    With u = r / ||r||, T = sum u and g_j = (T - (u_j . T) u_j) / ||r_j||, a clip that weighs more
    moves the mean and turns the directions as well, both of which move every other r_j:

        n (n - 1) / 2 influence_i = explicit_i - sum_b y_ib ( sum_j g_jb / n
                          + sum_a y_ia sum_j y_ja g_jb / (sigma_a^2 - sigma_b^2) )

    over the directions a taken out and b left; explicit_i as in `mean_cosine`.
    Raises: `ValueError` for a row of which nothing is left.
    """
    y = space.left * space.sigma  # (n, rank)
    taken, rest = y[:, :k], y[:, k:]
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(
            f"row {int(norms.argmin())} is all zeros without the mean and {k} directions; it has "
            "no direction"
        )
    n, unit = len(y), rest / norms
    found, total = mean_cosine(unit), unit.sum(axis=0)
    g = (total - (unit @ total)[:, None] * unit) / norms
    gap = space.sigma[:k, None] ** 2 - space.sigma[None, k:] ** 2
    # of two directions alike which is taken is an accident of rounding: no turn is followed
    turn = np.where(gap > 1e-9 * space.sigma[0] ** 2, taken.T @ g / np.maximum(gap, 1e-300), 0.0)
    pull = np.einsum("nb,nb->n", rest, taken @ turn + g.sum(axis=0) / n)
    return Smooth(found.value, found.influence - 2 * pull / (n * (n - 1)))
