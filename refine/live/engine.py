"""Many streams, one copy of each encoder: cuts, asks, smooths and answers. Threads, no transport.

    engine = Engine(emit=lambda stream, message: …)
    engine.open("a", Settings("mini", "mini-rewire"))
    engine.push("a", samples)

Samples are cut in the caller's thread. One thread asks the encoders: the streams that wait take
turns, longest waiting first, at most `BATCH` at once. A stream has one waiting window; a newer one
takes its place and the older is counted as dropped, so that an answer is late by one window at
most, however slow the encoder is.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from refine.audio import SAMPLE_RATE, Waveform
from refine.faults import sentence
from refine.live.predict import Answer, Pair, Said, Smoother, decide
from refine.live.scene import Scene
from refine.live.stream import Event, Level, Options, Refusal, Stream, Window
from refine.paths import runs

BATCH = 4  # windows in one forward pass

Emit = Callable[[str, dict[str, Any]], None]
clock = time.perf_counter
logger = logging.getLogger("refine.live")


@dataclass(frozen=True)
class Settings:
    """What a stream is asked with."""

    before: str
    after: str | None = None
    options: Options = field(default_factory=Options)
    cloud: dict[str, dict[str, str]] | None = None  # role -> table and layer of the map's clips
    owner: str = ""  # whose voices: outlives a lost connection


@dataclass
class _Waiting:
    """A window in the queue."""

    window: Window
    stamp: float  # of the sender, given back
    cut: float  # clock when it was cut
    capture_ms: float  # age of its newest sample then


class _Known(NamedTuple):
    """An answer that still holds if nothing more is said."""

    pair: Pair
    start: int
    end: int
    said: dict[str, Said]

    def holds(self, pair: Pair | None, window: Window) -> bool:
        return self.pair is pair and (self.start, self.end) == (window.start, window.end)


class _Client:
    """One stream with everything that belongs to it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stream = Stream(settings.options)
        self.smoother = Smoother()
        self.pair: Pair | None = None
        self.scene: Scene | None = None
        self.waiting: _Waiting | None = None
        self.dropped = 0  # windows that the encoders had no time for
        self.whole: _Known | None = None  # what was said about the utterance that may be over
        self.served = 0.0  # clock of its last answer; -1 while one is being made
        self.asked_idle = False
        self.lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether a window waits, or is being answered."""
        return self.waiting is not None or self.served < 0


class Engine:
    """Answers many streams with one copy of each encoder."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._clients: dict[str, _Client] = {}
        self._pairs: dict[tuple[str, str | None, str], Pair] = {}
        self._scenes: dict[str, Scene] = {}  # by owner: a lost connection loses no voices
        self._changed = threading.Condition()
        self._loading = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="live-engine", daemon=True)
        self._thread.start()

    def open(self, stream: str, settings: Settings) -> None:
        """Begin a stream, or change what one is asked with; encoders load in the background."""
        client = _Client(settings)
        with self._changed:
            old = self._clients.get(stream)
            if old is not None and old.settings.options == settings.options:
                client.stream, client.dropped = old.stream, old.dropped
            self._clients[stream] = client
        self._emit(stream, {"type": "state", "state": "loading", "text": "loading the encoders"})
        threading.Thread(target=self._load, args=(stream, client), daemon=True).start()

    def warm(self, settings: Settings) -> None:
        """Load encoders before anybody speaks."""
        client = _Client(settings)
        threading.Thread(target=self._load, args=("", client), daemon=True).start()

    def push(self, stream: str, samples: Waveform, stamp: float = 0.0) -> None:
        """The next samples of a stream: 16 kHz mono. What it makes of them is emitted."""
        client = self._clients.get(stream)
        if client is None:
            return
        now = clock()
        with client.lock:
            events = client.stream.push(samples, now)
            if client.scene is not None:
                client.scene.listen(samples, client.stream.speaking)
        self._take(stream, client, events, stamp)

    def finish(self, stream: str) -> None:
        """The sound of a stream has ended; what is open is answered."""
        client = self._clients.get(stream)
        if client is not None:
            with client.lock:
                events = client.stream.finish(clock())
            self._take(stream, client, events, 0.0)

    def command(self, stream: str, order: dict[str, Any]) -> None:
        """Enrol, delete, forget, challenge: see `Scene.order`."""
        client = self._clients.get(stream)
        if client is None or client.scene is None:
            self._emit(stream, {"type": "error", "text": "still loading the encoders; wait a bit"})
            return
        if order.get("type") == "idle":  # said once everything before it has been answered
            client.asked_idle = True
            self._say_idle(stream, client)
            return
        try:
            with client.lock:
                news = client.scene.order(order)
            self._emit(stream, news)
        except Exception as error:
            self._fail(stream, error)

    def close(self, stream: str) -> None:
        """Forget a stream; the voices of its owner stay until they are forgotten."""
        with self._changed:
            self._clients.pop(stream, None)

    def forget(self, owner: str) -> None:
        """An owner is gone for good."""
        self._scenes.pop(owner, None)

    def waiting(self, stream: str) -> bool:
        """Whether a window of a stream is still to be answered."""
        client = self._clients.get(stream)
        return client is not None and client.busy

    def end(self) -> None:
        """Stop answering."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(10)

    def _take(self, stream: str, client: _Client, events: list[Event], stamp: float) -> None:
        for event in events:
            if isinstance(event, Level):
                self._emit(stream, {"type": "level", **event._asdict()})
            elif isinstance(event, Refusal):
                self._emit(stream, {"type": "refused", **event._asdict()})
            else:
                self._queue(client, event, stamp)

    def _queue(self, client: _Client, window: Window, stamp: float) -> None:
        late = (client.stream.ring.total - window.end) / SAMPLE_RATE * 1000
        new = _Waiting(window, stamp, clock(), max(late, 0.0))
        with self._changed:
            old = client.waiting
            if old is not None:
                client.dropped += client.pair is not None  # while they load, nothing is late
                if old.window.final and not window.final:
                    return  # an utterance's last word is not given up for the next one's first
            client.waiting = new
            self._changed.notify_all()

    def _load(self, stream: str, client: _Client) -> None:
        settings = client.settings
        try:
            from refine.live.predict import usable

            names = [settings.before] + ([settings.after] if settings.after else [])
            with self._loading:
                stamp = "|".join(
                    f"{i.path}:{i.path.stat().st_mtime_ns}"
                    for name in names
                    for i in usable(name).values()
                    if i.path
                )
                key = (settings.before, settings.after, stamp)
                if key not in self._pairs:
                    while len(self._pairs) >= 4:
                        self._pairs.pop(next(iter(self._pairs)))
                    pair = Pair.load(settings.before, settings.after)
                    pair.ask([np.zeros(SAMPLE_RATE, np.float32) + 1e-3])  # the first is the slowest
                    self._pairs[key] = pair
                pair = self._pairs[key]
                if not stream:
                    return
                scene = self._scenes.get(settings.owner)
                if scene is None or scene.key != (settings.before, settings.after):
                    scene = Scene((settings.before, settings.after), pair)
                scene.show(settings.cloud)
                if settings.owner:
                    self._scenes[settings.owner] = scene
            client.pair, client.scene = pair, scene
            self._emit(stream, {"type": "state", "state": "ready", **describe(pair)})
            self._emit(stream, scene.news())
            with self._changed:
                self._changed.notify_all()
        except Exception as error:
            self._fail(stream, error, state=True)

    def _say_idle(self, stream: str, client: _Client) -> None:
        with self._changed:
            idle = client.asked_idle and not client.busy
            client.asked_idle = client.asked_idle and not idle
        if idle:
            self._emit(stream, {"type": "idle"})

    def _fail(self, stream: str, error: Exception, state: bool = False) -> None:
        text = sentence(error, runs())
        if text is None:
            logger.exception("live: a stream failed")
            text = f"a fault in refine ({type(error).__name__}); see the terminal of the app"
        kind = {"type": "state", "state": "failed"} if state else {"type": "error"}
        self._emit(stream, {**kind, "text": text})

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ended and not (jobs := self._due()):
                    self._changed.wait()
                if self._ended:
                    return
                taken = []
                for name, client in jobs:
                    taken.append((name, client, client.waiting))
                    client.waiting, client.served = None, -1.0
            try:
                self._answer(taken)
            except Exception as error:
                for name, *_ in taken:
                    self._fail(name, error)
            finally:
                for name, client, _ in taken:
                    client.served = clock()
                    self._say_idle(name, client)

    def _due(self) -> list[tuple[str, _Client]]:
        """Streams that wait for the same pair, the one that was served longest ago first."""
        ready = [(n, c) for n, c in self._clients.items() if c.waiting and c.pair]
        ready.sort(key=lambda item: item[1].served)
        return [item for item in ready if item[1].pair is ready[0][1].pair][:BATCH]

    def _answer(self, taken: list[tuple[str, _Client, _Waiting | None]]) -> None:
        pair = taken[0][1].pair
        assert pair is not None
        started = clock()
        known = self._asked(pair, [(c, waiting.window) for _, c, waiting in taken if waiting])
        model_ms = (clock() - started) * 1000
        for name, client, waiting in taken:
            if waiting is None:
                continue
            said = known[client]
            queue_ms = (started - waiting.cut) * 1000
            message = result(client.smoother, pair, waiting.window, said)
            if client.scene is not None:
                with client.lock:
                    message |= client.scene.see(waiting.window, said)
            place_ms = (clock() - started) * 1000 - model_ms  # heads, map, voices
            parts = {"capture": waiting.capture_ms, "queue": queue_ms, "model": model_ms}
            parts["place"] = place_ms
            latency = {key: round(value, 2) for key, value in parts.items()}
            latency["total"] = round(sum(parts.values()), 2)
            message |= {"latency": latency, "dropped": client.dropped, "stamp": waiting.stamp}
            self._emit(name, message)
            if client.scene is not None and client.scene.due:
                with client.lock:
                    news = client.scene.enrol_due()
                self._emit(name, news)

    def _asked(
        self, pair: Pair, windows: list[tuple[_Client, Window]]
    ) -> dict[_Client, dict[str, Said]]:
        """What is said about a window of each stream; nothing is asked twice."""
        found, new = {}, []
        for client, window in windows:
            if client.whole is not None and client.whole.holds(pair, window):
                found[client] = client.whole.said
            else:
                new.append((client, window))
        rows = pair.ask([window.samples for _, window in new]) if new else []
        for (client, window), said in zip(new, rows, strict=True):
            found[client] = said
            if window.whole:
                client.whole = _Known(pair, window.start, window.end, said)
        return found


def result(smoother: Smoother, pair: Pair, window: Window, said: dict[str, Said]) -> dict[str, Any]:
    """The answer to a window: of every head of both encoders, smoothed."""
    answers: dict[str, dict[str, Any]] = {}
    for role, one in said.items():
        for factor, chances in one.chances.items():
            info = pair.heads[factor][role].info
            smooth = smoother.add((factor, role), chances, window.utterance, window.final)
            answer: Answer = decide(info, smooth)
            answers.setdefault(factor, {})[role] = {
                "label": answer.label,
                "probability": round(answer.probability, 4),
                "probabilities": [round(p, 4) for p in answer.probabilities],
                "unsure": answer.unsure,
            }
    return {
        "type": "answer",
        "final": window.final,
        "utterance": window.utterance,
        "start": round(window.start / SAMPLE_RATE, 3),
        "end": round(window.end / SAMPLE_RATE, 3),
        "speech": round(window.speech_s, 2),
        "answers": answers,
    }


def describe(pair: Pair) -> dict[str, Any]:
    """What can be asked: heads with their labels and thresholds."""
    return {
        "heads": {
            factor: {
                role: {
                    "labels": list(head.info.labels),
                    "threshold": head.info.threshold,
                    "says": head.info.statement,
                    "corpus": head.info.corpus["name"],
                }
                for role, head in found.items()
            }
            for factor, found in pair.heads.items()
        },
        "roles": list(pair.predictors),
    }
