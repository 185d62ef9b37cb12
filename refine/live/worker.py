"""The process with the encoders: `python -m refine.live.worker`, started and fed by `hub`.

Frames come in on stdin and go out on stdout; everything that libraries print goes to stderr. It
ends when stdin does, so that it never outlives its server.
"""

import os
import sys
import threading
from typing import Any, BinaryIO

import numpy as np

from refine.live import wire
from refine.live.engine import Engine, Settings
from refine.live.stream import Options

FULL_SCALE = 32_768.0  # of 16-bit samples
SWITCH_S = 5e-4  # s; Python's own 5 ms is how long sound would wait for each step of an encoder


def main() -> int:
    """Serve until the server is gone. Returns the exit code."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the frames
    sys.setswitchinterval(SWITCH_S)
    serve(sys.stdin.buffer, out)
    return 0


def serve(source: BinaryIO, out: BinaryIO) -> None:
    """Read frames and follow them until they end."""
    lock = threading.Lock()

    def emit(stream: str, message: dict[str, Any]) -> None:
        with lock:
            wire.write(out, {"stream": stream, **message})

    emit("", {"type": "hello"})
    engine = Engine(emit)
    while (frame := wire.read(source)) is not None:
        try:
            follow(engine, *frame)
        except Exception as error:  # one bad stream must not end the others
            text = f"a fault in refine ({type(error).__name__}: {error})"
            emit(str(frame[0].get("stream", "")), {"type": "error", "text": text})
    engine.end()


def follow(engine: Engine, header: dict[str, Any], payload: bytes) -> None:
    """One order of the server."""
    stream, kind = header.get("stream", ""), header["do"]
    if kind == "push":
        samples = np.frombuffer(payload, "<i2").astype(np.float32) / FULL_SCALE
        engine.push(stream, samples, header.get("stamp", 0.0))
    elif kind in ("open", "warm"):
        settings = read_settings(header["settings"])
        engine.open(stream, settings) if kind == "open" else engine.warm(settings)
    elif kind == "order":
        engine.command(stream, header["order"])
    elif kind == "finish":
        engine.finish(stream)
    elif kind == "close":
        engine.close(stream)
    elif kind == "forget":
        engine.forget(header["owner"])


def read_settings(content: dict[str, Any]) -> Settings:
    """Settings as `hub` writes them."""
    return Settings(**{**content, "options": Options(**content.get("options", {}))})


if __name__ == "__main__":
    sys.exit(main())
