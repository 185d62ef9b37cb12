"""Isotropy: does the encoder use its space evenly, and what did refinement change?"""

from typing import Any

import streamlit as st

from pages.components import (
    changes,
    cone,
    figures,
    guard,
    measuring,
    pair,
    pickers,
    space,
    tables,
)  # fmt: skip
from refine import names
from refine.corpus import Corpus

Results = dict[str, dict[str, Any]]
VIEWS = {
    "change": ":material/scatter_plot: Before and after",
    "pairs": ":material/join: Pairs",
    "directions": ":material/bar_chart: Directions",
    "layers": ":material/layers: Layers",
}


def draw() -> None:
    st.title("Does it use its space evenly?")
    before, after = pair.encoders()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        corpus = pickers.opened(pickers.choose_corpus())
        split = pair.choose_split(corpus)
    names = {"before": before} | ({"after": after} if after else {})
    pair.caveats(before, after, corpus, split)
    results = measuring.results(names, str(st.session_state["corpus"]), corpus, split)
    if results is None:
        return
    layer = pair.choose_layer(results)
    shared(results)
    view = pickers.choose_view("isotropy_view", VIEWS)
    if view == "change":
        change(results, layer, corpus)
    elif view == "pairs":
        with guard.sentences():
            cone.pairs(results, layer, corpus)
    elif view == "directions":
        directions(results, layer)
    else:
        curves(results)
    command_lines(results, names, split, None if view == "layers" else layer)


def command_lines(results: Results, names: dict[str, str], split: str, layer: str | None) -> None:
    """The equal commands; of the checkpoints' own layers also that of the changes."""
    others = {role: layer for role, one in results.items() if layer not in (None, one["layer"])}
    more = []
    if layer is None and "after" in names:
        words = ["compare", "--encoders", names["after"], "--against", names["before"]]
        more = [[*words, "--corpus", str(st.session_state["corpus"]), "--split", split, "--json"]]
    pair.command_lines(names, split, others, more)


def change(results: Results, layer: str | None, corpus: Corpus) -> None:
    """Every number with its change, and where the clips went."""
    st.subheader("Before and after" if len(results) > 1 else "In numbers")
    numbers = {role: pair.numbers(result, layer) for role, result in results.items()}
    paired = space.paired(results, layer)
    changes.rows("isotropy", "Isotropy before and after", numbers, paired)
    st.caption(
        "Last column: the change, with its 95 % interval paired on the same clips. Choose a row "
        "for its definition, null value and control. More even is not better by itself: noise is "
        "the most even cloud there is."
    )
    every = numbers | ({"change": paired} if paired else {})
    table = tables.of_numbers(
        ({"metric": name, "of": role}, one)
        for role, found in every.items()
        for name, one in found.items()
    )
    tables.folded(f"All {len(table)} numbers", "isotropy_numbers", table)
    with guard.sentences():
        space.maps(results, layer, corpus)


def directions(results: Results, layer: str | None) -> None:
    """Which directions carry the spread, and what is left without the strongest."""
    left, right = st.columns(2, gap="large")
    with left, guard.sentences():
        spread(results, layer)
    with right, guard.sentences():
        cone.removing(results, layer)
    with guard.sentences():
        cone.dimensions(results, layer)


def shared(results: Results) -> None:
    """How many clips stand behind what follows."""
    n = {role: result["n_clips"] for role, result in results.items()}
    text = f"Measured on {next(iter(n.values())):,} clips"
    if len(set(n.values())) > 1:
        text = f"Measured on {n['before']:,} clips before and {n['after']:,} after; each change on "
        text += "the clips that both have, as its *n* says"
    st.caption(f"{text}.")


def spread(results: Results, layer: str | None) -> None:
    """How many directions carry the spread."""
    st.subheader("How many directions carry it?")
    spectra = {role: space.spectrum(result, layer) for role, result in results.items()}
    figures.show(figures.spectra(spectra, 420), "spectrum", "Singular value spectrum")
    st.caption("Singular values over the largest. An even space is a flat line.")


def curves(results: Results) -> None:
    """Layer by layer."""
    st.subheader("Layer by layer")
    metrics = list(next(iter(results.values()))["isotropy"])
    asked = st.query_params.get("metric")
    metric = st.pills(
        "Metric",
        metrics,
        default=asked if asked in metrics else metrics[0],
        key="layer_metric",
        format_func=names.name,
        label_visibility="collapsed",
        required=True,
        wrap=True,
    )
    pickers.keep("metric", metric if metric != metrics[0] else None)
    layers = [name for name in next(iter(results.values()))["layers"] if name != "mean"]
    curve = {
        role: [result["layers"][name][metric] for name in layers if name in result["layers"]]
        for role, result in results.items()
    }
    figures.show(
        figures.layers(curve, layers, names.name(str(metric))),
        "layer_curve",
        f"{metric} of every layer",
    )


guard.page(draw)
