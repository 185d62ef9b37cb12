"""Clips of each value as bars: as high as there are clips, every label inside the picture."""

from xml.etree import ElementTree

import pandas as pd
import pytest

from pages.components import bars
from refine import drawing
from refine.drawing import Look

LOOK = Look("#000001", "#fffffe", "#aa0000", "#0000aa", "#888888", ("#00aa00",) * 8)
SVG = "{http://www.w3.org/2000/svg}"


def tree(levels: pd.Series) -> tuple[ElementTree.Element, list[str]]:
    made = bars.counts(levels, LOOK)
    svg = drawing.svg(made.width, made.height, "".join(made.parts))
    return ElementTree.fromstring(svg), [spot.told for spot in made.spots]


def test_bars_are_as_high_as_there_are_clips() -> None:
    svg, told = tree(pd.Series([40, 20, 1], ["joy", "<i>anger</i>", ""]))
    heights = [float(one.get("height", "")) for one in svg.iter(f"{SVG}rect")]
    assert heights[0] == bars.TALL - bars.TOP
    assert heights[1] == pytest.approx(heights[0] / 2)
    assert heights[2] == pytest.approx(heights[0] / 40, abs=0.06)
    assert told == ["joy\n40 clips", "<i>anger</i>\n20 clips", "\n1 clip"]
    assert "<i>anger</i>" in [one.text for one in svg.iter(f"{SVG}text")]


@pytest.mark.parametrize("number", [1, 3, 12, 60])
def test_every_bar_and_label_is_inside(number: int) -> None:
    levels = pd.Series(range(number, 0, -1), [f"a long name {i}" for i in range(number)])
    svg, told = tree(levels)
    boxes = [(float(r.get("x", "")), float(r.get("width", ""))) for r in svg.iter(f"{SVG}rect")]
    assert len(told) == len(boxes) == min(number, bars.SHOWN)
    assert all(x >= 0 and x + width <= bars.WIDE for x, width in boxes)
    turned = [one for one in svg.iter(f"{SVG}g") if "rotate" in one.get("transform", "")]
    assert bool(turned) == (number > 6)
    for one in turned:  # the first letters too
        end = float(one.get("transform", "").split("(")[1].split()[0])
        assert end - 0.77 * bars.LETTER * len(one[0].text or "") > 0
