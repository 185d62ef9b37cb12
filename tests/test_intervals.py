"""Intervals: coverage, groups, reproducibility, and what cannot be reported."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from refine.metrics.intervals import Number, bootstrap, from_resamples, from_values, weights


def speakers_and_values(seed, groups=25, each=8):
    """Values that are alike within a speaker, around a true mean of 0."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), each)
    return labels, rng.standard_normal(groups)[labels] + 0.3 * rng.standard_normal(len(labels))


def test_equals_scipys_bootstrap():
    values = np.random.default_rng(0).exponential(size=80)
    ours = bootstrap(lambda index: values[index].mean(), 80, resamples=4000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.03)


def test_covers_the_truth_95_percent_of_the_time_when_speakers_are_resampled():
    by_speaker, by_clip = [], []
    for seed in range(300):
        labels, values = speakers_and_values(seed)
        number = from_values(values, "mean", labels, resamples=100, seed=seed)
        by_speaker.append(number.low <= 0 <= number.high)
        number = from_values(values, "mean", resamples=100, seed=seed)
        by_clip.append(number.low <= 0 <= number.high)
    assert 0.90 <= np.mean(by_speaker) <= 0.98
    assert np.mean(by_clip) < 0.70  # clips of one speaker are no independent evidence


def test_the_plain_bootstrap_covers_as_well():
    hits = []
    for seed in range(150):
        labels, values = speakers_and_values(seed)
        low, high = bootstrap(
            lambda index, values=values: values[index].mean(), 200, labels, 100, seed
        )
        hits.append(low <= 0 <= high)
    assert 0.88 <= np.mean(hits) <= 0.98


def test_width_of_a_mean_is_known():
    values = np.random.default_rng(0).standard_normal(1000)
    number = from_values(values, "mean", resamples=2000)
    expected = 2 * 1.96 * values.std() / math.sqrt(1000)
    assert number.high - number.low == pytest.approx(expected, rel=0.06)
    assert number.value == pytest.approx(values.mean())
    assert number.n == 1000


def test_groups_are_drawn_whole_and_the_unknown_stand_alone():
    labels = ["a", "a", "b", "b", "b", "", "", None]
    counts = weights(8, labels, resamples=300)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2:5] == counts[:, 2:3]).all()
    assert (counts[:, 5] != counts[:, 6]).any()
    units = counts[:, 0] + counts[:, 2] + counts[:, 5] + counts[:, 6] + counts[:, 7]
    assert (units == 5).all()


def test_an_order_of_clips_and_names_of_groups_do_not_matter():
    labels, values = speakers_and_values(0)
    named = [f"speaker {label}" for label in labels]
    ends = [
        bootstrap(lambda index: values[index].mean(), len(values), groups)
        for groups in (labels, named)
    ]
    assert ends[0] == ends[1]


def test_seeds():
    values = np.random.default_rng(0).standard_normal(50)
    ends = [bootstrap(lambda index: values[index].mean(), 50, seed=seed) for seed in (0, 0, 1)]
    assert ends[0] == ends[1] != ends[2]


def test_moved_resamples_surround_a_biased_value():
    low, high = from_resamples(10.0, np.linspace(3, 5, 101), units=10_000)
    assert (low, high) == pytest.approx((9.05, 10.95), abs=1e-3)


def test_few_units_widen_the_interval_as_students_t_does():
    values = np.linspace(-1, 1, 101)
    wide, narrow = (from_resamples(0.0, values, units)[1] for units in (5, 100_000))
    assert wide / narrow == pytest.approx(math.sqrt(5 / 4) * 2.7764 / 1.95996, rel=1e-3)


def test_a_number_in_a_label_is_its_value():
    assert f"{Number(0.256, 0.2, 0.3, 12, 'a share'):.0%}" == "26%"


def test_a_number_is_json():
    number = Number(
        0.5, 0.4, 0.6, 12, "a share", range=(0.0, math.inf), direction="higher", null=0.1
    )
    read = json.loads(json.dumps(number.as_dict(), allow_nan=False))
    assert read == {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 12,
        "definition": "a share",
        "range": [0.0, None],
        "direction": "higher",
        "null": 0.1,
        "control": None,
        "groups": None,
    }


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Number(math.nan, 0.0, 1.0, 5, "x"), "finite; got nan"),
        (lambda: Number(1.0, 2.0, 0.0, 5, "x"), r"goes up; got \[2.0, 0.0\]"),
        (lambda: Number(1.0, 0.0, 2.0, 5, "x", direction="up"), "'up'"),  # type: ignore
        (lambda: bootstrap(np.mean, 1), "at least 2 items; got 1"),
        (lambda: bootstrap(np.mean, 4, ["a"] * 4), "got one group"),
        (lambda: bootstrap(np.mean, 4, ["a"] * 3), "got 3 labels for 4 items"),
        (lambda: bootstrap(np.mean, 4, resamples=1), "resamples: got 1"),
        (lambda: bootstrap(np.mean, 4, level=95.0), "level: got 95"),
        (lambda: bootstrap(lambda _: math.nan, 4), "not finite"),
        (lambda: from_values(np.array([1.0, math.nan]), "share"), "share: expected finite"),
    ],
)
def test_refuses_what_cannot_be_reported(call, told):
    with pytest.raises(Exception, match=told):  # beartype refuses a direction first
        call()


def test_an_interval_of_a_mean_ends_where_its_range_does():
    values, two = np.array([1.0, 0.9, 0.95, 0.5, 0.6, 0.55]), ["a"] * 3 + ["b"] * 3
    open_ = from_values(values, "a share", two)
    closed = from_values(values, "a share", two, range=(0.0, 1.0))
    assert open_.high > 1 > closed.value == open_.value
    assert (closed.low, closed.high) == (max(open_.low, 0.0), 1.0)
