"""Neighbours before and after: a loop, closed forms, what changes nothing, refusals."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from refine.neighbours import (
    NeighboursError,
    _largest,
    moves,
    nearest,
    overlap,
    own_class,
    say,
)


def cloud(n=60, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def slow(x, k):
    """Sort the cosines of every row, one by one."""
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    found = []
    for i in range(len(unit)):
        cosine = [(-(unit[i] @ unit[j]), j) for j in range(len(unit)) if j != i]
        found.append([j for _, j in sorted(cosine)[:k]])
    return np.array(found)


def test_the_nearest_are_those_of_a_loop_and_of_scikit_learn(monkeypatch):
    x = cloud()
    monkeypatch.setattr("refine.neighbours.BLOCK", 7)
    near = nearest(x, 5)
    np.testing.assert_array_equal(near, slow(x, 5))
    theirs = NearestNeighbors(n_neighbors=6, metric="cosine").fit(x).kneighbors(x)[1][:, 1:]
    np.testing.assert_array_equal(near, theirs)


def test_kept_and_drift_are_those_of_a_loop(monkeypatch):
    before, after = cloud(), cloud(d=5, seed=1)
    monkeypatch.setattr("refine.neighbours.BLOCK", 13)
    found = moves(before, after, k=4)
    first, whole = slow(before, 4), slow(after, 59)
    for row in range(60):
        ranks = [whole[row].tolist().index(other) + 1 for other in first[row]]
        assert found.kept[row] == pytest.approx(np.mean([rank <= 4 for rank in ranks]))
        assert found.drift[row] == np.median(ranks)
    assert found.number.value == pytest.approx(found.kept.mean())
    assert found.number.null == pytest.approx(4 / 59)
    assert abs(found.number.control - 4 / 59) < 0.06


def test_scale_and_rotation_move_nobody():
    x = cloud()
    rotation, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((8, 8)))
    found = moves(x, 3 * x @ rotation.astype(np.float32), k=6)
    assert found.number.value == 1
    assert set(found.drift) == {3.5}  # the median of ranks 1 to 6


def test_the_one_clip_that_moved_comes_first():
    rng = np.random.default_rng(0)
    centres = np.repeat(10 * np.eye(6)[:3], 20, axis=0)
    before = centres + rng.standard_normal((60, 6))
    after = before.copy()
    after[7] = before[45] + 0.1
    found = moves(before, after, k=5)
    assert found.order[0] == 7
    assert found.kept[7] == 0
    labels = np.repeat(["a", "b", "c"], 20)
    assert own_class(found.before, labels)[7] == 1
    assert own_class(found.after, labels)[7] == 0
    assert say(found.after, labels)[7] == "c"


def test_unknown_classes_neither_count_nor_speak():
    near = np.array([[1, 2], [0, 2], [1, 0]])
    labels = np.array(["a", "", "b"])
    share = own_class(near, labels)
    assert np.isnan(share[1])
    assert share[0] == 0
    assert say(near, labels).tolist() == ["b", "a", "a"]
    assert overlap(near, near[:, ::-1]).tolist() == [1, 1, 1]


def test_an_interval_is_over_speakers():
    before, after = cloud(), cloud(seed=1)
    assert moves(before, after, np.repeat(np.arange(6), 10)).number.groups == 6


@pytest.mark.parametrize(
    ("before", "after", "k", "sentence"),
    [
        (cloud(), cloud(50), 5, "60 clips before and 50 after"),
        (cloud(), np.full((60, 8), np.nan), 5, "after: neighbours need finite vectors"),
        (np.zeros((60, 8)), cloud(), 5, "row 0 is all zeros"),
        (cloud(4), cloud(4), 4, "k: got 4 for 4 clips"),
        (cloud(4), cloud(4), 0, "k: got 0"),
    ],
)
def test_what_has_no_neighbours_is_refused(before, after, k, sentence):
    with pytest.raises(NeighboursError, match=sentence):
        moves(before, after, k=k)


@pytest.mark.parametrize("n", [200, 203, 60])
def test_the_largest_are_found_by_chunks(monkeypatch, n):
    monkeypatch.setattr("refine.neighbours.CHUNK", 8)
    cosine = np.random.default_rng(0).standard_normal((30, n)).astype(np.float32)
    cosine[0, -1], cosine[1, :9] = 9, 9 + np.arange(9)  # in the rest; more than one chunk
    found = np.sort(_largest(cosine, 10), axis=1)
    np.testing.assert_array_equal(found, np.sort(np.argsort(-cosine, axis=1)[:, :10], axis=1))
