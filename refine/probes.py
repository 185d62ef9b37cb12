"""Probes: how well a factor can be read off frozen vectors, the same way before and after.

    split = split_of(table, "emotion")
    result = probe(vectors, table["emotion"], split, table["speaker"])
    result.uar.value, result.confusion

A probe is a softmax regression on standardised vectors. Its regularisation is picked on dev from
one fixed grid, then it is fitted again on train and dev. Beside it stand companions without a
fit: nearest neighbours and k-shot prototypes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from refine.metrics import accuracy
from refine.metrics.directions import random_projection
from refine.metrics.influence import Smooth, number, table, units
from refine.metrics.intervals import RESAMPLES, Groups, Number
from refine.softmax import LinearProbe, fit, temperature
from refine.splits import ProbeError, Split, leave_one_out, split_of

__all__ = [
    "GRID", "Efficiency", "LinearProbe", "ProbeError", "ProbeResult", "Split", "best", "fit",
    "k_shot", "knn", "label_efficiency", "leave_one_out", "probe", "random_projection", "split_of",
]  # fmt: skip

GRID = (1e-3, 1e-2, 1e-1, 1.0)  # weight of ||W||^2 / 2 beside the mean cross-entropy
NEIGHBOURS_AT_ONCE = 1_000  # test clips compared at a time
CONTROL_DRAWS = 10  # of the draws of k shots, so many are seen with shuffled labels too

Vectors = Float[np.ndarray, "n d"]
Labels = Sequence[Any] | np.ndarray


@dataclass(frozen=True)
class ProbeResult:
    """What a predictor found on the test clips; rows and columns go by `classes`.

    `probabilities` are calibrated by one temperature found on dev (kNN: the share of votes).
    """

    accuracy: Number
    uar: Number
    macro_f1: Number
    confusion: Int[np.ndarray, "k k"]  # rows true, columns predicted
    classes: np.ndarray
    strength: float | None
    predictions: np.ndarray  # a class a test clip
    probabilities: Float[np.ndarray, "test k"]
    split: Split
    truth: np.ndarray
    model: LinearProbe | None = None  # fitted on train and dev
    blind: Float[np.ndarray, "test k"] | None = None  # probabilities after shuffled labels

    @cached_property
    def numbers(self) -> dict[str, Number]:
        return {"accuracy": self.accuracy, "uar": self.uar, "macro_f1": self.macro_f1}


class Efficiency(NamedTuple):
    """A point of a label-efficiency curve."""

    fraction: float
    clips: int  # labelled ones, mean over seeds
    accuracy: Number
    uar: Number
    seeds: tuple[float, ...]  # the UAR of each seed


def probe(
    x: Vectors,
    y: Labels,
    split: Split,
    speakers: Groups | None = None,
    control: bool = True,
    seed: int = 0,
    resamples: int = RESAMPLES,
    grid: Sequence[float] = GRID,
    class_weight: str | None = None,
) -> ProbeResult:
    """A linear probe: standardised on train, strength by dev UAR, fitted again on train and dev.

    Args:
        x: one vector a clip. y: one label a clip. speakers: a label a clip, for the intervals.
        control: also fit on shuffled labels, at the strength chosen (`Number.control`).
    Returns: accuracy, UAR, macro-F1 on test with 95 % intervals by speaker; null: the commonest
        training class, always. The probe is not refitted in a resample: the interval speaks of
        other test speakers, not of other training clips.
    Raises: `ProbeError` for vectors that are not finite or not one a label, or less than 2 classes.
    """
    x, y = check(x, y)
    picked = best(x, y, split, grid, class_weight)
    model = fit(x[split.fitted], y[split.fitted], picked.strength, class_weight)
    blind = None
    if control:
        shuffled = np.random.default_rng(seed).permutation(y[split.fitted])
        spoilt = fit(x[split.fitted], shuffled, picked.strength, class_weight)
        blind = spoilt.probabilities(x[split.test], picked.temperature)
    probabilities = model.probabilities(x[split.test], picked.temperature)
    what = f" by a linear probe ({split.how})" if split.how else " by a linear probe"
    return result(
        y, split, model.classes, probabilities, speakers, what=what, blind=blind,
        strength=picked.strength, model=model, seed=seed, resamples=resamples,
    )  # fmt: skip


class Pick(NamedTuple):
    """The strength that does best on dev, its UAR there, and the temperature that calibrates it."""

    strength: float
    uar: float
    temperature: float


def best(
    x: Vectors,
    y: Labels,
    split: Split,
    grid: Sequence[float] = GRID,
    class_weight: str | None = None,
) -> Pick:
    """Fit on train at each strength and score on dev; ties go to the stronger one.

    The cheap way to compare layers: no test clip is touched. Raises: as `probe`.
    """
    x, y = check(x, y)
    dev = np.isin(y[split.dev], y[split.train])
    rows = split.dev[dev]
    if not len(rows):
        raise ProbeError("dev: no clip of a trained class; split by other speakers")
    found: list[tuple[float, float, LinearProbe]] = []
    model = None
    for strength in sorted(grid, reverse=True):  # from the stiffest: each starts from the last
        model = fit(x[split.train], y[split.train], strength, class_weight, start=model)
        found.append((accuracy.uar(y[rows], model.predict(x[rows])), strength, model))
    score, strength, model = max(found, key=lambda item: item[:2])
    return Pick(strength, score, temperature(model.logits(x[rows]), model.codes(y[rows])))


def label_efficiency(
    x: Vectors,
    y: Labels,
    split: Split,
    fractions: Sequence[float] = (0.01, 0.05, 0.1, 1.0),
    seeds: int = 5,
    speakers: Groups | None = None,
    resamples: int = RESAMPLES,
) -> list[Efficiency]:
    """Test scores of probes that see a share of the training labels, at least one clip a class.

    Clips are drawn from train, class by class; the strength is picked on the whole of dev, and dev
    is never fitted on. Each Number is the mean over seeds, its interval over test speakers.
    Raises: as `probe`; `ProbeError` for a fraction outside 0 to 1.
    """
    x, y = check(x, y)
    test, points = split.test, []
    of = units(len(test), None if speakers is None else np.asarray(speakers)[test])
    classes = np.unique(y[split.train])
    codes = np.array([np.searchsorted(classes, label) for label in y[test]])
    commonest = classes[np.bincount(np.searchsorted(classes, y[split.train])).argmax()]
    null = {"accuracy": float((y[test] == commonest).mean()), "uar": 1 / len(classes)}
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ProbeError(f"fraction: got {fraction}; expected more than 0, at most 1")
        right, scores, sizes = [], [], []
        for seed in range(seeds if fraction < 1 else 1):
            rows = _share(y, split.train, fraction, seed)
            part = Split(rows, split.dev, test)
            strength = best(x, y, part).strength
            model = fit(x[rows], y[rows], strength)
            if seed == 0:
                shuffled = np.random.default_rng(seed).permutation(y[rows])
                said = fit(x[rows], shuffled, strength).predict(x[test])
                control = {way: getattr(accuracy, way)(y[test], said) for way in null}
            right.append(model.predict(x[test]) == y[test])
            scores.append(accuracy.uar(y[test], model.predict(x[test])))
            sizes.append(len(rows))
        hits = np.mean(right, axis=0)
        smooth = accuracy.recalls(
            table(of, codes, len(classes)), table(of, codes, len(classes), hits)
        )
        told = (
            f"; a probe on {fraction:.0%} of the labels, mean of {len(scores)} draws. Null: always "
            "the commonest training class. Control: one draw, its labels shuffled before fitting."
        )
        numbers = {
            name: number(
                smooth[name], of, accuracy.ABOUT[name] + told, (0.0, 1.0), resamples,
                direction="higher", null=null[name], control=control[name],
            )
            for name in null
        }  # fmt: skip
        points.append(Efficiency(fraction, round(np.mean(sizes)), **numbers, seeds=tuple(scores)))
    return points


def knn(
    x: Vectors,
    y: Labels,
    split: Split,
    k: int = 5,
    speakers: Groups | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ProbeResult:
    """The commonest class of the k nearest clips of train and dev, by cosine; ties by closeness.

    Control: the same neighbours, the labels of train and dev shuffled.
    Raises: as `probe`; `ProbeError` for a k below 1 or above the clips there are.
    """
    x, y = check(x, y)
    if not 1 <= k <= len(split.fitted):
        raise ProbeError(f"k: got {k}; expected 1 to {len(split.fitted)}, the clips to choose from")
    unit = _unit(x)
    classes, codes = np.unique(y[split.fitted], return_inverse=True)
    votes = np.zeros((2, len(split.test), len(classes)))
    labels = codes, np.random.default_rng(seed).permutation(codes)
    for start in range(0, len(split.test), NEIGHBOURS_AT_ONCE):
        rows = split.test[start : start + NEIGHBOURS_AT_ONCE]
        cosine = unit[rows] @ unit[split.fitted].T
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        # a cosine is worth less than a vote together, so it decides ties alone
        weight = 1 + np.take_along_axis(cosine, near, axis=1) / (4 * k)
        place = start + np.arange(len(rows))[:, None]
        for mine, stored in zip(votes, labels, strict=True):
            np.add.at(mine, (place, stored[near]), weight)
    probabilities, blind = votes / votes.sum(axis=2, keepdims=True)
    what = f" by the {k} nearest training clips (cosine)"
    return result(
        y, split, classes, probabilities, speakers, what,
        blind=blind, seed=seed, resamples=resamples,
    )  # fmt: skip


def k_shot(
    x: Vectors,
    y: Labels,
    split: Split,
    k: Sequence[int] = (1, 5, 10),
    draws: int = 50,
    seed: int = 0,
    speakers: Groups | None = None,
    resamples: int = RESAMPLES,
) -> dict[int, Number]:
    """k-shot accuracy (Lux et al. 2022): the class whose mean of k drawn clips is closest.

    By cosine, plain accuracy.

    Clips are drawn from train and dev without replacement, anew in each of `draws` draws, one draw
    for all test clips (the authors draw again for each test clip: the same expected accuracy).
    Null: one class of K. Control: the first `CONTROL_DRAWS` draws, labels shuffled before.
    Raises: as `probe`; `ProbeError` for a k above the clips of the smallest class.
    """
    x, y = check(x, y)
    members = [split.fitted[y[split.fitted] == name] for name in np.unique(y[split.fitted])]
    classes = np.unique(y[split.fitted])
    fewest = min(map(len, members))
    if min(k) < 1 or max(k) > fewest:
        raise ProbeError(f"k: got {max(k)}; the smallest class has {fewest} clips to draw from")
    test, rng = split.test, np.random.default_rng(seed)
    of = units(len(test), None if speakers is None else np.asarray(speakers)[test], seed=seed)
    unit, numbers = _unit(x[test]), {}
    other = np.arange(len(x))  # the clip whose label each has after shuffling
    other[split.fitted] = np.random.default_rng(seed).permutation(split.fitted)

    def hits(drawn: Int[np.ndarray, "classes shots"]) -> np.ndarray:
        means = x[drawn].mean(axis=1)  # (classes, d), as they are: the authors' way
        return classes[(unit @ _unit(means).T).argmax(axis=1)] == y[test]

    blind = min(draws, CONTROL_DRAWS)
    for shots in k:
        right, spoilt = np.zeros(len(test)), 0.0
        for draw in range(draws):
            drawn = np.stack([rng.choice(rows, shots, replace=False) for rows in members])
            right += hits(drawn)
            if draw < blind:
                spoilt += float(hits(other[drawn]).mean())
        share = right / draws
        each = np.bincount(of.of, (share - share.mean()) / len(test), minlength=of.count)
        numbers[shots] = number(
            Smooth(float(share.mean()), each),
            of,
            f"{shots}-shot accuracy (Lux 2022): the class whose mean of {shots} drawn training "
            f"clips is closest in cosine, mean of {draws} draws. Null: one class of "
            f"{len(classes)}. Control: labels shuffled before drawing, {blind} draws.",
            (0.0, 1.0), resamples, seed, direction="higher", null=1 / len(classes),
            control=spoilt / blind,
        )  # fmt: skip
    return numbers


def changes(
    before: ProbeResult,
    after: ProbeResult,
    speakers: Groups | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Number]:
    """After minus before of accuracy, UAR and macro-F1 on the same test clips, by speaker.

    Both sides of the interval draw the same speakers. `speakers`: a label a clip of the table the
    split is of. Raises: `ProbeError` for results on other clips.
    """
    if not np.array_equal(before.split.test, after.split.test):
        raise ProbeError(
            "a change is measured on the same clips: "
            f"got {len(before.split.test)} test clips before, {len(after.split.test)} others after"
        )
    test = before.split.test
    of = units(len(test), None if speakers is None else np.asarray(speakers)[test], seed=seed)
    first, second = (
        accuracy.statistics(side.truth, side.predictions, side.classes, of)
        for side in (before, after)
    )
    return {
        name: number(
            second[name].minus(first[name]), of,
            f"Change of {name}, after minus before on the same test clips.",
            (-1.0, 1.0), resamples, seed, direction="higher", null=0.0,
        )
        for name in first
    }  # fmt: skip


def result(
    y: np.ndarray,
    split: Split,
    classes: np.ndarray,
    probabilities: Float[np.ndarray, "test k"],
    speakers: Groups | None,
    what: str = "",
    *,
    blind: Float[np.ndarray, "test k"] | None = None,
    strength: float | None = None,
    model: LinearProbe | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ProbeResult:
    """Scores of any predictor on the test clips of a split, from its probabilities.

    `blind`: those of the same predictor after shuffled labels, for the controls.
    """
    truth = y[split.test]
    control = None
    if blind is not None:
        guessed = accuracy.statistics(
            truth, classes[blind.argmax(axis=1)], classes, units(len(truth))
        )
        control = {name: smooth.value for name, smooth in guessed.items()}
    predictions = classes[probabilities.argmax(axis=1)]
    fitted, counts = np.unique(y[split.fitted], return_counts=True)
    numbers = accuracy.measure(
        truth, predictions, classes,
        None if speakers is None else np.asarray(speakers)[split.test],
        guess=fitted[counts.argmax()], control=control,
        what=what, seed=seed, resamples=resamples,
    )  # fmt: skip
    return ProbeResult(
        **numbers, confusion=accuracy.confusion(truth, predictions, classes), classes=classes,
        strength=strength, predictions=predictions, probabilities=probabilities, split=split,
        truth=truth, model=model, blind=blind,
    )  # fmt: skip


def check(x: Vectors, y: Labels) -> tuple[Vectors, np.ndarray]:
    """Float64 vectors, one a label. Raises `ProbeError` for what cannot be probed."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    y = y.astype(str) if y.dtype == object else y
    if x.ndim != 2 or len(x) != len(y):
        raise ProbeError(f"got vectors of shape {x.shape} for {len(y)} labels; give one a label")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ProbeError(
            f"{(~finite).sum()} of {len(x)} vectors hold NaN or infinity, the first is row "
            f"{int(finite.argmin())}; a probe needs finite ones"
        )
    return x, y


def _share(y: np.ndarray, rows: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A share of each class, one clip at least; larger shares of a seed hold the smaller ones."""
    rng = np.random.default_rng(seed)
    kept = []
    for name in np.unique(y[rows]):
        members = rng.permutation(rows[y[rows] == name])
        kept.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(kept))


def _unit(x: Vectors) -> Vectors:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny)
