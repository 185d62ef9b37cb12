"""The benchmark of dino from end to end on tones, and how a cut one goes on."""

import dataclasses
import json
import sys

import numpy as np
import pandas as pd
import pytest
import speech

from refine import encoders, paths
from refine.recipes import dino as recipe

sys.path.insert(0, str(paths.ROOT / "benchmarks"))
import dino as benchmark
import dino_systems as plan
import dino_tables as tables

TINY = recipe.Dino(
    long_seconds=0.3, short_seconds=0.15, min_seconds=0.4, noise="made", rooms="made", outputs=24,
    hidden=16, bottleneck=8, epochs=0.1, warmup_epochs=0.0, batch_size=8, channels=8, dim=12,
    probe_every=0,
)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Every corpus of the benchmark: tones of six voices, four to train on, two to test."""
    for name in (*plan.TRAINED_ON, "ravdess"):
        folder = speech.make_corpus(tmp_path / "data" / name)
        table = pd.read_csv(folder / "clips.csv")
        table["speaker"] = name[:4] + table["speaker"]
        late = table["speaker"].str[-2:].isin(["04", "05"])
        table["split"] = np.where(late, "test", "train")
        table.to_csv(folder / "clips.csv", index=False)
    return tmp_path / "data"


@pytest.fixture
def tiny(monkeypatch):
    preset = dataclasses.replace(recipe.PRESETS["mini"], config=TINY)
    monkeypatch.setitem(recipe.PRESETS, "mini", preset)
    quick = {"seconds": 0.3, "noise": "made", "rooms": "made"}
    changes = {
        "X_VECTOR": quick | {"epochs": 0.1},
        "PSEUDO": {"first": plan.Clustering(threshold=0.0, smallest=2, largest=500),
                   "last_epochs": 0.1, "all_epochs": 0.1, "seconds": 0.3},
        "TRANSFER": quick | {"head_epochs": 0.2, "all_epochs": 0.2},
    }  # fmt: skip
    for name, given in changes.items():
        monkeypatch.setattr(plan, name, dataclasses.replace(getattr(plan, name), **given))
    for module in (benchmark, tables, plan):
        monkeypatch.setattr(module, "CELLS", {"two stages": {}})
    monkeypatch.setattr(plan, "TRIALS", 500)


def test_every_cell_is_measured_and_kept(data, tiny, tiny_encoder, tmp_path, capsys):
    options = benchmark.Options(
        data=data, encoder=str(tiny_encoder()), work=tmp_path / "work", ship=tmp_path / "shipped",
        jobs=1, out=tmp_path / "dino.json",
    )  # fmt: skip
    benchmark.main(options)
    found = json.loads(options.out.read_text())
    for system in plan.SYSTEMS:
        cell = found["cells"][f"verification, {system}, seed 0"]
        assert set(cell) == set(plan.TESTS)
        for by in ("cosine", "PLDA"):
            assert 0 <= cell["ravdess"][by]["eer"]["value"] <= 1
    assert {"low", "high"} <= set(
        found["cells"]["change, dino after x-vector, ravdess, seed 0"]["eer"]
    )
    assert found["cells"]["rounds, seed 0"][0]["clusters"] >= 2
    text = options.out.with_suffix(".md").read_text()
    assert "| ravdess, all | cosine |" in text
    assert "| dino | " in text.split("fine-tuned")[1]
    assert encoders.peek(tmp_path / "shipped").recipe == "dino"

    cells = found["cells"]
    del cells["transfer, dino, two stages"]  # as if cut before
    options.out.write_text(json.dumps(found))
    capsys.readouterr()
    benchmark.main(options)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("…")] == [
        "… transfer, dino, two stages"
    ]
    # a further seed trains what has a seed, and no pseudo labels
    benchmark.main(dataclasses.replace(options, seeds=2))
    added = {line for line in capsys.readouterr().out.splitlines() if line.startswith("…")}
    measured = {f"… verification, {system}, seed 1" for system in plan.SEEDED}
    changed = {f"… change, dino after {before}, {name}, seed 1"
               for before in ("x-vector", "log-mel") for name in plan.TESTS}  # fmt: skip
    assert added == measured | changed
    text = options.out.with_suffix(".md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| ravdess, all, seed 1 | cos"))
    assert [cell.strip() == "–" for cell in row.split("|")[3:-1]] == [
        system not in plan.SEEDED for system in plan.SYSTEMS
    ]


def test_no_speaker_of_the_table_is_trained_on_and_ravdess_never(data, tmp_path):
    assert "ravdess" not in plan.TRAINED_ON
    for name, (corpus, split, _) in plan.TESTS.items():
        assert split == "test" or corpus not in plan.TRAINED_ON, name
    merged = plan.merged(data, plan.TRAINED_ON, tmp_path / "merged")
    table = pd.read_csv(merged / "clips.csv")
    assert not table["speaker"].str[-2:].isin(["04", "05"]).any()
    assert set(table["corpus"]) == set(plan.TRAINED_ON)
