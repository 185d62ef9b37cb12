"""The pair of maps of the classes page: click a clip or lasso a group, the rest turns grey."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from pages.components import figures, maps, theme
from pages.components.changes import short
from refine.maps import Map

KEY = "class_map"
NAMED = 5_000  # points that carry their clip's name; of more, the class alone is in the hover box


class Marked(NamedTuple):
    """What stands out: one clip with its neighbours, or a group."""

    clip: int | None  # row of the map
    near: Mapping[str, np.ndarray]  # role -> rows of its neighbours in that space
    group: np.ndarray | None  # rows

    @property
    def rows(self) -> np.ndarray | None:
        """Everything that keeps its colour, or None for all."""
        if self.group is not None:
            return self.group
        if self.clip is None:
            return None
        return np.unique(np.concatenate([[self.clip], *self.near.values()])).astype(int)


def show(
    drawn: Map,
    factor: str,
    marked: Marked,
    lasso: bool,
    fit: bool,
    chosen: Callable[[list[int]], None],
) -> None:
    """Draw the maps.

    Args:
        lasso: whether dragging selects; a click then selects nothing.
        fit: a window a panel instead of one for both.
        chosen: called with the rows of a click or a lasso, before the next run.
    """
    key = f"{KEY}_lasso" if lasso else KEY
    figure = draw(drawn, factor, marked, fit, 500)
    if lasso:
        figure.update_layout(dragmode="lasso")

    def remember() -> None:
        points = st.session_state[key]["selection"]["points"]
        # a lasso catches lines and the ring too, which are no clips
        rows = {
            int(np.ravel(p["customdata"])[0]) for p in points if p.get("customdata") is not None
        }
        # a figure that is drawn anew reports an empty selection; what was chosen stays chosen
        if rows:
            chosen(sorted(rows))

    figures.show(
        figure,
        key,
        f"Maps of {len(drawn.table)} clips coloured by {factor}, before and after",
        on_select=remember,
        selection_mode=("lasso", "box") if lasso else "points",
    )


def draw(drawn: Map, factor: str, marked: Marked, fit: bool, height: int) -> go.Figure:
    """A panel a space; what is not marked is grey, a star leads from a clip to its neighbours."""
    roles = list(drawn.xy)
    figure = make_subplots(
        rows=1,
        cols=len(roles),
        horizontal_spacing=0.03,
        subplot_titles=[title(drawn, role) for role in roles],
    )
    bright = np.ones(len(drawn.table), dtype=bool)
    if marked.rows is not None:
        bright = np.isin(np.arange(len(drawn.table)), marked.rows)
        _points(figure, drawn, "not chosen", np.flatnonzero(~bright), theme.quiet(), "circle", 0.35)
    for level, rows, colour, symbol in maps.groups(drawn.table, factor):
        _points(figure, drawn, level, rows[bright[rows]], colour, symbol, 0.9)
    for column, role in enumerate(roles, start=1):
        if marked.clip is not None and role in marked.near:
            _star(figure, drawn.xy[role], marked.clip, marked.near[role], role, column)
        if marked.clip is not None:
            maps.ring(figure, drawn.xy[role][marked.clip], column)
    _frame(figure, drawn, fit, height)
    return figure


def title(drawn: Map, role: str) -> str:
    """The role, and how far this map can be trusted."""
    trust = {name: number.value for name, number in drawn.quality[role].items()}
    parts = [f"<b>{role}</b>", f"neighbours kept {trust['neighbours_kept']:.0%}"]
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


def _points(
    figure: go.Figure,
    drawn: Map,
    level: str,
    rows: np.ndarray,
    colour: str,
    symbol: str,
    opacity: float,
) -> None:
    """One class in every panel, below WebGL's threshold as SVG, which is sharper."""
    n = len(drawn.table)
    if not len(rows):
        return
    scatter = go.Scattergl if n * len(drawn.xy) > maps.WEBGL_FROM else go.Scatter
    named = n <= NAMED
    for column, role in enumerate(drawn.xy, start=1):
        xy = drawn.xy[role][rows].astype(np.float32)
        marker: dict[str, Any] = {
            "size": float(np.clip(220 / np.sqrt(n), 5, 11)),
            "color": colour,
            "symbol": symbol,
            "opacity": opacity,
            "line": {"width": 0.5 if named else 0, "color": theme.paper()},
        }
        figure.add_trace(
            scatter(
                x=xy[:, 0],
                y=xy[:, 1],
                mode="markers",
                name=maps.hover_safe(level),
                legendgroup=level,
                showlegend=column == 1,
                customdata=rows.astype(np.int32),
                text=drawn.table["clip"].iloc[rows].map(maps.hover_safe) if named else None,
                marker=marker,
                selected={"marker": {"opacity": opacity}},
                unselected={"marker": {"opacity": opacity}},
                hovertemplate=("%{text}" if named else "")
                + f"<extra>{maps.hover_safe(level)}</extra>",
            ),
            row=1,
            col=column,
        )


def _star(
    figure: go.Figure, xy: np.ndarray, clip: int, near: np.ndarray, role: str, column: int
) -> None:
    """Lines from the clip to its nearest clips in this very space."""
    ends = np.full((len(near), 3, 2), np.nan)
    ends[:, 0], ends[:, 1] = xy[clip], xy[near]
    lines = ends.reshape(-1, 2)
    colour = theme.before() if role == "before" else theme.after()
    figure.add_scatter(
        x=lines[:, 0],
        y=lines[:, 1],
        mode="lines",
        line={"color": theme.rgba(colour, 0.75), "width": 2},
        hoverinfo="skip",
        showlegend=False,
        row=1,
        col=column,
    )


def _frame(figure: go.Figure, drawn: Map, fit: bool, height: int) -> None:
    """One window and scale for both panels: distances can be compared by eye; unless to fit."""
    figures.style(figure, height, dragmode="pan")
    figure.update_layout(
        margin={"t": 34, "b": 56},
        legend={"y": -0.04, "yanchor": "top", "font": {"size": 14}, "itemsizing": "constant"},
        uirevision=f"refine {fit}",
    )
    box = {"showline": True, "mirror": True, "linecolor": theme.ink(0.2), "linewidth": 1}
    figure.update_xaxes(showticklabels=False, showgrid=False, ticks="", **box)
    figure.update_yaxes(showticklabels=False, showgrid=False, ticks="", **box)
    for column, role in enumerate(drawn.xy, start=1):
        extent = maps.limits({role: drawn.xy[role]} if fit else drawn.xy)
        figure.update_xaxes(range=extent[0], row=1, col=column)
        figure.update_yaxes(
            range=extent[1], scaleanchor=f"x{column}", scaleratio=1, row=1, col=column
        )
    for annotation, start in zip(figure.layout.annotations, (0.0, 0.515), strict=False):
        annotation.update(x=start, xanchor="left", yshift=8, font={"size": 14})
