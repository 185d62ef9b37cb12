"""What a learner chose on one screen: kept for the session, written into the address."""

import math
from collections.abc import Callable
from typing import Any

import streamlit as st

PLACE = "lesson_place"


class Memory:
    """Values of one screen, by their names in the address."""

    def __init__(self, lesson: int, screen: int) -> None:
        self.prefix = f"lesson{lesson}{screen}"

    def key(self, name: str) -> str:
        return f"{self.prefix}_{name}"

    def get(self, name: str) -> Any:
        return st.session_state.get(self.key(name))

    def set(self, name: str, value: Any) -> None:
        st.session_state[self.key(name)] = value

    def begin(self, name: str, default: Any, parse: Callable[[str], Any]) -> Any:
        """Start from the address where it says something new, else from the session."""
        asked = st.query_params.get(name)
        if asked is not None and asked != st.session_state.get(self.key(name) + "_written"):
            try:
                self.set(name, parse(asked))
            except ValueError:
                self.set(name, default)
        elif self.key(name) not in st.session_state:
            self.set(name, default)
        return self.get(name)

    def keep(self, name: str, default: Any) -> Any:
        """Write the present value into the address; the default is not worth a word."""
        value = self.get(name)
        written = None if value == default or value is None else str(value)
        st.session_state[self.key(name) + "_written"] = written
        if written is None:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != written:
            st.query_params[name] = written
        return value

    def slider(
        self, name: str, label: str, low: float, high: float, default: float, step: float, **more
    ) -> Any:
        """A slider that the address carries; whole numbers where its step is whole."""
        whole = isinstance(step, int)

        def parse(asked: str) -> float:
            value = min(high, max(low, finite(asked)))
            return round(value) if whole else value

        self.begin(name, default, parse)
        st.slider(label, low, high, step=step, key=self.key(name), persist_state="session", **more)
        return self.keep(name, default)

    def steps(self, name: str, label: str, options: list, default: Any, **more) -> Any:
        """A slider over a few values."""
        self.begin(name, default, _one_of(options))
        st.select_slider(label, options, key=self.key(name), persist_state="session", **more)
        return self.keep(name, default)

    def pills(self, name: str, label: str, options: dict[Any, str], default: Any, **more) -> Any:
        """One of a few, in the address by its code."""
        self.begin(name, default, _one_of(list(options)))
        st.segmented_control(
            label,
            list(options),
            format_func=lambda code: options[code],
            key=self.key(name),
            required=True,
            persist_state="session",
            **more,
        )
        return self.keep(name, default)


def finite(asked: str) -> float:
    """A number from the address; `ValueError` for none, and for NaN or infinity."""
    value = float(asked)
    if not math.isfinite(value):
        raise ValueError(asked)
    return value


def _one_of(options: list) -> Callable[[str], Any]:
    codes = {str(option): option for option in options}

    def parse(asked: str) -> Any:
        if asked not in codes:
            raise ValueError(asked)
        return codes[asked]

    return parse


def place(screens: dict[int, int]) -> tuple[int, int]:
    """Lesson and screen, from the address or where the learner was. `screens`: lesson -> count."""
    asked = (st.query_params.get("lesson"), st.query_params.get("screen"))
    if asked[0] is not None and asked != st.session_state.get(PLACE + "_written"):
        lesson = int(asked[0]) if asked[0].isdecimal() and int(asked[0]) in screens else 1
        screen = int(asked[1]) if asked[1] and asked[1].isdecimal() else 1
        st.session_state[PLACE] = (lesson, min(max(screen, 1), screens[lesson]))
    found = st.session_state.setdefault(PLACE, (1, 1))
    written = (str(found[0]), str(found[1]) if found[1] > 1 else None)
    st.session_state[PLACE + "_written"] = written
    for name, value in zip(("lesson", "screen"), written, strict=True):
        if value is None:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != value:
            st.query_params[name] = value
    return found


def go(lesson: int, screen: int) -> None:
    """A callback: turn to a screen; the address of the last one is left behind."""
    st.query_params.clear()
    st.session_state[PLACE] = (lesson, screen)
