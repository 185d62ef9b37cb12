"""The parts of a refined encoder on disk: projector, LoRA (PEFT's own files), changed weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refine.encoders import folder as folders
from refine.encoders import small as smalls
from refine.encoders import trainable
from refine.encoders.encoder import Encoder
from refine.encoders.folder import EncoderError
from refine.encoders.projector import Projector, ProjectorConfig, ProjectorError

SMALL = ("norms", "lora")  # what `trainable.choose` can set free and a small folder can hold


def refuse_small(encoder: Encoder, folder: Path) -> None:
    """Raise `ValueError` where a small folder cannot hold what was trained."""
    choice = encoder.choice
    if choice is not None and choice.train not in SMALL:
        raise ValueError(
            f"small: {choice.train} of {encoder.name} was trained, which no small folder holds; "
            "save it in full"
        )
    if choice is None and encoder.projector is None:
        raise ValueError(f"small: nothing of {encoder.name} differs from it; save it in full")
    if not encoder.info.chain:
        raise ValueError(f"small: {encoder.name} is on no disk to refer to; save it in full")
    if folder.resolve() in [place.resolve() for place in encoder.info.chain]:
        raise ValueError(f"small: {folder} is the encoder itself; save it to another folder")


def write(
    encoder: Encoder,
    temporary: Path,
    folder: Path,
    refinement: dict[str, Any] | None,
    small: bool,
    half: bool,
) -> None:
    """Add the parts and refine.json to an unfinished folder that will become `folder`."""
    told = dict(refinement or {})
    for name in ("parts", "projector", "subspaces"):  # those of another encoder
        told.pop(name, None)
    if small:
        told["base"] = smalls.reference(encoder.info, folder)
        _write_trained(encoder, temporary, told["base"]["name"], half)
    if encoder.projector is not None:
        save_tensors(encoder.projector.state_dict(), temporary / folders.PROJECTOR, half)
        told |= {
            "layer": encoder.layer,
            "pooling": encoder.pooling,
            "projector": encoder.projector.config.as_dict(),
            "subspaces": encoder.projector.config.blocks,
        }
    if small:
        told["parts"] = [name for name in folders.PARTS if (temporary / name).exists()]
    if told or refinement is not None:
        write_json(temporary / folders.REFINEMENT, told)


def restore(model: nn.Module, chain: Sequence[Path]) -> None:
    """Bring the network of `chain`[0] to what the small folders after it say, in place."""
    for folder in chain[1:]:
        present = [file.name for file in smalls.files(folder, folders.read_refinement(folder))]
        if folders.CHANGED in present:
            _restore_changed(model, folder / folders.CHANGED)
        if folders.ADAPTER in present:
            _restore_adapter(model, folder)


def read_projector(folder: Path) -> Projector | None:
    """The projector of a folder, or None. Raises `EncoderError` for a broken one."""
    content = folders.read_refinement(folder).get("projector")
    if not content:
        return None
    path = folder / folders.PROJECTOR
    try:
        projector = Projector(ProjectorConfig.from_dict(content))
    except ProjectorError as error:
        raise EncoderError(f"{folder / folders.REFINEMENT}: {error}") from error
    fill(projector, path)
    return projector.eval()


def fill(module: nn.Module, path: Path) -> None:
    """Load every weight of a module. Raises `EncoderError` where file and module differ."""
    state, own = _load(path), module.state_dict()
    if off := sorted(set(own) ^ set(state)):
        kind = "missing" if off[0] in own else "unknown"
        raise EncoderError(f"{path}: {off[0]} is {kind}; copy the folder again")
    _refuse_shapes(path, state, own)
    module.load_state_dict(state)


def _write_trained(encoder: Encoder, folder: Path, base: str, half: bool) -> None:
    choice = encoder.choice
    if choice is None:
        return
    if choice.train == "lora":
        save_tensors(trainable.adapter_state(encoder.model), folder / folders.ADAPTER, half)
        config = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": base,
            "bias": "none",
            "lora_dropout": 0.0,
            "inference_mode": True,
            **trainable.lora_config(choice.rank, choice.alpha),
        }
        write_json(folder / folders.ADAPTER_CONFIG, config)
    else:
        trained = {n: p for n, p in encoder.model.named_parameters() if p.requires_grad}
        save_tensors(trained, folder / folders.CHANGED, half=False)


def _restore_changed(model: nn.Module, path: Path) -> None:
    state, own = _load(path), dict(model.named_parameters())
    if unknown := sorted(set(state) - set(own)):
        raise EncoderError(f"{path}: its base has no weight {unknown[0]}; copy the folder again")
    _refuse_shapes(path, state, own)
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def _restore_adapter(model: nn.Module, folder: Path) -> None:
    path = folder / folders.ADAPTER
    state = _load(path)
    if not (folder / folders.ADAPTER_CONFIG).exists():
        raise EncoderError(f"{folder}: {folders.ADAPTER_CONFIG} is missing; copy the folder again")
    config = folders._read_json(folder / folders.ADAPTER_CONFIG)
    try:
        trainable.attach(model, config, state)
    except Exception as error:  # PEFT raises many kinds; each means the files do not fit
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise EncoderError(
            f"{path}: the LoRA does not fit its base ({reason[:200]}); copy the folder again"
        ) from error


def save_tensors(state: dict[str, Any], path: Path, half: bool) -> None:
    """Write tensors as safetensors, matrices in 16 bits where `half`."""
    tensors = {}
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        # gains, biases and statistics stay exact: they are few, and a variance may be large
        small = half and tensor.ndim >= 2 and tensor.is_floating_point()
        tensors[name] = tensor.half() if small else tensor.clone()
    save_file(tensors, path, {"format": "pt"})


def _load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file in 32 bits. Raises `EncoderError` where it is broken."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{path}: not a whole safetensors file; copy it again") from error
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = value.float()
            if not torch.isfinite(value).all():
                raise EncoderError(f"{path}: {name} holds NaN or infinite weights; copy it again")
    return state


def _refuse_shapes(path: Path, state: dict[str, Tensor], own: dict[str, Any]) -> None:
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise EncoderError(
                f"{path}: {name} is {list(value.shape)}, and {list(own[name].shape)} is expected; "
                "copy the folder again"
            )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object as readable JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
