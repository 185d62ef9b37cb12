"""Charts with one look. They are given numbers and draw them; nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from pages.components import theme
from refine.levels import Level

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
    "toImageButtonOptions": {"format": "svg"},  # assets/theme/downloads.js has PNG beside it
}


def show(figure: go.Figure, key: str, alt: str, **selection: Any) -> Any:
    """Draw a figure at the width of its column; as a file it bears its key."""
    named = {"toImageButtonOptions": CONFIG["toImageButtonOptions"] | {"filename": f"refine {key}"}}
    return st.plotly_chart(figure, key=key, config=CONFIG | named, alt=alt, **selection)


def style(figure: go.Figure, height: int, x: str = "", y: str = "", **layout: Any) -> go.Figure:
    """Give a figure the shared look."""
    shared = look(height, x, y)
    axes = {name: shared.pop(name) for name in ("xaxis", "yaxis")}
    figure.update_layout(shared | layout)
    figure.update_xaxes(axes["xaxis"])
    figure.update_yaxes(axes["yaxis"])
    return figure


def look(height: int, x: str = "", y: str = "") -> dict[str, Any]:
    """The shared look: no box, thin grid, axis titles that say the unit, legend above.

    A figure made at once of data and layout is built several times as fast as one that is updated.
    """
    return {
        "height": height,
        "margin": {"l": 8, "r": 14, "t": 30, "b": 8},
        "font": {"size": 14},
        "hoverlabel": {"font": {"size": 14}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "title": None},
        "uirevision": "refine",
        "xaxis": axis(x),
        "yaxis": axis(y),
    }


def axis(title: str = "") -> dict[str, Any]:
    """An axis of the shared look."""
    return {"title": {"text": title, "standoff": 12}, "automargin": True, "zeroline": False}


def durations(seconds: np.ndarray, height: int) -> go.Figure:
    """How long the clips are."""
    low, high = float(seconds.min()), float(seconds.max())
    bins = {"start": low, "end": high, "size": (high - low) / 30} if high > low else None
    bars = {
        "type": "histogram",
        "x": seconds,
        "xbins": bins,
        "nbinsx": None if bins else 1,
        "marker": {"color": theme.after(), "line": {"width": 0}},
        "hovertemplate": "%{x} s: %{y} clips<extra></extra>",
    }
    layout = look(height, "length (s)", "clips") | {"bargap": 0.06}
    layout["margin"] |= {"t": 10}
    if not bins:
        layout["xaxis"] |= {"range": [0, 2 * high]}
    return go.Figure({"data": [bars], "layout": layout})


def training(
    rows: pd.DataFrame,
    lines: Mapping[str, str],
    height: int = 300,
    total: int = 0,
    levels: Mapping[str, Sequence[Level]] | None = None,
) -> go.Figure:
    """Curves over steps, each on an axis of its own. A noisy one gets a smooth line over it.

    `lines`: column -> label. `levels`: column -> where it starts, what it cannot go below.
    """
    named = len(lines) > 2  # names stand above low charts, beside high ones
    figure = make_subplots(
        rows=len(lines), cols=1, shared_xaxes=True, vertical_spacing=0.12 if named else 0.09,
        subplot_titles=list(lines.values()) if named else None,
    )  # fmt: skip
    figure.update_annotations(x=0, xanchor="left", font={"size": 13.5})
    colour = theme.after()
    for number, (column, label) in enumerate(lines.items(), start=1):
        line = rows[["step", column]].dropna()
        noisy = len(line) > 40
        values = [(line[column], 1.2 if noisy else 2.8, 0.35 if noisy else 1.0, label)]
        if noisy:
            smooth = line[column].ewm(span=max(5, len(line) // 20)).mean()
            values.append((smooth, 2.8, 1.0, f"{label}, smoothed"))
        for y, width, alpha, name in values:
            figure.add_scatter(
                x=line["step"],
                y=y,
                mode="lines" if len(line) > 25 else "lines+markers",
                line={"color": theme.rgba(colour, alpha), "width": width},
                marker={"size": 7, "color": colour},
                hovertemplate=f"step %{{x}}: %{{y:.4g}}<extra>{name}</extra>",
                row=number,
                col=1,
            )
        for level in (levels or {}).get(column, []):
            _level(figure, level, max(total, int(rows["step"].max())), number)
    style(figure, height, hovermode="x unified", showlegend=False)
    figure.update_layout(margin={"t": 26 if named else 8})
    for number, label in enumerate(lines.values(), start=1):
        title = "" if named else label
        figure.update_yaxes(title={"text": title}, nticks=5, row=number, col=1)
    figure.update_xaxes(title={"text": "step"}, row=len(lines), col=1)
    if total:
        figure.update_xaxes(range=[-0.01 * total, total * 1.01])
    return figure


def _level(figure: go.Figure, level: Level, last: int, row: int) -> None:
    """A dotted line with its name; a trace, since the axis makes room for no shape."""
    figure.add_scatter(
        x=[0, last / 2, last],
        y=[level.value] * 3,
        mode="lines+text",
        text=["", f"{level.label}: {level.value:.3g}", ""],
        textposition="top center",
        textfont={"size": 13, "color": theme.ink(0.75)},
        line={"color": theme.ink(0.6), "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
        row=row,
        col=1,
    )


PAIR_STYLE = {
    "before": {"dash": "dot", "symbol": "circle-open"},
    "after": {"dash": "solid", "symbol": "circle"},
}


def layers(
    curves: Mapping[str, Sequence[dict[str, Any]]], names: Sequence[str], y: str, height: int = 330
) -> go.Figure:
    """A metric per layer with its interval, before and after."""
    figure = go.Figure()
    for role, numbers in curves.items():
        colour = theme.before() if role == "before" else theme.after()
        value = [n["value"] for n in numbers]
        low, high = [n["low"] for n in numbers], [n["high"] for n in numbers]
        figure.add_scatter(
            x=[*names, *reversed(names)],
            y=[*high, *reversed(low)],
            fill="toself",
            fillcolor=theme.rgba(colour, 0.16),
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=list(names),
            y=value,
            name=role,
            mode="lines+markers",
            line={"color": colour, "width": 3, "dash": PAIR_STYLE[role]["dash"]},
            marker={"size": 9, "symbol": PAIR_STYLE[role]["symbol"], "line": {"width": 2}},
            customdata=np.column_stack([low, high]),
            hovertemplate="%{y:.3g} (%{customdata[0]:.3g} to %{customdata[1]:.3g})"
            f"<extra>{role}</extra>",
        )
    style(figure, height, "layer", y, hovermode="x unified")
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=list(names))
    return figure


def spectra(curves: Mapping[str, Sequence[float]], height: int = 330) -> go.Figure:
    """Singular values, largest first, over the largest; a flat line is a perfectly even space."""
    figure = go.Figure()
    for role, values in curves.items():
        figure.add_scatter(
            x=np.arange(1, len(values) + 1),
            y=np.asarray(values, dtype=float),
            name=role,
            mode="lines",
            line={
                "color": theme.before() if role == "before" else theme.after(),
                "width": 3,
                "dash": PAIR_STYLE[role]["dash"],
            },
            hovertemplate="component %{x}: %{y:.3g}<extra>" + role + "</extra>",
        )
    style(figure, height, "component", "singular value over the largest")
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return figure


def hover_safe(text: str) -> str:
    """A label shown as text in a hover box, which otherwise reads some HTML and templates."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "% {")
