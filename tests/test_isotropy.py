"""Isotropy: slow references, closed forms, invariances, refusals, intervals against resampling."""

import numpy as np
import pytest
import references

from refine.metrics import isotropy
from refine.metrics.decomposition import decompose
from refine.metrics.intervals import weights

STATISTICS = {
    "isoscore": isotropy.isoscore,
    "partition": isotropy.partition_isotropy,
    "mean_cosine": isotropy.mean_cosine,
    "effective_rank": isotropy.effective_rank,
    "rankme": isotropy.rankme,
    "uniformity": isotropy.uniformity,
}
SLOW = {
    "isoscore": references.isoscore,
    "partition": references.partition_isotropy,
    "mean_cosine": references.mean_cosine,
    "effective_rank": references.effective_rank,
    "rankme": references.rankme,
    "uniformity": references.uniformity,
}
INVARIANT = ["isoscore", "effective_rank"]  # under a shift; all are under rotation and scale


def cloud(n=60, d=12, seed=0, offset=0.7):
    rng = np.random.default_rng(seed)
    return offset + rng.standard_normal((n, d)) * (1 + np.arange(d)) ** -0.5


def orthonormal_directions(k, d):
    """Both ends of k of d axes: k equal eigenvalues, no mean."""
    return np.concatenate([np.eye(d)[:k], -np.eye(d)[:k]])


@pytest.fixture(params=list(STATISTICS))
def name(request):
    return request.param


# slow references


@pytest.mark.parametrize("shape", [(60, 12), (9, 24), (24, 24), (2, 5)])
def test_equals_the_papers_equation(name, shape):
    x = cloud(*shape)
    assert STATISTICS[name](x) == pytest.approx(SLOW[name](x), rel=1e-6, abs=1e-9)


def test_isoscore_is_the_participation_ratio():
    for seed in range(5):
        x = cloud(50, 8, seed)
        expected = (references.participation_ratio(x) - 1) / 7
        assert isotropy.isoscore(x) == pytest.approx(expected, abs=1e-12)
        assert references.isoscore(x) == pytest.approx(expected, abs=1e-12)


def test_isoscore_star_equals_the_published_formula():
    x, larger = cloud(40, 6), cloud(400, 6, seed=1)
    for zeta in (0.0, 0.2, 1.0):
        slow = references.isoscore_star(x, zeta, np.eye(6))
        assert isotropy.isoscore_star(x, zeta) == pytest.approx(slow, abs=1e-10)
        slow = references.isoscore_star(x, zeta, np.cov(larger, rowvar=False))
        assert isotropy.isoscore_star(x, zeta, larger) == pytest.approx(slow, abs=1e-10)


def test_decomposition_equals_numpys():
    for shape in [(80, 20), (20, 80)]:
        x = cloud(*shape)
        space = decompose(x)
        left, sigma, _ = np.linalg.svd(x, full_matrices=False)
        np.testing.assert_allclose(space.sigma, sigma, rtol=1e-9)
        np.testing.assert_allclose(np.abs(space.left), np.abs(left), atol=1e-7)


# closed forms


@pytest.mark.parametrize(("k", "d"), [(1, 6), (2, 6), (5, 6), (6, 6)])
def test_k_equal_directions(k, d):
    x = orthonormal_directions(k, d)
    assert isotropy.isoscore(x) == pytest.approx((k - 1) / (d - 1), abs=1e-12)
    assert isotropy.effective_rank(x) == pytest.approx(k, rel=1e-12)
    assert isotropy.rankme(x) == pytest.approx(k, rel=1e-4)
    assert isotropy.mean_cosine(x) == pytest.approx(-1 / (2 * k - 1), abs=1e-12)
    flat = ([1.0] * k + [0.0] * d)[: min(2 * k, d)]
    np.testing.assert_allclose(isotropy.spectrum(x), flat, atol=1e-7)


def test_both_ends_of_every_axis_are_isotropic_to_the_partition():
    assert isotropy.partition_isotropy(orthonormal_directions(6, 6)) == pytest.approx(1, abs=1e-12)


def test_unit_vectors_shifted_by_one_need_both_signs():
    """0.134 with both signs; taking the signs LAPACK happens to give reads as much as 0.364."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 10))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[:, 0] += 1
    _, vectors = np.linalg.eigh(x.T @ x)
    z = np.exp(x @ vectors).sum(axis=0)
    z_minus = np.exp(-x @ vectors).sum(axis=0)
    both = np.concatenate([z, z_minus])
    assert both.min() / both.max() == pytest.approx(0.134, abs=0.005)  # of rows as they are
    one_sign = max(one.min() / one.max() for one in (z, z_minus))
    assert one_sign == pytest.approx(0.364, abs=0.01)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    slow = references.partition_isotropy(x)
    assert isotropy.partition_isotropy(x) == pytest.approx(slow, abs=1e-10)
    along = unit[:, 0]
    assert slow == pytest.approx(np.exp(-along).sum() / np.exp(along).sum(), abs=0.01)


def test_a_direction_no_row_points_along_counts():
    """Z = n across a plane that two opposite rows do not span: 2 / (e + 1/e)."""
    x = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    assert isotropy.partition_isotropy(x) == pytest.approx(1 / np.cosh(1), abs=1e-12)


def test_uniformity_of_two_opposite_points_and_of_a_sphere():
    assert isotropy.uniformity(np.array([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-8)
    sphere = np.random.default_rng(0).standard_normal((500, 400))
    assert isotropy.uniformity(sphere) == pytest.approx(-4, abs=0.03)


def test_gaussian_isoscore_is_low_where_clips_are_few():
    x = np.random.default_rng(0).standard_normal((200, 100))
    assert isotropy.isoscore(x) == pytest.approx(1 / (1 + 100 / 200), abs=0.02)


# invariances


def test_rotation_scale_and_order_change_nothing(name):
    x = cloud()
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    value = STATISTICS[name](x)
    for changed in (x @ rotation, x * 1e-3, x * 1e200, x[rng.permutation(len(x))]):
        assert STATISTICS[name](changed) == pytest.approx(value, rel=1e-8)


def test_a_shift_changes_what_it_should(name):
    x = cloud(offset=0.0)
    same = STATISTICS[name](x + 5) == pytest.approx(STATISTICS[name](x), rel=1e-8)
    assert same == (name in INVARIANT)


def test_a_float32_matrix_is_measured_in_float64(name):
    x = cloud()
    single = x.astype(np.float32)
    assert STATISTICS[name](single) == STATISTICS[name](single.astype(np.float64))


def test_uniformity_of_drawn_clips_is_that_of_all():
    x = cloud(600, 8)
    exact = isotropy.uniformity(x)
    assert isotropy.uniformity(x, most=300) == pytest.approx(exact, abs=0.05)
    assert isotropy.uniformity(x, most=600) == exact


# histogram pairs


def test_cosines_are_of_pairs():
    x = cloud(30, 5)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    every = isotropy.cosines(x)
    assert len(every) == 30 * 29 // 2
    assert every.mean() == pytest.approx(isotropy.mean_cosine(x), abs=1e-12)
    drawn = isotropy.cosines(x, pairs=100, seed=3)
    assert len(drawn) == 100
    np.testing.assert_array_equal(drawn, isotropy.cosines(x, pairs=100, seed=3))
    off_diagonal = (unit @ unit.T)[~np.eye(30, dtype=bool)]
    assert all(np.isclose(off_diagonal, cosine).any() for cosine in drawn)


# refusals


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.ones((1, 4)), r"got \(1, 4\)"),
        (np.ones((4, 1)), r"got \(4, 1\)"),
        (np.ones((5, 4)), "all 5 rows are equal"),
        (np.zeros((5, 4)), "all 5 rows are equal"),
        (np.array([[1.0, 2.0], [np.nan, 1.0], [np.inf, 0.0]]), "2 of 3 .* first is row 1"),
    ],
)
def test_refuses_what_has_no_isotropy(name, x, told):
    with pytest.raises(ValueError, match=told):
        STATISTICS[name](x)
    with pytest.raises(ValueError, match=told):
        isotropy.measure(x)


@pytest.mark.parametrize("name", ["partition", "mean_cosine", "uniformity"])
def test_refuses_a_row_without_direction(name):
    with pytest.raises(ValueError, match="row 2 is all zeros"):
        STATISTICS[name](np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 0.0]]))


def test_refuses_bad_settings():
    x = cloud()
    with pytest.raises(ValueError, match=r"zeta: got 1.5"):
        isotropy.isoscore_star(x, zeta=1.5)
    with pytest.raises(ValueError, match="reference: got 5 dimensions, x has 12"):
        isotropy.isoscore_star(x, reference=cloud(d=5))
    with pytest.raises(ValueError, match="t: got 0"):
        isotropy.uniformity(x, t=0.0)
    with pytest.raises(ValueError, match="speakers: got 3 labels for 60 clips"):
        isotropy.measure(x, ["a", "b", "c"])


# measure


def test_measure_holds_the_values_of_the_functions():
    x = cloud()
    numbers = isotropy.measure(x, np.arange(60) // 6)
    assert set(numbers) == set(STATISTICS)
    for name, number in numbers.items():
        assert number.value == pytest.approx(STATISTICS[name](x), rel=1e-9)
        assert number.low < number.value < number.high
        assert number.range[0] <= number.low
        assert number.direction == "neither"
        assert (number.n, number.groups) == (60, 10)
        assert "10 speakers" in number.definition


def test_null_is_a_gaussian_and_control_keeps_the_marginals():
    x = np.random.default_rng(5).standard_normal((400, 6)) * [3, 1, 1, 1, 1, 1] + 1
    x[:, 1:] += x[:, :1]
    numbers = isotropy.measure(x, resamples=20)
    assert numbers["isoscore"].null == pytest.approx(1, abs=0.05)
    assert numbers["mean_cosine"].null == pytest.approx(0, abs=0.02)
    assert numbers["effective_rank"].null == pytest.approx(6, abs=0.05)
    alone = x.var(axis=0)  # shuffled coordinates are independent: their variances are what is left
    expected = (alone.sum() ** 2 / (alone**2).sum() - 1) / 5
    assert numbers["isoscore"].control == pytest.approx(expected, abs=0.03)


def test_measure_is_reproducible():
    x = cloud()
    assert isotropy.measure(x, seed=1) == isotropy.measure(x, seed=1)
    assert isotropy.measure(x, seed=1) != isotropy.measure(x, seed=2)


def test_one_speaker_is_resampled_by_clip_and_says_so():
    number = isotropy.measure(cloud(), ["anna"] * 60)["isoscore"]
    assert number.low < number.high
    assert number.groups is None
    assert "one speaker only" in number.definition


def test_few_clips_in_many_dimensions():
    numbers = isotropy.measure(cloud(8, 64), resamples=50)
    assert "biased low" in numbers["isoscore"].definition
    assert numbers["effective_rank"].range == (1.0, 7.0)
    assert isotropy.measure(cloud(2, 3), resamples=20)["rankme"].range == (1.0, 2.0)


def test_influence_is_the_derivative_by_weight(name):
    """A clip that weighs a little more moves the statistic by its influence, to second order."""
    x, heavy, step = cloud(40, 6), 7, 1e-4
    counts = np.ones((1, 40))
    counts[0, heavy] += step
    predicted = isotropy.statistics(x, 0)[name].resampled(counts)[0]
    assert predicted == pytest.approx(weighted(name, x, counts[0]), abs=2e-7)


def weighted(name, x, w):
    """Each statistic of weighted clips, by its definition."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    centred = x - (w @ x) / w.sum()
    root = np.sqrt(w)[:, None]
    if name == "isoscore":
        power = np.linalg.svd(root * centred, compute_uv=False) ** 2
        return (power.sum() ** 2 / (power**2).sum() - 1) / (x.shape[1] - 1)
    if name in ("effective_rank", "rankme"):
        sigma = np.linalg.svd(root * (centred if name == "effective_rank" else x))[1]
        p = sigma / sigma.sum() + (1e-7 if name == "rankme" else 0)
        return np.exp(-(p * np.log(p)).sum())
    if name == "partition":
        _, vectors = np.linalg.eigh((root * unit).T @ (root * unit))
        z = np.concatenate([w @ np.exp(unit @ vectors), w @ np.exp(-unit @ vectors)])
        return z.min() / z.max()
    pairs = np.outer(w, w)[~np.eye(len(x), dtype=bool)]
    cosine = (unit @ unit.T)[~np.eye(len(x), dtype=bool)]
    values = cosine if name == "mean_cosine" else np.exp(-2 * (2 - 2 * cosine))
    mean = (pairs * values).sum() / pairs.sum()
    return mean if name == "mean_cosine" else np.log(mean)


def test_intervals_are_as_wide_as_the_spread_over_new_data(name):
    """Many clips of few dimensions: where plain resampling is sound, the interval agrees."""
    values = np.array([STATISTICS[name](cloud(400, 5, seed)) for seed in range(120)])
    number = isotropy.measure(cloud(400, 5, seed=500), resamples=400)[name]
    assert (number.high - number.low) / (3.92 * values.std()) == pytest.approx(1, abs=0.35)


def test_intervals_cover_95_percent(name):
    """What the statistic is at this n, over repeated draws with speakers: 40 of 5 clips."""
    speakers = np.repeat(np.arange(40), 5)
    counts = weights(200, speakers, 80, 0)
    values, ends = [], []
    for seed in range(70):
        rng = np.random.default_rng(seed)
        scale = (1 + np.arange(16)) ** -0.5
        voices = rng.standard_normal((40, 16))[speakers]
        x = 0.5 + (voices + rng.standard_normal((200, 16))) * scale
        statistic = isotropy.statistics(x, 0)[name]
        values.append(statistic.value)
        ends.append(isotropy.from_resamples(statistic.value, statistic.resampled(counts), 40))
    low, high = np.array(ends).T
    truth = np.mean(values)
    assert 0.87 <= ((low <= truth) & (truth <= high)).mean() <= 1
