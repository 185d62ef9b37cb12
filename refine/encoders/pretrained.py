"""Pretrained transformer encoders: wav2vec 2.0, HuBERT, WavLM, data2vec-audio.

encoder = refine.encoders.load("mini")
hidden = encoder.encode(waveforms, lengths)      # states of every layer, frame lengths
"""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refine.audio import MAX_SAMPLES
from refine.encoders import folder as folders
from refine.encoders.folder import EncoderError
from refine.encoders.padding import PaddingGuard
from refine.encoders.pooling import POOLINGS, frame_mask

Precision = Literal["auto", "fp32", "bf16"]
Layer = int | str  # an index, "mean" of all hidden states, or "all"

# from here on bf16 pays for its rounding; a small encoder is fast enough in float32
BF16_FROM_PARAMETERS = 30_000_000
# never used as features; checkpoints published without it are whole
OPTIONAL_WEIGHTS = frozenset({"masked_spec_embed"})


class Hidden(NamedTuple):
    """Hidden states of every layer and how many frames of each clip are speech."""

    states: Float[Tensor, "layers batch frames dim"]
    lengths: Int[Tensor, " batch"]


class Encoder(nn.Module):
    """A pretrained speech encoder with one interface whatever its family.

    Padding never changes a result: a clip alone equals the clip in a batch to 1e-5 (float32).
    """

    model: Any  # a transformers model; torch types the attributes of a module as Tensor | Module

    def __init__(self, model: nn.Module, info: folders.EncoderInfo, precision: Precision = "auto"):
        super().__init__()
        self.model = model
        self.info = info
        self.name, self.fingerprint = info.name, info.fingerprint
        self.dim, self.n_layers = info.dim, info.n_layers
        self.layer: Layer = info.refinement.get("layer", "mean")
        self.pooling: str = info.refinement.get("pooling", "mean")
        self.normalise = _normalises(info.folder)
        self.bf16 = _use_bf16(precision, info.parameters)
        self._guard = PaddingGuard(model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def min_samples(self) -> int:
        """The receptive field of one frame, in samples: the shortest clip that can be encoded."""
        field = 1
        config = self.model.config
        for kernel, stride in zip(
            reversed(config.conv_kernel), reversed(config.conv_stride), strict=True
        ):
            field = (field - 1) * stride + kernel
        return field

    @property
    def max_samples(self) -> int:
        """The longest clip that is encoded in one piece, in samples."""
        return MAX_SAMPLES

    def frame_lengths(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Frames of clips of so many samples."""
        return self.model._get_feat_extract_output_lengths(lengths).long()

    def encode(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Hidden:
        """Hidden states of every layer. Gradient flows where it is enabled.

        Args:
            waveforms: 16 kHz mono in [-1, 1], zero-padded on the right.
            lengths: valid samples of each clip.
        Raises: `ValueError` for a clip shorter than `min_samples`.
        """
        shortest = int(lengths.min())
        if shortest < self.min_samples:
            raise ValueError(
                f"a clip of {shortest} samples is shorter than one frame of {self.name} "
                f"({self.min_samples} samples); leave it out"
            )
        waveforms, lengths = waveforms.to(self.device), lengths.to(self.device)
        valid = frame_mask(lengths, waveforms.shape[-1])
        frames = self.frame_lengths(lengths)
        self._guard.tell(lengths, frames)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.model(
                _normalised(waveforms, valid, lengths) if self.normalise else waveforms * valid,
                attention_mask=valid.long(),
                output_hidden_states=True,
            )
        return Hidden(torch.stack([state.float() for state in output.hidden_states]), frames)

    def embed(
        self,
        waveforms: Float[Tensor, "batch samples"],
        lengths: Int[Tensor, " batch"],
        layer: Layer | None = None,
        pooling: str | None = None,
    ) -> Float[Tensor, "*layers batch dims"]:
        """One vector a clip: `layer` (an index, "mean" of all, or "all") pooled over time."""
        hidden = self.encode(waveforms, lengths)
        pool = POOLINGS[pooling or self.pooling]
        states = select_layer(hidden.states, self.layer if layer is None else layer)
        return pool(states, hidden.lengths)

    def save(self, folder: Path, refinement: dict[str, Any] | None = None) -> None:
        """Write a `save_pretrained` folder (safetensors), with refine.json when it was refined."""
        folder = Path(folder)
        temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self.model.save_pretrained(temporary)
            processor = {**_processor(self.info.folder), "do_normalize": self.normalise}
            _write_json(temporary / "preprocessor_config.json", processor)
            if refinement is not None:
                _write_json(temporary / folders.REFINEMENT, refinement)
            folders.replace_folder(temporary, folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise OSError(
                error.errno, f"{folder}: could not be written ({error.strerror})"
            ) from error


def select_layer(
    states: Float[Tensor, "layers batch frames dim"], layer: Layer
) -> Float[Tensor, "*layers batch frames dim"]:
    """One hidden state, the mean of all, or all of them."""
    if layer == "all":
        return states
    if layer == "mean":
        return states.mean(0)
    if not isinstance(layer, int) or not -len(states) <= layer < len(states):
        raise ValueError(f"layer: got {layer!r}; expected 0 to {len(states) - 1}, 'mean' or 'all'")
    return states[layer]


def load(
    name: str | Path, *, device: str | torch.device | None = None, precision: Precision = "auto"
) -> Encoder:
    """Open an encoder: "mini", a hub name, a `save_pretrained` folder, or a run.

    Raises: `EncoderError` with one sentence when there is none, it is broken or not supported.
    """
    if folders.locate(name) is None:
        _mirror_from_hub(str(name))
    info = folders.peek(name)
    model = _read_model(info.folder)
    # WavLM mixes mask types by design
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    # masking and layer dropping belong to pretraining; a dropped layer has no hidden state
    model.config.apply_spec_augment = False
    model.config.layerdrop = 0.0
    encoder = Encoder(model.eval(), info, precision)
    return encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _read_model(folder: Path) -> Any:
    from transformers import AutoModel

    try:
        with warnings.catch_warnings(), _quiet_transformers():
            warnings.simplefilter("ignore")
            model, report = AutoModel.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises many kinds; each means the folder is broken
        raise EncoderError(
            f"{folder}: could not be loaded ({_first_line(error)}); save or copy it again"
        ) from error
    missing = sorted(set(report["missing_keys"]) - OPTIONAL_WEIGHTS)
    mismatched = sorted(str(key[0]) for key in report["mismatched_keys"])
    if missing or mismatched:
        kind, keys = ("missing", missing) if missing else ("of another shape", mismatched)
        raise EncoderError(
            f"{folder}: {len(keys)} weights are {kind} (first: {keys[0]}), so it would be "
            "partly random; save the whole model again"
        )
    broken = [key for key, value in model.named_parameters() if not torch.isfinite(value).all()]
    if broken:
        raise EncoderError(f"{folder}: {broken[0]} holds NaN or infinite weights; copy it again")
    return model


def _mirror_from_hub(name: str) -> None:
    """Fetch a hub checkpoint once, as safetensors only, into a local `save_pretrained` folder."""
    from transformers import AutoFeatureExtractor, AutoModel

    mirror = folders.hub_mirror(name)
    temporary = mirror.with_name(f".{mirror.name}.tmp-{os.getpid()}")
    try:
        with _quiet_transformers():
            # the hub's own converter serves safetensors where a repository has only pickles
            AutoModel.from_pretrained(name, use_safetensors=True).save_pretrained(temporary)
            AutoFeatureExtractor.from_pretrained(name).save_pretrained(temporary)
        folders.replace_folder(temporary, mirror)
    except Exception as error:  # network, name, format: one sentence each way
        shutil.rmtree(temporary, ignore_errors=True)
        raise EncoderError(
            f"{name}: no local folder or run of that name, and it could not be fetched from the "
            f"hub ({_first_line(error)}); check the name and the connection, or give a folder"
        ) from error


class _quiet_transformers:
    """Silence the load report of `transformers`: what it says is checked and raised here."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.level = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self.level)


def _normalised(
    waveforms: Float[Tensor, "batch samples"], valid: Tensor, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch samples"]:
    """Zero mean, unit variance over the valid samples, as the published feature extractors do."""
    count = lengths[:, None].to(waveforms.dtype)
    mean = (waveforms * valid).sum(-1, keepdim=True) / count
    centred = (waveforms - mean) * valid
    return centred / (centred.square().sum(-1, keepdim=True) / count + 1e-7).sqrt()


def _processor(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    defaults = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16_000,
    }
    return {**defaults, **(folders._read_json(path) if path.exists() else {})}


def _normalises(folder: Path) -> bool:
    """Whether the encoder was trained on normalised waveforms (preprocessor_config.json)."""
    return bool(_processor(folder).get("do_normalize", True))


def _use_bf16(precision: Precision, parameters: int) -> bool:
    if precision != "auto":
        return precision == "bf16"
    return parameters >= BF16_FROM_PARAMETERS and has_bf16()


def has_bf16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (GPU, AVX-512 BF16, AMX)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
