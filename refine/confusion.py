"""What a linear probe confuses: matrices before and after, and the clips behind every cell.

    found = matrices({"before": result, "after": other}, "emotion")
    found.counts["after"], cell(clips(results, "emotion"), "after", "anger", "fear")

Made of the predictions that `evaluation.evaluate` keeps; nothing is fitted.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int

from refine.metrics import accuracy

MOST_CLASSES = 24  # in a matrix; of more, the ones most often confused

Results = Mapping[str, dict[str, Any]]


class Confusion(NamedTuple):
    """Rows true, columns predicted, in the order of `names`; the same classes for each role."""

    names: list[str]
    counts: dict[str, Int[np.ndarray, "k k"]]
    n: int  # test clips
    left_out: int  # classes that are not shown
    outside: dict[str, int]  # clips that are then in no cell


def clips(results: Results, factor: str) -> pd.DataFrame:
    """The test clips that all results have: `clip`, `truth`, and what each probe says by role.

    `turn`: "right", "fixed" (wrong before, right after), "broken" or "wrong"; of one result
    "right" or "wrong". Empty where a result has no probe of the factor.
    """
    frames: list[pd.DataFrame] = []
    for role, result in results.items():
        detail = result["probes"].get(factor)
        if detail is None:
            return pd.DataFrame({"clip": [], "truth": [], **{role: [] for role in results}})
        frame = pd.DataFrame({"clip": detail["clips"], role: detail["predictions"]})
        frames.append(frame.assign(truth=detail["truth"]) if not frames else frame)
    table = frames[0]
    for other in frames[1:]:
        table = table.merge(other, on="clip")
    right = [table[role] == table["truth"] for role in results]
    first, last = right[0], right[-1]
    turn = np.select([first & last, last, first], ["right", "fixed", "broken"], "wrong")
    return table[["clip", "truth", *results]].assign(turn=turn)


def matrices(results: Results, factor: str, most: int = MOST_CLASSES) -> Confusion | None:
    """Confusion matrices on the same test clips, or None where there is no probe of the factor.

    Of more than `most` classes, those with the most wrong clips (by either) are kept.
    """
    table = clips(results, factor)
    if not len(table):
        return None
    names = sorted(set(table["truth"]) | {name for role in results for name in table[role]})
    whole = {
        role: accuracy.confusion(table["truth"].tolist(), table[role].tolist(), names)
        for role in results
    }
    kept = np.arange(len(names))
    if len(names) > most:
        wrong = sum(_wrong(counts) for counts in whole.values())
        kept = np.sort(np.argsort(-wrong, kind="stable")[:most])
    counts = {role: found[np.ix_(kept, kept)] for role, found in whole.items()}
    return Confusion(
        [names[row] for row in kept],
        counts,
        len(table),
        len(names) - len(kept),
        {role: len(table) - int(found.sum()) for role, found in counts.items()},
    )


def cell(table: pd.DataFrame, role: str, truth: str, said: str) -> pd.DataFrame:
    """The clips of one cell of the matrix of a role; `table` as of `clips`."""
    return table[(table["truth"] == truth) & (table[role] == said)].reset_index(drop=True)


def _wrong(counts: Int[np.ndarray, "k k"]) -> Int[np.ndarray, " k"]:
    return counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
