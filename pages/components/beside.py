"""Encoders beside each other: colours, cards, curves. Numbers come as given."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.components import figures, pickers, picture, theme
from refine import drawing
from refine.drawing import lineage
from refine.lineage import Node, Origin

COLUMNS = 3  # of cards in a row
MARKS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x", "hexagon")


def colours(every: Sequence[str]) -> dict[str, str]:
    """A colour an encoder: the reference, which comes first, is amber, as before is everywhere."""
    reference, *others = every
    rest = [colour for colour in theme.palette() if colour != theme.before()]
    return {reference: theme.before()} | dict(zip(others, rest * 2, strict=False))


def labels(origins: Sequence[Origin]) -> dict[str, str]:
    """What each is called here: two of one name are told apart by their day, or their id."""
    short = [one.label for one in origins]
    dated = {
        one.name: one.label if short.count(one.label) == 1 else pickers.encoder_label(one.name)
        for one in origins
    }
    every = list(dated.values())
    return {name: label if every.count(label) == 1 else name for name, label in dated.items()}


def tree(nodes: Sequence[Node], shades: Mapping[str, str]) -> None:
    """The drawn lineage."""
    svg = lineage(nodes, picture.look(), shades)
    alt = "Lineage: " + ", ".join(node.label for node in nodes)
    width = drawing.ACROSS * (max(node.depth for node in nodes) + 1) + 20
    picture.place(svg, "lineage", alt, f"{width}px")


def name(label: str, colour: str, hollow: bool, note: str = "") -> None:
    """An encoder's name behind its mark."""
    fill = theme.paper() if hollow else colour
    circle = f'<circle r="6" fill="{fill}" stroke="{colour}" stroke-width="3"/>'
    mark = theme.image(f'<svg viewBox="-9 -9 18 18">{circle}</svg>', "", "height:1.3rem")
    small = f"<small>{escape(note)}</small>" if note else ""
    st.html(f'<div class="refine-name">{mark}<b>{escape(label)}</b>{small}</div>')


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
