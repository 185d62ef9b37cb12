"""Sub-centre ArcFace, the supervised loss of x-vectors and pseudo-label rounds (Deng et al.)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from refine.losses._vectors import not_negative, positive, single, unit

SCALE, MARGIN = 30.0, 0.3  # the x-vector of Cho et al. 2022; pseudo labels: 0.2, 2 sub-centres


class ArcFace(NamedTuple):
    """The loss and what it is made of; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # nats; 0 best, about log C + scale (1 - cos margin) at the start
    accuracy: Float[Tensor, ""]  # share whose nearest class, without margins, is their own
    target: Float[Tensor, ""]  # mean cosine to the own class; 1 best
    nearest: Float[Tensor, ""]  # mean cosine to the nearest other class


def arcface(
    z: Float[Tensor, "batch dim"],
    centres: Float[Tensor, "class_centres dim"],
    labels: Int[Tensor, " batch"],
    scale: float = SCALE,
    margin: float = MARGIN,
    subcentres: int = 1,
    inter_margin: float = 0.0,
    inter_top: int = 5,
) -> ArcFace:
    """Softmax over angles, with the own class put `margin` radians further away.

    Class c has the rows c J … c J + J - 1 of `centres` (J sub-centres) and the cosine
    s_c = max_j cos(z, w_cj) (Deng et al. 2020; J = 1 is ArcFace, Deng et al. 2019). With y the
    label and s_y = cos theta,

        L = mean_batch( -log e(a_y) / (e(a_y) + sum_{c != y} e(s_c)) ),  e(x) = exp(scale x)
        a_y = cos(theta + margin), or cos theta - margin sin margin where theta > pi - margin,

    so that a_y falls all the way. `inter_margin` brings the `inter_top` nearest other classes so
    many radians nearer (Zhao et al. 2021). Lengths of `z` and `centres` do not count. Range 0 to
    2 scale + log C. Half precision is computed in float32.

    Raises: `ValueError` for one class, rows that are no multiple of `subcentres`, a label beyond
        the classes, a margin outside [0, pi / 2), a scale that is not positive, a vector of zeros.
    """
    classes = _classes(z, centres, labels, subcentres)
    positive("scale", scale)
    not_negative("margin", margin)
    not_negative("inter_margin", inter_margin)
    if max(margin, inter_margin) >= math.pi / 2:
        raise ValueError(f"margin: got {max(margin, inter_margin)}; expected less than pi / 2")
    with torch.autocast(z.device.type, enabled=False):
        cosines = unit(z) @ unit(centres).to(single(z).dtype).T  # (batch, class_centres)
    cosines = cosines.unflatten(1, (classes, subcentres)).amax(dim=2)  # (batch, classes)
    own = F.one_hot(labels, classes).bool()
    logits = torch.where(own, _further(cosines, margin), cosines)
    if inter_margin:
        others = cosines.detach().masked_fill(own, -torch.inf)
        top = others.topk(min(inter_top, classes - 1), dim=1).indices
        rival = torch.zeros_like(own).scatter(1, top, True)
        logits = torch.where(rival, _nearer(cosines, inter_margin), logits)
    total = F.cross_entropy(scale * logits, labels)
    with torch.no_grad():
        target = cosines[own]
        nearest = cosines.masked_fill(own, -torch.inf).amax(dim=1)
        accuracy = (target > nearest).to(cosines.dtype).mean()  # a tie counts as a miss
        return ArcFace(total, accuracy, target.mean(), nearest.mean())


def _classes(z: Tensor, centres: Tensor, labels: Tensor, subcentres: int) -> int:
    if subcentres < 1 or len(centres) % subcentres:
        raise ValueError(
            f"subcentres: got {subcentres} for {len(centres)} rows of centres; expected a divisor"
        )
    classes = len(centres) // subcentres
    if classes < 2:
        raise ValueError(f"a softmax over classes needs at least 2; got {classes}")
    if z.shape[1] != centres.shape[1] or len(z) != len(labels) or not len(z):
        raise ValueError(
            f"z, centres and labels: got {tuple(z.shape)}, {tuple(centres.shape)} and "
            f"{tuple(labels.shape)}; expected (batch, dim), (classes, dim) and (batch)"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(
            f"labels: got {int(labels.min())} to {int(labels.max())}; expected 0 to {classes - 1}"
        )
    return classes


def _further(cosine: Tensor, margin: float) -> Tensor:
    """cos(theta + margin), continued by a line where the angle would pass pi."""
    turned = cosine * math.cos(margin) - _sine(cosine) * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), turned, cosine - margin * math.sin(margin))


def _nearer(cosine: Tensor, margin: float) -> Tensor:
    """cos(theta - margin), 1 where the angle would pass 0."""
    turned = cosine * math.cos(margin) + _sine(cosine) * math.sin(margin)
    return torch.where(cosine < math.cos(margin), turned, torch.ones_like(cosine))


def _sine(cosine: Tensor) -> Tensor:
    # the slope of the root is infinite at 0
    return (1 - cosine.square()).clamp(min=1e-7).sqrt()
