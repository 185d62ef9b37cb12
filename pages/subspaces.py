"""Subspaces: what does each block of the vector hold, and what moves it?"""

from typing import Any

import streamlit as st

from pages.components import bench, commands, guard, measuring, pair, pickers, subspace_views
from refine.corpus import Corpus

DEFAULT = "mini-interventional"
VIEWS = {
    "bench": ":material/tune: Intervene",
    "tells": ":material/grid_on: What each tells",
    "cosines": ":material/apps: Cosines",
    "errors": ":material/show_chart: Errors",
    "geometry": ":material/architecture: Geometry",
}


def draw() -> None:
    st.title("What does each subspace hold?")
    begin()
    before, after = pair.encoders()
    info = pickers.described(after) if after else None
    if isinstance(info, str):
        raise guard.PageError(info)
    if info is None or not info.subspaces:
        nothing(before, after)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        corpus = pickers.opened(pickers.choose_corpus())
        split = pair.choose_split(corpus)
    assert after is not None
    names = {"before": before, "after": after}
    pair.caveats(before, after, corpus, split)
    source = str(st.session_state["corpus"])
    results = measuring.results(names, source, corpus, split)
    if results is None:
        return
    spaces = subspace_views.spaces(results, after)
    view = pickers.choose_view("subspaces_view", VIEWS)
    if view == "bench":
        on_the_bench(names, corpus, source, split, results, spaces)
    else:
        factor = getattr(subspace_views, view)(results, spaces)
        if view == "tells":
            pair.command_lines(names, split)
        else:
            command(names, source, split, factor)


def command(names: dict[str, str], source: str, split: str, factor: str | None) -> None:
    """The equal command line of what compares the pair."""
    words = ["subspaces", "--before", names["before"], "--after", names["after"]]
    words += ["--corpus", source, "--split", split]
    commands.show([*words, *(["--factor", factor] if factor else []), "--json"])


def begin() -> None:
    """The first visit opens on an encoder that has subspaces, and on speakers who say the same."""
    if not st.query_params.get("after") and st.session_state.get("after") is None:
        shipped = pickers.shipped_encoders()
        st.session_state["after"] = DEFAULT if DEFAULT in shipped else None
    if not st.query_params.get("corpus") and st.session_state.get("corpus") is None:
        found = pickers.found_corpora()
        spoken = [name for name in found if name.endswith("arabic_commands")]
        st.session_state["corpus"] = (spoken or ["demo"])[0]


def nothing(before: str, after: str | None) -> None:
    """No subspaces here: what they are, and one click to a pair that has them."""
    with st.container(border=True, key="card_nothing"):
        st.subheader("No subspaces in this pair")
        st.markdown(
            f"{'**After** is empty' if after is None else 'The encoder *after* keeps one vector'}, "
            "with nothing in it set aside for the voice or the words. The recipe *interventional* "
            "learns a small map behind an encoder that writes who speaks into one block and what "
            "is said into another."
        )
        with st.container(horizontal=True):
            if DEFAULT in pickers.shipped_encoders():
                st.button(
                    f"Open {DEFAULT}",
                    key="open_default",
                    type="primary",
                    icon=":material/join_inner:",
                    on_click=open_default,
                )
            st.page_link("pages/train.py", label="Train your own", icon=":material/model_training:")


def open_default() -> None:
    for key, value in (("before", "mini"), ("after", DEFAULT)):
        st.session_state[key] = value
        pickers.keep(key, value)


def on_the_bench(
    names: dict[str, str],
    corpus: Corpus,
    source: str,
    split: str,
    results: dict[str, dict[str, Any]],
    spaces: Any,
) -> None:
    scale = subspace_views.scale(results, names["after"])
    blocks = subspace_views.blocks(results, names["after"])
    clips_of = f"{pickers.corpus_label(source)} ({split})"
    bench.draw(bench.Bench(names, blocks, spaces, scale, corpus, source, split, clips_of))


guard.page(draw)
