"""Charts of the geometry of subspaces. They are given numbers and draw them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from pages.components import figures, theme
from pages.components.figures import hover_safe
from pages.components.subspace_figures import colours, label, matrix
from refine.spaces import Angles


def angles(found: Mapping[str, Angles], height: int = 330) -> go.Figure:
    """Principal angles in degrees, before and after, with those of random spans."""
    figure = go.Figure()
    for role, one in found.items():
        colour = theme.before() if role == "before" else theme.after()
        number = np.arange(1, len(one.degrees) + 1)
        figure.add_scatter(
            x=number,
            y=one.chance,
            mode="lines",
            line={"color": theme.rgba(colour, 0.45), "width": 1.6, "dash": "dash"},
            name=f"random spans, {role}",
            hovertemplate=f"random %{{y:.0f}}°<extra>{role}</extra>",
        )
        figure.add_scatter(
            x=number,
            y=one.degrees,
            mode="lines+markers",
            name=role,
            line={"color": colour, "width": 3, "dash": figures.PAIR_STYLE[role]["dash"]},
            marker={"size": 9, "symbol": figures.PAIR_STYLE[role]["symbol"], "line": {"width": 2}},
            hovertemplate=f"angle %{{x}}: %{{y:.0f}}°<extra>{role}</extra>",
        )
    figures.style(figure, height, "angle", "degrees", hovermode="x unified")
    figure.update_yaxes(range=[0, 93], tickvals=[0, 30, 60, 90], ticksuffix="°")
    figure.update_xaxes(dtick=1 if max(len(one.degrees) for one in found.values()) < 13 else None)
    return figure


def importances(
    blocks: Sequence[str], factors: Sequence[str], shares: np.ndarray, height: int = 250
) -> go.Figure:
    """A group of bars a factor, a bar a block: how much of the factor is read off it."""
    figure = go.Figure()
    shades = colours(blocks)
    for row, block in enumerate(blocks):
        figure.add_bar(
            x=[hover_safe(name) for name in factors],
            y=shares[row],
            name=label(block),
            marker={
                "color": shades[block],
                "line": {"width": 0},
                "pattern": {"shape": ("", "/", "x", ".")[row % 4], "solidity": 0.25},
            },
            text=[f"{share:.0%}" for share in shares[row]],
            textposition="outside",
            hovertemplate=f"%{{x}}: %{{y:.0%}}<extra>{label(block)}</extra>",
        )
    figures.style(figure, height, "", "share read", barmode="group", bargap=0.3)
    figure.update_yaxes(range=[0, 1.15], tickvals=[0, 0.5, 1], tickformat=".0%")
    return figure


def correlations(r: np.ndarray, first: str, second: str, height: int = 360) -> go.Figure:
    """Correlation of the leading components of two blocks; grey everywhere is unrelated."""
    most = max(0.3, float(np.abs(r).max()))
    figure = go.Figure(
        go.Heatmap(
            z=np.round(np.abs(r), 3),
            x=np.arange(1, r.shape[1] + 1),
            y=np.arange(1, r.shape[0] + 1),
            zmin=0,
            zmax=most,
            colorscale=theme.heat(),
            colorbar={"title": {"text": "|r|"}, "thickness": 12, "outlinewidth": 0},
            hovertemplate=f"{hover_safe(first)} %{{y}} · {hover_safe(second)} %{{x}}: "
            "|r| %{z:.2f}<extra></extra>",
        )
    )
    figures.style(
        figure,
        height,
        f"component of {hover_safe(second)}",
        f"component of {hover_safe(first)}",
    )
    figure.update_layout(margin={"t": 10})
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def similarity(
    names: Sequence[str], values: Mapping[tuple[str, str], Mapping[str, Any]], height: int = 330
) -> go.Figure:
    """Linear CKA of every pair of spaces."""
    n = len(names)
    shade = np.full((n, n), np.nan)
    texts = [["" for _ in names] for _ in names]
    hovers = [["" for _ in names] for _ in names]
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            if i == j:
                shade[i, j], texts[i][j], hovers[i][j] = 1.0, "1", "the same space"
                continue
            one = values.get((first, second)) or values[second, first]
            shade[i, j] = one["value"]
            texts[i][j] = f"<b>{one['value']:.2f}</b><br>{one['low']:.2f}–{one['high']:.2f}"
            hovers[i][j] = f"{label(first)} and {label(second)}: shuffled {one['control']:.2f}"
    across = [label(x).replace(" ", "<br>") for x in names]
    return matrix([label(x) for x in names], across, shade, texts, hovers, [], height)
