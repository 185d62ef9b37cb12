"""Lesson 4: invariance against discriminability."""

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.lessons import frame, predict, svg
from pages.components.lessons.memory import Memory, finite
from refine.lessons import invariance, speech

NAMES = {
    "pull": "Pull alone",
    "triplet": "Triplet",
    "barlow": "Barlow Twins",
    "both": "Triplet + Barlow Twins",
}
ABOUT = {
    "pull": "same word: nearer",
    "triplet": "… and other words: farther",
    "barlow": "same word: correlated",
    "both": "all of these",
}
LAST = invariance.STEPS // invariance.EVERY


def first(memory: Memory) -> None:
    done = memory.begin("guess", None, str) in NAMES
    picture = st.container()
    left, right = st.columns([3, 2], gap="large") if done else (st.container(), st.container())
    with left:
        predict.choice(
            memory,
            "Three words by three loud voices. Four losses, all told which clips share a word; "
            "<b>Barlow Twins never sees two different words</b>. Which one puts every clip in the "
            "same place?",
            NAMES,
            "pull",
            "Pulling is satisfied best where nothing differs. Triplet forbids it with negatives, "
            "Barlow Twins by asking every dimension to vary on its own.",
        )
    at = 0
    if done:
        with right:
            at = (
                memory.slider(
                    "step", "Training step", 0, invariance.STEPS, invariance.STEPS, invariance.EVERY
                )
                // invariance.EVERY
            )
            legend()
    with picture:
        draw(at, done)


def legend() -> None:
    marks = []
    for k in range(invariance.WORDS):
        drawn = svg.mark(12, 12, 8, k, theme.palette()[k])
        icon = theme.image(f'<svg viewBox="0 0 24 24">{drawn}</svg>', "", "height:1.1em")
        marks.append(f"<span>{icon} word {k + 1}</span>")
    st.html(f'<div class="refine-legend">{"".join(marks)}</div>')


def draw(at: int, done: bool) -> None:
    held = invariance.held_out()
    parts, told = [], []
    for column, loss in enumerate(invariance.LOSSES):
        x = 125 + 250 * column
        parts.append(svg.text(x, 22, NAMES[loss], 21, font_weight=600))
        parts.append(svg.text(x, 45, ABOUT[loss], 16, opacity=0.8))
        run = invariance.train(loss) if done else invariance.train(loss, 0)
        parts += disc(run.points[at], held.word, x, 170, 104)
        within, between = float(run.within[at]), float(run.between[at])
        for row, (words, value) in enumerate((("within", within), ("between", between))):
            y = 312 + 38 * row
            parts.append(svg.text(x - 28, y + 15, words, 18, "end"))
            colour = theme.before() if row == 0 else theme.after()
            parts.append(svg.rect(x - 18, y, 92 * value / 1.75, 20, colour, rx=3))
            parts.append(svg.text(x - 10 + 92 * value / 1.75, y + 16, f"{value:.2f}", 18, "start"))
        told.append(f"{NAMES[loss]}: within {within:.2f}, between {between:.2f}")
    words = "before training" if not done or at == 0 else f"step {at * invariance.EVERY}"
    svg.show(parts, "lesson-invariance", f"Distances, {words}: " + "; ".join(told))


def disc(points: np.ndarray, labels: np.ndarray, x: float, y: float, r: float) -> list[str]:
    """Clips on the circle, spread a little inwards so that none hides; a spoke to each mean."""
    palette = theme.palette()
    parts = [svg.circle(x, y, r, theme.ink(0.03), stroke=theme.ink(0.3), stroke_width=1.2)]
    for label in np.unique(labels):
        a, b = points[labels == label].mean(axis=0)
        parts.append(svg.line(x, y, x + r * a, y - r * b, palette[label], 4))
    inwards = 1 - 0.16 * np.random.default_rng(0).random(len(points))
    for (a, b), label, depth in zip(points, labels, inwards, strict=True):
        parts.append(
            svg.mark(x + r * depth * a, y - r * depth * b, 5, int(label), palette[label], 0.8)
        )
    return parts


def second(memory: Memory) -> None:
    run = invariance.train("both")  # before the question too: it names where the voice begins
    done = memory.begin("guess", None, finite) is not None
    picture = st.container()
    left, right = st.columns([3, 2], gap="large")
    with left:
        predict.number(
            memory,
            f"Before training, <b>the voice</b> of a clip is told right in "
            f"{100 * run.voice[0]:.0f} % (chance 33 %). Triplet and Barlow Twins are then trained "
            "on the <b>words</b>. The voice is told right in …",
            0.0, 100.0, 70.0, 1.0, float(100 * run.voice[-1]),
            "Invariant to the voice means that the voice cannot be told. What is nuisance "
            "here is the answer to another question.",
            " %", 0,
        )  # fmt: skip
    if done:
        with right:
            st.markdown(
                "In **mini**, before and after `mini-interventional` split it in two: which clip "
                "is nearest? Voices are looked for among other sentences, words among other voices."
            )
    with picture:
        draw_voices(run, done)


def draw_voices(run: invariance.Trained, done: bool) -> None:
    held = invariance.held_out()
    parts = []
    for column, (at, words) in enumerate(((0, "before"), (LAST, "after"))):
        x = 115 + 235 * column
        parts.append(svg.text(x, 28, f"{words}, by voice", 20, font_weight=600))
        if column and not done:
            parts.append(svg.circle(x, 165, 104, theme.ink(0.03), stroke=theme.ink(0.3)))
            parts.append(svg.text(x, 190, "?", 80, fill=theme.ink(0.35)))
            continue
        parts += disc(run.points[at], held.voice, x, 165, 104)
        told = f"voice {100 * run.voice[at]:.0f} %"
        parts.append(svg.text(x, 308, told, 22, font_weight=600, fill=theme.before()))
        parts.append(svg.text(x, 338, f"word {100 * run.word[at]:.0f} %", 22, fill=theme.after()))
    parts.append(svg.text(232, 374, "told right; chance 33 %", 17, opacity=0.8))
    parts.append(svg.line(500, 20, 500, 370, theme.ink(0.2), 1))
    parts.append(svg.text(740, 28, "Speech: nearest clip agrees, %", 20, font_weight=600))
    found = speech.told()
    for row, space in enumerate(speech.SPACES):
        y = 70 + 104 * row
        parts.append(svg.text(524, y + 34, SPACES[space][0], 20, "start", font_weight=600))
        parts.append(svg.text(524, y + 56, SPACES[space][1], 16, "start", opacity=0.8))
        for k, factor in enumerate(("voice", "words")):
            colour = theme.before() if factor == "voice" else theme.after()
            top = y + 8 + 34 * k
            parts.append(svg.text(758, top + 18, factor, 18, "end"))
            if not done:
                parts.append(svg.text(780, top + 18, "?", 22, fill=theme.ink(0.4)))
                continue
            value = found[space][factor]
            parts.append(svg.rect(768, top, 180 * value, 24, colour, rx=3))
            parts.append(svg.text(775 + 180 * value, top + 19, f"{100 * value:.0f}", 19, "start"))
            chance = 768 + 180 * found["chance"][factor]
            parts.append(svg.line(chance, top - 2, chance, top + 26, theme.ink(0.8), 2, "3 3"))
    if done:
        parts.append(svg.text(768, 380, "dashes: chance", 16, "start", opacity=0.8))
    alt = f"Voice told right {100 * run.voice[0]:.0f} percent before"
    if done:
        alt += f" and {100 * run.voice[-1]:.0f} percent after training on words"
    svg.show(parts, "lesson-invariance-voice", alt)


SPACES = {
    "raw": ("mini", "as pretrained"),
    "speaker": ("speaker subspace", "of the refined one"),
    "content": ("content subspace", "of the refined one"),
}

LESSON = frame.Lesson(
    "Invariance and its price",
    (first, second),
    (
        "<b>Tighter classes are better.</b> Pull alone has the tightest of all, and they are one "
        "point. Look at within and between together.",
        "<b>Two losses beat one.</b> Here triplet, Barlow Twins and both end alike; where they "
        "differ, it is measured on your data and not known beforehand.",
        "<b>An invariant encoder is a good encoder.</b> For whom? Invariant to the voice is blind "
        "to the speaker.",
    ),
    "Invariance alone is won by saying nothing; something must keep clips apart.",
    "What stops Barlow Twins from collapsing, when it never sees a negative?",
    "That only negatives prevent collapse.",
    "1 min predict · 2 min slide the training step slowly and watch within and between · 1 min the "
    "voice on the next screen · 1 min whose nuisance is whose signal.",
)
