"""Compare: several encoders side by side, what differs in them and what differs because of it."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.components import (
    beside,
    commands,
    compared,
    forest,
    guard,
    measuring,
    pair,
    pickers,
    tables,
)  # fmt: skip
from pages.components.player import escape
from refine import jobs, lineage, lineup, names

FIRST = 4  # encoders chosen at the start


def draw() -> None:
    st.title("Side by side")
    chosen, against = choose()
    if not chosen:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        corpus = pickers.opened(pickers.choose_corpus())
        split = pair.choose_split(corpus)
    source = str(st.session_state["corpus"])
    every = lineup.check(chosen, against)
    origins = [lineage.origin(name) for name in every]
    labels = beside.labels(origins)
    shades = beside.colours(every)
    for sentence in lineage.cautions(origins, origins[0], corpus.fingerprint, split):
        st.warning(sentence, icon=":material/info:")
    family(origins, labels, shades)
    found = lineup.cached(chosen, against, corpus, split)
    if found is None:
        question = {"encoders": list(chosen), "against": against, "corpus": source, "split": split}
        task = jobs.task("compare", question | {"stamp": compared.stamp(*every)})
        measuring.watch({"comparing": task}, {"comparing": f"{len(every)} encoders"})
    else:
        metrics(found, labels, shades)
        st.subheader("Look closer")
        compared.cards(found, labels, shades, source, split)
        st.subheader("Take it along")
        compared.take_along(every[1:], against, labels, source, corpus, split)
    st.subheader("How they trained")
    with guard.sentences():
        compared.training(origins, labels, shades)
    st.subheader("How few labels, how few steps?")
    compared.learning(every, labels, shades, source, corpus, split)
    arguments = ["compare", "--encoders", *every[1:], "--against", against]
    commands.show(
        [*arguments, "--corpus", source, "--split", split], "Compare, from the command line"
    )


def choose() -> tuple[list[str], str]:
    """The encoders to look at and the one they are measured against; both stand in the address."""
    runs = [run.id for run in pickers.trained_runs()]
    refined = [*runs, *(name for name in pickers.shipped_encoders() if name != "mini")]
    asked = st.query_params.get_all("encoders")
    if not refined and not asked:
        st.markdown(
            "Nothing is refined yet, so there is nothing to compare. Train an encoder with two "
            "settings, or two methods, and they stand here beside each other: what differs in "
            "their configuration, every metric with its paired change, and their curves."
        )
        st.page_link("pages/train.py", label="Refine an encoder", icon=":material/model_training:")
        return [], ""
    if asked and st.session_state.get("_encoders_in_address") != asked:
        st.session_state["compared"] = asked
    elif "compared" not in st.session_state:
        st.session_state["compared"] = refined[:FIRST]
    listed = list(dict.fromkeys([*refined, *st.session_state["compared"]]))
    left, right = st.columns([3, 1])
    with left:
        chosen = st.multiselect(
            "Encoders", listed, key="compared", format_func=pickers.encoder_label,
            accept_new_options=True, max_selections=lineup.MOST - 1, persist_state="session",
            help="Runs, shipped encoders, or the folder of any encoder (type it).",
        )  # fmt: skip
    st.query_params["encoders"] = chosen
    st.session_state["_encoders_in_address"] = chosen
    with right:
        against = pickers.choose_encoder("against", "Against", base_of(chosen)) or "mini"
    others = [name for name in chosen if name != against]
    if not others:
        st.markdown(":gray[Choose one or more encoders other than the reference.]")
    return others, against


def base_of(chosen: Sequence[str]) -> str:
    """What most of them were refined from."""
    infos = [pickers.described(name) for name in chosen]
    bases = [info.base for info in infos if not isinstance(info, str) and info.base]
    return max(bases, key=bases.count) if bases else "mini"


def family(
    origins: Sequence[lineage.Origin], labels: dict[str, str], shades: dict[str, str]
) -> None:
    """Where they come from, and in what they differ."""
    left, right = st.columns([4, 5], gap="large")
    with left:
        st.subheader("Where they come from")
        beside.tree(lineage.tree(origins), shades)
    with right:
        st.subheader("What is different in them")
        asked = st.query_params.get("every_option") == "on"
        every = st.toggle("Also options that only one of them has", value=asked, key="every_option")
        pickers.keep("every_option", "on" if every else None)
        rows = lineage.differences(origins, every)
        if rows:
            heads = [labels[one.name] for one in origins]
            st.dataframe(
                [{"": row.field} | dict(zip(heads, row.values, strict=True)) for row in rows],
                hide_index=True, key="differences", height=min(38 * len(rows) + 40, 330),
            )  # fmt: skip
        else:
            st.markdown(":gray[Nothing but their weights.]")


def metrics(found: dict[str, Any], labels: dict[str, str], shades: dict[str, str]) -> None:
    """One group of metrics as charts, and all of them as a table."""
    st.subheader("What is different because of it")
    groups = lineup.groups(found)
    asked = st.query_params.get("group")
    group = st.segmented_control(
        "Of", groups, default=asked if asked in groups else groups[0], key="group", required=True,
        format_func=lambda name: escape(name.capitalize()), label_visibility="collapsed",
    )  # fmt: skip
    pickers.keep("group", group if group != groups[0] else None)
    group = str(group)
    there = dict.fromkeys(
        metric for one in found["encoders"].values() for metric in one["numbers"].get(group, {})
    )
    headline = [metric for metric in names.HEADLINE if metric in there]
    if group == lineup.SUBSPACES:
        headline = [metric for metric in there if metric.endswith("probe_uar")][:9]
    forest.show(found, group, headline or list(there), labels, shades)
    total, sure = lineup.tested(found)
    n = {one["n_paired"] for one in found["encoders"].values()}
    clips = f"{min(n):,}" if len(n) == 1 else f"{min(n):,} to {max(n):,}"
    st.caption(
        f"{clips} clips of {escape(found['corpus'])}, {found['split']}. Bars are 95 % intervals by "
        "speaker. A full mark differs from "
        "the reference (band) by a paired test on the same clips at 5 %; an open one does not, or "
        f"has no paired test. Of {total} paired changes on this page {sure} are sure, and about "
        f"{max(1, round(total / 20))} would be by chance alone. More even is not better by itself."
    )
    table = lineup.table(found)
    table["encoder"] = table["encoder"].map(labels)
    tables.folded(f"All {len(table):,} numbers", "numbers", table, 460)


guard.page(draw)
