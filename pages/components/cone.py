"""Where the cone comes from: pairs that belong together, single dimensions, what removing does."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from pages.components import figures, guard, pickers, space, tables, theme
from pages.components.player import escape
from refine.corpus import Corpus
from refine.embeddings import open_embeddings
from refine.maps import speakers_of
from refine.metrics import anisotropy

NAMED = 4  # rogue dimensions that get a label in the chart


class Cone(NamedTuple):
    """What one space tells of its dimensions."""

    dimensions: anisotropy.Dimensions
    removed: list[anisotropy.Removed]


@st.cache_data(max_entries=32, show_spinner=False)
def _cone(path: str, layer: str) -> Cone:
    found = open_embeddings(path)
    x, speakers = found.vectors(layer), speakers_of(found.table)
    most = min(anisotropy.MOST_REMOVED, min(len(x) - 1, x.shape[1]) - 2)
    return Cone(anisotropy.dimensions(x, speakers), anisotropy.removal(x, max(0, most), speakers))


@st.cache_data(max_entries=64, show_spinner=False)
def _positive(path: str, layer: str, factor: str) -> np.ndarray:
    found = open_embeddings(path)
    labels = found.table[factor].fillna("").to_numpy()
    return anisotropy.positive_cosines(found.vectors(layer), labels)


def pairs(results: dict[str, dict[str, Any]], layer: str | None, corpus: Corpus) -> None:
    """Random pairs beside pairs of one class: a cosine says little where both are the same."""
    st.subheader("Do clips that belong together point the same way?")
    repeated = [name for name in corpus.factors if corpus.table[name].nunique() > 1]
    first, asked = (repeated[0] if repeated else None), st.query_params.get("same")
    begin = asked if asked in repeated else first
    factor = st.pills(
        "Same",
        repeated,
        default=None if asked == space.NOTHING else begin,
        key=f"pairs_{corpus.fingerprint[:8]}",
        format_func=lambda name: f"same {escape(name)}",
        label_visibility="collapsed",
        wrap=True,
    )
    pickers.keep("same", (factor or space.NOTHING) if factor != first else None)
    random = {role: space.cosines(result, layer) for role, result in results.items()}
    same: dict[str, np.ndarray] = {}
    with guard.sentences():
        if factor:
            places = {role: space.place(result, layer) for role, result in results.items()}
            same = {role: _positive(*place, factor) for role, place in places.items()}
    figures.show(
        pair_figure(random, same, str(factor)), "cosines", "Cosines of random and of positive pairs"
    )
    st.caption(
        "Grey: 20,000 random pairs, in an even space near 0. Colour: 20,000 pairs of one class. "
        "Where the two lie on each other, a cosine cannot tell who belongs together."
    )


def dimensions(results: dict[str, dict[str, Any]], layer: str | None) -> None:
    """Each dimension's part of the mean cosine or of the variance, rogue ones by number."""
    st.subheader("Does a single dimension make the cone?")
    kinds = {"cosine": "its part of the mean cosine", "variance": "its share of the variance"}
    asked = st.query_params.get("dimensions")
    kind = st.segmented_control(
        "Shown",
        list(kinds),
        default=asked if asked in kinds else "cosine",
        key="dimension_kind",
        format_func=kinds.__getitem__,
        label_visibility="collapsed",
        required=True,
    )
    pickers.keep("dimensions", kind if kind != "cosine" else None)
    cones = {role: _cone(*space.place(result, layer)) for role, result in results.items()}
    figures.show(dimension_figure(cones, str(kind)), "dimensions", "Every dimension's part")
    told = "; ".join(_rogue_told(role, cone) for role, cone in cones.items())
    st.caption(
        f"{told}. Rogue: more than {anisotropy.SIGMAS:.0f} deviations above the mean dimension "
        "(Timkey & van Schijndel 2021)."
    )
    table = tables.of_numbers(_dimension_rows(cones))
    if len(table):
        tables.folded("The rogue dimensions as a table", "rogue_numbers", table)


def removing(results: dict[str, dict[str, Any]], layer: str | None) -> None:
    """Mean cosine and IsoScore without the mean, and without the first directions."""
    st.subheader("What if the mean and the first directions are taken out?")
    cones = {role: _cone(*space.place(result, layer)) for role, result in results.items()}
    figures.show(removal_figure(cones), "removal", "Isotropy after removing directions")
    groups = next(iter(cones.values())).removed[0].mean_cosine.groups
    who = f"{groups} speakers" if groups else "clips"
    st.caption(
        "No training at all: subtract the mean, then the first k principal directions (Mu & "
        "Viswanath 2018). What this gives for nothing, a refinement must beat. The directions that "
        f"are taken out may carry what you want. Bands: 95 % intervals over {who}."
    )
    table = tables.of_numbers(
        ({"taken out": "nothing" if step.what == "as it is" else step.what, "metric": name,
          "of": role}, one.as_dict())
        for role, cone in cones.items()
        for step in cone.removed
        for name, one in step._asdict().items()
        if name != "what"
    )  # fmt: skip
    tables.folded(f"All {len(table)} numbers", "removal_numbers", table)


def _dimension_rows(
    cones: dict[str, Cone],
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The rogue dimensions of each space, and what they hold together."""
    for role, cone in cones.items():
        found = cone.dimensions
        if found.rogue_share is not None:
            yield (
                {"dimension": "all rogue", "metric": "share of mean cosine", "of": role},
                found.rogue_share.as_dict(),
            )
        for index in found.rogue:
            for name, each in (("mean cosine", found.cosine), ("variance", found.variance)):
                part = {"dimension": str(index), "metric": f"part of {name}", "of": role}
                yield part, each[index].as_dict()


def _rogue_told(role: str, cone: Cone) -> str:
    found = cone.dimensions
    if not found.rogue:
        return f"{role}: no rogue dimension"
    share, total = found.rogue_share, cone.removed[0].mean_cosine
    names = ", ".join(map(str, found.rogue[:NAMED]))
    more = f" and {len(found.rogue) - NAMED} more" if len(found.rogue) > NAMED else ""
    told = f"{role}: rogue {names}{more}"
    if share is None:
        return f"{told}, of a mean cosine of {total:.2f}"
    part = f"{share:.0%} ({share.low:.0%} to {share.high:.0%})".replace("-", "−")
    return f"{told}, {part} of a mean cosine of {total:.2f}"


def _colour(role: str) -> str:
    return theme.before() if role == "before" else theme.after()


def pair_figure(
    random: dict[str, Any], same: dict[str, Any], factor: str, height: int = 380
) -> go.Figure:
    """A row an encoder on one cosine axis."""
    figure = make_subplots(
        rows=len(random), cols=1, shared_xaxes=True, vertical_spacing=0.08, row_titles=list(random)
    )
    edges = np.linspace(-1, 1, 101)
    for row, role in enumerate(random, start=1):
        kinds = [("random pair", random[role], theme.quiet())]
        if role in same:
            kinds.append((f"{role}: same {factor}", same[role], _colour(role)))
        for name, values, colour in kinds:
            density, _ = np.histogram(values, bins=edges, density=True)
            figure.add_scatter(
                x=(edges[:-1] + edges[1:]) / 2,
                y=density,
                name=name,
                mode="lines",
                fill="tozeroy",
                fillcolor=theme.rgba(colour, 0.25),
                line={
                    "color": colour,
                    "width": 2.5,
                    "shape": "hvh",
                    "dash": "dot" if name == "random pair" else "solid",
                },
                showlegend=name != "random pair" or row == 1,
                legendgroup=name,
                hovertemplate="cosine %{x:.2f}<extra>" + name + "</extra>",
                row=row,
                col=1,
            )
    figures.style(figure, height if len(random) > 1 else 330)
    figure.update_yaxes(showticklabels=False, rangemode="tozero")
    figure.update_xaxes(range=[-1, 1])
    figure.update_xaxes(title={"text": "cosine"}, row=len(random), col=1)
    return figure


def dimension_figure(cones: dict[str, Cone], kind: str, height: int = 380) -> go.Figure:
    """A row an encoder; both on one scale, so that heights can be compared."""
    figure = make_subplots(
        rows=len(cones), cols=1, vertical_spacing=0.12, row_titles=list(cones), shared_yaxes="all"
    )
    for row, (role, cone) in enumerate(cones.items(), start=1):
        found = cone.dimensions
        numbers = found.cosine if kind == "cosine" else found.variance
        values = np.array([one.value for one in numbers])
        rogue = np.isin(np.arange(len(values)), found.rogue)
        figure.add_bar(
            x=np.arange(len(values)),
            y=values,
            marker={
                "color": [theme.ink(0.85) if one else _colour(role) for one in rogue],
                "line": {"width": 0},
            },
            showlegend=False,
            customdata=[(one.low, one.high) for one in numbers],
            hovertemplate="dimension %{x}: %{y:.4f} "
            f"(%{{customdata[0]:.4f}} to %{{customdata[1]:.4f}})<br>n = {numbers[0].n:,} clips, "
            f"{numbers[0].null:.4f} where all are alike<extra>{role}</extra>",
            row=row,
            col=1,
        )
        for index in found.rogue[:2]:
            figure.add_annotation(
                x=index, y=float(values[index]), text=str(index), showarrow=False, yshift=9,
                font={"size": 12}, row=row, col=1,
            )  # fmt: skip
    figures.style(figure, height if len(cones) > 1 else 330, bargap=0.0)
    figure.update_xaxes(title={"text": "dimension"}, row=len(cones), col=1)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(nticks=4)
    return figure


def removal_figure(cones: dict[str, Cone], height: int = 340) -> go.Figure:
    """Mean cosine at the left, IsoScore at the right."""
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.09, subplot_titles=["mean cosine", "IsoScore"]
    )
    for role, cone in cones.items():
        style = figures.PAIR_STYLE[role]
        short = {"as it is": "all", "mean": "μ"}
        names = [short.get(step.what, step.what.split()[-1]) for step in cone.removed]
        for column, field in enumerate(("mean_cosine", "isoscore"), start=1):
            numbers = [getattr(step, field) for step in cone.removed]
            low, high = [one.low for one in numbers], [one.high for one in numbers]
            figure.add_scatter(
                x=names + names[::-1],
                y=high + low[::-1],
                fill="toself",
                fillcolor=theme.rgba(_colour(role), 0.14),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=role,
                row=1,
                col=column,
            )
            figure.add_scatter(
                x=names,
                y=[one.value for one in numbers],
                name=role,
                legendgroup=role,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": _colour(role), "width": 3, "dash": style["dash"]},
                marker={"size": 9, "symbol": style["symbol"], "line": {"width": 2}},
                customdata=[(one.low, one.high) for one in numbers],
                hovertemplate="%{y:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f}), "
                f"n = {numbers[0].n:,}<extra>{role}</extra>",
                row=1,
                col=column,
            )
    figures.style(figure, height, hovermode="x unified")
    figure.update_xaxes(type="category", title={"text": "taken out"})
    figure.update_layout(legend={"y": 1.1}, margin={"t": 56})
    return figure
