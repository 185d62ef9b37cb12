"""Where anisotropy comes from: against the definition, in closed form, and what is refused."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from refine.metrics import anisotropy, expansions, isotropy
from refine.metrics.decomposition import decompose
from refine.metrics.intervals import from_resamples, weights


def cloud(n: int = 60, d: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.linspace(1, 2, d) + np.r_[3.0, np.zeros(d - 1)]


def test_contributions_are_the_mean_over_all_pairs() -> None:
    x = cloud()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    slow = np.zeros(x.shape[1])
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                slow += unit[i] * unit[j]
    slow /= len(x) * (len(x) - 1)
    np.testing.assert_allclose(anisotropy.contributions(x), slow, atol=1e-12)
    apart = ~np.eye(len(x), dtype=bool)
    assert anisotropy.contributions(x).sum() == pytest.approx(cosine_similarity(x)[apart].mean())


def test_one_direction_is_all_there_is() -> None:
    x = np.zeros((5, 3))
    x[:, 1] = [1.0, 2.0, 3.0, 4.0, 5.0]
    np.testing.assert_allclose(anisotropy.contributions(x), [0, 1, 0])
    np.testing.assert_allclose(anisotropy.variances(x), [0, 1, 0])


def test_the_planted_dimension_is_rogue_and_an_even_cloud_has_none() -> None:
    rng = np.random.default_rng(1)
    even = rng.normal(size=(4000, 64))
    planted = even.copy()
    planted[:, 17] += 20
    planted[:, 40] += 12
    # the smaller one is found beside the larger one at two deviations
    assert anisotropy.rogue(planted)[0] == 17
    assert anisotropy.rogue(planted, sigmas=2.0).tolist() == [17, 40]
    assert 17 not in anisotropy.rogue(even)


def test_lengths_of_rows_do_not_matter() -> None:
    x = cloud()
    scaled = x * np.random.default_rng(2).uniform(0.1, 9, size=(len(x), 1))
    np.testing.assert_allclose(anisotropy.contributions(x), anisotropy.contributions(scaled))


def test_removal_is_what_is_left_beside_the_first_components() -> None:
    x = cloud()
    found = anisotropy.removal(x, most=3)
    assert [step.what for step in found] == [
        "as it is", "mean", "mean and 1", "mean and 2", "mean and 3",
    ]  # fmt: skip
    pca = PCA(svd_solver="full").fit(x)
    for k in (1, 2, 3):
        top = pca.components_[:k]
        rest = x - pca.mean_
        rest = rest - rest @ top.T @ top
        assert found[1 + k].mean_cosine.value == pytest.approx(isotropy.mean_cosine(rest), abs=1e-9)
        assert found[1 + k].isoscore.value == pytest.approx(isotropy.isoscore(rest), abs=1e-9)
        rank = isotropy.effective_rank(rest)
        assert found[1 + k].effective_rank.value == pytest.approx(rank, abs=1e-6)
    assert found[0].isoscore.value == pytest.approx(
        found[1].isoscore.value, abs=1e-12
    )  # blind to the mean
    assert found[1].mean_cosine.high < found[0].mean_cosine.low


def test_removal_does_not_turn_with_the_axes() -> None:
    x = cloud()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(x.shape[1], x.shape[1])))[0]
    for mine, turned in zip(anisotropy.removal(x, 2), anisotropy.removal(x @ turn, 2), strict=True):
        for one, other in zip(mine[1:], turned[1:], strict=True):
            assert (one.value, one.low, one.high) == pytest.approx(
                (other.value, other.low, other.high), rel=1e-7
            )


def left_by_definition(x: np.ndarray, w: np.ndarray, k: int) -> list[float]:
    """Mean cosine, IsoScore, effective rank of weighted clips without their mean and k axes."""
    centred = x - (w @ x) / w.sum()
    sigma, right = np.linalg.svd(np.sqrt(w)[:, None] * centred, full_matrices=False)[1:]
    rest = centred - centred @ right[:k].T @ right[:k]
    unit = rest / np.linalg.norm(rest, axis=1, keepdims=True)
    apart = ~np.eye(len(x), dtype=bool)
    pairs = np.outer(w, w)[apart]
    cosine = (pairs * (unit @ unit.T)[apart]).sum() / pairs.sum()
    power, share = sigma[k:] ** 2, sigma[k:] / sigma[k:].sum()
    score = (power.sum() ** 2 / (power**2).sum() - 1) / (x.shape[1] - 1)
    return [cosine, score, float(np.exp(-(share * np.log(share)).sum()))]


@pytest.mark.parametrize("k", [0, 1, 3])
def test_what_is_left_moves_as_finite_differences_do(k: int) -> None:
    """A clip of more weight moves the mean and turns the directions that are taken out."""
    x, step = cloud(50, 8), 1e-5
    space = decompose(x - x.mean(axis=0))
    rest = expansions.without(space, k)
    found = (
        expansions.mean_cosine_without(space, k),
        expansions.isoscore(rest),
        expansions.entropy_rank(rest),
    )
    for clip in (0, 7, 31):
        ends = [
            left_by_definition(x, 1 + sign * step * (np.arange(50) == clip), k) for sign in (1, -1)
        ]
        for smooth, up, down in zip(found, *ends, strict=True):
            assert smooth.influence[clip] == pytest.approx((up - down) / (2 * step), abs=1e-7)


def test_what_is_left_of_an_even_cloud_is_its_null() -> None:
    even = np.random.default_rng(7).normal(size=(900, 12))
    for step in anisotropy.removal(even, 2):
        for one in step[1:]:
            assert one.null == pytest.approx(one.value, abs=0.02 * max(1, one.value))
            assert one.control == pytest.approx(one.value, abs=0.02 * max(1, one.value))
            assert one.low < one.value < one.high
    # a mean is taken out, one direction that every clip shares is not: shuffling cuts it
    x = even * 0.1 + np.random.default_rng(8).normal(size=(900, 1)) + 2.0
    whole, centred = anisotropy.removal(x, 0)
    assert centred.isoscore.value < 0.05 < 0.9 < centred.isoscore.control
    assert whole.mean_cosine.control == pytest.approx(whole.mean_cosine.value, abs=0.15)


def test_removal_draws_speakers() -> None:
    x = cloud()
    of = np.repeat([f"s{s}" for s in range(12)], 5)
    step = anisotropy.removal(x, 1, of)[2]
    assert (step.isoscore.groups, step.isoscore.n) == (12, 60)
    assert "12 speakers" in step.isoscore.definition
    assert "the first 1 principal direction " in step.isoscore.definition
    alone = anisotropy.removal(x, 1)[2]
    assert alone.isoscore.groups is None
    assert alone.isoscore.value == step.isoscore.value


def test_a_spread_of_two_and_a_cone_of_none_have_closed_forms() -> None:
    """Opposite ends of three axes, one longer: without it two equal directions are left."""
    ends = np.concatenate([np.diag([3.0, 1, 1]), -np.diag([3.0, 1, 1])]) + 1e-9
    x = np.concatenate(
        [ends + 5.0, ends + 5.0 + np.random.default_rng(0).normal(size=(6, 3)) / 1e3]
    )
    step = anisotropy.removal(x, 0)[1]
    power = np.array([18.0, 2, 2])
    expected = (power.sum() ** 2 / (power**2).sum() - 1) / 2
    assert step.isoscore.value == pytest.approx(expected, abs=1e-3)
    assert step.mean_cosine.value == pytest.approx(-1 / 11, abs=1e-2)


def dimensions_by_definition(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = np.outer(w, w) * ~np.eye(len(x), dtype=bool)
    parts = np.einsum("ij,ik,jk->k", pairs, unit, unit) / pairs.sum()
    spread = w @ (x - (w @ x) / w.sum()) ** 2
    return parts, spread / spread.sum()


def test_parts_of_dimensions_move_as_finite_differences_do() -> None:
    """Fifty clips are fifty units: the interval is that of the derivative in each weight."""
    x, step = cloud(50, 8), 1e-5
    x[:, 3] += 9
    found = anisotropy.dimensions(x)
    rogue = anisotropy.rogue(x, sigmas=2.0)
    assert rogue.tolist() == [3]
    slopes = []
    for clip in range(50):
        ends = [
            dimensions_by_definition(x, 1 + sign * step * (np.arange(50) == clip))
            for sign in (1, -1)
        ]
        slopes.append([(up - down) / (2 * step) for up, down in zip(*ends, strict=True)])
    for kind, numbers in enumerate((found.cosine, found.variance)):
        values = dimensions_by_definition(x, np.ones(50))[kind]
        assert [one.value for one in numbers] == pytest.approx(values)
        moved = weights(50) - 1.0
        for place, one in enumerate(numbers):
            slope = np.array([each[kind][place] for each in slopes])
            ends = from_resamples(values[place], values[place] + moved @ slope, 50)
            assert (one.low, one.high) == pytest.approx(ends, abs=1e-6)


def test_the_rogue_share_is_a_ratio_that_turning_takes_away() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 64))
    x[:, 17] += 20
    found = anisotropy.dimensions(x, np.repeat(np.arange(60), 10))
    assert found.rogue == [17]
    share = found.rogue_share
    parts = anisotropy.contributions(x)
    assert share.value == pytest.approx(parts[17] / parts.sum())
    assert share.low < share.value < share.high
    assert (share.groups, share.n, share.null) == (60, 600, 1 / 64)
    assert share.control < 0.3 < 0.9 < share.value
    assert found.cosine[17].null == pytest.approx(parts.sum() / 64)
    assert found.cosine[17].control < found.cosine[17].low
    assert found.variance[17].null == 1 / 64
    even = anisotropy.dimensions(np.concatenate([np.eye(8), -np.eye(8)]))
    assert (even.rogue, even.rogue_share) == ([], None)


def test_positive_pairs_share_a_label_and_are_never_one_clip() -> None:
    # one-hot labels beside one-hot rows: the cosine tells label and row of both
    labels = np.repeat(["a", "b", "c", ""], [4, 3, 1, 5])
    x = np.zeros((13, 2 + 13))
    x[:, 0] = (labels == "a") * 3.0
    x[:, 1] = (labels == "b") * 3.0
    x[np.arange(13), 2 + np.arange(13)] = 1
    found = anisotropy.positive_cosines(x, labels, pairs=4000)
    np.testing.assert_allclose(found, 0.9)  # 9 / 10 of the same label, 1 of the same clip
    slow = cosine_similarity(cloud(13, 6))
    drawn = anisotropy.positive_cosines(cloud(13, 6), labels, pairs=40_000)
    pairs = [
        np.mean([slow[i, j] for j in range(13) if j != i and labels[j] == labels[i]])
        for i in range(7)
    ]
    assert drawn.mean() == pytest.approx(np.mean(pairs), abs=0.01)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: anisotropy.contributions(np.zeros((3, 2))), "row 0"),
        (lambda: anisotropy.contributions(np.ones((1, 2))), "two rows"),
        (lambda: anisotropy.contributions(np.full((3, 2), np.nan)), "finite"),
        (lambda: anisotropy.variances(np.ones((3, 2))), "equal"),
        (lambda: anisotropy.removal(cloud(5, 4), most=4), "rank 4"),
        (lambda: anisotropy.removal(cloud(), speakers=["a"]), "got 1 labels for 60 clips"),
        (lambda: anisotropy.dimensions(np.ones((3, 2))), "equal"),
        (lambda: anisotropy.dimensions(np.eye(3) * [1, 1, 0]), "row 2"),
        (lambda: anisotropy.positive_cosines(cloud(3, 2), ["a", "b", "c"]), "positive pair"),
        (lambda: anisotropy.positive_cosines(cloud(3, 2), ["a"]), "labels"),
    ],
)
def test_what_cannot_be_told_is_refused(call, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()
