"""Supervised training of an utterance encoder on chunks: x-vectors, pseudo labels, fine-tuning.

    settings = Supervised(epochs=10)                       # ArcFace, s = 30, m = 0.3: an x-vector
    supervised.train(encoder, clips, labels, settings, run)

The counterpart of `dino`: the same chunks, noise and rooms, but with labels. The encoder is trained
in place; the head stays in the `Classifier`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from refine import surroundings, training
from refine.corpus import Corpus
from refine.crops import Crops, CropSource
from refine.distillation import embed, is_network, width
from refine.encoders import Encoder
from refine.losses.arcface import arcface
from refine.runs import Run
from refine.training import Outcome, TrainingError


@dataclass(frozen=True)
class Supervised:
    """Settings. The defaults are the x-vector of Cho et al. 2022; where its public code says no
    more, ours."""

    loss: Literal["arcface", "softmax"] = "arcface"
    """arcface: angles to (sub-)centres, for verification. softmax: an affine layer, for classes."""
    stage: Literal["all", "last"] = "all"
    """What is trained. last: the head and the last affine layers of the encoder alone."""
    scale: float = 30.0
    margin: float = 0.3
    margin_epochs: float = 0.0  # over which the margin rises from 0
    subcentres: int = 1
    inter_margin: float = 0.0
    seconds: float = 4.0  # of a chunk; a shorter clip stays whole
    noise_share: float = surroundings.NOISE_SHARE
    room_share: float = surroundings.ROOM_SHARE
    noise: str = ""
    rooms: str = ""
    epochs: float = 10.0
    batch_size: int = 64
    learning_rate: float = 1e-3
    encoder_scale: float = 1.0  # of the encoder's learning rate, beside the head's
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    schedule: Literal["constant", "cosine", "linear", "onecycle"] = "cosine"
    weight_decay: float = 2e-5
    clip_norm: float = 0.0
    layers: str = "mean"  # of a transformer, as in `dino`
    pooling: str = "stats"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    checkpoint_every: int = 1_000

    @property
    def layer(self) -> int | str:
        """`layers` as an encoder takes it."""
        return int(self.layers) if self.layers.isdecimal() else self.layers


class Parts(NamedTuple):
    """The loss and what it is made of; only `total` carries a gradient."""

    total: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]  # on the chunks of the step, without margins


class Classifier(nn.Module):
    """An encoder and a head over classes."""

    def __init__(self, encoder: Encoder, classes: Sequence[Any], settings: Supervised):
        super().__init__()
        if len(classes) < 2:
            raise TrainingError(f"one class ({classes[0]}) teaches nothing; at least 2 are needed")
        self.encoder, self.classes, self.settings = encoder, list(classes), settings
        dim = width(encoder, settings)
        self.head: nn.Linear | None = None
        self.centres: nn.Parameter | None = None
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            if settings.loss == "softmax":
                self.head = nn.Linear(dim, len(classes))
            else:
                self.centres = nn.Parameter(torch.randn(len(classes) * settings.subcentres, dim))
        self.to(encoder.device)

    def logits(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Tensor
    ) -> Float[Tensor, "batch classes"]:
        """Of `softmax`; of `arcface` the cosines."""
        z = embed(self.encoder, waveforms, lengths, self.settings)
        if self.head is not None:
            return self.head(z)
        assert self.centres is not None
        cosines = F.normalize(z, dim=-1) @ F.normalize(self.centres, dim=-1).T
        return cosines.unflatten(1, (len(self.classes), -1)).amax(-1)


def last_layers(encoder: Encoder) -> list[nn.Module]:
    """The affine layers behind the pooling; a transformer has none."""
    return [encoder.model.embedding, encoder.model.output] if is_network(encoder) else []


def train(
    encoder: Encoder | Classifier,
    clips: Corpus,
    labels: Sequence[Any] | np.ndarray,
    settings: Supervised,
    run: Run,
    resume: bool = False,
    refinement: dict[str, Any] | None = None,
) -> tuple[Outcome, Classifier]:
    """Train on all of `clips`, one label each; the encoder becomes checkpoints/final of the run.

    Args:
        encoder: trained in place; a `Classifier` of before goes on with its head.
        refinement: refine.json of what is saved.
    Raises: `TrainingError` for one class, or labels that are not one a clip.
    """
    if len(labels) != len(clips.table):
        raise TrainingError(f"got {len(labels)} labels for {len(clips.table)} clips")
    classes = sorted(set(labels))
    if isinstance(encoder, Classifier):
        classifier = encoder
        classifier.settings = settings
    else:
        classifier = Classifier(encoder, classes, settings)
    source = _source(clips, settings)
    objective = Objective(classifier, source, labels, settings)
    epoch = source.steps_per_epoch(settings.batch_size)
    steps = max(1, round(settings.epochs * epoch))
    given = asdict(settings) | {"steps": steps}
    loop = replace(training.settings_of(_Named(given)), betas=(0.9, 0.99))
    told = refinement or {"recipe": "supervised", "options": asdict(settings)}
    outcome = training.fit(
        objective,
        loop,
        run,
        resume=resume,
        on_checkpoint=lambda folder, step: classifier.encoder.save(folder, {**told, "step": step}),
    )
    return outcome, classifier


class Objective:
    """What the loop trains: encoder and head, on a chunk of each clip."""

    def __init__(
        self,
        classifier: Classifier,
        source: CropSource,
        labels: Sequence[Any] | np.ndarray,
        settings: Supervised,
    ):
        self.module, self.source, self.settings = classifier, source, settings
        place = {name: number for number, name in enumerate(classifier.classes)}
        self.labels = torch.tensor([place[label] for label in labels])
        last = settings.stage == "last"
        encoder = classifier.encoder
        encoder.train(not last)
        encoder.requires_grad_(not last)
        for layer in last_layers(encoder):
            layer.requires_grad_(True)
        warm = settings.margin_epochs * source.steps_per_epoch(settings.batch_size)
        self.warm_steps = max(1.0, warm)

    def batch(self, step: int) -> Crops:
        return self.source.batch(step, self.settings.batch_size)

    def groups(self) -> list[dict[str, Any]]:
        free = [p for p in self.module.encoder.parameters() if p.requires_grad]
        own = [p for name, p in self.module.named_parameters() if not name.startswith("encoder.")]
        groups: list[dict[str, Any]] = [
            {"params": own},
            {"params": [p for p in free if p.ndim > 1], "scale": self.settings.encoder_scale},
            {
                "params": [p for p in free if p.ndim <= 1],
                "scale": self.settings.encoder_scale,
                "weight_decay": 0.0,
            },
        ]
        return [group for group in groups if group["params"]]

    def loss(self, batch: Crops) -> Parts:
        classifier, settings = self.module, self.settings
        labels = self.labels[batch.rows].to(classifier.encoder.device)
        if classifier.head is not None:
            logits = classifier.logits(batch.long, batch.long_lengths)
            right = (logits.argmax(-1) == labels).float().mean()
            return Parts(F.cross_entropy(logits.float(), labels), right)
        assert classifier.centres is not None
        found = arcface(
            embed(classifier.encoder, batch.long, batch.long_lengths, settings),
            classifier.centres,
            labels,
            settings.scale,
            settings.margin * min(1.0, batch.step / self.warm_steps),
            settings.subcentres,
            settings.inter_margin,
        )
        return Parts(found.total, found.accuracy)

    def after_step(self, step: int) -> None:
        pass


def _source(clips: Corpus, settings: Supervised) -> CropSource:
    around = surroundings.of(
        clips,
        settings.noise,
        settings.rooms,
        settings.seed,
        settings.noise_share,
        settings.room_share,
    )
    return CropSource(
        clips,
        around,
        long_seconds=settings.seconds,
        short_seconds=settings.seconds,
        long_views=1,
        short_views=0,
        seed=settings.seed,
    )


class _Named:
    """A dict whose items are attributes."""

    def __init__(self, given: dict[str, Any]):
        self.__dict__ |= given
