"""The linked maps: many clips in one or two spaces, drawn by a component of our own.

Plotly redraws every point for each click, in a second and more at 20 000 points without a graphics
card. Here a click, a lasso or the pointer is answered in the browser, in every panel at once; the
script is only told what was chosen.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float, Int

from pages.components import theme
from refine import paths

SCRIPTS = (
    "../element.js",
    "shapes.js",
    "panel.js",
    "save.js",
    "view.js",
)  # the last one holds the export
SYMBOLS = ("circle", "diamond", "square", "cross", "x", "triangle-up", "star", "triangle-down")
RADIUS = (2.5, 5.5)  # px, of many and of few points

Rows = Int[np.ndarray, " rows"]


class Panel(NamedTuple):
    """One space: the coordinates of the clips, and what to say of the map."""

    role: str  # before, after
    note: str
    xy: Float[np.ndarray, "n 2"]


class Marked(NamedTuple):
    """What stands out: one clip with its neighbours, or a group."""

    clip: int | None  # row of the map
    near: Mapping[str, Rows]  # role -> rows of its neighbours in that space
    group: Rows | None

    @property
    def rows(self) -> Rows | None:
        """Everything that keeps its colour, or None for all."""
        if self.group is not None:
            return self.group
        if self.clip is None or not self.near:
            return None
        return np.unique(np.concatenate([[self.clip], *self.near.values()])).astype(int)


NOTHING = Marked(None, {}, None)


class Group(NamedTuple):
    """Clips of one class."""

    name: str
    rows: Rows
    colour: str
    symbol: str


def show(
    key: str,
    alt: str,
    panels: Sequence[Panel],
    table: pd.DataFrame,
    factor: str | None,
    marked: Marked,
    chosen: Callable[[list[int], bool], None],
    *,
    dim: bool = True,
    lasso: bool = False,
    fit: bool = False,
    height: int = 480,
) -> None:
    """Draw the maps.

    Args:
        alt: what they show, for those who do not see it.
        table: `clip` and the factors, a row a point.
        factor: the column that colours the points.
        chosen: called with rows and whether they are a lassoed group, before the next run.
        dim: what is not chosen turns grey at once.
        lasso: dragging selects instead of moving; Shift does the other.
        fit: a window a panel instead of one for both.
        height: of a panel, px.
    """

    def remember() -> None:
        what = st.session_state[key]["chosen"]
        if what:
            chosen([int(row) for row in what["rows"]], bool(what["group"]))

    script, style = _assets()
    draw = st.components.v2.component("refine_map", html="<div></div>", css=style, js=script)
    data = payload(alt, panels, table, factor, marked, fit)
    draw(
        key=key,
        data=data | {"dim": dim, "lasso": lasso, "height": height, "file": f"refine {key}"},
        on_chosen_change=remember,
    )


def payload(
    alt: str,
    panels: Sequence[Panel],
    table: pd.DataFrame,
    factor: str | None,
    marked: Marked,
    fit: bool,
) -> dict[str, Any]:
    """What `assets/map/view.js` draws. Names go as text, never as markup."""
    found = groups(table, factor)
    n = len(table)
    group = np.zeros(n, dtype=np.uint8)
    for i, one in enumerate(found):
        group[one.rows] = i
    spaces = {panel.role: panel.xy for panel in panels}
    rows = marked.rows
    places = [_packed(panel.xy.astype(np.float32)) for panel in panels]
    return {
        "alt": alt,
        "n": n,
        "names": table["clip"].astype(str).tolist(),
        "group": _packed(group),
        "order": _packed(order(found, n)),
        "groups": [
            {"name": one.name, "colour": one.colour, "symbol": one.symbol,
             "listed": factor is not None} for one in found
        ],
        "panels": [
            {
                "role": panel.role,
                "note": panel.note,
                "xy": xy,
                "range": limits({panel.role: panel.xy} if fit else spaces),
                "star": [int(row) for row in marked.near.get(panel.role, ())],
            }
            for panel, xy in zip(panels, places, strict=True)
        ],
        "chosen": marked.clip,
        "marked": None if rows is None else [int(row) for row in rows],
        "radius": float(np.clip(110 / np.sqrt(max(n, 1)), *RADIUS)),
        "colors": {
            "ink": theme.ink(),
            "paper": theme.paper(),
            "quiet": theme.quiet(),
            "before": theme.before(),
            "after": theme.after(),
        },
        "stamp": hashlib.sha256("".join([*places, str(fit)]).encode()).hexdigest()[:16],
    }  # fmt: skip


def groups(table: pd.DataFrame, factor: str | None) -> list[Group]:
    """Classes with colour and symbol; those beyond the palette stand back together."""
    if factor is None:
        return [Group("clips", np.arange(len(table)), theme.after(), "circle")]
    values = table[factor].astype(str).to_numpy()
    counts = table[factor][table[factor] != ""].astype(str).value_counts()
    levels = sorted(counts.index[: len(theme.palette())])
    found = [
        Group(level, np.flatnonzero(values == level), colour, symbol)
        for level, colour, symbol in zip(levels, theme.palette(), SYMBOLS, strict=False)
    ]
    rest = np.flatnonzero(~np.isin(values, levels))
    if len(rest):
        others = len(counts) - len(levels)
        name = f"{others} other{'s' * (others > 1)}" if others else "unknown"
        found.insert(0, Group(name, rest, theme.quiet(), "circle"))
    return found


def order(found: Sequence[Group], n: int) -> Rows:
    """In which order the points are drawn: others first, then the classes mixed, so that none
    hides another by its place in the alphabet."""
    rows = np.random.default_rng(0).permutation(n)
    front = np.ones(n, dtype=bool)
    for one in found:
        if one.colour == theme.quiet():
            front[one.rows] = False
    return rows[np.argsort(front[rows], kind="stable")].astype(np.int32)


def limits(spaces: Mapping[str, Float[np.ndarray, "n 2"]]) -> list[float]:
    """One window around all points of all panels: x from, to, y from, to."""
    every = np.concatenate(list(spaces.values()))
    low, high = every.min(axis=0), every.max(axis=0)
    pad = 0.05 * (high - low) + 1e-9
    return [
        float(v) for v in (low[0] - pad[0], high[0] + pad[0], low[1] - pad[1], high[1] + pad[1])
    ]


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


@cache
def _assets() -> tuple[str, str]:
    folder = paths.ASSETS / "map"
    scripts = [(folder / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join(scripts), (folder / "map.css").read_text(encoding="utf-8")
