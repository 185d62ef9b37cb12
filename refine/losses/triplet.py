"""Triplet loss on cosine distances, the contrastive half of `two_step` (Lux et al. 2022)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refine.losses._vectors import not_negative, same_rows, unit

MARGIN = 1.0  # Lux et al. 2022; 1.2 for age with the contrastive half alone


class Triplet(NamedTuple):
    """The loss and what it is made of; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # 0 best, the margin where nothing is told apart
    positive_distance: Float[Tensor, ""]  # mean 1 - cosine of anchor and positive, 0 to 2
    negative_distance: Float[Tensor, ""]  # mean 1 - cosine of anchor and negative, 0 to 2
    active: Float[Tensor, ""]  # share of the triplets that still pull, 0 to 1


def triplet(
    anchor: Float[Tensor, "batch dim"],
    positive: Float[Tensor, "batch dim"],
    negative: Float[Tensor, "batch dim"],
    margin: float = MARGIN,
) -> Triplet:
    """Triplet margin loss with D(u, v) = 1 - cos(u, v).

        L = mean_i max(0, D(a_i, p_i) - D(a_i, n_i) + m)

    Row i of the three is one triplet: an utterance, another of its class and one of another class.
    Range 0 (every negative is farther than its positive by m) to m + 2; m where nothing is told
    apart. A margin of 1 or more asks for more than orthogonal negatives. Half precision is computed
    in float32.

    Raises: `ValueError` for no triplet, unequal shapes, a vector of zeros or a negative margin.
    """
    same_rows(anchor=anchor, positive=positive, negative=negative)
    if len(anchor) < 1:
        raise ValueError("a triplet batch needs at least 1 triplet; got 0")
    not_negative("margin", margin)
    a, p, n = unit(anchor), unit(positive), unit(negative)
    near = 1 - (a * p).sum(dim=1)  # (batch,)
    far = 1 - (a * n).sum(dim=1)  # (batch,)
    hinge = torch.relu(near - far + margin)
    return Triplet(
        hinge.mean(),
        near.detach().mean(),
        far.detach().mean(),
        (hinge.detach() > 0).to(hinge.dtype).mean(),
    )
