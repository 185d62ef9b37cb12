"""Reading the embedding tables of an evaluation: cosines, spectrum, joint maps."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import guard, pickers, player, point_map
from refine import comparison
from refine.corpus import Corpus
from refine.embeddings import open_embeddings, same_recordings
from refine.evaluation import table_of
from refine.maps import speakers_of
from refine.metrics import isotropy
from refine.metrics.change import change
from refine.metrics.intervals import Number
from refine.projection import joint_pca, quality, sample

NOTHING = "nothing"  # in the address: no factor colours the points
MOST = 2_000  # points on a map; more are sampled, and it says so


def vectors(result: dict[str, Any], layer: str | None) -> np.ndarray:
    return open_embeddings(table_of(result, layer)).vectors(layer or result["layer"])


def place(result: dict[str, Any], layer: str | None) -> tuple[str, str]:
    """The table of a layer, and the layer (None: the result's own, as "projected")."""
    return table_of(result, layer), layer or result["layer"]


def cosines(result: dict[str, Any], layer: str | None) -> list[float]:
    """Cosines of random pairs."""
    if layer in (None, result["layer"]):
        return result["cosines"]
    return _cosines(table_of(result, layer), str(layer))


def spectrum(result: dict[str, Any], layer: str | None) -> list[float]:
    """Normalised singular values."""
    if layer is None or layer == result["layer"] or layer not in result["layers"]:
        return result["spectrum"]
    return _spectrum(table_of(result, layer), str(layer))


def paired(results: dict[str, dict[str, Any]], layer: str | None) -> dict[str, Any] | None:
    """The changes of every metric on the same clips, or None where there is no such pair."""
    if len(results) < 2:
        return None
    places = [place(result, layer) for result in results.values()]
    return _paired(tuple(places))


@st.cache_data(max_entries=64, show_spinner=False)
def _paired(places: tuple[tuple[str, str], ...]) -> dict[str, Any] | None:
    tables = [open_embeddings(path) for path, _ in places]
    same_recordings(tables)
    first, second = (found.table for found in tables)
    rows = comparison.in_common(first["clip"].tolist(), second["clip"].tolist())
    if len(rows[0]) < 2:
        return None
    vectors = [
        found.vectors(name)[these]
        for found, (_, name), these in zip(tables, places, rows, strict=True)
    ]
    who = speakers_of(first.iloc[rows[0]])
    return {name: number.as_dict() for name, number in change(vectors[0], vectors[1], who).items()}


@st.cache_data(max_entries=64, show_spinner=False)
def _cosines(path: str, layer: str) -> list[float]:
    return isotropy.cosines(open_embeddings(path).vectors(layer), 20_000, seed=0).tolist()


@st.cache_data(max_entries=64, show_spinner=False)
def _spectrum(path: str, layer: str) -> list[float]:
    return isotropy.spectrum(open_embeddings(path).vectors(layer)).tolist()


class Joint(NamedTuple):
    """Two maps of the same clips, and how far they can be trusted."""

    table: pd.DataFrame  # clip and factors, a row a point
    xy: dict[str, np.ndarray]
    notes: dict[str, str]
    note: str


def maps(results: dict[str, dict[str, Any]], layer: str | None, corpus: Corpus) -> None:
    """The pair of maps, and the clip that was chosen in one."""
    st.subheader("The same clips, before and after" if len(results) > 1 else "The clips")
    # a click plays its clip; only the whole page drawn anew (not this part) makes it silent again
    st.session_state["maps_play"] = False
    st.session_state.setdefault("maps_clip", st.query_params.get("clip"))
    places = {role: place(result, layer) for role, result in results.items()}
    _pair(_joint(places), corpus)


@st.fragment
def _pair(joint: Joint, corpus: Corpus) -> None:
    with guard.sentences():
        factors = [name for name in corpus.factors if name in joint.table]
        first, asked = best(joint.table, factors), st.query_params.get("colour")
        begin = asked if asked in factors else first
        factor = st.pills(
            "Colour by",
            factors,
            default=None if asked == NOTHING else begin,
            key=f"colour_{corpus.fingerprint[:8]}",
            format_func=player.escape,
            wrap=True,
        )
        pickers.keep("colour", (factor or NOTHING) if factor != first else None)
        chosen = linked(joint, factor)
        pickers.keep("clip", None if chosen is None else str(joint.table["clip"].iloc[chosen]))
        st.caption(joint.note + " Choose a point to hear it; drag to move, Ctrl and wheel to zoom.")
        if chosen is not None:
            with st.container(border=True, key="card_chosen"):
                clip = str(joint.table["clip"].iloc[chosen])
                play = bool(st.session_state.get("maps_play"))
                player.play(corpus, clip, "map_sound", autoplay=play, wide=True)


def linked(joint: Joint, factor: str | None) -> int | None:
    """The maps; returns the row that was chosen last, or None."""
    # by its name: rows of another pair, or of fewer clips, are of other clips
    clips = joint.table["clip"].astype(str)
    named = np.flatnonzero(clips == st.session_state.get("maps_clip"))
    chosen = int(named[0]) if len(named) else None

    def remember(rows: list[int], group: bool) -> None:
        if not group:
            st.session_state["maps_clip"] = clips.iloc[rows[0]]
            st.session_state["maps_play"] = True

    point_map.show(
        "maps",
        f"Maps of {len(joint.table):,} clips coloured by {factor or 'nothing'}",
        [point_map.Panel(role, joint.notes[role], xy) for role, xy in joint.xy.items()],
        joint.table,
        factor,
        point_map.Marked(chosen, {}, None) if chosen is not None else point_map.NOTHING,
        remember,
        dim=False,
        height=430,
    )
    return chosen


def best(table: pd.DataFrame, factors: list[str]) -> str | None:
    """The factor to begin with: few enough values to tell apart by colour."""
    sizes = {name: table[name].replace("", pd.NA).nunique() for name in factors}
    few = [name for name in factors if 2 <= sizes[name] <= 10]
    return few[0] if few else (factors[0] if factors else None)


@st.cache_data(max_entries=16, show_spinner="Projecting both encoders into one plane …")
def _joint(places: dict[str, tuple[str, str]]) -> Joint:
    """Coordinates of the clips both tables have, at most `MOST` of them."""
    opened = {role: open_embeddings(path) for role, (path, _) in places.items()}
    same_recordings(list(opened.values()))
    tables = {role: found.table.reset_index(names="row") for role, found in opened.items()}
    table = next(iter(tables.values()))
    for other in list(tables.values())[1:]:
        table = table[table["clip"].isin(other["clip"])]
    drawn = sample(len(table), MOST, seed=0)
    table = table.iloc[drawn.rows].reset_index(drop=True)
    spaces = {}
    for role, found in opened.items():
        rows = tables[role].set_index("clip")["row"].loc[table["clip"]].to_numpy()
        spaces[role] = found.vectors(places[role][1])[rows]
    first, *rest = spaces.values()
    joint = joint_pca(first, rest[0] if rest else first)
    xy = dict(zip(spaces, (joint.before, joint.after), strict=False))
    shown = dict(zip(spaces, (joint.shown_before, joint.shown_after), strict=False))
    who = speakers_of(table)
    notes = {
        role: _note(quality(spaces[role], xy[role], speakers=who), shown[role]) for role in spaces
    }
    note = drawn.note[:1].upper() + drawn.note[1:]
    return Joint(table.drop(columns="row"), xy, notes, f"{note}; {joint.note}.")


def _note(trust: dict[str, Number], shown: float) -> str:
    """What of the space its map shows."""
    one = trust["neighbours_kept"]
    kept = f"{one:.0%} ({one.low:.0%} to {one.high:.0%}; by chance {one.null:.0%})"
    return f"shows {shown:.0%} of the spread, {kept} of the neighbours"
