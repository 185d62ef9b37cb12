"""Step 1 of `two_step`: clips of a class together, classes apart, behind a projector (Lux 2022).

    objective = Shaping(config, encoder, corpus, train_rows)
    optimise(objective, config)                       # or refine.training.fit, which keeps a run
    objective.vectors(rows)

`Source` brings the clips of a step; the end-to-end baseline (`refine.end_to_end`) takes the same.
"""

from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from refine import training
from refine.corpus import Corpus
from refine.encoders import Encoder
from refine.encoders.projector import Projector, ProjectorConfig
from refine.encoders.trainable import choose
from refine.features import Batch, Features, first_trained
from refine.losses import bounds
from refine.losses.barlow_twins import barlow_twins
from refine.losses.gather import gather
from refine.losses.supcon import supcon
from refine.losses.triplet import triplet
from refine.losses.vicreg import vicreg
from refine.triplets import Sampler, Triplets


class Step(NamedTuple):
    """The clips of a step and their roles."""

    inputs: Batch
    labels: Int[Tensor, " clips"]
    triplets: Triplets
    held: bool  # the inputs are features: the encoder is not trained yet

    @property
    def audio_s(self) -> float:
        """Seconds of audio, padding left out."""
        return self.inputs.audio_s


class Shaping:
    """Step 1: contrastive + weight x non-contrastive, through the projector."""

    def __init__(
        self,
        config: Any,
        encoder: Encoder,
        corpus: Corpus,
        rows: Sequence[int] | np.ndarray,
        kept: dict[str, Tensor] | None = None,
    ):
        """`rows`: the train clips of the corpus; `kept`: see `Features`."""
        self.config, self.module = config, encoder
        self.source = Source(config, encoder, corpus, rows, kept)
        encoder.projector = _projector(config, encoder)
        set_mode(config, encoder)

    def standardise(self) -> None:
        """Fit mean and deviation of the feature to the train clips, where they are asked for."""
        projector = cast(Projector, self.module.projector)
        if projector.config.standardise:
            projector.fit_standardise(self.source.first_features)

    def batch(self, step: int) -> Step:
        return self.source.step(step)

    def loss(self, batch: Step) -> Any:
        """`total`, its `floor`, both halves and their parts, as far as they are single numbers."""
        x = self.source.forward(batch)
        z = dropped(cast(Projector, self.module.projector), x, self.config.feature_dropout)
        return combined(self.config, z, batch)

    def groups(self) -> list[dict[str, Any]]:
        """The projector at the learning rate, the encoder at its own share of it."""
        return parameter_groups(
            self.config, self.module.model, cast(Projector, self.module.projector)
        )

    def after_step(self, step: int) -> None:
        pass

    @torch.no_grad()
    def vectors(self, rows: Sequence[int] | np.ndarray) -> Float[np.ndarray, "clips dim"]:
        """Projected vectors of whole clips, in evaluation mode."""
        projector = cast(Projector, self.module.projector)
        training = projector.training
        projector.eval()
        found = projector(self.source.features.whole(rows).to(self.module.device))
        projector.train(training)
        return found.float().cpu().numpy()


class Source:
    """Clips of a factor for either objective: roles by `Sampler`, inputs by `Features`."""

    def __init__(
        self,
        config: Any,
        encoder: Encoder,
        corpus: Corpus,
        rows: Sequence[int] | np.ndarray,
        kept: dict[str, Tensor] | None = None,
    ):
        self.config, self.rows = config, np.asarray(rows)
        labels = corpus.table[config.factor].to_numpy(dtype=str)[self.rows]
        groups = None
        if config.apart != "none":
            groups = corpus.table[config.apart].to_numpy(dtype=str)[self.rows]
        self.sampler = Sampler(
            labels,
            groups,
            batch_size=config.batch_size,
            seed=config.seed,
            roles=config.roles,
            negatives=config.negatives,
        )
        layer = feature_layer(config, encoder)
        free(config, encoder)
        self.features = Features(
            encoder,
            corpus,
            layer,
            config.pooling,
            top_layers=0 if config.train == "none" else config.top_layers or None,
            max_seconds=config.max_seconds,
            kept=kept,
        )

    def step(self, step: int) -> Step:
        """The clips of a step: a function of the seed and the step alone."""
        triplets = self.sampler.draw(step)
        held = step <= self.config.hold_encoder
        rows = self.rows[triplets.rows]
        if held:
            places = torch.from_numpy(triplets.rows)
            seconds = self.features.corpus.table["duration_s"].to_numpy()[rows]
            lengths = torch.ones_like(places)
            inputs = Batch(self.first_features[places], lengths, float(seconds.sum()))
        else:
            inputs = self.features.gather(rows, triplets.starts)
        labels = torch.from_numpy(self.sampler.labels[triplets.rows])
        return Step(inputs, labels, triplets, held)

    def forward(self, step: Step) -> Float[Tensor, "clips dim"]:
        """The features of a step's clips."""
        inputs = step.inputs
        return (
            inputs.inputs.to(self.features.encoder.device) if step.held else self.features(inputs)
        )

    @cached_property
    def first_features(self) -> Float[Tensor, "train dim"]:
        """Features of the train clips before the encoder has moved; asked for before it does."""
        return self.features.whole(self.rows)


def optimise(objective: Any, config: Any, look: Callable[[int], None] | None = None) -> None:
    """Train an objective without a run folder: nothing is logged, nothing kept.

    `look` is called after each step, as a benchmark or a notebook may want.
    """
    loop = training._Loop(objective, settings_of(config))
    for step in range(1, config.steps + 1):
        loop.advance(step)
        if look is not None:
            look(step)


def settings_of(config: Any) -> training.Settings:
    """Adam, with the decay as part of the gradient, as in the paper's code."""
    return replace(training.settings_of(config), optimizer="adam")


def free(config: Any, encoder: Encoder) -> None:
    """Set what of the encoder is trained: `train`, of its last `top_layers` where that is not 0."""
    if config.train == "none":
        encoder.model.requires_grad_(False)
        return
    choose(encoder, config.train, config.lora_rank, 2.0 * config.lora_rank, config.seed)
    if config.top_layers:
        first_trained(encoder, feature_layer(config, encoder), config.top_layers)


def feature_layer(config: Any, encoder: Encoder) -> Any:
    """The hidden state that the options mean: mean, or a number."""
    if config.layers == "last":
        return encoder.n_layers - 1
    return "mean" if config.layers == "mean" else int(config.layers)


def combined(config: Any, z: Float[Tensor, "clips dim"], step: Step) -> Any:
    """contrastive + weight x non-contrastive of the triplets of a step, with their parts.

    Rows of all processes are gathered first, so that the loss sees the whole batch.
    """
    roles = (step.triplets.anchor, step.triplets.positive, step.triplets.negative)
    a, p, n = (gather(z[torch.from_numpy(role).to(z.device)]) for role in roles)
    parts: dict[str, Any] = {}
    total, floor = z.new_zeros(()), 0.0
    if config.contrastive == "triplet":
        found = triplet(a, p, n, config.margin)
        total = total + found.total
        parts |= {"contrastive": found.total, **found._asdict()}
    elif config.contrastive == "supcon":
        spread = supcon(gather(z), gather(step.labels.to(z.device)), config.temperature)
        total = total + spread.total
        floor += float(spread.floor)
        parts |= {"contrastive": spread.total, "gap": spread.gap, "anchors": spread.anchors}
    if config.noncontrastive == "barlow_twins":
        twins = barlow_twins(a, p, config.offdiagonal)
        total = total + config.weight * twins.total
        floor += config.weight * bounds.barlow_twins_floor(len(a), z.shape[1], config.offdiagonal)
        parts |= {"noncontrastive": twins.total, **twins._asdict()}
    elif config.noncontrastive == "vicreg":
        spread_out = vicreg(a, p)
        total = total + config.weight * spread_out.total
        parts |= {"noncontrastive": spread_out.total, **spread_out._asdict()}
    # the matrix of Barlow Twins is no number for a log
    numbers = {k: v for k, v in parts.items() if k != "total" and torch.as_tensor(v).numel() == 1}
    return as_parts(total=total, floor=floor, **numbers)


def _projector(config: Any, encoder: Encoder) -> Projector:
    d = config.dim
    shape = ProjectorConfig(
        (feature_width(config, encoder), d, d, d),
        norm="batch",
        bias=False,
        feature_layer=feature_layer(config, encoder),
        feature_pooling=config.pooling,
        standardise=config.standardise,
    )
    # drawn on its own: the same seed gives the same projector whatever was drawn before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Projector(shape)


def dropped(head: Projector, x: Tensor, share: float) -> Tensor:
    """Through a projector, a share of the dimensions set to 0 (their mean where standardised)."""
    return head.layers(F.dropout(standardised(head, x), share))


def standardised(head: Projector, x: Tensor) -> Tensor:
    if not head.config.standardise:
        return x
    return (x - cast(Tensor, head.mean)) / cast(Tensor, head.scale)


def feature_width(config: Any, encoder: Encoder) -> int:
    return encoder.dim * (2 if config.pooling == "stats" else 1)


def set_mode(config: Any, encoder: Encoder) -> None:
    """Dropout of the checkpoint on or off; a projector always trains (batch statistics)."""
    encoder.train(config.dropout == "checkpoint" and config.train != "none")
    if encoder.projector is not None:
        encoder.projector.train()


def parameter_groups(config: Any, model: nn.Module, behind: nn.Module) -> list[dict[str, Any]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": list(behind.parameters())}]
    if trained:
        groups.append({"params": trained, "scale": config.encoder_rate})
    return groups


def as_parts(**parts: Any) -> Any:
    """A NamedTuple of the parts that this configuration has."""
    return namedtuple("Parts", parts)(**parts)
