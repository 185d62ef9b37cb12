"""What a person sees when something is wrong: one sentence, never a traceback."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from refine import faults, paths

P = ParamSpec("P")
logger = logging.getLogger("refine.pages")


class PageError(ValueError):
    """Something a page itself cannot do with what was chosen, as a sentence."""


@contextmanager
def sentences() -> Iterator[None]:
    """Show a user's error as its sentence and go on with the rest of the page."""
    try:
        yield
    except Exception as error:
        # Streamlit's own control flow (rerun, stop) is no Exception and passes
        text = sentence(error)
        if text is None:
            logger.exception("a page failed")
            text = (
                "This part of the page failed, which is a fault in refine and not in your data. "
                "The details are in the terminal that runs the app; nothing computed was lost."
            )
        st.error(plain(text), icon=":material/error:")


def plain(text: str) -> str:
    """A sentence that may name somebody's files and labels, shown as text and never as markup."""
    return re.sub(r"[\\`*$<>\[\]~]|(?<!\w)_|_(?!\w)|:(?=\w+[:/])", r"\\\g<0>", text)


def sentence(error: Exception) -> str | None:
    """The sentence of a user's error, or None for a fault."""
    return str(error) if isinstance(error, PageError) else faults.sentence(error, paths.runs())


def page(draw: Callable[[], None]) -> None:
    """Draw a page, with its errors as sentences."""
    if PagesManager.uses_pages_directory:
        # a fresh server whose first visitor follows a link to a page runs that file bare,
        # without the frame of app.py; after this it knows better
        PagesManager.uses_pages_directory = False
        st.rerun()
    with sentences():
        draw()


def guarded(draw: Callable[P, None]) -> Callable[P, None]:
    """The same for a part that is redrawn on its own (a fragment)."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        with sentences():
            draw(*args, **kwargs)

    return wrapped
