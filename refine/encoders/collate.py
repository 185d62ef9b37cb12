"""Waveforms of different lengths as one padded batch."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def pad(
    waveforms: Sequence[np.ndarray],
) -> tuple[Float[Tensor, "batch samples"], Int[Tensor, " batch"]]:
    """Zero-pad on the right to the longest clip. Returns the batch and the lengths in samples."""
    if not waveforms:
        raise ValueError("an empty batch cannot be padded; give at least one waveform")
    lengths = [len(waveform) for waveform in waveforms]
    batch = torch.zeros(len(waveforms), max(lengths))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    return batch, torch.tensor(lengths)
