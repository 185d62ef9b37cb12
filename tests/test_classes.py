"""Class structure: slow weighted references, closed forms, invariances, refusals, scikit-learn."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sklearn.metrics import davies_bouldin_score, silhouette_score

from refine.metrics import classes
from refine.metrics.influence import units

SIMPLE = {
    "within_spread": classes.within_spread,
    "between_centroids": classes.between_centroids,
    "spread_ratio": classes.spread_ratio,
    "davies_bouldin": classes.davies_bouldin,
    "silhouette": classes.silhouette,
    "nc1": classes.nc1,
    "cdnv": classes.cdnv,
    "alignment": classes.alignment,
    "explained": classes.explained,
}
SCALED = {"within_spread", "between_centroids"}


def cloud(n=60, d=5, k=4, seed=0, gap=1.5):
    """Unequal classes in a cloud off the origin, and 6 speakers who each hold every class."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(k), rng.integers(k, size=n - k), np.arange(k)])[:n]
    x = 0.8 + gap * rng.normal(size=(k, d))[y] + rng.normal(size=(n, d)) * np.linspace(0.5, 2, d)
    return x, np.array([f"c{c}" for c in y]), np.array([f"s{i % 6}" for i in range(n)])


def weighted(x, y, w=None, v=None):
    """Every statistic, loop by loop, with clip i counted w_i times and class c v_c times."""
    names = sorted(set(y))
    k, n = len(names), len(x)
    w = np.ones(n) if w is None else w
    v = np.ones(k) if v is None else v
    rows = [np.flatnonzero(y == name) for name in names]
    mu = [np.average(x[r], axis=0, weights=w[r]) for r in rows]
    s = [
        np.average([np.linalg.norm(x[i] - m) for i in r], weights=w[r])
        for r, m in zip(rows, mu, strict=True)
    ]
    var = [
        np.average(((x[r] - m) ** 2).sum(1), weights=w[r]) for r, m in zip(rows, mu, strict=True)
    ]
    pairs = [(a, b) for a in range(k) for b in range(k) if a != b]
    pair_weights = [v[a] * v[b] for a, b in pairs]
    dist = {(a, b): np.linalg.norm(mu[a] - mu[b]) for a, b in pairs}

    def over_pairs(value):
        return np.average([value(a, b) for a, b in pairs], weights=pair_weights)

    found = {
        "within_spread": np.average(s, weights=v),
        "between_centroids": over_pairs(lambda a, b: dist[a, b]),
        "davies_bouldin": np.average(
            [max((s[a] + s[b]) / dist[a, b] for b in range(k) if b != a) for a in range(k)],
            weights=v,
        ),
        "cdnv": over_pairs(lambda a, b: (var[a] + var[b]) / (2 * dist[a, b] ** 2)),
    }
    found["spread_ratio"] = found["within_spread"] / found["between_centroids"]
    centre = np.average(mu, axis=0, weights=v)
    scatter = [
        sum(w[i] * np.outer(x[i] - m, x[i] - m) for i in r) / w[r].sum()
        for r, m in zip(rows, mu, strict=True)
    ]
    within = sum(v[c] * scatter[c] for c in range(k)) / v.sum()
    between = sum(v[c] * np.outer(mu[c] - centre, mu[c] - centre) for c in range(k)) / v.sum()
    rank = min(k - 1, x.shape[1])
    values, vectors = np.linalg.eigh(between)
    inverse = sum(np.outer(vectors[:, -j], vectors[:, -j]) / values[-j] for j in range(1, rank + 1))
    found["nc1"] = np.trace(within @ inverse) / k
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    align = []
    for r in rows:
        both = [(i, j) for i in r for j in r if i != j]
        align.append(
            np.average(
                [((unit[i] - unit[j]) ** 2).sum() for i, j in both],
                weights=[w[i] * w[j] for i, j in both],
            )
        )
    found["alignment"] = np.average(align, weights=v)
    # drawing a class draws its clips
    clip = w * v[[names.index(name) for name in y]]
    mean = np.average(x, axis=0, weights=clip)
    total = (clip * ((x - mean) ** 2).sum(1)).sum()
    left = sum(v[c] * w[rows[c]].sum() * var[c] for c in range(k))
    found["explained"] = 1 - left / total
    scores = []
    for i in range(n):
        away = {}
        for c, r in enumerate(rows):
            others = [j for j in r if j != i]
            away[c] = np.average([np.linalg.norm(x[i] - x[j]) for j in others], weights=w[others])
        a = away.pop(names.index(y[i]))
        b = min(away.values())
        scores.append((b - a) / max(a, b))
    found["silhouette"] = np.average(scores, weights=clip)
    m = np.array(mu) - centre
    norms = np.linalg.norm(m, axis=1)
    average = np.average(norms, weights=v)
    found["nc2_equinorm"] = np.sqrt(np.average((norms - average) ** 2, weights=v)) / average
    found["nc2_equiangle"] = over_pairs(
        lambda a, b: abs(m[a] @ m[b] / (norms[a] * norms[b]) + 1 / (k - 1))
    )
    return found


@pytest.mark.parametrize(("d", "k"), [(5, 4), (2, 6), (8, 2)])
def test_equals_the_equations(d, k):
    x, y, _ = cloud(d=d, k=k, seed=d)
    slow = weighted(x, y)
    for name, function in SIMPLE.items():
        assert function(x, y) == pytest.approx(slow[name], rel=1e-9), name
    if k > 2:
        assert classes.nc2(x, y) == pytest.approx((slow["nc2_equinorm"], slow["nc2_equiangle"]))


@pytest.mark.parametrize(("d", "k"), [(5, 4), (2, 6)])
def test_the_influence_of_a_speaker_is_the_derivative_in_its_weight(d, k):
    x, y, speakers = cloud(d=d, k=k)
    of = units(len(x), speakers)
    found = classes.statistics(x, y, of)
    assert set(found) == set(weighted(x, y))
    step = 1e-5
    for unit in range(of.count):
        ends = [weighted(x, y, 1 + sign * step * (of.of == unit)) for sign in (1, -1)]
        for name, smooth in found.items():
            slope = (ends[0][name] - ends[1][name]) / (2 * step)
            assert smooth.influence[unit] == pytest.approx(slope, abs=1e-6), name


def test_of_the_factor_speaker_classes_are_drawn():
    x, y, _ = cloud(k=5)
    of = units(len(x), y)
    found = classes.statistics(x, y, of)
    step = 1e-5
    for unit in range(of.count):
        where = np.array([of.of[y == name][0] == unit for name in sorted(set(y))])
        ends = [weighted(x, y, v=1 + sign * step * where) for sign in (1, -1)]
        for name, smooth in found.items():
            slope = (ends[0][name] - ends[1][name]) / (2 * step)
            # K itself, by which NC1 is divided, stays
            assert smooth.influence[unit] == pytest.approx(slope, abs=1e-6), name


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn(seed):
    x, y, _ = cloud(n=90, k=6, seed=seed)
    assert classes.davies_bouldin(x, y) == pytest.approx(davies_bouldin_score(x, y))
    assert classes.silhouette(x, y) == pytest.approx(silhouette_score(x, y))


def test_closed_forms():
    # two classes, each two points one above and one below its mean, the means 4 apart
    x = np.array([[-2.0, 1], [-2, -1], [2, 1], [2, -1]])
    y = ["a", "a", "b", "b"]
    assert classes.within_spread(x, y) == pytest.approx(1)
    assert classes.between_centroids(x, y) == pytest.approx(4)
    assert classes.spread_ratio(x, y) == pytest.approx(1 / 4)
    assert classes.davies_bouldin(x, y) == pytest.approx(2 / 4)
    assert classes.cdnv(x, y) == pytest.approx(2 / (2 * 16))
    assert classes.explained(x, y) == pytest.approx(16 / 20)
    assert classes.nc1(x, y) == pytest.approx(0)  # all spread is across the line of the means
    assert classes.nc1(x + [[0.5, 0], [-0.5, 0]] * 2, y) == pytest.approx(0.25 / 4 / 2)


def test_points_are_collapsed_and_a_simplex_is_one():
    x = np.repeat(np.eye(4), 3, axis=0)
    y = np.repeat(list("abcd"), 3)
    for name in ("within_spread", "spread_ratio", "davies_bouldin", "nc1", "cdnv", "alignment"):
        assert SIMPLE[name](x, y) == pytest.approx(0, abs=1e-12)
    assert classes.silhouette(x, y) == pytest.approx(1)
    assert classes.explained(x, y) == pytest.approx(1)
    assert classes.nc2(x, y) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("name", SIMPLE)
def test_invariances(name):
    x, y, _ = cloud(d=3)
    value = SIMPLE[name](x, y)
    order = np.random.default_rng(1).permutation(len(x))
    turned = Rotation.random(rng=np.random.default_rng(0)).apply(x)
    assert SIMPLE[name](x[order], y[order]) == pytest.approx(value)
    assert SIMPLE[name](turned, y) == pytest.approx(value)
    assert SIMPLE[name](x, [f"other {label}" for label in y]) == pytest.approx(value)
    if name in SCALED:
        assert SIMPLE[name](3 * x, y) == pytest.approx(3 * value)
    else:
        assert SIMPLE[name](1e-6 * x, y) == pytest.approx(value)
    if name != "alignment":
        assert SIMPLE[name](x + 7, y) == pytest.approx(value)


def test_measure_reports_numbers_with_nulls_and_controls():
    x, y, speakers = cloud(n=120)
    numbers = classes.measure(x, y, speakers, resamples=50)
    assert set(numbers) == {*SIMPLE, "nc2_equinorm", "nc2_equiangle"}
    for name, number in numbers.items():
        assert number.low <= number.value <= number.high
        assert number.control is not None
        assert (number.n, number.groups) == (120, 6)
        if name in SIMPLE:
            assert number.value == pytest.approx(SIMPLE[name](x, y))
    assert numbers["explained"].control == pytest.approx(numbers["explained"].null, abs=0.03)
    assert numbers["alignment"].control == pytest.approx(numbers["alignment"].null, rel=0.05)
    assert numbers["spread_ratio"].direction == "lower"
    assert numbers["silhouette"].direction == "higher"


def test_the_interval_is_as_wide_as_resampling_speakers_by_hand():
    rng = np.random.default_rng(0)
    speaker, y = np.repeat(np.arange(40), 12), np.tile(np.arange(4), 120)
    x = (
        rng.normal(size=(4, 6))[y] * 2
        + rng.normal(size=(40, 6))[speaker]
        + rng.normal(size=(480, 6))
    )
    numbers = classes.measure(x, y, speaker, resamples=400, control=False)
    rows = np.arange(480).reshape(40, 12)
    names = ("spread_ratio", "davies_bouldin", "nc1", "cdnv", "explained")
    draws = [np.concatenate(rows[rng.integers(40, size=40)]) for _ in range(120)]
    for name in names:
        spread = np.std([SIMPLE[name](x[i], y[i]) for i in draws])
        width = (numbers[name].high - numbers[name].low) / (2 * 1.96)
        assert width / spread == pytest.approx(1, abs=0.3), name


def test_covers_the_value_of_many_speakers():
    hits = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        means = np.random.default_rng(7).normal(size=(3, 4)) * 2

        def draw(speakers, rng=rng, means=means):
            who, y = np.repeat(np.arange(speakers), 6), np.tile(np.arange(3), 2 * speakers)
            x = means[y] + rng.normal(size=(speakers, 4))[who] + rng.normal(size=(6 * speakers, 4))
            return x, y, who

        if not seed:
            x, y, _ = draw(5_000)
            truth = classes.explained(x, y)
        x, y, who = draw(20)
        number = classes.measure(x, y, who, resamples=100, control=False)["explained"]
        hits.append(number.low <= truth <= number.high)
    assert np.mean(hits) >= 0.85


def test_unknown_labels_are_left_out_and_many_classes_drawn(monkeypatch):
    x, y, speakers = cloud(n=60)
    whole = classes.measure(x, y, speakers, control=False)
    more = np.concatenate([x, x[:5] * 9])
    numbers = classes.measure(more, [*y, *[""] * 5], [*speakers, *["s0"] * 5], control=False)
    assert numbers["nc1"].value == pytest.approx(whole["nc1"].value)
    monkeypatch.setattr(classes, "MOST_CLASSES", 3)
    assert "3 classes" in classes.measure(x, y, control=False)["nc1"].definition


def test_where_each_of_two_classes_is_a_speaker_clips_are_drawn():
    x, y, _ = cloud(k=2)
    number = classes.measure(x, y, y, control=False)["between_centroids"]
    assert number.low < number.value < number.high
    assert "each class is one speaker" in number.definition


def test_changes_are_paired():
    x, y, speakers = cloud(n=120)
    same = classes.change(x, x, y, speakers)
    assert all((c.value, c.low, c.high) == (0, 0, 0) for c in same.values())
    mu = np.array([x[y == label].mean(0) for label in y])
    tighter = classes.change(x, mu + 0.5 * (x - mu), y, speakers)
    assert tighter["spread_ratio"].high < 0
    assert tighter["cdnv"].value == pytest.approx(-0.75 * classes.cdnv(x, y))
    with pytest.raises(ValueError, match="same clips; got 120 before, 119 after"):
        classes.change(x, x[1:], y)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x, y: (x, ["a"] * len(y)), "got 1 class in 60 clips"),
        (lambda x, y: (x, ["z", *y[1:]]), r"1 class with one clip \(z\)"),
        (lambda x, y: (x[1:], y), "59, 5"),
        (lambda x, y: (np.where(np.arange(60)[:, None] == 3, np.nan, x), y), "the first is row 3"),
        (lambda x, y: (np.ones_like(x), y), "have the same mean"),
    ],
)
def test_refuses(change, told):
    x, y, _ = cloud()
    with pytest.raises(ValueError, match=told):
        classes.measure(*change(x, list(y)))


def test_two_means_are_no_simplex_to_judge():
    x, y, _ = cloud(k=2)
    with pytest.raises(ValueError, match="three classes or more"):
        classes.nc2(x, y)
    assert "nc2_equinorm" not in classes.measure(x, y, control=False)


def test_blocks_float32_and_leaving_out_influences_change_no_number(monkeypatch):
    x, y, speakers = cloud(n=90, k=6)
    x = x.astype(np.float32)
    of = units(len(x), speakers)
    whole = classes.statistics(x.astype(np.float64), y, of)
    monkeypatch.setattr("refine.metrics.geometry.BLOCK", 7)
    parts = classes.statistics(x, y, of)
    still = classes._statistics(classes.Geometry(x, y, of, moves=False), 0)
    for name, smooth in whole.items():
        assert parts[name].value == pytest.approx(smooth.value, rel=1e-12), name
        np.testing.assert_allclose(parts[name].influence, smooth.influence, atol=1e-13)
        assert still[name].value == pytest.approx(smooth.value, rel=1e-12), name
        assert not still[name].influence.any()


def test_other_units_are_drawn_as_if_laid_out_with_them():
    x, y, speakers = cloud(n=90, k=6)
    first, second = units(len(x), speakers), units(len(x), None)
    g = classes.Geometry(x, y, first)
    g.cdnv()  # what is kept of the first units must not be of the second
    moved, fresh = g.drawn_by(second).cdnv(), classes.Geometry(x, y, second).cdnv()
    np.testing.assert_allclose(moved.influence, fresh.influence, rtol=1e-12, atol=1e-15)
    assert g.drawn_by(first) is g
