"""The forest of the Compare page: every number at its place, sure changes full, labels as text."""

from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from pages.components import forest
from pages.components.picture import Picture
from refine import drawing
from refine.drawing import Look

LOOK = Look("#000001", "#fffffe", "#aa0000", "#0000aa", "#888888", ("#00aa00",))
SVG = "{http://www.w3.org/2000/svg}"


def number(value: float, low: float, high: float, direction: str = "higher") -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "direction": direction, "n": 9}


def as_svg(made: Picture) -> str:
    return drawing.svg(made.width, made.height, "".join(made.parts))


def found(sides: dict[str, tuple[dict, dict]]) -> dict[str, Any]:
    """An encoder's numbers and changes of one group."""
    told = {name: {"numbers": {"g": n}, "changes": {"g": c}} for name, (n, c) in sides.items()}
    return {"against": next(iter(sides)), "encoders": told}


LINED = found(
    {
        "mini": ({"probe_uar": number(0.5, 0.4, 0.6), "eer": number(0.2, 0.1, 0.3, "lower")}, {}),
        "<b>one</b>": (
            {"probe_uar": number(0.8, 0.7, 0.9), "eer": number(0.25, 0.2, 0.3, "lower")},
            {"probe_uar": number(0.3, 0.2, 0.4), "eer": number(0.05, -0.1, 0.2)},
        ),
        "two": (
            {"eer": number(0.4, 0.35, 0.45, "lower")},
            {"eer": number(0.2, 0.1, 0.3)},
        ),
    }
)
NAMES = {"mini": "mini", "<b>one</b>": "<b>one</b>", "two": "two"}
SHADES = {"mini": "#aa0000", "<b>one</b>": "#0000aa", "two": "#00aa00"}


@pytest.fixture(scope="module")
def drawn() -> tuple[ElementTree.Element, list[str]]:
    made = forest.forest(LINED, "g", ["probe_uar", "eer"], NAMES, SHADES, LOOK)
    return ElementTree.fromstring(as_svg(made)), [spot.told for spot in made.spots]


def dots(drawn: ElementTree.Element, colour: str) -> list[tuple[float, float, bool]]:
    """x, y and whether full, of an encoder's marks from left to right."""
    marks = [
        one for one in drawn.iter(f"{SVG}circle") if f"stroke:{colour}" in one.get("style", "")
    ]
    return [
        (float(m.get("cx", "")), float(m.get("cy", "")), LOOK.paper not in m.get("style", ""))
        for m in marks
    ]


def test_a_mark_stands_where_its_number_is(drawn) -> None:
    svg, _ = drawn
    (first, before), (second, _) = dots(svg, "#aa0000"), dots(svg, "#0000aa")
    band = next(one for one in svg.iter(f"{SVG}rect") if "#aa0000" in one.get("style", ""))
    unit = float(band.get("width", "")) / 0.2  # its interval is 0.4 to 0.6
    assert second[0] - first[0] == pytest.approx(0.3 * unit, abs=0.2)
    assert first[0] - float(band.get("x", "")) == pytest.approx(0.1 * unit, abs=0.2)
    assert second[1] - first[1] == forest.ROW
    assert before[0] > first[0]  # the next chart stands right of it


def test_only_sure_changes_are_full(drawn) -> None:
    svg, _ = drawn
    assert [full for *_, full in dots(svg, "#aa0000")] == [False, False]  # the reference
    assert [full for *_, full in dots(svg, "#0000aa")] == [True, False]
    assert [full for *_, full in dots(svg, "#00aa00")] == [True]  # and no mark without a number


def test_every_mark_is_told_in_words(drawn) -> None:
    _, spots = drawn
    assert len(spots) == 5
    assert "<b>one</b>\n0.800 (0.700 to 0.900)\n+0.300 (+0.200 to +0.400): better" in spots[1]
    assert "the reference" in spots[0]
    assert "worse" in spots[-1]


def test_a_label_is_text_and_a_long_one_is_cut(drawn) -> None:
    svg, _ = drawn
    texts = [one.text for one in svg.iter(f"{SVG}text")]
    assert texts.count("<b>one</b>") == 1
    assert {"Probe UAR", "EER", "better →", "← better"} <= set(texts)
    long = {name: "n" * 40 if name == "two" else label for name, label in NAMES.items()}
    cut = forest.forest(LINED, "g", ["eer"], long, SHADES, LOOK)
    assert f">{'n' * 11}…{'n' * 9}<" in as_svg(cut)


@pytest.mark.parametrize("places", [1, 3, 4, 9])
def test_charts_stand_beside_and_below_each_other(places: int) -> None:
    metrics = [f"m{i}" for i in range(places)]
    sides = {"mini": ({name: number(0.0, -1.0, 1.0) for name in metrics}, {})}
    made = forest.forest(found(sides), "g", metrics, {"mini": "mini"}, SHADES, LOOK)
    marks = dots(ElementTree.fromstring(as_svg(made)), "#aa0000")
    assert len(made.spots) == places
    assert len({x for x, *_ in marks}) == min(places, forest.COLUMNS)
    assert len({y for _, y, _ in marks}) == -(-places // forest.COLUMNS)
    assert all(0 < x < forest.WIDTH for x, *_ in marks)


def test_one_value_without_spread_is_drawn() -> None:
    sides = {"mini": ({"m": number(2.0, 2.0, 2.0)}, {})}
    svg = as_svg(forest.forest(found(sides), "g", ["m"], {"mini": "mini"}, SHADES, LOOK))
    assert "nan" not in svg
    assert len(dots(ElementTree.fromstring(svg), "#aa0000")) == 1


def test_what_xml_does_not_know_is_a_mark() -> None:
    sides = {"mini": ({"m": number(2.0, 1.0, 3.0)}, {})}
    odd = {"mini": "a\x01b\ud800"}
    svg = as_svg(forest.forest(found(sides), "g", ["m"], odd, SHADES, LOOK))
    texts = [one.text for one in ElementTree.fromstring(svg.encode()).iter(f"{SVG}text")]
    assert "a\ufffdb\ufffd" in texts


def test_runs_of_one_name_keep_their_end() -> None:
    sides = {name: ({"m": number(2.0, 1.0, 3.0)}, {}) for name in ("mini", "<b>one</b>")}
    names = {"mini": "rewire-mini · today 14:03", "<b>one</b>": "rewire-mini · today 15:12"}
    svg = as_svg(forest.forest(found(sides), "g", ["m"], names, SHADES, LOOK))
    assert "14:03<" in svg
    assert "15:12<" in svg


def test_a_number_without_a_value_is_left_out() -> None:
    sides = {"mini": ({"m": number(2.0, 1.0, 3.0), "k": number(1.0, 0.0, 2.0)}, {})}
    sides["mini"][0]["k"]["value"] = None
    made = forest.forest(found(sides), "g", ["m", "k"], {"mini": "mini"}, SHADES, LOOK)
    assert len(made.spots) == 1


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.0021, 0.0043), (0.5, 0.5), (1e5, 1e6)])
def test_ticks_stand_beside_each_other(low: float, high: float) -> None:
    sides = {"mini": ({"m": number((low + high) / 2, low, high)}, {})}
    svg = as_svg(forest.forest(found(sides), "g", ["m"], {"mini": "mini"}, SHADES, LOOK))
    ticks = [
        (float(one.get("x", "")), one.text or "")
        for one in ElementTree.fromstring(svg).iter(f"{SVG}text")
        if one.get("text-anchor") == "middle"
    ]
    assert ticks
    for (x, words), (further, after) in pairwise(ticks):
        assert further - x > 8.6 * (len(words) + len(after)) / 2  # 13.5 px, a wide font


def test_where_a_number_is_read_stands_above_its_name() -> None:
    metric = "speaker → content: probe_uar"
    sides = {"mini": ({metric: number(0.5, 0.4, 0.6)}, {})}
    svg = as_svg(forest.forest(found(sides), "g", [metric], {"mini": "mini"}, SHADES, LOOK))
    places = {
        one.text: float(one.get("y", "")) for one in ElementTree.fromstring(svg).iter(f"{SVG}text")
    }
    assert 0 < places["speaker → content"] - 13.5 < places["Probe UAR"] - 16
