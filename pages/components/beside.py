"""Encoders beside each other: colours, cards, forests of metrics, curves. Numbers come as given."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from pages.components import figures, theme
from refine import drawing, lineup, names
from refine.drawing import Look, lineage
from refine.lineage import Node

COLUMNS = 3  # of small charts in a row
ROW = 32  # px an encoder takes in a chart
GAP = 84  # px between rows of charts, for ticks and titles
MARKS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x", "hexagon")


def look() -> Look:
    """The theme's colours for pictures of `refine.drawing`."""
    colours = tuple(theme.palette())
    return Look(theme.ink(), theme.paper(), theme.before(), theme.after(), theme.quiet(), colours)


def colours(every: Sequence[str]) -> dict[str, str]:
    """A colour an encoder: the reference, which comes first, is amber, as before is everywhere."""
    reference, *others = every
    rest = [colour for colour in theme.palette() if colour != theme.before()]
    return {reference: theme.before()} | dict(zip(others, rest * 2, strict=False))


def tree(nodes: Sequence[Node], shades: Mapping[str, str]) -> None:
    """The drawn lineage."""
    svg = lineage(nodes, look(), shades)
    alt = "Lineage: " + ", ".join(node.label for node in nodes)
    width = drawing.ACROSS * (max(node.depth for node in nodes) + 1) + 20
    st.html(theme.image(svg, alt, f"width:100%;max-width:{width}px;display:block"))


def name(label: str, colour: str, hollow: bool, note: str = "") -> None:
    """An encoder's name behind its mark."""
    fill = theme.paper() if hollow else colour
    circle = f'<circle r="6" fill="{fill}" stroke="{colour}" stroke-width="3"/>'
    mark = theme.image(f'<svg viewBox="-9 -9 18 18">{circle}</svg>', "", "height:1.3rem")
    small = f"<small>{escape(note)}</small>" if note else ""
    st.html(f'<div class="refine-name">{mark}<b>{escape(label)}</b>{small}</div>')


def forest(
    found: dict[str, Any], group: str, metrics: Sequence[str],
    labels: Mapping[str, str], shades: Mapping[str, str],
) -> go.Figure:  # fmt: skip
    """A small chart a metric: every encoder's value and interval; full marks changed surely.

    The band is the reference's interval.
    """
    shown = [
        {
            "label": labels[name],
            "colour": shades[name],
            "reference": name == found["against"],
            "cells": [
                [one[side].get(group, {}).get(metric) for side in ("numbers", "changes")]
                for metric in metrics
            ],
        }
        for name, one in found["encoders"].items()
    ]
    # a figure of many panels takes longer to build than all else on the page
    return _forest(json.dumps(shown), tuple(metrics), theme.before(), theme.paper())


@st.cache_resource(max_entries=64, show_spinner=False)
def _forest(encoded: str, metrics: tuple[str, ...], band: str, paper: str) -> go.Figure:
    every = json.loads(encoded)
    rows = -(-len(metrics) // COLUMNS)
    height = rows * (ROW * len(every) + GAP) + 10
    titles = [
        _title(metric, next(one["cells"][place][0] for one in every if one["cells"][place][0]))
        for place, metric in enumerate(metrics)
    ]
    figure = make_subplots(
        rows=rows, cols=COLUMNS, horizontal_spacing=0.045, vertical_spacing=GAP / height,
        subplot_titles=titles,
    )  # fmt: skip
    for place in range(len(metrics)):
        where = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}
        for level, one in enumerate(every):
            number, change = one["cells"][place]
            if number is None:
                continue
            if one["reference"]:
                figure.add_vrect(
                    x0=number["low"], x1=number["high"], line_width=0, layer="below",
                    fillcolor=theme.rgba(band, 0.15), exclude_empty_subplots=False, **where,
                )  # fmt: skip
            mark = _mark(number, change, level, one["label"], one["colour"], paper)
            figure.add_trace(mark, **where)
        figure.update_yaxes(
            tickvals=list(range(len(every))), range=[len(every) - 0.4, -0.6],
            ticktext=[_cut(one["label"]) for one in every],
            showticklabels=where["col"] == 1, showgrid=False, **where,
        )  # fmt: skip
        figure.update_xaxes(nticks=4, **where)
    figures.style(figure, height, showlegend=False)
    figure.update_layout(margin={"t": 52, "b": 24})
    for annotation in figure.layout.annotations:
        annotation.update(font={"size": 14}, yshift=4)
    return figure


def _mark(
    number: dict[str, Any], change: dict[str, Any] | None, level: int, label: str, colour: str,
    paper: str,
) -> go.Scatter:  # fmt: skip
    word = lineup.verdict(change, number["direction"])
    told = "the reference" if change is None and level == 0 else "no paired change"
    if change is not None:
        ends = f"{names.signed(change['low'])} to {names.signed(change['high'])}"
        told = f"change {names.signed(change['value'])} ({ends}): {word}"
    hollow = word in ("", "unsure")
    between = f"{names.short(number['low'])} to {names.short(number['high'])}"
    return go.Scatter(
        x=[number["value"]],
        y=[level],
        mode="markers",
        error_x={
            "type": "data", "symmetric": False, "color": colour, "thickness": 3, "width": 0,
            "array": [number["high"] - number["value"]],
            "arrayminus": [number["value"] - number["low"]],
        },
        marker={
            "size": 12, "color": paper if hollow else colour,
            "line": {"width": 3, "color": colour},
        },
        hovertemplate=f"{names.short(number['value'])} ({between})<br>{told}"
        f"<extra>{escape(label)}</extra>",
    )  # fmt: skip


def _title(metric: str, number: dict[str, Any]) -> str:
    arrow = {"higher": "→ better", "lower": "← better"}.get(number["direction"], "")
    place, _, last = metric.rpartition(": ")
    title = f"{escape(place)}: {names.name(last)}" if place else names.name(metric)
    return f"<b>{title}</b>  {arrow}"


def _cut(label: str, most: int = 20) -> str:
    return escape(label if len(label) <= most else f"{label[: most - 1]}…")


def over_steps(
    curves: Mapping[str, pd.DataFrame], column: str, shades: Mapping[str, str], title: str
) -> go.Figure:
    """One column of several runs over their steps; a noisy one is drawn smooth over itself."""
    figure = go.Figure()
    for place, (label, rows) in enumerate(curves.items()):
        part = rows[["step", column]].dropna()
        noisy, colour = len(part) > 40, shades[label]
        if noisy:
            figure.add_scatter(
                x=part["step"], y=part[column], mode="lines", hoverinfo="skip", showlegend=False,
                line={"width": 1, "color": theme.rgba(colour, 0.3)},
            )  # fmt: skip
        y = part[column].ewm(span=max(5, len(part) // 20)).mean() if noisy else part[column]
        figure.add_scatter(
            x=part["step"], y=y, name=escape(label), mode="lines" if noisy else "lines+markers",
            line={"width": 3, "color": colour},
            marker={"size": 9, "symbol": MARKS[place % len(MARKS)]},
            hovertemplate="step %{x}: %{y:.4g}<extra>" + escape(label) + "</extra>",
        )  # fmt: skip
    return figures.style(figure, 340, "step", title)


def efficiency(
    found: Mapping[str, dict[str, Any]], labels: Mapping[str, str], shades: Mapping[str, str]
) -> go.Figure:
    """Probe UAR over labelled clips, with its interval over speakers."""
    figure = go.Figure()
    for place, (encoder, one) in enumerate(found.items()):
        points, colour = one["efficiency"], shades[encoder]
        x = [point["clips"] for point in points]
        y, low, high = ([p["uar"][key] for p in points] for key in ("value", "low", "high"))
        _band(figure, x, low, high, colour)
        figure.add_scatter(
            x=x, y=y, name=escape(labels[encoder]), mode="lines+markers",
            line={"width": 3, "color": colour, "dash": "dot" if place == 0 else "solid"},
            marker={"size": 9, "symbol": MARKS[place % len(MARKS)]},
            customdata=np.column_stack([low, high, [100 * p["fraction"] for p in points]]),
            hovertemplate="%{x} clips (%{customdata[2]:.0f} %): %{y:.3f} (%{customdata[0]:.3f} to "
            "%{customdata[1]:.3f})<extra>" + escape(labels[encoder]) + "</extra>",
        )  # fmt: skip
    _chance(figure, found)
    figures.style(figure, 380, "labelled training clips", "UAR of a linear probe")
    marks = [5, 10, 20, 50, 100, 200, 500, 1000]
    figure.update_xaxes(type="log", tickvals=marks, ticktext=[f"{n:,}" for n in marks])
    return figure


def convergence(
    found: Mapping[str, dict[str, Any]], labels: Mapping[str, str], shades: Mapping[str, str]
) -> go.Figure:
    """UAR of a head over its steps, mean and range of the draws; dashed: standardised reference."""
    figure = go.Figure()
    for place, (encoder, one) in enumerate(found.items()):
        curve, colour = one["convergence"], shades[encoder]
        x, every = [max(step, 0.7) for step in curve["steps"]], np.asarray(curve["test"])
        _band(figure, x, every.min(axis=0), every.max(axis=0), colour)
        _line(figure, x, every.mean(axis=0), labels[encoder], colour, "dot" if not place else "")
        if not place:
            control = np.asarray(one["standardised"]["test"]).mean(axis=0)
            title = f"{labels[encoder]}, standardised"
            _line(figure, x, control, title, theme.quiet(), "dash")
    _chance(figure, found)
    figures.style(figure, 380, "step of the head", "UAR on unheard speakers")
    figure.update_xaxes(type="log", tickvals=[1, 10, 100, 1000], ticktext=["1", "10", "100", "1k"])
    return figure


def _line(figure: go.Figure, x: Any, y: Any, label: str, colour: str, dash: str) -> None:
    figure.add_scatter(
        x=x, y=y, name=escape(label), mode="lines",
        line={"width": 3, "color": colour, "dash": dash or "solid"},
        hovertemplate="step %{x:.0f}: %{y:.3f}<extra>" + escape(label) + "</extra>",
    )  # fmt: skip


def _band(figure: go.Figure, x: Sequence[float], low: Any, high: Any, colour: str) -> None:
    figure.add_scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(list(low))], fill="toself", mode="lines",
        fillcolor=theme.rgba(colour, 0.12), line={"width": 0}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _chance(figure: go.Figure, found: Mapping[str, dict[str, Any]]) -> None:
    null = next(iter(found.values()))["null"]
    line = {"width": 1.5, "color": theme.ink(0.45), "dash": "dot"}
    figure.add_hline(y=null, line=line, annotation_text="chance", annotation_position="top left")
