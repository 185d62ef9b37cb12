"""The equal command line of what a page does."""

import shlex
from collections.abc import Sequence

import streamlit as st


def show(arguments: Sequence[str], label: str = "The same from the command line") -> None:
    """Draw `python -m refine …` with a copy button."""
    several([arguments], label)


def several(commands: Sequence[Sequence[str]], label: str) -> None:
    """The same for a line an encoder, copied together."""
    st.caption(label)
    st.code("\n".join(map(line, commands)), language="bash", wrap_lines=True)


def line(arguments: Sequence[str]) -> str:
    """The command as one would type it, quoted where a shell needs it."""
    return shlex.join(["python", "-m", "refine", *map(str, arguments)])
