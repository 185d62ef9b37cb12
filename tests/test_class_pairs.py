"""Classes one by one: a loop, their means, finite differences, what changes nothing."""

import numpy as np
import pytest

from refine.metrics import chance, class_pairs, classes
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


def test_the_null_is_that_of_many_shuffles_and_the_control_one_of_them():
    x, labels = cloud(150, 8, k=3, gap=3.0)
    keep = np.r_[np.flatnonzero(labels == "c0")[:12], np.flatnonzero(labels != "c0")]
    x, labels = x[keep], labels[keep]  # classes of 12, 50 and 50 clips
    (g,) = laid(x, labels)
    null = chance.by_chance(g)
    drawn = [chance.shuffled(g, seed) for seed in range(3000)]
    for a, b in ((0, 1), (1, 2)):
        far = np.sqrt(np.mean([one.D[a, b] ** 2 for one in drawn]))
        assert null.D[a, b] == pytest.approx(far, rel=0.05)
        wide = np.mean([one.S[[a, b]] for one in drawn], axis=0)
        assert null.S[[a, b]] == pytest.approx(wide, rel=0.02)
        assert null.overlap((a, b)) == pytest.approx(null.S[[a, b]].sum() / null.D[a, b])
    # shuffled clips in the places of the classes are shuffled labels
    order = np.argsort(labels, kind="stable")
    names = np.empty_like(labels)
    names[np.random.default_rng(7).permutation(len(x))] = labels[order]
    one = chance.shuffled(g, seed=7)
    assert one.overlap((0, 2)) == pytest.approx(slow_overlap(x, names, "c0", "c2"))
    mean = np.mean([one.width(c) for c in range(3)])
    assert mean == pytest.approx(classes.spread_ratio(x, names))


def test_the_nulls_of_the_factor_are_made_of_the_same():
    x, labels = cloud(150, 8, k=3, gap=3.0)
    found = classes.measure(x, labels, resamples=20)
    null = chance.by_chance(laid(x, labels)[0])
    assert found["within_spread"].null == pytest.approx(null.S.mean())
    assert found["between_centroids"].null == pytest.approx(null.D[0, 1])  # classes of one size
    widths = [null.width(c) for c in range(3)]
    assert found["spread_ratio"].null == pytest.approx(np.mean(widths))
    # V (1 - 1 / n) over V 2 / n
    assert found["cdnv"].null == pytest.approx((1 - 1 / 50) / (2 / 50))
    spoilt = []
    for seed in range(400):
        names = np.random.default_rng(seed).permutation(labels)
        (g,) = laid(x, names)
        spoilt.append((g.V.mean(), np.mean(g.D2[np.isfinite(g.D2)])))
    inside, square = np.mean(spoilt, axis=0)
    assert found["cdnv"].null == pytest.approx(inside / square, rel=0.1)


def test_the_null_of_two_points_has_a_closed_form():
    """Half of the clips at -1, half at 1: S is 1, V is n / (n - 1)."""
    x = np.tile([[-1.0, 0.0], [1.0, 0.0]], (10, 1))
    labels = np.repeat(["a", "b"], 10)
    labels[[0, 19]] = "b", "a"
    null = chance.by_chance(laid(x, labels)[0])
    wide, apart = np.sqrt(1 - 1 / 10), np.sqrt(20 / 19 * (1 / 10 + 1 / 10))
    assert null.overlap((0, 1)) == pytest.approx(2 * wide / apart)
    assert null.width(1) == pytest.approx(wide / apart)


def test_what_is_there_is_told_from_what_is_not():
    x, labels = cloud(gap=4.0)
    found = compare(*laid(x, labels))
    one = found["pairs"][0]["before"]
    assert one["high"] < 0.7 * min(one["null"], one["control"])
    for each in found["classes"]:
        for name in ("width", "overlap"):
            number = each[name]["before"]
            assert number["high"] < min(number["null"], number["control"])
            assert "labels shuffled once" in number["definition"]
    # meaningless labels: the value is about the null
    (blind,) = laid(x, np.random.default_rng(3).permutation(labels))
    side = Separation(blind)
    assert np.mean([side.overlap((0, b)).value / side.null.overlap((0, b)) for b in (1, 2, 3)]) == (
        pytest.approx(1, abs=0.3)
    )
    turned = 7 * x @ np.linalg.qr(np.random.default_rng(3).standard_normal((6, 6)))[0]
    other = compare(*laid(turned, labels))["pairs"][0]["before"]
    assert (other["null"], other["control"]) == pytest.approx((one["null"], one["control"]))


def test_shuffled_classes_that_coincide_have_no_control():
    blind = chance.Blind(np.ones(2), np.array([[np.inf, 0.0], [0.0, np.inf]]))
    assert np.isnan(blind.overlap((0, 1)))
    assert np.isnan(blind.width(0))


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
