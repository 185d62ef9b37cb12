"""A projector: the small network behind an encoder that reshapes its utterance vector.

z = encoder.projector(feature)                     # (batch, dim); named blocks: projector.split(z)
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEATURE_POOLINGS = ("mean", "stats")
SMALLEST_SCALE = 1e-6  # a feature dimension that never moves is only centred


class ProjectorError(ValueError):
    """A projector whose description does not add up. The message names field and value."""


@dataclass(frozen=True)
class ProjectorConfig:
    """What a projector is built from. Raises `ProjectorError` where it does not add up."""

    sizes: tuple[int, ...]
    """Widths: of the feature, of each hidden layer, of the output."""
    norm: str = "none"
    """What stands before each ReLU between two layers: none, or batch normalisation."""
    bias: bool = True
    """Whether the linear layers have one."""
    subspaces: dict[str, int] = field(default_factory=dict)
    """Name and width of each block of the output, in order; empty: one block, all."""
    feature_layer: int | str = "mean"
    """The hidden state that is projected, or the mean of all."""
    feature_pooling: str = "mean"
    """How its frames become one vector: mean or stats."""
    standardise: bool = False
    """Whether each dimension of the feature is brought to mean 0 and deviation 1 first."""

    def __post_init__(self) -> None:
        _refuse(self)

    @property
    def dim(self) -> int:
        """Width of the output."""
        return self.sizes[-1]

    @property
    def blocks(self) -> dict[str, int]:
        """Name and width of each subspace; {"all": dim} where none is named."""
        return self.subspaces or {"all": self.dim}

    @property
    def slices(self) -> dict[str, slice]:
        """Where each subspace lies in the output."""
        found, start = {}, 0
        for name, width in self.blocks.items():
            found[name] = slice(start, start + width)
            start += width
        return found

    def as_dict(self) -> dict[str, Any]:
        """For refine.json["projector"]."""
        return {**asdict(self), "sizes": list(self.sizes)}

    @classmethod
    def from_dict(cls, content: Any) -> "ProjectorConfig":
        """Back from refine.json. Raises `ProjectorError` for unknown or missing fields."""
        if not isinstance(content, Mapping):
            raise ProjectorError(f"projector: an object is expected, found {content!r}")
        known = set(cls.__dataclass_fields__)
        if unknown := sorted(set(content) - known):
            raise ProjectorError(
                f"projector: {unknown[0]} is unknown; its fields are {', '.join(sorted(known))}"
            )
        if "sizes" not in content:
            raise ProjectorError("projector: sizes are missing; give input, hidden and output")
        try:
            return cls(**{**content, "sizes": tuple(content["sizes"])})
        except (TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise ProjectorError(f"projector: a field is of the wrong kind ({reason})") from error


class Projector(nn.Module):
    """Linear layers with ReLU between, on a feature that is standardised first where asked.

    Its parameters are those of `layers`; what was fitted to the feature is kept as buffers.
    """

    def __init__(self, config: ProjectorConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for index, (width, following) in enumerate(pairwise(config.sizes)):
            if index:
                layers += [nn.BatchNorm1d(width)] if config.norm == "batch" else []
                layers.append(nn.ReLU())
            layers.append(nn.Linear(width, following, bias=config.bias))
        self.layers = nn.Sequential(*layers)
        if config.standardise:
            self.register_buffer("mean", torch.zeros(config.sizes[0]))
            self.register_buffer("scale", torch.ones(config.sizes[0]))

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """The projected vectors, not normalised. Raises `ProjectorError` for another width."""
        if x.shape[-1] != self.config.sizes[0]:
            raise ProjectorError(
                f"the feature has {x.shape[-1]} dimensions and the projector takes "
                f"{self.config.sizes[0]}; project the layer and pooling it was made for"
            )
        if self.config.standardise:
            x = (x - cast(Tensor, self.mean)) / cast(Tensor, self.scale)
        return self.layers(x)

    def split(self, z: Float[Tensor, "batch dim"]) -> dict[str, Tensor]:
        """The named blocks of projected vectors, each (batch, width)."""
        return {name: z[:, block] for name, block in self.config.slices.items()}

    @torch.no_grad()
    def fit_standardise(self, x: Float[Tensor, "batch features"]) -> None:
        """Set the buffers to mean and deviation of these features (of training clips alone)."""
        if not self.config.standardise:
            raise ProjectorError("standardise: is off; build the projector with it on")
        if len(x) < 2:
            raise ProjectorError(f"standardise: got {len(x)} vectors; at least 2 are needed")
        cast(Tensor, self.mean).copy_(x.mean(0))
        deviation = x.std(0, correction=0)
        constant = deviation < SMALLEST_SCALE
        cast(Tensor, self.scale).copy_(torch.where(constant, torch.ones_like(x[0]), deviation))


def _refuse(config: ProjectorConfig) -> None:
    sizes = config.sizes
    if len(sizes) < 2 or not all(_is_count(size) for size in sizes):
        raise ProjectorError(
            f"sizes: got {list(sizes)}; expected two or more whole numbers from 1: input, hidden, "
            "output"
        )
    if config.norm not in ("none", "batch"):
        raise ProjectorError(f"norm: got {config.norm!r}; expected none or batch")
    if config.feature_pooling not in FEATURE_POOLINGS:
        raise ProjectorError(f"feature_pooling: got {config.feature_pooling!r}; expected mean or "
                             "stats")  # fmt: skip
    layer = config.feature_layer
    if layer != "mean" and not (_is_count(layer) or layer == 0):
        raise ProjectorError(f"feature_layer: got {layer!r}; expected a number from 0, or mean")
    for name, width in config.subspaces.items():
        if not name or not _is_count(width):
            raise ProjectorError(f"subspaces: {name!r} has width {width!r}; expected 1 or more")
    total = sum(config.subspaces.values())
    if config.subspaces and total != sizes[-1]:
        raise ProjectorError(
            f"subspaces: the widths add up to {total} and the output has {sizes[-1]}; "
            "make them equal"
        )
    if "all" in config.subspaces and len(config.subspaces) > 1:
        raise ProjectorError("subspaces: all is the whole vector; name the blocks otherwise")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
