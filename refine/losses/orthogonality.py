"""Orthogonality of subspaces (Cox & Barker 2026, after Bousmalis et al. 2016)."""

from collections.abc import Mapping
from itertools import combinations
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refine.losses._vectors import unit


class Orthogonality(NamedTuple):
    """The loss and what it is made of; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # sum over the pairs of subspaces; 0 best
    pairs: dict[str, Float[Tensor, ""]]  # "speaker/content" -> its share of the sum


def orthogonality(
    blocks: Mapping[str, Float[Tensor, "batch _"]],
    form: Literal["corrected", "samples"] = "corrected",
) -> Orthogonality:
    """How much the subspaces of the same utterances share. With Z row-normalised, for each pair

        corrected: mean over (d_j, d_k) of (Z_j^T Z_k)^2   cross-moments of their dimensions
        samples:   mean over (B, B) of (Z_j Z_k^T)^2       cosines across subspaces, equal widths

    "corrected" is the authors' code since 26 June 2026, "samples" the one before it, which compares
    coordinates of unrelated spaces and penalises likeness of utterances. 0 is best; "corrected"
    reaches at most B^2 / (d_j d_k) and grows with the batch, "samples" at most 1. Half precision is
    computed in float32.

    Raises: `ValueError` for fewer than two subspaces, batches that differ, an empty batch, a vector
        of zeros, an unknown form, or "samples" with unequal widths.
    """
    if form not in ("corrected", "samples"):
        raise ValueError(f"form: got {form!r}; expected 'corrected' or 'samples'")
    if len(blocks) < 2:
        raise ValueError(f"orthogonality is between subspaces; got {len(blocks)}, expected 2")
    shapes = {name: tuple(z.shape) for name, z in blocks.items()}
    if len({shape[0] for shape in shapes.values()}) > 1 or not all(min(s) for s in shapes.values()):
        raise ValueError(f"subspaces hold the same utterances, at least one; got {shapes}")
    if form == "samples" and len({shape[1] for shape in shapes.values()}) > 1:
        raise ValueError(f"form 'samples' needs subspaces of equal width; got {shapes}")
    units = {name: unit(z) for name, z in blocks.items()}
    pairs: dict[str, Tensor] = {}
    for (left, z_j), (right, z_k) in combinations(units.items(), 2):
        with torch.autocast(z_j.device.type, enabled=False):
            shared = z_j.T @ z_k if form == "corrected" else z_j @ z_k.T
        pairs[f"{left}/{right}"] = shared.square().mean()
    total = torch.stack(list(pairs.values())).sum()
    return Orthogonality(total, {name: value.detach() for name, value in pairs.items()})
