"""Colours of the charts. Streamlit's own chart theme sets text, grid and background."""

import base64
import tomllib
from functools import cache
from html import escape
from typing import Any

import streamlit as st

from refine import paths


def dark() -> bool:
    """Whether the page is drawn on a dark background."""
    return st.context.theme.type == "dark"


def palette() -> list[str]:
    """Categorical colours, colour-blind safe on the present background."""
    return _theme()["chartCategoricalColors"]


def after() -> str:
    """Petrol blue: the refined encoder, and anything there is only one of."""
    return palette()[0]


def before() -> str:
    """Amber: the encoder as it was."""
    return palette()[1]


def words(role: str) -> str:
    """Before and after as the colour of words: on paper, the amber of a mark is too light."""
    return _theme()["orangeColor" if role == "before" else "blueColor"]


def ink(alpha: float = 1.0) -> str:
    """The text colour, thinned."""
    return rgba(_theme()["textColor"], alpha)


def paper() -> str:
    """The background of the page."""
    return _theme()["backgroundColor"]


def quiet() -> str:
    """What stands back: other classes, points not chosen."""
    return "#5A6472" if dark() else "#B9B6AD"


def heat() -> list[list[float | str]]:
    """Sequential scale of the spectrograms: even in lightness, readable without colour."""
    colours = (
        ["#0D1219", "#142D45", "#1D5475", "#3C8DA3", "#8FC4A9", "#F2D98B", "#FFF6DC"]
        if dark()
        else ["#FDFCF9", "#E3E6D6", "#A9CDB9", "#5AA3A6", "#2A6E8C", "#25425F", "#181B2E"]
    )
    return [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]


def rgba(colour: str, alpha: float) -> str:
    """A hexadecimal colour with transparency, as plotly writes it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def image(svg: str, alt: str, style: str = "") -> str:
    """An inline picture for `st.html`, which takes images but no <svg>."""
    if "xmlns=" not in svg:
        svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    data = base64.b64encode(svg.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}" style="{style}">'


def _theme() -> dict[str, Any]:
    return _themes()["dark" if dark() else "light"]


@cache
def _themes() -> dict[str, Any]:
    config = paths.ROOT / ".streamlit" / "config.toml"
    return tomllib.loads(config.read_text(encoding="utf-8"))["theme"]
