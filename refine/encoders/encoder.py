"""What every encoder can do, whatever network is inside: embed clips, project them, be saved."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refine.audio import MAX_SAMPLES
from refine.encoders import folder as folders
from refine.encoders.pooling import POOLINGS
from refine.encoders.projector import Projector

Precision = Literal["auto", "fp32", "bf16"]
Layer = int | str  # an index, "mean" of all hidden states, "all", or "projected"

# from here on bf16 pays for its rounding; a small encoder is fast enough in float32
BF16_FROM_PARAMETERS = 30_000_000


class Hidden(NamedTuple):
    """Hidden states of every layer and how many frames of each clip are speech."""

    states: Float[Tensor, "layers batch frames dim"]
    lengths: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Choice:
    """What of an encoder `trainable.choose` set free."""

    train: str  # all, transformer, norms or lora
    rank: int = 0
    alpha: float = 0.0


class Encoder(nn.Module):
    """A speech encoder with one interface whatever its network.

    Padding never changes a result: a clip alone equals the clip in a batch to 1e-5 (float32).
    """

    model: Any  # the network; torch types the attributes of a module as Tensor | Module

    def __init__(self, model: nn.Module, info: folders.EncoderInfo, precision: Precision = "auto"):
        super().__init__()
        self.model = model
        self.projector: Projector | None = None
        self.choice: Choice | None = None  # what `trainable.choose` set free since it was loaded
        self.bf16 = _use_bf16(precision, info.parameters)
        self._layer: Layer = "mean"
        self._pooling = "mean"
        self._describe(info)

    def _describe(self, info: folders.EncoderInfo) -> None:
        self.info = info
        self.name, self.fingerprint = info.name, info.fingerprint
        self.dim, self.n_layers = info.dim, info.n_layers
        self._layer, self._pooling = info.layer, info.pooling

    @property
    def layer(self) -> Layer:
        """The layer of `embed` where none is asked for: its own, or what its projector makes."""
        return self._layer if self.projector is None else "projected"

    @layer.setter
    def layer(self, layer: Layer) -> None:
        self._layer = layer

    @property
    def pooling(self) -> str:
        """The pooling of `embed` where none is asked for; of a projector, that of its feature."""
        projector = self.projector
        return self._pooling if projector is None else projector.config.feature_pooling

    @pooling.setter
    def pooling(self, pooling: str) -> None:
        self._pooling = pooling

    @property
    def subspaces(self) -> dict[str, slice]:
        """Blocks of the vector of `embed`; {"all": …} where none is named."""
        if self.projector is None:
            return {"all": slice(0, self.width())}
        return self.projector.config.slices

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers of a table of all of them; the mean of all last."""
        return [*map(str, range(self.n_layers)), "mean"]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def min_samples(self) -> int:
        """The receptive field of one frame, in samples: the shortest clip that can be encoded."""
        raise NotImplementedError

    @property
    def max_samples(self) -> int:
        """The longest clip that is encoded in one piece, in samples."""
        return MAX_SAMPLES

    def frame_lengths(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Frames of clips of so many samples."""
        raise NotImplementedError

    def encode(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Hidden:
        """Hidden states of every layer. Gradient flows where it is enabled.

        Args:
            waveforms: 16 kHz mono in [-1, 1], zero-padded on the right.
            lengths: valid samples of each clip.
        Raises: `ValueError` for a clip shorter than `min_samples`.
        """
        raise NotImplementedError

    def width(
        self, layer: Layer | None = None, pooling: str | None = None, subspace: str | None = None
    ) -> int:
        """Dimensions of what `embed` gives for the same arguments."""
        layer, pooling, subspace = self.resolve(layer, pooling, subspace)
        if layer == "projected" and self.projector is not None:
            return (self.projector.config.blocks | {"all": self.projector.config.dim})[subspace]
        return self.dim * (2 if pooling == "stats" else 1)

    def resolve(
        self, layer: Layer | None = None, pooling: str | None = None, subspace: str | None = None
    ) -> tuple[Layer, str, str]:
        """Layer, pooling and subspace that these arguments mean. Raises `ValueError`."""
        layer = self.layer if layer is None else layer
        config = self.projector.config if self.projector else None
        if layer == "projected" and config is None:
            raise ValueError(
                f"layer: {self.name} has no projector; expected 0 to {self.n_layers - 1}, mean or "
                "all"
            )
        if layer == "projected" and config and pooling not in (None, config.feature_pooling):
            raise ValueError(
                f"pooling: got {pooling}; the projector of {self.name} was made for "
                f"{config.feature_pooling}, leave pooling out"
            )
        self._refuse_layer(layer)
        blocks = config.blocks if config and layer == "projected" else {}
        if subspace not in (None, "all", *blocks):
            where = "" if layer == "projected" or not config else " of layer projected"
            named = list(config.blocks) if config else ["all"]
            raise ValueError(
                f"subspace: {self.name} has no {subspace} at layer {layer}; "
                f"there {'are' if len(named) > 1 else 'is'} {', '.join(named)}{where}"
            )
        return layer, pooling or self.pooling, subspace or "all"

    def embed(
        self,
        waveforms: Float[Tensor, "batch samples"],
        lengths: Int[Tensor, " batch"],
        layer: Layer | None = None,
        pooling: str | None = None,
        subspace: str | None = None,
    ) -> Float[Tensor, "*layers batch dims"]:
        """One vector a clip.

        Args:
            layer: an index, "mean" of all hidden states, "all" of them stacked, or "projected".
            pooling: over time, "mean" or "stats"; a projector has its own.
            subspace: a named block of the projected vector; "all" is the whole.
        Raises: `ValueError` naming what the encoder has.
        """
        layer, pooling, subspace = self.resolve(layer, pooling, subspace)
        hidden = self.encode(waveforms, lengths)
        if layer == "projected":
            return self.project(hidden, subspace)
        return POOLINGS[pooling](select_layer(hidden.states, layer), hidden.lengths)

    def project(self, hidden: Hidden, subspace: str = "all") -> Float[Tensor, "batch dims"]:
        """The projected vectors of hidden states, or one named block of them."""
        if self.projector is None:
            raise ValueError(f"layer: {self.name} has no projector")
        config = self.projector.config
        states = select_layer(hidden.states, config.feature_layer)
        z = self.projector(POOLINGS[config.feature_pooling](states, hidden.lengths))
        return z if subspace == "all" else z[:, config.slices[subspace]]

    def save(
        self,
        folder: Path,
        refinement: dict[str, Any] | None = None,
        small: bool = False,
        half: bool = False,
    ) -> None:
        """Write a folder that `load` opens: safetensors, and refine.json when it was refined.

        Args:
            refinement: what refine.json says; layer, projector and subspaces are filled in.
            small: only what differs from the encoder that was loaded (projector, LoRA, norms), with
                its name and fingerprint. In full it opens in plain `transformers`.
            half: matrices in 16 bits, which `load` brings back to 32.
        Raises: `ValueError` where small cannot be: all weights were trained, or the encoder that
            was loaded is the folder itself.
        """
        from refine.encoders import parts

        folder = Path(folder)
        if small:
            parts.refuse_small(self, folder)
        temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            if not small:
                self._write(temporary, half)
            parts.write(self, temporary, folder, refinement, small, half)
            folders.replace_folder(temporary, folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise OSError(
                error.errno, f"{folder}: could not be written ({error.strerror})"
            ) from error

    def _write(self, folder: Path, half: bool) -> None:
        """The whole network, as `load` reads it."""
        raise NotImplementedError

    def _refuse_layer(self, layer: Layer) -> None:
        whole = isinstance(layer, int) and -self.n_layers <= layer < self.n_layers
        if not whole and layer not in ("mean", "all", "projected"):
            raise ValueError(
                f"layer: got {layer!r}; expected 0 to {self.n_layers - 1}, 'mean' or 'all'"
            )

    def _refuse_short(self, lengths: Int[Tensor, " batch"]) -> None:
        shortest = int(lengths.min())
        if shortest < self.min_samples:
            raise ValueError(
                f"a clip of {shortest} samples is shorter than one frame of {self.name} "
                f"({self.min_samples} samples); leave it out"
            )


def select_layer(
    states: Float[Tensor, "layers batch frames dim"], layer: Layer
) -> Float[Tensor, "*layers batch frames dim"]:
    """One hidden state, the mean of all, or all of them."""
    if layer == "all":
        return states
    if layer == "mean":
        return states.mean(0)
    if layer == "embedding" and len(states) == 1:  # the only layer of a speaker network
        return states[0]
    if not isinstance(layer, int) or not -len(states) <= layer < len(states):
        raise ValueError(f"layer: got {layer!r}; expected 0 to {len(states) - 1}, 'mean' or 'all'")
    return states[layer]


def _use_bf16(precision: Precision, parameters: int) -> bool:
    if precision != "auto":
        return precision == "bf16"
    return parameters >= BF16_FROM_PARAMETERS and has_bf16()


def has_bf16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (GPU, AVX-512 BF16, AMX)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
