"""Spoken text in chosen voices, by espeak-ng: neutral copies and intervention grids.

    waveform = speak("the kettle is warm", Voice("en", "f3", pitch_range=0))

The library keeps its state between utterances and crashes in threads, so a small process of its
own (`refine._espeak`) holds it and forks for each utterance: the same text and voice are the same
samples, whatever was spoken before. Windows has no fork; there each utterance starts a process.
"""

import contextlib
import functools
import json
import math
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refine import _espeak
from refine.audio import SAMPLE_RATE, SILENCE_PEAK, Waveform

MAX_CHARACTERS = 10_000  # about 10 minutes of speech
FADE = 0.05  # of the band: the resampler fades out from 7.6 to 8 kHz, so that it does not ring

RANGES = {
    "rate": (80, 450, "words per minute"),
    "pitch": (0, 99, "50 is the voice's own"),
    "pitch_range": (0, 99, "0 is monotone"),
}


class SynthesisError(ValueError):
    """A text that cannot be spoken. The message says why and what to do."""


@dataclass(frozen=True)
class Voice:
    """Who speaks, and how. Unknown names are refused: espeak-ng would speak as its default."""

    language: str = "en"
    """Language code, one of `voices()`; with its accent as in `en-us`."""
    variant: str | None = None
    """Vocal tract and timbre, one of `variants()`; none is the language's own."""
    rate: int = 175
    """Words per minute, 80 to 450."""
    pitch: int = 50
    """Base pitch, 0 to 99; 50 is the voice's own."""
    pitch_range: int = 50
    """Liveliness of the melody, 0 (monotone, a neutral copy) to 99."""

    def __post_init__(self) -> None:
        for field, (low, high, meaning) in RANGES.items():
            value = getattr(self, field)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(
                    f"{field}: {value!r}; expected a whole number from {low} to {high} ({meaning})"
                )
        if not available():
            return  # the names cannot be checked; `speak` says what to install
        _check_name("language", self.language, voices(), "voices()")
        if self.variant is not None:
            _check_name("variant", self.variant, variants(), "variants()")

    @property
    def label(self) -> str:
        """Language and variant as espeak-ng writes them: `en`, `en+f3`."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


def available() -> bool:
    """Whether the extra `synthesis` is installed."""
    try:
        _folder()
    except SynthesisError:
        return False
    return True


@functools.cache
def voices() -> list[str]:
    """Language codes that can be spoken, sorted. Those without a dictionary are left out."""
    data = _folder() / "espeak-ng-data"
    codes = []
    for path in data.glob("lang/**/*"):
        if path.is_file():
            words = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
            named = [line[1] for line in words if line[0] == "dictionary"]
            own = [line[1].split("-")[0] for line in words if line[0] == "language"]
            if (data / f"{(named or own)[0]}_dict").exists():
                codes.append(path.name.lower())
    return sorted(codes)


@functools.cache
def variants() -> list[str]:
    """Names of the voice variants (`f1`, `m3`, `whisper` …), sorted."""
    return sorted(path.name for path in (_folder() / "espeak-ng-data/voices/!v").iterdir())


def speak(text: str, voice: Voice | None = None) -> Waveform:
    """Speak a text. The same text and voice give the same samples, bit for bit.

    `voice`: None is `Voice()`. Safe to call from any thread; one utterance is spoken at a time.
    Returns: 16 kHz mono, shape (n,), in [-1, 1].
    Raises: `SynthesisError` for an empty or unspeakable text, or without the extra `synthesis`.
    """
    _check_text(text)
    # one for each process: a forked data loader must not share its parent's pipes
    worker = _workers.setdefault(os.getpid(), _Worker())
    return worker.speak(text, voice or Voice())


def speak_many(
    items: Sequence[tuple[str, Voice]], workers: int | None = None
) -> Iterator[Waveform]:
    """Speak many texts in parallel, in order, each exactly as `speak` would.

    `workers`: processes; None is one a core. Every text is looked at before the first is spoken.
    Raises: `SynthesisError` as `speak` does.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers: {workers}; expected at least 1")
    for text, _ in items:
        _check_text(text)
    return _speak_in_order(items, min(workers or os.cpu_count() or 1, max(1, len(items))))


def _speak_in_order(items: Sequence[tuple[str, Voice]], workers: int) -> Iterator[Waveform]:
    crew = [_Worker() for _ in range(workers)]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in crew:
        idle.put(worker)

    def speak_one(text: str, voice: Voice) -> Waveform:
        worker = idle.get()
        try:
            return worker.speak(text, voice)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(workers)
    ahead: deque[Future[Waveform]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(speak_one, *item))
            if len(ahead) > 4 * workers:  # bounds the memory when the reader is slow
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for worker in crew:
            worker.close()


class _Worker:
    """A process of `refine._espeak`, started when needed and again when it has died."""

    def __init__(self, fork: bool = hasattr(os, "fork")) -> None:
        self.mode = "fork" if fork else "once"
        self.process: subprocess.Popen[bytes] | None = None
        self.rate = 0
        self.lock = threading.Lock()

    def speak(self, text: str, voice: Voice) -> Waveform:
        request = {
            "text": text,
            "name": voice.label,
            "rate": voice.rate,
            "pitch": voice.pitch,
            "pitch_range": voice.pitch_range,
        }
        with self.lock:
            try:
                data = self._ask(request)
            except BaseException:
                # a worker left in the middle of an answer would give it to the next text
                self.close()
                raise
            if self.mode == "once":
                self.close()
            rate = self.rate
        samples = np.frombuffer(data, "<i2")
        if samples.size == 0 or np.abs(samples, dtype=np.float32).max() / 2**15 < SILENCE_PEAK:
            raise SynthesisError(f"{_quote(text)} has nothing to speak; write words or numbers")
        return _resample(samples, rate)

    def _ask(self, request: dict[str, Any]) -> bytes:
        if self.process is None or self.process.poll() is not None:
            self._start()
        assert self.process is not None
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        header = b""
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            header = stdout.readline()
        except BrokenPipeError:
            pass
        ended = {"error": "its process was ended"}
        answer: dict[str, Any] = json.loads(header) if header else ended
        if "error" not in answer:
            data = stdout.read(answer["bytes"])
            if len(data) == answer["bytes"]:
                return data
            answer = ended
        raise SynthesisError(
            f"{_quote(request['text'])} was not spoken in {request['name']}: {answer['error']}; "
            "try again, or change the text or the voice"
        )

    def _start(self) -> None:
        self.close()
        folder = _folder()
        import espeakng_loader

        library = espeakng_loader.get_library_path()
        # -I -S: the standard library alone, so that it starts in 0.1 s and forks fast
        command = [sys.executable, "-I", "-S", _espeak.__file__, library, folder, self.mode]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        header = self.process.stdout.readline()
        failed = {"error": "its process did not start"}
        answer: dict[str, Any] = json.loads(header) if header else failed
        if "error" in answer:
            raise SynthesisError(
                f"espeak-ng did not start: {answer['error']}; "
                "install it again with: pip install --force-reinstall 'refine[synthesis]'"
            )
        self.rate = answer["rate"]

    def close(self) -> None:
        if self.process is not None:
            _end(self.process)
            self.process = None


_workers: dict[int, _Worker] = {}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _resample(samples: NDArray[np.int16], rate: int) -> Waveform:
    """To 16 kHz by cutting the spectrum off; shape (n,) in, (ceil(n · 16 000 / rate),) out.

    NumPy's transform, since torch's convolution depends on threads and processor, and SciPy takes
    two seconds to import.
    """
    common = math.gcd(SAMPLE_RATE, rate)
    up, down = SAMPLE_RATE // common, rate // common  # 320, 441
    length = -(-samples.size * up // down)
    blocks = -(-samples.size // down) + 2  # two of silence: the transform wraps end to start
    step = 1 << max(0, blocks.bit_length() - 4)
    blocks = -(-blocks // step) * step  # no prime factor above 13, which would be slow
    spectrum = np.fft.rfft(samples / 2**15, blocks * down)[: blocks * up // 2 + 1]
    fading = int(FADE * spectrum.size)
    spectrum[-fading:] *= np.cos(np.linspace(0, np.pi / 2, fading)) ** 2
    waveform = np.fft.irfft(spectrum, blocks * up)[:length] * (up / down)
    return np.clip(waveform, -1, 1).astype(np.float32)


def _folder() -> Path:
    """Where the wheel keeps the library and its data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise SynthesisError(
            "speaking a text needs espeak-ng; install it with: pip install 'refine[synthesis]'"
        ) from error
    return Path(espeakng_loader.__file__).parent


def _check_name(field: str, value: str, known: list[str], listing: str) -> None:
    if value not in known:
        near = get_close_matches(str(value), known, n=3, cutoff=0.3)
        hint = f", such as {', '.join(near)}" if near else ""
        raise ValueError(f"{field}: {value!r}; expected one of the {len(known)} of {listing}{hint}")


def _check_text(text: str) -> None:
    if not text.strip():
        raise SynthesisError("the text is empty; write something to speak")
    if len(text) > MAX_CHARACTERS:
        raise SynthesisError(
            f"a text of {len(text)} characters; the longest is {MAX_CHARACTERS}, speak it in parts"
        )
    if not text.isprintable() and any(not c.isprintable() and not c.isspace() for c in text):
        raise SynthesisError(f"{_quote(text)} contains control characters; remove them")


def _quote(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
