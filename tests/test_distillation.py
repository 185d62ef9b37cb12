"""Student and teacher: running mean, centre, held last layer, collapse, two processes."""

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from torch import nn

from refine import distillation, encoders
from refine.crops import Crops
from refine.distillation import ALIKE_STEPS, Head, Objective, Pair, cross_view_cosine
from refine.encoders import speaker
from refine.losses.dino import dino
from refine.recipes.dino import Dino
from refine.training import TrainingError

CONFIG = Dino(outputs=24, hidden=16, bottleneck=8, batch_size=4, epochs=10, held_epochs=2)
STEPS_PER_EPOCH, STEPS = 5, 50


def network(seed=0):
    return speaker.build("ecapa_tdnn", channels=8, dim=12, pooling="stats", seed=seed)


def pair_of(encoder=network, config=CONFIG):
    student, teacher = encoder(), encoder()
    torch.manual_seed(0)
    dim = distillation.width(student, config)
    heads = [Head(dim, config.outputs, config.hidden, config.bottleneck) for _ in range(2)]
    return Pair(student, teacher, *heads)


def views_of(rows, step=1, samples=(4800, 3200), seed=0):
    """Crops of noise, the same for a row whatever the batch."""
    chunks = []
    for views, length in ((2, samples[0]), (4, samples[1])):
        generator = torch.Generator().manual_seed(seed + 100 * step + length)
        noise = torch.randn(views, 8, length, generator=generator) * 0.1
        chunks += [noise[:, rows].flatten(0, 1), torch.full((views * len(rows),), length)]
    return Crops(*chunks, np.asarray(rows), step, 1.0)


def objective(config=CONFIG, pair=None):
    source = SimpleNamespace(short_views=4, steps_per_epoch=lambda size: STEPS_PER_EPOCH)
    return Objective(config, pair or pair_of(config=config), source, STEPS)


ROWS = [0, 1, 2, 3]


# -- head and pair -----------------------------------------------------------------------------


def test_the_head_is_the_papers():
    head = Head(256, 65_536)
    kinds = [type(layer) for layer in head.mlp]
    assert kinds == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    assert [head.mlp[i].weight.shape for i in (0, 2, 4)] == [(2048, 256), (2048, 2048), (256, 2048)]
    assert head.directions.shape == (65_536, 256)
    for weight in (head.mlp[2].weight, head.directions):
        assert float(weight.std()) == pytest.approx(0.02, rel=0.02)
        assert float(weight.abs().max()) <= 2.0
    assert all((head.mlp[i].bias == 0).all() for i in (0, 2, 4))


def test_logits_are_cosines_whatever_the_gain_of_the_directions():
    head = Head(6, 10, 8, 4)
    x = torch.randn(5, 6)
    logits = head(x)
    z = F.normalize(head.mlp(x), dim=-1)
    expected = [[F.cosine_similarity(v, w, dim=0) for w in head.directions] for v in z]
    torch.testing.assert_close(logits, torch.tensor(expected))
    with torch.no_grad():
        head.directions.mul_(torch.rand(10, 1) + 0.5)
    torch.testing.assert_close(head(x), logits)


def test_the_teacher_starts_as_the_student_and_follows_its_parameters():
    pair = pair_of()
    for ours, theirs in zip(pair.teacher.parameters(), pair.student.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert not ours.requires_grad
    before = [p.clone() for p in pair.teacher_head.parameters()]
    with torch.no_grad():
        for parameter in pair.student_head.parameters():
            parameter.add_(1.0)
    pair.follow(0.9)
    for kept, moved in zip(before, pair.teacher_head.parameters(), strict=True):
        torch.testing.assert_close(moved, kept + 0.1)


def test_batch_statistics_are_the_teachers_own_and_it_stays_in_training_mode():
    """Running means are no parameters: the mean of the student's would be another encoder."""
    aim = objective()
    pair = aim.module
    assert pair.teacher.training
    assert pair.student.training
    parts = aim.loss(views_of(ROWS))
    name = next(n for n, _ in pair.teacher.named_buffers() if n.endswith("running_mean"))
    ours, theirs = (dict(e.named_buffers())[name] for e in (pair.teacher, pair.student))
    assert not torch.equal(ours, theirs)  # long chunks alone, against long and short ones
    kept = ours.clone()
    parts.total.backward()
    aim.after_step(1)
    assert torch.equal(kept, dict(pair.teacher.named_buffers())[name])


def test_a_transformer_has_its_dropout_off_unless_asked(tiny_encoder):
    load = lambda: encoders.load(tiny_encoder("hubert"))  # noqa: E731
    assert not objective(pair=pair_of(load)).module.student.training
    config = Dino(**{**vars(CONFIG), "dropout": "checkpoint"})
    assert objective(config, pair_of(load, config)).module.student.training


# -- loss --------------------------------------------------------------------------------------


def test_the_loss_is_dino_of_six_student_views_and_two_of_the_teacher():
    aim = objective()
    pair, batch = aim.module, views_of(ROWS)
    pair.centre.centre.uniform_(-0.1, 0.1)
    parts = aim.loss(batch)
    with torch.no_grad():
        student = [
            pair.student_head(pair.student.embed(part, lengths)).unflatten(0, (-1, 4))
            for part, lengths in (
                (batch.long, batch.long_lengths),
                (batch.short, batch.short_lengths),
            )
        ]
        teacher = pair.teacher_head(pair.teacher.embed(batch.long, batch.long_lengths))
    expected = dino(torch.cat(student), teacher.unflatten(0, (2, 4)), pair.centre.centre)
    assert float(parts.total.detach()) == pytest.approx(float(expected.total), rel=1e-5)
    assert float(parts.total.detach()) == pytest.approx(float(parts.entropy + parts.kl), rel=1e-5)
    assert all(p.grad is None for p in pair.teacher.parameters())


def test_the_regulariser_is_the_cosine_of_different_views():
    s, t = torch.randn(6, 3, 5), torch.randn(2, 3, 5)
    found = cross_view_cosine(s, t)
    terms = [
        F.cosine_similarity(s[v], t[u], dim=-1).mean()
        for u in range(2) for v in range(6) if u != v
    ]  # fmt: skip
    assert len(terms) == 10
    torch.testing.assert_close(found, torch.stack(terms).mean())


def test_its_weight_rises_over_its_epochs():
    config = Dino(**{**vars(CONFIG), "cosine_weight": 0.1, "cosine_epochs": 4.0})
    for step, share in ((1, 0.05), (10, 0.5), (20, 1.0), (49, 1.0)):
        parts = objective(config).loss(views_of(ROWS, step))
        extra = float((parts.total - parts.dino).detach())
        assert extra == pytest.approx(0.1 * share * (1 - float(parts.cosine)), rel=1e-3)
    assert CONFIG.cosine_weight == 0


def test_momentum_rises_to_one_along_half_a_cosine():
    aim = objective()
    assert aim.momentum(1) == pytest.approx(0.996)
    assert aim.momentum(26) == pytest.approx(0.998)
    assert aim.momentum(51) == pytest.approx(1.0)
    values = [aim.momentum(step) for step in range(1, 51)]
    assert values == sorted(values)


def test_the_last_layer_is_held_in_its_epochs():
    aim = objective()
    head = aim.module.student_head
    for step, held in ((1, True), (10, True), (11, False)):
        aim.loss(views_of(ROWS, step)).total.backward()
        aim.before_step(step)
        assert (head.directions.grad is None) == held
        assert head.mlp[0].weight.grad is not None
    free = objective(Dino(**{**vars(CONFIG), "held_epochs": 0.0}))
    free.loss(views_of(ROWS)).total.backward()
    free.before_step(1)
    assert free.module.student_head.directions.grad is not None


def test_the_centre_moves_after_the_loss_towards_the_mean_of_the_teacher():
    aim = objective()
    pair, batch = aim.module, views_of(ROWS)
    aim.loss(batch)
    assert (pair.centre.centre == 0).all()
    with torch.no_grad():
        logits = pair.teacher_head(pair.teacher.embed(batch.long, batch.long_lengths))
    aim.after_step(1)
    torch.testing.assert_close(pair.centre.centre, 0.1 * logits.mean(0), rtol=1e-4, atol=1e-6)


def test_biases_and_norms_have_no_decay_and_the_teacher_no_place_in_the_optimiser():
    aim = objective()
    matrices, vectors = aim.groups()
    assert vectors["weight_decay"] == 0
    assert {p.ndim for p in vectors["params"]} == {1}
    count = len(matrices["params"]) + len(vectors["params"])
    student = [*aim.module.student.parameters(), *aim.module.student_head.parameters()]
    assert count == len(student)


# -- collapse ----------------------------------------------------------------------------------


def collapse(logits, **changes):
    """Steps with these teacher logits (views, batch, outputs), until someone objects."""
    aim = objective(Dino(**{**vars(CONFIG), **changes}))
    for step in range(1, ALIKE_STEPS + 1):
        aim._logits = logits
        aim._watch(step, logits)
    return aim


def test_a_teacher_that_says_one_thing_is_named():
    logits = torch.full((2, 4, 24), -1.0)
    logits[..., 7] = 1.0
    with pytest.raises(TrainingError, match=r"step 20: the teacher has collapsed, every clip gets"):
        collapse(logits)


def test_a_teacher_that_says_nothing_is_named():
    with pytest.raises(
        TrainingError, match=r"all outputs are alike .*entropy 3.18 of at most 3.18"
    ):
        collapse(torch.zeros(2, 4, 24))


def test_sure_and_different_is_no_collapse_and_a_short_one_is_forgiven():
    sure = torch.full((2, 4, 24), -1.0)
    sure[:, torch.arange(4), torch.arange(4)] = 1.0
    assert int(collapse(sure).module.alike) == 0
    aim = objective()
    for step in range(1, 40):
        aim._watch(step, torch.zeros(2, 4, 24) if step % ALIKE_STEPS else sure)


def test_a_collapse_may_go_on_when_asked():
    assert int(collapse(torch.zeros(2, 4, 24), on_collapse="go on").module.alike) == ALIKE_STEPS


# -- memory ------------------------------------------------------------------------------------


def test_the_estimate_of_the_head_grows_with_outputs_and_batch():
    base = distillation.head_bytes(Dino())
    assert 0.5e9 < base < 2.5e9  # the paper's
    assert distillation.head_bytes(Dino(outputs=131_072)) == pytest.approx(2 * base)
    assert distillation.head_bytes(Dino(batch_size=960)) > 5 * base
    assert distillation.available_bytes() > 1e8


# -- two processes -----------------------------------------------------------------------------


class Found(NamedTuple):
    total: torch.Tensor
    centre: torch.Tensor
    gradients: list[torch.Tensor]


def _step(folder: str, rows: list[int]) -> Found:
    aim = objective(pair=pair_of(lambda: encoders.load(folder)))
    parts = aim.loss(views_of(rows))
    parts.total.backward()
    aim.after_step(1)
    trained = [p for group in aim.groups() for p in group["params"] if p.grad is not None]
    return Found(parts.total.detach(), aim.module.centre.centre, [p.grad for p in trained])


def _process(rank: int, folder: str, out: str) -> None:
    store = dist.FileStore(os.path.join(out, "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = _step(folder, [[0, 1], [2, 3]][rank])
    for gradient in (found.total, *found.gradients):  # as the loop does
        dist.all_reduce(gradient)
        gradient /= 2
    uneven = _step(folder, [[0, 1], [2, 3, 4]][rank])
    torch.save((found, uneven.centre), os.path.join(out, f"{rank}.pt"))
    dist.destroy_process_group()


def test_two_processes_step_as_one_with_the_whole_batch(tiny_encoder, tmp_path: Path):
    folder = str(tiny_encoder("hubert"))
    torch.multiprocessing.spawn(_process, (folder, str(tmp_path)), nprocs=2)
    whole, five = _step(folder, ROWS), _step(folder, [*ROWS, 4])
    for rank in range(2):
        found, uneven = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        torch.testing.assert_close(found.total, whole.total, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.centre, whole.centre, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(uneven, five.centre, rtol=1e-5, atol=1e-7)
        for ours, theirs in zip(found.gradients, whole.gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert math.isfinite(float(whole.total))
