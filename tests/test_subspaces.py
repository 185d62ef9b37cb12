"""Subspaces: slow references, closed forms, invariances, refusals, influences as derivatives."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import entropy, ortho_group

from refine.metrics import subspaces
from refine.metrics.influence import Smooth, units


def two_blocks(n=80, a=4, b=6, shared=2, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, shared))
    left = common @ rng.normal(size=(shared, a)) + rng.normal(size=(n, a))
    right = common @ rng.normal(size=(shared, b)) + rng.normal(size=(n, b))
    return left + 3, right - 1


def weighted(a, b, w):
    """CKA and cross-covariance with clip i counted w_i times, coordinate by coordinate."""
    w = w / w.sum()
    covariance = {}
    for name, (x, y) in {"ab": (a, b), "aa": (a, a), "bb": (b, b)}.items():
        entries = np.empty((x.shape[1], y.shape[1]))
        for j in range(x.shape[1]):
            for k in range(y.shape[1]):
                entries[j, k] = w @ (x[:, j] * y[:, k]) - (w @ x[:, j]) * (w @ y[:, k])
        covariance[name] = entries
    power = {name: (entries**2).sum() for name, entries in covariance.items()}
    return {
        "cka": power["ab"] / np.sqrt(power["aa"] * power["bb"]),
        "cross_covariance": power["ab"] / (np.trace(covariance["aa"]) * np.trace(covariance["bb"])),
    }


def test_equals_the_equations():
    a, b = two_blocks()
    slow = weighted(a, b, np.ones(len(a)))
    assert subspaces.linear_cka(a, b) == pytest.approx(slow["cka"])
    assert subspaces.cross_covariance(a, b) == pytest.approx(slow["cross_covariance"])
    np.testing.assert_allclose(
        subspaces.cross_correlation(a, b), np.corrcoef(a.T, b.T)[:4, 4:], atol=1e-12
    )


def test_cka_equals_kornblith_on_kernels():
    a, b = two_blocks()
    n = len(a)
    centre = np.eye(n) - 1 / n
    k, kernel = centre @ a @ a.T @ centre, centre @ b @ b.T @ centre
    expected = (k * kernel).sum() / np.sqrt((k * k).sum() * (kernel * kernel).sum())
    assert subspaces.linear_cka(a, b) == pytest.approx(expected)


def test_closed_forms():
    a, _ = two_blocks(a=5)
    turn = ortho_group.rvs(5, random_state=0)
    assert subspaces.linear_cka(a, a) == pytest.approx(1)
    assert subspaces.linear_cka(a, 4 * a @ turn + 7) == pytest.approx(1)
    line = np.linspace(0, 1, 10)[:, None]
    assert subspaces.cross_covariance(line, -3 * line) == pytest.approx(1)
    one, other = np.array([[1.0], [1], [-1], [-1]]), np.array([[1.0], [-1], [1], [-1]])
    assert subspaces.linear_cka(one, other) == 0
    assert subspaces.cross_covariance(one, other) == 0


def test_turning_a_block_changes_nothing():
    a, b = two_blocks()
    turn = ortho_group.rvs(6, random_state=1)
    for function in (subspaces.linear_cka, subspaces.cross_covariance):
        assert function(a, b @ turn) == pytest.approx(function(a, b))
        assert function(3 * a - 2, b) == pytest.approx(function(a, b))
        assert function(b, a) == pytest.approx(function(a, b))
        order = np.random.default_rng(0).permutation(len(a))
        assert function(a[order], b[order]) == pytest.approx(function(a, b))


def test_influences_are_derivatives():
    a, b = two_blocks(n=40)
    centred = a - a.mean(0), b - b.mean(0)
    found = {"cka": subspaces._cka(*centred), "cross_covariance": subspaces._coupling(*centred)}
    for clip in range(0, 40, 7):
        ends = [weighted(a, b, np.ones(40) + s * 1e-5 * (np.arange(40) == clip)) for s in (1, -1)]
        for name, (value, each) in found.items():
            assert value == pytest.approx(weighted(a, b, np.ones(40))[name])
            assert each[clip] == pytest.approx((ends[0][name] - ends[1][name]) / 2e-5, abs=1e-7)


def test_between_reports_numbers():
    a, b = two_blocks(n=200)
    speakers = np.repeat(np.arange(20), 10)
    numbers = subspaces.between(a, b, speakers)
    assert numbers["cka"].value == pytest.approx(subspaces.linear_cka(a, b))
    for found in numbers.values():
        assert found.low <= found.value <= found.high
        assert found.control < found.value / 2
        assert found.groups == 20


# leakage


def bits(probabilities, codes, prior):
    return np.mean([np.log2(p[c] / prior[c]) for p, c in zip(probabilities, codes, strict=True)])


def test_leakage_in_closed_form():
    of = units(8)
    codes, prior = np.arange(8) % 4, np.full(4, 0.25)
    certain = np.eye(4)[codes]
    assert subspaces.leakage(certain, codes, prior, of).value == pytest.approx(2)
    blind = np.tile(prior, (8, 1))
    assert subspaces.leakage(blind, codes, prior, of).value == pytest.approx(0)
    halves = np.zeros((8, 4))
    halves[np.arange(8), codes] = 0.5
    halves[np.arange(8), (codes + 1) % 4] = 0.5
    assert subspaces.leakage(halves, codes, prior, of).value == pytest.approx(1)


def test_leakage_equals_the_equation_and_its_derivative():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=30)
    codes, prior, of = rng.integers(3, size=30), np.array([0.5, 0.3, 0.2]), units(30)
    smooth = subspaces.leakage(p, codes, prior, of)
    assert smooth.value == pytest.approx(bits(p, codes, prior))
    each = np.array([bits(p[[i]], codes[[i]], prior) for i in range(30)])
    np.testing.assert_allclose(smooth.influence, (each - each.mean()) / 30)
    order = np.array([2, 0, 1])
    renamed = subspaces.leakage(p[:, order], np.argsort(order)[codes], prior[order], of)
    assert renamed.value == pytest.approx(smooth.value)


def test_less_than_nothing_is_nothing():
    of = units(4)
    wrong = np.array([[0.01, 0.99]] * 4)
    smooth = subspaces.leakage(wrong, np.zeros(4, int), np.array([0.5, 0.5]), of)
    assert smooth.value < 0
    number = subspaces.leakage_number(smooth, of, 1.0)
    assert (number.value, number.low) == (0, 0)


# DCI


def slow_dci(r):
    rows = [row / row.sum() for row in r]
    d = [1 - entropy(row, base=r.shape[1]) for row in rows]
    columns = [column / column.sum() for column in r.T]
    c = [1 - entropy(column, base=r.shape[0]) for column in columns]
    return np.average(d, weights=r.sum(1)), np.average(c, weights=r.sum(0))


def test_dci_equals_the_equation():
    r = np.random.default_rng(0).random((3, 4))
    found = subspaces.dci(r)
    assert (found.disentanglement, found.completeness) == pytest.approx(slow_dci(r))


def test_dci_closed_forms_and_invariances():
    pure = subspaces.dci(np.diag([0.9, 0.4]))
    assert (pure.disentanglement, pure.completeness) == (1, 1)
    same = subspaces.dci(np.ones((2, 3)))
    assert (same.disentanglement, same.completeness) == pytest.approx((0, 0))
    one = subspaces.dci(np.array([[1.0, 1], [0, 0]]))
    assert one.blocks.tolist() == [0, 0]
    assert one.completeness == 1
    r = np.random.default_rng(1).random((3, 4))
    moved = subspaces.dci(5 * r[[2, 0, 1]][:, [3, 1, 0, 2]])
    assert moved.disentanglement == pytest.approx(subspaces.dci(r).disentanglement)
    assert moved.completeness == pytest.approx(subspaces.dci(r).completeness)


def test_dci_numbers_follow_their_importances():
    of = units(12)
    rng = np.random.default_rng(0)

    def cell(value):
        influence = rng.normal(size=12) * 0.01
        return Smooth(value, influence - influence.mean())

    importance = {
        "speaker": {"speaker": cell(0.8), "content": cell(0.1)},
        "content": {"speaker": cell(0.2), "content": cell(0.9)},
    }
    numbers = subspaces.dci_numbers(importance, of, resamples=400)
    r = np.array([[0.8, 0.1], [0.2, 0.9]])
    assert numbers["disentanglement"].value == pytest.approx(subspaces.dci(r).disentanglement)
    moved = np.array([[c.influence for c in row.values()] for row in importance.values()])
    step = 1e-5
    slope = [
        (subspaces.dci(r + step * moved[..., u]).completeness - subspaces.dci(r).completeness)
        / step
        for u in range(12)
    ]
    assert numbers["completeness"].control is None
    told = subspaces.dci_numbers(importance, of, control=np.array([[0.5, 0.5], [0.4, 0.4]]))
    for name, number in told.items():
        assert number.value == numbers[name].value
        assert number.control == pytest.approx(0, abs=0.02)
        assert "random blocks" in number.definition
    nothing = subspaces.dci_numbers(importance, of, control=np.zeros((2, 2)))
    assert nothing["disentanglement"].control is None  # nothing was read: nothing to divide
    width = (numbers["completeness"].high - numbers["completeness"].low) / 2
    assert width == pytest.approx(2.2 * np.linalg.norm(slope) * np.sqrt(12 / 11), rel=0.15)


# directions


def test_principal_angles_equal_scipys_and_closed_forms():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 2)), rng.normal(size=(7, 3))
    np.testing.assert_allclose(subspaces.principal_angles(a, b), subspace_angles(a, b)[::-1])
    axes = np.eye(4)
    assert subspaces.principal_angles(axes[:, :2], axes[:, 1:3]) == pytest.approx([0, np.pi / 2])
    turn = ortho_group.rvs(7, random_state=0)
    np.testing.assert_allclose(
        subspaces.principal_angles(turn @ a @ rng.normal(size=(2, 2)), turn @ b),
        subspaces.principal_angles(a, b),
        atol=1e-7,
    )


def crossed(d=10, angle=np.pi / 2, seed=0):
    """Speakers differ along one axis, words along another at `angle` to it."""
    who, word = np.repeat(np.arange(8), 6), np.tile(np.arange(6), 8)
    rng = np.random.default_rng(seed)
    axis = np.eye(d)
    other = np.cos(angle) * axis[0] + np.sin(angle) * axis[1]
    x = rng.normal(size=8)[who][:, None] * axis[0] + rng.normal(size=6)[word][:, None] * other
    return x + 1e-3 * rng.normal(size=x.shape), who.astype(str), word.astype(str)


@pytest.mark.parametrize("angle", [np.pi / 2, np.pi / 3, 0.0])
def test_overlap_of_two_lines_is_the_squared_cosine(angle):
    x, who, word = crossed(angle=angle)
    number = subspaces.overlap(x, who, word, who)
    assert number.value == pytest.approx(np.cos(angle) ** 2, abs=0.02)
    assert number.low <= number.value <= number.high
    assert number.null == pytest.approx(0.1)


def test_the_control_of_an_overlap_shuffles_both_labels():
    """At right angles; yet shuffled means lie along the two axes that vary at all."""
    x, who, word = crossed()
    x[:, :2] /= x[:, :2].std(axis=0)
    number = subspaces.overlap(x, who, word, seed=2)
    rng = np.random.default_rng(2)
    shuffled = [
        rng.permutation(np.unique(labels, return_inverse=True)[1]) for labels in (who, word)
    ]
    bases = [subspaces.centroid_basis(x, labels, size=1) for labels in shuffled]
    assert number.control == pytest.approx(float((bases[0].T @ bases[1]).item() ** 2))
    assert number.value == pytest.approx(0, abs=0.02)


def test_a_centroid_basis_spans_the_means():
    x, who, _ = crossed()
    basis = subspaces.centroid_basis(x, who)
    assert basis.shape == (10, 1)
    np.testing.assert_allclose(np.abs(basis[0]), 1, atol=1e-3)
    assert subspaces.centroid_basis(x, who, size=5).shape == (10, 5)


def test_numeric_influences():
    smooth = subspaces.numeric(lambda w: float(w @ np.arange(4.0) / w.sum()), 4)
    np.testing.assert_allclose(smooth.influence, (np.arange(4) - 1.5) / 4, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda a, b: subspaces.linear_cka(a, b[1:]), r"got \(80, 4\) and \(79, 6\)"),
        (lambda a, b: subspaces.linear_cka(a, np.ones_like(b)), "same for every clip"),
        (lambda a, b: subspaces.linear_cka(a * np.nan, b), "NaN"),
        (lambda a, b: subspaces.dci(np.ones((1, 3))), "two blocks and two factors"),
        (lambda a, b: subspaces.dci(np.zeros((2, 2))), "not all 0"),
        (lambda a, b: subspaces.principal_angles(a, b[:70]), "80 and 70 dimensions"),
        (lambda a, b: subspaces.centroid_basis(a, ["x"] * 80), "one class"),
        (
            lambda a, b: subspaces.leakage(a, np.zeros(80, int), np.ones(3), units(80)),
            r"shape \(80, 4\) for 80 clips and 3 classes",
        ),
    ],
)
def test_refuses(call, told):
    with pytest.raises(Exception, match=told):
        call(*two_blocks())
