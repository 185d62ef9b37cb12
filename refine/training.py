"""The one training loop: device, precision, schedule, clipping, checkpoints, exact resume, log.

A recipe hands in an `Objective`; the loop owns everything else. Ten steps equal five, a resume and
five more, bit for bit: a batch depends on the seed and the step alone, and a checkpoint holds every
random generator (on a GPU as far as its kernels are deterministic).
"""

import contextlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from torch import nn

from refine import checkpoints
from refine.checkpoints import CheckpointError
from refine.optimisers import Kind, one_cycle, optimiser
from refine.runs import Run

Outcome = Literal["finished", "stopped"]
Precision = Literal["auto", "fp32", "bf16"]
Schedule = Literal["constant", "cosine", "linear", "onecycle"]

STATUS_EVERY_S = 1.0  # a page reads the status about once a second


class TrainingError(ValueError):
    """A training that cannot start or go on. The message says why and what to do."""


@runtime_checkable
class Objective(Protocol):
    """What a recipe trains.

    Two more methods may be there. `before_step(step)` is called after the backward pass, before
    clipping and the optimiser: set the `.grad` of what is held still to None. `groups()` returns
    the parameter groups of the optimiser: dicts with `params`, and where they differ from the rest
    `weight_decay` and `scale` (of the learning rate); `optimisers.undecayed` makes the usual two.
    """

    @property
    def module(self) -> nn.Module:
        """Everything trained or carried: student, teacher, centre as buffers."""

    def batch(self, step: int) -> Any:
        """The batch of a step (1, 2, …): a function of the seed and the step alone.

        Its attribute `audio_s`, where there is one, is logged as the seconds of audio in it.
        """

    def loss(self, batch: Any) -> Any:
        """The loss and its parts as a `NamedTuple`, `total` first."""

    def after_step(self, step: int) -> None:
        """Called after the weights have moved: a teacher's average, a centre. May do nothing."""


Probe = Callable[[int], dict[str, float]]
SaveEncoder = Callable[[Path, int], None]


@dataclass(frozen=True)
class Settings:
    """What the loop needs to know; recipes fill it from their options."""

    steps: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup_steps: int = 0
    schedule: Schedule = "constant"
    clip_norm: float = 0.0  # 0 = gradients are not clipped
    precision: Precision = "auto"
    seed: int = 0
    checkpoint_every: int = 100
    lowest_rate: float = 0.0  # where a cosine or a line ends
    optimizer: Kind = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)  # sgd: its momentum is the first
    amsgrad: bool = False

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("checkpoint_every", 1), ("warmup_steps", 0)):
            if getattr(self, name) < low:
                raise TrainingError(f"{name}: got {getattr(self, name)}; expected at least {low}")
        if not 0 < self.learning_rate <= 1:
            raise TrainingError(f"learning_rate: got {self.learning_rate}; expected 1e-8 to 1")


def settings_of(config: Any) -> Settings:
    """The settings among a recipe's options; the others keep their defaults."""
    names = [field.name for field in fields(Settings) if hasattr(config, field.name)]
    return Settings(**{name: getattr(config, name) for name in names})


def learning_rate(settings: Settings, step: int) -> float:
    """Learning rate of a step (1, 2, … `steps`).

    Warm-up rises linearly to `learning_rate` at step `warmup_steps`; then the rate stays, or falls
    to `lowest_rate` just after the last step along half a cosine or a line. onecycle has its own
    warm-up: half a cosine up over the first tenth of the steps, half a cosine down over the rest.
    """
    if settings.schedule == "onecycle":
        return settings.learning_rate * one_cycle(step - 1, settings.steps)
    if step <= settings.warmup_steps:
        return settings.learning_rate * step / settings.warmup_steps
    past = (step - 1 - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    factor = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * past)),
        "linear": 1 - past,
    }[settings.schedule]
    lowest = min(settings.lowest_rate, settings.learning_rate)
    return lowest + (settings.learning_rate - lowest) * factor


def fit(
    objective: Objective,
    settings: Settings,
    run: Run,
    *,
    resume: bool = False,
    on_checkpoint: SaveEncoder | None = None,
    probe: Probe | None = None,
) -> Outcome:
    """Train to the last step or until a stop is asked for.

    Args:
        resume: go on from the newest checkpoint of the run, or from step 0 if there is none.
        on_checkpoint: called with a folder to write and the step it is of: `encoder` inside each
            checkpoint, so that a run can be looked at before its end, and `final` after the last.
        probe: called before the first and after every step; what it returns joins that step's row.
    Raises: `TrainingError` for a non-finite loss or gradient, a full disk, a run that already has
        checkpoints and is not resumed. The last good checkpoint stays.
    """
    loop = _Loop(objective, settings)
    done = _begin(loop, run, resume)
    saved = done if done else None
    if done == 0 and probe is not None and (first := probe(0)):
        _log(run, {"step": 0, **first})
    clock = _Clock(run, settings.steps, done)
    while done < settings.steps:
        if run.stop_requested:
            if saved != done:
                _save(loop, run, done, on_checkpoint)
            clock.report(done, force=True)
            return "stopped"
        row = loop.advance(done + 1)
        done += 1
        _log(run, row | (probe(done) if probe else {}))
        if done % settings.checkpoint_every == 0 or done == settings.steps:
            _save(loop, run, done, on_checkpoint)
            saved = done
        clock.report(done, force=done == settings.steps)
    if on_checkpoint is not None:
        _save_final(run, done, on_checkpoint)
    return "finished"


def measure(objective: Objective, settings: Settings, steps: int = 3) -> dict[str, Any]:
    """Time and memory of a few real steps, of which nothing is kept.

    Returns: seconds_per_step (the first, slower one left out), minutes for all of
    `settings.steps`, peak_mb (high-water mark of this process; of the GPU where there is one),
    audio_s a step, device, precision, and the number of trained parameters.
    """
    loop = _Loop(objective, settings)
    rows = [loop.advance(step) for step in range(1, steps + 1)]
    warm = [row["seconds"] for row in rows[1:]] or [rows[0]["seconds"]]
    seconds = sum(warm) / len(warm)
    return {
        "seconds_per_step": seconds,
        "minutes": seconds * settings.steps / 60,
        "peak_mb": _peak_mb(),
        "audio_s": max((row.get("audio_s", 0.0) for row in rows), default=0.0),
        "device": str(loop.accelerator.device),
        "precision": "bf16" if loop.accelerator.mixed_precision == "bf16" else "fp32",
        "trained_parameters": sum(parameter.numel() for parameter in loop.trained),
    }


def resolve_precision(precision: Precision) -> Literal["fp32", "bf16"]:
    """What "auto" means here: bf16 on hardware that multiplies it, else fp32."""
    from refine.encoders.pretrained import has_bf16

    return ("bf16" if has_bf16() else "fp32") if precision == "auto" else precision


class _Loop:
    """Module, optimiser and device of one training, and what one step does with them."""

    def __init__(self, objective: Objective, settings: Settings):
        from accelerate.utils import set_seed

        self.objective, self.settings = objective, settings
        self.accelerator = _accelerator(resolve_precision(settings.precision))
        set_seed(settings.seed)
        objective.module.to(self.accelerator.device)
        self.trained = [p for p in objective.module.parameters() if p.requires_grad]
        if not self.trained:
            raise TrainingError("nothing to train: every parameter is frozen; free some of them")
        split = getattr(objective, "groups", None)
        self.optimizer = optimiser(
            split() if split else [{"params": self.trained}],
            settings.optimizer,
            settings.learning_rate,
            settings.weight_decay,
            settings.betas,
            settings.amsgrad,
        )
        self.before_step = getattr(objective, "before_step", None)
        self.last: tuple[int, float] | None = None  # step and total of the last finite loss

    def advance(self, step: int) -> dict[str, Any]:
        """One step of training. Returns its row of the log."""
        started = time.perf_counter()
        rate = learning_rate(self.settings, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        batch = self.objective.batch(step)
        with self.accelerator.autocast():
            parts = self.objective.loss(batch)._asdict()
        values = _numbers(parts)
        if not all(math.isfinite(value) for value in values.values()):
            raise self._diverged(step, rate, values, "the loss is not finite")
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(parts["total"])
        if self.before_step is not None:
            self.before_step(step)
        self._average()
        limit = self.settings.clip_norm or math.inf
        norm = float(self.accelerator.clip_grad_norm_(self.trained, limit))
        if not math.isfinite(norm):
            raise self._diverged(step, rate, values, f"the gradient is {norm}")
        self.optimizer.step()
        self.objective.after_step(step)
        self.last = (step, values["total"])
        row = {"step": step, **values, "lr": rate, "grad_norm": norm}
        if (audio_s := getattr(batch, "audio_s", None)) is not None:
            row["audio_s"] = float(audio_s)
        return row | {"seconds": time.perf_counter() - started}

    def _average(self) -> None:
        """Each process has the gradient of its own part of the batch; all step with the mean."""
        if self.accelerator.num_processes > 1:
            for parameter in self.trained:
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def _diverged(
        self, step: int, rate: float, values: dict[str, float], what: str
    ) -> TrainingError:
        parts = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        before = f"step {self.last[0]} still had {self.last[1]:.4g}" if self.last else "no step was"
        return TrainingError(
            f"step {step}: {what} ({parts}) at learning rate {rate:.3g}, {before}; "
            "lower learning_rate, or add warmup_steps or clip_norm, and start again "
            "(the last checkpoint is kept)"
        )


def refuse_other_base(run: Run, name: str | Path, fingerprint: str) -> None:
    """A training that was begun on one encoder must not go on with another.

    Raises: `TrainingError` where `fingerprint` is not the one that its checkpoints were made from.
    """
    from refine.encoders.folder import read_refinement

    begun = sorted(run.checkpoints.glob("step-*/encoder"))
    base = (read_refinement(begun[-1]) if begun else {}).get("base") or {}
    then = base.get("fingerprint", fingerprint)
    if then != fingerprint:
        raise TrainingError(
            f"{run.path.name}: the encoder {name} has changed since this run was begun "
            f"(fingerprint {then[:8]}… then, {fingerprint[:8]}… now); give back the encoder of "
            "then, or start a new run"
        )


def _numbers(parts: dict[str, Any]) -> dict[str, float]:
    """The single numbers among the parts of a loss: a row of the log holds no matrix."""
    tensors = {name: torch.as_tensor(value).detach() for name, value in parts.items()}
    return {name: float(value) for name, value in tensors.items() if value.numel() == 1}


def _accelerator(precision: Literal["fp32", "bf16"]) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    mixed = "bf16" if precision == "bf16" else "no"
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed:
        # accelerate keeps the first precision of a process for ever; a test or a notebook has two
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed)


def _begin(loop: _Loop, run: Run, resume: bool) -> int:
    """Step to go on from; 0 for a fresh start."""
    newest = checkpoints.newest(run.checkpoints)
    if newest and not resume:
        raise TrainingError(
            f"{run.path.name}: this run already has a checkpoint at step {newest[0]}; "
            "resume it, or start a new run"
        )
    step = 0
    if newest:
        try:
            step = checkpoints.restore_newest(
                run.checkpoints, loop.objective.module, loop.optimizer
            )
        except CheckpointError as error:
            raise TrainingError(str(error)) from error
    _forget_rows_after(run.path / "metrics.jsonl", step if newest else -1)
    return step


def _forget_rows_after(path: Path, step: int) -> None:
    """Drop the rows that a resume writes again, and a line torn by a crash."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    temporary.replace(path)


def _save(loop: _Loop, run: Run, step: int, on_checkpoint: SaveEncoder | None) -> None:
    def extra(folder: Path) -> None:
        if on_checkpoint is not None:
            on_checkpoint(folder / "encoder", step)

    try:
        checkpoints.save(run.checkpoints, step, loop.objective.module, loop.optimizer, extra)
    except CheckpointError as error:
        raise TrainingError(str(error)) from error


def _save_final(run: Run, step: int, save: SaveEncoder) -> None:
    try:
        save(run.checkpoints / "final", step)
        checkpoints.flush(run.checkpoints)
    except (OSError, SafetensorError) as error:
        reason = checkpoints.describe(error, None, shutil.disk_usage(run.path).free)
        raise TrainingError(
            f"the refined encoder could not be saved: {reason} and resume, nothing is lost"
        ) from error


def _log(run: Run, row: dict[str, Any]) -> None:
    try:
        run.log(row)
    except OSError as error:
        reason = checkpoints.describe(error, None, shutil.disk_usage(run.path).free)
        raise TrainingError(
            f"step {row['step']} could not be logged: {reason} and resume"
        ) from error


class _Clock:
    """Tells the run's status how far it is, at most once a second."""

    def __init__(self, run: Run, total: int, done: int):
        self.run, self.total, self.first = run, total, done
        self.started = self.reported = time.monotonic()
        run.write_status(step=done, total=total, eta_s=None)

    def report(self, done: int, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self.reported < STATUS_EVERY_S:
            return
        self.reported = now
        each = (now - self.started) / max(1, done - self.first)
        self.run.write_status(step=done, total=self.total, eta_s=each * (self.total - done))


def _peak_mb() -> float:
    """High-water mark of memory in MB: the GPU's where there is one, else this process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
