"""Make padding harmless in `transformers` speech encoders.

Two places of the published networks look beyond the end of a clip even with an attention mask: the
group norm of the first convolution averages over time, and data2vec's stacked positional
convolutions pass padded frames from one layer to the next. Both are made to see the clip alone.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refine.encoders.pooling import frame_mask


class MaskedGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` with one channel a group whose statistics leave out the padded frames."""

    lengths: Int[Tensor, " batch"] | None = None

    @classmethod
    def of(cls, norm: nn.GroupNorm) -> "MaskedGroupNorm":
        """The same norm, sharing its parameters under the same names."""
        masked = cls(norm.num_groups, norm.num_channels, norm.eps, norm.affine)
        masked.weight, masked.bias = norm.weight, norm.bias
        return masked

    def forward(
        self, input: Float[Tensor, "batch channels frames"]
    ) -> Float[Tensor, "batch channels frames"]:
        if self.lengths is None:
            return super().forward(input)
        # float32: half precision loses the variance of a thousand frames
        values = input.float()
        mask = frame_mask(self.lengths, input.shape[-1])[:, None, :]
        count = self.lengths[:, None, None].float()
        mean = (values * mask).sum(-1, keepdim=True) / count
        variance = ((values - mean) * mask).square().sum(-1, keepdim=True) / count
        normed = (values - mean) / (variance + self.eps).sqrt()
        return (normed * self.weight[:, None] + self.bias[:, None]).to(input.dtype)


class PaddingGuard:
    """Patches a model once; told the lengths before each forward pass."""

    def __init__(self, model: Any):
        self.norm: MaskedGroupNorm | None = None
        self.frames: Int[Tensor, " batch"] | None = None
        convolutions = model.feature_extractor.conv_layers
        self.kernel, self.stride = model.config.conv_kernel[0], model.config.conv_stride[0]
        norm = getattr(convolutions[0], "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            self.norm = convolutions[0].layer_norm = MaskedGroupNorm.of(norm)
        embedding = model.encoder.pos_conv_embed
        for layer in getattr(embedding, "layers", []):
            layer.register_forward_hook(self._zero_padded)

    def tell(self, samples: Int[Tensor, " batch"], frames: Int[Tensor, " batch"]) -> None:
        """Lengths of the coming batch, in samples and in encoder frames."""
        self.frames = frames
        if self.norm is not None:
            self.norm.lengths = torch.div(samples - self.kernel, self.stride, rounding_mode="floor")
            self.norm.lengths += 1

    def _zero_padded(self, _layer: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        # (batch, dim, frames); a batch of one is zero-padded by the next convolution itself
        if self.frames is None:
            return output
        return output * frame_mask(self.frames, output.shape[-1])[:, None, :].to(output.dtype)
