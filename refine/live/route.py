"""The WebSocket beside the app: sound in, answers out. One stream a session.

A browser sends one JSON text first, `{"token", "source"}`, then binary chunks: a float64 stamp (its
own clock, given back with the answers) and 16-bit mono samples at 16 kHz; and orders as JSON texts.
"""

import asyncio
import contextlib
import json
import struct
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.websockets import WebSocket, WebSocketDisconnect

from refine.audio import SAMPLE_RATE
from refine.live import sources
from refine.live.hub import Hub, HubError, Session, shared

PATH = "/live/stream"
STAMP = struct.Struct("<d")
LARGEST = 32_000  # bytes of a chunk: 1 s
FASTEST = 1.5  # times as fast as sound, in the long run
STALL_S = 20.0  # s of sound that may come at once: a server or a network that stood still
PATIENCE_S = 10.0  # s for the first word
OUTBOX = 256  # messages that may wait for a slow browser; older levels go first

REFUSED, TAKEN, TOO_MUCH, BAD = 4401, 4409, 4429, 4400


class Refused(Exception):
    """A stream that is closed, with a code and a reason for the page."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


async def live(socket: WebSocket) -> None:
    """Serve one browser."""
    if not same_origin(socket):
        await socket.close(1008, "another site may not listen here")
        return
    await socket.accept()
    hub, outbox = shared(), asyncio.Queue[dict[str, Any]](OUTBOX)
    loop = asyncio.get_running_loop()

    def listener(message: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(_put, outbox, message)

    found: Session | None = None
    tasks: list[asyncio.Task[None]] = []
    try:
        hello = await _hello(socket)
        try:
            token, was = str(hello.get("token", "")), str(hello.get("was") or "")
            found = await asyncio.to_thread(hub.claim, token, listener, was)
        except HubError as error:
            raise Refused(REFUSED, str(error)) from error
        if hello.get("fresh"):  # not a line that was lost and is back
            found.clear()
        tasks = [
            asyncio.create_task(_send(socket, outbox)),
            asyncio.create_task(_receive(socket, hub, found, listener)),
        ]
        if hello.get("source") in ("clip", "device"):
            tasks.append(asyncio.create_task(_pump(hub, found, str(hello["source"]), listener)))
        done, _ = await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except Refused as refusal:
        await _close(socket, refusal.code, refusal.reason)
    except (WebSocketDisconnect, RuntimeError, OSError):
        pass  # the browser is gone, which is how most streams end
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if found is not None:
            hub.release(found, listener)
        await _close(socket, 1000, "")


def same_origin(socket: WebSocket) -> bool:
    """Whether the page that asks was served by this very host and port."""
    origin, host = socket.headers.get("origin", ""), socket.headers.get("host", "")
    return bool(host) and urlsplit(origin).netloc.lower() == host.lower()


async def _hello(socket: WebSocket) -> dict[str, Any]:
    try:
        return _order(await asyncio.wait_for(socket.receive_text(), PATIENCE_S))
    except TimeoutError as error:
        raise Refused(BAD, "no token came") from error
    except KeyError as error:  # bytes before the token
        raise Refused(BAD, "the first message must name the token") from error


async def _receive(socket: WebSocket, hub: Hub, found: Session, listener: Any) -> None:
    got = 0  # chunks of this line
    most = STALL_S * 2 * SAMPLE_RATE
    credit, last = 2.0 * SAMPLE_RATE, time.monotonic()
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        chunk, text = message.get("bytes"), message.get("text")
        if chunk is None:
            order = _order(text or "")
            if order.get("type") == "ping":
                found.used = time.monotonic()
                listener({"type": "pong", "got": got})
                continue
            hub.order(found, order)
            continue
        size = len(chunk) - STAMP.size
        if size <= 0 or size % 2 or size > LARGEST:
            raise Refused(BAD, f"a chunk of {len(chunk)} bytes; send up to 1 s of 16-bit samples")
        now = time.monotonic()
        credit = min(credit + (now - last) * FASTEST * 2 * SAMPLE_RATE, most)
        credit, last = credit - size, now
        if credit < 0:
            raise Refused(TOO_MUCH, "sound came in faster than it can be spoken")
        if found.listener is not listener:
            return  # a newer line has the session, and what is left of this one is not its sound
        got += 1
        (stamp,) = STAMP.unpack_from(chunk)
        hub.push(found, bytes(chunk[STAMP.size :]), stamp)


async def _send(socket: WebSocket, outbox: "asyncio.Queue[dict[str, Any]]") -> None:
    while True:
        message = await outbox.get()
        if message["type"] == "taken":
            raise Refused(TAKEN, "this session listens in another window now")
        if message["type"] == "ended":
            raise Refused(1011, message["text"])
        await socket.send_text(json.dumps(message, separators=(",", ":")))


async def _pump(hub: Hub, found: Session, source: str, listener: Any) -> None:
    """Play a clip, or a microphone of this computer, as if it came from the browser."""
    try:
        if source == "clip" and found.clip is None:
            raise sources.SourceError("no clip is chosen; choose one above")
        opened = sources.clip(found.clip) if source == "clip" else sources.microphone(found.device)
        async for chunk, stamp in sources.paced(opened):
            if chunk is None:
                listener({"type": "source", "text": stamp})  # what happened, in words
                continue
            hub.push(found, sources.to_pcm(chunk), stamp)
        hub.finish(found)
        listener({"type": "played"})
    except sources.SourceError as error:
        listener({"type": "source", "text": str(error), "failed": True})


def _order(text: str) -> dict[str, Any]:
    if len(text) > 4_000:
        raise Refused(BAD, "an order that is too long")
    try:
        order = json.loads(text)
    except ValueError as error:
        raise Refused(BAD, "an order that is no JSON") from error
    if not isinstance(order, dict):
        raise Refused(BAD, "an order must be a JSON object")
    return order


def _put(outbox: "asyncio.Queue[dict[str, Any]]", message: dict[str, Any]) -> None:
    if outbox.full():  # a browser that does not keep up misses what is oldest
        with contextlib.suppress(asyncio.QueueEmpty):
            outbox.get_nowait()
    outbox.put_nowait(message)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(Exception):
        await socket.close(code, reason[:120])
