"""The frame of a lesson: where one is, how to go on, the caution, the teacher's notes."""

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from pages.components import guard
from pages.components.lessons.memory import Memory, go

# a slider that was let go of must not swallow the next Page Down of a presenter's clicker
LEAVE = """<script>
if (!window.refineLeaves) {
  window.refineLeaves = true;
  document.addEventListener("pointerup", () => setTimeout(() => {
    const held = document.activeElement;
    if (held && held.type === "range") held.blur();
  }, 50));
}
</script>"""


class Lesson(NamedTuple):
    title: str
    screens: tuple[Callable[[Memory], None], ...]
    caution: tuple[str, ...]  # what must not be concluded
    goal: str
    ask: str
    misconception: str
    minutes: str


def header(lessons: dict[int, Lesson], lesson: int, screen: int) -> None:
    """Title, dots, and the way back and on."""
    order = [(n, s) for n, one in lessons.items() for s in range(1, len(one.screens) + 1)]
    at = order.index((lesson, screen))
    with st.container(key="lesson_head", horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch", gap=None):
            st.title(lessons[lesson].title, anchor=False)
            st.html(
                f'<p class="refine-where">Lesson {lesson} of {len(lessons)}, '
                f"screen {screen} of {len(lessons[lesson].screens)}</p>{LEAVE}",
                unsafe_allow_javascript=True,
            )
        with st.container(
            key="lesson_dots", horizontal=True, width="content", gap="small",
            vertical_alignment="center",
        ):  # fmt: skip
            step("previous", ":material/arrow_back:", "PageUp", order, at - 1)
            for number, one in lessons.items():
                state = _state(one, number, lesson)
                with st.container(key=f"dot_{state}_{number}", width="content"):
                    st.button(
                        str(number), key=f"lesson_{number}", help=one.title,
                        type="primary" if number == lesson else "secondary",
                        on_click=go, args=(number, 1), shortcut=str(number),
                    )  # fmt: skip
            step("next", ":material/arrow_forward:", "PageDown", order, at + 1)


def step(name: str, icon: str, shortcut: str, order: list[tuple[int, int]], to: int) -> None:
    inside = 0 <= to < len(order)
    st.button(
        "", icon=icon, key=name, help=f"{name.capitalize()} screen", shortcut=shortcut,
        on_click=go, args=order[to] if inside else order[0], disabled=not inside,
    )  # fmt: skip


def body(one: Lesson, lesson: int, screen: int) -> None:
    """The screen itself, redrawn alone when a slider moves."""
    st.fragment(guard.guarded(one.screens[screen - 1]))(Memory(lesson, screen))


def ending(one: Lesson, last: bool) -> None:
    """What must not be concluded, on the last screen; the notes on each."""
    if last:
        items = "".join(f"<li>{words}</li>" for words in one.caution)
        st.html(
            f'<div class="refine-caution"><b>What you must not conclude</b><ul>{items}</ul></div>'
        )
    with st.expander("For the teacher", icon=":material/school:"):
        st.markdown(
            f"**Goal.** {one.goal}\n\n**Ask.** {one.ask}\n\n"
            f"**Usual misconception.** {one.misconception}\n\n**Five minutes.** {one.minutes}"
        )
        st.caption(
            "Keys: 1–5 a lesson, Page Down and Page Up to go on and back (a presenter's clicker), "
            "A S D F an answer, arrows on a slider and Ctrl+Enter to predict, T to try again."
        )


def _state(one: Lesson, number: int, lesson: int) -> str:
    if number == lesson:
        return "here"
    given = [Memory(number, s + 1).get("guess") is not None for s in range(len(one.screens))]
    return "done" if all(given) else "open"
