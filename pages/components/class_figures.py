"""Charts of the classes page. They are given numbers and draw them; nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from pages.components import figures, theme
from pages.components.changes import short
from pages.components.figures import hover_safe
from refine.confusion import Confusion

GAP = 0.04  # between two matrices, as a share of the figure
SMALL = {"font": {"size": 13}, "showarrow": False}


def confusions(found: Confusion, chosen: tuple[str, int, int] | None) -> go.Figure:
    """A matrix a role: rows true, columns predicted; a cell is shaded by its share of the row."""
    roles, k = list(found.counts), len(found.names)
    names = [hover_safe(name if len(name) <= 18 else f"{name[:17]}…") for name in found.names]
    layout = figures.look(int(np.clip(150 + 44 * k, 300, 720))) | {"dragmode": False}
    del layout["xaxis"], layout["yaxis"]
    layout |= {"annotations": [], "shapes": []}
    wide = (1 - GAP * (len(roles) - 1)) / len(roles)
    traces = []
    for place, role in enumerate(roles):
        start, number = place * (wide + GAP), place + 1 if place else ""
        on = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        across, down = _axes(names, on, place == 0)
        layout[f"xaxis{number}"] = across | {"domain": [start, start + wide]}
        layout[f"yaxis{number}"] = down
        traces += [_shares(found.counts[role], role) | on, _cells(found, place, role, names) | on]
        above = {"x": start + wide / 2, "xref": "paper", "y": 1, "yref": "paper"}
        head = {"text": f"<b>{role}</b>", "font": {"size": 15}, "showarrow": False}
        layout["annotations"].append(head | above | {"yanchor": "bottom"})
        if chosen is not None and chosen[0] == role:
            i, j = chosen[1:]
            edges = {"x0": j - 0.5, "x1": j + 0.5, "y0": i - 0.5, "y1": i + 0.5}
            line = {"color": theme.ink(), "width": 3}
            references = {"xref": on["xaxis"], "yref": on["yaxis"]}
            layout["shapes"].append({"type": "rect", "line": line} | edges | references)
    return go.Figure({"data": traces, "layout": layout})


def _axes(names: Sequence[str], on: Mapping[str, str], first: bool) -> tuple[dict, dict]:
    k = len(names)
    ticks = {"tickvals": np.arange(k), "ticktext": names, "showgrid": False}
    across = {"range": [-0.5, k - 0.5], "anchor": on["yaxis"], "tickangle": -40 if k > 4 else 0}
    down = {"range": [k - 0.5, -0.5], "anchor": on["xaxis"], "visible": first}
    # the first class on top
    return figures.axis("read as") | ticks | across, figures.axis("is" * first) | ticks | down


def _shares(counts: np.ndarray, role: str) -> dict[str, Any]:
    k = len(counts)
    return {
        "type": "heatmap",
        "z": counts / np.maximum(counts.sum(axis=1, keepdims=True), 1),
        "x": np.arange(k),
        "y": np.arange(k),
        "text": np.where(counts > 0, counts.astype(str), ""),
        "texttemplate": "%{text}" if k <= 16 else None,
        "colorscale": [[0, theme.paper()], [1, _colour(role)]],
        "zmin": 0,
        "zmax": 1,
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
        "hoverinfo": "skip",
    }


def _cells(found: Confusion, place: int, role: str, names: list[str]) -> dict[str, Any]:
    """A marker that cannot be seen on every cell, since a heat map itself cannot be clicked."""
    counts, k = found.counts[role], len(names)
    cells = np.arange(k * k)
    row, column = cells // k, cells % k
    return {
        "type": "scatter",
        "x": column,
        "y": row,
        "mode": "markers",
        "marker": {"size": max(12, 300 // k), "symbol": "square", "opacity": 0},
        "selected": {"marker": {"opacity": 0}},
        "unselected": {"marker": {"opacity": 0}},
        "customdata": place * k * k + cells,
        "text": [
            f"{names[i]} read as {names[j]}: {counts[i, j]} of {counts[i].sum()}"
            for i, j in zip(row, column, strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }


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
    places = np.arange(len(rows))[::-1]
    roles = list(dict.fromkeys(role for _, numbers in rows for role in numbers))
    layout = figures.look(90 + 46 * len(rows), x)
    layout["margin"] |= {"r": 150, "t": 44}
    layout["legend"] |= {"x": 1, "xanchor": "right"}
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["yaxis"] |= {
        "tickvals": places,
        "ticktext": [hover_safe(name) for name, _ in rows],
        "range": [-0.6, len(rows) - 0.4],
        "showgrid": False,
    }
    layout["annotations"] = [
        {"x": 1.01, "xref": "paper", "y": place, "text": note, "xanchor": "left", "align": "left"}
        | SMALL
        for place, note in zip(places, notes, strict=True)
    ]
    if one is not None:
        line = {"color": theme.ink(0.5), "width": 1.5, "dash": "dot"}
        ends = {"x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper"}
        layout["shapes"] = [{"type": "line", "line": line} | ends]
        above = {"x": 1, "y": 1, "yref": "paper", "yanchor": "bottom", "text": one}
        layout["annotations"].append(above | SMALL)
    traces = []
    for role in roles:
        shift = 0.14 * (1 if role == "before" else -1) * (len(roles) > 1)
        pairs = zip(places, rows, strict=True)
        at = [(place + shift, numbers[role]) for place, (_, numbers) in pairs if role in numbers]
        traces.append(_ends(role, at))
    return go.Figure({"data": traces, "layout": layout})


def _ends(role: str, at: Sequence[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    colour = _colour(role)
    value, low, high = np.array([[n["value"], n["low"], n["high"]] for _, n in at]).T
    return {
        "type": "scatter",
        "x": value,
        "y": np.array([y for y, _ in at]),
        "name": role,
        "mode": "markers",
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": high - value,
            "arrayminus": value - low,
            "color": theme.rgba(colour, 0.45),
            "thickness": 4,
            "width": 0,
        },
        "marker": {
            "size": 12,
            "color": theme.paper() if role == "before" else colour,
            "line": {"width": 3, "color": colour},
        },
        "customdata": [(n["low"], n["high"], n["n"], short(n["null"])) for _, n in at],
        "hovertemplate": "%{x:.3g} (%{customdata[0]:.3g} to %{customdata[1]:.3g}), "
        "n = %{customdata[2]:,}<br>labels that mean nothing: %{customdata[3]}"
        f"<extra>{role}</extra>",
    }


def _colour(role: str) -> str:
    return theme.before() if role == "before" else theme.after()


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
