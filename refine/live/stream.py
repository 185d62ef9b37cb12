"""From samples to windows that are worth asking about: ring buffer → voice activity → windows.

    stream = Stream()
    for event in stream.push(samples, arrived=time.perf_counter()):
        ...  # Level, Window or Refusal

No transport, no thread, no model but the voice activity. Time is counted in samples since the
stream began; `arrived` is any clock of the caller's and comes back with what it became.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refine.audio import CLIPPED_SHARE, SAMPLE_RATE, SILENCE_PEAK, Waveform
from refine.live.vad import FRAME, Vad

KEPT_S = 30.0  # s of sound that a stream remembers
PIECE = 8 * SAMPLE_RATE  # samples that are looked at in one go
LONGEST_S = 3.0  # s of an utterance that is asked about as a whole, from its end
FULL_SCALE = 0.999
LEVEL_FRAMES = 2  # a level every 64 ms


class StreamError(ValueError):
    """Options or samples that a stream cannot take, in one sentence."""


@dataclass(frozen=True)
class Options:
    """How a stream is cut into windows."""

    window_s: float = 1.5
    """Longest piece of sound that is asked about while somebody speaks (seconds)."""
    hop_s: float = 0.25
    """Time from one window to the next (seconds)."""
    min_speech_s: float = 0.5
    """Speech that a window must hold to get an answer (seconds), its soft edges included."""
    edge_s: float = 0.1
    """Counted as speech on each side of what voice activity marks: it marks the voiced core of a
    word and misses its first and last consonant (seconds)."""
    pause_s: float = 0.3
    """Silence that ends an utterance (seconds)."""
    margin_s: float = 0.2
    """Sound kept around the speech of a window (seconds)."""
    on: float = 0.5
    """Probability of voice from which a frame is speech."""
    off: float = 0.35
    """Probability of voice below which speech has stopped."""

    def __post_init__(self) -> None:
        spans = {"window_s": (0.5, 10.0), "hop_s": (0.05, 5.0), "min_speech_s": (0.0, 5.0)}
        spans |= {"pause_s": (0.1, 3.0), "margin_s": (0.0, 1.0), "on": (0.0, 1.0)}
        spans["edge_s"] = (0.0, 0.2)
        for name, (low, high) in (spans | {"off": (0.0, self.on)}).items():
            if not low <= getattr(self, name) <= high:
                raise StreamError(f"{name}: got {getattr(self, name)}; expected {low} to {high}")
        if self.min_speech_s > self.window_s:
            raise StreamError(
                f"min_speech_s: got {self.min_speech_s}; a window holds {self.window_s} s"
            )


class Level(NamedTuple):
    """What a meter shows."""

    peak: float  # of the last frames, 0 to 1
    rms: float  # of the last frames, 0 to 1
    speech: bool  # whether somebody speaks
    heard_s: float  # speech of the present utterance, or of the last one
    at: int  # samples since the start


class Window(NamedTuple):
    """A piece of sound that is worth an answer."""

    samples: Waveform
    start: int  # of the piece, in samples since the start
    end: int
    speech_s: float
    final: bool  # the whole utterance, after it ended
    utterance: int  # counted from 1
    whole: bool  # the utterance as it will be when it has ended, if nothing more is said
    arrived: float  # when its last sample came in, on the caller's clock


class Refusal(NamedTuple):
    """Why there is no answer now: half a sentence."""

    reason: str
    kind: str  # "silence", "short" or "clipped"
    at: int
    final: bool = False


Event = Level | Window | Refusal


class Ring:
    """The last samples, however many came."""

    def __init__(self, seconds: float = KEPT_S) -> None:
        self._data = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
        self.total = 0

    def add(self, samples: Waveform) -> None:
        """Append; the oldest are overwritten."""
        size = len(self._data)
        kept = samples[-size:]
        start = (self.total + len(samples) - len(kept)) % size
        first = min(len(kept), size - start)
        self._data[start : start + first] = kept[:first]
        self._data[: len(kept) - first] = kept[first:]
        self.total += len(samples)

    def cut(self, start: int, end: int) -> Waveform:
        """A copy of samples `start` to `end`, as far as they are still there."""
        size = len(self._data)
        start, end = max(start, self.total - size, 0), min(end, self.total)
        if end <= start:
            return np.zeros(0, np.float32)
        return self._data[np.arange(start, end) % size]


class Stream:
    """One microphone."""

    def __init__(self, options: Options | None = None, vad: Vad | None = None) -> None:
        self.options = options or Options()
        self.ring = Ring()
        self.speaking = False
        self.utterance = 0
        self._vad = vad or Vad()
        self._rest = np.zeros(0, np.float32)
        self._frames = 0  # that voice activity has seen
        self._speech: deque[int] = deque()  # frames that are speech, as far as the ring reaches
        self._onset = self._last = 0  # samples: where the utterance began, where speech was last
        self._utterance_frames = 0
        self._told = False  # whether the pause that goes on has been asked about
        self._next = self._samples(self.options.hop_s)

    def push(self, samples: Waveform, arrived: float = 0.0) -> list[Event]:
        """Take the next samples: 16 kHz mono, float, any number. Returns what came of them.

        Raises: `StreamError` for samples that are not finite or not one channel.
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise StreamError(
                f"samples: got shape {samples.shape} or values that are not finite; "
                "send one channel of numbers"
            )
        if len(samples) > PIECE:  # windows are cut from the ring, before it has turned round
            pieces = [samples[at : at + PIECE] for at in range(0, len(samples), PIECE)]
            return [event for piece in pieces for event in self.push(piece, arrived)]
        events: list[Event] = []
        self.ring.add(samples)
        self._rest = np.concatenate([self._rest, samples])
        whole = len(self._rest) // FRAME * FRAME
        if whole:
            frames, self._rest = self._rest[:whole].reshape(-1, FRAME), self._rest[whole:]
            for chance in self._vad.many(frames):
                events += self._frame(float(chance), arrived)
        return events

    def finish(self, arrived: float = 0.0) -> list[Event]:
        """The sound has ended: close an utterance that is still open."""
        return self._close(arrived) if self.utterance and self._open else []

    @property
    def _open(self) -> bool:
        return self._utterance_frames > 0

    def _frame(self, chance: float, arrived: float) -> list[Event]:
        options, start = self.options, self._frames * FRAME
        self._frames += 1
        end = self._frames * FRAME
        self.speaking = chance >= (options.off if self.speaking else options.on)
        if self.speaking:
            if not self._open:
                self.utterance += 1
                self._onset = start
            self._speech.append(self._frames - 1)
            self._utterance_frames += 1
            self._last, self._told = end, False
        while self._speech and self._speech[0] < self._frames - KEPT_S * SAMPLE_RATE / FRAME:
            self._speech.popleft()
        events: list[Event] = []
        if self._frames % LEVEL_FRAMES == 0:
            events.append(self._level(end))
        # to the nearest frame: rounded up, an answer would wait for up to a frame more than asked
        if self._open and end - self._last >= self._samples(options.pause_s) - FRAME // 2:
            events += self._close(arrived)
        elif self._open and end - self._last >= self._samples(options.margin_s):
            # all of its last word is in: asked now, its answer is there when the pause is over
            if not self._told and isinstance(whole := self._whole(False, arrived), Window):
                events.append(whole)
            self._told = True
        elif end >= self._next:
            events.append(self._hop(end, arrived))
        if end >= self._next:
            self._next += self._samples(options.hop_s) * (
                1 + (end - self._next) // self._samples(options.hop_s)
            )
        return events

    def _level(self, end: int) -> Level:
        piece = self.ring.cut(end - LEVEL_FRAMES * FRAME, end)
        peak, rms = float(np.abs(piece).max()), float(np.sqrt(np.mean(piece**2)))
        return Level(min(peak, 1.0), min(rms, 1.0), self.speaking, self.heard_s, end)

    @property
    def heard_s(self) -> float:
        """Speech of the utterance that is open, in seconds."""
        voiced = self._utterance_frames * FRAME / SAMPLE_RATE
        return voiced + 2 * self.options.edge_s if voiced else 0.0

    def _hop(self, end: int, arrived: float) -> Event:
        if not self._open:
            return self._silence(end)
        margin = self._samples(self.options.margin_s)
        start = max(end - self._samples(self.options.window_s), self._onset - margin)
        return self._window(start, end, False, arrived)

    def _silence(self, end: int) -> Refusal:
        heard = self.ring.cut(end - SAMPLE_RATE, end)
        if not len(heard) or np.abs(heard).max() < SILENCE_PEAK:
            return Refusal("nothing is coming in (below -60 dBFS)", "silence", end)
        return Refusal("nobody speaks", "silence", end)

    def _close(self, arrived: float) -> list[Event]:
        """The utterance has ended: ask about all of it, or its last seconds."""
        event = self._whole(True, arrived)
        self._utterance_frames = 0
        return [event]

    def _whole(self, final: bool, arrived: float) -> Event:
        margin = self._samples(self.options.margin_s)
        end = min(self._last + margin, self._frames * FRAME)
        start = max(self._onset - margin, end - self._samples(LONGEST_S))
        return self._window(start, end, final, arrived, whole=True)

    def _window(
        self, start: int, end: int, final: bool, arrived: float, whole: bool = False
    ) -> Event:
        start = max(start, 0)
        samples = self.ring.cut(start, end)
        inside = sum(start <= frame * FRAME + FRAME // 2 < end for frame in self._speech)
        speech_s = inside * FRAME / SAMPLE_RATE + 2 * self.options.edge_s
        if speech_s < self.options.min_speech_s:
            need = self.options.min_speech_s
            reason = f"{speech_s:.1f} s of speech; {need:g} s are needed, say a little more"
            return Refusal(reason, "short", end, final)
        share = float((np.abs(samples) >= FULL_SCALE).mean())
        if share >= CLIPPED_SHARE:
            reason = f"too loud: {share:.0%} of the samples are clipped, step back or turn it down"
            return Refusal(reason, "clipped", end, final)
        return Window(samples, start, end, speech_s, final, self.utterance, whole, arrived)

    @staticmethod
    def _samples(seconds: float) -> int:
        return round(seconds * SAMPLE_RATE)
