"""Downstream heads: equal to SUPERB's head on frames, trained alone; speed-ups in closed form."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from refine import encoders
from refine.corpus import open_corpus
from refine.downstream import (
    Curve,
    DownstreamError,
    Settings,
    draw,
    finetuned,
    frozen,
    looks_at,
    mean_curve,
    over_seeds,
    speed_up,
    steps_to,
)
from refine.metrics.accuracy import uar
from refine.splits import Split, split_of

QUICK = Settings(steps=30, batch_size=8, learning_rate=1e-2, width=16)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def task(random):
    """60 clips of 3 classes: 4 frames of 2 layers in 6 dimensions, split 30/15/15."""
    labels = np.array(["a", "b", "c"])[np.arange(60) % 3]
    centre = random.normal(0, 1, (3, 1, 1, 6))
    frames = centre[np.arange(60) % 3] + random.normal(0, 1.5, (60, 2, 4, 6))
    rows = np.arange(60)
    return frames, labels, Split(rows[:30], rows[30:45], rows[45:])


class Superb(torch.nn.Module):
    """s3prl's featurizer and UtteranceLevel head, module by module, on frames."""

    def __init__(self, layers, dim, classes, width):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(layers))
        self.projector = torch.nn.Linear(dim, width)
        self.linear = torch.nn.Linear(width, classes)

    def forward(self, frames):  # (batch, layers, frames, dim)
        share = torch.nn.functional.softmax(self.weights, dim=-1)
        mixed = sum(share[i] * frames[:, i] for i in range(len(share)))
        return self.linear(self.projector(mixed).mean(dim=1))


def slow(frames, labels, drawn, split, settings):
    """One head, one step after the other, on frames."""
    codes = torch.from_numpy(np.unique(labels, return_inverse=True)[1])
    x = torch.from_numpy(frames).float()
    torch.manual_seed(settings.seed)
    head = Superb(x.shape[1], x.shape[3], 3, settings.width)
    optimizer = torch.optim.Adam(head.parameters(), settings.learning_rate)
    order = np.random.default_rng([settings.seed, 1])
    queue, dev, test = [], [], []
    for step in range(settings.steps + 1):
        if step in looks_at(settings.steps):
            said = head(x).argmax(-1).numpy()
            for rows, scores in ((split.dev, dev), (split.test, test)):
                scores.append(uar(codes.numpy()[rows], said[rows]))
        while len(queue) < settings.batch_size:
            queue += order.permutation(drawn).tolist()
        rows, queue = queue[: settings.batch_size], queue[settings.batch_size :]
        loss = torch.nn.functional.cross_entropy(head(x[rows]), codes[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Curve(np.array(looks_at(settings.steps)), np.array(dev), np.array(test))


# -- the head ----------------------------------------------------------------------------------


def test_cached_means_learn_as_superbs_head_does_on_frames(task):
    frames, labels, split = task
    drawn = draw(labels, split.train, 0.5, seed=0)
    (curve,) = frozen([frames.mean(2)], [drawn], labels, split, QUICK)
    expected = slow(frames, labels, drawn, split, QUICK)
    np.testing.assert_array_equal(curve.steps, expected.steps)
    np.testing.assert_allclose(curve.dev, expected.dev, atol=1e-9)
    np.testing.assert_allclose(curve.test, expected.test, atol=1e-9)
    assert curve.dev[-1] > curve.dev[0]


def test_heads_side_by_side_learn_as_each_alone(task, random):
    frames, labels, split = task
    tables = [frames.mean(2), 3 * frames.mean(2) + random.normal(size=6)]
    drawn = [draw(labels, split.train, share, seed) for seed, share in ((1, 0.2), (2, 1.0))]
    together = frozen(tables, drawn, labels, split, QUICK, seeds=[1, 2])
    for place in range(2):
        (alone,) = frozen(
            tables[place : place + 1], drawn[place : place + 1], labels, split, QUICK,
            seeds=[place + 1],
        )  # fmt: skip
        np.testing.assert_allclose(together[place].test, alone.test, atol=1e-9)


def test_the_order_of_layers_and_of_unused_clips_does_not_matter(task):
    frames, labels, split = task
    drawn = [draw(labels, split.train, 1.0, 0)]
    (first,) = frozen([frames.mean(2)], drawn, labels, split, QUICK)
    (turned,) = frozen([frames.mean(2)[:, ::-1].copy()], drawn, labels, split, QUICK)
    np.testing.assert_allclose(first.test, turned.test, atol=1e-9)
    some = Split(split.train, split.dev, split.test[:9])
    (fewer,) = frozen([frames.mean(2)], drawn, labels, some, QUICK)
    np.testing.assert_allclose(first.dev, fewer.dev, atol=1e-9)


def test_the_same_seed_repeats_a_curve_and_the_defaults_are_s3prls(task):
    frames, labels, split = task
    drawn = [draw(labels, split.train, 0.5, 0)]
    first, again = (frozen([frames.mean(2)], drawn, labels, split, QUICK)[0] for _ in range(2))
    np.testing.assert_array_equal(first.test, again.test)
    assert (Settings().batch_size, Settings().learning_rate, Settings().width) == (32, 1e-4, 256)


def test_labels_are_drawn_class_by_class_and_nested():
    labels = np.array(["a"] * 50 + ["b"] * 20 + ["c"] * 5)
    rows = np.arange(75)
    one, ten, half, every = (draw(labels, rows, share, 3) for share in (0.01, 0.1, 0.5, 1.0))
    assert [list(labels[one]).count(name) for name in "abc"] == [1, 1, 1]
    assert [list(labels[ten]).count(name) for name in "abc"] == [5, 2, 1]
    assert set(one) <= set(ten) <= set(half) <= set(every)
    np.testing.assert_array_equal(every, rows)
    assert not np.array_equal(draw(labels, rows, 0.1, 4), ten)


def test_a_curve_is_looked_at_ever_more_rarely():
    steps = looks_at(1500)
    assert steps[:6] == (0, 1, 2, 3, 4, 5)
    assert steps[-1] == 1500
    assert all(b - a <= max(1, 0.17 * b + 1) for a, b in pairwise(steps))
    assert looks_at(1) == (0, 1)


# -- fine-tuning -------------------------------------------------------------------------------


def test_fine_tuning_starts_where_the_frozen_head_does_and_moves_the_encoder(
    tiny_encoder, tone_corpus
):
    corpus = open_corpus(tone_corpus)
    encoder = encoders.load(tiny_encoder("hubert"))
    waves = [corpus.waveform(clip) for clip in corpus.table["clip"]]
    labels = corpus.table["content"].to_numpy()
    split = split_of(corpus.table, "content")
    lengths = [torch.tensor([len(wave)]) for wave in waves]
    with torch.inference_mode():
        pooled = [
            encoder.embed(torch.from_numpy(w)[None], n, "all", "mean")[:, 0].numpy()
            for w, n in zip(waves, lengths, strict=True)
        ]
    settings = Settings(steps=6, batch_size=4, learning_rate=1e-3, width=8)
    (cached,) = frozen([np.stack(pooled)], [split.train], labels, split, settings)
    before = [p.detach().clone() for p in encoder.parameters()]
    curve = finetuned(encoder, waves, split.train, labels, split, settings, looks=[0, 3, 6])
    assert curve.steps.tolist() == [0, 3, 6]
    assert curve.test[0] == cached.test[0]
    assert curve.dev[0] == cached.dev[0]
    moved = [not torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True)]
    assert sum(moved) > 0.8 * len(moved)
    again = encoders.load(tiny_encoder("hubert"))
    repeat = finetuned(again, waves, split.train, labels, split, settings, looks=[0, 3, 6])
    np.testing.assert_array_equal(curve.test, repeat.test)


# -- speed -------------------------------------------------------------------------------------


def curve(*test, steps=None):
    steps = np.arange(len(test)) * 10 if steps is None else np.array(steps)
    return Curve(steps, np.array(test, float), np.array(test, float))


def test_steps_to_a_level():
    rising = curve(0.1, 0.4, 0.6, 0.5, 0.8)
    assert steps_to(rising, 0.55) == 20
    assert steps_to(rising, 0.8) == 40
    assert steps_to(rising, 0.81) is None
    assert rising.best == 0.8
    early = Curve(np.arange(3), np.array([0.5, 0.9, 0.9]), np.array([0.1, 0.2, 0.3]))
    assert early.best == 0.2  # where dev is highest, first


def test_a_speed_up_in_closed_form():
    base = [curve(0, 0.5, 0.9, 1.0), curve(0, 0.2, 0.4, 0.95, 1.0)]  # 95 % at 30 and 30
    other = [curve(0, 0.96, 1.0, 1.0), curve(0, 0.2, 0.97, 1.0, 1.0)]  # at 10 and 20
    found = speed_up(base, other)
    assert (found.base, found.other, found.never) == ((30, 30), (10, 20), 0)
    logs = [math.log(1 / 3), math.log(2 / 3)]
    assert found.ratio.value == pytest.approx(math.exp(np.mean(logs)))
    low, high = stats.t.interval(0.95, 1, np.mean(logs), stats.sem(logs))
    assert found.ratio.low == pytest.approx(math.exp(low))
    assert found.ratio.high == pytest.approx(math.exp(high))
    assert (found.ratio.null, found.ratio.n) == (1.0, 2)
    with_itself = speed_up(base, base, share=1.0).ratio
    assert (with_itself.value, with_itself.low, with_itself.high) == (1, 1, 1)


def test_a_speed_up_does_not_depend_on_the_order_of_seeds_and_inverts(random):
    base = [curve(*np.sort(random.random(20))) for _ in range(4)]
    late = [Curve(c.steps * 3, c.dev, c.test) for c in base]
    assert speed_up(base, late).ratio.value == pytest.approx(3)
    assert speed_up(late, base).ratio.value == pytest.approx(1 / 3)
    mixed = [curve(*np.sort(random.random(20))) for _ in range(4)]
    first = speed_up(base, mixed).ratio
    second = speed_up(base[::-1], mixed[::-1]).ratio
    assert (first.value, first.high) == pytest.approx((second.value, second.high))


def test_a_level_that_is_never_reached_counts_with_the_budget_and_is_told():
    base = [curve(0, 0.5, 1.0)] * 2
    found = speed_up(base, [curve(0, 0.5, 0.9), curve(0, 1.0, 1.0)])
    assert found.never == 1
    assert found.other == (None, 10)
    assert found.ratio.value == pytest.approx(math.sqrt(1 * 0.5))
    assert "1 never reach it" in found.ratio.definition


def test_the_mean_curve_and_the_interval_over_seeds():
    mean = mean_curve([curve(0, 1), curve(1, 0.5)])
    np.testing.assert_allclose(mean.test, [0.5, 0.75])
    number = over_seeds([1.0, 2.0, 3.0], "a score")
    low, high = stats.t.interval(0.95, 2, 2, stats.sem([1, 2, 3]))
    assert (number.value, number.low, number.high, number.n) == pytest.approx((2, low, high, 3))


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Settings(steps=0), "steps: got 0"),
        (lambda: Settings(learning_rate=2.0), "learning_rate: got 2"),
        (lambda: draw(["a"], np.array([0]), 0.0, 0), "fraction: got 0"),
        (lambda: speed_up([curve(0, 1)], [curve(0, 1)]), "two at least; got 1 and 1"),
        (lambda: speed_up([curve(0, 1)] * 2, [curve(0, 1)]), "got 2 and 1"),
        (lambda: over_seeds([1.0], "x"), "two or more; got 1"),
        (lambda: mean_curve([]), "same steps"),
        (lambda: mean_curve([curve(0, 1), curve(0, 1, 1)]), "same steps"),
    ],
)
def test_senseless_input_is_refused(call, match):
    with pytest.raises(DownstreamError, match=match):
        call()


def test_tasks_that_cannot_be_learnt_are_refused(task):
    frames, labels, split = task
    x, drawn = [frames.mean(2)], [split.train]
    with pytest.raises(DownstreamError, match="two classes or more"):
        frozen(x, drawn, np.array(["a"] * 60), split, QUICK)
    with pytest.raises(DownstreamError, match="clips of train"):
        frozen(x, [split.test], labels, split, QUICK)
    with pytest.raises(DownstreamError, match="clips of train; got 0"):
        frozen(x, [split.test[:0]], labels, split, QUICK)
    with pytest.raises(DownstreamError, match="1 feature tables, 2 draws"):
        frozen(x, drawn * 2, labels, split, QUICK)
    other = np.where(np.arange(60) == 50, "d", labels)
    with pytest.raises(DownstreamError, match="class d is in dev or test"):
        frozen(x, drawn, other, split, QUICK)
