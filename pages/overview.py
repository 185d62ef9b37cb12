"""Overview: what this is, what is here, and the three ways on."""

import math

import streamlit as st

from pages.components import guard, history, pickers, theme
from pages.components.player import escape
from refine.runs import all_runs

WAYS = (
    (
        "pages/train.py",
        "Refine an encoder",
        ":material/model_training:",
        "Take a pretrained encoder and some recordings, choose a published method, and watch it "
        "train. Stop and resume whenever you like.",
    ),
    (
        "pages/isotropy.py",
        "See what changed",
        ":material/blur_on:",
        "The same recordings through the encoder before and after: numbers with intervals, and a "
        "map in which every point can be heard.",
    ),
    (
        "pages/corpora.py",
        "Listen to recordings",
        ":material/library_music:",
        "Open a folder or upload clips. Who speaks, what is said, how long; every clip with its "
        "spectrogram, and every bad one with its reason.",
    ),
)


def draw() -> None:
    left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
    with left:
        st.title("Refine a speech encoder, and see honestly what changed.")
        st.html(
            '<p class="refine-lead">A pretrained encoder turns speech into vectors, and often '
            "crowds them into a narrow cone. refine trains it a little further with a published "
            "method, then shows on recordings of unheard voices what rose and what fell.</p>"
        )
    with right:
        st.html(picture())
    for column, (page, title, icon, text) in zip(st.columns(3), WAYS, strict=True):
        with column, st.container(border=True, key=f"card_{page[6:-3]}", height="stretch"):
            st.page_link(page, label=f"**{title}**", icon=icon)
            st.markdown(text)
    st.space("small")
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Runs")
        if all_runs():
            history.runs(6, leave="pages/train.py")
        else:
            st.markdown(":gray[None yet. The first one takes a few minutes on a laptop.]")
            st.page_link("pages/train.py", label="Start one", icon=":material/play_arrow:")
    with right:
        encoders()
        recordings()


def encoders() -> None:
    """The encoders that come with refine."""
    st.subheader("Encoders at hand")
    names = pickers.shipped_encoders()
    for name in names:
        info = pickers.described(name)
        if isinstance(info, str):
            st.error(info, icon=":material/error:")
            continue
        refined = f"refined by {info.recipe}" if info.recipe else "as pretrained"
        st.markdown(
            f"**{escape(name)}** &ensp;:gray[{escape(info.family)} · {escape(refined)} · "
            f"{info.shape} · {pickers.size(info.parameters)}]"
        )
    if not names:
        st.markdown(":gray[None is shipped with this copy. Give a folder or a hub name.]")


def recordings() -> None:
    """Corpora that open without a path."""
    st.subheader("Recordings at hand")
    sources = pickers.found_corpora()
    chosen = st.pills(
        "Recordings at hand",
        sources,
        format_func=lambda source: pickers.corpus_label(source).split(" · ")[0],
        label_visibility="collapsed",
        wrap=True,
        key="overview_corpus",
    )
    if chosen:
        st.session_state["corpus"] = chosen
        st.switch_page("pages/corpora.py")


def picture() -> str:
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
