"""A process that keeps encoders loaded, so that a page hears a vector within a click.

    vectors = embed(["mini", "mini-interventional"], waveform, wait_s=1.0)

Loading torch takes seconds and a page never does it. The process starts with the first question,
ends with the one that started it or after ten quiet minutes, and writes every vector into the
cache, where the next question finds it without any process.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refine import faults, paths
from refine.audio import Waveform
from refine.encoders import peek

IDLE_S = 600.0  # s without a question after which the process ends
KEPT = 4  # encoders loaded at a time
LOG_BYTES = 1_000_000
MOST_FILES = 3_000  # sounds and vectors kept in the cache, the newest


class ListeningError(ValueError):
    """A sound that got no vector. The message says why."""


def embed(
    encoders: Sequence[str], waveform: Waveform, wait_s: float = 0.0
) -> list[np.ndarray] | None:
    """The own vector of each encoder for one waveform, or None while they are being made.

    Every call asks for what is missing, once; calling again later finds it. Waits at most `wait_s`.
    Raises: `ListeningError` with the sentence why there is none (asked again, it tries again);
    `EncoderError` for a name that is no encoder here.
    """
    places = [place(name, waveform) for name in encoders]
    deadline = time.monotonic() + wait_s
    service = _service()
    for name, path in zip(encoders, places, strict=True):
        if not path.exists():
            service.ask(name, path, waveform)
    found: list[np.ndarray] = []
    for path in places:
        if not service.wait(path, deadline):
            return None
        found.append(np.load(path, allow_pickle=False))
    return found


def warm(encoders: Sequence[str]) -> None:
    """Begin to load encoders, so that the first question finds them ready."""
    for name in encoders:
        _service().load(name)


def state() -> str:
    """What the process does: "off", "starting", "loading NAME" or "ready"."""
    return _service().state


def place(encoder: str, waveform: Waveform) -> Path:
    """Where the vector of a waveform is kept. Raises `EncoderError`."""
    sound = hashlib.sha256(np.ascontiguousarray(waveform, dtype=np.float32).tobytes()).hexdigest()
    return paths.cache() / "utterances" / f"{peek(encoder).fingerprint[:16]}-{sound[:24]}.npy"


class Service:
    """The process and what it was asked. Safe to use from any thread."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.state = "off"
        self.changed = threading.Condition()
        self.pending: set[str] = set()
        self.failed: dict[str, str] = {}
        self.loaded: set[str] = set()

    def ask(self, encoder: str, path: Path, waveform: Waveform) -> None:
        """Ask for a vector, unless it was asked for and not answered yet."""
        with self.changed:
            if str(path) in self.pending or path.exists():
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            sound = path.with_name(f"{path.stem.partition('-')[2]}.f32.npy")
            if not sound.exists():
                part = sound.with_name(f".{sound.name}.{os.getpid()}.npy")
                np.save(part, np.asarray(waveform, dtype=np.float32))
                os.replace(part, sound)
            self.pending.add(str(path))
            self._send({"encoder": encoder, "sound": str(sound), "out": str(path)})

    def load(self, encoder: str) -> None:
        """Load an encoder ahead of the first question."""
        with self.changed:
            if self._alive() and encoder in self.loaded:
                return
            self.loaded.add(encoder)
            self._send({"encoder": encoder})

    def wait(self, path: Path, deadline: float) -> bool:
        """Whether a vector is there by then. Raises `ListeningError` where it never will be."""
        with self.changed:
            while not path.exists():
                if reason := self.failed.pop(str(path), None):
                    raise ListeningError(reason)
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.changed.wait(left)
        return True

    def close(self) -> None:
        """End the process."""
        with self.changed:
            process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def _alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _send(self, request: dict[str, Any]) -> None:
        if not self._alive():
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the reader tells those who wait
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def _start(self) -> None:
        log = paths.cache() / "listening.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.unlink()
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from refine.listening import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                encoding="utf-8",
                cwd=paths.ROOT,
            )
        self.state, self.loaded = "starting", set()
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            with self.changed:
                self.state = answer.get("state", self.state)
                if "out" in answer:
                    self.pending.discard(answer["out"])
                    if "error" in answer:
                        self.failed[answer["out"]] = answer["error"]
                self.changed.notify_all()
        process.wait()
        with self.changed:
            if self.process is not process and self.process is not None:
                return
            gone = "the process that keeps the encoders loaded has ended; try again"
            self.failed |= dict.fromkeys(self.pending, gone)
            self.pending.clear()
            self.state = "off"
            self.changed.notify_all()


_services: dict[int, Service] = {}


def _service() -> Service:
    return _services.setdefault(os.getpid(), Service())


# -- in the process ------------------------------------------------------------------------------


def serve() -> None:
    """Answer questions, a line of JSON each, until stdin closes or nobody asks for `IDLE_S`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    asked = [time.monotonic()]
    threading.Thread(target=_end_when_idle, args=(asked,), daemon=True).start()
    _prune(paths.cache() / "utterances")
    from refine.encoders import load

    loaded: dict[str, Any] = {}  # fingerprint -> encoder, the one used last at the end
    _tell({"state": "ready"})
    for line in sys.stdin:
        asked[0] = time.monotonic()
        request = json.loads(line)
        answer: dict[str, Any] = {"state": "ready"}
        if "out" in request:
            answer["out"] = request["out"]
        try:
            key = peek(request["encoder"]).fingerprint
            if key not in loaded:
                _tell({"state": f"loading {request['encoder']}"})
            encoder = loaded.pop(key, None) or load(request["encoder"]).eval()
            loaded[key] = encoder
            while len(loaded) > KEPT:
                loaded.pop(next(iter(loaded)))
            if "out" in request:
                sound = np.load(request["sound"], allow_pickle=False)
                _save(Path(request["out"]), vector_of(encoder, sound))
        except Exception as error:
            text = faults.sentence(error, paths.cache())
            if text is None:
                print(repr(error), file=sys.stderr, flush=True)
                text = f"{type(error).__name__} in the encoder; see listening.log in the cache"
            answer["error"] = text
        _tell(answer)
        asked[0] = time.monotonic()


def vector_of(encoder: Any, waveform: Waveform) -> np.ndarray:
    """The own vector of a loaded encoder, float32 of shape (d,).

    Raises: `ListeningError` for less than one frame.
    """
    import torch

    from refine.encoders.collate import pad

    if len(waveform) < encoder.min_samples:
        raise ListeningError(
            f"{len(waveform)} samples are shorter than one frame of {encoder.name} "
            f"({encoder.min_samples}); take a longer sound"
        )
    with torch.inference_mode():
        return encoder.embed(*pad([waveform]))[0].float().cpu().numpy()


def _save(path: Path, vector: np.ndarray) -> None:
    part = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(part, vector)
    os.replace(part, path)


def _prune(folder: Path) -> None:
    """Remove the oldest files beyond `MOST_FILES`."""
    if folder.is_dir():
        files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[MOST_FILES:]:
            path.unlink(missing_ok=True)


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _end_when_idle(asked: list[float]) -> None:
    while time.monotonic() - asked[0] < IDLE_S:
        time.sleep(min(IDLE_S, 5.0))
    os._exit(0)
