"""How many clips each value of a factor has, as a picture."""

from collections.abc import Iterator

import pandas as pd

from pages.components.picture import Picture, Spot
from refine import drawing
from refine.drawing import Look

WIDE, TALL = 1000, 190  # of the picture without its labels, in its own units
MOST = 1300  # px it grows to
LEFT, TOP = 64, 14
SHOWN = 40  # values
CUT = 16  # letters of a label
LETTER = 9.0  # width of one, at the widest of the fonts a computer may take


def counts(levels: pd.Series, look: Look) -> Picture:
    """Clips of each value, most frequent first. levels: value -> clips."""
    shown = levels.head(SHOWN)
    names = [drawing.cut(str(name), CUT) for name in shown.index]
    slot = (WIDE - LEFT) / len(shown)
    longest = max(map(len, names))
    turned = longest * LETTER > slot - 6
    reach = [0.77 * LETTER * len(name) - slot * i for i, name in enumerate(names)]  # leftwards
    first = max(LEFT, *reach) if turned else LEFT
    slot = (WIDE - first) / len(shown)
    below = 14 + 0.66 * LETTER * longest if turned else 30
    most = int(shown.max())
    parts = list(_grid(most, first, look))
    spots = []
    for place, (label, clips) in enumerate(zip(names, shown, strict=True)):
        left, top = first + place * slot, _y(clips, most)
        size = f'width="{0.76 * slot:.1f}" height="{TALL - top:.1f}"'
        style = f"fill:{look.after}"
        parts.append(f'<rect x="{left + 0.12 * slot:.1f}" y="{top:.1f}" {size} style="{style}"/>')
        parts.append(_label(left + slot / 2, label, turned, look))
        told = f"{shown.index[place]}\n{clips:,} clip{'s' * (clips != 1)}"
        spots.append(Spot(left, TOP, slot, TALL - TOP, told))
    return Picture(WIDE, TALL + below, parts, spots)


def _y(clips: float, most: int) -> float:
    return TALL - (TALL - TOP) * clips / max(1, most)


def _grid(most: int, left: float, look: Look) -> Iterator[str]:
    for value in drawing.ticks(0, most, most=4):
        if value == int(value):
            y = _y(value, most)
            yield drawing.rule(left, y, WIDE, y, look.ink, alpha=0.13)
            yield drawing.text(left - 9, y + 5, f"{value:,g}", look, 15, "end", alpha=0.75)


def _label(x: float, words: str, turned: bool, look: Look) -> str:
    if not turned:
        return drawing.text(x, TALL + 22, words, look, 15.5, "middle")
    text = drawing.text(0, 0, words, look, 15, "end")
    return f'<g transform="translate({x + 4:.1f} {TALL + 16}) rotate(-40)">{text}</g>'
