"""Verification: are two clips of the same class (speaker, word, …)? Trials, EER, minDCF, DET.

With a threshold t, a trial is accepted where its score is t or more:

    FNR(t) = share of target trials scored below t,   FPR(t) = share of non-targets at or above t

Intervals resample speakers: a trial of two speakers weighs w_a w_b, a trial within one weighs w_a.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.special import ndtri

from refine.metrics.influence import Units, units
from refine.metrics.intervals import RESAMPLES, Groups, Number, from_resamples, weights
from refine.metrics.trials import Trials, VerificationError, trials_from_factor, trials_from_list

__all__ = [
    "Det",
    "Trials",
    "VerificationError",
    "as_norm",
    "change",
    "cosine_scores",
    "det",
    "drawn",
    "eer",
    "measure",
    "min_dcf",
    "numbers",
    "trials_from_factor",
    "trials_from_list",
]

TRIALS = 200_000
PRIORS = {"min_dcf_05": 0.05, "min_dcf_01": 0.01}
POINTS = 1_000  # of the curve on which a resample is read

Vectors = Float[np.ndarray, "n d"]
Scores = Float[np.ndarray, " trials"]
Target = Bool[np.ndarray, " trials"]


class Det(NamedTuple):
    """Points of a detection error trade-off curve, from accepting nothing to everything."""

    false_alarm: Float[np.ndarray, " points"]
    miss: Float[np.ndarray, " points"]
    threshold: Float[np.ndarray, " points"]


def cosine_scores(
    x: Vectors, trials: Trials, centre: Float[np.ndarray, " d"] | None = None
) -> Scores:
    """Cosine of both sides of each trial, after `centre` (a mean of other clips) is taken off.

    Range -1 to 1. Raises: `VerificationError` for vectors that are not finite or all zeros.
    """
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        row = int((~np.isfinite(x).all(axis=1)).argmax())
        raise VerificationError(f"row {row} holds NaN or infinity; verification needs finite ones")
    if centre is not None:
        x = x - np.asarray(centre, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not norms.all():
        raise VerificationError(f"row {int(norms.argmin())} is all zeros, so it has no direction")
    unit = x / norms
    scores = np.empty(len(trials.left))
    for start in range(0, len(scores), 20_000):
        part = slice(start, start + 20_000)
        scores[part] = np.einsum("td,td->t", unit[trials.left[part]], unit[trials.right[part]])
    return np.clip(scores, -1, 1)


def eer(scores: Scores, target: Target) -> float:
    """Equal error rate: where FNR = FPR, by interpolating the ROC (s3prl's convention).

        1 - x - TPR(x) = 0   on the ROC drawn with straight lines, x the FPR

    Other conventions differ by up to 1 / targets. Range 0 to 1: 0 is perfect, 0.5 is chance.
    Raises: `VerificationError` without a target, without a non-target, for a score that is NaN.
    """
    scores, target = _check(scores, target)
    curve = _Curve(scores, target)
    return float(_eer(curve.fpr[None], curve.tpr[None])[0])


def min_dcf(scores: Scores, target: Target, p_target: float = 0.05) -> float:
    """Minimum detection cost (NIST SRE 2016 form), C_miss = C_fa = 1.

        min_t [ P FNR(t) + (1 - P) FPR(t) ] / min(P, 1 - P)

    Range 0 to 1: 1 is what accepting all or none costs. Raises: as `eer`, and for a prior that is
    not between 0 and 1.
    """
    if not 0 < p_target < 1:
        raise VerificationError(f"p_target: got {p_target}; expected a share between 0 and 1")
    scores, target = _check(scores, target)
    curve = _Curve(scores, target)
    return float(_min_dcf(curve.fpr[None], curve.tpr[None], p_target)[0])


def det(scores: Scores, target: Target, points: int | None = None) -> Det:
    """False alarms against misses at every threshold, or at about `points` of them evenly on
    a normal-deviate scale of the false alarms. The first threshold is infinite: nothing accepted.

    Raises: as `eer`.
    """
    scores, target = _check(scores, target)
    curve = _Curve(scores, target)
    kept = np.arange(len(curve.fpr)) if points is None else curve.spaced(points)
    threshold = _from_zero(curve.thresholds)
    threshold[0] = np.inf
    return Det(curve.fpr[kept], 1 - curve.tpr[kept], threshold[kept])


def as_norm(
    scores: Scores, trials: Trials, x: Vectors, cohort: Float[np.ndarray, "m e"], top: int = 200
) -> Scores:
    """Adaptive symmetric score normalisation (Matejka et al. 2017), by cosine.

        ( (s - mu_l) / sd_l + (s - mu_r) / sd_r ) / 2

    mu, sd of the `top` highest cosines of each side to a cohort of other speakers' clips.
    Raises: `VerificationError` for a cohort of less than 2 clips or of another width.
    """
    if len(cohort) < 2 or np.shape(cohort)[1:] != np.shape(x)[1:]:
        raise VerificationError(
            f"cohort: got shape {np.shape(cohort)}; expected 2 clips or more of {np.shape(x)[1]} "
            "dimensions"
        )
    used, place = np.unique(np.concatenate([trials.left, trials.right]), return_inverse=True)
    near = _unit(np.asarray(x, np.float64)[used]) @ _unit(np.asarray(cohort, np.float64)).T
    top = min(top, near.shape[1])
    near = -np.partition(-near, top - 1, axis=1)[:, :top]
    mean, spread = near.mean(axis=1), np.maximum(near.std(axis=1), 1e-9)
    half = len(trials.left)
    sides = [(scores - mean[side]) / spread[side] for side in (place[:half], place[half:])]
    return (sides[0] + sides[1]) / 2


def measure(
    x: Vectors,
    labels: Sequence[Any] | np.ndarray,
    speakers: Groups | None = None,
    apart: Sequence[Any] | np.ndarray | None = None,
    centre: Float[np.ndarray, " d"] | None = None,
    limit: int = TRIALS,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Number]:
    """eer, min_dcf_05 and min_dcf_01 by cosine on trials of a factor, resampled by speaker.

    Args:
        labels: the factor to verify, "" unknown. speakers: for the intervals (often the labels).
        apart: only pairs that differ here, as other words (see `trials_from_factor`).
    Returns: Numbers whose n counts trials; null: scores that know nothing. Control: which trials
        are targets shuffled. Raises: as `trials_from_factor`, `cosine_scores`.
    """
    trials = trials_from_factor(labels, apart, limit, seed)
    scores = cosine_scores(x, trials, centre)
    of = drawn(len(labels), speakers, seed)
    return numbers(scores, trials, of, "cosine", seed, resamples)


def drawn(n: int, speakers: Groups | None, seed: int = 0) -> Units:
    """What a resample of trials draws: three speakers or more, else clips.

    Of two speakers the only draw with pairs of both kinds is the data itself.
    """
    return units(n, speakers, seed=seed, fewest=3)


def numbers(
    scores: Scores,
    trials: Trials,
    of: Units,
    scored_by: str = "cosine",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Number]:
    """The three Numbers of any scores of trials (PLDA, normalised, …). Raises: as `eer`."""
    found, draws = _resampled(scores, trials, of, seed, resamples)
    shuffled = np.random.default_rng(seed).permutation(trials.target)
    control = _Curve(scores, shuffled).statistics()
    about = {
        "eer": "Equal error rate, ROC interpolated where FNR = FPR",
        "min_dcf_05": "Minimum detection cost at a target prior of 0.05, over that of a blind one",
        "min_dcf_01": "Minimum detection cost at a target prior of 0.01, over that of a blind one",
    }
    told = f"{int(trials.target.sum())} target and {int((~trials.target).sum())} other pairs"
    result = {}
    for name, value in found.items():
        low, high = from_resamples(value, draws[name], of.count)
        result[name] = Number(
            value,
            max(low, 0.0),
            min(high, 1.0),
            len(scores),
            f"{about[name]}, by {scored_by}; {told}{trials.how}. n counts pairs. {of.told} "
            "Control: target marks shuffled.",
            range=(0.0, 1.0),
            direction="lower",
            null=0.5 if name == "eer" else 1.0,
            control=control[name],
            groups=of.groups,
        )
    return result


def change(
    before: Scores,
    after: Float[np.ndarray, " others"],
    trials: Trials,
    of: Units,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Number]:
    """After minus before on the same trials; both sides of the interval draw the same speakers.

    Raises: `VerificationError` for scores of another number of trials.
    """
    if not len(before) == len(after) == len(trials.left):
        raise VerificationError(
            f"a change is measured on the same trials; got {len(before)} scores before, "
            f"{len(after)} after, for {len(trials.left)} trials"
        )
    first, drawn_first = _resampled(before, trials, of, seed, resamples)
    second, drawn_second = _resampled(after, trials, of, seed, resamples)
    result = {}
    for name in first:
        value = second[name] - first[name]
        low, high = from_resamples(value, drawn_second[name] - drawn_first[name], of.count)
        result[name] = Number(
            value,
            low,
            high,
            len(before),
            f"Change of {name}, after minus before on the same pairs; n counts pairs. {of.told}",
            range=(-1.0, 1.0),
            direction="lower",
            null=0.0,
            groups=of.groups,
        )
    return result


class _Curve:
    """The ROC of some trials at their distinct scores, falling."""

    def __init__(self, scores: Scores, target: Target):
        order = np.argsort(-scores, kind="stable")
        ranked, hit = scores[order], target[order]
        last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # of equal scores
        self.thresholds = ranked[last]
        self.fpr = _from_zero(np.cumsum(~hit)[last] / (~hit).sum())
        self.tpr = _from_zero(np.cumsum(hit)[last] / hit.sum())

    def spaced(self, points: int) -> Int[np.ndarray, " kept"]:
        """Places of about `points` points, evenly along the curve in normal deviates."""
        if len(self.fpr) <= points:
            return np.arange(len(self.fpr))
        steps = np.abs(np.diff(_deviate(self.fpr))) + np.abs(np.diff(_deviate(self.tpr)))
        way = _from_zero(np.cumsum(steps))
        places = np.searchsorted(way, np.linspace(0, way[-1], points))
        return np.unique(np.concatenate([[0], places.clip(0, len(way) - 1), [len(way) - 1]]))

    def statistics(self) -> dict[str, float]:
        found = _statistics(self.fpr[None], self.tpr[None])
        return {name: float(values[0]) for name, values in found.items()}


def _statistics(
    fpr: Float[np.ndarray, "draws points"], tpr: Float[np.ndarray, "draws points"]
) -> dict[str, Float[np.ndarray, " draws"]]:
    return {"eer": _eer(fpr, tpr)} | {name: _min_dcf(fpr, tpr, p) for name, p in PRIORS.items()}


def _eer(
    fpr: Float[np.ndarray, "draws points"], tpr: Float[np.ndarray, "draws points"]
) -> Float[np.ndarray, " draws"]:
    excess = fpr + tpr - 1  # rises from -1 to 1
    after = (excess >= 0).argmax(axis=1)
    rows = np.arange(len(fpr))
    low, high = excess[rows, after - 1], excess[rows, after]
    share = -low / (high - low)
    return fpr[rows, after - 1] + share * (fpr[rows, after] - fpr[rows, after - 1])


def _min_dcf(
    fpr: Float[np.ndarray, "draws points"], tpr: Float[np.ndarray, "draws points"], p: float
) -> Float[np.ndarray, " draws"]:
    return (p * (1 - tpr) + (1 - p) * fpr).min(axis=1) / min(p, 1 - p)


def _resampled(
    scores: Scores, trials: Trials, of: Units, seed: int, resamples: int
) -> tuple[dict[str, float], dict[str, Float[np.ndarray, " draws"]]]:
    """Values, and those of each draw, read at `POINTS` thresholds of the curve.

    Only where a draw lies beside the others counts, so what a coarser curve costs cancels.
    """
    scores, target = _check(scores, trials.target)
    if len(scores) != len(trials.left):
        raise VerificationError(f"got {len(scores)} scores for {len(trials.left)} trials")
    curve = _Curve(scores, target)
    kept = curve.spaced(POINTS)[1:] - 1  # the first is infinite
    thresholds = curve.thresholds[kept]  # falling, the last is the lowest score
    place = np.searchsorted(-thresholds, -scores)  # the first threshold that accepts the trial
    left, right = of.of[trials.left], of.of[trials.right]
    pairs, pair = np.unique(np.stack([left, right], axis=1), axis=0, return_inverse=True)
    counts = weights(of.count, None, resamples, seed).astype(np.float64)
    within = pairs[:, 0] == pairs[:, 1]
    weight = counts[:, pairs[:, 0]] * np.where(within, 1.0, counts[:, pairs[:, 1]])
    rates = []
    for kind in (~target, target):
        tally = csr_array(
            (np.ones(int(kind.sum())), (place[kind], pair.ravel()[kind])),
            shape=(len(thresholds), len(pairs)),
        )
        accepted = np.cumsum((tally @ weight.T).T, axis=1)
        rates.append(np.concatenate([np.zeros((len(counts), 1)), accepted], axis=1))
    usable = (rates[0][:, -1] > 0) & (rates[1][:, -1] > 0)  # else a draw says nothing
    if not usable.any():
        usable, rates = np.array([True]), [curve.fpr[None], curve.tpr[None]]
    fpr, tpr = (rate[usable] / rate[usable][:, -1:] for rate in rates)
    return curve.statistics(), _statistics(fpr, tpr)


def _from_zero(values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " points"]:
    return np.concatenate([[0.0], values])


def _check(scores: Scores, target: Target) -> tuple[Scores, Target]:
    scores, target = np.asarray(scores, dtype=np.float64), np.asarray(target, dtype=bool)
    if scores.shape != target.shape or scores.ndim != 1:
        raise VerificationError(f"got {scores.shape} scores for {target.shape} target marks")
    if not np.isfinite(scores).all():
        raise VerificationError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
    if not target.any() or target.all():
        raise VerificationError(
            f"got {int(target.sum())} target and {int((~target).sum())} other trials; "
            "an error rate needs one of each"
        )
    return scores, target


def _deviate(rate: np.ndarray) -> np.ndarray:
    return ndtri(np.clip(rate, 1e-5, 1 - 1e-5))


def _unit(x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny)
