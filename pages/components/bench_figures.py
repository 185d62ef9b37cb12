"""Charts of the intervention bench: how far each space moved, beside pairs of the corpus."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.components import figures, theme
from pages.components.subspace_figures import label
from refine.interventions import BEFORE, KINDS, Scale, density

LONGEST = 1.6  # of an axis, in strangers; what lies beyond stands at its edge
POINTS = 260  # of a kind on the plane
GRID = np.linspace(0, LONGEST, 161)
SYMBOLS = dict(zip(KINDS, ("star", "triangle-up", "diamond", "circle"), strict=True))


def kind_colours() -> dict[str, str]:
    """A colour a kind of pair; amber and petrol stay for before and after."""
    palette = theme.palette()
    clear = palette[5] if theme.dark() else palette[2]  # the green is dim on a dark background
    return dict(zip(KINDS, (theme.ink(), clear, palette[3], palette[4]), strict=True))


def rulers(scale: Scale, relative: Mapping[str, float], height: int | None = None) -> go.Figure:
    """A ridge a kind of pair in each space, and where the intervention stands.

    relative: distance in each space, in units of two strangers who say different things.
    """
    figure = go.Figure()
    spaces = list(scale.spaces)
    kinds = [kind for kind in KINDS if kind not in scale.missing]
    tall = len(kinds) + 1.0
    shades = kind_colours()
    for row, space in enumerate(reversed(spaces)):
        base = row * tall
        reference = scale.spaces[space]
        for place, kind in enumerate(kinds):
            floor = base + len(kinds) - 1 - place
            ridge = density(reference.pairs[kind] / reference.unit, GRID)
            tops = floor + 1.25 * ridge / ridge.max()
            figure.add_scatter(
                x=np.concatenate([GRID, GRID[::-1]]),
                y=np.concatenate([tops, np.full(len(GRID), floor)]),
                fill="toself",
                fillcolor=_thin(shades[kind], 0.38),
                line={"color": shades[kind], "width": 1.3},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
            )
            middle = reference.medians[kind]
            figure.add_scatter(
                x=[min(middle.value / reference.unit, LONGEST)],
                y=[floor + 0.12],
                mode="markers",
                marker={"symbol": "line-ns", "size": 9, "line": {"color": theme.ink(), "width": 2}},
                hovertemplate=f"{kind}: median distance {middle.value:.3f} "
                f"({middle.low:.3f} to {middle.high:.3f}), {middle.n:,} pairs<extra></extra>",
                showlegend=False,
            )
        _stand(figure, space, relative[space], base, len(kinds))
        figure.add_annotation(
            text=f"<b>{label(space)}</b>",
            x=-0.01,
            xref="x domain",
            y=base + len(kinds) + 0.42,
            showarrow=False,
            xanchor="right",
            font={"size": 15},
        )
    figures.style(figure, height or 60 + 180 * len(spaces), "distance, in strangers")
    figure.update_layout(margin={"t": 16, "l": 8})
    figure.update_xaxes(range=[-0.02, LONGEST + 0.04], tickvals=[0, 0.5, 1, 1.5])
    figure.update_yaxes(
        tickvals=[row * tall + at + 0.3 for row in range(len(spaces)) for at in range(len(kinds))],
        ticktext=[_coloured(kind, shades[kind]) for kind in reversed(kinds)] * len(spaces),
        tickfont={"size": 12.5},
        showgrid=False,
        range=[-0.25, tall * len(spaces) + 0.1],
    )
    return figure


def _stand(figure: go.Figure, space: str, far: float, base: float, kinds: int) -> None:
    """The line and mark of the intervention in one space."""
    colour = theme.before() if space == BEFORE else theme.after()
    x = min(far, LONGEST)
    top = base + kinds + 0.4
    figure.add_scatter(
        x=[x, x],
        y=[base - 0.1, top],
        mode="lines",
        line={"color": colour, "width": 3},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=[x],
        y=[top],
        mode="markers+text",
        text=[f" <b>{far:.2f}</b>{' →' if far > LONGEST else ''}"],
        textposition="middle right" if x < 0.8 * LONGEST else "middle left",
        textfont={"size": 17, "color": colour},
        marker={
            "size": 16,
            "color": theme.paper() if space == BEFORE else colour,
            "line": {"color": colour, "width": 3.5},
        },
        hovertemplate=f"this intervention: {far:.2f}<extra>{label(space)}</extra>",
        showlegend=False,
        cliponaxis=False,
    )


def plane(
    scale: Scale,
    axes: tuple[str, str],
    relative: Mapping[str, float],
    past: Sequence[Mapping[str, float]] = (),
    height: int = 600,
) -> go.Figure:
    """How far one subspace moved against how far the other did, among the pairs of the corpus."""
    figure = go.Figure()
    _clouds(figure, scale, axes)
    _trail(figure, axes, relative, past)
    figures.style(
        figure,
        height,
        f"how far {label(axes[0])} moved",
        f"how far {label(axes[1])} moved",
        dragmode="pan",
    )
    figure.update_layout(margin={"t": 16})
    box = {
        "range": [-0.04, LONGEST + 0.02],
        "tickvals": [0, 0.5, 1, 1.5],
        "showline": True,
        "linecolor": theme.ink(0.35),
        "zeroline": False,
    }
    figure.update_xaxes(**box)
    figure.update_yaxes(**box)
    return figure


def _clouds(figure: go.Figure, scale: Scale, axes: tuple[str, str]) -> None:
    """Pairs of the corpus, each kind with its name at its medians."""
    shades = kind_colours()
    units = [scale.spaces[axis].unit for axis in axes]
    for kind in KINDS:
        if kind in scale.missing:
            continue
        sides = [scale.spaces[axis].pairs[kind][:POINTS] for axis in axes]
        xs, ys = (np.minimum(side / unit, LONGEST) for side, unit in zip(sides, units, strict=True))
        figure.add_scatter(
            x=np.round(xs, 4),
            y=np.round(ys, 4),
            mode="markers",
            name=kind,
            marker={
                "color": _thin(shades[kind], 0.5),
                "symbol": SYMBOLS[kind],
                "size": 7,
                "line": {"width": 0},
            },
            hovertemplate=f"{kind}<br>%{{x:.2f}} · %{{y:.2f}}<extra></extra>",
            showlegend=False,
        )
        middles = [scale.spaces[axis].medians[kind].value for axis in axes]
        at = [min(m / unit, LONGEST) for m, unit in zip(middles, units, strict=True)]
        figure.add_annotation(
            x=at[0],
            y=at[1],
            text=f"<b>{kind.replace(', ', '<br>')}</b>",
            showarrow=False,
            font={"size": 13, "color": shades[kind]},
            bgcolor=theme.rgba(theme.paper(), 0.72),
            borderpad=2,
        )


def _trail(
    figure: go.Figure,
    axes: tuple[str, str],
    relative: Mapping[str, float],
    past: Sequence[Mapping[str, float]],
) -> None:
    """The intervention, and the way the last ones went."""
    if past:
        trail = [tuple(min(one[axis], LONGEST) for axis in axes) for one in past]
        figure.add_scatter(
            x=[x for x, _ in trail] + [min(relative[axes[0]], LONGEST)],
            y=[y for _, y in trail] + [min(relative[axes[1]], LONGEST)],
            mode="lines+markers",
            line={"color": theme.ink(0.45), "width": 1.5, "dash": "dot"},
            marker={
                "size": 9,
                "color": theme.paper(),
                "line": {"color": theme.ink(0.7), "width": 2},
            },
            hoverinfo="skip",
            showlegend=False,
        )
    x, y = (min(relative[axis], LONGEST) for axis in axes)
    for size, colour in ((30, theme.paper()), (22, theme.after())):
        figure.add_scatter(
            x=[x],
            y=[y],
            mode="markers",
            marker={"size": size, "color": colour, "line": {"width": 0}},
            hovertemplate=f"this intervention: {relative[axes[0]]:.2f} · {relative[axes[1]]:.2f}"
            "<extra></extra>",
            showlegend=False,
            cliponaxis=False,
        )


def _coloured(text: str, colour: str) -> str:
    return f'<span style="color:{colour}">{text}</span>'


def _thin(colour: str, alpha: float) -> str:
    """A palette colour with transparency; the ink has one already."""
    return theme.rgba(colour, alpha) if colour.startswith("#") else theme.ink(0.7 * alpha)
