"""Where anisotropy comes from: against the definition, in closed form, and what is refused."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from refine.metrics import anisotropy, isotropy


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
        assert found[1 + k].mean_cosine == pytest.approx(isotropy.mean_cosine(rest), abs=1e-9)
        assert found[1 + k].isoscore == pytest.approx(isotropy.isoscore(rest), abs=1e-9)
    assert found[0].isoscore == pytest.approx(found[1].isoscore, abs=1e-12)  # blind to the mean
    assert found[1].mean_cosine < found[0].mean_cosine


def test_removal_does_not_turn_with_the_axes() -> None:
    x = cloud()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(x.shape[1], x.shape[1])))[0]
    for mine, turned in zip(anisotropy.removal(x, 2), anisotropy.removal(x @ turn, 2), strict=True):
        np.testing.assert_allclose(mine[1:], turned[1:], rtol=1e-8)


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
        (lambda: anisotropy.positive_cosines(cloud(3, 2), ["a", "b", "c"]), "positive pair"),
        (lambda: anisotropy.positive_cosines(cloud(3, 2), ["a"]), "labels"),
    ],
)
def test_what_cannot_be_told_is_refused(call, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()
