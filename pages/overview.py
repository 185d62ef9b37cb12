"""Overview: what this is, what is here, and the three ways on."""

import math
from collections.abc import Iterable
from typing import Any

import streamlit as st

from pages.components import (
    commands,
    glance,
    guard,
    history,
    pickers,
    picture,
    player,
    tables,
    theme,
)
from refine.glance import shipped as shipped_glance
from refine.runs import all_runs

BASE = "mini"  # what the shipped encoders are measured against
WAYS = (
    (
        "pages/train.py",
        "Refine your own",
        ":material/model_training:",
        "An encoder, some recordings, a published method. Watch it train; stop and resume.",
    ),
    (
        "pages/live.py",
        "Speak",
        ":material/mic:",
        "Into the microphone: the original and the refined encoder answer side by side.",
    ),
    (
        "pages/lessons.py",
        "Learn",
        ":material/school:",
        "Five short lessons: predict, then reveal what a loss does to a space.",
    ),
)


def draw() -> None:
    left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
    with left:
        st.title("Refine a speech encoder, and see honestly what changed.")
        st.html(
            '<p class="refine-lead">A pretrained encoder puts words, voice, mood and room into one '
            "vector, and crowds them into a narrow cone. Four published methods train it a little "
            "further. Here is what each did on voices it had never heard.</p>"
        )
    with right:
        picture.made(hero(), "isotropy", "Vectors in a narrow cone, then all around")
    shown = at_a_glance()
    for column, (page, title, icon, text) in zip(st.columns(3), WAYS, strict=True):
        with column, st.container(border=True, key=f"card_{page[6:-3]}", height="stretch"):
            st.page_link(page, label=f"**{title}**", icon=icon)
            st.markdown(text)
    st.space("small")
    left, right = st.columns([2, 1], gap="large")
    with left:
        st.subheader("Runs")
        if all_runs():
            history.runs(6, leave="pages/train.py")
        else:
            st.markdown(":gray[None yet. The first one takes a few minutes on a laptop.]")
            st.page_link("pages/train.py", label="Start one", icon=":material/play_arrow:")
    with right:
        recordings()
    if shown:
        command(*shown)


def at_a_glance() -> tuple[Iterable[str], str, str | None] | None:
    """The shipped encoder and its refined versions, a row each.

    Returns: the encoders whose figures are shown, their corpus, and its folder where it is here.
    """
    about = {name: pickers.described(name) for name in pickers.shipped_encoders()}
    known = {name: info for name, info in about.items() if not isinstance(info, str)}
    for info in about.values():
        if isinstance(info, str):
            st.error(guard.plain(info), icon=":material/error:")
    if not known:
        st.markdown(":gray[No encoder is shipped with this copy. Give a folder or a hub name.]")
        return None
    measured = measured_glance()
    corpora = list(measured)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("One encoder, refined by each method")
        if len(corpora) > 1:
            pickers.remembered("glance", corpora[0])
            st.segmented_control(
                "Measured on",
                corpora,
                key="glance",
                format_func=lambda name: measured[name]["told"],
                label_visibility="collapsed",
                required=True,
                persist_state="session",
            )
    chosen = st.session_state.get("glance") if len(corpora) > 1 else next(iter(corpora), None)
    told = measured.get(str(chosen), {"encoders": {}})
    if len(corpora) > 1:
        pickers.keep("glance", chosen if chosen != corpora[0] else None)
    source = next((s for s in pickers.found_corpora() if s.endswith(f"/{chosen}")), None)
    glance.rows(told["encoders"], known, source)
    if not told["encoders"]:
        return None
    st.caption(
        f"{told['told']}, {told['clips']:,} clips of {chosen}. Open circle: before, full: "
        "after, bars: 95 % intervals over speakers; sure: the paired interval of the change "
        "leaves out 0. A more even space is not better by itself, and what one number gains "
        "another may pay for."
    )
    table = tables.of_numbers(glance.numbers(told["encoders"]))
    tables.folded(f"All {len(table)} numbers", "glance_numbers", table)
    return told["encoders"], str(chosen), source


def command(measured: Iterable[str], corpus: str, source: str | None) -> None:
    """The comparison that prints these numbers, and under which names."""
    others = [name for name in measured if name != BASE]
    words = ["compare", "--encoders", *others, "--against", BASE]
    where = "" if source else f" (with the folder of {corpus}, which is not here)"
    commands.show(
        [*words, "--corpus", source or corpus, "--split", "test"],
        f"The numbers of the table, from the command line{where}",
    )
    st.caption(
        "They are called isoscore; explained, probe_bits and eer of the speaker; probe_uar of what "
        "is told apart; of a split vector leakage_bits and eer of its subspaces. One thing it does "
        "not print: whether the EER within a subspace surely changed."
    )


@st.cache_data(ttl=30, show_spinner=False)
def measured_glance() -> dict[str, Any]:
    return shipped_glance()


def recordings() -> None:
    """Corpora that open without a path."""
    st.subheader("Recordings at hand")
    sources = pickers.found_corpora()
    chosen = st.pills(
        "Recordings at hand",
        sources,
        format_func=lambda source: player.escape(pickers.corpus_label(source).split(" · ")[0]),
        label_visibility="collapsed",
        wrap=True,
        key="overview_corpus",
    )
    if chosen:
        st.session_state["corpus"] = chosen
        st.switch_page("pages/corpora.py")


def hero() -> str:
    """Vectors in a narrow cone, then all around: what isotropy means, in one look."""
    narrow = [0.62 + 0.3 * math.sin(2.4 * i) for i in range(15)]
    around = [2 * math.pi * (i + 0.18 * math.sin(5 * i)) / 15 for i in range(15)]
    lengths = [0.8 + 0.2 * math.sin(3.1 * i + 1) for i in range(15)]
    sides = []
    for role, angles, colour in (
        ("before", narrow, theme.before()),
        ("after", around, theme.after()),
    ):
        alt = {"before": "Vectors in a narrow cone", "after": "Vectors all around"}[role]
        drawn = theme.image(vectors(angles, lengths, colour), alt)
        sides.append(f"<figure>{drawn}<figcaption>{role}</figcaption></figure>")
    return f'<div class="refine-hero">{"<b>→</b>".join(sides)}</div>'


def vectors(angles: list[float], lengths: list[float], colour: str) -> str:
    """A bundle of vectors from a common origin inside the unit circle."""
    parts = [
        f'<circle r="96" fill="{theme.rgba(colour, 0.07)}" stroke="{theme.ink(0.2)}" '
        'stroke-width="1.2"/>'
    ]
    for angle, length in zip(angles, lengths, strict=True):
        x, y = 96 * length * math.cos(angle), -96 * length * math.sin(angle)
        parts.append(
            f'<line x2="{x:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2.2" '
            f'opacity="0.7"/><circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
        )
    return f'<svg viewBox="-102 -102 204 204">{"".join(parts)}</svg>'


guard.page(draw)
