"""NT-Xent, the contrastive loss of self-supervised rewiring (Yang et al. 2022)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refine.losses._vectors import positive, same_rows, unit

TEMPERATURE = 0.04  # Yang et al. 2022


class InfoNCE(NamedTuple):
    """The loss and what it is made of; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # nats; 0 best, log(2N - 1) where nothing is told apart
    positive: Float[Tensor, ""]  # mean cosine of the N pairs
    negative: Float[Tensor, ""]  # mean cosine of vectors of different pairs
    retrieval: Float[Tensor, ""]  # share of the 2N vectors whose nearest is their partner


def info_nce(
    a: Float[Tensor, "batch dim"], b: Float[Tensor, "batch dim"], temperature: float = TEMPERATURE
) -> InfoNCE:
    """NT-Xent (Chen et al. 2020; the `NTXentLoss` of the public rewiring code).

    The 2N vectors z are the rows of `a` and `b`; (a_i, b_i) is a positive pair in both orders, and
    the negatives of a vector are all 2N - 2 vectors of other pairs. With s the cosine,

        l(i, j) = -log e(i, j) / ( e(i, j) + sum_{k of another pair} e(i, k) ),
        e(i, j) = exp(s_ij / tau),

    and `total` is the mean over the 2N ordered pairs. Range 0 to 2 / tau + log(2N - 1): 0 is every
    pair found, log(2N - 1) all cosines equal. Half precision is computed in float32.
    `retrieval` is 1 at best, 1 / (2N - 1) by chance; a tie counts as a miss, so collapse scores 0.

    Raises: `ValueError` for one pair (no negative), unequal shapes, a temperature that is not
        positive, or a vector of zeros, which has no cosine.
    """
    same_rows(a=a, b=b)
    if len(a) < 2:
        raise ValueError(f"a contrastive batch needs at least 2 pairs; got {len(a)}")
    positive("temperature", temperature)
    n = len(a)
    z = unit(torch.cat([a, b]))  # (2 batch, dim)
    with torch.autocast(z.device.type, enabled=False):  # bf16 cosines over 0.04 are off by 0.1
        cosine = z @ z.T  # (2 batch, 2 batch)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    partner = itself.roll(n, dims=1)
    logits = (cosine / temperature).masked_fill(itself, -torch.inf)
    positives = cosine[partner]  # (2 batch,), row by row
    total = (logits.logsumexp(dim=1) - positives / temperature).mean()
    with torch.no_grad():
        others = cosine.masked_fill(itself | partner, -torch.inf)
        return InfoNCE(
            total,
            positives.mean(),
            cosine[~(itself | partner)].mean(),
            (positives > others.amax(dim=1)).to(cosine.dtype).mean(),
        )
