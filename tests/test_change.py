"""Paired changes: nothing changes by itself, pairing helps, other clips are refused."""

import numpy as np
import pytest

from refine.metrics.change import change
from refine.metrics.isotropy import measure


def clouds(seed=0, speakers=12, each=20, d=16):
    """A narrow cloud by speaker, and the same cloud with half of its offset taken away."""
    rng = np.random.default_rng(seed)
    voices = rng.normal(size=(speakers, d)) * np.linspace(3, 0.5, d)
    before = np.repeat(voices, each, axis=0) + rng.normal(size=(speakers * each, d)) + 4.0
    return before, before - 2.0, np.repeat([f"s{i}" for i in range(speakers)], each)


def test_is_the_difference_of_what_measure_reports():
    before, after, speakers = clouds()
    changes = change(before, after, speakers)
    first, second = measure(before, speakers), measure(after, speakers)
    assert set(changes) == set(first)
    for name, number in changes.items():
        assert number.value == pytest.approx(second[name].value - first[name].value, abs=1e-12)
        assert number.low <= number.value <= number.high


def test_nothing_changes_by_itself():
    before, _, speakers = clouds()
    for number in change(before, before.copy(), speakers).values():
        assert (number.value, number.low, number.high) == (0, 0, 0)


def test_agrees_with_resampling_both_by_hand():
    before, after, speakers = clouds(speakers=40, each=5)

    def mean_cosine(x):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        total = unit.sum(0)
        return (total @ total - len(x)) / (len(x) * (len(x) - 1))

    rng = np.random.default_rng(1)
    rows = np.arange(len(before)).reshape(40, 5)
    draws = [np.concatenate(rows[rng.integers(40, size=40)]) for _ in range(400)]
    spread = np.std([mean_cosine(after[i]) - mean_cosine(before[i]) for i in draws])
    number = change(before, after, speakers, resamples=400)["mean_cosine"]
    assert (number.high - number.low) / (2 * 1.96 * spread) == pytest.approx(1, abs=0.2)


def test_pairing_finds_what_two_intervals_hide():
    before, after, speakers = clouds(speakers=6)
    number = change(before, after, speakers)["mean_cosine"]
    alone = measure(before, speakers)["mean_cosine"]
    assert number.high < 0
    assert number.high - number.low < alone.high - alone.low


def test_the_order_of_the_clips_does_not_matter():
    before, after, speakers = clouds()
    order = np.random.default_rng(0).permutation(len(before))
    shuffled = change(before[order], after[order], speakers[order])
    for name, number in change(before, after, speakers).items():
        assert shuffled[name].value == pytest.approx(number.value, abs=1e-9)


def test_other_clips_are_refused():
    before, after, speakers = clouds()
    with pytest.raises(ValueError, match="same clips; got 240 before, 239 after"):
        change(before, after[1:], speakers)
