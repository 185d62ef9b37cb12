"""Speaker networks on filter banks: light ResNets and ECAPA-TDNN. One vector a clip.

Light ResNet: ResNet34 with 16 channels, a 3x3 stem and no max-pooling (Chung et al. 2020; the
network of Cho et al. 2022). ECAPA-TDNN: Desplanques et al. 2020, arXiv 2005.07143.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refine.encoders.masked import BatchNorm, Mask, apply, mask_of, pool_of

STRIDES = (1, 2, 2, 2)
RES2_SCALE = 8  # groups of channels that pass their result on to the next


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = BatchNorm(width)
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.norm3 = BatchNorm(width)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """`x` is masked (batch, channels, mels, frames), `mask` that of the result."""
        y = apply(torch.relu(self.norm1(self.conv1(x), mask)), mask)
        y = self.norm2(self.conv2(y), mask)
        if self.shortcut is not None:
            x = self.norm3(self.shortcut(x), mask)
        return apply(torch.relu(x + y), mask)


class ResNet(nn.Module):
    """A light ResNet over time and frequency, pooled over time."""

    def __init__(self, blocks: tuple[int, ...], channels: int, dim: int, pooling: str, mels: int):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, 1, 1, bias=False)
        self.norm = BatchNorm(channels)
        self.stages = nn.ModuleList()
        width, rows = channels, mels
        for stage, (count, stride) in enumerate(zip(blocks, STRIDES, strict=True)):
            following = channels * 2**stage
            first = [Block(width, following, stride)]
            rest = [Block(following, following, 1) for _ in range(count - 1)]
            self.stages.append(nn.ModuleList(first + rest))
            width, rows = following, (rows - 1) // stride + 1
        self.pool = pool_of(pooling, width * rows)
        self.embedding = nn.Linear(2 * width * rows, dim)
        self.output = nn.BatchNorm1d(dim)

    def forward(
        self, features: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Embeddings of masked features."""
        x = features.transpose(1, 2)[:, None]  # (batch, 1, mels, frames)
        mask = mask_of(lengths, x.shape[-1], x.dtype)
        x = apply(torch.relu(self.norm(self.stem(x), mask)), mask)
        for stage, stride in zip(self.stages, STRIDES, strict=True):
            assert isinstance(stage, nn.ModuleList)
            if stride > 1:
                lengths = torch.div(lengths - 1, stride, rounding_mode="floor") + 1
                mask = mask_of(lengths, (x.shape[-1] - 1) // stride + 1, features.dtype)
            for block in stage:
                x = block(x, mask)
        pooled = self.pool(x.flatten(1, 2), lengths)  # (batch, 2 channels mels)
        return self.output(self.embedding(pooled).float())


class TDNN(nn.Module):
    """Dilated convolution over time, ReLU, batch normalisation."""

    def __init__(self, channels: int, width: int, kernel: int = 1, dilation: int = 1):
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv1d(channels, width, kernel, dilation=dilation, padding=padding)
        self.norm = BatchNorm(width)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        return apply(self.norm(torch.relu(self.conv(x)), mask), mask)


class SERes2Block(nn.Module):
    """1x1, Res2 convolution, 1x1, squeeze and excitation, beside a shortcut."""

    def __init__(self, channels: int, kernel: int, dilation: int):
        super().__init__()
        group, inner = channels // RES2_SCALE, max(channels // 4, 8)
        self.before = TDNN(channels, channels)
        self.groups = nn.ModuleList(
            TDNN(group, group, kernel, dilation) for _ in range(RES2_SCALE - 1)
        )
        self.after = TDNN(channels, channels)
        self.squeeze = nn.Linear(channels, inner)
        self.excite = nn.Linear(inner, channels)

    def forward(self, x: Tensor, mask: Mask, lengths: Int[Tensor, " batch"]) -> Tensor:
        first, *others = self.before(x, mask).chunk(RES2_SCALE, dim=1)
        parts = [first]
        for number, (group, part) in enumerate(zip(self.groups, others, strict=True)):
            parts.append(group(part + parts[-1] if number else part, mask))
        y = self.after(torch.cat(parts, dim=1), mask)
        mean = y.sum(-1) / lengths[:, None].to(y.dtype)  # padded frames are 0
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return x + y * gate[..., None]


class ECAPA(nn.Module):
    """ECAPA-TDNN: three dilated blocks whose results are joined and pooled."""

    def __init__(self, channels: int, dim: int, pooling: str, mels: int):
        super().__init__()
        if channels % RES2_SCALE:
            raise ValueError(f"channels: got {channels}; expected a multiple of {RES2_SCALE}")
        self.stem = TDNN(mels, channels, 5)
        self.blocks = nn.ModuleList(SERes2Block(channels, 3, dilation) for dilation in (2, 3, 4))
        self.join = nn.Conv1d(3 * channels, 3 * channels, 1)
        self.pool = pool_of(pooling, 3 * channels)
        self.norm = nn.BatchNorm1d(6 * channels)
        self.embedding = nn.Linear(6 * channels, dim)
        self.output = nn.BatchNorm1d(dim)

    def forward(
        self, features: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Embeddings of masked features."""
        x = features.transpose(1, 2)  # (batch, mels, frames)
        mask = mask_of(lengths, x.shape[-1], x.dtype)
        x = self.stem(x, mask)
        results = []
        for block in self.blocks:
            x = block(x, mask, lengths)
            results.append(x)
        joined = apply(torch.relu(self.join(torch.cat(results, dim=1))), mask)
        pooled = self.norm(self.pool(joined, lengths))
        return self.output(self.embedding(pooled).float())
