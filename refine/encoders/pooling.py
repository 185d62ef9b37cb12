"""Masked pooling over time: a padded frame never counts."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def frame_mask(lengths: Int[Tensor, " batch"], frames: int) -> Bool[Tensor, "batch frames"]:
    """True where a frame is speech, False where it is padding."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def mean_pool(
    states: Float[Tensor, "*layers batch frames dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "*layers batch dim"]:
    """Mean over the valid frames. Raises `ValueError` for a clip without a frame."""
    _refuse_empty(lengths)
    mask = frame_mask(lengths, states.shape[-2])[..., None].to(states.dtype)  # (batch, frames, 1)
    return (states * mask).sum(-2) / lengths[:, None].to(states.dtype)


def stats_pool(
    states: Float[Tensor, "*layers batch frames dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "*layers batch dims"]:
    """Mean and standard deviation over the valid frames, concatenated: `dims` = 2 `dim`.

    The deviation is the biased one (a clip of one frame has 0), as in x-vector statistics pooling
    (Snyder et al. 2018), with 1e-8 under the root so that its gradient stays finite.
    """
    mean = mean_pool(states, lengths)
    mask = frame_mask(lengths, states.shape[-2])[..., None].to(states.dtype)
    squares = ((states - mean[..., None, :]) * mask).square().sum(-2)
    variance = squares / lengths[:, None].to(states.dtype)
    return torch.cat([mean, (variance + 1e-8).sqrt()], dim=-1)


def _refuse_empty(lengths: Int[Tensor, " batch"]) -> None:
    if bool((lengths < 1).any()):
        raise ValueError(f"a clip without a frame cannot be pooled; lengths are {lengths.tolist()}")


POOLINGS = {"mean": mean_pool, "stats": stats_pool}
