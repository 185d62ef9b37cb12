"""Lesson 1: what a common direction does to the cosine."""

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.lessons import frame, predict, svg
from pages.components.lessons.memory import Memory, finite
from refine.lessons import anisotropy, speech

KINDS = {"mean": "the same vector to all", "loud": "one loud direction"}
REMEDIES = {"none": "as is", "centred": "less mean", "top": "less top"}


def first(memory: Memory) -> None:
    own = anisotropy.directions()
    done = memory.begin("guess", None, finite) is not None
    length = 0.0
    kind: anisotropy.Kind = "mean"
    remedy: anisotropy.Remedy = "none"
    picture = st.container()
    left, right = st.columns([3, 2], gap="large")
    with left:
        predict.number(
            memory,
            "Unrelated vectors, even all around: their cosine is 0 on average. Now <b>the same "
            "vector is added to every one</b>, as long as their own. Their mean cosine becomes …",
            -1.0, 1.0, 0.0, 0.05, anisotropy.expected(1.0),
            "Nothing about them became alike; they only share what was added. In 256 dimensions "
            "it would be 0.50.",
        )  # fmt: skip
    if done:
        with right:
            length = memory.slider(
                "length", "How much is added, over their own", 0.0, 3.0, 1.0, 0.1
            )
            kind = memory.pills("add", "What is added", KINDS, "mean")
            remedy = memory.pills("less", "Looked at", REMEDIES, "none")
    x = anisotropy.remedied(anisotropy.crowd(own, length, kind), remedy)
    with picture:
        draw(x, length, kind)


def draw(x: np.ndarray, length: float, kind: anisotropy.Kind) -> None:
    cosines, mean, size = anisotropy.summary(x)
    parts = svg.sphere(anisotropy.unit(x), 205, 222, 160)
    long = 160 * min(length, 1.35)  # the radius is the length of a vector's own part
    if length > 0:
        parts.append(svg.arrow(205, 222, 205, 222 - long, theme.before(), 6))
        if kind == "loud":
            parts.append(svg.arrow(205, 222, 205, 222 + min(long, 164), theme.before(), 6))
    x0, y0, width = 470, 320, 500
    parts += svg.histogram(cosines, x0, y0, width, 215, theme.rgba(theme.after(), 0.75), least=1.2)
    ticks = [(-1.0, "−1 opposed"), (0.0, "0"), (1.0, "1 alike")]
    parts += svg.scale(x0, y0, width, ticks, -1, 1)
    at = x0 + (mean + 1) / 2 * width
    parts.append(svg.line(at, 88, at, y0, theme.ink(0.9), 3, "2 7"))
    parts.append(svg.text(at, 78, f"mean {svg.signed(mean)}", 26, font_weight=600))
    parts.append(svg.text(x0, 30, "Cosine of every two vectors", 21, "start", opacity=0.85))
    parts.append(svg.text(970, 30, f"mean of |cosine| {size:.2f}", 21, "end", opacity=0.85))
    alt = f"240 vectors on a sphere and a histogram of their cosines; mean {svg.signed(mean)}"
    svg.show(parts, "lesson-anisotropy", alt)


def second(memory: Memory) -> None:
    clips = speech.load()
    pairs = speech.pairs(clips)
    plain = {kind: speech.cosines(clips.vectors["raw"], p) for kind, p in pairs.items()}
    done = memory.begin("guess", None, finite) is not None
    remedy: anisotropy.Remedy = "none"
    picture = st.container()
    left, right = st.columns([3, 2], gap="large")
    with left:
        predict.number(
            memory,
            "The shipped encoder <b>mini</b> heard 96 clips. Two of them have <b>nothing in "
            "common</b>: another voice, another sentence. Their mean cosine is …",
            -1.0, 1.0, 0.0, 0.05, float(plain["unrelated"].mean()),
            "Unrelated speech shares a mean. Read a cosine against that of unrelated clips, "
            "never against 0.",
        )  # fmt: skip
    if done:
        with right:
            remedy = memory.pills("less", "Looked at", REMEDIES, "none")
            st.caption(
                "Synthesised speech: 12 voices say 8 sentences. The mean is taken over these clips."
            )
    x = anisotropy.remedied(clips.vectors["raw"], remedy)
    found = {kind: speech.cosines(x, p) for kind, p in pairs.items()}
    with picture:
        draw_speech(found if done else None)


def draw_speech(found: dict[str, np.ndarray] | None) -> None:
    parts, alt = [], "Three kinds of pairs; hidden until you predict"
    x0, width = 300, 640
    for row, kind in enumerate(speech.KINDS):
        y = 118 + 112 * row
        colour = theme.palette()[row]
        parts.append(svg.mark(40, y - 22, 10, row, colour))
        parts.append(svg.text(64, y - 15, kind, 24, "start", font_weight=600))
        parts += svg.scale(x0, y, width, [(-1, "−1"), (0, "0"), (1, "1")], -1, 1)
        if found is None:
            parts.append(svg.text(x0 + width / 2, y - 22, "?", 52, fill=theme.ink(0.35)))
            continue
        parts += svg.histogram(found[kind], x0, y, width, 72, theme.rgba(colour, 0.8), bins=60)
        mean = float(found[kind].mean())
        words = f"mean {svg.signed(mean)}"
        parts.append(svg.text(64, y + 12, words, 20, "start"))
    if found is not None:
        told = ", ".join(f"{kind} {svg.signed(values.mean())}" for kind, values in found.items())
        alt = f"Cosines of three kinds of pairs: {told}"
    parts.append(svg.text(x0, 28, "Cosine of two clips in mini", 21, "start", opacity=0.85))
    svg.show(parts, "lesson-anisotropy-speech", alt)


LESSON = frame.Lesson(
    "Cosine in a narrow cone",
    (first, second),
    (
        "<b>A high cosine means alike.</b> It may only mean that everything here shares a mean.",
        "<b>A mean cosine of 0 means even.</b> One loud direction keeps the mean at 0 and still "
        "decides every cosine.",
        "<b>More even is better.</b> Noise is the most even cloud there is, and removing a "
        "direction may remove what you wanted to know.",
    ),
    "A cosine is read against the cosine of unrelated clips, not against 0.",
    "Did adding the same vector to all make any two of them more alike?",
    "That 0.9 is a high similarity anywhere. In mini two clips with nothing in common reach 0.65.",
    "1 min predict · 1 min slide the length from 0 to 3 · 1 min one loud direction: the mean stays "
    "at 0, the sphere empties · 1 min take the mean away · 1 min the same in speech.",
)
