"""Isotropy: does the encoder use its space evenly, and what did refinement change?"""

from typing import Any

import streamlit as st

from pages.components import changes, commands, figures, guard, measuring, pickers, space
from refine.corpus import Corpus

NONE = "none"
FEW = 20  # test clips; with fewer the page begins with all of them


def draw() -> None:
    st.title("Does it use its space evenly?")
    before, after = encoders()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        corpus = pickers.opened(pickers.choose_corpus())
        split = choose_split(corpus)
    names = {"before": before} | ({"after": after} if after else {})
    caveats(before, after, corpus, split)
    results = measuring.results(names, str(st.session_state["corpus"]), corpus, split)
    if results is None:
        return
    layer = choose_layer(results)
    shared(results)
    st.subheader("Before and after" if after else "In numbers")
    changes.rows(
        {role: numbers(result, layer) for role, result in results.items()},
        space.paired(results, layer),
    )
    st.caption(
        "Last column: the change, with its 95 % interval paired on the same clips. Choose a row "
        "for its definition, null value and control. More even is not better by itself: noise is "
        "the most even cloud there is."
    )
    with guard.sentences():
        space.maps(results, layer, corpus)
    clouds(results, layer)
    curves(results)
    command_lines(names, split)


def encoders() -> tuple[str, str | None]:
    """The encoder as it was, and the refined one (or none)."""
    runs = [run.id for run in pickers.trained_runs()]
    shipped = pickers.shipped_encoders()
    refined = [*runs, *(name for name in shipped if name != "mini")]
    first = refined[0] if refined else NONE
    left, right = st.columns(2)
    with right:
        after = pickers.choose(
            "after",
            "After",
            [NONE, *refined],
            first,
            lambda name: "nothing yet" if name == NONE else pickers.encoder_label(name),
            help="A run, a refined encoder that is shipped, or the folder of any encoder.",
        )
    info = pickers.described(after) if after and after != NONE else None
    base = info.base if info is not None and not isinstance(info, str) else None
    with left:
        before = pickers.choose_encoder("before", "Before", base or "mini")
    return before or "mini", None if after in (None, NONE) else after


def caveats(before: str, after: str | None, corpus: Corpus, split: str) -> None:
    """What makes this pair, or these clips, a comparison of something else."""
    first, second = pickers.described(before), pickers.described(after or "")
    if isinstance(first, str) or isinstance(second, str):
        return
    base = (second.refinement.get("base") or {}).get("fingerprint")
    if base and base != first.fingerprint:
        st.warning(
            "After was not refined from this very Before (another encoder, or another version of "
            "it), so what differs is more than the refinement.",
            icon=":material/info:",
        )
    seen = (second.refinement.get("provenance") or {}).get("corpus") or {}
    if split in ("train", "all") and seen.get("fingerprint") == corpus.fingerprint:
        st.warning(
            "These clips include the ones it was trained on; choose test for an honest picture.",
            icon=":material/info:",
        )


def choose_split(corpus: Corpus) -> str:
    """The clips to measure on: test, where that is more than a few."""
    counts = corpus.counts("split")
    names = [name for name in ("test", "dev", "train") if name in counts] + ["all"]
    first = "test" if counts.get("test", 0) >= FEW else "all"
    asked = st.query_params.get("split")
    chosen = st.segmented_control(
        "Split",
        names,
        default=asked if asked in names else first,
        key=f"split_{corpus.fingerprint[:8]}",
        format_func=lambda name: f"{name} {counts.get(name, len(corpus)):,}",
        required=True,
        help="Test clips are by speakers that no training has heard.",
    )
    pickers.keep("split", chosen if chosen != first else None)
    return str(chosen)


def choose_layer(results: dict[str, dict[str, Any]]) -> str | None:
    """One layer for both encoders, or each one's own."""
    common = [
        name for name in next(iter(results.values()))["layers"]
        if all(name in result["layers"] for result in results.values())
    ]  # fmt: skip
    own = {result["layer"] for result in results.values()}
    names = [layer_label(own), *common]
    chosen = st.pills("Layer", names, default=names[0], key="layer", required=True, wrap=True)
    return None if chosen == names[0] else str(chosen)


def layer_label(own: set[str]) -> str:
    return f"own ({' / '.join(sorted(own))})"


def numbers(result: dict[str, Any], layer: str | None) -> dict[str, Any]:
    return result["isotropy"] if layer is None else result["layers"][layer]


def shared(results: dict[str, dict[str, Any]]) -> None:
    """How many clips stand behind what follows."""
    n = {role: result["n_clips"] for role, result in results.items()}
    out = max((len(result.get("left_out") or {}) for result in results.values()), default=0)
    text = f"Measured on {next(iter(n.values())):,} clips"
    if len(set(n.values())) > 1:
        text = f"Measured on {n['before']:,} clips before and {n['after']:,} after"
    st.caption(text + (f"; {out:,} could not be encoded." if out else "."))


def clouds(results: dict[str, dict[str, Any]], layer: str | None) -> None:
    """How alike random clips are, and how many directions carry the spread."""
    left, right = st.columns(2, gap="large")
    with left, guard.sentences():
        st.subheader("Do random clips point the same way?")
        st.caption("Cosine of 20,000 pairs. In an even space most are near 0.")
        cosines = {role: space.cosines(result, layer) for role, result in results.items()}
        figures.show(figures.cosines(cosines), "cosines", "Cosines of random pairs")
    with right, guard.sentences():
        st.subheader("How many directions carry it?")
        st.caption("Singular values over the largest. An even space is a flat line.")
        spectra = {role: space.spectrum(result, layer) for role, result in results.items()}
        figures.show(figures.spectra(spectra), "spectrum", "Singular value spectrum")


def curves(results: dict[str, dict[str, Any]]) -> None:
    """Layer by layer."""
    st.subheader("Layer by layer")
    metrics = list(next(iter(results.values()))["isotropy"])
    metric = st.pills(
        "Metric",
        metrics,
        default=metrics[0],
        key="layer_metric",
        format_func=lambda name: changes.NAMES.get(name, (name,))[0],
        label_visibility="collapsed",
        required=True,
        wrap=True,
    )
    layers = [name for name in next(iter(results.values()))["layers"] if name != "mean"]
    curve = {
        role: [result["layers"][name][metric] for name in layers if name in result["layers"]]
        for role, result in results.items()
    }
    figures.show(
        figures.layers(curve, layers, changes.NAMES.get(metric, (metric,))[0]),
        "layer_curve",
        f"{metric} of every layer",
    )


def command_lines(names: dict[str, str], split: str) -> None:
    """The equal commands."""
    corpus = str(st.session_state["corpus"])
    for role, name in names.items():
        arguments = ["evaluate", "--encoder", name, "--corpus", corpus, "--split", split, "--json"]
        commands.show(arguments, f"{role.capitalize()}, from the command line")


guard.page(draw)
