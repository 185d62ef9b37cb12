"""Barlow Twins (Zbontar et al. 2021), the non-contrastive half of Lux et al. 2022."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refine.losses._vectors import not_negative, same_rows, single

OFFDIAGONAL = 5.1e-4  # Lux et al. 2022; Zbontar et al. 2021 has 5.1e-3
EPS = 1e-5  # of batch normalisation


class BarlowTwins(NamedTuple):
    """The loss and what it is made of; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # on_diagonal + offdiagonal * off_diagonal
    on_diagonal: Float[Tensor, ""]  # sum of (1 - C_jj)^2: 0 best, dim where views share nothing
    off_diagonal: Float[Tensor, ""]  # sum of C_jk^2, j != k, unweighted: 0 best
    correlation: Float[Tensor, "dim dim"]  # C, rows of `a` by columns of `b`, -1 to 1


def barlow_twins(
    a: Float[Tensor, "batch dim"], b: Float[Tensor, "batch dim"], offdiagonal: float = OFFDIAGONAL
) -> BarlowTwins:
    """Barlow Twins on two views of the same utterances (or two utterances of the same class).

        C_jk = (1 / N) sum_i BN(a)_ij BN(b)_ik
        L    = sum_j (1 - C_jj)^2 + lambda sum_{j != k} C_jk^2

    BN takes mean and standard deviation over the batch (biased, without affine weights), so scale
    and shift of a dimension do not matter and a constant one costs 1. 0 is best, dim where the
    views share nothing (collapse), 4 dim + lambda dim (dim - 1) bounds it. With batch <= dim, C has
    a rank below dim and the floor is above 0 (`refine.losses.bounds.barlow_twins_floor`). Half
    precision is computed in float32.

    Raises: `ValueError` for one pair (it has no spread), unequal shapes or a negative weight.
    """
    same_rows(a=a, b=b)
    if len(a) < 2:
        raise ValueError(f"a correlation over the batch needs at least 2 pairs; got {len(a)}")
    not_negative("offdiagonal", offdiagonal)
    with torch.autocast(a.device.type, enabled=False):
        correlation = _normalised(single(a)).T @ _normalised(single(b)) / len(a)  # (dim, dim)
    diagonal = correlation.diagonal()
    on = (1 - diagonal).square().sum()
    off = correlation.square().sum() - diagonal.square().sum()
    parts = (on, off, correlation)
    return BarlowTwins(on + offdiagonal * off, *(part.detach() for part in parts))


def _normalised(x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    return (x - mean) * (variance + EPS).rsqrt()
