"""By blocks as in memory; bounds that hold; a table larger than what is held; refusals."""

import numpy as np
import pytest
import references

from refine.metrics import classes, isotropy, verification
from refine.metrics.streaming import StreamError, measure


def table(n=600, d=12, k=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    x = 0.5 + np.random.default_rng(5).standard_normal((k, d))[labels]
    x = x + 0.7 * rng.standard_normal((n, d)) * (1 + np.arange(d)) ** -0.4
    return x.astype(np.float32), np.array([f"c{label}" for label in labels])


def blocks(x, size=77):
    return [x[start : start + size] for start in range(0, len(x), size)]


@pytest.mark.parametrize("name", ["isoscore", "effective_rank", "rankme", "mean_cosine"])
def test_isotropy_is_that_of_the_papers_loops(name):
    x, labels = table(150)
    slow = getattr(references, name)(x.astype(np.float64))
    assert measure(blocks(x), labels)[name].value == pytest.approx(slow, rel=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "within_spread", "between_centroids", "spread_ratio", "davies_bouldin", "cdnv", "nc1",
        "explained", "alignment", "silhouette",
    ],
)  # fmt: skip
def test_classes_are_those_in_memory(name):
    x, labels = table()
    found = measure(blocks(x), labels)[name]
    assert found.value == pytest.approx(getattr(classes, name)(x, labels), rel=1e-4)
    assert found.error is None


def test_blocks_and_scale_change_nothing():
    x, labels = table()
    one, other = measure([x], labels), measure(blocks(x, 50), labels)
    for name in ("isoscore", "nc1", "uniformity", "eer"):
        assert other[name].value == pytest.approx(one[name].value, rel=1e-4)
    bigger = measure(blocks(4 * x), labels)
    for name in ("isoscore", "mean_cosine", "spread_ratio", "nc1", "eer"):
        assert bigger[name].value == pytest.approx(other[name].value, rel=1e-4)


def test_a_cone_far_from_the_origin_keeps_its_digits():
    x, labels = table()
    far = (x + 300).astype(np.float32)
    found = measure(blocks(far), labels)
    assert found["isoscore"].value == pytest.approx(isotropy.isoscore(far), rel=1e-3)
    assert found["nc1"].value == pytest.approx(classes.nc1(far, labels), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_drawn_lies_within_its_bound(seed):
    x, labels = table(seed=seed)
    found = measure(blocks(x), labels, pairs=4_000, seed=seed)
    whole = isotropy.uniformity(x)
    assert abs(found["uniformity"].value - whole) <= found["uniformity"].error < 0.5
    rows = np.triu_indices(len(x), 1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = (unit @ unit.T)[rows].astype(np.float64)
    eer = verification.eer(scores, labels[rows[0]] == labels[rows[1]])
    assert abs(found["eer"].value - eer) <= found["eer"].error < 0.03


def test_a_map_on_disk_is_read(tmp_path):
    x, labels = table()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert measure(blocks(mapped), labels) == measure(blocks(x), labels)


@pytest.mark.parametrize(
    ("row", "value", "sentence"),
    [(130, np.nan, "row 130 is not finite"), (200, 0.0, "row 200 is all zeros")],
)
def test_rows_without_a_direction_are_refused(row, value, sentence):
    x, labels = table()
    x[row] = value
    with pytest.raises(StreamError, match=sentence):
        measure(blocks(x), labels)


def test_labels_that_tell_nothing_are_refused():
    x, labels = table()
    with pytest.raises(StreamError, match="got 599 labels for 600 rows"):
        measure(blocks(x), labels[1:])
    with pytest.raises(StreamError, match="got 1 classes"):
        measure(blocks(x), np.full(600, "a"))
