"""Encoder folders without torch: where a name points, what is inside, its fingerprint.

Pages and jobs describe encoders with this module alone, so that they open without loading torch.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from refine import paths

FAMILIES = {
    "wav2vec2": "wav2vec 2.0",
    "hubert": "HuBERT",
    "wavlm": "WavLM",
    "data2vec-audio": "data2vec",
}
REFINEMENT = "refine.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class EncoderError(ValueError):
    """An encoder that cannot be opened. The message names the folder or file and what to do."""


@dataclass(frozen=True)
class EncoderInfo:
    """What an encoder folder says of itself."""

    name: str
    folder: Path
    family: str  # "HuBERT", "wav2vec 2.0", …
    dim: int  # width of one hidden state
    n_layers: int  # hidden states, the input of the first layer included
    parameters: int
    fingerprint: str
    refinement: dict[str, Any]  # contents of refine.json; empty for an encoder as published

    @property
    def recipe(self) -> str | None:
        """The recipe that refined it, or None."""
        return self.refinement.get("recipe")

    @property
    def base(self) -> str | None:
        """The name of the encoder it was refined from, or None."""
        return (self.refinement.get("base") or {}).get("name")


def locate(name: str | Path) -> Path | None:
    """The local folder a name points to, or None when it can only be a name on the hub.

    A name is "mini", a shipped encoder, a run (id or folder), a `save_pretrained` folder, or a hub
    name whose local copy exists. Raises `EncoderError` for a run without a checkpoint and for a
    path that is not there.
    """
    text = str(name)
    for folder in (Path(text).expanduser(), paths.runs() / text, paths.ASSETS / "encoders" / text):
        if folder.is_dir() and text:
            return _checkpoint(folder) if _is_run(folder) else folder.resolve()
    mirror = hub_mirror(text)
    if mirror.is_dir():
        return mirror
    if text.count("/") > 1 or text.startswith((".", "/", "~", "runs/", "assets/")) or "\\" in text:
        raise EncoderError(f"{text}: no such encoder folder; check the path")
    return None


def peek(name: str | Path) -> EncoderInfo:
    """Describe an encoder without loading it. Raises `EncoderError` with one sentence."""
    folder = locate(name)
    if folder is None:
        raise EncoderError(
            f"{name}: not downloaded yet, and no folder of that name; "
            "it is fetched from the hub when it is first loaded"
        )
    config = read_config(folder)
    weights = weight_files(folder)
    return EncoderInfo(
        name=str(name),
        folder=folder,
        family=FAMILIES[config["model_type"]],
        dim=int(config["hidden_size"]),
        n_layers=int(config["num_hidden_layers"]) + 1,
        parameters=sum(_parameters(path) for path in weights),
        fingerprint=fingerprint(folder),
        refinement=read_refinement(folder),
    )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a `save_pretrained` folder, checked to be a family that refine knows."""
    path = folder / "config.json"
    if not path.exists():
        raise EncoderError(f"{folder}: no config.json; give a folder written by save_pretrained")
    config = _read_json(path)
    family = config.get("model_type")
    if family not in FAMILIES:
        raise EncoderError(
            f"{path}: model_type is {family!r}; refine opens {', '.join(sorted(FAMILIES))}"
        )
    return config


def read_refinement(folder: Path) -> dict[str, Any]:
    """refine.json of a refined encoder; empty when there is none."""
    path = folder / REFINEMENT
    return _read_json(path) if path.exists() else {}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder. Pickled weights are named and refused, never opened."""
    weights = sorted(folder.glob("model*.safetensors"))
    if weights:
        return weights
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise EncoderError(
            f"{folder}: the weights are pickled ({', '.join(pickles)}) and a pickle can run any "
            "code, so it is not opened; save the model again with "
            "save_pretrained(safe_serialization=True)"
        )
    raise EncoderError(f"{folder}: no weights; model.safetensors is missing, copy or save it again")


def fingerprint(folder: Path) -> str:
    """SHA-256 over configuration and weights, so a changed encoder never meets an old cache."""
    files = [folder / "config.json", *weight_files(folder)]
    files += [path for path in (folder / "preprocessor_config.json",) if path.exists()]
    stamp = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _hash(stamp)


def hub_mirror(name: str) -> Path:
    """Where the local safetensors copy of a hub checkpoint is kept."""
    return paths.cache() / "hub" / name.replace("/", "--")


def replace_folder(temporary: Path, folder: Path) -> None:
    """Move a finished folder into place, so that a half-written one is never seen."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
        folder.rename(old)
        temporary.rename(folder)
        for path in sorted(old.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        old.rmdir()
    else:
        temporary.rename(folder)


def _is_run(folder: Path) -> bool:
    return (folder / "status.json").exists() or (folder / "checkpoints").is_dir()


def _checkpoint(run: Path) -> Path:
    final = run / "checkpoints" / "final"
    if (final / "config.json").exists():
        return final
    steps = list((run / "checkpoints").glob("step-*/encoder/config.json"))
    if not steps:
        raise EncoderError(
            f"run {run.name}: no checkpoint yet; wait for its first one or let it finish"
        )
    return max(steps, key=lambda path: int(path.parent.parent.name.split("-")[1])).parent


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EncoderError(f"{path}: not readable as JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path}: a JSON object is expected, found {type(content).__name__}")
    return content


def _parameters(path: Path) -> int:
    """Number of parameters, read off the safetensors header without touching the weights."""
    try:
        with path.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if size > 100_000_000:
                raise ValueError("header too large")
            header = json.loads(stream.read(size))
    except (OSError, ValueError, struct.error) as error:
        raise EncoderError(f"{path}: not a whole safetensors file; copy it again") from error
    total = 0
    for key, tensor in header.items():
        if key != "__metadata__":
            count = 1
            for size in tensor["shape"]:
                count *= size
            total += count
    return total


@lru_cache(maxsize=64)
def _hash(stamp: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in stamp:
        digest.update(Path(path).name.encode())
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
