"""The benchmark of rewire's isotropy and price: every seed is trained, measured and told."""

import csv
import json
import sys

import pytest
import speech

from refine import paths

sys.path.insert(0, str(paths.ROOT / "benchmarks"))

import rewire as benchmark


@pytest.fixture
def options(tmp_path, tiny_encoder) -> benchmark.Options:
    """Three words by six made-up voices, two of them in dev and test each."""
    for name in ("voices", "others"):
        folder = speech.make_corpus(tmp_path / "data" / name, speakers=8)
        rows = list(csv.DictReader((folder / "clips.csv").open()))
        sides = {f"s{i:02}": "train" if i < 4 else "dev" if i < 6 else "test" for i in range(8)}
        for row in rows:
            row |= {"split": sides[row["speaker"]]}
        speech.write_csv(folder / "clips.csv", [list(rows[0]), *(list(r.values()) for r in rows)])
    return benchmark.Options(
        data=tmp_path / "data", encoder=str(tiny_encoder("hubert")), train="others",
        batch_factor="", test=("voices:test", "voices:all"), price="voices", seeds=2, steps=2,
        work=tmp_path / "work", out=tmp_path / "out" / "rewire.json",
    )  # fmt: skip


def test_each_seed_is_measured_and_none_trained_twice(options, capsys):
    benchmark.main(options)
    found = json.loads(options.out.read_text())
    assert found["settings"]["steps"] == 2
    for place in options.test:
        each = found["seeds"]["twin"][place]["isoscore"]
        moved = found["changes"]["twin"][place]["isoscore"]
        assert len(each) == 2
        assert each[0] == moved["value"] != each[1]
        rose = (found["isotropy"][side][place]["isoscore"]["value"] for side in ("twin", "base"))
        after, before = rose
        assert moved["value"] == pytest.approx(after - before)
    price = found["price"]["twin"]["words, UAR"]
    assert found["seeds"]["twin"]["price"]["words, UAR"][0] == price["change"]["value"]
    written = options.out.with_suffix(".md").read_text()
    assert written.startswith("2 seeds: 95 % intervals by speaker of the first")
    assert written.count("| voices, test |") == len(benchmark.METRICS) + 1
    assert written in capsys.readouterr().out
    assert written == benchmark.tables(found, options)
    trained = sorted(options.work.glob("*/checkpoints/final/refine.json"))
    assert len(trained) == 2
    times = [path.stat().st_mtime_ns for path in trained]
    assert "minutes" in found
    benchmark.main(options)
    assert [path.stat().st_mtime_ns for path in trained] == times
    again = json.loads(options.out.read_text())
    assert again["changes"] == found["changes"]
    assert "minutes" not in again  # it was trained before
    assert "processor" not in options.out.with_suffix(".md").read_text()
