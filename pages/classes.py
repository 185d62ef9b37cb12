"""Classes: are the classes of a factor apart, can they be read, and what did refinement change?"""

from typing import Any

import streamlit as st

from pages.components import (
    class_looks,
    class_neighbours,
    class_views,
    commands,
    guard,
    measuring,
    pair,
    pickers,
    player,
)

VIEWS = {
    "map": ":material/scatter_plot: Map",
    "numbers": ":material/straighten: Numbers",
    "confusions": ":material/grid_on: Confusions",
    "pairs": ":material/compare_arrows: Pairs",
}


def draw() -> None:
    st.title("Does it keep the classes apart?")
    before, after = pair.encoders()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        corpus = pickers.opened(pickers.choose_corpus())
        split = pair.choose_split(corpus)
    names = {"before": before} | ({"after": after} if after else {})
    pair.caveats(before, after, corpus, split)
    source = str(st.session_state["corpus"])
    results = measuring.results(names, source, corpus, split)
    if results is None:
        return
    if not comparable(results):
        return
    factor = class_looks.factor_of(results)
    tiles = st.container()
    view = pickers.choose_view("classes_view", VIEWS)
    method = choose_map() if view == "map" else "pca"
    look = class_looks.look(results, names, source, split, factor, method)
    if look is None:
        return
    with tiles:
        class_views.verdict(results, look, factor)
    if view == "map":
        class_neighbours.begin(corpus)
        class_neighbours.view(look, factor, corpus)
    elif view == "numbers":
        class_views.numbers(results, look, factor)
    else:
        getattr(class_views, view)(results, look, factor, corpus)
    command(names, source, split, factor, method)


def comparable(results: dict[str, dict[str, Any]]) -> bool:
    """Whether a factor has classes on both sides; else says why not."""
    shared = set.intersection(*(set(result["classes"]) for result in results.values()))
    if shared:
        return True
    left_out = next(iter(results.values()))["left_out_factors"]
    st.info("These clips have no factor with two classes or more to compare.")
    for factor, reason in left_out.items():
        st.markdown(f":gray[{player.escape(factor)}: {player.escape(reason)}]")
    return False


def choose_map() -> str:
    """Joint PCA, or an aligned UMAP that is made in the background."""
    asked = st.query_params.get("map")
    chosen = st.segmented_control(
        "Map by",
        ["pca", "umap"],
        default=asked if asked in ("pca", "umap") else "pca",
        key="classes_map",
        format_func={"pca": "Joint PCA", "umap": "Aligned UMAP"}.__getitem__,
        required=True,
        label_visibility="collapsed",
        persist_state="session",
        help="PCA: one turn of the space, the same for both; distances are true as far as the "
        "plane shows them. UMAP: neighbourhoods, laid out for both together; takes a minute the "
        "first time.",
    )
    pickers.keep("map", chosen if chosen != "pca" else None)
    return str(chosen)


def command(names: dict[str, str], source: str, split: str, factor: str, method: str) -> None:
    """The equal command line."""
    words = ["classes", "--before", names["before"]]
    words += ["--after", names["after"]] if "after" in names else []
    words += ["--corpus", source, "--split", split, "--factor", factor]
    words += ["--map", method] if method != "pca" else []
    commands.show([*words, "--json"])


guard.page(draw)
