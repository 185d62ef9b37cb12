"""What changed between two encoders on the same clips: every number, paired.

    changes(evaluate("mini", corpus), evaluate("mini-rewire", corpus))["classes"]["emotion"]

Made of two results of `evaluation.evaluate` and their embedding tables: no encoder is loaded and no
probe is fitted again. Both sides of an interval draw the same speakers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from refine.embeddings import open_embeddings, same_recordings
from refine.evaluation import table_of
from refine.factors import apart_of, labels_of
from refine.metrics import accuracy, classes, verification
from refine.metrics.change import change
from refine.metrics.influence import number, units
from refine.metrics.intervals import RESAMPLES, Number

PREDICTED = {
    "predictions": ("probe", "the linear probe's"),
    "knn": ("knn", "the nearest neighbours'"),
}  # in the detail of a probe -> what its numbers are called


class ComparisonError(ValueError):
    """Two results that cannot be compared. The message says why."""


def in_common(
    first: Sequence[str], second: Sequence[str]
) -> tuple[Int[np.ndarray, " clips"], Int[np.ndarray, " clips"]]:
    """Rows of the clips that two tables share, in the order of the first.

    >>> in_common(["a", "b", "c"], ["c", "a"])
    (array([0, 2]), array([1, 0]))
    """
    places = {clip: row for row, clip in enumerate(second)}
    rows = [(row, places[clip]) for row, clip in enumerate(first) if clip in places]
    mine, theirs = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    return mine, theirs


def changes(
    before: dict[str, Any], after: dict[str, Any], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """After minus before of isotropy and, by factor, class structure, probes and verification.

    Clips that only one side could encode are left out of both.
    Returns: `n_clips`, `isotropy` (name -> Number dict), `classes` and `verification` (factor ->
        name -> Number dict), `left_out_factors` (factor -> why).
    Raises: `ComparisonError` for results on other corpora or without a clip in common;
        `EmbeddingsError` for corpora that only share the names of their clips.
    """
    tables = [open_embeddings(table_of(side)) for side in (before, after)]
    same_recordings(tables)
    first, second = (table.table.fillna("") for table in tables)
    mine, theirs = in_common(first["clip"].tolist(), second["clip"].tolist())
    if before["corpus"] != after["corpus"] or len(mine) < 2:
        raise ComparisonError(
            f"{before['encoder']} was measured on {before['corpus']} and {after['encoder']} on "
            f"{after['corpus']}, with {len(mine)} clips in common; measure both on the same clips"
        )
    x = tables[0].vectors(before["layer"])[mine].astype(np.float64)
    z = tables[1].vectors(after["layer"])[theirs].astype(np.float64)
    table = first.iloc[mine].reset_index(drop=True)
    speakers = None
    if "speaker" in table and (table["speaker"] != "").any():
        speakers = table["speaker"].to_numpy(dtype=object)
    found: dict[str, Any] = {
        "n_clips": len(mine),
        "isotropy": _dicts(change(x, z, speakers, seed, resamples)),
        "classes": {},
        "verification": {},
    }
    left_out: dict[str, str] = {}
    for factor in [name for name in table.columns if name != "clip"]:
        try:
            labels = labels_of(table, factor)
            spread = classes.change(x, z, labels, speakers, seed, resamples)
            probed = probe_changes(before, after, factor, seed, resamples)
            found["classes"][factor] = _dicts(spread | probed)
            trials = verification.trials_from_factor(labels, apart_of(table, factor), seed=seed)
            scores, others = (verification.cosine_scores(side, trials) for side in (x, z))
            of = verification.drawn(len(table), speakers, seed)
            found["verification"][factor] = _dicts(
                verification.change(scores, others, trials, of, seed, resamples)
            )
        except ValueError as error:
            left_out[factor] = str(error)
    return found | {"left_out_factors": left_out}


def probe_changes(
    before: dict[str, Any],
    after: dict[str, Any],
    factor: str,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Number]:
    """Of the predictions of probe and neighbours on the test clips of both; else empty."""
    sides = [side["probes"].get(factor) for side in (before, after)]
    if None in sides:
        return {}
    places = {clip: row for row, clip in enumerate(sides[1]["clips"])}
    both = [(row, places[clip]) for row, clip in enumerate(sides[0]["clips"]) if clip in places]
    if len(both) < 2:
        return {}
    rows = [[pair[side] for pair in both] for side in (0, 1)]
    speakers = sides[0]["speakers"]
    of = units(len(both), None if speakers is None else [speakers[r] for r in rows[0]], seed=seed)
    names = sorted({*sides[0]["classes"], *sides[1]["classes"]})
    found = {}
    for key, (name, who) in PREDICTED.items():
        if any(key not in side for side in sides):
            continue  # an evaluation of an earlier version kept the probe's alone
        first, second = (
            accuracy.statistics(
                [side["truth"][r] for r in kept], [side[key][r] for r in kept], names, of
            )
            for side, kept in zip(sides, rows, strict=True)
        )
        for metric in first if key == "predictions" else ("accuracy", "uar"):
            found[f"{name}_{metric}"] = number(
                second[metric].minus(first[metric]),
                of,
                f"Change of {who} {metric}, after minus before on the same test clips.",
                (-1.0, 1.0),
                resamples,
                seed,
                direction="higher",
                null=0.0,
            )
    return found


def _dicts(numbers: dict[str, Number]) -> dict[str, dict[str, Any]]:
    return {name: one.as_dict() for name, one in numbers.items()}
