"""Five numbers at a glance: taken from where they say, shipped ones of the weights that ship."""

import json

import pytest

from pages.components import glance as page
from refine import encoders, paths
from refine.__main__ import main
from refine.corpus import open_corpus
from refine.encoders.projector import Projector, ProjectorConfig
from refine.evaluation import evaluate
from refine.glance import NAMES, GlanceError, glance, shipped
from refine.metrics.intervals import Number


@pytest.fixture
def split(tiny_encoder, tmp_path):
    """A tiny encoder with two subspaces."""
    encoder = encoders.load(tiny_encoder("hubert"))
    config = ProjectorConfig(sizes=(32, 10), subspaces={"speaker": 4, "content": 6})
    encoder.projector = Projector(config)
    encoder.save(tmp_path / "split", {"recipe": "interventional"})
    return tmp_path / "split"


def test_each_number_is_that_of_the_evaluation(tiny_encoder, tone_corpus, split):
    before = evaluate(tiny_encoder("hubert"), tone_corpus, split="all")
    after = evaluate(split, tone_corpus, split="all")
    marks = glance(before, after, "content")["marks"]
    assert marks["isotropy"]["after"] == after["isotropy"]["isoscore"]
    assert marks["invariance"]["before"] == before["classes"]["speaker"]["explained"]
    assert marks["eer"]["before"] == before["verification"]["speaker"]["eer"]
    assert marks["eer"]["after"] == after["subspaces"]["speaker"]["speaker"]["eer"]
    assert marks["eer"]["block"] == "speaker"
    for name, mark in marks.items():
        change = mark["change"]
        assert name in NAMES
        if change is not None:
            told = mark["after"]["value"] - mark["before"]["value"]
            assert change["value"] == pytest.approx(told, abs=1e-6)
            assert change["low"] <= change["value"] <= change["high"]
    json.dumps(marks, allow_nan=False)


def test_the_command_that_the_overview_shows_prints_these_numbers(
    tiny_encoder, tone_corpus, split, capsys
):
    before, after = str(tiny_encoder("hubert")), str(split)
    marks = glance(
        evaluate(before, tone_corpus, split="all"), evaluate(after, tone_corpus, split="all"),
        "content",
    )["marks"]  # fmt: skip
    command = ["compare", "--encoders", after, "--against", before, "--corpus", str(tone_corpus)]
    assert main([*command, "--split", "all", "--json"]) == 0
    first, last = json.loads(capsys.readouterr().out)["encoders"].values()
    places = {
        "isotropy": (("isotropy", "isoscore"), ("isotropy", "isoscore")),
        "invariance": (("speaker", "explained"), ("speaker", "explained")),
        "discriminability": (("content", "probe_uar"), ("content", "probe_uar")),
        "leakage": (("speaker", "probe_bits"), ("subspaces", "content → speaker: leakage_bits")),
        "eer": (("speaker", "eer"), ("subspaces", "speaker → speaker: eer")),
    }
    for name, mark in marks.items():
        for side, one, (group, metric) in zip(
            ("before", "after"), (first, last), places[name], strict=True
        ):
            told = one["numbers"][group][metric]
            ends = ("value", "low", "high", "n")
            assert [told[end] for end in ends] == [mark[side][end] for end in ends], name
        if mark["block"] == "all":
            group, metric = places[name][0]
            assert last["changes"][group][metric] == mark["change"]


def test_nothing_changes_between_an_encoder_and_itself(tiny_encoder, tone_corpus):
    result = evaluate(tiny_encoder("hubert"), tone_corpus, split="all")
    for mark in glance(result, result)["marks"].values():
        assert mark["before"] == mark["after"]
        if mark["change"]:
            assert mark["change"]["value"] == pytest.approx(0, abs=1e-9)


def test_other_clips_and_unknown_factors_are_refused(tiny_encoder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    result = evaluate(tiny_encoder("hubert"), corpus, split="all")
    other = result | {"corpus_fingerprint": "x", "corpus": "elsewhere"}
    with pytest.raises(GlanceError, match="elsewhere"):
        glance(result, other)
    with pytest.raises(GlanceError, match="name a factor"):
        glance(result, result, "weather")


def test_the_kept_figures_are_of_the_encoders_that_ship():
    kept = shipped()
    assert kept, "run tools/measure_shipped.py"
    folder = paths.ASSETS / "encoders"
    names = {path.name for path in folder.iterdir() if encoders.is_encoder(path)}
    for corpus, told in kept.items():
        assert set(told["encoders"]) == names, f"{corpus}: run tools/measure_shipped.py"
        for measured in told["encoders"].values():
            for mark in measured["marks"].values():
                assert set(mark["before"]) >= {"value", "low", "high", "n", "definition"}
                Number(*(mark["after"][key] for key in ("value", "low", "high", "n", "definition")))


def test_every_number_of_the_table_is_listed_once():
    for told in shipped().values():
        rows = list(page.numbers(told["encoders"]))
        marks = {n: e["marks"] for n, e in told["encoders"].items()}
        assert len({tuple(of.values()) for of, _ in rows}) == len(rows)
        for of, number in rows:
            assert number == marks[of["encoder"]][of["mark"]][of["of"]]
        listed = [of["of"] for of, _ in rows if of["encoder"] == "mini-rewire"]
        changed = sum(mark["change"] is not None for mark in marks["mini-rewire"].values())
        assert listed.count("before") == listed.count("after") == len(marks["mini-rewire"])
        assert listed.count("change") == changed
        assert {of["of"] for of, _ in rows if of["encoder"] == "mini"} == {"before"}
