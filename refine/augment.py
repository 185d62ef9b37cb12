"""Seeded, batched changes of waveforms: masks, crops, noise, reverberation, speed.

Every function takes padded waveforms with their lengths and a seed (or a `torch.Generator`), draws
on the CPU so that a GPU gives the same changes, and never touches its input. Samples beyond a
clip's length stay 0 and never take part.
"""

from collections.abc import Sequence
from fractions import Fraction

import torch
import torchaudio.functional as F
from jaxtyping import Float, Int
from torch import Tensor

QUIETEST = 1e-6  # peak of a sound; the energy of a quieter one is lost in float32
MASK_SHARE = 0.2  # of a clip's samples; Yang et al. 2022 set one block of this share to 0


def mask_span(
    waveforms: Float[Tensor, "batch samples"],
    lengths: Int[Tensor, " batch"],
    seed: int | torch.Generator,
    share: float = MASK_SHARE,
) -> Float[Tensor, "batch samples"]:
    """Set one contiguous block of every clip to 0: the "twin" of Yang et al. 2022.

    The block is `share` of the valid samples, its start uniform over the places where it fits.
    Raises: `ValueError` for a share outside (0, 1) or a length that is not in the batch.
    """
    _check(waveforms, lengths)
    if not 0 < share < 1:
        raise ValueError(f"share: got {share}; expected more than 0 and less than 1")
    count = lengths.cpu()
    width = (count * share).long().clamp(min=1)
    start = _uniform_start(count - width, seed)
    index = torch.arange(waveforms.shape[-1])[None, :]  # (1, samples)
    hidden = (index >= start[:, None]) & (index < (start + width)[:, None])
    return waveforms.masked_fill(hidden.to(waveforms.device), 0.0)


def crop(
    waveforms: Float[Tensor, "batch samples"],
    lengths: Int[Tensor, " batch"],
    samples: int,
    seed: int | torch.Generator,
) -> tuple[Float[Tensor, "batch cropped"], Int[Tensor, " batch"]]:
    """At most `samples` of every clip, its start uniform; a shorter clip stays whole."""
    _check(waveforms, lengths)
    if samples < 1:
        raise ValueError(f"samples: got {samples}; expected at least 1")
    kept = lengths.clamp(max=samples)
    start = _uniform_start((lengths - kept).cpu(), seed).to(waveforms.device)
    index = torch.arange(int(kept.max()), device=waveforms.device)[None, :]
    valid = index < kept[:, None]
    source = (start[:, None] + index).clamp(max=waveforms.shape[-1] - 1)
    return waveforms.gather(1, source) * valid, kept


def add_noise(
    waveforms: Float[Tensor, "batch samples"],
    lengths: Int[Tensor, " batch"],
    noise: Float[Tensor, "sounds noise"],
    snr_db: tuple[float, float],
    seed: int | torch.Generator,
) -> Float[Tensor, "batch samples"]:
    """Mix a stretch of background sound into every clip.

    Args:
        noise: sounds to draw from; a shorter one is repeated.
        snr_db: lowest and highest signal-to-noise ratio, drawn uniformly for each clip.
    Raises: `ValueError` for silent noise, whose ratio to speech is not defined.
    """
    _check(waveforms, lengths)
    low, high = snr_db
    if not low <= high:
        raise ValueError(f"snr_db: got {snr_db}; expected (lowest, highest)")
    if noise.numel() == 0 or bool((noise.abs().amax(-1) == 0).any()):
        raise ValueError("noise: a sound is empty or silent; leave it out")
    generator = _generator(seed)
    batch, samples = waveforms.shape
    which = torch.randint(len(noise), (batch,), generator=generator)
    start = torch.randint(noise.shape[-1], (batch,), generator=generator)
    index = (start[:, None] + torch.arange(samples)[None, :]) % noise.shape[-1]
    stretch = noise[which.to(noise.device)].gather(1, index.to(noise.device))
    stretch = stretch.to(waveforms) * _valid(waveforms, lengths)
    # a stretch may fall into a pause of the sound; a whisper of it keeps the ratio finite
    heard = stretch.abs().amax(-1, keepdim=True) > QUIETEST
    stretch = torch.where(heard, stretch, _hiss(stretch) * _valid(waveforms, lengths))
    ratio = low + (high - low) * torch.rand(batch, generator=generator)
    loud = waveforms.square().sum(-1, keepdim=True) > 0
    mixed = F.add_noise(waveforms, stretch, ratio.to(waveforms), lengths)
    return torch.where(loud, mixed, waveforms)


def reverberate(
    waveforms: Float[Tensor, "batch samples"],
    lengths: Int[Tensor, " batch"],
    impulses: Float[Tensor, "rooms taps"],
    seed: int | torch.Generator,
) -> Float[Tensor, "batch samples"]:
    """Convolve every clip with the impulse response of a room drawn from `impulses`.

    The direct path (the strongest tap) keeps its time and gets gain 1, so speech stays aligned and
    as loud as it was; the tail beyond the clip's end is cut.
    """
    _check(waveforms, lengths)
    if impulses.numel() == 0 or bool((impulses == 0).all(-1).any()):
        raise ValueError("impulses: a room has no direct path (all taps are 0); leave it out")
    delay = impulses.abs().argmax(-1)
    which = torch.randint(len(impulses), (len(waveforms),), generator=_generator(seed))
    which = which.to(impulses.device)
    rooms = (impulses / impulses.gather(1, delay[:, None]))[which].to(waveforms)
    wet = F.fftconvolve(waveforms * _valid(waveforms, lengths), rooms)
    index = delay[which].to(waveforms.device)[:, None] + torch.arange(
        waveforms.shape[-1], device=waveforms.device
    )
    return wet.gather(1, index) * _valid(waveforms, lengths)


def speed(
    waveforms: Float[Tensor, "batch samples"],
    lengths: Int[Tensor, " batch"],
    factors: Sequence[float],
    seed: int | torch.Generator,
) -> tuple[Float[Tensor, "batch changed"], Int[Tensor, " batch"]]:
    """Play every clip at a speed drawn from `factors`: 1.1 is faster, higher and shorter."""
    _check(waveforms, lengths)
    if not factors or not all(0.25 <= factor <= 4 for factor in factors):
        raise ValueError(f"factors: got {list(factors)}; expected speeds from 0.25 to 4")
    which = torch.randint(len(factors), (len(waveforms),), generator=_generator(seed)).tolist()
    changed = []
    for waveform, length, choice in zip(waveforms, lengths.tolist(), which, strict=True):
        ratio = Fraction(factors[choice]).limit_denominator(100)
        changed.append(F.resample(waveform[:length], ratio.numerator, ratio.denominator))
    return (
        torch.nn.utils.rnn.pad_sequence(changed, batch_first=True),
        torch.tensor([len(waveform) for waveform in changed], device=lengths.device),
    )


def _generator(seed: int | torch.Generator) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


def _uniform_start(room: Int[Tensor, " batch"], seed: int | torch.Generator) -> Tensor:
    """Uniform integers in [0, room], one a clip; float64 so that no sample is left out."""
    draw = torch.rand(len(room), generator=_generator(seed), dtype=torch.float64)
    return (draw * (room + 1)).long().clamp(max=room)


def _valid(waveforms: Tensor, lengths: Tensor) -> Tensor:
    index = torch.arange(waveforms.shape[-1], device=waveforms.device)
    return index[None, :] < lengths[:, None]  # (batch, samples)


def _hiss(like: Tensor) -> Tensor:
    """A fixed alternating sequence, standing in for a stretch of noise that is all zeros."""
    return torch.ones_like(like).cumsum(-1).remainder(2) * 2 - 1


def _check(waveforms: Tensor, lengths: Tensor) -> None:
    if len(waveforms) == 0 or len(waveforms) != len(lengths):
        raise ValueError(f"lengths: got {len(lengths)} for {len(waveforms)} clips")
    if int(lengths.min()) < 1 or int(lengths.max()) > waveforms.shape[-1]:
        raise ValueError(
            f"lengths: got {int(lengths.min())} to {int(lengths.max())} samples for a batch "
            f"{waveforms.shape[-1]} samples wide; expected 1 to {waveforms.shape[-1]}"
        )
