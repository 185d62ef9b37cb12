"""The pair of maps of the classes page: click a clip or lasso a group, the rest turns grey."""

from collections.abc import Callable

from pages.components import point_map
from pages.components.changes import short
from pages.components.point_map import Marked, Panel
from refine.maps import Map

KEY = "class_map"


def show(
    drawn: Map,
    factor: str,
    marked: Marked,
    lasso: bool,
    fit: bool,
    chosen: Callable[[list[int], bool], None],
) -> None:
    """Draw the maps.

    Args:
        lasso: whether dragging selects; else it moves the map, and Shift with it selects.
        fit: a window a panel instead of one for both.
        chosen: called with rows and whether they are a group, before the next run.
    """
    point_map.show(
        KEY,
        f"Maps of {len(drawn.table):,} clips coloured by {factor}",
        [Panel(role, note(drawn, role), xy) for role, xy in drawn.xy.items()],
        drawn.table,
        factor,
        marked,
        chosen,
        lasso=lasso,
        fit=fit,
    )


def note(drawn: Map, role: str) -> str:
    """How far this map can be trusted."""
    trust = {name: number.value for name, number in drawn.quality[role].items()}
    parts = [f"neighbours kept {trust['neighbours_kept']:.0%}"]
    parts.append(f"trust {trust['trustworthiness']:.2f}")
    if role in drawn.shown:
        parts.append(f"spread shown {drawn.shown[role]:.0%}")
    if "seed_agreement" in trust:
        parts.append(f"another seed keeps {trust['seed_agreement']:.0%}")
    return " · ".join(parts)


def caption(drawn: Map) -> str:
    """The qualities with interval and null, and how the map was made."""
    names = {
        "trustworthiness": "trustworthiness",
        "neighbours_kept": "neighbours kept",
        "seed_agreement": "neighbours kept by another seed",
    }
    told = []
    for name, words in names.items():
        sides = [
            f"{short(one.value)} ({short(one.low)} to {short(one.high)})"
            for one in (numbers.get(name) for numbers in drawn.quality.values())
            if one is not None
        ]
        first = next(iter(drawn.quality.values())).get(name)
        if first is not None and first.null is not None:
            told.append(f"{words} {' → '.join(sides)}, of a blind map {short(first.null)}")
    return f"{drawn.note} How far to trust it: {'; '.join(told)}."
