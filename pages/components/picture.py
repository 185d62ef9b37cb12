"""A picture of ours on a page: it answers the pointer, and is an SVG or PNG file at a press.

It appears sooner than a Plotly chart; what has to zoom or to be chosen from is one.
"""

import json
import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import streamlit as st

from pages.components import theme
from refine import drawing
from refine.drawing import Look

SMALLEST = 12  # px, of text on the page


class Spot(NamedTuple):
    """A place that says something when pointed at or reached by keys, in units of the picture."""

    left: float
    top: float
    width: float
    height: float
    told: str


class Reading(NamedTuple):
    """Axes that the pointer reads: seconds to the right, named rows downwards."""

    left: float
    right: float
    top: float
    bottom: float
    seconds: float
    rows: tuple[str, ...]


class Picture(NamedTuple):
    """What is drawn, and what it says where."""

    width: float
    height: float
    parts: Sequence[str]
    spots: Sequence[Spot]
    reading: Reading | None = None


def look() -> Look:
    """The theme's colours for pictures of `refine.drawing`."""
    colours = tuple(theme.palette())
    return Look(theme.ink(), theme.paper(), theme.before(), theme.after(), theme.quiet(), colours)


def show(picture: Picture, key: str, alt: str, most: float = 0) -> None:
    """Draw it at the width of its column, at most `most` px; as a file it bears its key."""
    spots = "".join(_span(spot, picture, not place) for place, spot in enumerate(picture.spots))
    place(svg(picture, alt), key, alt, f"{most:g}px" * bool(most), spots, _reading(picture))


def place(
    drawn: str, key: str, alt: str, most: str = "", spots: str = "", reading: str = ""
) -> None:
    """An SVG on the page, with its buttons. most: length in CSS it grows to; else its column's."""
    image = theme.image(drawn, alt, "width:100%")
    width = f"max-width:{most};" if most else ""
    sheet = (
        f'<div class="refine-sheet" style="min-width:{_least(drawn):.0f}px">{image}{spots}</div>'
    )
    html = f'<div class="refine-scroll">{sheet}</div>'
    with st.container(key=key):
        st.html(_framed(html, key, reading, width))


def _least(drawn: str) -> float:
    """px of width at which its smallest text is SMALLEST high; a narrower place scrolls."""
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', drawn)]
    width = re.search(r'viewBox="\S+ \S+ ([\d.]+)', drawn)
    return SMALLEST * float(width[1]) / min(sizes) if sizes and width else 0.0


def made(html: str, key: str, alt: str) -> None:
    """Text and small images that are one picture: as a file they are as they stand on the page."""
    st.html(_framed(html, key, f'role="group" aria-label="{escape(alt)}" '))


def _framed(html: str, key: str, told: str, style: str = "") -> str:
    """With the buttons that write it as a file (assets/theme/downloads.js). told: attributes."""
    save = "".join(
        f'<button data-save="{form.lower()}" aria-label="Download as {form}">{form}</button>'
        for form in ("SVG", "PNG")
    )
    colours = f"--paper:{theme.paper()};--ink:{theme.ink()}"
    return (
        f'<div class="refine-plot" data-name="refine {escape(key)}" {told}'
        f'style="{style}{colours}">{html}<div class="refine-save">{save}</div></div>'
    )


def svg(picture: Picture, alt: str) -> str:
    """The picture as an SVG; as a file it gets its paper."""
    return drawing.svg(picture.width, picture.height, "".join(picture.parts), alt)


def _reading(picture: Picture) -> str:
    """What assets/theme/pointing.js needs to say where the pointer is."""
    if picture.reading is None:
        return ""
    told = picture.reading._asdict()
    told |= {side: told[side] / picture.width for side in ("left", "right")}
    told |= {side: told[side] / picture.height for side in ("top", "bottom")}
    return f"data-reading='{escape(json.dumps(told))}' "


def _span(spot: Spot, of: Picture, first: bool) -> str:
    """Tab reaches one spot of a picture, the arrow keys the others (assets/theme/pointing.js)."""
    shares = {
        "left": spot.left / of.width,
        "top": spot.top / of.height,
        "width": spot.width / of.width,
        "height": spot.height / of.height,
    }
    style = ";".join(f"{side}:{100 * share:.3f}%" for side, share in shares.items())
    told = drawing.safe(spot.told)
    return (
        f'<span style="{style}" role="img" tabindex="{-1 + first}" data-told="{told}" '
        f'aria-label="{told.replace(chr(10), ", ")}"></span>'
    )
