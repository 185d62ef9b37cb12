"""Silhouettes of clips, and how their mean moves with the weight of each clip."""

import numpy as np
from jaxtyping import Float, Int

SILHOUETTE_CLIPS = 2_000  # the distances of so many are held at once: 32 MB


def silhouettes(
    x: Float[np.ndarray, "n d"], codes: Int[np.ndarray, " n"], k: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(b - a) / max(a, b) of each clip, and d mean / d w_j of each clip j.

    a: mean distance to its own class, b: to the nearest other one. A clip alone in its class has 0
    (as scikit-learn).
    """
    n = len(x)
    squared = (x**2).sum(axis=1)
    distance = squared[:, None] + squared - 2 * x @ x.T
    np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
    np.fill_diagonal(distance, 0)
    member = np.zeros((n, k))
    member[np.arange(n), codes] = 1
    sizes = member.sum(axis=0)
    sums = distance @ member
    rows = np.arange(n)
    others = np.maximum(sizes[codes] - 1, 1)
    a = sums[rows, codes] / others
    away = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    away[rows, codes] = np.inf
    near = away.argmin(axis=1)
    b = away[rows, near]
    largest = np.maximum(np.maximum(a, b), 1e-300)
    alone = sizes[codes] < 2
    values = np.where(alone, 0.0, (b - a) / largest)
    # of b / a - 1 where a is larger, else 1 - a / b
    by_a = np.where(alone, 0.0, np.where(a > b, -b / largest**2, -1 / largest)) / others
    by_b = np.where(alone, 0.0, np.where(a > b, 1 / largest, a / largest**2)) / sizes[near]
    # clip j moves a_i of its own class by (d_ij - a_i), b_i of those whose nearest class it is in
    own = np.zeros((n, k))
    own[rows, codes] = by_a
    own[rows, near] += by_b
    level = np.zeros((n, k))
    level[rows, codes] = by_a * a
    level[rows, near] += by_b * b
    pulled = (distance @ own - level.sum(axis=0))[rows, codes] + by_a * a  # none by itself
    return values, (pulled + values - values.mean()) / n
