"""The espeak-ng worker: reads a line of JSON, answers with a line of JSON and 16-bit samples.

`refine.synthesis` starts it as a script of its own. It imports the standard library only: the
smaller the process, the cheaper the fork it makes for each utterance (0.6 ms against 4 ms with
SciPy loaded).
"""

import ctypes
import gc
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

SYNCHRONOUS = 2  # the library's other modes start a thread, which a fork would lose
DONT_EXIT = 0x8000  # report a failed start instead of ending the process
UTF8 = 1
RATE, PITCH, PITCH_RANGE = 1, 3, 4  # espeak_PARAMETER
SEED = 1  # breath and whisper noise is seeded by the clock unless told otherwise

TIME_LIMIT = 60  # s for one utterance; 10 minutes of speech take about one
MAX_SECONDS = 10 * 60  # of speech; the longest clip `refine.audio` takes
PREFIX = struct.Struct("<?q")  # at the start of the shared memory: well spoken?, bytes that follow

SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class SpeechError(RuntimeError):
    """Why an utterance was not spoken, as half a sentence."""


class Engine:
    """The library, initialised but never spoken with: its state after a first call differs."""

    def __init__(self, library: str, folder: str) -> None:
        self.espeak = ctypes.CDLL(library)
        # relative, since the library cuts a path off at 160 bytes
        os.chdir(folder)
        self.rate: int = self.espeak.espeak_Initialize(SYNCHRONOUS, 0, b".", DONT_EXIT)
        if self.rate <= 0:
            raise SpeechError("the library did not accept its data folder")
        # reads its 240 voice files here, or each fork would: a third of the time
        self.espeak.espeak_ListVoices(None)

    def speak(
        self, request: dict[str, Any], write: Callable[[bytes], object], limit: int = MAX_SECONDS
    ) -> None:
        """Speak one utterance, handing on 16-bit mono samples at `self.rate` as they come."""
        espeak, left = self.espeak, 2 * self.rate * limit  # bytes

        def receive(samples: Any, count: int, _events: Any) -> int:
            nonlocal left
            left -= 2 * max(0, count)
            if count > 0 and left >= 0:
                write(ctypes.string_at(samples, 2 * count))
            return int(left < 0)  # 1 stops the library

        callback = SynthCallback(receive)
        espeak.espeak_SetSynthCallback(callback)
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(SEED))
        if espeak.espeak_SetVoiceByName(request["name"].encode()):
            raise SpeechError(f"espeak-ng has no voice {request['name']!r}")
        for parameter, field in ((RATE, "rate"), (PITCH, "pitch"), (PITCH_RANGE, "pitch_range")):
            espeak.espeak_SetParameter(parameter, request[field], 0)
        text = request["text"].encode() + b"\0"
        if espeak.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, UTF8, None, None):
            raise SpeechError("espeak-ng refused the text")
        if left < 0:
            raise SpeechError(f"it is longer than {limit / 60:.0f} minutes")


def speak_in_fork(engine: Engine, request: dict[str, Any], shared: mmap.mmap) -> bytes:
    """Speak in a copy of this process, so that each utterance finds the library untouched."""
    shared[: PREFIX.size] = PREFIX.pack(False, 0)
    shared.seek(PREFIX.size)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(TIME_LIMIT)
            speak_into(engine, request, shared)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGALRM:
            raise SpeechError(f"espeak-ng took longer than {TIME_LIMIT} s")
        raise SpeechError(f"espeak-ng crashed ({signal.Signals(number).name})")
    good, size = PREFIX.unpack(shared[: PREFIX.size])
    data = shared[PREFIX.size : PREFIX.size + size]
    if not good:
        raise SpeechError(data.decode() or "espeak-ng ended without an answer")
    return data


def speak_into(engine: Engine, request: dict[str, Any], shared: mmap.mmap) -> None:
    """Leave the samples, or why there are none, behind the prefix of the shared memory."""
    try:
        engine.speak(request, shared.write)
        good = True
    except Exception as error:
        shared.seek(PREFIX.size)
        shared.write(str(error).encode())
        good = False
    shared[: PREFIX.size] = PREFIX.pack(good, shared.tell() - PREFIX.size)


def speak_once(engine: Engine, request: dict[str, Any]) -> bytes:
    """Speak in this process, which must then end."""
    data = bytearray()
    engine.speak(request, data.extend)
    return bytes(data)


def answer(stream: BinaryIO, header: dict[str, Any], data: bytes = b"") -> None:
    stream.write(json.dumps(header).encode() + b"\n" + data)
    stream.flush()


def main(library: str, folder: str, mode: str) -> None:
    """Serve until stdin closes, which it does when the parent ends (`fork`), or once (`once`)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        engine = Engine(library, folder)
    except (OSError, SpeechError) as error:
        answer(answers, {"error": str(error)})
        return
    answer(answers, {"rate": engine.rate})
    shared = mmap.mmap(-1, PREFIX.size + 2 * engine.rate * MAX_SECONDS)
    gc.freeze()  # a collection in a fork would touch, hence copy, every page
    for line in requests:
        request = json.loads(line)
        try:
            if mode == "once":
                data = speak_once(engine, request)
            else:
                data = speak_in_fork(engine, request, shared)
        except SpeechError as error:
            answer(answers, {"error": str(error)})
        else:
            answer(answers, {"bytes": len(data)}, data)
        if mode == "once":
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
