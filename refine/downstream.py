"""How fast and how well a task is learnt on an encoder: SUPERB's utterance-level head (paper 3).

    curves = frozen([vectors], [draw(labels, split.train, 0.1)], labels, split, Settings())
    found = speed_up(base_curves, rewired_curves)      # steps(rewired) / steps(base)

The head is that of keywords, intents and speakers in SUPERB (Yang et al. 2021; s3prl): a
learnt average of the hidden states, a projection to 256, the mean over time, a linear layer, Adam.
All of it before the softmax is linear, so the mean over time may be taken first: a head on a frozen
encoder learns from one cached vector a clip and layer, exactly as it would from the frames.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import t as student
from torch import Tensor, nn

from refine.metrics.accuracy import uar
from refine.metrics.intervals import LEVEL, Number
from refine.splits import Split

if TYPE_CHECKING:
    from refine.audio import Waveform
    from refine.encoders import Encoder

SHARE = 0.95  # of the base's best score, which a curve has to reach
GROWTH = 1.15  # from one look at a curve to the next, in steps
LOOK_AT = 256  # clips encoded at a time when a fine-tuned encoder is tested, at most


class DownstreamError(ValueError):
    """A task that cannot be learnt. The message says what was found."""


@dataclass(frozen=True)
class Settings:
    """How a head is trained. The defaults are s3prl's for keywords and intents."""

    steps: int = 1500
    batch_size: int = 32
    learning_rate: float = 1e-4  # 1e-3 for speakers, as in s3prl
    width: int = 256  # of the projection
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "width"):
            if getattr(self, name) < 1:
                raise DownstreamError(f"{name}: got {getattr(self, name)}; expected at least 1")
        if not 0 < self.learning_rate <= 1:
            raise DownstreamError(f"learning_rate: got {self.learning_rate}; expected 1e-8 to 1")


class Curve(NamedTuple):
    """UAR after so many steps of training, 0 to 1."""

    steps: Int[np.ndarray, " points"]
    dev: Float[np.ndarray, " points"]
    test: Float[np.ndarray, " points"]

    @property
    def best(self) -> float:
        """The test score where the dev score is highest, the earliest of equals."""
        return float(self.test[self.dev.argmax()])


class Heads(nn.Module):
    """Several heads side by side, each with weights of its own; one is a stack of one."""

    def __init__(self, seeds: Sequence[int], layers: int, dim: int, classes: int, width: int = 256):
        super().__init__()
        singles = [_start(seed, dim, classes, width) for seed in seeds]
        self.layers = nn.Parameter(torch.zeros(len(seeds), layers))  # softmax: a plain average
        self.into, self.into_bias, self.out, self.out_bias = (
            nn.Parameter(torch.stack(part)) for part in zip(*singles, strict=True)
        )

    def forward(
        self, pooled: Float[Tensor, "heads batch layers dim"]
    ) -> Float[Tensor, "heads batch classes"]:
        """Logits from the mean over time of each hidden state."""
        mixed = torch.einsum("hl,hbld->hbd", self.layers.softmax(-1), pooled)
        inner = torch.baddbmm(self.into_bias[:, None], mixed, self.into)
        return torch.baddbmm(self.out_bias[:, None], inner, self.out)


def frozen(
    features: Sequence[Float[np.ndarray, "n layers dim"]],
    drawn: Sequence[Int[np.ndarray, " labelled"]],
    labels: Sequence[str] | np.ndarray,
    split: Split,
    settings: Settings,
    seeds: Sequence[int] | None = None,
) -> list[Curve]:
    """Learning curves of heads on frozen encoders, trained side by side.

    Args:
        features: for each head, pooled hidden states of all clips; one array may serve many heads.
        drawn: for each head, the rows it learns from (of `split.train`, see `draw`).
        seeds: for each head, of its start and its batches; by default `settings.seed` for all, so
            that heads on different encoders start alike and see the same clips.
    Raises: `DownstreamError` for lists that do not fit or labels that cannot be learnt.
    """
    seeds = [settings.seed] * len(features) if seeds is None else list(seeds)
    codes, classes = _codes(labels, split, drawn)
    if not len(features) == len(drawn) == len(seeds):
        raise DownstreamError(
            f"got {len(features)} feature tables, {len(drawn)} draws and {len(seeds)} seeds; "
            "give one of each a head"
        )
    # an array may serve many heads
    single = {id(x): torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in features}
    tables = [single[id(x)] for x in features]
    layers, dim = tables[0].shape[1:]
    heads = Heads(seeds, layers, dim, classes, settings.width)
    optimizer = torch.optim.Adam(heads.parameters(), settings.learning_rate)
    batches = [_batches(rows, settings, seed) for rows, seed in zip(drawn, seeds, strict=True)]
    looked = np.concatenate([split.dev, split.test])
    # layers first and in one piece: a look is then one product, as fast as memory is read
    shown = {key: table[looked].transpose(0, 1).flatten(1) for key, table in single.items()}
    looks = []
    for step in range(settings.steps + 1):
        if step in looks_at(settings.steps):
            looks.append(_look(heads, [shown[id(x)] for x in features]))
        if step < settings.steps:
            rows = np.stack([batch[step] for batch in batches])  # (heads, batch)
            x = torch.stack([table[row] for table, row in zip(tables, rows, strict=True)])
            logits = heads(x)
            # summed over heads, each has the gradient it would have alone
            loss = (
                nn.functional.cross_entropy(
                    logits.flatten(0, 1), codes[rows].flatten(), reduction="sum"
                )
                / rows.shape[1]
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return _curves(np.stack(looks, axis=1), codes, split, settings.steps)


def finetuned(
    encoder: "Encoder",
    waveforms: Sequence["Waveform"],
    drawn: Int[np.ndarray, " labelled"],
    labels: Sequence[str] | np.ndarray,
    split: Split,
    settings: Settings,
    looks: Sequence[int] | None = None,
) -> Curve:
    """The learning curve of a head and its encoder, trained together at one rate (s3prl's -f).

    The encoder is changed. Args: `waveforms` of all clips; `looks`: steps after which it is tested.
    Raises: as `frozen`.
    """
    from refine.encoders.collate import pad
    from refine.encoders.pooling import mean_pool

    codes, classes = _codes(labels, split, [drawn])
    head = Heads([settings.seed], encoder.n_layers, encoder.dim, classes, settings.width)
    head.to(encoder.device)
    encoder.requires_grad_(True)
    trained = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(trained, settings.learning_rate)
    batches = _batches(drawn, settings, settings.seed)
    points = list(looks_at(settings.steps) if looks is None else looks)

    def logits(rows: np.ndarray) -> Tensor:  # (batch, classes)
        hidden = encoder.encode(*pad([waveforms[row] for row in rows]))
        pooled = mean_pool(hidden.states, hidden.lengths)  # (layers, batch, dim)
        return head(pooled.transpose(0, 1)[None])[0]

    found = []
    torch.manual_seed(settings.seed)  # dropout
    for step in range(max(points) + 1):
        if step in points:
            found.append(_look_at_clips(logits, encoder, split, waveforms))
        if step < max(points):
            encoder.train()
            rows = batches[step]
            loss = nn.functional.cross_entropy(logits(rows), codes[rows].to(encoder.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return _curves(np.stack(found)[None], codes, split, settings.steps, points)[0]


def draw(
    labels: Sequence[str] | np.ndarray, rows: Int[np.ndarray, " n"], fraction: float, seed: int
) -> Int[np.ndarray, " labelled"]:
    """The rows of a share of the labels, class by class, one clip of each at least.

    Larger shares of a seed hold the smaller ones. Raises: `DownstreamError` for a fraction outside
    0 to 1.
    """
    if not 0 < fraction <= 1:
        raise DownstreamError(f"fraction: got {fraction}; expected more than 0, at most 1")
    random = np.random.default_rng([seed, 0])
    values, kept = np.asarray(labels)[rows], []
    for name in np.unique(values):
        members = random.permutation(rows[values == name])
        kept.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(kept))


def looks_at(steps: int) -> tuple[int, ...]:
    """Steps after which a curve is looked at: 0, 1, 2, … then each 15 % more than the last."""
    found, step = [0], 1.0
    while round(step) < steps:
        found.append(round(step))
        step *= GROWTH
    return tuple(sorted({*found, steps}))


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Point by point; of several draws it is steadier than any. Raises `DownstreamError`."""
    if not curves or any(not np.array_equal(c.steps, curves[0].steps) for c in curves):
        raise DownstreamError("curves of the same steps are expected; got others, or none")
    dev, test = (np.mean([getattr(c, name) for c in curves], axis=0) for name in ("dev", "test"))
    return Curve(curves[0].steps, dev, test)


def steps_to(curve: Curve, level: float) -> int | None:
    """The first step looked at whose test score reaches a level; None where none does."""
    reached = np.flatnonzero(curve.test >= level - 1e-12)
    return int(curve.steps[reached[0]]) if len(reached) else None


class SpeedUp(NamedTuple):
    """Steps to reach a share of the base's best test score, as a share of the steps of the base."""

    ratio: Number  # geometric mean over seeds; 0.5 is twice as fast
    base: tuple[int, ...]  # steps of the base, a seed each
    other: tuple[int | None, ...]  # steps of the other; None: not within the budget
    level: tuple[float, ...]  # the score to reach

    @property
    def never(self) -> int:
        """Seeds that do not reach the level; the ratio is then a lower bound."""
        return sum(steps is None for steps in self.other)


def speed_up(base: Sequence[Curve], other: Sequence[Curve], share: float = SHARE) -> SpeedUp:
    """How many of the base's steps another encoder needs to be as good, over paired seeds.

        exp( mean_s log( steps_s(other) / steps_s(base) ) ),    level_s = share · max test_s(base)

    with Student's interval of the logs over seeds. Range 0 to inf, null 1; a seed that never
    reaches the level counts with the whole budget, so that the ratio is then a lower bound. A level
    that is reached before the first step counts as one step.
    Raises: `DownstreamError` for less than two pairs, or a base that never learns.
    """
    if len(base) != len(other) or len(base) < 2:
        raise DownstreamError(
            f"a speed-up is measured on pairs of curves, two at least; got {len(base)} and "
            f"{len(other)}"
        )
    levels = tuple(share * float(curve.test.max()) for curve in base)
    first = tuple(steps_to(curve, level) or 0 for curve, level in zip(base, levels, strict=True))
    second = tuple(steps_to(curve, level) for curve, level in zip(other, levels, strict=True))
    budgets = [int(curve.steps[-1]) for curve in other]
    logs = [
        math.log(max(1, budget if late is None else late) / max(1, early))
        for early, late, budget in zip(first, second, budgets, strict=True)
    ]
    never = sum(late is None for late in second)
    number = over_seeds(
        logs,
        f"Steps to reach {share:.0%} of the base's best test score, as a share of the base's own "
        f"steps; geometric mean over {len(logs)} seeds"
        + (f"; {never} never reach it and count with the whole budget" if never else ""),
    )
    ratio = replace(
        number,
        value=math.exp(number.value),
        low=math.exp(number.low),
        high=math.exp(min(number.high, 700.0)),
        range=(0.0, math.inf),
        direction="lower",
        null=1.0,
    )
    return SpeedUp(ratio, first, second, levels)


def over_seeds(values: Sequence[float], definition: str, level: float = LEVEL) -> Number:
    """The mean of one value a seed, with Student's interval. Raises `DownstreamError` for one."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        raise DownstreamError(f"an interval over seeds needs two or more; got {len(x)}")
    half = float(student.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    mean = float(x.mean())
    return Number(mean, mean - half, mean + half, len(x), definition)


def _start(seed: int, dim: int, classes: int, width: int) -> tuple[Tensor, ...]:
    """The weights of one head before training, as torch starts linear layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        into, out = nn.Linear(dim, width), nn.Linear(width, classes)
    parts = (into.weight.T, into.bias, out.weight.T, out.bias)
    return tuple(part.detach().contiguous() for part in parts)


def _batches(rows: np.ndarray, settings: Settings, seed: int) -> Int[np.ndarray, "steps batch"]:
    """Rows of each step: passes over the labelled clips in random order, one after the other."""
    random = np.random.default_rng([seed, 1])
    wanted = settings.steps * settings.batch_size
    passes = [random.permutation(rows) for _ in range(math.ceil(wanted / len(rows)))]
    return np.concatenate(passes)[:wanted].reshape(settings.steps, settings.batch_size)


def _codes(
    labels: Sequence[str] | np.ndarray, split: Split, drawn: Sequence[np.ndarray]
) -> tuple[Tensor, int]:
    """Each clip's class as a number, and how many classes there are."""
    values = np.asarray(labels)
    if values.dtype == object:
        values = values.astype(str)
    classes = np.unique(values[split.train])
    if len(classes) < 2:
        raise DownstreamError(f"a task has two classes or more in train; got {classes.tolist()}")
    for rows in drawn:
        if not len(rows) or not np.isin(rows, split.train).all():
            raise DownstreamError(
                f"labelled clips are clips of train; got {len(rows)} rows, others among them"
            )
    codes = np.clip(np.searchsorted(classes, values), 0, len(classes) - 1)
    asked = np.concatenate([split.dev, split.test])
    if (unknown := values[asked][classes[codes[asked]] != values[asked]]).size:
        raise DownstreamError(f"class {unknown[0]} is in dev or test, but not in train")
    return torch.from_numpy(codes), len(classes)


def _look(
    heads: Heads, tables: Sequence[Float[Tensor, "layers n_dim"]]
) -> Int[np.ndarray, "heads n"]:
    """What each head says of some clips."""
    said = []
    with torch.inference_mode():
        weights = heads.layers.softmax(-1)
        for number, table in enumerate(tables):
            mixed = (weights[number] @ table).view(-1, heads.into.shape[1])
            inner = mixed @ heads.into[number] + heads.into_bias[number]
            said.append((inner @ heads.out[number] + heads.out_bias[number]).argmax(-1))
    return torch.stack(said).numpy()


def _look_at_clips(
    logits: Callable[[np.ndarray], Tensor],
    encoder: "Encoder",
    split: Split,
    waveforms: Sequence["Waveform"],
) -> Int[np.ndarray, " n"]:
    """What a fine-tuned encoder says of dev and test, clips of like length together."""
    from refine.audio import SAMPLE_RATE
    from refine.embeddings import buckets

    rows = np.concatenate([split.dev, split.test])
    seconds = [len(waveforms[row]) / SAMPLE_RATE for row in rows]
    said = np.zeros(len(rows), dtype=np.int64)
    encoder.eval()
    with torch.inference_mode():
        for places in buckets(seconds, 60.0, LOOK_AT):
            said[places] = logits(rows[places]).argmax(-1).cpu().numpy()
    return said


def _curves(
    said: Int[np.ndarray, "heads points n"],
    codes: Tensor,
    split: Split,
    steps: int,
    points: Sequence[int] | None = None,
) -> list[Curve]:
    truth, n = codes.numpy(), len(split.dev)
    where = np.array(looks_at(steps) if points is None else points)
    return [
        Curve(
            where,
            np.array([uar(truth[split.dev], row[:n]) for row in rows]),
            np.array([uar(truth[split.test], row[n:]) for row in rows]),
        )
        for rows in said
    ]
