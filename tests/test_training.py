"""The loop: exact resume, honest stops, and what happens when the disk or the numbers give up."""

import errno
import json
import math
import resource
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from refine import checkpoints, training
from refine.optimisers import undecayed
from refine.runs import Run
from refine.training import Settings, TrainingError, fit, learning_rate, measure


class FakeRun(Run):
    """A real run folder that can ask for its own stop, and remembers what it was told."""

    def __init__(self, path: Path, stop_after: int | None = None):
        super().__init__(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.stop_after, self.statuses = stop_after, []

    @property
    def rows(self):
        path = self.path / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def stop_requested(self):
        rows = self.rows if self.stop_after is not None else []
        return bool(rows) and rows[-1]["step"] >= self.stop_after

    def write_status(self, **changes):
        self.statuses.append(changes)


class Loss(NamedTuple):
    total: torch.Tensor
    fit: torch.Tensor
    size: torch.Tensor


class Regression:
    """A small network with dropout and a buffer that `after_step` moves, as a DINO centre does."""

    def __init__(self, seed: int = 0, poison: dict[int, float] | None = None):
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, 1))
        self.module.register_buffer("centre", torch.zeros(1))
        self.seed, self.poison = seed, poison or {}

    def batch(self, step):
        generator = torch.Generator().manual_seed(self.seed * 1000 + step)
        x = torch.randn(16, 6, generator=generator)
        return x * self.poison.get(step, 1.0), x.sum(-1, keepdim=True)

    def loss(self, batch):
        x, y = (tensor.to(self.module.centre.device) for tensor in batch)
        error = (self.module(x) - y).square().mean()
        size = self.module[0].weight.square().mean()
        return Loss(error + 0.01 * size, error, size)

    def after_step(self, step):
        self.module.centre.mul_(0.9).add_(0.1 * self.module[2].bias.detach())


SETTINGS = Settings(
    steps=10, learning_rate=0.01, schedule="cosine", warmup_steps=3, clip_norm=1.0,
    precision="fp32", seed=3, checkpoint_every=5,
)  # fmt: skip


def numbers(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rows]


def final_state(run):
    _, path = checkpoints.newest(run.checkpoints)
    return checkpoints.load_file(path / checkpoints.TENSORS), json.loads(
        (path / checkpoints.SCALARS).read_text()
    )


def assert_same(one, two):
    (tensors, scalars), (other, others) = final_state(one), final_state(two)
    assert scalars == others
    assert tensors.keys() == other.keys()
    for name in tensors:
        assert torch.equal(tensors[name], other[name]), name
    assert numbers(one) == numbers(two)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ten_steps_equal_five_a_resume_and_five_more_bit_for_bit(tmp_path, precision):
    settings = Settings(**{**SETTINGS.__dict__, "precision": precision})
    whole, halves = FakeRun(tmp_path / "whole"), FakeRun(tmp_path / "halves", stop_after=5)
    assert fit(Regression(), settings, whole) == "finished"
    assert fit(Regression(), settings, halves) == "stopped"
    assert [row["step"] for row in halves.rows] == [1, 2, 3, 4, 5]
    halves.stop_after = None
    torch.manual_seed(999)  # another process has other generators
    assert fit(Regression(seed=0), settings, halves, resume=True) == "finished"
    assert_same(whole, halves)


def test_a_crash_between_checkpoints_loses_and_doubles_no_row(tmp_path):
    class Crash(Exception):
        pass

    class Crashing(Regression):
        def after_step(self, step):
            super().after_step(step)
            if step == 8:
                raise Crash

    whole, crashed = FakeRun(tmp_path / "whole"), FakeRun(tmp_path / "crashed")
    fit(Regression(), SETTINGS, whole)
    with pytest.raises(Crash):
        fit(Crashing(), SETTINGS, crashed)
    assert crashed.rows[-1]["step"] == 7
    with (crashed.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 8, "tot')  # a line torn by the crash
    fit(Regression(), SETTINGS, crashed, resume=True)
    assert_same(whole, crashed)


def test_a_row_holds_every_part_and_the_probe(tmp_path):
    run = FakeRun(tmp_path)
    fit(Regression(), SETTINGS, run, probe=lambda step: {"isoscore": 0.5} if step % 5 == 0 else {})
    assert [row["step"] for row in run.rows] == list(range(11))
    assert [row["step"] for row in run.rows if "isoscore" in row] == [0, 5, 10]
    row = run.rows[7]
    assert set(row) == {"step", "total", "fit", "size", "lr", "grad_norm", "seconds"}
    assert row["total"] == pytest.approx(row["fit"] + 0.01 * row["size"], rel=1e-5)
    assert row["lr"] == learning_rate(SETTINGS, 7)
    assert run.statuses[0] == {"step": 0, "total": 10, "eta_s": None}
    assert run.statuses[-1]["step"] == 10
    assert run.statuses[-1]["eta_s"] == 0


def test_training_descends(tmp_path):
    run = FakeRun(tmp_path)
    settings = Settings(steps=150, learning_rate=0.02, precision="fp32")
    fit(Regression(), settings, run)
    rows = run.rows
    assert sum(r["fit"] for r in rows[-20:]) < 0.5 * sum(r["fit"] for r in rows[:20])


def test_schedules_against_their_closed_forms():
    def rates(schedule, warmup):
        settings = Settings(steps=100, learning_rate=0.5, schedule=schedule, warmup_steps=warmup)
        return [learning_rate(settings, step) for step in range(1, 101)]

    assert rates("constant", 0) == [0.5] * 100
    assert rates("constant", 4)[:5] == [0.125, 0.25, 0.375, 0.5, 0.5]
    assert rates("linear", 0) == pytest.approx([0.5 * (1 - k / 100) for k in range(100)])
    cosine = rates("cosine", 20)
    assert cosine[:20] == pytest.approx([0.5 * k / 20 for k in range(1, 21)])
    assert cosine[20:] == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * k / 80)) for k in range(80)]
    )
    assert learning_rate(Settings(steps=5, learning_rate=1.0, warmup_steps=50), 5) == 0.1


def test_gradients_are_zeroed_between_steps(tmp_path):
    """The published code of paper 3 never does; then a gradient of step 1 lives in step 2."""

    gradients = {}

    class Recorded(Regression):
        def __init__(self, first):
            super().__init__()
            self.first, self.module[1].p = first, 0.0

        def batch(self, step):
            return super().batch(self.first + step - 1)

        def after_step(self, step):
            gradients[self.first, step] = self.module[0].weight.grad.clone()

    for first, steps in ((1, 2), (2, 1)):  # the batch of step 2 after another one, and alone
        settings = Settings(steps=steps, learning_rate=1e-12, precision="fp32")
        fit(Recorded(first), settings, FakeRun(tmp_path / str(first)))
    torch.testing.assert_close(gradients[1, 2], gradients[2, 1])
    assert not torch.allclose(gradients[1, 1], gradients[1, 2])


def test_clipping_bounds_the_update_and_logs_the_norm_before_it(tmp_path):
    norms = []

    class Recorded(Regression):
        def after_step(self, step):
            norms.append(
                math.sqrt(sum(float(p.grad.square().sum()) for p in self.module.parameters()))
            )

    objective, run = Recorded(), FakeRun(tmp_path)
    fit(objective, Settings(steps=3, learning_rate=1e-4, clip_norm=0.5, precision="fp32"), run)
    assert all(row["grad_norm"] > 0.5 for row in run.rows)
    assert norms == pytest.approx([0.5] * 3, rel=1e-3)


def test_a_non_finite_loss_stops_with_step_parts_and_rate_and_keeps_the_checkpoint(tmp_path):
    run = FakeRun(tmp_path)
    with pytest.raises(TrainingError) as caught:
        fit(Regression(poison={7: math.inf}), SETTINGS, run)
    message = str(caught.value)
    assert "step 7: the loss is not finite (total" in message
    assert "fit" in message
    assert "learning rate" in message
    assert "step 6 still had" in message
    assert checkpoints.newest(run.checkpoints)[0] == 5
    assert run.rows[-1]["step"] == 6


def test_a_non_finite_gradient_stops_before_it_reaches_the_weights(tmp_path):
    class Root(Regression):
        def loss(self, batch):
            parts = super().loss(batch)
            root = (self.module[0].weight * 0).sum().sqrt()  # 0, with an infinite slope
            return Loss(parts.total + root, parts.fit, parts.size)

    objective = Root()
    with pytest.raises(TrainingError, match=r"step 1: the gradient is (nan|inf)"):
        fit(objective, SETTINGS, FakeRun(tmp_path))
    assert all(torch.isfinite(p).all() for p in objective.module.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1e9}, "learning_rate: got 1000000000.0"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"steps": 0}, "steps: got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
    ],
)
def test_senseless_settings_are_refused_by_name(changes, message):
    with pytest.raises(TrainingError, match=message):
        Settings(**{**SETTINGS.__dict__, **changes})


def test_nothing_to_train_is_refused(tmp_path):
    objective = Regression()
    objective.module.requires_grad_(False)
    with pytest.raises(TrainingError, match="every parameter is frozen"):
        fit(objective, SETTINGS, FakeRun(tmp_path))


def test_a_run_with_checkpoints_is_not_silently_started_again(tmp_path):
    run = FakeRun(tmp_path)
    fit(Regression(), SETTINGS, run)
    with pytest.raises(TrainingError, match="already has a checkpoint at step 10"):
        fit(Regression(), SETTINGS, run)
    assert fit(Regression(), SETTINGS, run, resume=True) == "finished"
    assert len(run.rows) == 10


def test_the_last_two_checkpoints_are_kept_and_nothing_is_pickled(tmp_path):
    run = FakeRun(tmp_path)
    settings = Settings(**{**SETTINGS.__dict__, "checkpoint_every": 2})
    fit(Regression(), settings, run, on_checkpoint=lambda path, step: path.mkdir())
    folders = ["final", "step-000008", "step-000010"]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == folders
    names = {path.name for path in run.checkpoints.rglob("*")} - {*folders}
    assert names == {"state.safetensors", "state.json", "encoder"}


def test_a_stop_saves_once_and_tied_weights_survive(tmp_path):
    objective, run = Regression(), FakeRun(tmp_path, stop_after=4)
    objective.module[1].tied = objective.module[0].weight
    assert fit(objective, SETTINGS, run) == "stopped"
    assert [step for step, _ in checkpoints.steps(run.checkpoints)] == [4]


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    whole, run = FakeRun(tmp_path / "whole"), FakeRun(tmp_path / "run")
    fit(Regression(), SETTINGS, whole)
    saves = []

    def second_fails(tensors, path):
        saves.append(path)
        if len(saves) == 2:
            Path(path).write_bytes(b"half")
            full_disk()
        real(tensors, path)

    real = checkpoints.save_file
    monkeypatch.setattr(checkpoints, "save_file", second_fails)
    with pytest.raises(TrainingError) as caught:
        fit(Regression(), SETTINGS, run)
    message = str(caught.value)
    assert "checkpoint at step 10 could not be saved: the disk is full (" in message
    assert "MB needed" in message
    assert message.endswith("free space and resume from step 5")
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000005"]
    fit(Regression(), SETTINGS, run, resume=True)
    assert_same(whole, run)


def test_a_real_limit_on_file_size_reads_as_a_full_disk(tmp_path):
    run = FakeRun(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # bytes; the weights need more
    try:
        with pytest.raises(TrainingError, match="could not be saved: the disk is full"):
            fit(Regression(), SETTINGS, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(run.checkpoints.iterdir()) == []


def test_a_full_disk_in_the_encoder_folder_or_the_log_is_told_too(tmp_path, monkeypatch):
    with pytest.raises(TrainingError, match="step 5 could not be saved: the disk is full"):
        fit(Regression(), SETTINGS, FakeRun(tmp_path / "a"), on_checkpoint=full_disk)
    run = FakeRun(tmp_path / "b")
    monkeypatch.setattr(run, "log", full_disk)
    with pytest.raises(TrainingError, match="step 1 could not be logged: the disk is full"):
        fit(Regression(), SETTINGS, run)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    whole, run = FakeRun(tmp_path / "whole"), FakeRun(tmp_path / "run")
    fit(Regression(), SETTINGS, whole)
    fit(Regression(), SETTINGS, run)
    broken = run.checkpoints / "step-000010" / checkpoints.TENSORS
    broken.write_bytes(broken.read_bytes()[:500])
    fit(Regression(), SETTINGS, run, resume=True)
    assert_same(whole, run)
    for path in run.checkpoints.glob("*/state.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="step-000010: this checkpoint cannot be resumed"):
        fit(Regression(), SETTINGS, run, resume=True)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run = FakeRun(tmp_path)
    fit(Regression(), SETTINGS, run)
    other = Regression()
    other.module[0] = nn.Linear(6, 7)
    with pytest.raises(TrainingError, match="cannot be resumed"):
        fit(other, SETTINGS, run, resume=True)


def test_measure_times_real_steps_and_keeps_nothing(tmp_path):
    found = measure(Regression(), SETTINGS)
    assert found["minutes"] == pytest.approx(found["seconds_per_step"] * 10 / 60)
    assert found["seconds_per_step"] > 0
    assert 50 < found["peak_mb"] < 100_000
    assert found["trained_parameters"] == 6 * 32 + 32 + 32 + 1
    assert found["precision"] == "fp32"
    assert list(tmp_path.iterdir()) == []


def test_auto_precision_is_one_of_the_two():
    assert training.resolve_precision("auto") in ("fp32", "bf16")
    assert training.resolve_precision("fp32") == "fp32"


# -- what recipes may ask for ------------------------------------------------------------------


@pytest.mark.parametrize("steps", [20, 33, 480])
def test_one_cycle_is_torchs(steps):
    settings = Settings(steps=steps, learning_rate=0.2, schedule="onecycle")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.2, steps, pct_start=0.1, div_factor=25, final_div_factor=1e3
    )
    theirs = []
    for _ in range(steps):
        theirs.append(cycle.get_last_lr()[0])
        optimizer.step(), cycle.step() if len(theirs) < steps else None
    ours = [learning_rate(settings, step) for step in range(1, steps + 1)]
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_a_rate_falls_to_its_lowest():
    settings = Settings(steps=100, learning_rate=0.5, schedule="cosine", lowest_rate=0.1)
    ours = [learning_rate(settings, step) for step in (1, 51)]
    assert ours == pytest.approx([0.5, 0.3])
    assert 0.1 < learning_rate(settings, 100) < 0.101


def test_what_is_held_before_a_step_does_not_move_and_is_not_clipped(tmp_path):
    class Held(Regression):
        def before_step(self, step):
            if step <= 3:
                self.module[2].weight.grad = None

        def after_step(self, step):
            super().after_step(step)
            self.seen = {**getattr(self, "seen", {}), step: self.module[2].weight.clone()}

    objective, start = Held(), Held().module[2].weight.clone()
    fit(objective, SETTINGS, FakeRun(tmp_path / "held"))
    assert all(torch.equal(objective.seen[step], start) for step in (1, 2, 3))
    assert not torch.equal(objective.seen[4], start)
    whole, halves = FakeRun(tmp_path / "whole"), FakeRun(tmp_path / "halves", stop_after=2)
    settings = Settings(**{**SETTINGS.__dict__, "checkpoint_every": 2})
    fit(Held(), settings, whole)
    fit(Held(), settings, halves)
    halves.stop_after = None
    fit(Held(), settings, halves, resume=True)
    assert_same(whole, halves)


@pytest.mark.parametrize(
    ("kind", "amsgrad"), [("adamw", False), ("adamw", True), ("adam", True), ("sgd", False)]
)
def test_every_optimiser_resumes_bit_for_bit_with_its_groups(tmp_path, kind, amsgrad):
    class Grouped(Regression):
        def groups(self):
            matrices, vectors = undecayed(self.module)
            return [matrices, {**vectors, "scale": 0.5}]

    changes = {"optimizer": kind, "amsgrad": amsgrad, "betas": (0.9, 0.95), "learning_rate": 1e-3}
    settings = Settings(**{**SETTINGS.__dict__, **changes})
    whole, halves = FakeRun(tmp_path / "whole"), FakeRun(tmp_path / "halves", stop_after=5)
    fit(Grouped(), settings, whole)
    fit(Grouped(), settings, halves)
    halves.stop_after = None
    fit(Grouped(), settings, halves, resume=True)
    assert_same(whole, halves)


def test_biases_are_not_decayed_and_a_group_may_be_slower(tmp_path):
    class Still(Regression):
        def groups(self):
            return [{**group, "scale": 0.5} for group in undecayed(self.module)]

        def loss(self, batch):
            nothing = sum(parameter.sum() * 0 for parameter in self.module.parameters())
            return Loss(nothing, nothing, nothing)

    before, after = Still(), Still()
    settings = Settings(steps=1, learning_rate=0.1, weight_decay=0.5, precision="fp32")
    fit(after, settings, FakeRun(tmp_path))
    for name, parameter in after.module.named_parameters():
        kept = 1.0 if parameter.ndim == 1 else 1 - 0.1 * 0.5 * 0.5
        torch.testing.assert_close(parameter, before.module.get_parameter(name) * kept)


def test_settings_are_read_off_the_options_that_have_their_names():
    class Options:
        steps, learning_rate, betas = 7, 0.25, (0.9, 0.95)
        temperature = 0.1

    settings = training.settings_of(Options())
    assert (settings.steps, settings.learning_rate, settings.betas) == (7, 0.25, (0.9, 0.95))
    assert settings.clip_norm == 0
