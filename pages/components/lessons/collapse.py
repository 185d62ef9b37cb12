"""Lesson 3: how DINO collapses."""

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.lessons import frame, predict, svg
from pages.components.lessons.memory import Memory
from refine.lessons import collapse

CODES = {"o": "one", "u": "uniform", "n": "neither"}
ENDS = {
    "o": "One output takes every clip",
    "u": "All outputs alike",
    "n": "Neither: clips told apart",
}
SHORT = {"o": "one output", "u": "all alike", "n": "told apart"}
NAMES = ("sharpening alone", "centring alone", "neither", "both")
LAST = collapse.STEPS // collapse.EVERY
TOP = float(np.log(collapse.OUTPUTS))


def first(memory: Memory) -> None:
    given = memory.begin("guess", "", lambda asked: asked if set(asked) <= set(CODES) else "") or ""
    arms = len(collapse.ARMS)
    seed, picked = 0, LAST
    picture = st.container()
    if len(given) < arms:
        left, right = st.container(), st.container()
    else:
        left, right = st.columns([3, 2], gap="large")
    with left:
        if given:
            verdict(given)
        if len(given) < arms:
            centring, sharpening = collapse.ARMS[len(given)]
            words = {True: "kept", False: "off"}
            predict.question(
                "Teacher and student, four outputs, no label. <b>Centring "
                f"{words[centring]}, sharpening {words[sharpening]}.</b> The teacher ends with …"
            )
            predict.answers(memory, ENDS, given)
        else:
            predict.again(memory)
    if len(given) >= arms:
        with right:
            picked = (
                memory.slider(
                    "step", "Training step", 0, collapse.STEPS, collapse.STEPS, collapse.EVERY
                )
                // collapse.EVERY
            )
            seed = memory.pills(
                "draw", "Another random start", {k: f"{k + 1}" for k in range(5)}, 0
            )
    memory.keep("guess", "")
    with picture:
        draw(given[:arms], seed, picked)


def verdict(given: str) -> None:
    """What was said of the last arm, beside what happened."""
    arm = len(given[: len(collapse.ARMS)]) - 1
    end = truth(arm)
    why = {
        "one": "Sharpening alone makes the teacher surer and surer of one output: entropy 0.",
        "uniform": "Nothing makes the teacher sure: entropy ln 4, and the student agrees: KL 0.",
        "neither": "Sure of each clip, and all outputs in use: one force checks the other.",
    }
    right = sum(CODES[code] == truth(k) for k, code in enumerate(given[: len(collapse.ARMS)]))
    found = "as you predicted" if CODES[given[arm]] == end else "not as you predicted"
    st.html(
        f'<p class="refine-told"><b>{NAMES[arm].capitalize()}:</b> {found} '
        f"({right} of {arm + 1} right). {why[end]}</p>"
    )


@st.cache_data(show_spinner=False)
def truth(arm: int, seed: int = 0) -> str:
    return collapse.ended(collapse.train(*collapse.ARMS[arm], seed))


def draw(given: str, seed: int, picked: int) -> None:
    parts, told = [], []
    for arm, (centring, sharpening) in enumerate(collapse.ARMS):
        x = 8 + 250 * arm
        now = arm == len(given)
        frame_ = theme.after() if now else theme.ink(0.25)
        parts.append(
            svg.rect(
                x,
                54,
                234,
                214,
                theme.ink(0.03),
                stroke=frame_,
                stroke_width=4 if now else 1.2,
                rx=8,
            )
        )
        signs = ("✓" if centring else "✕", "✓" if sharpening else "✕")
        parts.append(svg.text(x + 117, 20, f"{signs[0]} centring", 19, font_weight=600))
        parts.append(svg.text(x + 117, 43, f"{signs[1]} sharpening", 19, font_weight=600))
        if arm >= len(given):
            for cx, cy in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
                parts.append(svg.circle(x + 117 + 41 * cx, 161 + 38 * cy, 27, theme.ink(0.07)))
            parts.append(svg.text(x + 117, 185, "?", 72, fill=theme.ink(0.4)))
            continue
        run = collapse.train(centring, sharpening, seed)
        parts += outputs(run.plane[picked], x, 54)
        parts += curves(run, x, picked)
        end = {"one": "o", "uniform": "u", "neither": "n"}[collapse.ended(run)]
        parts.append(svg.guessed(x + 14, 376, 7))
        parts.append(svg.text(x + 26, 382, SHORT[given[arm]], 17, "start"))
        parts.append(svg.true(x + 132, 376, 7))
        parts.append(svg.text(x + 144, 382, SHORT[end], 17, "start", font_weight=600))
        told.append(f"{NAMES[arm]}: {SHORT[end]}")
    alt = "; ".join(told) or "Four trainings, hidden until you predict"
    svg.show(parts, "lesson-collapse", alt)


def outputs(plane: np.ndarray, x: float, y: float) -> list[str]:
    """Which output wins over the plane, by shape and colour, as large as the teacher is sure."""
    sure = (plane.max(axis=1) - 1 / collapse.OUTPUTS) / (1 - 1 / collapse.OUTPUTS)
    winner = plane.argmax(axis=1)
    cells = collapse.plane() / (2 * collapse.HALF) + 0.5
    palette = theme.palette()
    return [
        svg.mark(x + 6 + 222 * a, y + 208 - 202 * b, 1.4 + 4.0 * s, int(k), palette[k])
        for (a, b), s, k in zip(cells, sure, winner, strict=True)
    ]


def curves(run: collapse.Run, x: float, picked: int) -> list[str]:
    """Teacher entropy (solid) and KL (dashes) over the steps, between 0 and ln K."""
    base, height, width = 356, 66, 196
    parts = []
    for value, label in ((0.0, "0"), (TOP, "ln 4")):
        y = base - height * value / TOP
        parts.append(svg.line(x + 38, y, x + 234, y, theme.ink(0.3), 1, "3 4"))
        parts.append(svg.text(x + 32, y + 5, label, 15, "end", opacity=0.8))
    until = max(2, picked * collapse.EVERY)
    for column, colour, dash in ((2, theme.before(), "6 5"), (1, theme.after(), "")):
        values = run.parts[:until, column]
        kept = np.unique(np.linspace(0, until - 1, 60).astype(int))
        points = [
            (x + 38 + width * k / collapse.STEPS, base - height * min(values[k] / TOP, 1.15))
            for k in kept
        ]
        parts.append(svg.path(points, colour, stroke_width=2.6, stroke_dasharray=dash))
    if x < 100:  # named once
        parts.append(svg.text(x + 232, 303, "— teacher entropy", 15, "end", fill=theme.after()))
        parts.append(svg.text(x + 232, 343, "- - KL", 15, "end", fill=theme.before()))
    return parts


LOSSES = dict(zip("abcd", NAMES, strict=True))


def second(memory: Memory) -> None:
    done = memory.begin("guess", None, str) in LOSSES
    picture = st.container()
    runs = [collapse.train(*arm, 0) for arm in collapse.ARMS]
    losses = [float(run.parts[-collapse.EVERY :, 0].mean()) for run in runs]
    lowest = "abcd"[int(np.argmin(losses))]
    predict.choice(
        memory,
        "The same four trainings. <b>Which ends with the lowest loss?</b>",
        {code: name.capitalize() for code, name in LOSSES.items()},
        lowest,
        f"The loss is perfect where everything is lost: {min(losses):.3f} nats, and no clip can be "
        "told from another. Loss = entropy + KL; only apart do they tell what happened.",
    )
    with picture:
        draw_losses(runs if done else None)


def draw_losses(runs: list[collapse.Run] | None) -> None:
    x0, y0, width, height = 70, 335, 420, 265
    parts = [svg.line(x0, y0, x0 + width - 150, y0, theme.ink(0.45), 1.5)]
    parts.append(svg.text(x0, 34, "Loss over the steps, nats", 21, "start", opacity=0.85))
    parts.append(
        svg.text(610, 34, "Clips whose cloud the output tells, %", 21, "start", opacity=0.85)
    )
    for value, label in ((0, "0"), (TOP, "ln 4")):
        y = y0 - height * value / 1.8
        parts.append(svg.line(x0, y, x0 + width - 150, y, theme.ink(0.25), 1, "3 5"))
        parts.append(svg.text(x0 - 10, y + 6, label, 18, "end", opacity=0.8))
    parts.append(svg.line(610, 330, 960, 330, theme.ink(0.45), 1.5))
    if runs is None:
        parts.append(svg.text(280, 230, "?", 90, fill=theme.ink(0.3)))
        parts.append(svg.text(785, 230, "?", 90, fill=theme.ink(0.3)))
        svg.show(parts, "lesson-collapse-loss", "Losses, hidden until you predict")
        return
    palette = theme.palette()
    order = sorted(range(len(runs)), key=lambda k: runs[k].parts[-1, 0])
    last = 1e9
    for k, run in enumerate(runs):
        smooth = np.convolve(run.parts[:, 0], np.ones(15) / 15, mode="valid")
        kept = np.linspace(0, len(smooth) - 1, 90).astype(int)
        points = [
            (x0 + (width - 150) * i / len(smooth), y0 - height * min(smooth[i] / 1.8, 1.0))
            for i in kept
        ]
        parts.append(svg.path(points, palette[k]))
        parts.append(svg.mark(*points[-1], 8, k, palette[k]))
        x = 632 + 86 * k
        tall = 230 * run.told
        parts.append(svg.rect(x, 330 - tall, 58, tall, palette[k], rx=3))
        parts.append(svg.text(x + 29, 322 - tall, f"{100 * run.told:.0f}", 21, font_weight=600))
        parts.append(svg.mark(x + 29, 350, 8, k, palette[k]))
        for row, word in enumerate(NAMES[k].split()):
            parts.append(svg.text(x + 29, 374 + 15 * row, word, 15))
    for k in order:  # names beside the ends, from below, never on one another
        y = min(y0 - height * min(runs[k].parts[-15:, 0].mean() / 1.8, 1.0) + 6, last - 24)
        parts.append(svg.text(x0 + width - 134, y, NAMES[k], 18, "start"))
        last = y
    told = ", ".join(f"{n} {r.parts[-15:, 0].mean():.2f}" for n, r in zip(NAMES, runs, strict=True))
    svg.show(parts, "lesson-collapse-loss", f"Loss at the end: {told}")


LESSON = frame.Lesson(
    "How DINO collapses",
    (first, second),
    (
        "<b>The loss fell, so it learns.</b> The fastest way down is one output for every clip.",
        "<b>An entropy between 0 and ln K means all is well.</b> Try random start 4: both forces "
        "kept, entropy in between, and one output is never used.",
        "<b>Centring and sharpening always suffice.</b> Here they keep all four "
        "outputs in four starts of five; in your own runs watch entropy, KL and outputs in use.",
    ),
    "Centring and sharpening push to opposite collapses; only together do they hold the middle.",
    "What would a student like most, if nothing forbade it?",
    "That a collapse shows as a high loss. It shows as a very low one, or as a KL of 0.",
    "2 min four predictions · 1 min slide the training step back and forth · 1 min random start 4 "
    "· 1 min the loss on the next screen.",
)
