"""Lesson 2: temperature and negatives."""

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.lessons import frame, predict, svg
from pages.components.lessons.memory import Memory, finite
from refine.lessons import negatives

HEAT = [0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0]
COUNT = 8


def first(memory: Memory) -> None:
    done = memory.begin("guess", None, finite) is not None
    temperature, count = 1.0, COUNT
    picture = st.container()
    left, right = st.columns([3, 2], gap="large")
    gentle = 100 * negatives.push(1.0, np.cos(negatives.angles(COUNT))).shares[0]
    sharp = 100 * negatives.push(0.05, np.cos(negatives.angles(COUNT))).shares[0]
    with left:
        predict.number(
            memory,
            "InfoNCE pushes negatives away from the anchor. At temperature 1 <b>the nearest of "
            f"eight gets {gentle:.0f} %</b> of the push. At temperature 0.05 it gets …",
            0.0, 100.0, 50.0, 1.0, float(sharp),
            "A small temperature looks at the nearest negative alone. If that one is of the same "
            "class, it is pushed just as hard.",
            " %", 0,
        )  # fmt: skip
    if done:
        with right:
            temperature = memory.steps("tau", "Temperature τ", HEAT, 0.05)
            count = memory.steps("n", "Negatives", [1, 2, 4, 8, 16, 32, 64], COUNT)
    with picture:
        draw(temperature, count)


def draw(temperature: float, count: int) -> None:
    angles = negatives.angles(count)
    found = negatives.push(temperature, np.cos(angles))
    x0, y0, r = 215, 200, 158
    parts = [svg.circle(x0, y0, r, theme.ink(0.03), stroke=theme.ink(0.3), stroke_width=1.5)]
    positive = np.arccos(negatives.POSITIVE)

    def at(angle: float, length: float = r) -> tuple[float, float]:
        return x0 + length * np.sin(angle), y0 - length * np.cos(angle)

    orange, blue, green = theme.before(), theme.after(), theme.palette()[2]
    for angle, share in zip(angles, found.shares, strict=True):
        if share > 0.004:
            start, end = at(angle, r + 12), at(angle, r + 12 + 6 + 26 * share**0.5)
            parts.append(svg.arrow(*start, *end, orange, 2 + 7 * share))
        parts.append(svg.mark(*at(angle), 4 + 17 * share**0.5, 1, orange, 0.9))
    parts.append(svg.line(x0, y0, *at(0), theme.ink(0.5), 3))
    parts.append(svg.mark(*at(-positive), 10, 2, green))
    parts.append(svg.circle(*at(0), 11, blue))
    parts.append(svg.text(x0, y0 + 30, "anchor", 19, fill=blue, font_weight=600))
    parts.append(svg.mark(x0 - 55, y0 + 56, 8, 2, green))
    parts.append(svg.text(x0 - 40, y0 + 62, "positive", 18, "start"))
    parts.append(svg.mark(x0 - 55, y0 + 84, 8, 1, orange))
    parts.append(svg.text(x0 - 40, y0 + 90, "negative", 18, "start"))
    left, base, width, height = 500, 300, 470, 205
    slot = min(58.0, width / count)
    for k, share in enumerate(found.shares):
        x = left + k * slot
        parts.append(
            svg.rect(x + 1, base - height * share, slot * 0.82, height * share, orange, rx=3)
        )
        if k < 8 and slot > 40:
            parts.append(
                svg.text(x + slot * 0.41, base - height * share - 9, f"{100 * share:.0f}", 20)
            )
    parts.append(svg.line(left, base, left + width, base, theme.ink(0.45), 1.5))
    parts.append(
        svg.text(left, 34, "Share of the push, % (nearest first)", 21, "start", opacity=0.85)
    )
    parts.append(svg.text(970, 36, f"τ = {temperature:g}", 28, "end", font_weight=600))
    told = f"left to learn: {100 * found.missing:.0f} % of the pull"
    parts.append(svg.text(left, 340, told, 20, "start"))
    loss = f"loss {found.loss:.2f} · all alike would be ln(1 + {count}) = {found.chance:.2f}"
    parts.append(svg.text(left, 370, loss, 20, "start", opacity=0.85))
    alt = f"At temperature {temperature:g} the nearest of {count} negatives gets "
    svg.show(parts, "lesson-negatives", alt + f"{100 * found.shares[0]:.0f} percent of the push")


OPTIONS = {
    "huddle": "Classes huddle, the sphere empties",
    "even": "Classes loosen, the sphere fills",
    "both": "Classes huddle, the sphere fills",
}


def second(memory: Memory) -> None:
    done = memory.begin("guess", None, str) in OPTIONS
    temperature = 0.1
    picture = st.container()
    left, right = st.columns([3, 2], gap="large")
    with left:
        predict.choice(
            memory,
            "A tiny encoder is trained on 48 clips of four classes, at τ = 0.1. It knows no "
            "class: <b>every other clip is a negative</b>. Train it at τ = 1 instead, and …",
            OPTIONS,
            "huddle",
            "A soft loss hardly minds near negatives, so clips of a class may stay together "
            "(tolerance), at the price of evenness (uniformity).",
        )
    if done:
        with right:
            temperature = memory.steps("tau", "Temperature τ", list(negatives.TEMPERATURES), 1.0)
    with picture:
        draw_trained(temperature, done)


def draw_trained(temperature: float, done: bool) -> None:
    shown = negatives.train(temperature)
    parts = svg.sphere(shown.points, 205, 195, 182, shown.classes)
    parts.append(svg.text(20, 34, f"τ = {temperature:g}", 28, "start", font_weight=600))
    x0, y0, width, height = 520, 320, 420, 215
    parts.append(svg.line(x0, y0, x0 + width, y0, theme.ink(0.45), 1.5))
    taus = negatives.TEMPERATURES
    across = {tau: x0 + width * k / (len(taus) - 1) for k, tau in enumerate(taus)}
    for tau, x in across.items():
        parts.append(svg.text(x, y0 + 26, f"{tau:g}", 18, opacity=0.8))
    parts.append(svg.text(x0 + width / 2, y0 + 54, "temperature", 18, opacity=0.8))
    if not done:
        parts.append(svg.text(x0 + width / 2, 215, "?", 90, fill=theme.ink(0.3)))
        svg.show(parts, "lesson-temperature", "48 clips of four classes on a sphere, τ = 0.1")
        return
    # both between 0 and 1: uniformity runs from 0 (one point) to -2.37 (even on this sphere)
    runs = {tau: negatives.train(tau) for tau in taus}
    curves = (
        ("tolerance: clips of a class together", [run.tolerance for run in runs.values()], 0),
        ("uniformity: the sphere in use", [run.uniformity / EVEN for run in runs.values()], 1),
    )
    for words, values, number in curves:
        colour = theme.palette()[number]
        points = [(x, y0 - height * v) for x, v in zip(across.values(), values, strict=True)]
        parts.append(svg.path(points, colour, stroke_dasharray="" if number == 0 else "9 6"))
        for (x, y), tau in zip(points, taus, strict=True):
            parts.append(svg.mark(x, y, 11 if tau == temperature else 6, number, colour))
        y = 34 + 30 * number
        parts.append(svg.mark(x0 + 6, y - 6, 8, number, colour))
        parts.append(svg.text(x0 + 24, y, words, 20, "start"))
    for value in (0, 1):
        parts.append(svg.text(x0 - 14, y0 - height * value + 6, str(value), 18, "end", opacity=0.8))
    alt = f"After training at {temperature:g}: tolerance {shown.tolerance:.2f}, "
    svg.show(parts, "lesson-temperature", alt + f"uniformity {shown.uniformity:.2f}")


EVEN = negatives.evenest()

LESSON = frame.Lesson(
    "Temperature and negatives",
    (first, second),
    (
        "<b>The lower the temperature, the better.</b> At 0.05 a clip of the same class is pushed "
        "hardest, because it is nearest; and below 0.1 the toy does not even get more even.",
        "<b>A lower loss is a better encoder.</b> Losses at two temperatures, or with two numbers "
        "of negatives, have different zeros and ceilings.",
        "<b>These numbers hold for speech.</b> A sphere of three dimensions fills at once; the "
        "direction of the trade carries over, the place of its optimum does not.",
    ),
    "Temperature decides which negatives count; that trades evenness against classes.",
    "Which negative would you rather not push, and can the loss know?",
    "That temperature only scales the loss and leaves its minimum alone.",
    "1 min predict · 1 min slide τ · 1 min raise the number of negatives: the ceiling ln(1 + N) "
    "rises · 2 min predict and slide on the next screen.",
)
