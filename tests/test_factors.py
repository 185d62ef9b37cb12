"""All numbers of all factors: the object of the design, subspaces, reasons, paired changes."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from refine.factors import apart_of, judge, labels_of
from refine.splits import split_of


def grid(speakers=12, words=5, takes=3, seed=0, leak=0.0):
    """Two blocks: one of the voice, one of the word; `leak` of the voice in the second."""
    rng = np.random.default_rng(seed)
    n = speakers * words * takes
    who, word = np.arange(n) // (words * takes), np.arange(n) // takes % words
    voice = 2 * rng.normal(size=(speakers, 6))[who] + rng.normal(size=(n, 6))
    text = 2 * rng.normal(size=(words, 6))[word] + rng.normal(size=(n, 6)) + leak * voice
    table = pd.DataFrame(
        {
            "clip": [f"{i}.wav" for i in range(n)],
            "split": np.where(who < 6, "train", np.where(who < 8, "dev", "test")),
            "speaker": [f"s{i:02}" for i in who],
            "content": [f"w{i}" for i in word],
            "language": "en",
            "take": [f"{i}" for i in range(n)],
            "age": "",
        }
    )
    return np.concatenate([voice, text], axis=1), table


BLOCKS = {"speaker": slice(0, 6), "content": slice(6, 12)}


def leaves(value):
    if isinstance(value, dict) and "low" not in value:
        for inner in value.values():
            yield from leaves(inner)
    else:
        yield value


@pytest.fixture(scope="module")
def judged():
    x, table = grid()
    return judge(x, table, (table["split"] == "test").to_numpy(), BLOCKS)


def test_every_leaf_is_a_number(judged):
    assert json.loads(json.dumps(judged, allow_nan=False)) == judged
    found = [
        leaf
        for section in ("classes", "verification", "subspaces", "disentanglement")
        for leaf in leaves(judged[section])
    ]
    assert len(found) > 50
    for leaf in found:
        assert leaf["low"] <= leaf["value"] <= leaf["high"]
        assert {"n", "definition", "range", "direction", "null", "control"} <= set(leaf)


def test_the_sections_of_the_design(judged):
    assert set(judged["classes"]) == set(judged["verification"]) == {"speaker", "content"}
    for factor in ("speaker", "content"):
        names = set(judged["classes"][factor])
        assert {"davies_bouldin", "silhouette", "nc1", "cdnv", "knn_accuracy", "probe_uar"} <= names
        assert {"shot_1", "shot_5", "spread_ratio", "alignment", "explained"} <= names
        assert {"eer", "min_dcf", "min_dcf_05", "min_dcf_01"} == set(judged["verification"][factor])
    assert set(judged["subspaces"]) == set(BLOCKS)
    for row in judged["subspaces"].values():
        for cell in row.values():
            assert {"probe_accuracy", "chance", "leakage_bits", "eer"} <= set(cell)


def test_reasons_for_what_is_left_out(judged):
    assert judged["left_out_factors"] == {
        "language": "one class (en)",
        "take": "60 of its 60 values have one clip",
        "age": "unknown here",
    }


def test_three_thousand_labels_are_spreads_and_pairs_without_a_probe():
    """A linear probe of so many classes takes minutes, and its confusions 70 MB."""
    rng, n = np.random.default_rng(0), 6_000
    table = pd.DataFrame({
        "clip": [f"{row}.wav" for row in range(n)],
        "split": np.where((np.arange(n) + np.arange(n) // 3_000) % 50 < 10, "test", "train"),
        "speaker": [f"s{(row + row // 3_000) % 50}" for row in range(n)],
        "many": [f"label {row % 3_000}" for row in range(n)],
        "few": [f"word {row % 3}" for row in range(n)],
    })  # fmt: skip
    blocks = {"a": slice(0, 4), "b": slice(4, 8)}
    found = judge(rng.normal(size=(n, 8)), table, np.ones(n, bool), blocks)
    assert list(found["probes"]) == ["speaker", "few"]
    assert "spread_ratio" in found["classes"]["many"]
    assert "probe_uar" not in found["classes"]["many"]
    assert "eer" in found["verification"]["many"]
    reason = found["left_out_factors"]["many"]
    assert reason.startswith("probes: ")
    assert reason.endswith("classes, more than the 500 that a probe is fitted for")
    assert all(list(cells) == ["speaker", "few"] for cells in found["subspaces"].values())


def test_each_block_tells_of_its_factor_alone(judged):
    cells = judged["subspaces"]
    for name, other in (("speaker", "content"), ("content", "speaker")):
        own, leak = cells[name][name], cells[name][other]
        assert own["probe_accuracy"]["value"] > 0.85
        assert own["eer"]["value"] < 0.2
        assert own["leakage_bits"]["value"] > 0.6 * math.log2(4)
        assert leak["probe_accuracy"]["low"] <= leak["chance"]["value"] + 0.1
        assert leak["eer"]["value"] > 0.4
        assert leak["leakage_bits"]["value"] < 0.2
        assert (own["probe_accuracy"]["direction"], own["eer"]["direction"]) == ("higher", "lower")
        assert (leak["probe_accuracy"]["direction"], leak["eer"]["direction"]) == (
            "lower",
            "higher",
        )
        assert (own["leakage_bits"]["direction"], leak["leakage_bits"]["direction"]) == (
            "higher",
            "lower",
        )
    dci = judged["disentanglement"]["dci"]
    assert dci["disentanglement"]["value"] > 0.7
    for one in dci.values():  # blocks cut at random tell of both alike
        assert one["null"] <= one["control"] < 0.2 < one["low"]
    assert judged["disentanglement"]["pairs"]["speaker|content"]["cka"]["value"] < 0.15


def test_a_random_projection_of_all_blocks_tells_of_every_factor(judged):
    for cells in judged["subspaces"].values():
        for cell in cells.values():
            unchosen = cell["projection_accuracy"]
            assert unchosen["value"] > cell["chance"]["value"] + 0.2
            assert "random projection of all blocks to 6" in unchosen["definition"]
            assert unchosen["direction"] == "neither"
    # the block that is blind to a factor tells less than directions that nobody chose
    blind = judged["subspaces"]["speaker"]["content"]
    assert blind["probe_accuracy"]["value"] < blind["projection_accuracy"]["low"]


def test_a_leak_shows(judged):
    x, table = grid(leak=2.0)
    found = judge(x, table, (table["split"] == "test").to_numpy(), BLOCKS)
    cell, tight = (side["subspaces"]["content"]["speaker"] for side in (found, judged))
    assert cell["leakage_bits"]["value"] > tight["leakage_bits"]["value"] + 0.5
    assert cell["eer"]["value"] < tight["eer"]["value"] - 0.2
    worse = found["disentanglement"]["dci"]["disentanglement"]
    assert worse["value"] < judged["disentanglement"]["dci"]["disentanglement"]["value"]


def test_without_subspaces_there_is_the_one_all():
    x, table = grid()
    found = judge(x, table, np.ones(len(x), bool), {"all": slice(0, 12)})
    assert set(found["subspaces"]) == {"all"}
    assert "disentanglement" not in found
    cell = found["subspaces"]["all"]["content"]
    assert cell["probe_accuracy"] == found["classes"]["content"]["probe_accuracy"]
    assert cell["eer"] == found["verification"]["content"]["eer"]
    detail = found["probes"]["content"]
    assert np.sum(detail["confusion"]) == len(detail["clips"]) == len(detail["predictions"])
    tested = set(table["clip"][table["split"] == "test"])
    assert set(detail["clips"]) == tested


def test_speakers_are_probed_within_the_evaluated_clips():
    x, table = grid()
    found = judge(x, table, (table["split"] == "test").to_numpy(), {"all": slice(0, 12)})
    assert set(found["probes"]["speaker"]["classes"]) == {"s08", "s09", "s10", "s11"}


def test_without_speakers_spreads_are_told_and_probes_are_not():
    x, table = grid()
    table = table.drop(columns="speaker")
    found = judge(x, table, np.ones(len(x), bool), {"all": slice(0, 12)})
    assert "nc1" in found["classes"]["content"]
    assert "probe_uar" not in found["classes"]["content"]
    assert "no speaker column is known" in found["left_out_factors"]["content"]


def test_pairs_differ_in_the_other_factor():
    _, table = grid()
    assert (apart_of(table, "speaker") == table["content"]).all()
    assert (apart_of(table, "content") == table["speaker"]).all()
    assert apart_of(table.assign(content=["", *table["content"][1:]]), "speaker") is None
    with pytest.raises(ValueError, match="one class"):
        labels_of(table, "language")
    assert (labels_of(table.assign(age=["40", *["20"] * 90, *["30"] * 89]), "age")[0]) == ""


def test_many_clips_are_drawn_for_probes(monkeypatch):
    x, table = grid()
    monkeypatch.setattr("refine.factors.MOST_CLIPS", 40)
    found = judge(x, table, np.ones(len(x), bool), {"all": slice(0, 12)})
    assert len(found["probes"]["content"]["clips"]) == 40
    assert len(split_of(table, "content").test) == 60


def test_every_metric_is_in_the_methods():
    from refine import paths
    from refine.metrics import classes, plda, subspaces, verification

    methods = (paths.ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    names = {
        classes: "within_spread between_centroids spread_ratio davies_bouldin silhouette nc1 nc2 "
        "cdnv alignment explained",
        verification: "trials_from_factor trials_from_list cosine_scores as_norm eer min_dcf det",
        subspaces: "leakage dci linear_cka cross_covariance principal_angles overlap",
        plda: "fit",
    }
    for module, functions in names.items():
        for name in functions.split():
            assert callable(getattr(module, name))
            assert f"`{name}`" in methods or f".{name}`" in methods, name
