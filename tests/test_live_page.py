"""The live page without a browser: its sources, what it says, what it hands to its panel."""

import io
import shlex
from pathlib import Path
from typing import Any

import frame
import numpy as np
import pytest
import speech
from frame import said
from streamlit.testing.v1 import AppTest

from refine import audio
from refine.audio import SAMPLE_RATE
from refine.corpus import open_corpus
from refine.live import cloud, hub, recording, sources, teaching


class Quiet(hub.Hub):
    """A hub without a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> bool:
        self.sent.append(header)
        return True

    def answer(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return [{"type": "state", "state": "ready", "heads": {}}]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Quiet:
    one = Quiet()
    monkeypatch.setattr(hub, "_hub", one)
    return one


@pytest.fixture(autouse=True)
def spawned(monkeypatch: pytest.MonkeyPatch) -> list:
    started: list = []
    monkeypatch.setattr("refine.jobs._spawn", started.append)
    return started


def opened(quiet: Quiet, **query: str) -> AppTest:
    return frame.opened("live", **query)


def test_the_page_opens_and_warms_the_pair(quiet: Quiet, spawned: list) -> None:
    app = opened(quiet, before="mini", after="mini-rewire", corpus="samples")
    assert app.title[0].value == "Say something."
    assert not app.error
    assert any(header["do"] == "warm" for header in quiet.sent)
    (token,) = quiet.sessions
    settings = quiet.sessions[token].settings
    assert (settings["before"], settings["after"]) == ("mini", "mini-rewire")
    app.run()
    assert set(quiet.sessions) == {token}  # one session, however often it is drawn
    assert "listen --encoder mini-rewire" in app.code[-1].value


def test_shipped_encoders_answer_at_once() -> None:
    from refine import heads

    for name in ("mini", "mini-rewire"):
        found = {head.factor: head for head in heads.find(name)}
        assert {"content", "emotion"} <= set(found)
        assert not any(head.stale for head in found.values())
        for head in found.values():
            assert head.path is not None
            assert head.path.stat().st_size < 100_000
            assert head.corpus["name"] in ("arabic_commands", "emodb")


def test_an_encoder_without_heads_can_be_taught(
    quiet: Quiet, tiny_encoder: Any, spawned: list
) -> None:
    name = str(tiny_encoder("hubert"))
    app = opened(quiet, before=name, after="none", corpus="samples")
    assert "has not been taught" in said(app)
    assert any(button.label == "Teach it" for button in app.button)
    app.button(key="live_teach_it").click().run()
    (task,) = app.session_state["live_teach"]
    assert task["encoder"] == name
    words = ["--encoder", name, "--corpus", task["corpus"], "--factor", task["factor"]]
    assert shlex.split(app.code[0].value) == ["python", "-m", "refine", "heads", "fit", *words]


def test_teaching_is_a_task(tiny_encoder: Any, tone_corpus: Path) -> None:
    from refine import heads, runs
    from refine.__main__ import main

    name = str(tiny_encoder("hubert"))
    config = {"command": "heads", "encoder": name, "corpus": str(tone_corpus)}
    run = runs.create({**config, "options": {"factor": "content"}})
    result = teaching.work(run, False)
    assert result["factor"] == "content"
    assert [head.factor for head in heads.find(name)] == ["content"]
    # the command that the page shows makes the same head in the same place
    taught = Path(result["path"]).read_bytes()
    heads.delete(name, "content")
    words = ["--encoder", name, "--corpus", str(tone_corpus), "--factor", "content"]
    assert main(["heads", "fit", *words]) == 0
    assert Path(result["path"]).read_bytes() == taught


def test_a_clip_is_there_to_be_played(quiet: Quiet) -> None:
    opened(quiet, before="mini", after="none", corpus="samples", source="clip")
    (session,) = quiet.sessions.values()
    assert session.clip is not None
    assert len(session.clip) > SAMPLE_RATE


def test_a_missing_microphone_leaves_the_page_whole(quiet: Quiet, monkeypatch) -> None:
    def missing() -> list:
        raise sources.SourceError("no microphone was found; plug one in and try again")

    monkeypatch.setattr(sources, "devices", missing)
    app = opened(quiet, before="mini", after="none", corpus="samples", source="device")
    assert "no microphone was found" in said(app)
    assert app.code


def test_what_was_heard_can_be_played_saved_and_passed_on(quiet: Quiet) -> None:
    app = opened(quiet, before="mini", after="none", corpus="samples")
    (session,) = quiet.sessions.values()
    session.keep(hub.to_pcm(speech.tone(1.0)))
    app.run()
    assert any(header.value == "What was heard" for header in app.subheader)
    next(b for b in app.button if b.label == "Use as a corpus clip").click()
    app.run()
    corpus = open_corpus(app.session_state["corpus"])
    assert len(corpus) == 1
    assert corpus.table["duration_s"].iloc[0] == pytest.approx(1.0)


def test_a_session_forgets_when_asked(quiet: Quiet) -> None:
    app = opened(quiet, before="mini", after="none", corpus="samples")
    (session,) = quiet.sessions.values()
    session.keep(hub.to_pcm(speech.tone(1.0)))
    app.run()
    next(b for b in app.button if b.label == "Forget it").click()
    app.run()
    assert session.captured().size == 0
    assert not any(header.value == "What was heard" for header in app.subheader)


def test_sound_as_a_file_is_the_sound() -> None:
    clip = speech.tone(0.5)
    np.testing.assert_allclose(audio.load(io.BytesIO(recording.wav(clip))), clip, atol=1e-4)
    assert all(recording.label(path) for path in recording.clips())


def test_the_map_of_a_pair(tiny_encoder: Any, tone_corpus: Path) -> None:
    from refine import evaluation

    name = str(tiny_encoder("hubert"))
    result = evaluation.evaluate(name, open_corpus(tone_corpus), split="all")
    spec = {role: recording.table(name, result) for role in ("before", "after")}
    drawn = cloud.load(spec)
    assert cloud.load(spec) is drawn  # read once
    points = recording.points(drawn)
    assert len(points["clips"]) == len(points["groups"]) == 36
    np.testing.assert_allclose(points["points"]["before"], points["points"]["after"], atol=1e-6)
    row = drawn.vectors["after"][5]
    assert drawn.rooms["after"].place(row).near[0] == 5
