"""What an intervention did: a sentence, distances, pictures, and a strip of the last ones."""

from html import escape
from typing import Any, NamedTuple

import streamlit as st

from pages.components import bench_figures, picture, theme
from pages.components.player import escape as md
from refine import interventions
from refine.corpus import Corpus
from refine.interventions import BEFORE, Scale, Utterance
from refine.spaces import Spaces

FIELDS = ("text", "voice", "rate", "pitch")
KEPT = 8  # interventions in the strip


class Bench(NamedTuple):
    """What the bench measures with."""

    encoders: dict[str, str]  # "before" and "after" -> name
    blocks: dict[str, slice]  # subspace -> columns of the vector after
    spaces: Spaces
    scale: Scale
    corpus: Corpus
    source: str  # what the corpus was opened from
    split: str
    clips_of: str  # which clips the scale is made of


class Moved(NamedTuple):
    """One intervention."""

    source: str
    first: dict[str, Any]
    second: dict[str, Any]
    changed: list[str]
    raw: dict[str, float]  # cosine distance in each space
    far: dict[str, float]  # the same in strangers


def draw(bench: Bench, moved: Moved) -> None:
    """What moved, and how far."""
    remember(moved)
    names = list(bench.blocks)
    told = interventions.verdict(moved.changed, moved.far, moved.source == "recorded")
    st.html(f'<p class="refine-lead">{escape(told)}</p>')
    st.html(f'<div class="refine-moved">{"".join(tile(bench, moved, n) for n in moved.far)}</div>')
    two = len(names) >= 2
    left, right = st.columns([7, 6], gap="large") if two else (st.container(), None)
    look = picture.look()
    with left:
        rulers = bench_figures.rulers(bench.scale, moved.far, look)
        told = "How far each space moved, beside pairs of the corpus"
        picture.show(rulers, "bench_rulers", told, bench_figures.MOST)
    if right is not None:
        past = [one.far for one in st.session_state["bench_history"][:-1]][-5:]
        past = [far for far in past if set(names) <= set(far)]
        with right:
            plane = bench_figures.plane(bench.scale, (names[0], names[1]), moved.far, past, look)
            told = "How far one subspace moved against the other"
            picture.show(plane, "bench_plane", told, bench_figures.MOST)
    strip(names)
    missing = f" The corpus has no pairs of: {', '.join(bench.scale.missing)}." * bool(
        bench.scale.missing
    )
    st.caption(
        f"0 is no movement, 1 the median distance of two strangers who say different things, by "
        f"cosine, each space by itself. The hills are pairs of {bench.clips_of}; a tick is their "
        f"median.{missing} **One pair is one pair**: it has no interval. "
        "What must not be concluded: that people would move as espeak-ng's voices do, which the "
        "encoder was never made for; that a subspace that did not move by cosine holds nothing of "
        "the change (see *What each tells*: a probe may still read it)."
    )


def tile(bench: Bench, moved: Moved, space: str) -> str:
    """One space: how far in strangers, which pairs move as far, the plain distance."""
    colour = theme.before() if space == BEFORE else theme.after()
    words = theme.words("before" if space == BEFORE else "after")
    reference = bench.scale.spaces[space]
    like = interventions.nearest(moved.raw[space], reference)
    below = interventions.share_below(moved.raw[space], reference)[like]
    return (
        f'<div style="border-color:{colour}"><span>{escape(bench_figures.name(space))}</span>'
        f'<b style="color:{words}">{moved.far[space]:.2f}</b>'
        f"<small>closest to <i>{escape(like)}</i>, of which {below:.0%} are nearer<br>"
        f"cosine distance {moved.raw[space]:.3f}</small></div>"
    )


def remember(moved: Moved) -> None:
    history: list[Moved] = st.session_state["bench_history"]
    if not history or history[-1] != moved:
        history.append(moved)
        del history[:-KEPT]


def strip(names: list[str]) -> None:
    """The last interventions; one click brings one back."""
    history: list[Moved] = st.session_state["bench_history"]
    if len(history) < 2:
        return
    st.markdown("##### Before this")
    shown = list(enumerate(history[:-1]))[::-1]
    with st.container(horizontal=True, key="bench_strip"):
        for place, moved in shown:
            with st.container(border=True, key=f"bench_past_{place}", width=190):
                st.html(bars(moved, names))
                what = ", ".join(moved.changed) or "nothing"
                st.button(
                    what,
                    key=f"bench_back_{place}",
                    on_click=restore,
                    args=(place,),
                    type="tertiary",
                    help=past_words(moved),
                )


def past_words(moved: Moved) -> str:
    if moved.source == "recorded":
        return md(f"{moved.first['clip']} → {moved.second['clip']}")
    one, two = moved.first, moved.second
    return md(f"{one['voice']}: {one['text']} → {two['voice']}: {two['text']}")


def bars(moved: Moved, names: list[str], width: int = 160) -> str:
    """A bar a space, on one scale."""
    rows = []
    for place, space in enumerate([BEFORE, *(n for n in names if n in moved.far)]):
        if space not in moved.far:
            continue
        far = min(moved.far[space], 1.6) / 1.6 * (width - 8)
        colour = theme.before() if space == BEFORE else theme.after()
        fill = "none" if space == BEFORE else colour
        rows.append(
            f'<rect x="2" y="{4 + 17 * place}" width="{max(far, 2):.1f}" height="11" rx="3" '
            f'fill="{fill}" stroke="{colour}" stroke-width="2"/>'
        )
    high = 4 + 17 * (len(names) + 1)
    svg = f'<svg viewBox="0 0 {width} {high}">{"".join(rows)}</svg>'
    told = ", ".join(f"{bench_figures.name(name)} {far:.2f}" for name, far in moved.far.items())
    return theme.image(svg, told, f"width:100%;max-width:{width}px;display:block")


def undo() -> None:
    history = st.session_state["bench_history"]
    if len(history) > 1:
        history.pop()
        restore(len(history) - 1)


def restore(place: int) -> None:
    """Set the fields as they were."""
    moved: Moved = st.session_state["bench_history"][place]
    st.session_state["bench_source"] = moved.source
    for side, fields in (("first", moved.first), ("second", moved.second)):
        if moved.source == "speak":
            put(side, Utterance(**fields))
        else:
            st.session_state[f"bench_clip_{side}"] = fields["clip"]


def put(side: str, utterance: Utterance) -> None:
    for field in FIELDS:
        st.session_state[f"bench_{side}_{field}"] = getattr(utterance, field)
