"""Pretrained transformer encoders: wav2vec 2.0, HuBERT, WavLM, data2vec-audio.

encoder = refine.encoders.load("mini")
hidden = encoder.encode(waveforms, lengths)      # states of every layer, frame lengths
"""

import copy
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refine.encoders import folder as folders
from refine.encoders import parts, small, trainable
from refine.encoders.encoder import (
    Encoder,
    Hidden,
    Layer,
    Precision,
    has_bf16,
    select_layer,
)
from refine.encoders.folder import EncoderError
from refine.encoders.padding import PaddingGuard
from refine.encoders.pooling import frame_mask
from refine.encoders.speaker import SpeakerNetwork, build, read_speaker

__all__ = ["Encoder", "Hidden", "Layer", "Precision", "has_bf16", "load", "select_layer"]

# never used as features; checkpoints published without it are whole
OPTIONAL_WEIGHTS = frozenset({"masked_spec_embed"})


class Transformer(Encoder):
    """A transformer of wav2vec 2.0, HuBERT, WavLM or data2vec-audio."""

    def __init__(self, model: nn.Module, info: folders.EncoderInfo, precision: Precision = "auto"):
        super().__init__(model, info, precision)
        self.normalise = _normalises(info.chain[0])
        self._guard = PaddingGuard(model)

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

    def frame_lengths(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Frames of clips of so many samples."""
        return self.model._get_feat_extract_output_lengths(lengths).long()

    def encode(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Hidden:
        """Hidden states of every layer, the input of the first one included; see `Encoder`."""
        self._refuse_short(lengths)
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

    def _write(self, folder: Path, half: bool) -> None:
        model = trainable.merged(self.model)
        if half:
            model = copy.deepcopy(model).half()
        model.save_pretrained(folder)
        processor = {**_processor(self.info.chain[0]), "do_normalize": self.normalise}
        parts.write_json(folder / "preprocessor_config.json", processor)


def load(
    name: str | Path, *, device: str | torch.device | None = None, precision: Precision = "auto"
) -> Encoder:
    """Open an encoder: "mini", a hub name, a `save_pretrained` folder, a run, a speaker network.

    A small folder is put onto its base; a LoRA is then part of the weights.
    Raises: `EncoderError` with one sentence when there is none, it is broken, not supported, or its
        base is gone or has changed.
    """
    if folders.locate(name) is None and str(name) not in folders.NETWORKS:
        _mirror_from_hub(str(name))
    try:
        info = folders.peek(name)
    except small.NotDownloaded as error:
        _mirror_from_hub(error.hub, f"{name}: its base ")
        info = folders.peek(name)
    encoder = _open(info, precision)
    if info.chain:
        parts.restore(encoder.model, info.chain)
        encoder.projector = parts.read_projector(info.folder)
    return encoder.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _open(info: folders.EncoderInfo, precision: Precision) -> Encoder:
    """The whole network at the start of the chain."""
    if not info.chain:
        return build(info.name, precision=precision)
    if folders.read_config(info.chain[0])["model_type"] == folders.SPEAKER:
        return SpeakerNetwork(read_speaker(info.chain[0]), info, precision)
    model = _read_model(info.chain[0])
    # WavLM mixes mask types by design
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    # masking and layer dropping belong to pretraining; a dropped layer has no hidden state
    model.config.apply_spec_augment = False
    model.config.layerdrop = 0.0
    return Transformer(model.eval(), info, precision)


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


def _mirror_from_hub(name: str, what: str = "") -> None:
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
            f"{what}{name}: no local folder or run of that name, and it could not be fetched from "
            f"the hub ({_first_line(error)}); check the name and the connection, or give a folder"
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
