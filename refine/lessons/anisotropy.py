"""Lesson 1: what a common mean, or one loud direction, does to the cosine.

Own directions u are even over the unit sphere, so unrelated vectors have cosine 0 on average. Every
vector gets c e added (the same for all), or z c e with its own z ~ N(0, 1); e is one fixed axis.
"""

from typing import Literal

import numpy as np

from refine.metrics import isotropy

Kind = Literal["mean", "loud"]
Remedy = Literal["none", "centred", "top"]
AXIS = np.array([0.0, 0.0, 1.0])


def directions(n: int = 240, dim: int = 3, seed: int = 3) -> np.ndarray:
    """Unit vectors (n, dim) in opposite pairs: their mean is exactly 0."""
    half = np.random.default_rng(seed).standard_normal((n // 2, dim))
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    return np.concatenate([half, -half])


def crowd(own: np.ndarray, length: float, kind: Kind = "mean", seed: int = 1) -> np.ndarray:
    """The vectors (n, dim) after `length` along the last axis was added: alike, or each its own."""
    axis = np.zeros(own.shape[1])
    axis[-1] = 1
    if kind == "mean":
        return own + length * axis
    half = np.random.default_rng(seed).standard_normal((len(own) // 2, 1))
    return own + length * np.concatenate([half, -half]) * axis


def remedied(x: np.ndarray, remedy: Remedy) -> np.ndarray:
    """The vectors less their mean, and less their top direction too (Mu & Viswanath 2018)."""
    if remedy == "none":
        return x
    x = x - x.mean(axis=0)
    if remedy == "centred":
        return x
    top = np.linalg.svd(x, full_matrices=False)[2][0]
    return x - np.outer(x @ top, top)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def summary(x: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Cosines of the pairs (pairs,), their mean, and the mean of their size without sign."""
    found = isotropy.cosines(x, pairs=30_000)
    return found, isotropy.mean_cosine(x), float(np.abs(found).mean())


def expected(length: float, dim: int | None = 3) -> float:
    """Mean cosine with a common vector of `length`: in three dimensions, or (None) in very many.

    In many dimensions c^2 / (1 + c^2), own parts being orthogonal to e. On the sphere of three,
    E|u + c e| = 1 + c^2 / 3 below c = 1 and c + 1 / (3 c) above; its slope in c is the mean of the
    direction along e, and the mean cosine its square. Range 0 to 1.
    """
    if length < 0:
        raise ValueError(f"length: got {length}; expected 0 or more")
    if dim is None:
        return length**2 / (1 + length**2)
    if dim != 3:
        raise ValueError(f"dim: got {dim}; the closed form is for 3, or None for very many")
    along = 2 * length / 3 if length <= 1 else 1 - 1 / (3 * length**2)
    return along**2
