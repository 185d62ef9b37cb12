"""Calibration of a classifier: do its probabilities come true, and from where on is it sure enough.

Torch-free, on logits or probabilities of held-out clips.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar

from refine.metrics.intervals import (
    RESAMPLES,
    Groups,
    Number,
    from_resamples,
    from_values,
    usable_groups,
    weights,
)

BINS = 15  # as in Guo et al. 2017
TEMPERATURES = (0.05, 20.0)  # beyond these a softmax is a maximum, or says nothing
FLOOR = 0.5  # lowest probability of an answer: below, it is rather wrong than right
FEWEST = 5  # clips that a precision is measured on, at least


class Threshold(NamedTuple):
    """A confidence below which a classifier says "unsure", and what it kept where it was chosen."""

    value: float  # lowest confidence, 0 to 1, that is an answer
    precision: float  # share of right answers among those
    coverage: float  # share of clips that get an answer
    met: bool  # whether the precision asked for was reached


def softmax(logits: Float[np.ndarray, "n k"], temperature: float = 1.0) -> Float[np.ndarray, "n k"]:
    """Probabilities of the classes: exp(l_j / T) / Σ exp(l_k / T), by log-sum-exp, in float64."""
    return np.exp(log_softmax(logits, temperature))


def log_softmax(
    logits: Float[np.ndarray, "n k"], temperature: float = 1.0
) -> Float[np.ndarray, "n k"]:
    """Logarithms of `softmax`, natural. Raises `ValueError` for a temperature that is not > 0."""
    if not temperature > 0 or not math.isfinite(temperature):
        raise ValueError(f"temperature: got {temperature}; expected more than 0")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def nll(
    logits: Float[np.ndarray, "n k"], truth: Int[np.ndarray, " n"], temperature: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Negative log-likelihood of the right class of each clip, in nats.

    0 is certain and right; ln K says nothing about K classes; unbounded above.
    Raises: `ValueError` for no clip, or a class that is not there.
    """
    _check(logits, truth)
    return -log_softmax(logits, temperature)[np.arange(len(truth)), truth]


def ece(
    confidence: Float[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    bins: int = BINS,
) -> float:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017).

        Σ_b n_b / n |share right in b - mean confidence in b|,  b = (i / bins, (i + 1) / bins]

    Range 0 (every confidence comes true) to 1. Biased upwards where bins hold few clips.
    Raises: `ValueError` for no clip, or a confidence outside 0 to 1.
    """
    return float(_binned(confidence, right, bins, np.ones((1, len(confidence))))[0])


def fit_temperature(logits: Float[np.ndarray, "n k"], truth: Int[np.ndarray, " n"]) -> float:
    """The temperature that makes held-out clips most likely (Guo et al. 2017).

        argmin_T mean_i [ (1 - a) nll_i(T) + a / K Σ_k -log p_ik(T) ],    a = 1 / (n + 2)

    The second term is Platt's (1999) smoothing of the targets: without it, a few clips that are
    all right would make the classifier certain of everything. The temperature never changes which
    class comes first. Between `TEMPERATURES`.
    Raises: `ValueError` for no clip, or a class that is not there.
    """
    _check(logits, truth)
    smoothing = 1 / (len(truth) + 2)

    def loss(log_temperature: float) -> float:
        logs = log_softmax(logits, math.exp(log_temperature))
        right = logs[np.arange(len(truth)), truth].mean()
        return -float((1 - smoothing) * right + smoothing * logs.mean())

    ends = [math.log(end) for end in TEMPERATURES]
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-5})
    # a bounded search stops just inside an end
    return math.exp(min((float(found.x), *ends), key=loss))


def choose_threshold(
    confidence: Float[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    precision: float,
    floor: float = FLOOR,
) -> Threshold:
    """The threshold that answers the most clips with at least so high a share of right answers.

    It is not below `floor`: an answer that is rather wrong than right is none. Answers rest on at
    least `FEWEST` clips and 5 % of all. Where no threshold reaches the precision, the one that
    comes nearest is returned, and `met` is False; where too few clips reach the floor, it is
    left out.
    Raises: `ValueError` for fewer than `FEWEST` clips, or a precision outside 0 to 1.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision: got {precision}; expected more than 0, at most 1")
    n = len(confidence)
    if n < FEWEST or len(right) != n:
        raise ValueError(
            f"a threshold is chosen on at least {FEWEST} clips; got {n} confidences and "
            f"{len(right)} answers"
        )
    order = np.argsort(-np.asarray(confidence), kind="stable")
    ranked = np.asarray(confidence, dtype=np.float64)[order]
    share = np.cumsum(np.asarray(right)[order]) / np.arange(1, n + 1)
    last_of_ties = np.append(ranked[1:] < ranked[:-1], True)
    enough = last_of_ties & (np.arange(1, n + 1) >= max(FEWEST, math.ceil(0.05 * n)))
    sure = enough & (ranked >= floor)
    allowed = sure if sure.any() else enough
    good = np.flatnonzero(allowed & (share >= precision - 1e-12))
    met = len(good) > 0
    kept = int(good[-1]) if met else int(np.argmax(np.where(allowed, share, -1.0)))
    below = ranked[kept + 1] if kept + 1 < n else 0.0
    value = float(ranked[kept] + below) / 2
    if ranked[kept] >= floor:
        value = max(value, floor)
    return Threshold(value, float(share[kept]), (kept + 1) / n, met)


def measure(
    logits: Float[np.ndarray, "n k"],
    truth: Int[np.ndarray, " n"],
    temperature: float = 1.0,
    speakers: Groups | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Number]:
    """`nll` and `ece` of held-out clips, with intervals resampled by speaker.

    Null of `nll`: ln K, what a classifier has that knows nothing.
    Raises: `ValueError` as `nll`, or for less than two clips.
    """
    lost = nll(logits, truth, temperature)
    probabilities = softmax(logits, temperature)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    groups, count = usable_groups(speakers)
    drawn = weights(len(truth), groups, resamples, seed)
    value = ece(confidence, right)
    low, high = from_resamples(value, _binned(confidence, right, BINS, drawn), count or len(truth))
    about = (
        f"temperature {temperature:.3g}, {count or len(truth)} {'speakers' if count else 'clips'}"
    )
    return {
        "nll": from_values(
            lost,
            f"Mean negative log-likelihood of the right class in nats ({about}).",
            groups,
            resamples,
            seed,
            range=(0.0, math.inf),
            direction="lower",
            null=math.log(np.asarray(logits).shape[1]),
        ),
        "ece": Number(
            value,
            max(0.0, low),
            min(1.0, max(high, 0.0)),
            len(truth),
            f"Expected calibration error, {BINS} bins of equal width ({about}).",
            (0.0, 1.0),
            "lower",
            null=0.0,
            groups=count,
        ),
    }


def _binned(
    confidence: Float[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    bins: int,
    counts: np.ndarray,  # (resamples, n): how often each clip counts
) -> Float[np.ndarray, " resamples"]:
    confidence = np.asarray(confidence, dtype=np.float64)
    if not len(confidence) or len(confidence) != len(right):
        raise ValueError(f"got {len(confidence)} confidences for {len(right)} answers")
    if not ((confidence >= 0) & (confidence <= 1 + 1e-9)).all():
        raise ValueError("a confidence lies between 0 and 1; got others")
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = (np.asarray(right, dtype=np.float64) - confidence)[:, None] * np.eye(bins)[place]
    return np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1)


def _check(logits: np.ndarray, truth: np.ndarray) -> None:
    shape = np.asarray(logits).shape
    if len(shape) != 2 or not len(truth) or shape[0] != len(truth):
        raise ValueError(f"got logits of shape {shape} for {len(truth)} labels")
    if not ((np.asarray(truth) >= 0) & (np.asarray(truth) < shape[1])).all():
        raise ValueError(f"a label is a class index from 0 to {shape[1] - 1}; got others")
