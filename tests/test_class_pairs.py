"""Classes one by one: a loop, their means, finite differences, what changes nothing."""

import numpy as np
import pytest

from refine.metrics import class_pairs, classes
from refine.metrics.class_pairs import Separation, compare
from refine.metrics.geometry import ClassesError


def cloud(n=120, d=6, k=5, seed=0, gap=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % k)
    centres = np.random.default_rng(9).standard_normal((k, d))
    x = gap * centres[labels] + rng.standard_normal((n, d))
    return x, np.array([f"c{label}" for label in labels])


def laid(x, labels, after=None, speakers=None):
    return classes.sides(x, after, labels, speakers)


def slow_overlap(x, labels, a, b):
    mean, width = {}, {}
    for name in (a, b):
        rows = [row for row, label in zip(x, labels, strict=True) if label == name]
        mean[name] = sum(rows) / len(rows)
        width[name] = sum(np.sqrt(((row - mean[name]) ** 2).sum()) for row in rows) / len(rows)
    return (width[a] + width[b]) / np.sqrt(((mean[a] - mean[b]) ** 2).sum())


def test_overlaps_are_those_of_a_loop_and_the_worst_come_first():
    x, labels = cloud()
    found = compare(*laid(x, labels))
    values = [pair["before"]["value"] for pair in found["pairs"]]
    assert values == sorted(values, reverse=True)
    assert [pair["rank"]["before"] for pair in found["pairs"]] == list(range(1, 7))
    for pair in found["pairs"]:
        assert pair["before"]["value"] == pytest.approx(slow_overlap(x, labels, *pair["classes"]))
        assert pair["before"]["low"] <= pair["before"]["value"] <= pair["before"]["high"]
    assert (found["of"], found["n_pairs"]) == (5, 10)


def test_two_numbers_of_the_factor_are_their_means():
    x, labels = cloud()
    each = compare(*laid(x, labels))["classes"]
    mean = {
        name: np.mean([c[name]["before"]["value"] for c in each])
        for name in each[0]
        if name in ("width", "overlap")
    }
    assert mean["overlap"] == pytest.approx(classes.davies_bouldin(x, labels))
    assert mean["width"] == pytest.approx(classes.spread_ratio(x, labels))


def test_intervals_move_as_finite_differences_do():
    """A unit of double weight is a unit whose clips are there twice."""
    x, labels = cloud(40, k=4)
    (g,) = laid(x, labels)
    side, step = Separation(g), 1e-5

    def value(weights, what):
        mean, width = {}, {}
        for a, name in enumerate(side.names):
            rows = labels == name
            w = weights[rows] / weights[rows].sum()
            mean[a] = w @ x[rows]
            width[a] = w @ np.linalg.norm(x[rows] - mean[a], axis=1)
        gaps = {(a, b): np.linalg.norm(mean[a] - mean[b]) for a in mean for b in mean if a != b}
        if what == "width":
            return width[1] / np.mean(list(gaps.values()))
        return (width[1] + width[2]) / gaps[1, 2]

    for what, smooth in (("width", side.width(1)), ("overlap", side.overlap((1, 2)))):
        for unit in (0, 5, 17, 33):
            up = 1 + step * (g.of.of == unit)
            slope = (value(up, what) - value(2 - up, what)) / (2 * step)
            assert smooth.influence[unit] == pytest.approx(slope, abs=1e-7)


def test_scale_and_rotation_change_no_pair():
    x, labels = cloud()
    rotation, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((6, 6)))
    found = compare(*laid(x, labels, 7 * x @ rotation))
    for pair in found["pairs"]:
        assert pair["change"]["value"] == pytest.approx(0, abs=1e-12)
        assert pair["rank"]["before"] == pair["rank"]["after"]


def test_the_worst_of_either_side_are_told_of_both():
    x, labels = cloud(k=8, n=160)
    z, _ = cloud(k=8, n=160, gap=3.0)
    moved = z.copy()
    moved[labels == "c7"] = (
        z[labels == "c7"] - z[labels == "c7"].mean(0) + z[labels == "c0"].mean(0)
    )
    moved[labels == "c7"] += 0.5
    found = compare(*laid(x, labels, moved))
    pair = next(p for p in found["pairs"] if p["classes"] == ["c0", "c7"])
    assert pair["rank"]["after"] == 1
    assert pair["change"]["value"] > 0
    assert pair["change"]["low"] > 0


def test_where_a_class_has_one_speaker_clips_are_drawn():
    x, labels = cloud()
    speakers = np.where(labels == "c0", "s0", [f"s{row % 4}" for row in range(len(x))])
    one = compare(*laid(x, labels, speakers=speakers))["pairs"][0]["before"]
    assert one["groups"] is None
    assert "a class has one speaker" in one["definition"]
    assert one["high"] > one["low"]
    several = np.array([f"s{row % 4}" for row in range(len(x))])
    assert compare(*laid(x, labels, speakers=several))["pairs"][0]["before"]["groups"] == 4


def test_of_many_classes_the_worst_are_shown():
    x, labels = cloud(400, k=50, seed=2)
    found = compare(*laid(x, labels))
    assert len(found["classes"]) == class_pairs.MOST_SHOWN
    assert found["of"] == 50


def test_other_clips_are_refused():
    x, labels = cloud()
    with pytest.raises(ClassesError, match="120 before, 119 after"):
        laid(x, labels, x[1:])
    x[3, 2] = np.nan
    with pytest.raises(ClassesError, match="1 of 120 vectors hold NaN"):
        laid(x, labels)
