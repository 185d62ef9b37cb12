"""Hub and worker together: what goes in as sound comes out as answers, and faults stay small."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refine import audio, encoders, head_fitting, heads, paths
from refine.audio import SAMPLE_RATE
from refine.corpus import open_corpus
from refine.live import hub, wire, worker
from refine.live.engine import Settings
from refine.live.stream import Options

SENTENCE = audio.load(sorted((paths.ASSETS / "clips").glob("*.ogg"))[0])


class Thread:
    """The worker in a thread instead of a process: two pipes, as a process has them."""

    def __init__(self) -> None:
        read_in, write_in = os.pipe()
        read_out, write_out = os.pipe()
        self.stdin, self.stdout = os.fdopen(write_in, "wb"), os.fdopen(read_out, "rb")
        self.pid = os.getpid()
        ends = os.fdopen(read_in, "rb"), os.fdopen(write_out, "wb")
        self._thread = threading.Thread(target=self._serve, args=ends, daemon=True)
        self._thread.start()

    @staticmethod
    def _serve(source: Any, out: Any) -> None:
        with source, out:
            worker.serve(source, out)

    def poll(self) -> int | None:
        return None if self._thread.is_alive() else 0

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)

    def kill(self) -> None:
        raise AssertionError("it should have ended when its stdin did")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    stand_in = SimpleNamespace(
        Popen=lambda *_, **__: Thread(),
        PIPE=subprocess.PIPE,
        TimeoutExpired=subprocess.TimeoutExpired,
    )
    monkeypatch.setattr(hub, "subprocess", stand_in)
    one = hub.Hub()
    yield one
    one.stop()
    assert not one.alive()


@pytest.fixture
def taught(tiny_encoder: Any, tone_corpus: Path) -> str:
    name = str(tiny_encoder("hubert"))
    heads.save(head_fitting.fit(encoders.load(name), open_corpus(tone_corpus), "content"), name)
    return name


def summary(messages: list[dict[str, Any]]) -> list[tuple[float, float, str]]:
    return [
        (m["start"], m["end"], m["answers"]["content"]["after"]["label"])
        for m in messages
        if m["type"] == "answer"
    ]


def test_a_recording_is_answered_window_by_window(running: hub.Hub, taught: str) -> None:
    messages = running.answer({"before": taught, "after": taught}, SENTENCE)
    answers = [message for message in messages if message["type"] == "answer"]
    assert answers[-1]["final"]
    # nothing is dropped, for each window waits for the one before
    assert len(answers) >= len(SENTENCE) / SAMPLE_RATE / 0.25 - 4
    assert {answer["dropped"] for answer in answers} == {0}
    again = running.answer({"before": taught, "after": taught}, SENTENCE)
    assert summary(again) == summary(messages)


def test_what_cannot_be_answered_is_a_sentence(running: hub.Hub) -> None:
    with pytest.raises(hub.HubError, match="no such encoder folder"):
        running.answer({"before": "/no/such/encoder"}, SENTENCE)


def test_a_stream_and_a_change_of_mind(running: hub.Hub, taught: str) -> None:
    heard: list[dict[str, Any]] = []
    told = threading.Condition()

    def listener(message: dict[str, Any]) -> None:
        with told:
            heard.append(message)
            told.notify_all()

    def wait(done: Any) -> None:
        with told:
            assert told.wait_for(done, 60), heard[-3:]

    found = running.session(None, before=taught, after=None)
    assert running.claim(found.token, listener) is found
    wait(lambda: any(m.get("state") == "ready" for m in heard))
    for start in range(0, len(SENTENCE), 320):
        running.push(found, hub.to_pcm(SENTENCE[start : start + 320]), float(start))
    running.finish(found)
    wait(lambda: any(m["type"] == "answer" and m["final"] for m in heard))
    (final,) = [m for m in heard if m["type"] == "answer" and m["final"]]
    assert set(final["answers"]["content"]) == {"before"}
    np.testing.assert_allclose(found.captured(), SENTENCE, atol=1e-4)

    running.session(found.token, before=taught, after=taught)  # the page chose another pair
    wait(lambda: any(m.get("roles") == ["before", "after"] for m in heard))
    running.order(found, {"type": "dance"})
    wait(lambda: any(m["type"] == "error" for m in heard))
    running.release(found, listener)
    assert found.listener is None


def test_a_broken_frame_ends_nothing(running: hub.Hub, taught: str) -> None:
    running.warm({"before": taught})
    running._send({"do": "push", "stream": "x"}, b"\0")  # half a sample
    running._send({"stream": "x"})  # no order at all
    assert running.answer({"before": taught}, SENTENCE)


def test_settings_go_over_the_wire_whole() -> None:
    settings = Settings("mini", "mini-rewire", Options(hop_s=0.5), None, "owner")
    plain = hub._plain({"before": "mini", "after": "mini-rewire", "options": Options(hop_s=0.5)})
    assert worker.read_settings({**plain, "owner": "owner"}) == settings
    read, write = os.pipe()
    with os.fdopen(write, "wb") as out, os.fdopen(read, "rb") as source:
        wire.write(out, {"settings": plain})
        assert wire.read(source) == ({"settings": plain}, b"")
