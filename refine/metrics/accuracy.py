"""How well classes were predicted: accuracy, UAR, macro-F1, with intervals by speaker.

Notation: y_i the true class, p_i the predicted one; K classes; N_c clips of class c.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from refine.metrics.influence import (
    Smooth,
    Units,
    mean_over_classes,
    number,
    owners,
    table,
    units,
)
from refine.metrics.intervals import RESAMPLES, Groups, Number

Labels = Sequence[Any] | np.ndarray


def confusion(
    truth: Labels, predicted: Labels, classes: Labels
) -> Int[np.ndarray, "classes classes"]:
    """Clips by true class (rows) and predicted class (columns), in the order of `classes`.

    Raises: `ValueError` for a label that is no class, or lists of different length.
    """
    y, p = _codes(truth, classes, "truth"), _codes(predicted, classes, "predicted")
    if len(y) != len(p):
        raise ValueError(f"got {len(y)} true labels and {len(p)} predicted ones")
    k = len(classes)
    return np.bincount(y * k + p, minlength=k * k).reshape(k, k)


def accuracy(truth: Labels, predicted: Labels) -> float:
    """Share of clips predicted right (weighted accuracy, micro-F1). Range 0 to 1."""
    return float(np.mean(np.asarray(truth) == np.asarray(predicted)))


def uar(truth: Labels, predicted: Labels) -> float:
    """Unweighted average recall: the mean over true classes of the share predicted right.

    Range 0 to 1; a constant guess gets 1 / K. Classes without a clip do not count.
    """
    counts = confusion(truth, predicted, _all(truth, predicted))
    n = counts.sum(axis=1)
    return float((np.diag(counts)[n > 0] / n[n > 0]).mean())


def macro_f1(truth: Labels, predicted: Labels) -> float:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN). Range 0 to 1.

    Over the classes that are true or predicted somewhere, as scikit-learn's.
    """
    counts = confusion(truth, predicted, _all(truth, predicted))
    return float((2 * np.diag(counts) / (counts.sum(axis=1) + counts.sum(axis=0))).mean())


def statistics(
    truth: Labels,
    predicted: Labels,
    classes: Labels,
    of: Units,
) -> dict[str, Smooth]:
    """accuracy, uar and macro_f1 with their influences, for `measure` and for paired changes."""
    y, p = _codes(truth, classes, "truth"), _codes(predicted, classes, "predicted")
    if len(y) != len(p):
        raise ValueError(f"got {len(y)} true labels and {len(p)} predicted ones")
    k = len(classes)
    right = (y == p).astype(np.float64)
    n, hits, said = table(of, y, k), table(of, y, k, right), table(of, p, k)
    return recalls(n, hits) | {"macro_f1": _macro_f1(n, hits, said)}


def recalls(
    n: Float[np.ndarray, "units k"], hits: Float[np.ndarray, "units k"]
) -> dict[str, Smooth]:
    """accuracy and uar from clips and right ones (which may be shares) by unit and class."""
    share = hits.sum() / n.sum()
    accuracy = Smooth(float(share), (hits - share * n).sum(axis=1) / n.sum())
    there = n.sum(axis=0) > 0
    n, hits = n[:, there], hits[:, there]
    recall = hits.sum(axis=0) / n.sum(axis=0)
    influence = (hits - recall * n) / n.sum(axis=0)
    return {"accuracy": accuracy, "uar": mean_over_classes(recall, influence, owners(n))}


def measure(
    truth: Labels,
    predicted: Labels,
    classes: Labels | None = None,
    speakers: Groups | None = None,
    *,
    guess: Any = None,
    control: dict[str, float] | None = None,
    what: str = "",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Number]:
    """accuracy, uar and macro_f1 as Numbers.

    Args:
        guess: the class a blind predictor says always (the commonest in training); the null is
            what it reaches. By default the commonest true class.
        control: values of the three on shuffled labels. what: of which predictor, for definitions.
    Raises: `ValueError` for lists of different length, an unknown label, less than two clips.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    classes = _all(truth, predicted) if classes is None else classes
    of = units(len(truth), speakers, seed=seed)
    if guess is None:
        guess = max(_all(truth, truth), key=lambda label: (truth == label).sum())
    blind = statistics(truth, np.full(len(truth), guess, dtype=object), classes, of)
    found = {}
    for name, smooth in statistics(truth, predicted, classes, of).items():
        found[name] = number(
            smooth,
            of,
            f"{ABOUT[name]}{what}. Null: always the commonest training class."
            + (" Control: labels shuffled before fitting." if control else ""),
            (0.0, 1.0),
            resamples,
            seed,
            direction="higher",
            null=blind[name].value,
            control=None if control is None else control[name],
        )
    return found


ABOUT = {
    "accuracy": "Share of clips whose class is predicted right",
    "uar": "Unweighted average recall, the mean over classes of the share predicted right",
    "macro_f1": "Mean over classes of F1 = 2 TP / (2 TP + FP + FN)",
}


def _macro_f1(
    n: Float[np.ndarray, "units k"],
    hits: Float[np.ndarray, "units k"],
    said: Float[np.ndarray, "units k"],
) -> Smooth:
    both = n + said
    there = both.sum(axis=0) > 0
    both, hits, n = both[:, there], hits[:, there], n[:, there]
    f1 = 2 * hits.sum(axis=0) / both.sum(axis=0)
    influence = (2 * hits - f1 * both) / both.sum(axis=0)
    return mean_over_classes(f1, influence, owners(n))


def _codes(labels: Labels, classes: Labels, name: str) -> Int[np.ndarray, " n"]:
    order = {label: code for code, label in enumerate(classes)}
    try:
        return np.array([order[label] for label in labels], dtype=np.int64)
    except KeyError as error:
        raise ValueError(f"{name}: {error.args[0]!r} is none of the {len(order)} classes") from None


def _all(truth: Labels, predicted: Labels) -> list[Any]:
    return sorted({*np.asarray(truth).tolist(), *np.asarray(predicted).tolist()}, key=str)
