"""Every page by itself: with nothing, with a corpus, and with what is wrong in a sentence."""

import json
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import speech
import streamlit as st
from frame import opened, said
from streamlit.testing.v1 import AppTest

from refine import paths, runs
from refine.__main__ import main
from refine.options import to_dict
from refine.recipes.rewire import Rewire

PAGES = ("overview", "corpora", "train", "isotropy")
pytestmark = pytest.mark.usefixtures("spawned")


def words(app: AppTest) -> str:
    elements = [*app.markdown, *app.title, *app.subheader, *app.caption, *app.code, *app.metric]
    return " | ".join(str(element.value) for element in elements)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_with_nothing(page: str, tone_corpus: Path, monkeypatch) -> None:
    monkeypatch.setenv("REFINE_SPEECH", str(tone_corpus / "nowhere"))
    app = opened(page, corpus=str(tone_corpus))
    assert app.title[0].value
    if page != "isotropy":  # which names an encoder that is not there
        assert not app.error


@pytest.mark.parametrize("page", ["corpora", "train", "isotropy"])
def test_a_bad_path_is_a_sentence(page: str) -> None:
    app = opened(page, corpus="/no/such/folder")
    assert "/no/such/folder" in said(app)
    assert "no such folder" in said(app)
    assert "Traceback" not in said(app)


def test_corpora_shows_what_is_there(tone_corpus: Path) -> None:
    app = opened("corpora", corpus=str(tone_corpus))
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Clips"] == "36"
    assert shown["Speakers"] == "6"
    table = app.dataframe[-1].value
    assert len(table) == 36
    assert list(table.columns[:3]) == ["clip", "split", "duration_s"]


def test_the_command_of_corpora_prints_what_it_shows(tone_corpus: Path, capsys) -> None:
    (tone_corpus / "00" / "one_0.wav").write_bytes(b"")
    app = opened("corpora", corpus=str(tone_corpus))
    command = shlex.split(app.code[0].value)
    assert command == ["python", "-m", "refine", "corpus", str(tone_corpus)]
    assert main([*command[3:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Clips"] == str(told["n_clips"])
    assert shown["Speakers"] == str(len(told["factors"]["speaker"]))
    assert shown["Left out"] == str(told["left_out"])
    splits = [str(told["split"][name]) for name in ("train", "dev", "test")]
    assert shown["train / dev / test"] == " / ".join(splits)
    rows = app.dataframe[0].value.to_dict("records")
    assert [(row["clip"], row["reason"]) for row in rows] == [
        (problem["clip"], problem["reason"]) for problem in told["problems"]
    ]


def test_corpora_finds_and_filters(tone_corpus: Path) -> None:
    app = opened("corpora", corpus=str(tone_corpus))
    app.text_input(key="find").set_value("s03 TWO").run()
    table = app.dataframe[-1].value
    assert set(table["speaker"]) == {"s03"}
    assert set(table["content"]) == {"two"}
    assert "2 of 36 clips match" in words(app)
    app.text_input(key="find").set_value("there is nothing like this").run()
    assert not app.exception
    assert "0 of 36 clips match" in words(app)


def test_corpora_opens_on_the_factor_and_clip_of_its_address(tone_corpus: Path) -> None:
    address = {"corpus": str(tone_corpus), "factor": "content", "clip": "03/two_1.wav"}
    app = opened("corpora", **address)
    (pills,) = [group for group in app.get("button_group") if group.key.startswith("factor_")]
    assert pills.value == "content"
    assert "**03/two\\_1\\.wav**" in words(app)
    assert app.query_params["clip"] in ("03/two_1.wav", ["03/two_1.wav"])
    app = opened("corpora", **address | {"factor": "colour", "clip": "gone.wav"})
    assert not said(app)
    assert "**00/one\\_0\\.wav**" in words(app)
    assert "clip" not in app.query_params
    assert "factor" not in app.query_params


def test_corpora_shows_problems_with_their_reasons(tone_corpus: Path) -> None:
    (tone_corpus / "00" / "one_0.wav").write_bytes(b"")
    speech.write(tone_corpus / "01" / "two_1.wav", np.zeros(8_000, np.float32))
    app = opened("corpora", corpus=str(tone_corpus))
    table = app.dataframe[0].value
    reasons = dict(zip(table["clip"], table["reason"], strict=True))
    assert "0 bytes" in reasons["00/one_0.wav"]
    assert "silent" in reasons["01/two_1.wav"]
    assert set(table["what was done"]) == {"left out"}


def test_corpora_says_how_many_of_many_labels_it_shows(tmp_path: Path) -> None:
    rows = [(f"{row}.wav", f"label {row % 50}") for row in range(60)]
    folder = speech.manifest(tmp_path / "many", ("path", "many"), *rows)
    app = opened("corpora", corpus=str(folder))
    assert (
        "The 40 most frequent of 50 values. Half of them have at most 1, the rarest has 1"
        in words(app)
    )


def test_corpora_with_one_clip_draws_and_warns(tmp_path: Path) -> None:
    app = opened("corpora", corpus=str(speech.clips(tmp_path / "one", "a/only.wav")))
    assert "one clip only" in said(app).lower()
    assert not app.error


def test_markup_in_a_label_is_shown_as_text(tmp_path: Path) -> None:
    folder = speech.manifest(
        tmp_path / "markup",
        ("path", "mood"),
        ("a.wav", "<script>alert(1)</script>"),
        ("b.wav", ":red[x] **y** $z$"),
    )
    app = opened("corpora", corpus=str(folder))
    assert "\\<script\\>" in words(app)
    told = said(opened("corpora", corpus="/no/:red[x] **y** $z$ <b>"))
    assert told.startswith(r"/no/:red\[x\] \*\*y\*\* \$z\$ \<b\>: no such folder")


def unfolded(*page: str, **address: str) -> AppTest:
    """A page whose form shows every option."""
    app = opened(*page, **address)
    app.session_state["rewire/mini/more"] = True
    return app.run()


def test_folded_options_keep_what_was_typed(tone_corpus: Path, tiny_encoder) -> None:
    app = unfolded("train", corpus=str(tone_corpus), encoder=str(tiny_encoder()))
    app.text_input(key="rewire/mini/seed").set_value("5").run()
    app.session_state["rewire/mini/more"] = False
    app.run()
    with pytest.raises(KeyError):
        app.text_input(key="rewire/mini/seed")
    assert "--seed 5" in words(app)
    assert app.button(key="rewire/mini/back").label.endswith("1 changed")
    app.switch_page("pages/methods.py").run()
    app.switch_page("pages/train.py").run()
    assert "--seed 5" in words(app)
    app.button(key="rewire/mini/back").click().run()
    assert "--seed" not in words(app)
    app.session_state["rewire/mini/more"] = True
    app.run()
    assert app.text_input(key="rewire/mini/seed").value == "0"


def test_what_is_refused_while_folded_unfolds(tone_corpus: Path, tiny_encoder) -> None:
    app = unfolded("train", corpus=str(tone_corpus), encoder=str(tiny_encoder()))
    app.text_input(key="rewire/mini/seed").set_value("*no*").run()
    app.session_state["rewire/mini/more"] = False
    app.run()
    assert ":red[seed: got" in words(app).replace("\\", "")
    assert app.button(key="start").disabled


def test_train_reads_its_form_off_the_recipe(tone_corpus: Path, tiny_encoder) -> None:
    app = unfolded("train", corpus=str(tone_corpus), encoder=str(tiny_encoder()))
    labels = {field.label for field in [*app.text_input, *app.selectbox, *app.get("button_group")]}
    for name in to_dict(Rewire()):
        assert name.replace("_", " ").capitalize() in labels
    steps = app.text_input(key="rewire/mini/steps")
    assert "Optimiser steps" in steps.help
    assert "--preset mini" in words(app)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("learning_rate", "1e9", "expected 1e-8 to 1"),
        ("steps", "many", "expected a whole number"),
        ("steps", "2.5", "expected a whole number"),
        ("batch_size", "1", "raise it to at least 2"),
        ("temperature", "nan", "expected 0.001 to 10"),
        ("layers", "middle", "expected mean or the number"),
    ],
)
def test_train_refuses_a_value_at_its_field(
    field: str, value: str, sentence: str, tone_corpus: Path, tiny_encoder, spawned: list
) -> None:
    app = unfolded("train", corpus=str(tone_corpus), encoder=str(tiny_encoder()))
    app.text_input(key=f"rewire/mini/{field}").set_value(value).run()
    text = words(app).replace("\\", "")
    assert f":red[{field}: got" in text
    assert sentence in text
    assert app.button(key="start").disabled
    app.text_input(key=f"rewire/mini/{field}").set_value(str(getattr(Rewire(), field))).run()
    assert not app.button(key="start").disabled
    assert not spawned


def a_logged_run(recipe: str, rows: list[dict[str, float]], **options: object) -> runs.Run:
    """A finished run with a log, as its page shows it."""
    run = runs.create({
        "command": "train", "recipe": recipe, "encoder": "mini", "corpus": "demo",
        "options": options,
    })  # fmt: skip
    for row in rows:
        run.log(row)
    run.write_status(state="finished", step=len(rows), total=len(rows))
    return run


@pytest.mark.parametrize(
    ("recipe", "options", "column", "line"),
    [
        ("rewire", {"batch_size": 48}, "total", "log(2N − 1): 4.55"),
        ("dino", {"outputs": 1024}, "total", "ln K: 6.93"),
        ("interventional", {}, "supcon_speaker", "mean log|P|: 2.5"),
    ],
)
def test_a_run_draws_the_line_of_its_loss(
    recipe: str, options: dict[str, int], column: str, line: str
) -> None:
    rows = [
        {"step": i, "total": 9.0 / i, "supcon_speaker": 4.0 / i, "floor_speaker": 2.5}
        for i in range(1, 6)
    ]
    run = a_logged_run(recipe, [*rows, {"step": 5, "eer_speaker_in_content": 0.4}], **options)
    app = opened("train", run=run.id)
    assert not app.exception
    if column != "total":
        app.session_state[f"loss_part_{run.id}"] = column
        app.run()
    drawn = " ".join(str(json.loads(chart.proto.spec)) for chart in app.get("plotly_chart"))
    assert line in drawn


def test_train_starts_what_the_form_says(tone_corpus: Path, tiny_encoder, spawned: list) -> None:
    app = opened("train", corpus=str(tone_corpus), encoder=str(tiny_encoder()))
    app.text_input(key="rewire/mini/steps").set_value("7").run()
    app.text_input(key="run_name").set_value("seven").run()
    assert "--steps 7 --name seven" in words(app)
    app.button(key="start").click().run()
    assert not app.exception
    (run,) = spawned
    assert run.config["options"]["steps"] == 7
    assert run.config["name"] == "seven"
    assert run.id in app.query_params["run"]
    assert "seven" in words(app)


def test_train_refuses_a_name_that_is_a_path(tone_corpus: Path, tiny_encoder) -> None:
    app = opened("train", corpus=str(tone_corpus), encoder=str(tiny_encoder()))
    app.text_input(key="run_name").set_value("../up").run()
    app.button(key="start").click().run()
    assert "name: got" in said(app)
    assert not runs.all_runs()


def test_train_says_why_an_encoder_cannot_be_used(tone_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "bert"}')
    app = opened("train", corpus=str(tone_corpus), encoder=str(tmp_path / "broken"))
    assert "model_type is 'bert'" in said(app)
    assert app.button(key="start").disabled


def a_run(state: str, **status: object) -> runs.Run:
    config = {
        "command": "train",
        "recipe": "rewire",
        "encoder": "mini",
        "corpus": "demo",
        "options": to_dict(Rewire()),
        "name": f"it {state}",
    }
    run = runs.create(config)
    for step in range(1, 30):
        run.log({"step": step, "total": 3.0 / step, "lr": 1e-4})
        if step % 10 == 0:
            run.log({"step": step, "isoscore": 0.01 * step, "mean_cosine": 1 - 0.01 * step})
    run.write_log("a line of the log")
    run.write_status(state=state, started=time.time() - 60, step=29, total=100, **status)
    return run


@pytest.mark.parametrize(
    ("state", "status", "sentence"),
    [
        ("finished", {}, ""),
        ("stopped", {"message": "stopped after a step"}, ""),
        ("failed", {"message": "step 30: the loss is not finite"}, "the loss is not finite"),
        ("running", {"pid": 2**22 - 3, "created": 1.0}, "gone without a word"),
    ],
)
def test_a_run_is_shown_as_it_is(state: str, status: dict, sentence: str) -> None:
    run = a_run(state, **status)
    app = opened("train", run=run.id)
    assert sentence in said(app)
    assert run.name in words(app).replace("\\", "")
    assert "a line of the log" in words(app)
    resumable = run.status().state in ("stopped", "failed", "crashed")
    assert any(button.key == "resume" for button in app.button) is resumable


def test_a_crashed_run_is_resumed_by_its_button(spawned: list) -> None:
    run = a_run("running", pid=2**22 - 3, created=1.0)
    app = opened("train", run=run.id)
    app.button(key="resume").click().run()
    assert not app.exception
    assert run.status().state in ("queued", "running")
    assert spawned == [run]


def test_a_run_that_is_not_there_is_a_sentence() -> None:
    a_run("finished")
    assert "no such run" in said(opened("train", run="20200101-000000-gone"))


def test_a_half_written_run_does_not_hide_the_others() -> None:
    good, bad = a_run("finished"), a_run("stopped")
    (bad.path / "config.json").write_text('{"command": "tra')
    (bad.path / "metrics.jsonl").write_text('{"step": 1, "total": 2.0}\n{"step": 2, "to')
    app = opened("train")
    assert any(button.key == f"open_{good.id}" for button in app.button)
    app = opened("train", run=bad.id)
    assert "config.json" in said(app)


def test_the_overview_lists_runs_and_corpora(tone_corpus: Path, monkeypatch) -> None:
    monkeypatch.setenv("REFINE_SPEECH", str(tone_corpus.parent))
    run = a_run("stopped")
    app = opened()
    assert any(button.key == f"open_{run.id}" for button in app.button)
    groups = {group.key: group for group in app.get("button_group")}
    assert "tones" in groups["overview_corpus"].options[-1]


def test_the_overview_shows_what_each_method_moved() -> None:
    from refine.glance import shipped

    app = opened()
    assert not app.error
    assert not app.exception
    page = " ".join(str(element.proto) for element in app.get("html"))
    kept = shipped()
    first = next(iter(kept.values()))
    for name, measured in first["encoders"].items():
        assert name in page
        for mark in measured["marks"].values():
            assert mark["before"]["low"] <= mark["before"]["value"] <= mark["before"]["high"]
    assert "isotropy?before=mini" in page
    others = [name for name in first["encoders"] if name != "mini"]
    assert f"compare --encoders {' '.join(others)} --against mini" in app.code[0].value
    # the other corpus, and the address that says so
    other = list(kept)[-1]
    app.get("button_group")[0].set_value(other).run()
    assert app.query_params["glance"] in (other, [other])
    told = " ".join(str(element.proto) for element in app.get("html"))
    assert told != page
    assert app.code[0].value.endswith(f"{other} --split test")


def test_the_overview_says_that_its_corpus_is_not_here(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("REFINE_SPEECH", str(tmp_path))
    assert "which is not here" in words(opened())


def test_the_overview_says_so_where_weights_are_not_those_measured(monkeypatch, tmp_path) -> None:
    from refine import paths

    assets = tmp_path / "assets"
    shutil.copytree(paths.ASSETS, assets)
    kept = json.loads((assets / "measured" / "glance.json").read_text())
    for told in kept.values():
        told["encoders"]["mini-rewire"]["fingerprint"] = "another"
    (assets / "measured" / "glance.json").write_text(json.dumps(kept))
    monkeypatch.setattr(paths, "ASSETS", assets)
    st.cache_data.clear()
    page = " ".join(str(element.proto) for element in opened().get("html"))
    assert "its weights changed since it was measured" in page
    st.cache_data.clear()


def test_isotropy_shows_before_and_after(
    tone_corpus: Path, tiny_encoder, tmp_path: Path, spawned: list
) -> None:
    from refine.evaluation import evaluate

    before, after = tiny_encoder("hubert"), tiny_encoder("wavlm")
    for encoder in (before, after):
        evaluate(str(encoder), str(tone_corpus), split="all")
    app = opened("isotropy", corpus=str(tone_corpus), before=str(before), after=str(after))
    assert not app.error
    assert not spawned
    page = " ".join(str(element.proto) for element in app.get("html"))
    for name in ("IsoScore", "Mean cosine", "Effective rank", "Uniformity"):
        assert name in page
    assert len(app.get("bidi_component")) == 1
    assert "one PCA" in words(app)
    pair = {"corpus": str(tone_corpus), "before": str(before), "after": str(after)}
    for view, charts, told in (
        ("pairs", 1, "point the same way"),
        ("directions", 3, "Rogue"),
        ("layers", 1, "Layer by layer"),
    ):
        app = opened("isotropy", **pair, view=view)
        assert not app.error
        assert len(app.get("plotly_chart")) == charts
        assert told in words(app)
        if view == "directions":
            titles = [one.label for one in app.expander]
            assert any(title.startswith("All ") and "numbers" in title for title in titles)
            figures = [json.loads(one.proto.spec) for one in app.get("plotly_chart")]
            for trace in figures[1]["data"]:  # what is left: a line with its band
                assert trace.get("hoverinfo") == "skip" or "customdata" in trace
            for bar in figures[2]["data"]:
                assert "clips" in bar["hovertemplate"]


def test_the_commands_of_isotropy_print_what_it_shows(
    tone_corpus: Path, tiny_encoder, capsys
) -> None:
    from pages.components import pair, space
    from refine.corpus import open_corpus
    from refine.evaluation import cached, evaluate

    names = {"before": str(tiny_encoder("hubert")), "after": str(tiny_encoder("wavlm"))}
    for name in names.values():
        evaluate(name, str(tone_corpus), split="all")
    corpus = open_corpus(tone_corpus)
    results = {role: cached(name, corpus, split="all") for role, name in names.items()}
    own = results["before"]["layer"]
    app = opened("isotropy", corpus=str(tone_corpus), split="all", **names)
    (lines,) = [one.value.splitlines() for one in app.code]
    assert len(lines) == 3
    assert not any("--layer" in line for line in lines)
    changed = asked(lines[2], capsys)["encoders"][names["after"]]["changes"]["isotropy"]
    assert changed == space.paired(results, None)
    other = next(name for name in results["before"]["layers"] if name != own)
    app.get("button_group")[1].set_value(other).run()
    (lines,) = [one.value.splitlines() for one in app.code]
    for line, result in zip(lines, results.values(), strict=True):
        told = asked(line, capsys)
        assert told["layer"] == other
        assert told["isotropy"] == pair.numbers(result, other)
        assert told["isotropy"] != result["isotropy"]
        assert told["cosines"] == space.cosines(result, other)
        assert told["spectrum"] == space.spectrum(result, other)


def test_isotropy_comes_back_from_its_address(tone_corpus: Path, tiny_encoder) -> None:
    from refine.evaluation import evaluate

    pair = {"before": str(tiny_encoder("hubert")), "after": str(tiny_encoder("wavlm"))}
    for name in pair.values():
        evaluate(name, str(tone_corpus), split="all")
    pair |= {"corpus": str(tone_corpus)}
    clip = "02/two_1.wav"
    app = opened("isotropy", **pair, layer="1", colour="content", clip=clip)
    assert app.get("button_group")[1].value == "1"
    assert chosen(app, "Colour by") == "content"
    assert clip in words(app).replace("\\", "")
    assert len(app.get("audio")) == 1
    for key, value in (("layer", "1"), ("colour", "content"), ("clip", clip)):
        assert app.query_params[key] in (value, [value])
    app = opened("isotropy", **pair, colour="nothing")
    assert chosen(app, "Colour by") is None
    assert not app.get("audio")
    app = opened("isotropy", **pair, view="layers", metric="rankme")
    assert chosen(app, "Metric") == "rankme"
    assert "--layer" not in words(app)
    app = opened("isotropy", **pair, view="pairs", same="content")
    assert chosen(app, "Same") == "content"
    assert chosen(opened("isotropy", **pair, view="pairs", same="nothing"), "Same") is None
    app = opened("isotropy", **pair, view="directions", dimensions="variance")
    assert chosen(app, "Shown") == "variance"

    # what is not there is as by default, and defaults are not in the address
    odd = {"layer": "99", "metric": "beauty", "colour": "weather", "clip": "../gone.wav"}
    odd |= {"same": "weather", "dimensions": "3"}
    for view, key in (("layers", "metric"), ("pairs", "same"), ("directions", "dimensions")):
        app = opened("isotropy", **pair, **odd, view=view)
        assert not app.error
        assert not {"layer", key} & set(app.query_params)
    app = opened("isotropy", **pair, **odd)
    assert not {"layer", "colour", "clip"} & set(app.query_params)
    assert not app.get("audio")
    app.get("button_group")[1].set_value("1").run()
    assert app.query_params["layer"] in ("1", ["1"])
    app.get("button_group")[1].set_value(app.get("button_group")[1].options[0]).run()
    assert "layer" not in app.query_params


def chosen(app: AppTest, label: str) -> str | None:
    """The value of the pills of that label."""
    (group,) = [one for one in app.get("button_group") if one.proto.label == label]
    value = group.value
    return (value[0] if value else None) if isinstance(value, list) else value


def asked(command: str, capsys) -> dict:
    """What a command that a page shows prints as JSON."""
    capsys.readouterr()
    assert main(shlex.split(command)[3:]) == 0
    return json.loads(capsys.readouterr().out)


def test_isotropy_compares_on_the_clips_that_both_have(tone_corpus: Path, tiny_encoder) -> None:
    from pages.components import space
    from refine.evaluation import evaluate

    every = evaluate(str(tiny_encoder("hubert")), str(tone_corpus), split="all")
    some = evaluate(str(tiny_encoder("wavlm")), str(tone_corpus), split="test")
    found = space.paired({"before": every, "after": some}, None)
    assert found is not None
    assert {number["n"] for number in found.values()} == {some["n_clips"]}
    assert some["n_clips"] < every["n_clips"]


def test_isotropy_says_when_a_pair_is_no_pair(
    tone_corpus: Path, tiny_encoder, tmp_path: Path
) -> None:
    from refine.corpus import open_corpus
    from refine.encoders import peek

    before, other = tiny_encoder("hubert"), tiny_encoder("wavlm")
    for base, words_said in ((before, False), (other, True)):
        after = Path(shutil.copytree(before, tmp_path / f"after-{words_said}"))
        refinement = {
            "recipe": "rewire",
            "base": {"name": "base", "fingerprint": peek(base).fingerprint},
            "provenance": {"corpus": {"fingerprint": open_corpus(tone_corpus).fingerprint}},
        }
        (after / "refine.json").write_text(json.dumps(refinement))
        query = {"corpus": str(tone_corpus), "before": str(before), "after": str(after)}
        app = opened("isotropy", **query)
        assert ("not refined from this very Before" in said(app)) is words_said
        assert "include the ones it was trained on" in said(app)  # a small corpus: all of it


def test_isotropy_measures_in_the_background(
    tone_corpus: Path, tiny_encoder, spawned: list
) -> None:
    encoder = str(tiny_encoder())
    opened("isotropy", corpus=str(tone_corpus), before=encoder, after=encoder)
    assert [run.config["command"] for run in spawned] == ["evaluate"]


def test_no_page_loads_torch() -> None:
    code = (
        "import sys; sys.path[:0] = ['tests', '.']\n"
        "from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file('app.py', default_timeout=60).run()\n"
        "for page in ('corpora', 'train', 'isotropy'):\n"
        "    app.switch_page(f'pages/{page}.py').run()\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == ["False", "False"]


# -- the theme -----------------------------------------------------------------------------------

THEME = tomllib.loads((paths.ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
# Machado, Oliveira and Fernandes 2009, severity 1
SEEN_BY = {
    "everyone": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65."""
    matrix = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = np.array(matrix) @ rgb.clip(0, 1) / [0.9505, 1, 1.0888]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    light, dark = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("eyes", SEEN_BY)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_categories_stay_apart_for_all_eyes(theme: str, eyes: str) -> None:
    colours = THEME["theme"][theme]["chartCategoricalColors"]
    seen = [lab(np.array(SEEN_BY[eyes]) @ linear(colour)) for colour in colours]
    nearest = min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i])
    assert nearest > 14  # a difference of 2 is just seen side by side


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_can_be_read(theme: str) -> None:
    look = THEME["theme"][theme]
    assert contrast(look["textColor"], look["backgroundColor"]) > 7
    assert contrast(look["primaryColor"], "#FFFFFF") > 4.5  # words on a button
    assert contrast(look["primaryColor"], look["backgroundColor"]) > 3
    for colour in ("blueColor", "orangeColor", "grayColor"):  # words in a sentence
        assert contrast(look[colour], look["backgroundColor"]) > 4.5
    for colour in look["chartCategoricalColors"][:2]:
        assert contrast(colour, look["backgroundColor"]) > 2.8


def test_the_app_is_local_and_quiet() -> None:
    assert THEME["server"]["address"] == "localhost"
    assert THEME["browser"]["gatherUsageStats"] is False
    assert THEME["server"]["fileWatcherType"] == "none"
    assert THEME["client"]["showErrorDetails"] == "none"
    assert "http" not in json.dumps(THEME["theme"])
