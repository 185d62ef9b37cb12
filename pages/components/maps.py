"""Two maps of the same clips in one joint projection: choose a point in either, find it in both."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from pages.components import figures, theme

WEBGL_FROM = 3_000  # points; below, SVG is sharper and has no limit of contexts
SYMBOLS = ("circle", "diamond", "square", "cross", "x", "triangle-up", "star", "triangle-down")


def pair(
    spaces: dict[str, np.ndarray],
    titles: dict[str, str],
    table: pd.DataFrame,
    factor: str | None,
    key: str,
    height: int = 460,
) -> int | None:
    """Draw the maps; returns the row that was chosen last, or None.

    Args:
        spaces: "before" and "after" -> coordinates, shape (n, 2), rows as in `table`.
        factor: the column that colours the points.
    """
    chosen = st.session_state.get(f"{key}_chosen")
    if chosen is not None and chosen >= len(table):
        chosen = None
    figure = draw(spaces, titles, table, factor, chosen, height)

    def remember() -> None:
        points = st.session_state[key]["selection"]["points"]
        # a redrawn figure reports an empty selection; what was chosen stays chosen
        if points:
            st.session_state[f"{key}_chosen"] = int(np.ravel(points[0]["customdata"])[0])
            st.session_state[f"{key}_play"] = True

    figures.show(
        figure,
        key,
        f"Map of {len(table)} clips, before and after, coloured by {factor or 'nothing'}",
        on_select=remember,
        selection_mode="points",
    )
    return chosen


def draw(
    spaces: dict[str, np.ndarray],
    titles: dict[str, str],
    table: pd.DataFrame,
    factor: str | None,
    chosen: int | None,
    height: int,
) -> go.Figure:
    """The figure: a panel a space, a trace a level, a ring around the chosen clip."""
    roles = list(spaces)
    figure = make_subplots(
        rows=1,
        cols=len(roles),
        horizontal_spacing=0.03,
        subplot_titles=[titles[role] for role in roles],
    )
    scatter = go.Scattergl if len(table) * len(roles) > WEBGL_FROM else go.Scatter
    size = float(np.clip(220 / np.sqrt(len(table)), 5, 11))
    for level, rows, colour, symbol in groups(table, factor):
        for column, role in enumerate(roles, start=1):
            xy = spaces[role][rows]
            figure.add_trace(
                scatter(
                    x=xy[:, 0],
                    y=xy[:, 1],
                    mode="markers",
                    name=level,
                    legendgroup=level,
                    showlegend=column == 1 and factor is not None,
                    customdata=rows,
                    text=table["clip"].iloc[rows],
                    marker={
                        "size": size,
                        "color": colour,
                        "symbol": symbol,
                        "opacity": 0.85,
                        "line": {"width": 0.5, "color": theme.paper()},
                    },
                    selected={"marker": {"opacity": 1.0}},
                    unselected={"marker": {"opacity": 0.85}},
                    hovertemplate="%{text}<extra>" + hover_safe(level) + "</extra>",
                ),
                row=1,
                col=column,
            )
    if chosen is not None:
        for column, role in enumerate(roles, start=1):
            ring(figure, spaces[role][chosen], column)
    figures.style(figure, height, dragmode="pan")
    figure.update_layout(
        margin={"t": 34, "b": 56},
        legend={"y": -0.04, "yanchor": "top", "font": {"size": 14}, "itemsizing": "constant"},
    )
    box = {"showline": True, "mirror": True, "linecolor": theme.ink(0.2), "linewidth": 1}
    figure.update_xaxes(showticklabels=False, showgrid=False, ticks="", **box)
    figure.update_yaxes(showticklabels=False, showgrid=False, ticks="", **box)
    extent = limits(spaces)
    for column in range(1, len(roles) + 1):
        # the same window and scale in both: distances can be compared by eye
        figure.update_xaxes(range=extent[0], row=1, col=column)
        figure.update_yaxes(
            range=extent[1], scaleanchor=f"x{column}", scaleratio=1, row=1, col=column
        )
    for annotation, start in zip(figure.layout.annotations, (0.0, 0.515), strict=False):
        annotation.update(x=start, xanchor="left", yshift=8, font={"size": 15})
    return figure


def ring(figure: go.Figure, xy: np.ndarray, column: int) -> None:
    """Mark the chosen clip."""
    for size, colour, width in ((22, theme.paper(), 6), (22, theme.ink(), 3)):
        figure.add_scatter(
            x=[xy[0]],
            y=[xy[1]],
            mode="markers",
            marker={
                "size": size,
                "symbol": "circle-open",
                "color": colour,
                "line": {"width": width},
            },
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=column,
        )


def groups(table: pd.DataFrame, factor: str | None) -> list[tuple[str, np.ndarray, str, str]]:
    """Level, its rows, its colour and symbol; levels beyond the palette stand back together."""
    if factor is None:
        return [("clips", np.arange(len(table)), theme.after(), "circle")]
    counts = table[factor][table[factor] != ""].value_counts()
    levels: Sequence[Any] = sorted(counts.index[: len(theme.palette())])
    values = table[factor].to_numpy()
    found = [
        (str(level), np.flatnonzero(values == level), colour, symbol)
        for level, colour, symbol in zip(levels, theme.palette(), SYMBOLS, strict=False)
    ]
    rest = np.flatnonzero(~np.isin(values, list(levels)))
    if len(rest):
        n = len(counts) - len(levels)
        name = f"{n} others" if n > 0 else "unknown"
        found.insert(0, (name, rest, theme.quiet(), "circle"))
    return found


def limits(spaces: dict[str, np.ndarray]) -> tuple[list[float], list[float]]:
    """One window around all points of all panels."""
    every = np.concatenate(list(spaces.values()))
    low, high = every.min(axis=0), every.max(axis=0)
    pad = 0.05 * (high - low) + 1e-9
    return (
        [float(low[0] - pad[0]), float(high[0] + pad[0])],
        [float(low[1] - pad[1]), float(high[1] + pad[1])],
    )


def hover_safe(text: str) -> str:
    """A label shown as text in a hover box, which otherwise reads some HTML and templates."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "% {")
