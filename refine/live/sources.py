"""Where sound comes from: a clip paced as if it were live, or a microphone of this computer.

Every source is an iterator of (samples, stamp): 16 kHz mono float32 and the clock of the last one;
or (None, words) for something that a person must know. The browser's own microphone comes in by
`route`.
"""

import asyncio
import contextlib
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refine import audio
from refine.audio import SAMPLE_RATE, Waveform
from refine.live.hub import to_pcm

CHUNK_S = 0.02
TAIL_S = 1.0  # s of silence after a clip, so that its last utterance ends
RETRY_S = 1.0
QUIET_S = 2.0  # s without a sample after which a microphone counts as unplugged

Chunk = tuple[Waveform, float] | tuple[None, str]

__all__ = ["Device", "SourceError", "clip", "devices", "file", "microphone", "paced", "to_pcm"]


class SourceError(ValueError):
    """A source that cannot be opened; the message says what to do."""


@dataclass(frozen=True)
class Device:
    """A microphone of this computer."""

    index: int
    name: str
    default: bool = False


def clip(waveform: Waveform | None, speed: float = 1.0) -> Iterator[Chunk]:
    """A recording in pieces of 20 ms, each at its time; then a second of silence."""
    if waveform is None or not len(waveform):
        raise SourceError("the clip has no samples; choose another")
    whole = np.concatenate([waveform, np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32)])
    size = round(CHUNK_S * SAMPLE_RATE)
    began = time.perf_counter()
    for start in range(0, len(whole), size):
        piece = whole[start : start + size]
        due = began + (start + len(piece)) / SAMPLE_RATE / speed
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        yield piece, 1000 * time.perf_counter()


def file(path: str | Path, speed: float = 1.0) -> Iterator[Chunk]:
    """A file, paced. Raises: `AudioError` for one that cannot be used."""
    return clip(audio.load(path), speed)


def devices() -> list[Device]:
    """Microphones of this computer. Raises: `SourceError` where PortAudio or all of them are
    missing."""
    sounddevice = _sounddevice()
    try:
        default = sounddevice.default.device[0]
        found = [
            Device(index, str(one["name"]), index == default)
            for index, one in enumerate(sounddevice.query_devices())
            if one["max_input_channels"] > 0
        ]
    except sounddevice.PortAudioError as error:
        raise SourceError(f"the sound system did not answer ({error}); plug one in") from error
    if not found:
        raise SourceError("no microphone was found; plug one in and try again")
    return found


def microphone(
    device: int | str | None = None, stopped: Callable[[], bool] = lambda: False
) -> Iterator[Chunk]:
    """A microphone of this computer until `stopped`; unplugged, it is waited for.

    Raises: `SourceError` where PortAudio or every device is missing, or there is no such device.
    """
    sounddevice = _sounddevice()
    first = True
    while not stopped():
        try:
            with _opened(sounddevice, device) as chunks:
                if not first:
                    yield None, "the microphone is back"
                first = False
                while not stopped():
                    try:
                        samples, rate = chunks.get(timeout=QUIET_S)
                    except queue.Empty:
                        break
                    yield audio.resample(samples, rate), 1000 * time.perf_counter()
                else:
                    return
        except (sounddevice.PortAudioError, ValueError) as error:
            if first:
                raise SourceError(_why(sounddevice, device, error)) from error
        yield None, "the microphone was unplugged; waiting for it"
        time.sleep(RETRY_S)
        _look_again(sounddevice)


@contextlib.contextmanager
def _opened(sounddevice: Any, device: int | str | None) -> Iterator["queue.Queue[Any]"]:
    """A stream at 16 kHz, or at the device's own rate where it does not do that."""
    chunks: queue.Queue[Any] = queue.Queue(500)
    rate = SAMPLE_RATE
    try:
        sounddevice.check_input_settings(device=device, channels=1, samplerate=rate)
    except sounddevice.PortAudioError:
        rate = int(sounddevice.query_devices(device, "input")["default_samplerate"])

    def heard(block: np.ndarray, frames: int, when: Any, status: Any) -> None:
        with contextlib.suppress(queue.Full):
            chunks.put_nowait((block[:, 0].copy(), rate))

    with sounddevice.InputStream(
        device=device,
        channels=1,
        samplerate=rate,
        dtype="float32",
        blocksize=round(CHUNK_S * rate),
        callback=heard,
    ):
        yield chunks


def _why(sounddevice: Any, device: int | str | None, error: Exception) -> str:
    try:
        names = [f"{one.index} {one.name}" for one in devices()]
    except SourceError as missing:
        return str(missing)
    listed = "; ".join(names)
    return f"device {device if device is not None else 'default'}: {error}; there are: {listed}"


def _look_again(sounddevice: Any) -> None:
    """PortAudio lists devices once, at its start."""
    with contextlib.suppress(Exception):
        sounddevice._terminate()
        sounddevice._initialize()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise SourceError(
            "the PortAudio library is not installed, so this computer's own microphones cannot be "
            "used; install it (Debian and Ubuntu: apt-get install libportaudio2)"
        ) from error
    return sounddevice


async def paced(source: Iterator[Chunk]) -> AsyncIterator[Any]:
    """The chunks of a source that waits, without holding up the others of a server."""
    end = object()
    try:
        while (chunk := await asyncio.to_thread(next, source, end)) is not end:
            yield chunk
    finally:
        if hasattr(source, "close"):
            with contextlib.suppress(ValueError):  # it is waiting for sound in another thread
                source.close()
