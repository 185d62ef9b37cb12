"""Building blocks of speaker networks that never look at padded frames.

A mask is (batch, 1, frames) of 0 and 1, or None where no clip of the batch is padded, which saves
its cost: the crops of a training are of one length.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refine.encoders.pooling import frame_mask, stats_pool

Mask = Float[Tensor, "batch 1 frames"] | None


def mask_of(lengths: Int[Tensor, " batch"], frames: int, dtype: torch.dtype) -> Mask:
    """The mask of clips of so many frames, or None where all are of full length."""
    if bool((lengths == frames).all()):
        return None
    return frame_mask(lengths, frames)[:, None].to(dtype)


def apply(x: Tensor, mask: Mask) -> Tensor:
    """Set padded frames (the last axis) to 0."""
    if mask is None:
        return x
    return x * (mask if x.ndim == 3 else mask[:, None]).to(x.dtype)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of (batch, channels, …, frames) whose statistics leave padding out."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch normalisation: got {input.ndim} axes; expected 2 or more")

    def forward(self, input: Tensor, mask: Mask = None) -> Tensor:
        if mask is None or not self.training:
            return super().forward(input)
        x = input.float()
        weight = (mask if x.ndim == 3 else mask[:, None]).float()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        count = weight.sum() * (x.numel() / (x.shape[0] * x.shape[1] * x.shape[-1]))
        mean = (x * weight).sum(axes, keepdim=True) / count
        variance = ((x - mean) * weight).square().sum(axes, keepdim=True) / count
        self._remember(mean.detach().flatten(), variance.detach().flatten(), count)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        normed = (x - mean) * torch.rsqrt(variance + self.eps)
        return (normed * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        momentum = self.momentum or 0.0
        unbiased = variance * count / (count - 1).clamp(min=1)
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            assert running is not None
            running.lerp_(value.to(running.dtype), momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)


class StatsPool(nn.Module):
    """Mean and standard deviation over the valid frames (Snyder et al. 2018)."""

    def forward(
        self, x: Float[Tensor, "batch channels frames"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch two_channels"]:
        return stats_pool(x.float().transpose(1, 2), lengths)


class AttentivePool(nn.Module):
    """Mean and deviation weighted by attention, a weight a channel and frame (ECAPA-TDNN)."""

    def __init__(self, channels: int, inner: int = 128):
        super().__init__()
        self.squeeze = nn.Conv1d(3 * channels, inner, 1)
        self.norm = BatchNorm(inner)
        self.expand = nn.Conv1d(inner, channels, 1)

    def forward(
        self, x: Float[Tensor, "batch channels frames"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch two_channels"]:
        frames, channels = x.shape[-1], x.shape[1]
        mask = mask_of(lengths, frames, x.dtype)
        context = stats_pool(x.float().transpose(1, 2), lengths)  # (batch, 2 channels)
        context = context[..., None].expand(-1, -1, frames).to(x.dtype)
        hidden = self.norm(torch.relu(self.squeeze(torch.cat([x, context], dim=1))), mask)
        scores = self.expand(torch.tanh(hidden)).float()  # (batch, channels, frames)
        if mask is not None:
            scores = scores.masked_fill(mask == 0, -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        x = x.float()
        mean = (weights * x).sum(-1)
        variance = (weights * (x - mean[..., None]).square()).sum(-1)
        pooled = torch.cat([mean, (variance + 1e-8).sqrt()], dim=-1)
        assert pooled.shape[-1] == 2 * channels
        return pooled


POOLS = ("stats", "attentive")


def pool_of(name: str, channels: int) -> nn.Module:
    """The pooling of that name. Raises `ValueError` naming those there are."""
    if name not in POOLS:
        raise ValueError(f"pooling: got {name!r}; expected {' or '.join(POOLS)}")
    return StatsPool() if name == "stats" else AttentivePool(channels)
