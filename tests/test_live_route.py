"""The WebSocket: who may stream, how much, how often; sound arrives as it was sent."""

import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from refine.live import hub, outbox, route, sources

SECOND = 16_000  # samples
HERE = {"origin": "http://testserver"}


class Quiet(hub.Hub):
    """A hub without a worker: what would have been sent to it is listed."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[dict[str, Any], bytes]] = []

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> bool:
        self.sent.append((header, payload))
        return True

    def orders(self, kind: str) -> list[tuple[dict[str, Any], bytes]]:
        return [(header, payload) for header, payload in self.sent if header["do"] == kind]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Quiet:
    one = Quiet()
    monkeypatch.setattr(hub, "_hub", one)
    return one


@pytest.fixture
def client(quiet: Quiet) -> Iterator[TestClient]:
    app = Starlette(routes=[WebSocketRoute(route.PATH, route.live)])
    with TestClient(app) as running:
        yield running


def token(quiet: Quiet) -> str:
    return quiet.session(None, before="mini").token


def chunk(samples: np.ndarray, stamp: float = 1.5) -> bytes:
    return struct.pack("<d", stamp) + samples.astype("<i2").tobytes()


def wait(done: Any, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def talking(client: TestClient, quiet: Quiet, **hello: str) -> Iterator[Any]:
    """A browser that streams, and has gone at the end."""
    with client.websocket_connect(route.PATH, headers=HERE) as socket:
        socket.send_text(json.dumps(hello))
        yield socket
        socket.close(1000)
        wait(lambda: all(one.listener is None for one in quiet.sessions.values()))
        time.sleep(0.05)  # for its last words


def closed(socket: Any) -> tuple[int, str]:
    """How the server ended the stream."""
    try:
        while True:
            socket.receive_text()
    except WebSocketDisconnect as ending:
        return ending.code, ending.reason


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://testserver:81"}, {}],
)
def test_another_site_may_not_listen(client: TestClient, quiet: Quiet, headers: dict) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as ending,
        client.websocket_connect(route.PATH, headers=headers) as socket,
    ):
        socket.receive_text()
    assert ending.value.code in (1008, 403)
    assert quiet.sent == []


@pytest.mark.parametrize(
    ("word", "code"),
    [
        (json.dumps({"token": "guessed"}), route.REFUSED),
        ("{", route.BAD),
        ("[]", route.BAD),
        ("x" * 5_000, route.BAD),
    ],
)
def test_a_stream_needs_the_token_of_its_page(client: TestClient, word: str, code: int) -> None:
    with client.websocket_connect(route.PATH, headers=HERE) as socket:
        socket.send_text(word)
        found, reason = closed(socket)
    assert found == code
    assert reason


def test_sound_arrives_as_it_was_sent(client: TestClient, quiet: Quiet) -> None:
    name, rng = token(quiet), np.random.default_rng(0)
    sent = rng.integers(-32_768, 32_767, (50, 320), dtype=np.int16)
    with talking(client, quiet, token=name, source="browser") as socket:
        assert json.loads(socket.receive_text())["state"] == "loading"
        for number, samples in enumerate(sent):
            socket.send_bytes(chunk(samples, number))
        wait(lambda: len(quiet.orders("push")) == 50)
        socket.send_text(json.dumps({"type": "enrol", "name": "Ada"}))
        socket.send_text(json.dumps({"type": "ping"}))
        wait(lambda: quiet.orders("order"))
        quiet._deliver({"stream": name, "type": "answer", "label": "ş"})
        said = [json.loads(socket.receive_text()) for _ in range(2)]
    assert {"type": "answer", "label": "ş"} in said
    assert any(one["type"] == "pong" for one in said)
    pushed = quiet.orders("push")
    assert b"".join(payload for _, payload in pushed) == sent.tobytes()
    assert [header["stamp"] for header, _ in pushed] == list(range(50))
    assert quiet.orders("order")[0][0]["order"] == {"type": "enrol", "name": "Ada"}
    assert quiet.orders("open")[0][0]["settings"]["before"] == "mini"
    wait(lambda: quiet.orders("close"))
    heard = quiet.sessions[name].captured()
    np.testing.assert_allclose(heard, sent.ravel() / 32_768, atol=1e-6)


@pytest.mark.parametrize("size", [0, 3, 40_000])
def test_a_chunk_of_the_wrong_size_ends_the_stream(
    client: TestClient, quiet: Quiet, size: int
) -> None:
    with client.websocket_connect(route.PATH, headers=HERE) as socket:
        socket.send_text(json.dumps({"token": token(quiet)}))
        socket.send_bytes(b"\0" * (8 + size))
        code, reason = closed(socket)
    assert code == route.BAD
    assert "16-bit samples" in reason


def test_faster_than_speech_is_refused(client: TestClient, quiet: Quiet) -> None:
    with client.websocket_connect(route.PATH, headers=HERE) as socket:
        socket.send_text(json.dumps({"token": token(quiet)}))
        for _ in range(20):
            socket.send_bytes(chunk(np.zeros(8_000, np.int16)))
        assert closed(socket)[0] == route.TOO_MUCH
    assert len(quiet.orders("push")) < 8


def test_what_was_said_while_the_machine_stood_still_is_taken(
    client: TestClient, quiet: Quiet, monkeypatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(route, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    second = chunk(np.zeros(SECOND, np.int16))
    with talking(client, quiet, token=token(quiet)) as socket:
        socket.send_bytes(second)
        wait(lambda: len(quiet.orders("push")) == 1)
        clock[0] = 12.0  # s in which nobody read, and all of it at once
        for _ in range(12):
            socket.send_bytes(second)
        wait(lambda: len(quiet.orders("push")) >= 13)
    pushed = quiet.orders("push")
    assert len(pushed) == 13  # not one was refused as faster than speech
    assert sum(len(payload) for _, payload in pushed) == 13 * 2 * SECOND


def test_a_session_has_one_stream_and_the_newest_wins(client: TestClient, quiet: Quiet) -> None:
    word = json.dumps({"token": token(quiet)})
    with client.websocket_connect(route.PATH, headers=HERE) as first:
        first.send_text(word)
        first.receive_text()
        with talking(client, quiet, **json.loads(word)) as second:
            second.receive_text()
            code, reason = closed(first)
            assert code == route.TAKEN
            assert "another window" in reason
            second.send_bytes(chunk(np.zeros(320, np.int16)))
            wait(lambda: quiet.orders("push"))
            assert quiet.orders("close") == []  # the first one's end ends nothing


def test_too_many_streams_are_a_sentence(quiet: Quiet, monkeypatch) -> None:
    monkeypatch.setattr(hub, "MOST_STREAMS", 2)
    for _ in range(2):
        quiet.claim(token(quiet), lambda message: None)
    with pytest.raises(hub.HubError, match="2 microphones are streaming already"):
        quiet.claim(token(quiet), lambda message: None)


def test_a_worker_that_ends_is_told(client: TestClient, quiet: Quiet) -> None:
    name = token(quiet)
    with client.websocket_connect(route.PATH, headers=HERE) as socket:
        socket.send_text(json.dumps({"token": name}))
        socket.receive_text()
        quiet.sessions[name].listener({"type": "ended", "text": "it has ended"})  # type: ignore[misc]
        assert closed(socket) == (1011, "it has ended")


def test_a_clip_is_paced_by_the_server(client: TestClient, quiet: Quiet) -> None:
    name = token(quiet)
    quiet.sessions[name].clip = np.linspace(-0.5, 0.5, 4_800, dtype=np.float32)
    began = time.monotonic()
    with talking(client, quiet, token=name, source="clip") as socket:
        said = []
        while not said or said[-1]["type"] != "played":
            said.append(json.loads(socket.receive_text()))
    assert time.monotonic() - began > 1.2  # 0.3 s of it and a second of silence
    pcm = b"".join(payload for _, payload in quiet.orders("push"))
    heard = np.frombuffer(pcm, "<i2")[:4_800] / 32_768
    np.testing.assert_allclose(heard, quiet.sessions[name].clip, atol=1e-4)
    assert quiet.orders("finish")


@pytest.mark.parametrize("source", ["clip", "device"])
def test_a_source_that_is_not_there_is_a_sentence(
    client: TestClient, quiet: Quiet, source: str, monkeypatch
) -> None:
    def missing(device: Any = None) -> Iterator[Any]:
        raise sources.SourceError("no microphone was found; plug one in")
        yield

    monkeypatch.setattr(sources, "microphone", missing)
    with talking(client, quiet, token=token(quiet), source=source) as socket:
        socket.receive_text()
        said = json.loads(socket.receive_text())
    assert said["type"] == "source"
    assert said["failed"]


def test_sessions_are_forgotten_after_a_while(quiet: Quiet, monkeypatch) -> None:
    name = token(quiet)
    quiet.sessions[name].used -= hub.IDLE_S + 1
    other = token(quiet)
    assert set(quiet.sessions) == {other}
    assert quiet.session(name, before="mini").token != name


def test_a_session_keeps_a_minute(quiet: Quiet) -> None:
    found = quiet.sessions[token(quiet)]
    for second in range(70):
        found.keep(np.full(16_000, second, "<i2").tobytes())
    heard = found.captured()
    assert len(heard) == hub.KEPT_S * 16_000
    assert heard[0] == pytest.approx(10 / 32_768)
    found.clear()
    assert found.captured().size == 0


def test_a_worker_that_is_behind_loses_no_sound(monkeypatch) -> None:
    busy = hub.Hub()
    monkeypatch.setattr(busy, "alive", lambda: True)
    found = busy.session(None, before="mini")
    busy.push(found, b"\0\0", 0.0)  # the worker is just starting: nobody listens, nothing is lost
    assert (busy._outbox.get(0), found.lost) == (None, 0)
    busy._deliver({"type": "hello", "stream": ""})
    second = b"\1\0" * 16_000
    for at in range(outbox.MOST_S):
        busy.push(found, second, float(at))
    assert found.lost == 0
    for _ in range(3):  # a minute behind: it has stopped
        busy.push(found, second, 0.0)
    assert found.lost == 3
    frame = busy._outbox.get(0)
    assert frame is not None
    header, sound = frame
    assert header["stamp"] == outbox.MOST_S - 1  # of the newest sample
    assert sound == second * outbox.MOST_S
    busy.push(found, second, 7.0)  # it goes on
    assert busy._outbox.get(0) == ({"do": "push", "stream": found.token, "stamp": 7.0}, second)


def test_orders_keep_their_place_between_sounds_of_their_stream() -> None:
    box = outbox.Outbox()

    def push(stream: str, sound: bytes) -> None:
        assert box.put({"do": "push", "stream": stream, "stamp": len(sound)}, sound)

    push("a", b"11")
    push("b", b"22")
    push("a", b"33")
    assert box.put({"do": "finish", "stream": "a"})
    push("a", b"44")
    push("b", b"5555")
    told = []
    while (frame := box.get(0)) is not None:
        told.append((frame[0]["do"], frame[0]["stream"], frame[1], frame[0].get("stamp")))
    assert told == [
        ("push", "a", b"1133", 2),
        ("push", "b", b"225555", 4),
        ("finish", "a", b"", None),
        ("push", "a", b"44", 2),
    ]
    for _ in range(outbox.MOST_ORDERS):
        assert box.put({"do": "order", "stream": "a"})
    assert not box.put({"do": "order", "stream": "a"})
