"""Maps: one set of axes for both spaces, distances kept, quality against scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
import references
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from refine.projection import joint_pca, quality, sample


def cloud(n=80, d=10, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return offset + rng.standard_normal((n, d)) * (1 + np.arange(d)) ** -0.7


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def distances(x):
    return np.linalg.norm(x[:, None] - x[None], axis=-1)


# joint PCA


def test_equals_scikit_learns_pca_of_the_stack():
    before, after = cloud(offset=1.0), cloud(seed=1)
    pca = PCA(2, svd_solver="full").fit(np.concatenate([unit(before), unit(after)]))
    drawn = joint_pca(before, after)
    for ours, x in ((drawn.before, before), (drawn.after, after)):
        np.testing.assert_allclose(np.abs(ours), np.abs(pca.transform(unit(x))), atol=1e-10)
    np.testing.assert_allclose(drawn.explained, pca.explained_variance_ratio_, atol=1e-12)


def test_an_encoder_that_did_not_change_lies_on_itself():
    x = cloud()
    drawn = joint_pca(x, x * 3)
    np.testing.assert_allclose(drawn.before, drawn.after, atol=1e-12)
    assert drawn.shown_before == pytest.approx(drawn.explained.sum())


def test_a_plane_is_shown_whole():
    rng = np.random.default_rng(0)
    plane, _ = np.linalg.qr(rng.standard_normal((9, 2)))
    before, after = (rng.standard_normal((50, 2)) @ plane.T for _ in range(2))
    drawn = joint_pca(before, after)
    assert drawn.explained.sum() == pytest.approx(1)
    assert drawn.shown_after == pytest.approx(1)
    np.testing.assert_allclose(distances(drawn.after), distances(unit(after)), atol=1e-9)


def test_a_common_rotation_changes_no_distance_on_the_map():
    before, after = cloud(offset=0.5), cloud(seed=1)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((10, 10)))
    ours, turned = joint_pca(before, after), joint_pca(before @ rotation, after @ rotation)
    np.testing.assert_allclose(distances(ours.after), distances(turned.after), atol=1e-9)


def test_the_two_spaces_share_their_axes():
    """A cloud that moved along an axis is seen to have moved: apart, both maps would be centred."""
    before, after = cloud(offset=0.0), cloud(offset=0.0)
    after = after + 4 * np.eye(10)[9]
    drawn = joint_pca(before, after)
    gap = np.linalg.norm(drawn.after.mean(axis=0) - drawn.before.mean(axis=0))
    assert gap == pytest.approx(
        np.linalg.norm(unit(after).mean(axis=0) - unit(before).mean(axis=0)), rel=0.05
    )


@pytest.mark.parametrize("flip", [False, True])
def test_spaces_of_different_width_keep_their_distances(flip):
    wide, narrow = cloud(d=16), cloud(d=5, seed=1)
    before, after = (narrow, wide) if flip else (wide, narrow)
    drawn = joint_pca(before, after, dims=5)
    full = joint_pca(narrow, narrow, dims=5)
    assert "5 dimensions were laid into the 16" in drawn.note
    assert full.explained.sum() == pytest.approx(1)
    assert drawn.before.shape == drawn.after.shape == (80, 5)


def test_a_rotated_part_of_a_wider_space_is_laid_onto_itself():
    narrow = cloud(d=5)
    turn, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((12, 5)))
    drawn = joint_pca(narrow @ turn.T, narrow)
    np.testing.assert_allclose(drawn.before, drawn.after, atol=1e-9)


def test_the_map_is_the_same_every_time():
    first, second = (joint_pca(cloud(), cloud(seed=1), seed=seed) for seed in (0, 7))
    np.testing.assert_array_equal(first.before, second.before)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (cloud(80), cloud(79), "before has 80 clips, after 79"),
        (cloud(1), cloud(1), "a map of 2 dimensions"),
        (cloud(d=1), cloud(), "a map of 2 dimensions"),
        (cloud(), cloud() * np.nan, "after: a map needs finite"),
        (np.zeros((5, 4)), np.ones((5, 4)), "before: row 0 is all zeros"),
        (np.ones((5, 4)), 2 * np.ones((5, 4)), "same direction"),
    ],
)
def test_refuses_what_has_no_map(before, after, told):
    with pytest.raises(ValueError, match=told):
        joint_pca(before, after)


# quality


@pytest.mark.parametrize("k", [1, 5, 10])
def test_trustworthiness_is_scikit_learns(k):
    x, xy = cloud(), cloud(seed=3)[:, :2]
    numbers = quality(x, xy, k)
    expected = trustworthiness(unit(x), xy, n_neighbors=k)
    assert numbers["trustworthiness"].value == pytest.approx(expected, abs=1e-12)
    kept = references.neighbours_kept(x, xy, k)
    assert numbers["neighbours_kept"].value == pytest.approx(kept, abs=1e-12)
    assert numbers["neighbours_kept"].n == 80


def test_a_perfect_map_and_a_blind_one():
    x = cloud(400, 8)
    perfect = quality(x, unit(x))
    assert perfect["trustworthiness"].value == perfect["neighbours_kept"].value == 1
    blind = quality(x, np.random.default_rng(9).standard_normal((400, 2)))
    for number in blind.values():
        assert number.value == pytest.approx(number.null, abs=0.02)
    assert blind["neighbours_kept"].low <= blind["neighbours_kept"].value


@pytest.mark.parametrize("n", [30, 200])
def test_the_control_is_the_map_with_its_clips_shuffled(n):
    x, xy = cloud(n), cloud(n)[:, :2]
    drawn = np.random.default_rng(4).permutation(n)
    found, spoilt = quality(x, xy, seed=4), quality(x, xy[drawn], seed=4)
    for name, number in found.items():
        assert number.control == pytest.approx(spoilt[name].value, abs=1e-12)
        assert number.control < number.low
        assert "Control: its clips shuffled" in number.definition


def test_the_interval_draws_speakers_where_they_are_known():
    x, xy = cloud(80), cloud(80)[:, :2]
    alone, by = quality(x, xy), quality(x, xy, speakers=np.repeat(np.arange(8), 10))
    for name, number in by.items():
        assert number.value == alone[name].value
        assert (number.groups, alone[name].groups) == (8, None)
        assert "over 8 speakers" in number.definition
    with pytest.raises(ValueError, match="got 1 labels for 80 clips"):
        quality(x, xy, speakers=["a"])


def test_a_map_turned_or_scaled_is_as_good():
    x, xy = cloud(), cloud()[:, :2]
    turned = xy @ np.array([[0.0, -3.0], [3.0, 0.0]]) + 7
    assert quality(x, xy) == quality(x, turned)


def test_many_clips_are_sampled_and_said():
    number = quality(cloud(2_100, 4), cloud(2_100, 4)[:, :2])["trustworthiness"]
    assert number.n == 2_000
    assert "2,000 of 2,100 clips" in number.definition


def test_few_clips_take_a_smaller_k():
    assert "the 1 nearest" in quality(cloud(4), cloud(4)[:, :2])["trustworthiness"].definition
    with pytest.raises(ValueError, match="at least 3 clips"):
        quality(cloud(2), cloud(2)[:, :2])
    with pytest.raises(ValueError, match="the space has 9 clips, the map 8"):
        quality(cloud(9), cloud(8)[:, :2])


# sampling


def test_all_where_they_fit():
    drawn = sample(20, 20, seed=0)
    np.testing.assert_array_equal(drawn.rows, np.arange(20))
    assert drawn.note == "all 20 clips"


def test_a_sample_is_sorted_unique_seeded_and_says_so():
    first, again, other = (sample(5000, 1000, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.rows, again.rows)
    assert (first.rows != other.rows).any()
    assert (np.diff(first.rows) > 0).all()
    assert first.note == "1,000 of 5,000 clips, drawn with seed 3"


def test_labels_keep_their_share_and_none_is_lost():
    labels = np.array(["a"] * 700 + ["b"] * 290 + ["c"] * 9 + ["d"])
    drawn = sample(1000, 100, 0, labels)
    counts = {label: int((labels[drawn.rows] == label).sum()) for label in "abcd"}
    assert len(np.unique(drawn.rows)) == 100
    assert counts["a"] == pytest.approx(70, abs=3)
    assert counts["b"] == pytest.approx(29, abs=3)
    assert counts["c"] >= 1
    assert counts["d"] == 1
    few = sample(1000, 2, 0, labels)
    assert len(few.rows) == 2
    assert "2 groups left out" in few.note


def test_refuses_an_empty_sample():
    with pytest.raises(ValueError, match="n 0"):
        sample(0, 5)
    with pytest.raises(ValueError, match="got 2 labels for 9 rows"):
        sample(9, 5, 0, ["a", "b"])


def test_no_torch_for_a_map():
    code = "import refine.projection, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
