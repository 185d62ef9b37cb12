"""The network: a HuBERT whose first layer starts as an ear, its heads, and its losses."""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from pretrain.batches import Batch
from pretrain.crew import Crew
from pretrain.targets import log_mel
from refine.audio import SAMPLE_RATE

KERNEL = 640  # samples, 40 ms
STRIDE = 160  # samples, 10 ms
CHANNELS = 256
PITCH_FILTERS = 14  # 70 to 500 Hz, 40 ms long: they see the voice's pitch itself
MEL_FILTERS = 46  # 100 to 7600 Hz, as long as their bandwidth asks for


class Losses(NamedTuple):
    """Every part of one step's loss; `total` is their weighted sum."""

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


def configuration(width: int = 256, layers: int = 6) -> HubertConfig:
    """A pre-norm HuBERT with 50 frames a second (strides 160 × 1 × 2 = 320)."""
    return HubertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        intermediate_size=4 * width,
        conv_dim=(CHANNELS, width, width),
        conv_kernel=(KERNEL, 1, 3),
        conv_stride=(STRIDE, 1, 2),
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=16,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.05,  # > 0 keeps the mask embedding among the weights
        apply_spec_augment=True,
        vocab_size=32,
    )


def ear_filters() -> tuple[torch.Tensor, torch.Tensor]:
    """First-layer weights (256, 1, 640) and biases (256,): Gabor filters in four phases.

    GELU of the four phases sums to about the magnitude in the band, whatever the phase. Filters
    are pre-emphasised by 3 dB an octave. The last 16 channels are constants: after the layer norm
    they tell how loud the frame is beside the recording's mean (0 dB).
    """
    low, high = (2595 * np.log10(1 + f / 700) for f in (110.0, 7300.0))
    mel = np.linspace(low, high, MEL_FILTERS)
    centres = np.concatenate([np.geomspace(70, 500, PITCH_FILTERS), 700 * (10 ** (mel / 2595) - 1)])
    widths = np.concatenate(
        [np.full(PITCH_FILTERS, 40.0), np.maximum(0.9 * np.gradient(centres[PITCH_FILTERS:]), 70)]
    )  # Hz
    time = (np.arange(KERNEL) - (KERNEL - 1) / 2) / SAMPLE_RATE
    rows = []
    for centre, width in zip(centres, widths, strict=True):
        window = np.exp(-0.5 * (time * 2 * np.pi * width / 2.0) ** 2) * np.hanning(KERNEL)
        window *= np.sqrt(centre / 1000.0) / np.sqrt((window**2).sum())
        for phase in (0.0, 0.5, 1.0, 1.5):
            rows.append(window * np.cos(2 * np.pi * centre * time + np.pi * phase))
    biases = np.zeros(CHANNELS)
    constants = CHANNELS - len(rows)
    biases[len(rows) :] = np.geomspace(0.01, 3.0, constants) * (-1.0) ** np.arange(constants)
    weights = np.zeros((CHANNELS, 1, KERNEL))
    weights[: len(rows), 0] = np.stack(rows)
    return torch.tensor(weights).float(), torch.tensor(biases).float()


def build(width: int, layers: int, seed: int) -> HubertModel:
    """A new network: transformers' initialisation, then the ear in its first layer."""
    torch.manual_seed(seed)
    model = HubertModel(configuration(width, layers))
    first: Any = model.feature_extractor.conv_layers[0]
    weights, biases = ear_filters()
    with torch.no_grad():
        first.conv.weight.copy_(weights)
        first.conv.bias.copy_(biases)
        first.layer_norm.weight.fill_(3.0)
    return model


def log_mel_error(model: HubertModel, waveforms: torch.Tensor, readout: nn.Linear) -> torch.Tensor:
    """Error of the log-mel energies read from the convolutions, over their variance (1 - R²)."""
    with torch.no_grad():
        mel = log_mel(F.pad(waveforms, (0, 400)))
        mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 14.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = model.feature_extractor(waveforms).transpose(1, 2)  # (batch, frames, width)
        features = model.feature_projection.layer_norm(features)
    guess = readout(features.float())
    frames = guess.shape[1]
    wanted = mel[:, : 2 * frames].reshape(len(mel), frames, -1)
    variance = (wanted - wanted.mean((0, 1))).square().mean()
    error = (guess - wanted).square().mean()
    return error / variance


def spectrum_error(
    hidden: torch.Tensor, waveforms: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Squared error of the first channels of `hidden` against the log-mel energies as heard.

    The channels themselves must be the energies, standardised over the crops (no readout is
    learned), so that their mean and deviation over time are the long-term spectrum a voice and
    its microphone are known by. Hidden frames count 0. (batch, frames, dim) → (batch, frames).
    """
    with torch.no_grad():
        mel = log_mel(F.pad(waveforms, (0, 400)))
        mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 14.0)[:, : 2 * hidden.shape[1]]
        mel = mel.unflatten(1, (-1, 2)).mean(2)  # two rows of 10 ms a frame
        wanted = (mel - mel.mean((0, 1))) / (mel.std((0, 1)) + 1e-3)
    error = (hidden[..., : wanted.shape[-1]].float() - wanted).square().mean(-1)
    return error * ~mask


class Heads(nn.Module):
    """What is thrown away after pretraining: one linear classifier a codebook, one projection."""

    def __init__(self, width: int, clusters: dict[str, int]) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in clusters})
        self.classifiers = nn.ModuleDict({n: nn.Linear(width, k) for n, k in clusters.items()})
        self.words = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 128))


def info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent of two views, (pairs, dim) each; the other 2 (pairs - 1) rows are the negatives.

    Raises: ValueError for fewer than two pairs.
    """
    if len(first) < 2 or first.shape != second.shape:
        raise ValueError(f"two equal views of at least 2 rows, got {first.shape}, {second.shape}")
    rows = F.normalize(torch.cat([first, second]).float(), dim=-1)
    similar = rows @ rows.T / temperature
    similar.fill_diagonal_(-torch.inf)
    partner = torch.arange(len(rows)).roll(len(first))
    return F.cross_entropy(similar, partner)


def pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the frames the network was shown. (batch, frames, dim) → (batch, dim)."""
    seen = (~mask).unsqueeze(-1).float()
    return (hidden.float() * seen).sum(1) / seen.sum(1).clamp(min=1)


def losses(
    model: HubertModel,
    heads: Heads,
    batch: Batch,
    weights: dict[str, float],
    layers: dict[str, int],
    crew: Crew,
    temperature: float = 0.1,
    seen_weight: float = 0.25,
) -> Losses:
    """Masked prediction of each codebook, and agreement of the two views.

    `weights` and `layers` name the codebooks, "spectrum", "voice", "words". Codebooks of the voice
    ("timbre", "prosody") are asked only of crops whose speed and pitch are the recording's own.
    The losses of a crew's processes add up to the batch's.
    """
    own = crew.part(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(own.waveforms, mask_time_indices=own.mask, output_hidden_states=True)
    states = output.hidden_states
    parts: dict[str, torch.Tensor] = {}
    for name, labels in own.labels.items():
        hidden = heads.norms[name](states[layers[name]].float())
        scores = heads.classifiers[name](hidden)
        loss = F.cross_entropy(scores.transpose(1, 2), labels, ignore_index=-100, reduction="none")
        asked = frame_weights(batch, name, seen_weight).sum().clamp(min=1)
        parts[name] = (loss * frame_weights(own, name, seen_weight)).sum() / asked
    if weights["spectrum"]:
        error = spectrum_error(states[layers["spectrum"]], own.waveforms, own.mask)
        parts["spectrum"] = error.sum() / (~batch.mask).sum()
    pooled = pool(states[layers[batch.kind]], own.mask)
    pooled = heads.words(pooled) if batch.kind == "words" else pooled
    pooled = crew.gather(pooled.float(), len(batch.waveforms))
    pooled = pooled if batch.kind == "words" else pooled - pooled.mean(0)
    one, other = pooled.chunk(2)
    agreement = info_nce(one, other, temperature)
    total = torch.stack([weights[name] * loss for name, loss in parts.items()]).sum()
    # every process has the whole agreement, and its gradient for its own rows
    return Losses(total + weights[batch.kind] * agreement, parts | {batch.kind: agreement})


def frame_weights(batch: Batch, name: str, seen_weight: float) -> torch.Tensor:
    """How much each frame counts for a codebook, (batch, frames)."""
    found = torch.where(batch.mask, 1.0, seen_weight) * (batch.labels[name] >= 0)
    if name in ("timbre", "prosody"):
        found = found * (~batch.altered).unsqueeze(1)
    return found


def export(model: HubertModel, folder: Path) -> None:
    """Write config.json, model.safetensors (halves) and preprocessor_config.json, atomically."""
    staging = folder / ".staging"
    staging.mkdir(parents=True, exist_ok=True)
    copy = HubertModel(deepcopy(model.config))
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(staging)
    copy.config.apply_spec_augment = False  # no masking unless it is asked for
    copy.config.dtype = "float32"  # stored in halves, opened in full precision
    copy.config.save_pretrained(staging)
    Wav2Vec2FeatureExtractor(
        sampling_rate=SAMPLE_RATE, do_normalize=True, return_attention_mask=True
    ).save_pretrained(staging)
    for file in sorted(staging.iterdir()):
        file.chmod(0o644)  # safetensors writes for its owner alone
        os.replace(file, folder / file.name)
    staging.rmdir()
