"""VICReg (Bardes, Ponce & LeCun 2022), a choice for the non-contrastive half of `two_step`."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refine.losses._vectors import not_negative, same_rows, single

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # Bardes et al. 2022
EPS = 1e-4  # keeps the slope of the square root finite at a variance of 0


class VICReg(NamedTuple):
    """The loss and its three parts, unweighted; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # the weighted sum; 0 best
    invariance: Float[Tensor, ""]  # mean squared difference of the views: 0 best
    variance: Float[Tensor, ""]  # missing spread, 0 best; 0.99 in collapse
    covariance: Float[Tensor, ""]  # squared covariances of different dimensions a dim: 0 best


def vicreg(
    a: Float[Tensor, "batch dim"],
    b: Float[Tensor, "batch dim"],
    invariance: float = INVARIANCE,
    variance: float = VARIANCE,
    covariance: float = COVARIANCE,
) -> VICReg:
    """VICReg on two views of the same utterances (or two utterances of the same class).

        I = (1 / (N d)) sum_i ||a_i - b_i||^2
        V = 1/2 sum_{x in a, b} mean_j max(0, 1 - sqrt(Var x_j + 1e-4))
        C = sum_{x in a, b} (1 / d) sum_{j != k} Cov(x)_jk^2
        L = invariance I + variance V + covariance C

    as the authors' code has it: V halved over the views and C not, I a mean over dimensions too,
    variances divided by N - 1. The vectors are not normalised: scale matters. 0 is best and there
    is no upper bound. Half precision is computed in float32.

    Raises: `ValueError` for one pair (it has no variance), unequal shapes or a negative weight.
    """
    same_rows(a=a, b=b)
    if len(a) < 2:
        raise ValueError(f"a variance over the batch needs at least 2 pairs; got {len(a)}")
    weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
    for name, weight in weights.items():
        not_negative(name, weight)
    a, b = single(a), single(b)
    apart = F.mse_loss(a, b)
    narrow = (_missing_spread(a) + _missing_spread(b)) / 2
    shared = _shared(a) + _shared(b)
    total = invariance * apart + variance * narrow + covariance * shared
    return VICReg(total, apart.detach(), narrow.detach(), shared.detach())


def _missing_spread(x: Tensor) -> Tensor:
    return torch.relu(1 - (x.var(dim=0) + EPS).sqrt()).mean()


def _shared(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=0)
    with torch.autocast(x.device.type, enabled=False):
        covariance = centred.T @ centred / (len(x) - 1)  # (dim, dim)
    off = covariance.square().sum() - covariance.diagonal().square().sum()
    return off / x.shape[1]
