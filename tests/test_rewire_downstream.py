"""The benchmark of paper 3's evaluation: it runs, keeps each cell, and its tables say what is."""

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import speech

from refine import encoders, paths, synthesis
from refine.downstream import Curve

sys.path.insert(0, str(paths.ROOT / "benchmarks"))

import processes
import rewire_curves
import rewire_downstream
import rewire_tables


@pytest.fixture
def options(tmp_path, tiny_encoder) -> rewire_downstream.Options:
    """Digits and sentences of six made-up voices each."""
    for name, language in (("fsdd", "en"), ("emodb", "de")):
        folder = speech.make_corpus(tmp_path / "data" / name)
        rows = list(csv.DictReader((folder / "clips.csv").open()))
        sides = dict.fromkeys(("s00", "s01", "s02", "s03"), "train") | {"s04": "dev", "s05": "test"}
        for row in rows:
            row |= {"split": sides[row["speaker"]], "language": language}
            row.pop("text")
            if name == "emodb":
                row["content"] = {"one": "a01", "two": "a02", "three": "b10"}[row["content"]]
        speech.write_csv(folder / "clips.csv", [list(rows[0]), *(list(r.values()) for r in rows)])
    return rewire_downstream.Options(
        data=tmp_path / "data", encoder=str(tiny_encoder("hubert")), seeds=2, draws=2,
        tasks=("digits",), fractions=(0.5, 1.0), steps=12, tune=("digits:0.5",), tune_steps=2,
        train="fsdd", rewire_steps=1, work=tmp_path / "work", jobs=1,
        out=tmp_path / "out" / "found.json",
    )  # fmt: skip


@pytest.mark.skipif(not synthesis.available(), reason="needs the extra synthesis")
def test_it_measures_every_cell_and_goes_on_where_it_stopped(options, monkeypatch, capsys):
    real = rewire_downstream.frozen
    calls = []

    def cut(*arguments):
        calls.append(len(arguments[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(rewire_downstream, "frozen", cut)
    with pytest.raises(KeyboardInterrupt):
        rewire_downstream.main(options)
    assert list(json.loads(options.out.read_text())["cells"]) == ["frozen/digits/0.5"]
    trained = {p: p.stat().st_mtime_ns for p in options.work.glob("runs/*/checkpoints/final/*")}
    assert len({path.parent for path in trained}) == 6  # three kinds, two seeds
    rewire_downstream.main(options)
    assert calls == [24, 24, 24]  # six variants, two seeds, two draws; the first cell only once
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    found = json.loads(options.out.read_text())
    assert found["about"]["fingerprint"] == encoders.peek(options.encoder).fingerprint
    cell = found["cells"]["frozen/digits/0.5"]
    assert cell["labelled"] == 12
    assert set(cell["variants"]) == {"base", *rewire_tables.CONTROLS, *rewire_tables.REWIRED}
    twin = cell["variants"]["twin"]
    assert {"curve", "score", "change", "speed_up"} == set(twin)
    assert {"value", "low", "high", "n"} <= set(twin["speed_up"]["0.95"]["ratio"])
    assert len(found["cells"]) == 2 + 4 * 2
    markdown = options.out.with_suffix(".md").read_text()
    assert markdown.count("| digits | 50% |") == 4
    panels = options.out.with_suffix(".svg").read_text()
    assert panels.count("test UAR</text>") == 3  # two shares frozen, one fine-tuned
    assert panels.count("<polyline") == 3 * len(rewire_curves.KINDS)
    ElementTree.fromstring(panels)
    tuned = markdown.split("Fine-tuned with its head, 2 steps")[1].splitlines()
    (row,) = (line for line in tuned if line.startswith("| digits | 50% |"))
    assert row.count("|") == 3 + 3 + 6 + 1  # about, changes, speed-ups
    assert "Target (base's best in at most half the steps" in markdown
    assert markdown in capsys.readouterr().out
    # other settings, other cells
    calls.clear()
    rewire_downstream.main(replace(options, steps=6, fractions=(1.0,), tune=()))
    assert len(calls) == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_work_is_done_here_or_spread_over_processes(jobs: int) -> None:
    with processes.workers(jobs) as turns:
        asked = {n: (math.factorial, n) for n in range(5)}
        assert dict(turns(asked)) == {0: 1, 1: 1, 2: 2, 3: 6, 4: 24}
        with pytest.raises(ValueError, match="negative"):
            dict(turns({-1: (math.factorial, -1)}))


def test_the_words_of_the_neutral_copies_are_known(options):
    folder = rewire_downstream._texts(options)
    rows = list(csv.DictReader((folder / "clips.csv").open()))
    assert {row["text"] for row in rows if row["language"] == "en"} == {"one", "two", "three"}
    assert "Das will sie am Mittwoch abgeben." in {row["text"] for row in rows}
    assert {row["split"] for row in rows} == {"train"}
    assert all((folder / row["path"]).is_file() for row in rows)


def curve(reaches: int) -> Curve:
    """Scores that rise to 1 at a step."""
    steps = np.arange(0, 101, 10)
    scores = np.minimum(1, steps / reaches)
    return Curve(steps, scores, scores)


def cell(**reaches: int) -> dict:
    """A cell whose two seeds reach their best at the same step."""
    curves = {name.replace("_", " "): [curve(at)] * 2 for name, at in reaches.items()}
    return rewire_tables.summary(curves, {name: [0.5, 0.7] for name in curves})


BASE = {"base": 100, "base_again": 100, "base_standardised": 100}


@pytest.mark.parametrize(
    ("task", "reaches", "said"),
    [
        ("words", {"twin": 50, "neutral": 100, "mixed": 60}, "met by twin on words (0.50"),
        ("words", {"twin": 60, "neutral": 60, "mixed": 60}, "missed"),
        ("digits", {"twin": 60, "neutral": 10, "mixed": 10}, "missed"),  # they heard the labels
        ("digits", {"twin": 20, "neutral": 10, "mixed": 10}, "met by twin on digits (0.20"),
    ],
)
def test_the_verdict_is_what_the_cells_say(task, reaches, said):
    cells = {f"frozen/{task}/0.1": cell(**BASE, **reaches)}
    assert said in rewire_tables.verdict(cells)
    # only 10 % of the labels count
    assert "missed" in rewire_tables.verdict({f"frozen/{task}/1.0": cell(**BASE, **reaches)})


def test_an_uncertain_speed_up_does_not_meet_the_target():
    curves = {name: [curve(100)] * 2 for name in ("base", "base again", "base standardised")}
    curves |= {"twin": [curve(10), curve(60)], "neutral": [curve(100)] * 2}
    slow = Curve(curve(100).steps, curve(100).dev / 2, curve(100).test / 2)
    curves["mixed"] = [slow, curve(10)]
    found = rewire_tables.summary(curves, {name: [0.5, 0.7] for name in curves})
    assert "missed" in rewire_tables.verdict({"frozen/words/0.1": found})
    assert rewire_tables._speed(found["variants"]["mixed"]["speed_up"]["1.0"]).startswith("≥ ")


def test_the_options_name_tasks_that_are_there():
    assert set(rewire_downstream.Options().tasks) == set(rewire_downstream.TASKS)
    for task in rewire_downstream.TASKS.values():
        assert task.learning_rate in (1e-4, 1e-3)
    folder = paths.speech()
    if folder is not None:
        for task in rewire_downstream.TASKS.values():
            header = (Path(folder) / task.corpus / "clips.csv").read_text().splitlines()[0]
            assert task.factor in header
