"""Charts of the Subspaces page. They are given numbers and draw them; nothing is computed here."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.special import ndtri

from pages.components import figures, theme
from pages.components.figures import hover_safe
from refine.spaces import BEFORE, Block, Errors

DET_TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)
FAINT = (0.05, 0.92)  # opacity of a cell of nothing, and of one of everything
DET_RANGE = (0.0008, 0.97)


def label(space: str) -> str:
    """How a space is called on an axis."""
    return "before" if space == BEFORE else f"{hover_safe(space)} subspace"


def colours(spaces: Sequence[str]) -> dict[str, str]:
    """Amber before, petrol for the first subspace, then the palette."""
    rest = iter([theme.after(), *theme.palette()[2:]])
    return {
        name: theme.before() if name == BEFORE else next(rest, theme.quiet()) for name in spaces
    }


def matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    shade: np.ndarray,
    texts: Sequence[Sequence[str]],
    hovers: Sequence[Sequence[str]],
    own: Sequence[tuple[int, int]],
    height: int = 300,
) -> go.Figure:
    """A matrix of numbers, each cell as strong as `shade` (0 to 1, NaN where nothing is known).

    rows, columns: names that are safe to draw.
    own: cells of a subspace and the factor it is there for; they are framed.
    """
    colour = theme.after()
    figure = go.Figure(
        go.Heatmap(
            z=shade,
            x=np.arange(len(columns)),
            y=np.arange(len(rows)),
            zmin=0,
            zmax=1,
            colorscale=[[end, theme.rgba(colour, alpha)] for end, alpha in enumerate(FAINT)],
            showscale=False,
            xgap=5,
            ygap=5,
            customdata=np.asarray(hovers, dtype=object),
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    _write(figure, shade, texts, own)
    figures.style(figure, height)
    figure.update_layout(margin={"t": 30, "b": 4})
    figure.update_xaxes(
        title=None,
        ticks="",
        tickvals=np.arange(len(columns)),
        ticktext=list(columns),
        side="top",
        showgrid=False,
        tickfont={"size": 14},
        range=[-0.5, len(columns) - 0.5],
    )
    figure.update_yaxes(
        tickvals=np.arange(len(rows)),
        ticktext=list(rows),
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        tickfont={"size": 14},
    )
    return figure


def _write(
    figure: go.Figure,
    shade: np.ndarray,
    texts: Sequence[Sequence[str]],
    own: Sequence[tuple[int, int]],
) -> None:
    """The words in each cell, and the frames."""
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            figure.add_annotation(
                x=j,
                y=i,
                text=text,
                showarrow=False,
                align="center",
                font={"color": _readable(float(shade[i, j])), "size": 16},
            )
    for i, j in own:
        figure.add_shape(
            type="rect",
            x0=j - 0.48,
            x1=j + 0.48,
            y0=i - 0.46,
            y1=i + 0.46,
            line={"color": theme.ink(0.75), "width": 2.5},
        )


def _readable(strength: float) -> str:
    """Paper or ink, whichever stands out more on a cell of that strength (WCAG contrast)."""
    alpha = FAINT[0] + (FAINT[1] - FAINT[0]) * np.nan_to_num(strength)
    paper, full = (_rgb(theme.rgba(name, 1)) for name in (theme.paper(), theme.after()))
    cell = _light(alpha * full + (1 - alpha) * paper)
    sides = {theme.paper(): _light(paper), theme.ink(): _light(_rgb(theme.ink()))}
    return max(
        sides,
        key=lambda name: (max(cell, sides[name]) + 0.05) / (min(cell, sides[name]) + 0.05),
    )


def _rgb(text: str) -> np.ndarray:
    return np.array([float(part) for part in text[5:-1].split(",")[:3]]) / 255


def _light(rgb: np.ndarray) -> float:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def heat_maps(
    squares: Mapping[str, np.ndarray], block: Block, clips: Sequence[str], height: int = 760
) -> go.Figure:
    """Cosines of a block, a column a space; ordered by the first factor above, the second below."""
    names = list(squares)
    titles = [f"<b>{label(name)}</b>" for name in names]
    figure = make_subplots(
        rows=2,
        cols=len(names),
        subplot_titles=titles,
        horizontal_spacing=0.06,
        vertical_spacing=0.07,
    )
    n = len(block.rows)
    orders = (np.arange(n), block.by_second)
    for column, name in enumerate(names, start=1):
        off = squares[name][~np.eye(n, dtype=bool)]
        low, high = (float(edge) for edge in np.quantile(off, [0.01, 0.99]))
        for row, order in enumerate(orders, start=1):
            shown = squares[name][np.ix_(order, order)]
            figure.add_heatmap(
                z=np.round(shown, 4),
                zmin=low,
                zmax=high,
                colorscale=theme.heat(),
                showscale=False,
                customdata=_pairs([clips[i] for i in order]),
                hovertemplate="%{customdata}<br>cosine %{z:.3f}<extra></extra>",
                row=row,
                col=column,
            )
        note = f"<b>{label(name)}</b> · {low:.2f} to {high:.2f}"
        figure.layout.annotations[column - 1].update(text=note.replace("-", "−"))
    figures.style(figure, height)
    figure.update_layout(margin={"t": 40, "l": 8, "b": 8})
    _label(figure, block, len(names))
    for annotation in figure.layout.annotations[: len(names)]:
        annotation.update(font={"size": 15}, yshift=4)
    for row, factor in enumerate(block.factors, start=1):
        figure.update_yaxes(
            title={"text": f"ordered by {hover_safe(factor)}", "standoff": 8}, row=row, col=1
        )
    return figure


def _label(figure: go.Figure, block: Block, columns: int) -> None:
    """Names of the groups beside the first column, and thin lines between groups."""
    n = len(block.rows)
    sides = ((block.first, np.arange(n)), (block.second, block.by_second))
    for row, (labels, order) in enumerate(sides, start=1):
        places, names_of = _groups([str(labels[i]) for i in order])
        for column in range(1, columns + 1):
            axis = {
                "showgrid": False,
                "ticks": "",
                "tickvals": [(a + b - 1) / 2 for a, b in places],
                "ticktext": [hover_safe(name) for name in names_of],
                "tickfont": {"size": 11},
            }
            figure.update_xaxes(**axis, showticklabels=False, row=row, col=column)
            figure.update_yaxes(
                **axis,
                showticklabels=column == 1,
                range=[n - 0.5, -0.5],
                row=row,
                col=column,
            )
            for edge, _ in places[1:]:
                for line in (
                    {"x0": edge - 0.5, "x1": edge - 0.5, "y0": -0.5, "y1": n - 0.5},
                    {"y0": edge - 0.5, "y1": edge - 0.5, "x0": -0.5, "x1": n - 0.5},
                ):
                    figure.add_shape(
                        type="line",
                        line={"color": theme.rgba(theme.paper(), 0.55), "width": 1},
                        row=row,
                        col=column,
                        **line,
                    )


def _pairs(clips: Sequence[str]) -> np.ndarray:
    names = [hover_safe(clip) for clip in clips]
    return np.array([[f"{a} · {b}" for b in names] for a in names], dtype=object)


def _groups(labels: Sequence[str]) -> tuple[list[tuple[int, int]], list[str]]:
    """Where each run of equal labels begins and ends, and its label."""
    starts = [i for i, name in enumerate(labels) if i == 0 or labels[i - 1] != name]
    ends = [*starts[1:], len(labels)]
    return list(zip(starts, ends, strict=True)), [labels[i] for i in starts]


def det(found: Mapping[str, Errors], height: int = 460) -> go.Figure:
    """Misses against false alarms on normal-deviate axes, with the EER of each space marked."""
    figure = go.Figure()
    shades = colours(list(found))
    low, high = DET_RANGE
    figure.add_scatter(
        x=ndtri([low, high]),
        y=ndtri([low, high]),
        mode="lines",
        line={"color": theme.ink(0.3), "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    dashes = iter(("solid", "dash", "longdash", "dashdot"))
    for name, errors in found.items():
        rates = [
            np.clip(side, 1e-5, 1 - 1e-5) for side in (errors.det.false_alarm, errors.det.miss)
        ]
        figure.add_scatter(
            x=ndtri(rates[0]),
            y=ndtri(rates[1]),
            mode="lines",
            name=label(name),
            line={
                "color": shades[name],
                "width": 3,
                "dash": "dot" if name == BEFORE else next(dashes, "solid"),
            },
            customdata=np.column_stack(rates),
            hovertemplate="false alarms %{customdata[0]:.1%}, misses %{customdata[1]:.1%}"
            f"<extra>{label(name)}</extra>",
        )
    _mark_eers(figure, found, shades)
    figures.style(figure, height, "false alarms", "misses")
    ticks = {
        "tickvals": ndtri(np.array(DET_TICKS)),
        "ticktext": [
            f"{tick:.3g}".rstrip("0") if tick < 0.01 else f"{tick:.0%}" for tick in DET_TICKS
        ],
        "range": [float(ndtri(low)), float(ndtri(high))],
    }
    ticks["ticktext"][0] = "0.1%"
    figure.update_xaxes(**ticks)
    figure.update_yaxes(**ticks)
    return figure


def _mark_eers(figure: go.Figure, found: Mapping[str, Errors], shades: Mapping[str, str]) -> None:
    """A mark where misses and false alarms are equal."""
    low, high = DET_RANGE
    sides = _sides({name: errors.eer for name, errors in found.items()})
    for name, errors in found.items():
        at = float(ndtri(np.clip(errors.eer, low, high)))
        figure.add_scatter(
            x=[at],
            y=[at],
            mode="markers+text",
            text=[f" <b>{errors.eer:.1%}</b> "],
            textposition=sides[name],
            textfont={"size": 14, "color": shades[name]},
            marker={
                "size": 13,
                "color": theme.paper() if name == BEFORE else shades[name],
                "line": {"color": shades[name], "width": 3},
            },
            hovertemplate=f"EER {errors.eer:.1%}, n = {sum(errors.n):,} pairs<br>its interval, "
            f"chance and control are below<extra>{label(name)}</extra>",
            showlegend=False,
        )


def _sides(rates: Mapping[str, float]) -> dict[str, str]:
    """Where the label of each mark on the diagonal stands: on the side with more room."""
    ranked = sorted(rates, key=rates.__getitem__)
    at = [-9.0, *(float(ndtri(np.clip(rates[name], *DET_RANGE))) for name in ranked), 9.0]
    room = [
        (here - before, after - here)
        for before, here, after in zip(at, at[1:], at[2:], strict=False)
    ]
    return {
        name: "bottom left" if below > above else "top right"
        for name, (below, above) in zip(ranked, room, strict=True)
    }


def histograms(found: Mapping[str, Errors], same: str, height: int = 460) -> go.Figure:
    """Scores of target and other pairs in each space, with the threshold of the EER.

    same: what targets share, as "speaker".
    """
    names = list(found)
    figure = make_subplots(
        rows=len(names),
        cols=1,
        vertical_spacing=0.16 if len(names) < 4 else 0.1,
        subplot_titles=[
            f"<b>{label(name)}</b> · EER {found[name].eer:.1%} at the line" for name in names
        ],
    )
    shades = colours(names)
    for row, name in enumerate(names, start=1):
        errors = found[name]
        centres = (errors.edges[:-1] + errors.edges[1:]) / 2
        sides = (
            (f"same {same}", errors.target, shades[name], 0.45, "solid"),
            (f"another {same}", errors.other, theme.quiet(), 0.35, "dot"),
        )
        for told, density, colour, alpha, dash in sides:
            figure.add_scatter(
                x=centres,
                y=density,
                mode="lines",
                name=hover_safe(told),
                legendgroup=told,
                showlegend=False,
                fill="tozeroy",
                fillcolor=theme.rgba(colour, alpha),
                line={"color": colour, "width": 2, "dash": dash, "shape": "hvh"},
                hovertemplate=f"cosine %{{x:.3f}}<extra>{hover_safe(told)}</extra>",
                row=row,
                col=1,
            )
        figure.add_vline(
            x=errors.threshold, line={"color": theme.ink(0.8), "width": 2}, row=row, col=1
        )
    figures.style(figure, height)
    figure.update_layout(margin={"t": 34, "b": 30})
    figure.update_yaxes(showticklabels=False, showgrid=False, rangemode="tozero")
    figure.update_xaxes(title={"text": "cosine of a pair"}, row=len(names), col=1)
    for annotation in figure.layout.annotations[: len(names)]:
        annotation.update(x=0, xanchor="left", font={"size": 14})
    return figure
