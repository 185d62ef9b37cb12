"""Methods: paper, equation, our function, its default, our deviation; from docs/methods.md."""

import pandas as pd
import streamlit as st

from pages.components import guard, tables
from pages.components.picture import look, place
from refine import methods, pictures


def draw() -> None:
    st.title("What each method does")
    # the methods first, then what they are measured with
    sections = sorted(methods.sections(), key=lambda one: one.key not in pictures.PICTURES)
    names = [section.key for section in sections]
    asked = st.query_params.get("method")
    chosen = st.pills(
        "Contents", names, default=asked if asked in names else names[0], key="method",
        format_func=lambda key: next(s.short for s in sections if s.key == key),
        label_visibility="collapsed", required=True, wrap=True,
    )  # fmt: skip
    if asked != chosen:
        st.query_params["method"] = str(chosen)
    section = next(section for section in sections if section.key == chosen)
    st.header(section.title, anchor=False)
    if section.lead:
        st.markdown(section.lead)
    if section.key in pictures.PICTURES:
        picture(section)
    only = False
    if any(part.has_deviations for part in section.parts):
        only = st.toggle("Only where we deviate from the paper", key="deviations")
    with st.container(key="methods_page"):
        for number, part in enumerate(section.parts, start=1):
            if part.title:
                st.subheader(part.title, anchor=False)
            block(part, only, f"{section.key} {number}")
    st.caption(
        "This page is docs/methods.md, the same text that the tests hold against the code. "
        "UNFOUND stands where public material has no answer, and nothing is guessed."
    )


def picture(section: methods.Section) -> None:
    """The forces as a drawing, beside what they do, above the loss that makes them."""
    left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
    drawn = pictures.PICTURES[section.key]
    with left:
        place(drawn.draw(look()), f"forces_{section.key}", drawn.alt)
    with right:
        st.markdown(f"**It pulls together** {drawn.pulls}")
        st.markdown(f"**It pushes apart** {drawn.pushes}")
        st.markdown(f"**It does not collapse** {drawn.keeps}")
    equation = next((part.latex for part in section.parts if part.latex), "")
    if equation:
        with st.container(border=True, key="methods_loss"):
            st.latex(equation)


def block(part: methods.Part, only: bool, name: str) -> None:
    """A table, an equation or text."""
    if part.rows:
        st.markdown(methods.table(part, only))
        rows = methods.deviating(part) if only else part.rows
        tables.as_csv(pd.DataFrame(rows, columns=list(part.head)), name)
    elif part.latex:
        st.latex(part.latex)
    else:
        st.markdown(part.text)


guard.page(draw)
