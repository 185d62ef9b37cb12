"""Both encoders and their heads, asked about windows of sound; each loaded once and shared.

    pair = Pair.load("mini", "mini-rewire")
    said = pair.ask([waveform])[0]  # {"before": Said(answers, vectors), "after": …}

Needs torch with the first encoder; knows no stream and no transport.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from refine import encoders, heads
from refine.audio import Waveform
from refine.encoders import peek
from refine.heads import Head, HeadInfo, Predictor

if TYPE_CHECKING:
    from refine.encoders import Encoder

ROLES = ("before", "after")
KEPT = 4  # encoders in memory at a time
SMOOTH = 0.6  # weight of the newest window; the rest is what the utterance said before
FLOOR = 1e-4  # of a probability, so that one window cannot forbid a class for good


class Said(NamedTuple):
    """What one encoder makes of one window."""

    chances: dict[str, Float[np.ndarray, " classes"]]  # factor -> calibrated probabilities
    vector: Float[np.ndarray, " dim"]  # its own vector, as maps show it


class Answer(NamedTuple):
    """What a head says after smoothing."""

    label: str
    probability: float
    probabilities: tuple[float, ...]  # in the order of the head's labels
    unsure: bool


_loaded: "OrderedDict[str, Encoder]" = OrderedDict()
_lock = threading.Lock()


def encoder(name: str) -> "Encoder":
    """An encoder, loaded once for everybody; the least recently used one is let go."""
    with _lock:
        key = peek(name).fingerprint if encoders.locate(name) else name
        if key not in _loaded:
            _loaded[key] = encoders.load(name)
        _loaded.move_to_end(key)
        while len(_loaded) > KEPT:
            _loaded.popitem(last=False)
        return _loaded[key]


def usable(name: str) -> dict[str, HeadInfo]:
    """The heads of an encoder as it is now, by factor."""
    return {info.factor: info for info in heads.find(name) if not info.stale}


class Pair:
    """An encoder before and after, each with its heads."""

    def __init__(self, predictors: dict[str, Predictor]) -> None:
        self.predictors = predictors
        self.heads = self._heads()
        self._threads = ThreadPoolExecutor(len(predictors), "live-encoder")

    @classmethod
    def load(cls, before: str, after: str | None = None) -> "Pair":
        """Open one or two encoders with all their heads. Raises: `EncoderError`, `HeadError`."""
        names = {"before": before} | ({"after": after} if after else {})
        found: dict[str, Predictor] = {}
        for role, name in names.items():
            read = [heads.read(info.path) for info in usable(name).values() if info.path]
            found[role] = Predictor(encoder(name), read)
        return cls(found)

    def _heads(self) -> dict[str, dict[str, Head]]:
        """factor -> role -> head, in the order of their names."""
        each = {
            role: {head.info.factor: head for head in predictor.heads}
            for role, predictor in self.predictors.items()
        }
        factors = sorted({factor for found in each.values() for factor in found})
        return {f: {role: found[f] for role, found in each.items() if f in found} for f in factors}

    @property
    def min_samples(self) -> int:
        """The shortest window both can be asked about."""
        return max(predictor.min_samples for predictor in self.predictors.values())

    def ask(self, windows: Sequence[Waveform]) -> list[dict[str, Said]]:
        """One forward pass of each encoder answers all windows and all heads.

        Raises: `ValueError` for a window shorter than `min_samples`.
        """
        rows: list[dict[str, Said]] = [{} for _ in windows]
        # a thread an encoder: torch lets go of the interpreter inside its kernels
        asked = self._threads.map(lambda one: one.vectors(windows), self.predictors.values())
        for (role, predictor), vectors in zip(self.predictors.items(), asked, strict=True):
            chances = {
                head.info.factor: head.probabilities(vectors[head.info.view])
                for head in predictor.heads
            }
            own = vectors[predictor.own]
            for row, said in enumerate(rows):
                said[role] = Said({name: found[row] for name, found in chances.items()}, own[row])
        return rows

    def answer(self, factor: str, role: str, chances: np.ndarray) -> Answer:
        """A label, or "unsure" where the head's threshold is not reached."""
        return decide(self.heads[factor][role].info, chances)


def decide(info: HeadInfo, chances: Float[np.ndarray, " classes"]) -> Answer:
    """The most probable class, and whether it is probable enough."""
    best = int(chances.argmax())
    probability = float(chances[best])
    unsure = probability < info.threshold
    return Answer(info.labels[best], probability, tuple(map(float, chances)), unsure)


class Smoother:
    """Probabilities of one stream, averaged over the windows of one utterance.

    The average is geometric (of log-probabilities, weight 0.6 on the newest), so a class that was
    impossible a moment ago does not come back at once. An utterance that is over is answered by its
    whole sound alone.
    """

    def __init__(self, share: float = SMOOTH) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share: got {share}; expected more than 0, at most 1")
        self.share = share
        self._utterance = 0
        self._logs: dict[Any, np.ndarray] = {}

    def add(
        self, key: Any, chances: Float[np.ndarray, " classes"], utterance: int, final: bool
    ) -> Float[np.ndarray, " classes"]:
        """The smoothed probabilities of a series (factor and role); they sum to 1."""
        if utterance != self._utterance:
            self._utterance = utterance
            self._logs.clear()
        logs = np.log(np.maximum(chances, FLOOR))
        if key in self._logs and not final:
            logs = self.share * logs + (1 - self.share) * self._logs[key]
        self._logs[key] = logs
        smooth = np.exp(logs - logs.max())
        return smooth / smooth.sum()
