"""The map view of the classes page: the linked maps, the clip that is heard, who moved most."""

from typing import Any

import numpy as np
import streamlit as st

from pages.components import changes, class_map, guard, pickers, player
from pages.components.class_looks import POINTS, Look, rows_in
from pages.components.class_views import clips_table, neighbours_of, own_columns
from refine import maps
from refine.corpus import Corpus

Results = dict[str, dict[str, Any]]
STATE = "class_marked"


def begin(corpus: Corpus) -> None:
    """A clip in the address is marked; a page drawn anew is silent; other clips are not marked."""
    st.session_state["class_play"] = False
    before = st.session_state.get(f"{STATE}_of")
    if STATE not in st.session_state:
        st.session_state[STATE] = {"clip": st.query_params.get("clip"), "group": None}
    elif before != corpus.fingerprint:
        st.session_state[STATE] = {"clip": None, "group": None}
    st.session_state[f"{STATE}_of"] = corpus.fingerprint


def mark(clip: str | None, group: list[str] | None = None) -> None:
    """Choose a clip, or a group, or nothing."""
    st.session_state[STATE] = {"clip": clip, "group": group}
    st.session_state["class_play"] = clip is not None


@st.fragment
def view(look: Look, factor: str, corpus: Corpus) -> None:
    """Maps, the clip, and the clips whose neighbours changed most."""
    with guard.sentences():
        with st.container(horizontal=True, vertical_alignment="center"):
            lasso = tool()
            drawn = maps.thinned(look.map, points(look.map), keep=in_view(look))
            fit = st.toggle("Zoom each to fit", key="class_fit", help="Else both have one scale.")
            if any(st.session_state[STATE].values()):
                st.button("Show all again", icon=":material/close:", on_click=mark, args=(None,))
        clips = drawn.table["clip"].to_numpy()

        def chosen(rows: list[int], group: bool) -> None:
            if group:
                mark(None, clips[rows].tolist())
            else:
                mark(str(clips[rows[0]]))

        class_map.show(drawn, factor, marked(look, drawn), lasso, fit, chosen)
        st.caption(class_map.caption(drawn))
        heard(look, drawn, factor, corpus)
        moved(look, factor)


def tool() -> bool:
    """Whether dragging selects a group; Shift does the other."""
    chosen = st.segmented_control(
        "Choose",
        ["click", "lasso"],
        default="click",
        key="class_tool",
        format_func={
            "click": ":material/ads_click: one clip",
            "lasso": ":material/lasso_select: a group",
        }.__getitem__,
        required=True,
        label_visibility="collapsed",
    )
    return chosen == "lasso"


def points(drawn: maps.Map) -> int:
    """How many points are drawn; asked only where there are many."""
    most = list(POINTS.values())
    if len(drawn.table) <= most[0]:
        return most[-1]
    chosen = st.segmented_control(
        "Points",
        list(POINTS),
        default=next(iter(POINTS)),
        key="class_points",
        required=True,
        label_visibility="collapsed",
    )
    return POINTS[str(chosen)]


def in_view(look: Look) -> list[str]:
    """Clips that must be on the map: what is marked, and its neighbours."""
    state = st.session_state[STATE]
    if state["group"]:
        return list(state["group"])
    if not state["clip"]:
        return []
    near = look.near.rows_of(state["clip"]).values()
    return [state["clip"], *(name for names in near for name in names)]


def marked(look: Look, drawn: maps.Map) -> class_map.Marked:
    """What stands out on the map; a clip that is not on it leaves everything as it is."""
    state = st.session_state[STATE]
    if state["group"]:
        rows = rows_in(drawn, state["group"])
        return class_map.Marked(None, {}, rows if len(rows) else None)
    here = rows_in(drawn, [state["clip"]]) if state["clip"] else np.arange(0)
    if not len(here):
        return class_map.Marked(None, {}, None)
    near = {role: rows_in(drawn, names) for role, names in look.near.rows_of(state["clip"]).items()}
    return class_map.Marked(int(here[0]), near, None)


def heard(look: Look, drawn: maps.Map, factor: str, corpus: Corpus) -> None:
    """The clip that was chosen, or those of the group."""
    state = st.session_state[STATE]
    clip = state["clip"]
    pickers.keep("clip", clip)
    if state["group"]:
        told = look.near.told(factor)
        group = told[told["clip"].isin(state["group"])].reset_index(drop=True)
        st.subheader(f"{len(state['group']):,} clips chosen")
        clip = clips_table(
            group, f"class_group_{len(state['group'])}_{state['group'][0]}", neighbours_of(look)
        )
    if clip is None:
        st.caption("Choose a point to hear it and to see its nearest clips before and after.")
        return
    if clip not in set(corpus.table["clip"]):
        st.info(f"{player.escape(clip)} is not in these clips.", icon=":material/info:")
        return
    with st.container(border=True, key="card_chosen"):
        play = bool(st.session_state.get("class_play"))
        player.play(corpus, clip, "class_sound", autoplay=play, wide=True)
        if not state["group"]:
            about(look, drawn, factor, clip)


def about(look: Look, drawn: maps.Map, factor: str, clip: str) -> None:
    """What became of its neighbours, in a sentence."""
    told = look.near.told(factor)
    rows = told[told["clip"] == clip]
    if not len(rows):
        st.caption("It was not drawn, so its neighbours are not known.")
        return
    row, k = rows.iloc[0], look.near.near["before"].shape[1]
    text = ""
    if "kept" in row:
        text = (
            f"Of its {k} nearest clips before, **{round(row['kept'] * k)}** are so after; they are "
            f"now at rank {row['drift']:.0f} of {len(told) - 1:,} (median). "
        )
    if row["class"]:
        shares = [f"{round(row[f'own_{role}'] * k)}" for role in look.near.near]
        name = player.escape(str(row["class"]))
        text += f"Of the same {player.escape(factor)} ({name}): {' → '.join(shares)} of {k}."
    if not len(rows_in(drawn, [clip])):
        text += " It is not among the points of this map."
    st.markdown(text)


def moved(look: Look, factor: str) -> None:
    """The clips whose neighbours changed most; a row that is chosen is marked and heard."""
    if look.near.number is None or look.near.kept is None:
        return
    number, k = look.near.number, look.near.near["before"].shape[1]
    st.subheader("Who moved most, relative to its neighbours?")
    moved_table(look, factor, k)
    st.caption(
        f"{changes.short(100 * number.value)} % of the {k} nearest clips (by cosine, in the space "
        f"and not on the map) are kept, {changes.short(100 * number.low)} to "
        f"{changes.short(100 * number.high)} %; by chance {changes.short(100 * (number.null or 0))}"
        f" %, neighbours of another clip {changes.short(100 * (number.control or 0))} %. "
        f"{look.near.note[:1].upper()}{look.near.note[1:]}. Now at rank: the median rank after of "
        "those that were nearest before. To move is neither good nor bad: see whether the share "
        "of its own class rose."
    )


def moved_table(look: Look, factor: str, k: int) -> None:
    """A row that is chosen is marked on the map and heard."""
    table = look.near.most_moved(factor)
    own = {f"own_{role}": f"own {role}" for role in look.near.near}
    shown = table[["clip", "class", "kept", "drift", *own]].rename(columns=own)
    for name in ("kept", *own.values()):
        shown[name] = (shown[name] * k).round()
    key = "class_moved"

    def remember() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            mark(str(table["clip"].iloc[rows[0]]))

    st.dataframe(
        shown,
        key=key,
        hide_index=True,
        height=330,
        on_select=remember,
        selection_mode="single-row",
        column_config={
            "class": factor,
            "kept": st.column_config.NumberColumn(format=f"%d of {k}"),
            "drift": st.column_config.NumberColumn(
                "now at rank", format="%.0f", help="median of its former neighbours"
            ),
            **own_columns(k),
        },
    )
