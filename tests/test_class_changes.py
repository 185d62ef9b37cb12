"""Beside two evaluations: changes, neighbours, maps, confusions; kept, read back, refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import confusion_matrix

from refine import class_changes, comparison, confusion, maps, paths
from refine.class_changes import ClassLookError
from refine.maps import MapError, seed_agreement


def result(
    folder: Path, name: str, n: int = 60, d: int = 8, gap: float = 2.0, **more: Any
) -> dict[str, Any]:
    """A result of `evaluate` as far as these modules read it, with its embedding table."""
    rng = np.random.default_rng(len(name))
    k = more.pop("k", 3)
    labels = np.arange(n) % k
    x = gap * np.eye(d)[labels % d] + 0.5 + 0.5 * rng.standard_normal((n, d))
    x = more.pop("vectors", lambda x: x)(x).astype(np.float32)
    table = {
        "clip": [f"{row:03d}.wav" for row in range(n)],
        "layer": ["0"] * n,
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), d),
        "speaker": [f"s{row % 5}" for row in range(n)],
        "word": [f"w{label}" for label in labels],
        "one": ["same"] * n,
    }
    path = folder / f"{name}.parquet"
    told = {"layers": ["0"], "pooling": "mean"}
    written = pa.table(table).replace_schema_metadata({"refine": json.dumps(told)})
    pq.write_table(written.slice(0, more.pop("rows", n)), path)
    said = np.where(rng.random(n) < 0.7, labels, (labels + 1) % k)
    probe = {
        "classes": sorted(set(table["word"])),
        "clips": table["clip"],
        "truth": table["word"],
        "predictions": [f"w{label}" for label in said],
        "speakers": table["speaker"],
    }
    return {
        "encoder": name,
        "corpus": "made",
        "split": "all",
        "n_clips": n,
        "layer": "0",
        "pooling": "mean",
        "embeddings": str(path),
        "hidden": str(path),
        "probes": {"word": probe},
        "encoder_fingerprint": name,
        "corpus_fingerprint": "made",
        "left_out_factors": {"one": "one class"},
        **more,
    }


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {"before": result(tmp_path, "old"), "after": result(tmp_path, "newer", gap=3.0)}


def test_a_look_agrees_with_the_changes_of_everything(pair, monkeypatch):
    found = class_changes.look(pair, "word")
    whole = comparison.changes(pair["before"], pair["after"])["classes"]
    assert found["changes"] == whole["word"]
    assert found["explained"]["speaker"] == whole["speaker"]["explained"]
    assert found["explained"]["word"] == whole["word"]["explained"]
    assert (found["of"], found["n_pairs"], found["n_clips"]) == (3, 3, 60)
    assert "one" not in found["explained"]
    monkeypatch.setattr(class_changes.maps, "clips", lambda *_, **__: pytest.fail("made again"))
    assert class_changes.looked(pair, "word") == found
    assert class_changes.look(pair, "word") == found


def test_one_encoder_alone_has_pairs_and_neighbours(pair):
    alone = {"before": pair["before"]}
    found = class_changes.look(alone, "word")
    assert found["changes"] == found["explained"] == {}
    assert "after" not in found["pairs"][0]
    near = class_changes.neighbourhoods(alone)
    assert near.number is None
    assert len(near.most_moved("word")) == 0
    assert len(class_changes.confused(alone, near, "word")) > 0
    drawn = maps.joint(alone)
    assert list(drawn.xy) == ["before"]


def test_neighbours_are_kept_and_told(pair):
    near = class_changes.neighbourhoods(pair)
    again = class_changes.neighbours_found(pair)
    assert again is not None
    assert again.number == near.number
    pd.testing.assert_frame_equal(again.told("word"), near.told("word"))
    table = near.most_moved("word", 7)
    assert len(table) == 7
    assert table["kept"].is_monotonic_increasing
    assert table["own_after"].mean() > table["own_before"].mean() - 0.2
    clip = str(table["clip"][0])
    sides = near.rows_of(clip)
    both = set(sides["before"]) & set(sides["after"])
    assert len(both) / 10 == pytest.approx(table["kept"][0])
    assert near.rows_of("not drawn.wav") == {}
    met = near.meeting("word", ("w0", "w1"), "before")
    if met is not None:
        labels = dict(zip(near.table["clip"], near.table["word"], strict=True))
        assert [labels[clip] for clip in met] == ["w0", "w1"]


def test_of_many_clips_some_are_drawn_and_it_is_said(pair, monkeypatch):
    monkeypatch.setitem(maps.MOST, "pca", 40)
    monkeypatch.setattr(class_changes, "MOST", 25)
    drawn, near = maps.joint(pair), class_changes.neighbourhoods(pair)
    assert len(drawn.table) == 40
    assert drawn.note.startswith("40 of 60 clips")
    assert "25 of 60 clips" in near.note
    assert set(near.table["clip"]) <= set(drawn.table["clip"])
    assert drawn.table["speaker"].value_counts().tolist() == [8] * 5
    last = drawn.table["clip"].iloc[-1]
    thin = maps.thinned(drawn, 10, keep=[last])
    assert last in set(thin.table["clip"])
    assert len(thin.table) <= 11
    row = thin.table["clip"].tolist().index(last)
    np.testing.assert_array_equal(thin.xy["after"][row], drawn.xy["after"][-1])


def test_clips_that_one_side_lacks_are_left_out(pair, tmp_path):
    shorter = result(tmp_path, "shorter", rows=45)
    found = maps.clips({"before": pair["before"], "after": shorter}, 1_000)
    assert len(found.table) == 45
    assert found.vectors["before"].shape == found.vectors["after"].shape
    assert class_changes.look({"before": pair["before"], "after": shorter}, "word")["n_clips"] == 45


def test_a_map_is_kept_whole(pair):
    drawn = maps.joint(pair)
    again = maps.found(pair)
    assert again is not None
    assert again.quality == drawn.quality
    assert again.note == drawn.note
    np.testing.assert_array_equal(again.xy["after"], drawn.xy["after"])
    assert maps.found(pair, "umap") is None
    assert maps.found(pair, seed=1) is None


def test_seeds_that_agree_and_that_do_not():
    xy = np.random.default_rng(0).standard_normal((300, 2))
    assert seed_agreement(xy, 2 * xy[:, ::-1] + 1).value == 1
    other = seed_agreement(xy, np.random.default_rng(1).standard_normal((300, 2)))
    assert other.value == pytest.approx(other.null, abs=0.02)
    assert seed_agreement(xy, xy).control == pytest.approx(other.null, abs=0.02)
    assert seed_agreement(xy, xy, speakers=np.repeat(np.arange(30), 10)).groups == 30
    same = np.zeros((30, 2))  # all at one place: any ten are the nearest
    assert 0 <= seed_agreement(same, same).value <= 1


def test_umap_lays_both_out_together_and_repeats(pair, tmp_path):
    """In a process that compiles nothing: on sixty clips that takes longer than the rest."""
    (tmp_path / "pair.json").write_text(json.dumps(pair))
    code = (
        "import json, sys; from pathlib import Path; from refine import maps\n"
        "pair = json.loads(Path(sys.argv[1]).read_text()); maps.UMAP_EPOCHS = 40\n"
        "drawn = maps.joint(pair, 'umap')\n"
        "again = maps.aligned_umap(list(maps.clips(pair, 1_000).vectors.values()))\n"
        "assert (again[0] == drawn.xy['before']).all()\n"
        "assert (again[1] == drawn.xy['after']).all()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "pair.json")],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=paths.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    drawn = maps.found(pair, "umap")
    assert drawn is not None
    assert drawn.shown == {}
    for numbers in drawn.quality.values():
        assert numbers["trustworthiness"].value > numbers["trustworthiness"].null
        assert numbers["seed_agreement"].value > numbers["seed_agreement"].null
    # a clip stays near its own place in the other map, or the two could not be compared
    gap = np.linalg.norm(drawn.xy["before"] - drawn.xy["after"], axis=1)
    apart = np.linalg.norm(drawn.xy["before"] - drawn.xy["after"][::-1], axis=1)
    assert np.median(gap) < np.median(apart)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vectors": lambda x: x * (np.arange(60) != 9)[:, None]}, "row 9 is all zeros"),
        ({"n": 2, "rows": 2}, "2"),
    ],
)
def test_what_cannot_be_mapped_is_refused(tmp_path, change, sentence):
    with pytest.raises(MapError, match=sentence):
        maps.joint({"before": result(tmp_path, "bad", **change)})


def test_a_clip_without_a_finite_vector_is_not_on_the_map(pair, tmp_path):
    spoilt = result(tmp_path, "spoilt", vectors=lambda x: np.where(x == x[4, 2], np.nan, x))
    every = maps.clips(pair | {"after": spoilt}, 1_000)
    assert set(pair_clips(pair)) - set(every.table["clip"]) == {"004.wav"}
    assert all(np.isfinite(x).all() and len(x) == 59 for x in every.vectors.values())
    assert class_changes.look(pair | {"after": spoilt}, "word")["n_clips"] == 59


def pair_clips(pair):
    return maps.clips(pair, 1_000).table["clip"]


def test_refusals_name_what_was_asked(pair, tmp_path):
    with pytest.raises(MapError, match="method: got 'tsne'"):
        maps.joint(pair, "tsne")
    with pytest.raises(MapError, match="at least 20 clips; got 3"):
        maps.aligned_umap([np.eye(3)] * 2)
    with pytest.raises(ClassLookError, match="factor: got 'mood'"):
        class_changes.look(pair, "mood")
    with pytest.raises(ClassLookError, match="one: one class"):
        class_changes.look(pair, "one")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 half")
    assert maps.load(tmp_path / "torn.npz") is None


def test_matrices_are_those_of_scikit_learn(pair):
    found = confusion.matrices(pair, "word")
    for role, one in pair.items():
        probe = one["probes"]["word"]
        expected = confusion_matrix(probe["truth"], probe["predictions"])
        np.testing.assert_array_equal(found.counts[role], expected)
    table = confusion.clips(pair, "word")
    assert len(confusion.cell(table, "after", "w0", "w1")) == found.counts["after"][0, 1]
    right = table["turn"].isin(["right", "fixed"]).sum()
    assert right == np.trace(found.counts["after"])
    assert confusion.matrices(pair, "speaker") is None


def test_of_many_classes_the_most_confused_are_shown(pair):
    found = confusion.matrices(pair, "word", most=2)
    assert (len(found.names), found.left_out) == (2, 1)
    whole = confusion.matrices(pair, "word")
    for role in pair:
        assert found.outside[role] == 60 - found.counts[role].sum()
    wrong = sum(m.sum(0) + m.sum(1) - 2 * np.diag(m) for m in whole.counts.values())
    assert whole.names[int(wrong.argmin())] not in found.names


def test_a_factor_with_3000_labels_is_drawn_from(tmp_path):
    many = {
        role: result(tmp_path, role, n=6_000, k=3_000, vectors=lambda x: x + rng(x.shape))
        for role in ("before", "after")
    }
    found = class_changes.look(many, "word")
    assert found["of"] == 300
    assert len(found["classes"]) == 30
    near = class_changes.neighbourhoods(many)
    assert len(class_changes.confused(many, near, "word")) == 50
    shown = confusion.matrices(many, "word")
    assert (len(shown.names), shown.left_out) == (24, 2_976)


def rng(shape):
    return np.random.default_rng(1).standard_normal(shape)
