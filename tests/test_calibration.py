"""Calibration: the slow reference, closed forms, invariances, refusals."""

import math

import numpy as np
import pytest

from refine.metrics import calibration
from refine.metrics.calibration import (
    choose_threshold,
    ece,
    fit_temperature,
    measure,
    nll,
    softmax,
)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def slow_ece(confidence, right, bins):
    """Guo et al. 2017, bin by bin: (i / bins, (i + 1) / bins], 0 goes to the first."""
    total = 0.0
    for b in range(bins):
        inside = [
            i
            for i, c in enumerate(confidence)
            if (b / bins < c <= (b + 1) / bins) or (b == 0 and c == 0)
        ]
        if inside:
            accuracy = sum(bool(right[i]) for i in inside) / len(inside)
            mean = sum(float(confidence[i]) for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


def drawn(random, n=400, k=4, temperature=1.0):
    """Logits whose softmax at `temperature` is true: labels are drawn from it."""
    logits = random.normal(0, 2, (n, k)) * temperature
    chances = softmax(logits, temperature)
    return logits, np.array([random.choice(k, p=row) for row in chances])


def test_nll_and_ece_equal_slow_references(random):
    logits, truth = drawn(random)
    pairs = zip(logits, truth, strict=True)
    slow = [-math.log(np.exp(row)[t] / np.exp(row).sum()) for row, t in pairs]
    np.testing.assert_allclose(nll(logits, truth), slow, rtol=1e-12)
    chances = softmax(logits)
    right = chances.argmax(1) == truth
    for bins in (1, 10, 15):
        assert ece(chances.max(1), right, bins) == pytest.approx(
            slow_ece(chances.max(1), right, bins), abs=1e-12
        )


def test_closed_forms():
    assert nll(np.zeros((3, 5)), np.array([0, 1, 4])) == pytest.approx(math.log(5))
    assert ece(np.ones(4), np.array([True] * 4)) == 0
    assert ece(np.ones(4), np.array([False] * 4)) == 1
    assert ece(np.full(10, 0.7), np.arange(10) < 7) == pytest.approx(0, abs=1e-12)
    assert ece(np.full(10, 0.9), np.arange(10) < 5) == pytest.approx(0.4)
    # two classes, logit gap g, a share p right: the best gap at temperature T is logit(p)
    logits = np.tile([3.0, 0.0], (1000, 1))
    truth = (np.arange(1000) >= 880).astype(int)
    assert fit_temperature(logits, truth) == pytest.approx(3 / math.log(0.88 / 0.12), rel=0.01)


def test_the_temperature_is_found_again_and_only_scales(random):
    logits, truth = drawn(random, n=4000, temperature=3.0)
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(3, rel=0.1)
    assert fit_temperature(2 * logits, truth) == pytest.approx(2 * found, rel=1e-3)
    assert fit_temperature(logits + 100.0, truth) == pytest.approx(found, rel=1e-3)
    assert (softmax(logits, found).argmax(1) == logits.argmax(1)).all()
    assert nll(logits, truth, found).mean() < nll(logits, truth).mean()


def test_a_few_right_clips_do_not_make_it_certain(random):
    logits = np.eye(4)[np.arange(12) % 4] * 2.0
    found = fit_temperature(logits, np.arange(12) % 4)
    assert softmax(logits, found).max() < 0.99
    far = np.eye(2)[np.ones(50, int)] * 1e-9  # says nothing
    assert fit_temperature(far, np.arange(50) % 2) <= calibration.TEMPERATURES[1] * 1.001


@pytest.mark.parametrize("floor", [0.0, 0.5, 0.9])
def test_the_threshold_answers_most_at_the_precision(random, floor):
    confidence = random.random(300)
    right = random.random(300) < confidence
    chosen = choose_threshold(confidence, right, 0.8, floor)
    kept = confidence >= chosen.value
    assert chosen.met
    assert right[kept].mean() == pytest.approx(chosen.precision)
    assert kept.mean() == pytest.approx(chosen.coverage)
    assert chosen.precision >= 0.8
    assert chosen.value >= floor
    below = np.sort(confidence)[np.sort(confidence) < chosen.value]
    for lower in below[below >= floor]:  # none answers more
        assert right[confidence >= lower].mean() < 0.8
    order = random.permutation(300)
    assert choose_threshold(confidence[order], right[order], 0.8, floor) == chosen


def test_a_precision_out_of_reach_is_said_so():
    confidence = np.linspace(0.2, 0.9, 40)
    right = np.arange(40) % 2 == 0
    chosen = choose_threshold(confidence, right, 0.95)
    assert not chosen.met
    assert chosen.precision == pytest.approx(0.6, abs=0.15)
    assert chosen.coverage * 40 >= calibration.FEWEST


def test_no_answer_is_rather_wrong_than_right():
    everything = choose_threshold(np.linspace(0.6, 0.9, 40), np.ones(40, bool), 0.9)
    assert everything == (0.5, 1.0, 1.0, True)
    half = choose_threshold(np.linspace(0.0, 0.99, 100), np.ones(100, bool), 0.9)
    assert half.value == 0.5
    assert half.coverage == 0.5
    # where hardly a clip reaches the floor, what comes nearest is taken
    low = choose_threshold(np.linspace(0.1, 0.4, 40), np.arange(40) >= 20, 0.9)
    assert low.met
    assert 0.2 < low.value < 0.3
    # clips of one confidence are answered together
    tied = choose_threshold(np.full(10, 0.7), np.arange(10) < 4, 0.3)
    assert (tied.coverage, tied.precision) == (1.0, 0.4)


def test_the_numbers_have_intervals_by_speaker(random):
    logits, truth = drawn(random, n=200)
    speakers = np.repeat(np.arange(10), 20)
    numbers = measure(logits, truth, 1.0, speakers)
    assert set(numbers) == {"nll", "ece"}
    assert numbers["nll"].value == pytest.approx(nll(logits, truth).mean())
    assert numbers["nll"].null == pytest.approx(math.log(4))
    for number in numbers.values():
        assert number.low <= number.value <= number.high
        assert (number.n, number.groups, number.direction) == (200, 10, "lower")
    alone = measure(logits, truth, 1.0)
    assert alone["ece"].groups is None
    assert alone["ece"].value == numbers["ece"].value


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: nll(np.zeros((2, 3)), np.array([0, 3])), "class index from 0 to 2"),
        (lambda: nll(np.zeros((0, 3)), np.array([], int)), "got logits of shape"),
        (lambda: nll(np.zeros((2, 3)), np.array([0, 1]), 0.0), "temperature: got 0"),
        (lambda: ece(np.array([1.2]), np.array([True])), "between 0 and 1"),
        (lambda: ece(np.array([]), np.array([], bool)), "got 0 confidences"),
        (lambda: choose_threshold(np.ones(3), np.ones(3, bool), 0.8), "at least 5 clips; got 3"),
        (lambda: choose_threshold(np.ones(9), np.ones(9, bool), 1.5), "precision: got 1.5"),
    ],
)
def test_senseless_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
