"""The Subspaces page by itself: empty state, views, bench, history, and bad input as sentences."""

import json
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import frame
import numpy as np
import pytest
import speech
import split
from streamlit.testing.v1 import AppTest

from refine import listening, paths
from refine.__main__ import main


@pytest.fixture(autouse=True)
def spawned(monkeypatch: pytest.MonkeyPatch) -> list:
    """No process is started, neither for a task nor to keep encoders loaded."""
    started: list[Any] = []
    monkeypatch.setattr("refine.jobs._spawn", started.append)
    monkeypatch.setattr(listening, "warm", lambda encoders: None)
    return started


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors at once: they follow from the sound alone."""

    def embed(encoders: list[str], waveform: np.ndarray, wait_s: float = 0.0) -> list[np.ndarray]:
        seed = int(np.abs(waveform).sum() * 1_000)
        rng = np.random.default_rng(seed)
        return [rng.normal(size=32) for _ in encoders]

    monkeypatch.setattr(listening, "embed", embed)


@pytest.fixture(scope="module")
def _measured(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Any) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("split")
    return split.measured(folder, tiny_encoder) | {"cache": str(folder / "cache")}


@pytest.fixture
def pair(_measured: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("REFINE_CACHE", _measured["cache"])
    return {key: value for key, value in _measured.items() if key != "cache"}


def measure(corpus: Path, pair: dict[str, str]) -> dict[str, str]:
    """The same pair on another corpus."""
    from refine.evaluation import evaluate

    for role in ("before", "after"):
        evaluate(pair[role], str(corpus), split="all")
    return pair | {"corpus": str(corpus)}


opened = partial(frame.opened, "subspaces")


def words(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.subheader, *app.error, *app.info, *app.code]
    found = " ".join(str(part.value) for part in parts)
    return found + " ".join(str(element.proto) for element in app.get("html"))


def test_an_encoder_without_subspaces_is_one_click_from_one_that_has(
    tone_corpus: Path, tiny_encoder: Any
) -> None:
    encoder = str(tiny_encoder("hubert"))
    app = opened(before=encoder, after=encoder, corpus=str(tone_corpus))
    assert "No subspaces in this pair" in words(app)
    app.button(key="open_default").click().run()
    assert app.session_state["after"] == "mini-interventional"
    assert app.query_params["after"] in ("mini-interventional", ["mini-interventional"])


@pytest.mark.parametrize(
    ("view", "charts", "told"),
    [
        ("tells", 3, "probing is not causal"),
        ("cosines", 1, "ordered by voice and by words"),
        ("errors", 2, "not the same as absent"),
        ("geometry", 4, "One factor a block?"),
    ],
)
def test_every_view_draws(pair: dict[str, str], view: str, charts: int, told: str) -> None:
    app = opened(**pair, view=view)
    assert not app.error
    assert told in words(app)
    assert len(app.get("plotly_chart")) == charts
    command = "refine evaluate --encoder" if view == "tells" else "refine subspaces --before"
    assert command in words(app)


def test_the_command_prints_what_the_views_draw(pair: dict[str, str], capsys: Any) -> None:
    app = opened(**pair, view="errors", verify="content")
    command = shlex.split(app.code[-1].value)
    assert command[-3:] == ["--factor", "content", "--json"]
    assert main(command[3:]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["left_out"] == {}
    assert told["errors"]["factor"] == "content"
    one = told["errors"]["spaces"]["speaker"]
    assert f"{one['pairs']['same']:,} pairs of one content" in words(app)

    app = opened(**pair, view="cosines")
    frame_ = app.dataframe[0].value
    for name, space in told["cosines"]["spaces"].items():
        for kind, number in space["pairs"].items():
            same = (frame_["pairs that share"] == kind) & frame_["space"].str.contains(name)
            assert list(frame_[same]["value"]) == [number["value"]]
            assert list(frame_[same]["low"]) == [number["low"]]
    square = np.array(told["cosines"]["spaces"]["before"]["square"])
    assert square.shape == (len(told["cosines"]["clips"]),) * 2

    app = opened(**pair, view="geometry")
    app.session_state["geometry_numbers"] = True  # unfold
    table = app.run().dataframe[0].value.set_index(["of", "metric"])["value"]
    geometry = told["geometry"]
    for role in ("before", "after"):
        assert table[role, "overlap"] == geometry["overlap"][role]["value"]
    for name, number in geometry["dci"].items():
        assert table["after", f"DCI {name}"] == number["value"]
    for pair_, numbers in geometry["alike"].items():
        of = " and ".join(pair_.split("|"))
        assert table[of, "cka of spaces"] == numbers["cka"]["value"]
    for pair_, numbers in geometry["pairs"].items():
        of = " and ".join(sorted(pair_.split("|")))
        assert table[of, "cka"] == numbers["cka"]["value"]


def test_the_bench_measures_goes_back_and_is_shared(pair: dict[str, str], heard: None) -> None:
    app = opened(**pair)
    assert not app.error
    assert "You changed the voice." in words(app)
    app.button(key="preset_words").click().run()
    assert "You changed the words." in words(app)
    app.button(key="preset_rate").click().run()
    assert "You changed the pace." in words(app)
    assert "refine intervene" in words(app)
    shared = dict(app.query_params)
    app.button(key="bench_undo").click().run()
    assert "You changed the words." in words(app)
    app.button(key="bench_back_0").click().run()
    assert "You changed the voice." in words(app)

    again = opened(**{k: v[0] if isinstance(v, list) else v for k, v in shared.items()})
    assert "You changed the pace." in words(again)
    drawn = " ".join(element.proto.body for element in again.get("html"))
    assert "How far each space moved" in drawn
    assert "How far one subspace moved against the other" in drawn


def test_two_recordings(pair: dict[str, str], heard: None) -> None:
    app = opened(**pair, bench="recorded")
    assert not app.error
    kind = "same voice, other words"
    app.button(key=f"preset_{kind}").click().run()
    assert "The two clips differ in the words." in words(app)
    assert "--clips" in words(app)
    first, second = (app.session_state[f"bench_clip_{side}"] for side in ("first", "second"))
    assert first.split("/")[0] == second.split("/")[0]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ("en+f2~175~50~  ", "the text is empty"),
        ("xx+m1~175~50~a fox", "language: 'xx'"),
    ],
)
def test_what_cannot_be_said_is_a_sentence(
    pair: dict[str, str], heard: None, second: str, sentence: str
) -> None:
    assert sentence in words(opened(**pair, second=second))


@pytest.mark.parametrize("second", ["en~999~50~a fox", "en~fast~50~a fox", "nonsense"])
def test_an_address_that_cannot_be_read_is_as_by_default(
    pair: dict[str, str], heard: None, second: str
) -> None:
    app = opened(**pair, second=second)
    assert not app.error
    assert "You changed the voice." in words(app)


def test_a_sound_without_a_vector_is_a_sentence(
    pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> None:
        raise listening.ListeningError("the process that keeps the encoders loaded has ended")

    monkeypatch.setattr(listening, "embed", fails)
    assert "has ended" in words(opened(**pair))


def test_while_encoders_load_it_says_so(
    pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "embed", lambda *given: None)
    app = opened(**pair)
    assert "this takes some seconds the first time" in str(app.get("progress")[0].proto)


def test_a_corpus_without_words_still_shows_the_rest(pair: dict[str, str], tmp_path: Path) -> None:
    corpus = speech.make_corpus(tmp_path / "voices", columns=("path", "speaker", "emotion"))
    query = measure(corpus, pair)
    assert "the corpus does not know content" in words(opened(**query))
    assert "content" in words(opened(**query, view="cosines"))  # no block: the factor is named
    assert not opened(**query, view="tells").error


def test_a_handful_of_clips_is_drawn_or_a_sentence(
    pair: dict[str, str], heard: None, tmp_path: Path
) -> None:
    query = measure(speech.make_corpus(tmp_path / "few", speakers=2, takes=1), pair)
    assert "choose a larger" in words(opened(**query, view="tells"))
    assert "choose a larger" in words(opened(**query, view="errors"))
    assert not opened(**query, view="cosines").error
    for view in ("bench", "geometry"):
        opened(**query, view=view)


def test_markup_in_labels_is_text(pair: dict[str, str], tone_corpus: Path) -> None:
    manifest = tone_corpus / "clips.csv"
    manifest.write_text(manifest.read_text().replace("s03", "<b>x</b>").replace("two", "$y$"))
    # file names hold "two" as well
    for path in tone_corpus.rglob("two_*"):
        path.rename(path.with_name(path.name.replace("two", "$y$")))
    app = opened(**measure(tone_corpus, pair), view="cosines")
    assert not app.error
    layout = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]
    assert "&lt;b>x&lt;/b>" in layout["yaxis"]["ticktext"]


def test_the_bench_loads_no_torch(pair: dict[str, str]) -> None:
    address = "".join(f"app.query_params[{key!r}] = {value!r}\n" for key, value in pair.items())
    code = (
        "import sys; sys.path[:0] = ['tests', '.']\n"
        "from refine import listening\n"
        "listening.warm = listening.embed = lambda *given: None\n"
        "from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file('app.py', default_timeout=60).run()\n"
        "app.switch_page('pages/subspaces.py')\n"
        f"{address}app.run()\n"
        "assert len(app.get('progress')) == 1, app.error\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == ["False", "False"]
