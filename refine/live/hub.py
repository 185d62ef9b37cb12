"""The server's side: who may stream, one worker for all of them, and where its answers go.

A page calls `session` on every rerun; the route (`route`) asks `claim` with the token that the page
gave to its component. Nothing here loads torch: the encoders live in the worker.
"""

import contextlib
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from refine import paths
from refine.audio import SAMPLE_RATE, Waveform
from refine.live import wire
from refine.live.outbox import Outbox
from refine.live.stream import Options
from refine.live.vad import FRAME

KEPT_S = 60  # s of sound that a session remembers, in memory, to be played back
IDLE_S = 1_800.0  # s after which a session nobody uses is forgotten
MOST_STREAMS = 32

Listener = Callable[[dict[str, Any]], None]


class HubError(ValueError):
    """A stream that cannot be served, in one sentence."""


@dataclass
class Session:
    """One browser session: what it is asked with, what was heard last."""

    token: str
    settings: dict[str, Any]
    used: float = field(default_factory=time.monotonic)
    clip: Waveform | None = None  # to be played as the source instead of a microphone
    device: int | None = None  # of the server's microphones
    listener: Listener | None = None
    lost: int = 0  # chunks
    owner: str = ""  # of the voices: the token of the first page of a browser tab
    _heard: deque[bytes] = field(default_factory=deque)
    _bytes: int = 0

    def keep(self, pcm: bytes) -> None:
        """Remember sound (16-bit) for playing it back; the oldest goes."""
        self._heard.append(pcm)
        self._bytes += len(pcm)
        while self._bytes > KEPT_S * SAMPLE_RATE * 2:
            self._bytes -= len(self._heard.popleft())

    def captured(self) -> Waveform:
        """What was heard, shape (n,)."""
        pcm = np.frombuffer(b"".join(list(self._heard)), "<i2")
        return pcm.astype(np.float32) / np.float32(32_768)

    def clear(self) -> None:
        """Forget what was heard."""
        self._heard.clear()
        self._bytes = 0


class Hub:
    """Sessions, and the worker they share."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._outbox = Outbox()
        self._up = False  # whether the worker has said its first word
        self._private: dict[str, Listener] = {}  # streams of `answer`

    def session(self, token: str | None, **settings: Any) -> Session:
        """The session of a token, with these settings; a new one where there is none."""
        with self._lock:
            self._sweep()
            found = self.sessions.get(token or "")
            if found is None:
                found = Session(token := secrets.token_urlsafe(24), settings, owner=token)
                self.sessions[token] = found
            found.used = time.monotonic()
            changed = found.settings != settings
            found.settings = settings
        if changed and found.listener is not None:
            self._open(found)
        return found

    def claim(self, token: str, listener: Listener, was: str = "") -> Session:
        """Begin to stream. An earlier stream of the session is told to end.

        Args:
            was: the token of the page before it was loaded again, whose voices stay.

        Raises: `HubError` for an unknown token, or too many streams.
        """
        with self._lock:
            found = self.sessions.get(token)
            if found is None:
                raise HubError("this page is older than the server; reload it")
            streams = sum(one.listener is not None for one in self.sessions.values())
            if found.listener is None and streams >= MOST_STREAMS:
                raise HubError(f"{streams} microphones are streaming already; wait for one to stop")
            old, found.listener = found.listener, listener
            found.used = time.monotonic()
            found.lost = 0
            if was in self.sessions:
                found.owner = self.sessions[was].owner
        if old is not None:
            old({"type": "taken"})
        listener({"type": "state", "state": "loading", "text": "starting the encoders"})
        self._open(found)
        return found

    def release(self, found: Session, listener: Listener) -> None:
        """The stream has ended, unless another one took its place."""
        with self._lock:
            if found.listener is not listener:
                return
            found.listener = None
            found.used = time.monotonic()
        self._send({"do": "close", "stream": found.token})

    def push(self, found: Session, pcm: bytes, stamp: float) -> None:
        """Sound of a session: 16-bit little-endian mono at 16 kHz."""
        found.keep(pcm)
        if self.alive() and not self._up:
            return  # nobody listens yet, and old sound is of no use later
        if not self._send({"do": "push", "stream": found.token, "stamp": stamp}, pcm):
            found.lost += 1

    def order(self, found: Session, order: dict[str, Any]) -> None:
        """Pass on what the page asks for: enrol, forget, …"""
        self._send({"do": "order", "stream": found.token, "order": order})

    def finish(self, found: Session) -> None:
        """The source has ended; what is open is answered."""
        self._send({"do": "finish", "stream": found.token})

    def warm(self, settings: dict[str, Any]) -> None:
        """Load the encoders before anybody speaks."""
        self._send({"do": "warm", "settings": _plain(settings)})

    def answer(
        self, settings: dict[str, Any], waveform: Waveform, patience_s: float = 60.0
    ) -> list[dict[str, Any]]:
        """All answers to a recording, as a stream would have given them, at once.

        Raises: `HubError` when the worker says nothing in time, or cannot load an encoder.
        """
        name = f"clip-{secrets.token_hex(8)}"
        heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._private[name] = heard.put
        messages: list[dict[str, Any]] = []
        deadline = time.monotonic() + patience_s
        try:
            self._send({"do": "open", "stream": name, "settings": _plain(settings)})
            self._wait(heard, messages, deadline, lambda m: m.get("state") == "ready")
            pcm = to_pcm(np.concatenate([waveform, np.zeros(SAMPLE_RATE, np.float32)]))
            piece = 2 * FRAME  # bytes; in one frame falls one window at most, so none is dropped
            for start in range(0, len(pcm), piece):
                header = {"do": "push", "stream": name, "stamp": start / 2 / SAMPLE_RATE}
                self._send(header, pcm[start : start + piece])
                asked = {"do": "order", "stream": name, "order": {"type": "idle"}}
                self._send(asked)  # answered when this piece has been
                self._wait(heard, messages, deadline, lambda m: m["type"] == "idle")
        finally:
            self._private.pop(name, None)
            self._send({"do": "close", "stream": name})
        return [m for m in messages if m["type"] in ("answer", "refused", "state")]

    def alive(self) -> bool:
        """Whether the worker is there."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the worker."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()

    @staticmethod
    def _wait(
        heard: "queue.Queue[dict[str, Any]]",
        messages: list[dict[str, Any]],
        deadline: float,
        done: Callable[[dict[str, Any]], bool],
    ) -> None:
        while True:
            try:
                message = heard.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise HubError("the encoders did not answer in time; try again") from None
            messages.append(message)
            if message.get("state") == "failed":
                raise HubError(message["text"])
            if done(message):
                return

    def _open(self, found: Session) -> None:
        settings = _plain(found.settings) | {"owner": found.owner}
        self._send({"do": "open", "stream": found.token, "settings": settings})

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> bool:
        """Queue a frame for the worker, starting it where it is not there. False: it was lost."""
        with self._lock:
            if not self.alive():
                if header["do"] in ("close", "push", "finish"):
                    return False
                self._start()
            outbox = self._outbox
        return outbox.put(header, payload)

    def _start(self) -> None:
        # one thread a matrix product: the encoders run side by side, and helpers of OpenMP that
        # wait for each other spin, which on a busy machine made an answer 20 times slower
        threads = os.environ.get("REFINE_LIVE_THREADS", "1")
        self._outbox, self._up = Outbox(), False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "refine.live.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=paths.ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": threads},
        )
        write, read = (self._process, self._outbox), (self._process,)
        threading.Thread(target=self._write, args=write, daemon=True).start()
        threading.Thread(target=self._read, args=read, daemon=True).start()

    def _write(self, process: "subprocess.Popen[bytes]", outbox: Outbox) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended
            while process.poll() is None:
                frame = outbox.get(timeout=1)
                if frame is not None:
                    wire.write(process.stdin, *frame)  # type: ignore[arg-type]

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while (frame := wire.read(process.stdout)) is not None:  # type: ignore[arg-type]
                self._deliver(frame[0])
        if process is not self._process:
            return
        ended = "the process with the encoders has ended; it is started again with the next stream"
        for found in list(self.sessions.values()):
            if found.listener is not None:
                found.listener({"type": "ended", "text": ended})

    def _deliver(self, message: dict[str, Any]) -> None:
        self._up = True
        name = message.pop("stream", "")
        private = self._private.get(name)
        found = self.sessions.get(name)
        if private is not None:
            private(message)
        elif found is not None and found.listener is not None:
            if found.lost:
                message["lost"] = found.lost
            found.listener(message)

    def _sweep(self) -> None:
        """Forget sessions that nobody has used for a while."""
        now = time.monotonic()
        for token, found in list(self.sessions.items()):
            if found.listener is None and now - found.used > IDLE_S:
                del self.sessions[token]
                owners = {one.owner for one in self.sessions.values()}
                if self.alive() and found.owner not in owners:
                    self._send({"do": "forget", "owner": found.owner})


def to_pcm(waveform: Waveform) -> bytes:
    """16-bit little-endian samples."""
    return (np.clip(waveform, -1, 1) * 32_767).round().astype("<i2").tobytes()


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    options = settings.get("options") or {}
    return {**settings, "options": asdict(options) if isinstance(options, Options) else options}


_hub: Hub | None = None
_making = threading.Lock()


def shared() -> Hub:
    """The one hub of this server."""
    global _hub
    with _making:
        if _hub is None:
            _hub = Hub()
        return _hub
