"""The Classes page by itself: every view, one encoder, many labels, markup, what is missing."""

import json
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import frame
import pytest
import speech
import twins
from streamlit.testing.v1 import AppTest

from refine import class_changes, confusion, maps, paths
from refine.__main__ import main
from refine.evaluation import cached, evaluate


@pytest.fixture(autouse=True)
def spawned(monkeypatch: pytest.MonkeyPatch) -> list:
    started: list[Any] = []
    monkeypatch.setattr("refine.jobs._spawn", started.append)
    return started


@pytest.fixture(scope="module")
def _measured(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Any) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("twins")
    return twins.measured(folder, tiny_encoder) | {"cache": str(folder / "cache")}


@pytest.fixture
def pair(_measured: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("REFINE_CACHE", _measured["cache"])
    return {key: value for key, value in _measured.items() if key != "cache"}


opened = partial(frame.opened, "classes")


def words(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.subheader, *app.error, *app.info, *app.code]
    found = " ".join(str(part.value) for part in parts)
    return found + " ".join(str(element.proto) for element in app.get("html"))


def test_drawn_classes_are_said(pair: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "drawn with a seed" not in words(opened(**pair, factor="content", view="pairs"))
    monkeypatch.setattr("pages.components.class_views.MOST_CLASSES", 2)
    told = words(opened(**pair, factor="content", view="pairs"))
    assert "Spreads and pairs are of 2 of its 3 classes, drawn with a seed." in told
    assert "Their mean over 3 classes" in told


@pytest.mark.parametrize(
    ("view", "charts", "tables", "told"),
    [
        ("map", 0, 1, "Who moved most"),
        ("numbers", 1, 0, "Shares do not add up"),
        ("confusions", 1, 1, "Choose a cell"),
        ("pairs", 2, 0, "Picked because they are the worst"),
    ],
)
def test_every_view_draws(
    pair: dict[str, str], spawned: list, view: str, charts: int, tables: int, told: str
) -> None:
    app = opened(**pair, factor="content", view=view)
    assert not app.error
    assert not spawned
    said = words(app)
    assert told in said
    assert "a linear probe reads content" in said
    assert "refine classes --before" in said
    assert len(app.get("plotly_chart")) == charts
    assert len(app.dataframe) == tables


def test_the_command_prints_what_the_views_draw(pair: dict[str, str], capsys) -> None:
    app = opened(**pair, factor="content", view="confusions")
    command = shlex.split(app.code[-1].value)
    assert main(command[3:]) == 0
    told = json.loads(capsys.readouterr().out)
    results = {role: cached(pair[role], pair["corpus"], split="all") for role in told["shares"]}
    assert list(results) == ["before", "after"]
    drawn = confusion.matrices(results, "content")
    assert told["confusion"]["names"] == drawn.names
    for role, counts in drawn.counts.items():
        assert told["confusion"]["counts"][role] == counts.tolist()
        assert told["numbers"][role] == results[role]["classes"]["content"]
        assert told["shares"][role]["speaker"] == results[role]["classes"]["speaker"]["explained"]
    shown = app.dataframe[-1].value
    assert len(shown)
    assert [one["clip"] for one in told["confused"]] == list(shown["clip"])
    said = shown["probe after"].fillna("")
    assert [one["probe_after"] or "" for one in told["confused"]] == list(said)


def test_pairs_and_classes_are_a_table_with_what_labels_that_mean_nothing_give(
    pair: dict[str, str],
) -> None:
    app = opened(**pair, factor="content", view="pairs")
    app.session_state["class_pair_numbers"] = True  # unfold
    table = app.run().dataframe[0].value
    assert set(table["metric"]) == {"overlap", "overlap of the class", "width of the class"}
    assert set(table["side"]) == {"before", "after", "change"}
    sides = table[table["side"] != "change"]
    assert sides[["null", "control"]].notna().all(axis=None)
    assert (table["n"] > 1).all()
    hover = app.get("plotly_chart")[0].proto.spec
    assert "labels that mean nothing" in hover


def test_the_numbers_are_those_of_the_evaluation(pair: dict[str, str]) -> None:
    app = opened(**pair, factor="content", view="numbers")
    said = words(app)
    for name in (
        "Spread ratio",
        "NC1",
        "NC2, equal angles",
        "CDNV",
        "Davies–Bouldin",
        "Silhouette",
    ):
        assert name in said
    for name in ("Alignment", "Uniformity", "1-shot", "kNN UAR", "Probe UAR"):
        assert name in said
    app.session_state["class_numbers"] = True  # unfold
    table = app.run().dataframe[0].value
    result = cached(pair["after"], pair["corpus"], split="all")
    assert result is not None
    row = table[(table["side"] == "after") & (table["metric"] == "nc1")].iloc[0]
    assert row["value"] == result["classes"]["content"]["nc1"]["value"]
    changed = table[(table["side"] == "change") & (table["metric"] == "explained")]
    assert set(changed["factor"]) == {"speaker", "content", "emotion"}


def test_a_clip_in_the_address_is_heard_and_marked(pair: dict[str, str]) -> None:
    app = opened(**pair, factor="content", clip="00/one_0.wav")
    assert not app.error
    assert "nearest clips before" in words(app)
    assert "00/one\\_0\\.wav" in words(app)
    assert len(app.get("audio")) == 1
    next(b for b in app.button if b.label == "Show all again").click().run()
    assert len(app.get("audio")) == 0
    assert "clip" not in app.query_params


def test_a_clip_that_is_not_there_is_a_sentence(pair: dict[str, str]) -> None:
    app = opened(**pair, factor="content", clip="<b>gone</b>.wav")
    assert "is not in these clips" in words(app)
    assert "\\<b\\>" in words(app)


def test_the_choice_of_a_factor_is_in_the_address(pair: dict[str, str]) -> None:
    app = opened(**pair)
    groups = {group.label: group for group in app.get("button_group")}
    groups["Factor"].set_value("speaker").run()
    assert not app.exception
    assert app.query_params["factor"] in ("speaker", ["speaker"])
    assert "speaker" in words(app)


def test_one_encoder_alone(pair: dict[str, str]) -> None:
    for view in ("map", "numbers", "confusions", "pairs"):
        app = opened(**{**pair, "after": "none"}, factor="content", view=view)
        assert not app.error
        assert "Who moved most" not in words(app)


def test_more_clips_are_compared_in_the_background(
    pair: dict[str, str], spawned: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pages.components.class_looks.AT_ONCE", 10)
    monkeypatch.setattr(class_changes, "VERSION", 99)
    opened(**pair, factor="emotion")
    assert [run.config["command"] for run in spawned] == ["classes"]
    assert spawned[0].config["options"]["after"] == pair["after"]


def test_a_umap_is_made_in_the_background_and_the_pca_is_shown(
    pair: dict[str, str], spawned: list
) -> None:
    app = opened(**pair, factor="content", map="umap")
    assert [run.config["options"]["map"] for run in spawned] == ["umap"]
    assert "one PCA fitted" in words(app)
    assert "--map umap" in words(app)


def test_a_torn_map_is_made_again(pair: dict[str, str]) -> None:
    names = ("before", "after")
    results = {role: cached(pair[role], pair["corpus"], split="all") for role in names}
    opened(**pair, factor="content")
    path = maps._path(results, "pca", None, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert not opened(**pair, factor="content").error
    assert len(path.read_bytes()) == len(whole)


def test_labels_with_markup_and_one_a_clip_are_text(tmp_path: Path, tiny_encoder: Any) -> None:
    """`id` has a label a clip: nothing to compare, and it says so nowhere by failing."""
    rows = [(f"{n:02d}.wav", f"n{n}", "<b>a</b>" if n % 2 else ":red[b]") for n in range(24)]
    folder = speech.manifest(tmp_path / "markup", ("path", "id", "kind"), *rows)
    encoder = str(tiny_encoder("hubert"))
    evaluate(encoder, str(folder), split="all")
    for view in ("map", "confusions", "pairs", "numbers"):
        app = opened(corpus=str(folder), before=encoder, after=encoder, split="all", view=view)
        assert not app.error
        assert ":red[b] " not in words(app).replace("\\", "") or "\\:red" in words(app)
        for chart in app.get("plotly_chart"):
            assert "<b>a</b>" not in chart.proto.spec


def test_without_a_factor_it_says_why(tmp_path: Path, tiny_encoder: Any) -> None:
    rows = [(f"{n:02d}.wav", "same") for n in range(12)]
    folder = speech.manifest(tmp_path / "plain", ("path", "kind"), *rows)
    encoder = str(tiny_encoder("hubert"))
    evaluate(encoder, str(folder), split="all")
    app = opened(corpus=str(folder), before=encoder, after=encoder, split="all")
    assert "no factor with two classes" in words(app)
    assert "one class" in words(app)


def test_the_command_line_says_the_same(pair: dict[str, str], capsys: Any) -> None:
    from refine.cli import run

    words = [f"--{key}={pair[key]}" for key in ("before", "after", "corpus", "split")]
    assert run(["classes", *words, "--factor=content", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = ("before", "after")
    results = {role: cached(pair[role], pair["corpus"], split="all") for role in names}
    looked = class_changes.looked(results, "content")
    assert found["changes"] == looked["changes"]
    assert 0 <= found["neighbours_kept"]["value"] <= 1
    assert run(["classes", *words]) == 0
    assert "worst pairs, overlap" in capsys.readouterr().out


def test_the_page_loads_no_torch() -> None:
    code = (
        "import sys; sys.path[:0] = ['tests', '.']\n"
        "from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file('app.py', default_timeout=60).run()\n"
        "app.switch_page('pages/classes.py').run()\n"
        "print('torch' in sys.modules, 'umap' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == ["False", "False"]
