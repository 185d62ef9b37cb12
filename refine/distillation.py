"""Self-distillation without labels (DINO): student, teacher, head, centre, and the watch on them.

The teacher is a running mean of the student's parameters. Its batch normalisation keeps statistics
of its own forward passes, in training mode throughout, as in the public code of Cho et al. 2022;
those are what the teacher is used with afterwards.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from refine import optimisers
from refine.losses import dino as losses
from refine.losses.gather import gather
from refine.training import TrainingError

if TYPE_CHECKING:
    from refine.crops import Crops, CropSource
    from refine.encoders import Encoder
    from refine.recipes.dino import Dino

INIT_SD = 0.02  # of the truncated normal that fills the head
ALIKE_STEPS = 20  # steps in a row that make a collapse
NO_ENTROPY, FULL_ENTROPY = 0.02, 0.995  # share of ln K at which all outputs are one, or alike
COMMONEST = 0.95  # share of a batch on one output


class Parts(NamedTuple):
    """The loss and what it is made of; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # dino + weighted regulariser
    dino: Float[Tensor, ""]  # entropy + kl; ln K where the student says nothing
    entropy: Float[Tensor, ""]  # of the teacher
    kl: Float[Tensor, ""]  # from student to teacher
    spread: Float[Tensor, ""]  # sd of the teacher's logits over the batch
    commonest: Float[Tensor, ""]  # share of the batch whose teacher prefers the commonest output
    cosine: Float[Tensor, ""]  # mean over cross views of student's and teacher's utterance vectors
    centre: Float[Tensor, ""]  # length of the centre
    momentum: float  # of the teacher


class Head(nn.Module):
    """MLP with GELU, a vector of length one, then cosines to `outputs` learned directions."""

    def __init__(self, dim: int, outputs: int, hidden: int = 2048, bottleneck: int = 256):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        # weight-normalised with its gain fixed at 1: only the direction of a row counts
        self.directions = nn.Parameter(torch.empty(outputs, bottleneck))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=INIT_SD) if parameter.ndim > 1 else (
                nn.init.zeros_(parameter)
            )

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch outputs"]:
        """Logits, each in [-1, 1]."""
        z = F.normalize(self.mlp(x).float(), dim=-1)
        with torch.autocast(z.device.type, enabled=False):  # bf16 cosines over 0.04 are off by 0.1
            return F.linear(z, F.normalize(self.directions, dim=-1))


class Pair(nn.Module):
    """Student and teacher with their heads, the centre, and how long the outputs were alike."""

    alike: Tensor

    def __init__(self, student: "Encoder", teacher: "Encoder", head: Head, twin: Head):
        super().__init__()
        self.student, self.student_head = student, head
        self.teacher, self.teacher_head = teacher, twin
        self.centre = losses.Centre(len(head.directions))
        self.register_buffer("alike", torch.zeros((), dtype=torch.long))
        twin.load_state_dict(head.state_dict())
        teacher.load_state_dict(student.state_dict())
        for parameter in [*teacher.parameters(), *twin.parameters()]:
            parameter.requires_grad_(False)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """theta_t <- m theta_t + (1 - m) theta_s; buffers stay the teacher's own."""
        for ours, theirs in (
            (self.teacher, self.student),
            (self.teacher_head, self.student_head),
        ):
            for kept, moved in zip(ours.parameters(), theirs.parameters(), strict=True):
                kept.lerp_(moved.to(kept.dtype), 1 - momentum)

    def save(self, folder: Path, refinement: dict[str, Any]) -> None:
        """Write the teacher, in small parts where only norms or a LoRA were trained."""
        choice = self.teacher.choice
        # parts are told by what is trained, and the teacher is not: the student is
        for ours, theirs in self._both():
            ours.requires_grad_(theirs.requires_grad)
        try:
            small = choice is not None and choice.train in ("norms", "lora")
            self.teacher.save(folder, refinement, small=small)
        finally:
            self.teacher.requires_grad_(False)

    def _both(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        return zip(self.teacher.parameters(), self.student.parameters(), strict=True)


class Objective:
    """What the loop trains: a student that says of every view what the teacher says of others."""

    def __init__(self, config: "Dino", pair: Pair, source: "CropSource", steps: int):
        self.config, self.module, self.source, self.steps = config, pair, source, steps
        self.epoch = source.steps_per_epoch(config.batch_size)
        self._logits: Tensor | None = None
        pair.student_head.train(), pair.teacher_head.train()
        for encoder in (pair.student, pair.teacher):
            encoder.train(config.dropout == "checkpoint" or _normalises_batches(encoder))

    def batch(self, step: int) -> "Crops":
        return self.source.batch(step, self.config.batch_size)

    def groups(self) -> list[dict[str, Any]]:
        return optimisers.undecayed(self.module)

    def loss(self, batch: "Crops") -> Parts:
        config, pair, views = self.config, self.module, self.source
        n = len(batch.rows)
        long = self._heard(batch.long, batch.long_lengths)
        vectors = self._embed(pair.student, long)
        if views.short_views:
            short = self._embed(pair.student, self._heard(batch.short, batch.short_lengths))
            vectors = torch.cat([vectors, short])  # (views batch, dim)
        student = pair.student_head(vectors).unflatten(0, (-1, n))  # (views, batch, outputs)
        with torch.no_grad():
            kept = self._embed(pair.teacher, long)  # (long batch, dim)
            teacher = pair.teacher_head(kept).float().unflatten(0, (-1, n))
        found = losses.dino(
            student,
            teacher,
            pair.centre.centre,
            config.student_temperature,
            config.teacher_temperature,
        )
        agreement = cross_view_cosine(vectors.unflatten(0, (-1, n)), kept.unflatten(0, (-1, n)))
        weight = config.cosine_weight * min(1.0, batch.step / self._steps(config.cosine_epochs))
        self._logits = teacher
        return Parts(
            found.total + weight * (1 - agreement),
            found.total.detach(),
            found.entropy,
            found.kl,
            found.spread,
            _commonest(teacher - pair.centre.centre),
            agreement.detach(),
            pair.centre.centre.norm(),
            self.momentum(batch.step),
        )

    def before_step(self, step: int) -> None:
        """The directions of the outputs are held while the rest finds its feet."""
        if step <= self._steps(self.config.held_epochs, least=0):
            self.module.student_head.directions.grad = None

    def after_step(self, step: int) -> None:
        pair, logits = self.module, self._logits
        assert logits is not None
        pair.follow(self.momentum(step))
        sums = torch.cat([logits.sum((0, 1)), logits.new_tensor([logits[..., 0].numel()])])
        total = gather(sums[None]).sum(0)  # processes may hold different numbers of utterances
        self._watch(step, logits)
        pair.centre.update((total[:-1] / total[-1])[None], self.config.centre_momentum)

    def momentum(self, step: int) -> float:
        """Of the teacher at a step: half a cosine from its first value to 1."""
        past = (step - 1) / max(1, self.steps)
        return 1 - (1 - self.config.momentum) * (1 + math.cos(math.pi * past)) / 2

    def _heard(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What both encoders are given: filter banks, made once, where they are networks."""
        student: Any = self.module.student
        if not is_network(student):
            return waveforms, lengths
        with torch.no_grad():
            return student.features(waveforms, lengths)

    def _embed(self, encoder: Any, heard: tuple[Tensor, Tensor]) -> Tensor:
        if is_network(encoder):
            return encoder.embed_features(*heard)
        return embed(encoder, *heard, self.config)

    def _steps(self, epochs: float, least: int = 1) -> int:
        return max(least, round(epochs * self.epoch))

    def _watch(self, step: int, logits: Tensor) -> None:
        """Name a collapse after so many steps of it in a row."""
        pair, config = self.module, self.config
        log_q = ((logits - pair.centre.centre) / config.teacher_temperature).log_softmax(-1)
        entropy = float(-(log_q.exp() * log_q).sum(-1).mean())
        most = math.log(logits.shape[-1])
        one = entropy < NO_ENTROPY * most and _commonest(logits - pair.centre.centre) > COMMONEST
        even = entropy > FULL_ENTROPY * most
        pair.alike.copy_((pair.alike + 1) * int(one or even))
        if int(pair.alike) < ALIKE_STEPS or config.on_collapse == "go on":
            return
        if one:
            kind = (
                f"every clip gets the same output (entropy {entropy:.3f} of at most {most:.2f}); "
                "raise teacher_temperature, or lower centre_momentum or learning_rate"
            )
        else:
            kind = (
                f"all outputs are alike for every clip (entropy {entropy:.2f} of at most "
                f"{most:.2f}); lower teacher_temperature or learning_rate, or use fewer outputs"
            )
        raise TrainingError(f"step {step}: the teacher has collapsed, {kind}, and start again")


def embed(encoder: "Encoder", waveforms: Tensor, lengths: Tensor, config: Any) -> Tensor:
    """The utterance vectors of the layer and pooling a recipe asks for; a network has its own."""
    if is_network(encoder):
        return encoder.embed(waveforms, lengths)
    return encoder.embed(waveforms, lengths, config.layer, config.pooling)


def is_network(encoder: "Encoder") -> bool:
    """Whether it is a speaker network, whose one layer is the utterance vector."""
    return encoder.n_layers == 1


def cross_view_cosine(
    student: Float[Tensor, "views batch dim"], teacher: Float[Tensor, "long batch dim"]
) -> Float[Tensor, ""]:
    """Mean cosine of the student's and the teacher's vectors of different views."""
    s, t = F.normalize(student.float(), dim=-1), F.normalize(teacher.float(), dim=-1)
    with torch.autocast(s.device.type, enabled=False):
        # u: view of the teacher, v: of the student
        cosines = torch.einsum("vbd,ubd->uv", s, t) / s.shape[1]
    other = ~torch.eye(len(t), len(s), dtype=torch.bool, device=s.device)
    return cosines[other].mean()


def _commonest(logits: Float[Tensor, "long batch outputs"]) -> Float[Tensor, ""]:
    best = logits.argmax(-1).flatten()
    return best.bincount().max().float() / len(best)


def _normalises_batches(encoder: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())


def width(encoder: "Encoder", config: Any) -> int:
    """Dimensions of what `embed` gives."""
    return encoder.width() if is_network(encoder) else encoder.width(config.layer, config.pooling)


def head_bytes(config: "Dino") -> int:
    """Memory that the head takes in training, about: weights with moments, logits with gradient."""
    weights = config.outputs * config.bottleneck * (7 if config.optimizer == "adam" else 6)
    # the student's: logits, log-softmax and the gradient of both; the teacher's: logits and softmax
    views = 4 * (config.long_views + config.short_views) + 3 * config.long_views
    return 4 * (weights + views * config.batch_size * config.outputs)


def available_bytes() -> int:
    """Free memory: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)
