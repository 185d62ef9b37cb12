"""Encoders side by side: lineage, differences, paired changes, curves, and their page."""

import shlex
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import frame
import numpy as np
import pytest
from frame import said
from refined import Family, a_run, family
from streamlit.testing.v1 import AppTest

from refine import comparison, curves, evaluation, lineage, lineup, runs
from refine.corpus import open_corpus
from refine.drawing import Look
from refine.drawing import lineage as drawn
from refine.options import from_dict
from refine.recipes.rewire import Rewire


@pytest.fixture(scope="module")
def kin(tmp_path_factory, _tones: Path, tiny_encoder) -> Iterator[Family]:
    with family(tmp_path_factory.mktemp("kin"), _tones, tiny_encoder) as made:
        yield made


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, kin: Family, spawned: list) -> None:
    kin.use(monkeypatch)
    shutil.rmtree(kin.root / "runs" / runs.TASKS, ignore_errors=True)  # of the test before


opened = partial(frame.opened, "compare")


def words(app: AppTest) -> str:
    elements = [*app.markdown, *app.title, *app.subheader, *app.caption, *app.code]
    return " | ".join(str(element.value) for element in elements)


# -- where they come from ----------------------------------------------------------------------


def test_chained_runs_are_a_lineage(kin: Family) -> None:
    nodes = lineage.tree([lineage.origin(kin.second.id), lineage.origin(kin.base)])
    assert [node.depth for node in nodes] == [0, 1, 2]
    assert [node.parent for node in nodes] == [None, 0, 1]
    assert [node.label for node in nodes[1:]] == ["first", "second"]
    # the one in the middle is only on the way
    assert [node.chosen for node in nodes] == [True, False, True]


def test_siblings_share_a_base_and_stand_below_each_other(kin: Family) -> None:
    origins = [lineage.origin(name) for name in (kin.base, kin.first.id)]
    twin = lineage.Origin("twin", "twin", "other", "rewire", {}, kin.base, origins[0].fingerprint)
    nodes = lineage.tree([*origins, twin])
    assert {node.row for node in nodes[1:]} == {0.0, 1.0}
    assert nodes[0].row == 0.5


def test_a_base_that_changed_or_is_gone_stands_there_as_such(kin: Family) -> None:
    for base, print_ in ((kin.base, "another"), ("/no/such/encoder", "gone")):
        one = lineage.Origin("x", "x", "x", "rewire", {}, base, print_)
        root, leaf = lineage.tree([one])
        assert not root.here
        assert "not here" in root.note
        assert leaf.parent == 0


def test_only_differences_are_listed(kin: Family) -> None:
    origins = [lineage.origin(one.id) for one in (kin.first, kin.second)]
    rows = {row.field: row.values for row in lineage.differences(origins)}
    assert rows["temperature"] == ("0.04", "0.1")
    assert rows["seed"] == ("0", "1")
    assert "steps" not in rows  # the same
    assert "recipe" not in rows
    assert not lineage.differences(origins[:1])


def test_options_that_one_alone_has_are_listed_on_request(kin: Family) -> None:
    origins = [lineage.origin(name) for name in (kin.base, kin.first.id)]
    assert "steps" not in {row.field for row in lineage.differences(origins)}
    rows = {row.field: row.values for row in lineage.differences(origins, every=True)}
    assert rows["steps"] == (lineage.ABSENT, "60")


def test_the_command_of_a_run_says_its_options_again(kin: Family) -> None:
    arguments = lineage.command(lineage.origin(kin.second.id))
    assert arguments is not None
    assert arguments[:2] == ["train", "rewire"]
    assert arguments[arguments.index("--temperature") + 1] == "0.1"
    assert arguments[arguments.index("--encoder") + 1] == kin.first.id
    assert from_dict(Rewire, lineage.origin(kin.second.id).options).seed == 1
    assert lineage.command(lineage.origin(kin.base)) is None


def test_cautions_name_what_is_no_comparison(kin: Family) -> None:
    base, second = lineage.origin(kin.base), lineage.origin(kin.second.id)
    told = lineage.cautions([base, second], base, "elsewhere", "all")
    assert any("not refined from" in text for text in told)
    assert any("trained on" in text for text in told)
    first = lineage.origin(kin.first.id)
    assert lineage.cautions([base, first], base, "elsewhere", "test") == []


def test_the_drawn_lineage_is_text_safe() -> None:
    node = lineage.Node("<b>", "<script>", "a & b", 0, 0.0, None, True, True)
    svg = drawn([node], Look())
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg


# -- the numbers -------------------------------------------------------------------------------


def test_a_line_up_holds_what_was_evaluated_and_compared(kin: Family) -> None:
    corpus = open_corpus(kin.corpus)
    found = lineup.cached([kin.first.id, kin.second.id], kin.base, corpus, "all")
    assert found is not None
    assert list(found["encoders"]) == [kin.base, kin.first.id, kin.second.id]
    before, after = (
        evaluation.cached(name, corpus, split="all") for name in (kin.base, kin.first.id)
    )
    assert before is not None
    assert after is not None
    one = found["encoders"][kin.first.id]
    assert one["numbers"]["isotropy"] == after["isotropy"]
    assert one["numbers"]["speaker"]["eer"] == after["verification"]["speaker"]["eer"]
    paired = comparison.changes(before, after)
    assert one["changes"]["isotropy"] == paired["isotropy"]
    assert one["changes"]["content"]["cdnv"] == paired["classes"]["content"]["cdnv"]
    assert one["n_paired"] == paired["n_clips"] == 36


def test_the_order_of_encoders_changes_no_number(kin: Family) -> None:
    corpus = open_corpus(kin.corpus)
    names = [kin.first.id, kin.second.id]
    one = lineup.cached(names, kin.base, corpus, "all")
    other = lineup.cached(names[::-1], kin.base, corpus, "all")
    assert one is not None
    assert other is not None
    assert one["encoders"] == other["encoders"]


def test_what_was_compared_once_is_kept(kin: Family, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("compared again")

    monkeypatch.setattr("refine.comparison.changes", never)
    found = lineup.lineup([kin.first.id], kin.base, str(kin.corpus), "all")
    assert found["encoders"][kin.first.id]["changes"]
    assert lineup.cached([kin.base], kin.first.id, open_corpus(kin.corpus), "all") is None


@pytest.mark.parametrize(
    ("low", "high", "direction", "word"),
    [
        (0.1, 0.2, "higher", "better"),
        (0.1, 0.2, "lower", "worse"),
        (-0.2, -0.1, "lower", "better"),
        (-0.2, -0.1, "higher", "worse"),
        (0.1, 0.2, "neither", "rose"),
        (-0.2, -0.1, "neither", "fell"),
        (-0.1, 0.1, "higher", "unsure"),
        (0.0, 0.1, "higher", "unsure"),
    ],
)
def test_a_verdict_is_the_interval_against_zero(low, high, direction, word) -> None:
    assert lineup.verdict({"value": 0.0, "low": low, "high": high}, direction) == word


def test_the_table_has_a_row_a_metric_and_encoder(kin: Family) -> None:
    found = lineup.cached([kin.first.id], kin.base, open_corpus(kin.corpus), "all")
    assert found is not None
    table = lineup.table(found)
    assert not table.duplicated(["group", "metric", "encoder"]).any()
    mine = table[table["encoder"] == kin.first.id]
    assert (mine["low"] <= mine["value"] + 1e-9).all()
    assert (table[table["encoder"] == kin.base]["verdict"] == "").all()
    total, sure = lineup.tested(found)
    assert total == int((mine["verdict"] != "").sum())
    assert 0 <= sure <= total


def test_too_many_encoders_are_refused() -> None:
    with pytest.raises(lineup.LineupError, match="choose at most 8"):
        lineup.check([f"run{i}" for i in range(8)], "mini")


# -- curves ------------------------------------------------------------------------------------


def test_steps_to_be_as_good_by_hand() -> None:
    base = {"steps": [0, 1, 2, 4], "test": [[0.1, 0.2, 0.5, 1.0], [0.1, 0.2, 0.5, 1.0]]}
    quick = {"steps": [0, 1, 2, 4], "test": [[0.1, 0.95, 1.0, 1.0]]}
    slow = {"steps": [0, 1, 2, 4], "test": [[0.1, 0.1, 0.1, 0.1]]}
    assert curves.reached(quick, base) == {"level": 0.95, "base": 4, "other": 1, "ratio": 0.25}
    assert curves.reached(base, base)["ratio"] == 1
    assert curves.reached(slow, base)["other"] is None


def test_curves_of_a_factor_are_measured_and_kept(kin: Family, monkeypatch) -> None:
    monkeypatch.setattr(curves, "STEPS", 30)
    corpus = open_corpus(kin.corpus)
    assert curves.cached(kin.base, corpus, "content", "all") is None
    found = curves.learn(kin.base, corpus, "content", "all")
    assert curves.cached(kin.base, corpus, "content", "all") == found
    clips = [point["clips"] for point in found["efficiency"]]
    assert clips == sorted(clips)
    assert clips[-1] == found["n_train"]
    assert found["null"] == pytest.approx(1 / 3)
    test = np.array(found["convergence"]["test"])
    assert test.shape == (curves.DRAWS, len(found["convergence"]["steps"]))
    assert ((test >= 0) & (test <= 1)).all()
    assert found["convergence"] != found["standardised"]
    for factor in ("weather", "language"):
        with pytest.raises(ValueError, match=factor):
            curves.learn(kin.base, corpus, factor, "all")


# -- the page ----------------------------------------------------------------------------------


def test_compare_shows_a_family(kin: Family, spawned: list) -> None:
    chosen = [kin.first.id, kin.second.id]
    app = opened(corpus=str(kin.corpus), encoders=chosen, against=kin.base, split="all")
    assert not app.error
    assert not spawned
    assert app.query_params["encoders"] == chosen
    fields = list(app.dataframe[0].value.iloc[:, 0])
    assert "temperature" in fields
    assert "batch_size" not in fields
    assert len(app.get("plotly_chart")) == 1  # training curves
    drawn = " ".join(str(element.proto) for element in app.get("html"))
    assert "Lineage: " in drawn
    assert "isotropy: metrics of 3 encoders" in drawn
    assert "second" in drawn
    links = [link.proto for link in app.get("page_link")]
    queries = [proto.query_string for proto in links if "isotropy" in proto.page]
    assert len(queries) == 2
    for name, query in zip(chosen, queries, strict=True):
        assert f"after={name}" in query
        assert "split=all" in query
    assert "not refined from" in said(app)  # the second is no child of the base
    assert "refine compare --encoders" in words(app)


def test_every_group_of_metrics_opens(kin: Family) -> None:
    corpus = open_corpus(kin.corpus)
    found = lineup.cached([kin.first.id], kin.base, corpus, "all")
    assert found is not None
    for group in lineup.groups(found):
        app = opened(
            corpus=str(kin.corpus), encoders=[kin.first.id], against=kin.base, group=group,
            split="all",
        )  # fmt: skip
        assert not app.error
        page = " ".join(str(element.proto) for element in app.get("html"))
        assert f"{group}: metrics of 2 encoders" in page


def test_what_is_missing_is_measured_in_the_background(kin: Family, spawned: list) -> None:
    app = opened(
        corpus=str(kin.corpus), encoders=[kin.second.id], against=kin.first.id, split="test"
    )
    assert not app.error
    assert [run.config["command"] for run in spawned] == ["compare"]
    assert spawned[0].config["options"]["encoders"] == [kin.second.id]


def test_a_report_is_made_and_handed_over(kin: Family, spawned: list) -> None:
    app = opened(corpus=str(kin.corpus), encoders=[kin.first.id], against=kin.base, split="all")
    app.button(key="make_report").click().run()
    assert not app.exception
    (task,) = spawned
    assert task.config["command"] == "report"
    out = Path(task.config["options"]["out"])
    assert out == kin.first.path / "report.html"  # of a run and what it began from
    out.write_text("<!doctype html>")
    task.write_result({"path": str(out)})
    task.write_status(state="finished", ended=time.time())
    app.run()
    labels = [button.proto.label for button in app.get("download_button")]
    assert any(label.startswith("Download report-first.html") for label in labels)


def test_curves_begin_when_asked_for(kin: Family, spawned: list) -> None:
    app = opened(corpus=str(kin.corpus), encoders=[kin.first.id], against=kin.base, split="all")
    assert not spawned
    app.button(key="learn").click().run()
    assert not app.exception
    assert [run.config["command"] for run in spawned] == ["curves"]
    (lines,) = [one.value.splitlines() for one in app.code if "refine curves" in one.value]
    assert [shlex.split(line)[5] for line in lines] == [kin.base, kin.first.id]
    factor = spawned[0].config["options"]["factor"]
    rest = ["--corpus", str(kin.corpus), "--factor", factor, "--split", "all"]
    assert all(shlex.split(line)[6:] == rest for line in lines)


def test_what_was_chosen_is_in_the_address(kin: Family) -> None:
    chosen = [kin.first.id, kin.second.id]
    query = {"corpus": str(kin.corpus), "encoders": chosen, "against": kin.base, "split": "all"}
    kept = {"curve": "isoscore", "take": kin.second.id, "every_option": "on"}
    app = opened(**query, **kept)
    assert not app.error
    assert app.toggle(key="every_option").value
    assert "batch_size" in list(app.dataframe[0].value.iloc[:, 0])
    groups = {group.key: group.value for group in app.get("button_group")}
    assert groups["curve"] == "isoscore"
    assert groups["take"] == kin.second.id
    for key, value in kept.items():
        assert app.query_params[key] in (value, [value])
    app.toggle(key="every_option").set_value(False).run()
    assert "every_option" not in app.query_params
    app = opened(**query, curve="beauty", take="nobody", every_option="perhaps")
    assert not app.error
    assert not set(kept) & set(app.query_params)
    groups = {group.key: group.value for group in app.get("button_group")}
    assert groups["take"] == kin.first.id
    assert groups["curve"] == "total"


def test_a_half_written_run_is_a_sentence(kin: Family) -> None:
    bad = runs.create({"command": "train", "recipe": "rewire", "encoder": "x", "corpus": "y"})
    final = bad.checkpoints / "final"
    final.mkdir()
    (final / "refine.json").write_text('{"recipe": "rew')
    app = opened(corpus=str(kin.corpus), encoders=[bad.id], against=kin.base, split="all")
    assert "refine.json" in said(app)
    runs.delete(bad)


def test_nothing_chosen_says_what_to_do(kin: Family) -> None:
    app = opened(corpus=str(kin.corpus), encoders=[kin.base], against=kin.base)
    assert "other than the reference" in words(app)
    assert not app.error


def test_an_empty_house_says_how_to_begin(kin: Family, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REFINE_RUNS", str(tmp_path / "none"))
    monkeypatch.setattr("pages.components.pickers.shipped_encoders", lambda: ["mini"])
    app = opened(corpus=str(kin.corpus))
    assert "Nothing is refined yet" in words(app)
    assert not app.error


def test_markup_in_a_name_is_text(kin: Family, tiny_encoder) -> None:
    odd = a_run(tiny_encoder("wavlm"), kin.base, kin.corpus, "x ![](y) & _b_ $z$", steps=60)
    lineup.lineup([odd.id], kin.base, str(kin.corpus), "all")
    app = opened(corpus=str(kin.corpus), encoders=[odd.id], against=kin.base, split="all")
    assert not app.error
    page = " ".join(element.proto.body for element in app.get("html"))
    assert "x ![](y) &amp; _b_ $z$" in page
    runs.delete(odd)
