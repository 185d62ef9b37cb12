"""Checkpoints of a training: everything that a bit-exact resume needs, nothing pickled.

    checkpoints/step-000100/
      state.safetensors   weights and buffers, optimiser moments, random generators
      state.json          step, optimiser groups, scalars of the generators
      encoder/            what the recipe adds through `extra`, so that pages can open it

A checkpoint is written beside its place, flushed to the disk and renamed, so that a crash or a full
disk leaves the earlier one as it was.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refine import faults

KEPT = 2  # checkpoints of a run; the one before last survives a damaged last one
TENSORS, SCALARS = "state.safetensors", "state.json"


class CheckpointError(ValueError):
    """A checkpoint that could not be saved or read. The message says what to do."""


def newest(folder: Path) -> tuple[int, Path] | None:
    """Step and folder of the newest whole checkpoint below `folder`, or None."""
    found = steps(folder)
    return found[-1] if found else None


def steps(folder: Path) -> list[tuple[int, Path]]:
    """Every whole checkpoint below `folder`, oldest first."""
    whole = [path for path in folder.glob("step-*") if (path / SCALARS).exists()]
    return sorted((int(path.name.removeprefix("step-")), path) for path in whole)


def save(
    folder: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """Write `folder`/step-NNNNNN, then forget all but the last two.

    Args:
        extra: called with the unfinished folder, to add files to it.
    Raises: `CheckpointError`; the earlier checkpoints are then untouched.
    """
    before = newest(folder)
    target, temporary = folder / f"step-{step:06d}", folder / f".step-{step:06d}.tmp"
    tensors, scalars = _collect(module, optimizer)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(_unshared(tensors), temporary / TENSORS)
        (temporary / SCALARS).write_text(json.dumps({"step": step, **scalars}), encoding="utf-8")
        if extra is not None:
            extra(temporary)
        flush(temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        _flush_folder(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        needed = _bytes(tensors) + (_bytes(module.state_dict()) if extra else 0)
        reason = describe(error, needed, free)
        way = f"resume from step {before[0]}" if before else "start again"
        raise CheckpointError(
            f"checkpoint at step {step} could not be saved: {reason} and {way}"
        ) from error
    for _, path in steps(folder)[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
    return target


def restore_newest(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put back the newest checkpoint that can be read. Returns its step.

    A damaged newer one is removed then, for what it held is computed again.
    Raises: `CheckpointError` of the newest one when none can be read.
    """
    first: CheckpointError | None = None
    damaged = []
    for _, path in reversed(steps(folder)):
        try:
            step = restore(path, module, optimizer)
        except CheckpointError as error:
            first = first or error
            damaged.append(path)
            continue
        for worse in damaged:
            shutil.rmtree(worse, ignore_errors=True)
        return step
    raise first or CheckpointError(f"{folder}: there is no checkpoint; start again")


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint back into module, optimiser and random generators. Returns its step."""
    try:
        tensors = load_file(path / TENSORS)
        scalars = json.loads((path / SCALARS).read_text(encoding="utf-8"))
        module.load_state_dict(_below(tensors, "module."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": scalars["groups"]})
        _restore_generators(_below(tensors, "random."), scalars)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise CheckpointError(
            f"{path}: this checkpoint cannot be resumed ({reason}); start a new run"
        ) from error
    return int(scalars["step"])


def describe(error: Exception, needed: int | None, free: int) -> str:
    """Half a sentence for a failed write, ending in what to do. Sizes in bytes."""
    if is_full(error):
        asked = "" if needed is None else f"{needed / 1e6:.1f} MB needed, "
        return f"the disk is full ({asked}{free / 1e6:.1f} MB free); free space"
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return f"{reason}; make the run folder writable"


def is_full(error: BaseException) -> bool:
    """Whether the disk is full; a limit on file size looks the same to the user."""
    return faults.is_full(error) or "File too large" in str(error)


def _collect(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = optimizer.state_dict()
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    for index, moments in state["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
    kind, words, gauss = random.getstate()
    # transformers draws from numpy's global generator
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    tensors["random.python"] = torch.tensor(words, dtype=torch.int64)
    tensors["random.numpy"] = torch.from_numpy(legacy["state"]["key"].astype(np.int64))
    tensors["random.torch"] = torch.get_rng_state()
    for index, value in enumerate(torch.cuda.get_rng_state_all()):
        tensors[f"random.cuda{index}"] = value
    return tensors, {
        "groups": state["param_groups"],
        "python": [kind, gauss],
        "numpy": [legacy["state"]["pos"], legacy["has_gauss"], legacy["gauss"]],
    }


def _restore_generators(tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    kind, gauss = scalars["python"]
    random.setstate((kind, tuple(tensors["python"].tolist()), gauss))
    position, has_gauss, gauss = scalars["numpy"]
    key = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    for index in range(torch.cuda.device_count()):
        if f"cuda{index}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda{index}"], index)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, none twice: safetensors refuses tied weights."""
    seen: set[int] = set()
    own = {}
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        own[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return own


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())


def flush(folder: Path) -> None:
    """Make every file and folder below `folder` durable before it is renamed."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        else:
            _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and needs no flush of one
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
