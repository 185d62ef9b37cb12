"""Corpora: what is in these recordings?"""

import zlib

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import bars, commands, figures, guard, pickers, picture, player
from pages.components.player import escape
from refine.corpus import Corpus, open_corpus

CHART_HEIGHT = 260  # px
LENGTH = "duration_s"  # beside the factors, none of which is named so
TABLE_HEIGHT = 470  # px, as high as the player beside it


def draw() -> None:
    st.title("What is in these recordings?")
    source = choose()
    corpus = pickers.opened(source)
    facts(corpus)
    problems(corpus)
    how_many(corpus)
    left, right = st.columns([3, 2], gap="large")
    with left:
        clip = clips(corpus)
    with right, st.container(key="listen"):
        st.subheader("Listen")
        play = bool(st.session_state.pop("clip_play", False))  # choosing it asked to hear it
        player.play(corpus, clip, "clip_sound", autoplay=play)
    commands.show(["corpus", str(source)])


def choose() -> str | None:
    """A corpus that was found, a path, or uploaded files."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        source = pickers.choose_corpus()
        with st.popover("Upload", icon=":material/upload:"):
            files = st.file_uploader(
                "Sound files, and a clips.csv or metadata.csv if there is one",
                accept_multiple_files=True,
                key="uploads",
            )
            st.button("Open these", on_click=upload, args=(files,), disabled=not files)
    refused = st.session_state.pop("upload_refused", None)
    if refused:
        st.error(guard.plain(refused), icon=":material/error:")
    return source


def upload(files: list) -> None:
    """Open uploaded files as a corpus and choose it."""
    try:
        st.session_state["corpus"] = str(open_corpus(files).root)
    except ValueError as error:
        st.session_state["upload_refused"] = str(error)


def facts(corpus: Corpus) -> None:
    """The corpus in big numbers."""
    speakers = (
        corpus.table["speaker"].replace("", pd.NA).nunique() if "speaker" in corpus.factors else 0
    )
    splits = corpus.counts("split")
    dropped = sum(problem.dropped for problem in corpus.problems)
    with st.container(horizontal=True, gap="large", key="facts"):
        st.metric("Clips", f"{len(corpus.table):,}", width="content")
        st.metric("Together", duration(corpus.total_duration_s), width="content")
        st.metric("Speakers", f"{speakers:,}" if speakers else "unknown", width="content")
        names = [name for name in ("train", "dev", "test") if name in splits]
        st.metric(
            " / ".join(names),
            " / ".join(f"{splits[name]:,}" for name in names),
            width="content",
            help="Clips in each split. Splits keep speakers apart where speakers are known.",
        )
        st.metric("Left out", f"{dropped:,}", width="content", help="Clips that cannot be used")


def duration(seconds: float) -> str:
    """'4.2 h', '12 min' or '48 s'."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def problems(corpus: Corpus) -> None:
    """What is wrong with which clip, and what was done about it."""
    for problem in corpus.problems:
        if not problem.clip:
            st.warning(
                escape(problem.reason[:1].upper() + problem.reason[1:]) + ".",
                icon=":material/info:",
            )
    rows = [p for p in corpus.problems if p.clip]
    if not rows:
        return
    dropped = sum(p.dropped for p in rows)
    with st.expander(
        f"{len(rows):,} clip{'s' * (len(rows) > 1)} with a problem: {dropped:,} left out, "
        f"{len(rows) - dropped:,} kept",
        icon=":material/warning:",
    ):
        table = pd.DataFrame(
            [(p.clip, "left out" if p.dropped else "kept", p.reason) for p in rows],
            columns=["clip", "what was done", "reason"],
        )
        st.dataframe(table, hide_index=True)


def how_many(corpus: Corpus) -> None:
    """How many clips each value of a factor has, or how long they are."""
    st.subheader("Clips of each")
    options = [*corpus.factors, "split", LENGTH]
    asked = st.query_params.get("factor")
    chosen = st.pills(
        "Factor",
        options,
        default=asked if asked in options else options[0],
        key=f"factor_{corpus.fingerprint[:8]}",
        format_func=lambda name: ":material/timer: length" if name == LENGTH else escape(name),
        label_visibility="collapsed",
        required=True,
        wrap=True,
    )
    pickers.keep("factor", chosen if chosen != options[0] else None)
    if chosen == LENGTH:
        seconds = corpus.table["duration_s"].to_numpy()
        figures.show(figures.durations(seconds, CHART_HEIGHT), "durations", "Clips of each length")
        middle, shortest, longest = np.median(seconds), seconds.min(), seconds.max()
        st.caption(f"Half are shorter than {middle:.1f} s; {shortest:.1f} to {longest:.1f} s.")
        return
    levels = corpus.counts(chosen)
    drawn = bars.counts(levels, picture.look())
    picture.show(drawn, "counts", f"Clips of each {chosen}", bars.MOST)
    if len(levels) > bars.SHOWN:
        st.caption(
            f"The {bars.SHOWN} most frequent of {len(levels):,} values. Half of them have "
            f"at most {levels.median():g}, the rarest has {levels.min():,}."
        )


def clips(corpus: Corpus) -> str:
    """The sortable, filterable table; returns the clip chosen in it, else its first."""
    st.subheader("Clips")
    shown = filtered(corpus)
    names = shown["clip"].tolist()
    of_corpus = corpus.fingerprint[:8]
    chosen = st.session_state.setdefault(f"clip_{of_corpus}", st.query_params.get("clip"))
    # a row is a place: other rows are another table, in which the clip has another place
    rows_now = zlib.crc32("\n".join(names).encode())
    key = f"clips_{of_corpus}_{rows_now:08x}"

    def remember() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        st.session_state[f"clip_{of_corpus}"] = names[rows[0]] if rows else None
        st.session_state["clip_play"] = bool(rows)

    st.dataframe(
        shown,
        key=key,
        hide_index=True,
        height=TABLE_HEIGHT,
        on_select=remember,
        selection_mode="single-row",
        selection_default=(
            {"selection": {"rows": [names.index(chosen)]}} if chosen in names else None
        ),
        column_order=["clip", "duration_s", *corpus.factors, "split", "text"],
        column_config={
            "clip": st.column_config.TextColumn(width=190),
            "duration_s": st.column_config.NumberColumn("length", format="%.2f s", width="small"),
            **({} if (shown["text"] != "").any() else {"text": None}),
        },
    )
    if chosen not in corpus.contents:
        chosen = None
    pickers.keep("clip", chosen)
    return chosen or (names or corpus.table["clip"].tolist())[0]


def filtered(corpus: Corpus) -> pd.DataFrame:
    """The rows that match the words typed and the values chosen."""
    table = corpus.table
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input(
            "Find", key="find", placeholder="Find in any column", label_visibility="collapsed"
        )
        with st.popover("Filter", icon=":material/filter_list:"):
            for name in ["split", *corpus.factors]:
                values = list(corpus.counts(name).index)
                kept = st.multiselect(
                    escape(name), values, key=f"keep_{corpus.fingerprint[:8]}_{name}"
                )
                if kept:
                    table = table[table[name].isin(kept)]
    if words.strip() and len(table):
        rows = table.drop(columns="duration_s").agg(" ".join, axis=1).str.lower()
        found = [all(word in row for word in words.lower().split()) for row in rows]
        table = table[found]
    n = f"{len(corpus.table):,}"
    st.caption(
        f"{n} clips. Choose one to hear it."
        if len(table) == len(corpus.table)
        else f"{len(table):,} of {n} clips match."
    )
    return table


guard.page(draw)
