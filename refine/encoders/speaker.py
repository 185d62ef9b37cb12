"""Speaker networks as encoders: filter banks in, one vector a clip out.

encoder = build("lresnet34", seed=0)             # random weights; a recipe trains them
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refine.encoders import fbank, parts
from refine.encoders import folder as folders
from refine.encoders.encoder import Encoder, Hidden, Layer, Precision
from refine.encoders.folder import EncoderError
from refine.encoders.networks import ECAPA, ResNet

RESNETS = {"lresnet34": (3, 4, 6, 3), "lresnet18": (2, 2, 2, 2)}


@dataclass(frozen=True)
class SpeakerConfig:
    """What config.json says of a speaker network."""

    network: str
    channels: int
    dim: int
    pooling: str
    mels: int = fbank.MELS


class SpeakerNetwork(Encoder):
    """A speaker network: its only layer is the embedding, one frame for the whole clip."""

    @property
    def config(self) -> SpeakerConfig:
        """Network, channels, dimensions and pooling over time."""
        return self.model.config

    @property
    def layer_names(self) -> list[str]:
        """Its only layer."""
        return ["embedding"]

    @property
    def min_samples(self) -> int:
        """One window of the filter bank, in samples."""
        return fbank.WINDOW

    def frame_lengths(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Frames that `encode` gives: one for each clip."""
        return torch.ones_like(lengths)

    def features(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames mels"], Int[Tensor, " batch"]]:
        """What the network sees: normalised log-mel filter banks and frames of each clip."""
        self._refuse_short(lengths)
        return fbank.features(waveforms.to(self.device), lengths.to(self.device))

    def embed_features(
        self, features: Float[Tensor, "batch frames mels"], frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Embeddings of filter banks, so that a recipe can mask them first."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(features, frames).float()

    def encode(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Hidden:
        """The embedding as one layer of one frame; see `Encoder`."""
        vectors = self.embed_features(*self.features(waveforms, lengths))
        return Hidden(vectors[None, :, None], torch.ones_like(lengths, device=self.device))

    def resolve(
        self, layer: Layer | None = None, pooling: str | None = None, subspace: str | None = None
    ) -> tuple[Layer, str, str]:
        """See `Encoder`; the only layer has several names, and no deviation over time."""
        if pooling == "stats":
            raise ValueError(
                f"pooling: got stats; {self.name} gives one vector a clip, leave pooling out"
            )
        layer, pooling, subspace = super().resolve(layer, pooling, subspace)
        return "embedding" if layer in (0, -1, "mean") else layer, pooling, subspace

    def _refuse_layer(self, layer: Layer) -> None:
        if layer not in (0, -1, "mean", "embedding", "projected", "all"):
            raise ValueError(f"layer: got {layer!r}; {self.name} has one layer, embedding")

    def _write(self, folder: Path, half: bool) -> None:
        parts.write_json(
            folder / "config.json", {"model_type": folders.SPEAKER, **asdict(self.config)}
        )
        parts.save_tensors(self.model.state_dict(), folder / "model.safetensors", half)


def build(
    network: str = "lresnet34",
    channels: int | None = None,
    dim: int | None = None,
    pooling: str | None = None,
    seed: int = 0,
    precision: Precision = "auto",
) -> SpeakerNetwork:
    """A speaker network with random weights.

    Args:
        network: lresnet34; lresnet18, about 5 times faster at its 8 channels; ecapa_tdnn, about
            8 times at its 128.
        channels: of the first stage, or of the blocks (512 or 1024 in the papers of ecapa_tdnn,
            here 128). dim: of the embedding.
        pooling: stats (mean and deviation) or attentive.
    Raises: `ValueError` for a network or size that there is not.
    """
    if network not in folders.FRESH:
        raise ValueError(f"network: got {network!r}; expected {', '.join(folders.FRESH)}")
    given = folders.FRESH[network]
    shape = (channels or given[0], dim or given[1], pooling or given[2])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _network(SpeakerConfig(network, *shape))
    parameters = sum(value.numel() for value in model.state_dict().values())
    info = folders.fresh(network, shape, seed, parameters)
    encoder = SpeakerNetwork(model, info, precision)
    return encoder.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def read_speaker(folder: Path) -> nn.Module:
    """The network of a folder. Raises `EncoderError` where it is broken."""
    content = folders.read_config(folder)
    known = SpeakerConfig.__dataclass_fields__
    try:
        config = SpeakerConfig(**{name: content[name] for name in content if name in known})
        model = _network(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{folder / 'config.json'}: {error}; copy the folder again") from error
    path = folders.weight_files(folder)[0]
    parts.fill(model, path)
    return model.eval()


def _network(config: SpeakerConfig) -> Any:
    sizes = (config.channels, config.dim, config.pooling, config.mels)
    if min(config.channels, config.dim, config.mels) < 1:
        raise ValueError(f"channels, dim, mels: got {sizes}; expected 1 or more")
    if config.network in RESNETS:
        model: Any = ResNet(RESNETS[config.network], *sizes)
    else:
        model = ECAPA(*sizes)
    model.config = config
    return model
