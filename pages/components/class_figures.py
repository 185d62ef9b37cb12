"""Charts of the classes page. They are given numbers and draw them; nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.components import figures, theme
from pages.components.changes import short
from pages.components.figures import hover_safe
from refine.confusion import Confusion


def confusions(found: Confusion, chosen: tuple[str, int, int] | None) -> go.Figure:
    """A matrix a role: rows true, columns predicted; a cell is shaded by its share of the row.

    A marker that cannot be seen lies on every cell, since a heat map itself cannot be clicked.
    """
    roles, k = list(found.counts), len(found.names)
    names = [hover_safe(name if len(name) <= 18 else f"{name[:17]}…") for name in found.names]
    figure = make_subplots(
        rows=1,
        cols=len(roles),
        horizontal_spacing=0.04,
        shared_yaxes=True,
        subplot_titles=[f"<b>{role}</b>" for role in roles],
    )
    cells = np.arange(k * k)
    row, column = cells // k, cells % k
    for place, role in enumerate(roles):
        counts = found.counts[role]
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        colour = theme.before() if role == "before" else theme.after()
        figure.add_heatmap(
            z=share,
            x=np.arange(k),
            y=np.arange(k),
            text=np.where(counts > 0, counts.astype(str), ""),
            texttemplate="%{text}" if k <= 16 else None,
            colorscale=[[0, theme.paper()], [1, colour]],
            zmin=0,
            zmax=1,
            xgap=2,
            ygap=2,
            showscale=False,
            hoverinfo="skip",
            row=1,
            col=place + 1,
        )
        figure.add_scatter(
            x=column,
            y=row,
            mode="markers",
            marker={"size": max(12, 300 // k), "symbol": "square", "opacity": 0},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            customdata=place * k * k + cells,
            text=[
                f"{names[i]} read as {names[j]}: {counts[i, j]} of {counts[i].sum()}"
                for i, j in zip(row, column, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
            row=1,
            col=place + 1,
        )
        if chosen is not None and chosen[0] == role:
            i, j = chosen[1:]
            figure.add_shape(
                type="rect",
                x0=j - 0.5,
                x1=j + 0.5,
                y0=i - 0.5,
                y1=i + 0.5,
                line={"color": theme.ink(), "width": 3},
                row=1,
                col=place + 1,
            )
    figures.style(figure, int(np.clip(150 + 44 * k, 300, 720)), dragmode=False)
    ticks = {"tickvals": np.arange(k), "showgrid": False, "range": [-0.5, k - 0.5]}
    figure.update_xaxes(ticktext=names, tickangle=-40 if k > 4 else 0, **ticks)
    ticks["range"] = [k - 0.5, -0.5]  # the first class on top
    figure.update_yaxes(ticktext=names, **ticks)
    figure.update_xaxes(title={"text": "read as"})
    figure.update_yaxes(title={"text": "is"}, col=1)
    for annotation in figure.layout.annotations:
        annotation.update(font={"size": 15})
    return figure


def dumbbells(
    rows: Sequence[tuple[str, Mapping[str, Mapping[str, Any]]]],
    x: str,
    notes: Sequence[str],
    one: str | None = None,
) -> go.Figure:
    """Before an open circle, after a full one, each with its interval; a row a thing.

    Args:
        rows: (name, role -> Number dict), from top to bottom.
        notes: what stands at the right end of a row. one: what the value 1 means, as a line.
    """
    figure = go.Figure()
    places = np.arange(len(rows))[::-1]
    roles = list(dict.fromkeys(role for _, numbers in rows for role in numbers))
    for role in roles:
        colour = theme.before() if role == "before" else theme.after()
        shift = 0.14 * (1 if role == "before" else -1) * (len(roles) > 1)
        at = [
            (place, numbers[role])
            for place, (_, numbers) in zip(places, rows, strict=True)
            if role in numbers
        ]
        y = np.array([place + shift for place, _ in at])
        value = np.array([number["value"] for _, number in at])
        low = np.array([number["low"] for _, number in at])
        high = np.array([number["high"] for _, number in at])
        figure.add_scatter(
            x=value,
            y=y,
            name=role,
            mode="markers",
            error_x={
                "type": "data",
                "symmetric": False,
                "array": high - value,
                "arrayminus": value - low,
                "color": theme.rgba(colour, 0.45),
                "thickness": 4,
                "width": 0,
            },
            marker={
                "size": 12,
                "color": theme.paper() if role == "before" else colour,
                "line": {"width": 3, "color": colour},
            },
            customdata=np.column_stack([low, high]),
            hovertemplate="%{x:.3g} (%{customdata[0]:.3g} to %{customdata[1]:.3g})"
            f"<extra>{role}</extra>",
        )
    figures.style(figure, 90 + 46 * len(rows), x)
    if one is not None:
        figure.add_vline(
            x=1,
            line={"color": theme.ink(0.5), "width": 1.5, "dash": "dot"},
            annotation={"text": one, "font": {"size": 13}, "yanchor": "bottom"},
        )
    for place, note in zip(places, notes, strict=True):
        figure.add_annotation(
            x=1.01, xref="paper", y=place, text=note, showarrow=False, xanchor="left",
            font={"size": 13}, align="left",
        )  # fmt: skip
    figure.update_layout(margin={"r": 150, "t": 44}, legend={"x": 1, "xanchor": "right"})
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(
        tickvals=places,
        ticktext=[hover_safe(name) for name, _ in rows],
        range=[-0.6, len(rows) - 0.4],
        showgrid=False,
    )
    return figure


def kept(shares: np.ndarray, null: float, k: int) -> go.Figure:
    """How many clips kept how many of their k neighbours."""
    bars = {
        "type": "bar",
        "x": np.arange(k + 1),
        "y": np.bincount(np.round(shares * k).astype(int), minlength=k + 1),
        "marker": {"color": theme.after(), "line": {"width": 0}},
        "hovertemplate": "%{x} kept: %{y} clips<extra></extra>",
    }
    layout = figures.look(330, f"nearest clips kept, of {k}", "clips") | {"bargap": 0.18}
    layout["margin"] |= {"t": 26}
    layout["xaxis"] |= {"dtick": 1, "showgrid": False}
    line = {"x0": null * k, "x1": null * k, "y0": 0, "y1": 1, "yref": "y domain", "type": "line"}
    layout["shapes"] = [line | {"line": {"color": theme.ink(0.5), "width": 2}}]
    words = {"text": "by chance", "font": {"size": 13}, "showarrow": False, "xanchor": "left"}
    place = {"x": null * k, "y": 1, "yref": "y domain", "yanchor": "top"}
    layout["annotations"] = [words | place]
    return go.Figure({"data": [bars], "layout": layout})


def note_of(change: Mapping[str, Any] | None) -> str:
    """The change in words for the end of a row."""
    if change is None:
        return ""
    sure = change["low"] > 0 or change["high"] < 0
    sign = "+" if change["value"] >= 0 else "−"
    text = f"{sign}{short(abs(change['value']))} {'sure' if sure else 'unsure'}"
    return f"<b>{text}</b>" if sure else text
