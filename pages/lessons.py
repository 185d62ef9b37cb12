"""Lessons: five short ones. Predict first, then see; no training wait, nothing is fetched."""

import streamlit as st

from pages.components import guard
from pages.components.lessons import (
    anisotropy,
    collapse,
    frame,
    intervention,
    invariance,
    memory,
    negatives,
)

LESSONS: dict[int, frame.Lesson] = {
    1: anisotropy.LESSON,
    2: negatives.LESSON,
    3: collapse.LESSON,
    4: invariance.LESSON,
    5: intervention.LESSON,
}


def draw() -> None:
    lesson, screen = memory.place({n: len(one.screens) for n, one in LESSONS.items()})
    one = LESSONS[lesson]
    with st.container(key="lesson_page"):
        frame.header(LESSONS, lesson, screen)
        frame.body(one, lesson, screen)
        frame.ending(one, last=screen == len(one.screens))


guard.page(draw)
