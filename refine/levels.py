"""Where a run's loss starts and what it cannot go below, as lines for its curves.

    of("dino", config, run.metrics())["total"]      # [Level(11.09, "ln K: …")]

A loss of 3.4 is no failure where 3.43 is the least that the batch allows. Formulas and papers:
`refine.losses.bounds`. No torch here.
"""

from typing import Any, NamedTuple

import pandas as pd

from refine.losses import bounds

LEAST = "least possible, mean log|P|"


class Level(NamedTuple):
    """A horizontal line of a curve."""

    value: float  # nats
    label: str


def of(recipe: str, config: Any, rows: pd.DataFrame) -> dict[str, list[Level]]:
    """Column of the log -> the lines to draw with it; none for what has neither start nor floor.

    Args:
        recipe: a name of `refine.recipes.RECIPES`. config: its dataclass.
        rows: what the run has logged (`Run.metrics`): SupCon's floor depends on the labels of each
            batch, so its median over the steps so far is drawn.
    """
    found = _starts(recipe, config)
    for column in rows.columns:
        if column == "floor":
            _add(found, "total", rows[column], "least possible")
        elif column.startswith("floor_"):
            _add(found, f"supcon_{column.removeprefix('floor_')}", rows[column], LEAST)
    if {"contrastive", "gap"} <= set(rows.columns):
        _add(found, "contrastive", rows["contrastive"] - rows["gap"], LEAST)
    return found


def _starts(recipe: str, config: Any) -> dict[str, list[Level]]:
    if recipe == "rewire":
        start = bounds.info_nce_start(config.batch_size)
        return {"total": [Level(start, "nothing told apart, log(2N − 1)")]}
    if recipe == "dino":
        start = bounds.dino_start(config.outputs)
        told = [Level(start, "the student says nothing, ln K")]
        return {"total": told, "dino": told, "entropy": [Level(start, "all outputs alike, ln K")]}
    if recipe == "two_step" and config.contrastive == "triplet":
        return {"contrastive": [Level(config.margin, "nothing told apart, the margin")]}
    return {}


def _add(found: dict[str, list[Level]], column: str, floors: pd.Series, label: str) -> None:
    floor = float(floors.median())
    if floor > 0:  # a floor of 0 is the axis, and NaN nothing
        found[column] = [*found.get(column, []), Level(floor, label)]
