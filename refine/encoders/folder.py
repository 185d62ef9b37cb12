"""Encoder folders without torch: where a name points, what is inside, its fingerprint.

Pages and jobs describe encoders with this module alone, so that they open without loading torch.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from refine import paths

FAMILIES = {
    "wav2vec2": "wav2vec 2.0",
    "hubert": "HuBERT",
    "wavlm": "WavLM",
    "data2vec-audio": "data2vec",
}
SPEAKER = "refine-speaker"  # model_type of a speaker network, which is ours alone
NETWORKS = {"lresnet34": "LResNet34", "lresnet18": "LResNet18", "ecapa_tdnn": "ECAPA-TDNN"}
# channels, embedding, pooling and parameters of a speaker network that is asked for by name
FRESH = {
    "lresnet34": (16, 256, "stats", 1_993_973),
    "lresnet18": (8, 128, "stats", 341_309),
    "ecapa_tdnn": (128, 192, "attentive", 693_839),
}
REFINEMENT = "refine.json"
# what a small folder may hold beside refine.json; a projector also stands in a full one
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PROJECTOR, CHANGED = "projector.safetensors", "changed.safetensors"
PARTS = (ADAPTER_CONFIG, ADAPTER, CHANGED, PROJECTOR)
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
    subspaces: dict[str, int] = field(default_factory=dict)  # name and width of each named block
    projected: int | None = None  # width of the projected vector, None without a projector
    heads: tuple[str, ...] = ()  # factors it carries a task head for
    chain: tuple[Path, ...] = ()  # folders it is made of: the whole network, then small parts

    @property
    def recipe(self) -> str | None:
        """The recipe that refined it, or None."""
        return self.refinement.get("recipe")

    @property
    def base(self) -> str | None:
        """The name of the encoder it was refined from, or None."""
        return (self.refinement.get("base") or {}).get("name")

    @property
    def layer(self) -> str | int:
        """The layer of its vectors where none is asked for; "projected" behind a projector."""
        if self.projected is not None:
            return "projected"
        own = "embedding" if self.family in NETWORKS.values() else "mean"
        layer = self.refinement.get("layer", own)
        return own if layer == "projected" else layer

    @property
    def pooling(self) -> str:
        """The pooling of its vectors where none is asked for."""
        return self.refinement.get("pooling", "mean")

    @property
    def shape(self) -> str:
        """Layers and widths in words, such as "6 layers of 256, projected to 64"."""
        layers = f"{self.n_layers - 1} layers of {self.dim}"
        whole = layers if self.n_layers > 1 else f"one vector of {self.dim}"
        return whole if self.projected is None else f"{whole}, projected to {self.projected}"

    @property
    def small(self) -> bool:
        """Whether the folder holds only what differs from its base."""
        return len(self.chain) > 1


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
    if folder is None and str(name) in NETWORKS:
        return _fresh(str(name))
    if folder is None:
        raise EncoderError(
            f"{name}: not downloaded yet, and no folder of that name; "
            "it is fetched from the hub when it is first loaded"
        )
    return replace(_peek(folder, ()), name=str(name))


def _peek(folder: Path, above: tuple[Path, ...]) -> EncoderInfo:
    from refine.encoders import small

    if folder in above:
        raise EncoderError(f"{folder}: it is its own base; copy it again")
    refinement = read_refinement(folder)
    if is_small(folder):
        base = small.find_base(folder, refinement, lambda place: _peek(place, (*above, folder)))
        own, parameters, chain = small.files(folder, refinement), base.parameters, base.chain
    else:
        config = read_config(folder)
        base, own, chain = _described(folder, config), weight_files(folder), ()
        parameters = sum(_parameters(path) for path in own)
    projected, subspaces = small.projection(folder, refinement)
    if projected is not None:
        parameters += _parameters(folder / PROJECTOR)
    return replace(
        base,
        folder=folder,
        parameters=parameters,
        fingerprint=fingerprint(folder),
        refinement=refinement,
        subspaces=subspaces,
        projected=projected,
        heads=_heads(folder),
        chain=(*chain, folder),
    )


def _described(folder: Path, config: dict[str, Any]) -> EncoderInfo:
    """What config.json says of a whole network."""
    if config["model_type"] == SPEAKER:
        family, dim, layers = NETWORKS[config["network"]], int(config["dim"]), 1
    else:
        family, dim = FAMILIES[config["model_type"]], int(config["hidden_size"])
        layers = int(config["num_hidden_layers"]) + 1
    return EncoderInfo(folder.name, folder, family, dim, layers, 0, "", {})


def _fresh(network: str) -> EncoderInfo:
    """A speaker network that is not trained yet: the same random weights each time."""
    channels, dim, pooling, parameters = FRESH[network]
    return fresh(network, (channels, dim, pooling), 0, parameters)


def fresh(network: str, shape: tuple[int, int, str], seed: int, parameters: int) -> EncoderInfo:
    """Describes a speaker network with the random weights of a seed; it has no folder."""
    digest = hashlib.sha256(f"fresh {network} {shape} {seed}".encode()).hexdigest()
    family = NETWORKS[network]
    return EncoderInfo(network, Path(network), family, shape[1], 1, parameters, digest, {})


def _heads(folder: Path) -> tuple[str, ...]:
    """Factors with a head, in the folder or in the run that it finished."""
    places = [folder / "heads"]
    if folder.name == "final" and folder.parent.name == "checkpoints":
        places.append(folder.parent.parent / "heads")
    files = [path for place in places for path in place.glob("*.safetensors")]
    return tuple(sorted({unquote(path.stem) for path in files}))


def is_encoder(folder: Path) -> bool:
    """Whether a folder holds an encoder, in full or in part; what is in it is not checked."""
    return (folder / "config.json").exists() or is_small(folder)


def is_small(folder: Path) -> bool:
    """Whether a folder holds only what differs from another encoder."""
    return not (folder / "config.json").exists() and (folder / REFINEMENT).exists()


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a `save_pretrained` folder, checked to be a family that refine knows."""
    path = folder / "config.json"
    if not path.exists():
        raise EncoderError(f"{folder}: no config.json; give a folder written by save_pretrained")
    config = _read_json(path)
    family = config.get("model_type")
    known = sorted([*FAMILIES, SPEAKER])
    if family not in known:
        raise EncoderError(f"{path}: model_type is {family!r}; refine opens {', '.join(known)}")
    needed = ("network", "dim") if family == SPEAKER else ("hidden_size", "num_hidden_layers")
    if missing := [name for name in needed if name not in config]:
        raise EncoderError(f"{path}: {missing[0]} is missing; copy the folder again")
    if family == SPEAKER and config["network"] not in NETWORKS:
        raise EncoderError(
            f"{path}: network is {config['network']!r}; refine has {', '.join(NETWORKS)}"
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
    """SHA-256 over configuration and weights, so a changed encoder never meets an old cache.

    Of a small folder: over its parts and the fingerprint of its base.
    """
    from refine.encoders import small

    refinement, more = read_refinement(folder), []
    if is_small(folder):
        files = small.files(folder, refinement)
        more.append(small.base_of(folder, refinement)["fingerprint"])
    else:
        files = [folder / "config.json", *weight_files(folder)]
        files += [path for path in (folder / "preprocessor_config.json",) if path.exists()]
    if refinement.get("projector"):
        files += [] if folder / PROJECTOR in files else [folder / PROJECTOR]
        more.append(json.dumps(refinement["projector"], sort_keys=True))
    stamp = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    own = _hash(stamp)
    return hashlib.sha256("\n".join([own, *more]).encode()).hexdigest() if more else own


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
    if is_encoder(final):
        return final
    steps = [
        file
        for name in ("config.json", REFINEMENT)
        for file in (run / "checkpoints").glob(f"step-*/encoder/{name}")
    ]
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
    total = 0
    for shape in shapes(path).values():
        count = 1
        for size in shape:
            count *= size
        total += count
    return total


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of a safetensors file. Raises `EncoderError`."""
    try:
        with path.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if size > 100_000_000:
                raise ValueError("header too large")
            header = json.loads(stream.read(size))
    except (OSError, ValueError, struct.error) as error:
        raise EncoderError(f"{path}: not a whole safetensors file; copy it again") from error
    return {key: tuple(tensor["shape"]) for key, tensor in header.items() if key != "__metadata__"}


@lru_cache(maxsize=64)
def _hash(stamp: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in stamp:
        digest.update(Path(path).name.encode())
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
