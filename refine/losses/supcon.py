"""SupCon, the supervised contrastive loss (Khosla et al. 2020), as Cox & Barker 2026 use it."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refine.losses._vectors import not_negative, positive, unit

TEMPERATURE = 0.1  # Cox & Barker 2026; Khosla et al. 2020 has 0.07


class SupCon(NamedTuple):
    """The loss and its floor; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # nats; best at `floor`, log(B - 1) where nothing is told apart
    floor: Float[Tensor, ""]  # mean log|P(i)|: positives share the probability, so never 0
    gap: Float[Tensor, ""]  # total - floor; 0 best
    anchors: Int[Tensor, ""]  # how many vectors have a positive, and so count


def supcon(
    z: Float[Tensor, "batch dim"],
    labels: Int[Tensor, "batch"],
    temperature: float = TEMPERATURE,
    margin: float = 0.0,
) -> SupCon:
    """SupCon in its "outside" form (the mean over positives stands outside the logarithm).

    With s the cosine, P(i) the other vectors of anchor i's label and m the margin taken off the
    positives (Wang et al. 2018),

        l_ik = (s_ik - m [k in P(i)]) / tau
        L_i  = -(1 / |P(i)|) sum_{k in P(i)} log( exp l_ik / sum_{n != i} exp l_in ),

    and `total` is the mean over the anchors with a positive; the others are candidates only. Range
    from mean log|P| (every class one point, far from all others) over log(B - 1) (all cosines
    equal, margin 0) to log(B - 1) + (2 + m) / tau. Half precision is computed in float32.

    Raises: `ValueError` for a batch in which no label occurs twice or all are the same, fewer than
        two vectors, not one label a vector, a vector of zeros, a temperature that is not positive
        or a negative margin.
    """
    if z.ndim != 2 or labels.shape != z.shape[:1]:
        raise ValueError(
            f"one label for each vector; got {tuple(labels.shape)} for {tuple(z.shape)}"
        )
    if len(z) < 2:
        raise ValueError(f"a contrastive batch needs at least 2 vectors; got {len(z)}")
    positive("temperature", temperature)
    not_negative("margin", margin)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    alike = (labels[:, None] == labels[None, :]) & ~itself  # (batch, batch)
    counts = alike.sum(dim=1)  # (batch,), |P(i)|
    anchors = counts > 0
    if not bool(anchors.any()):
        raise ValueError(f"no label occurs twice among {len(z)} vectors, so there is no positive")
    if bool((counts == len(z) - 1).all()):
        raise ValueError(f"all {len(z)} vectors have the same label, so there is no negative")
    z = unit(z)
    pulled = alike.to(z.dtype)
    with torch.autocast(z.device.type, enabled=False):  # bf16 cosines over 0.1 are off by 0.04
        logits = (z @ z.T - margin * pulled) / temperature  # (batch, batch)
    candidates = logits.masked_fill(itself, -torch.inf).logsumexp(dim=1)  # (batch,)
    attracted = (logits * pulled).sum(dim=1) / counts.clamp(min=1)  # (batch,)
    total = (candidates - attracted)[anchors].mean()
    floor = counts[anchors].to(z.dtype).log().mean()
    return SupCon(total, floor, total.detach() - floor, anchors.sum())
