"""A forest: a small chart a metric, every encoder's value and interval in it, as one picture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pages.components import picture
from pages.components.picture import Picture, Spot
from refine import drawing, lineup, names
from refine.drawing import Look

COLUMNS = 3
WIDTH = 990  # of the picture, in its own units
MOST = 1240  # px it grows to
NAMES = 172  # left of each row of charts
GAP = 22  # between charts
VALUES = 60  # right in a chart, for the values in figures
ROW = 34  # an encoder
LETTER = 9.6  # width of a letter of a title, the widest text
ENDS = ("low", "value", "high")
TOP, BOTTOM = 46, 44  # of a chart, for its title and its ticks


class Mark(NamedTuple):
    """One encoder in one chart."""

    label: str
    colour: str
    number: dict[str, Any]
    change: dict[str, Any] | None
    reference: bool

    @property
    def verdict(self) -> str:
        return lineup.verdict(self.change, self.number["direction"])

    @property
    def sure(self) -> bool:
        return self.verdict not in ("", "unsure")

    def told(self) -> str:
        """Value, interval and change in words, for who points at it."""
        low, high = (names.short(self.number[end]) for end in ("low", "high"))
        lines = [self.label, f"{names.short(self.number['value'])} ({low} to {high})"]
        if self.change is not None:
            ends = " to ".join(names.signed(self.change[end]) for end in ("low", "high"))
            lines.append(f"{names.signed(self.change['value'])} ({ends}): {self.verdict}")
        else:
            lines.append("the reference" if self.reference else "no paired change")
        return "\n".join(lines)


class Box(NamedTuple):
    """The place of a chart's marks."""

    left: float
    right: float
    top: float
    bottom: float


def show(
    found: dict[str, Any], group: str, metrics: Sequence[str], labels: Mapping[str, str],
    shades: Mapping[str, str],
) -> None:  # fmt: skip
    """Draw it."""
    drawn = forest(found, group, metrics, labels, shades, picture.look())
    alt = f"{group}: metrics of {len(labels)} encoders with their intervals"
    picture.show(drawn, "forest", alt, MOST)


def forest(
    found: dict[str, Any], group: str, metrics: Sequence[str], labels: Mapping[str, str],
    shades: Mapping[str, str], look: Look,
) -> Picture:  # fmt: skip
    """A chart a metric; every mark tells itself in words.

    The band is the reference's interval; a full mark changed surely.
    """
    charts = {metric: _marks(found, group, metric, labels, shades) for metric in metrics}
    charts = {metric: marks for metric, marks in charts.items() if any(marks)}
    levels = len(found["encoders"])
    height = -(-len(charts) // COLUMNS) * (TOP + ROW * levels + BOTTOM)
    parts: list[str] = []
    spots = []
    for place, (metric, marks) in enumerate(charts.items()):
        box = _box(place, levels)
        if place % COLUMNS == 0:
            parts += _labels([labels[name] for name in found["encoders"]], box, look)
        parts += _chart(metric, marks, box, look)
        spots += [_spot(mark, box, level) for level, mark in enumerate(marks) if mark]
    return Picture(WIDTH, height, parts, spots)


def _marks(
    found: dict[str, Any], group: str, metric: str, labels: Mapping[str, str],
    shades: Mapping[str, str],
) -> list[Mark | None]:  # fmt: skip
    """A mark an encoder, or None where it has no such number."""
    marks: list[Mark | None] = []
    for name, one in found["encoders"].items():
        number, change = (one[side].get(group, {}).get(metric) for side in ("numbers", "changes"))
        known = number is not None and None not in (number[end] for end in ENDS)
        mark = Mark(labels[name], shades[name], number, change, name == found["against"])
        marks.append(mark if known else None)
    return marks


def _box(place: int, levels: int) -> Box:
    across, down = place % COLUMNS, place // COLUMNS
    wide = (WIDTH - NAMES - GAP * (COLUMNS - 1)) / COLUMNS
    left = NAMES + across * (wide + GAP)
    top = down * (TOP + ROW * levels + BOTTOM) + TOP
    return Box(left, left + wide - VALUES, top, top + ROW * levels)


def _labels(labels: Sequence[str], box: Box, look: Look) -> Iterator[str]:
    for level, label in enumerate(labels):
        y = box.top + ROW * (level + 0.5) + 5
        yield drawing.text(NAMES - 10, y, drawing.cut(label, 21, tail=9), look, 15, "end")


def _chart(metric: str, marks: Sequence[Mark | None], box: Box, look: Look) -> Iterator[str]:
    known = [mark for mark in marks if mark is not None]
    yield from _title(metric, known[0].number["direction"], box, look)
    ends = [float(mark.number[end]) for mark in known for end in ENDS]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 0.5
    scale = (box.right - box.left) / (high - low + 2 * pad)

    def at(value: float) -> float:
        return box.left + (value - low + pad) * scale

    for value, tick in _ticks(low - pad, high + pad, box.right - box.left):
        yield drawing.rule(at(value), box.top, at(value), box.bottom, look.ink, alpha=0.13)
        yield drawing.text(at(value), box.bottom + 20, tick, look, 14, "middle", alpha=0.75)
    for level, mark in enumerate(marks):
        if mark is not None:
            yield from _row(mark, box.top + ROW * (level + 0.5), at, box, look)


def _ticks(low: float, high: float, wide: float) -> list[tuple[float, str]]:
    """As many round numbers as stand beside each other."""
    for most in (4, 3, 2, 1):
        values = drawing.ticks(low, high, most)
        words = [f"{value:g}".replace("-", "−") for value in values]
        if LETTER * (max(map(len, words), default=0) + 1) * len(words) < wide:
            break
    return list(zip(values, words, strict=True))


def _title(metric: str, direction: str, box: Box, look: Look) -> Iterator[str]:
    place, _, last = metric.rpartition(": ")
    arrow = {"higher": "better →", "lower": "← better"}.get(direction, "")
    room = (box.right + VALUES - box.left) / LETTER - len(arrow)
    words = drawing.cut(names.name(last), int(room))
    if place:
        yield drawing.text(box.left, box.top - 31, drawing.cut(place, 30), look, 14, alpha=0.8)
    yield drawing.text(box.left, box.top - 13, words, look, 16, weight=650)
    yield drawing.text(box.right + VALUES, box.top - 13, arrow, look, 14, "end", alpha=0.75)


def _row(mark: Mark, y: float, at: Any, box: Box, look: Look) -> Iterator[str]:
    low, value, high = (at(mark.number[end]) for end in ENDS)
    if mark.reference:
        style = f"fill:{mark.colour};opacity:.15"
        size = f'width="{max(1.0, high - low):.1f}" height="{box.bottom - box.top:.1f}"'
        yield f'<rect x="{low:.1f}" y="{box.top:.1f}" {size} style="{style}"/>'
    yield drawing.rule(low, y, high, y, mark.colour, width=3.5)
    yield drawing.dot(value, y, mark.colour, look, not mark.sure, 6)
    words, weight = names.short(mark.number["value"]), 700 if mark.sure else 400
    yield drawing.text(box.right + VALUES, y + 5, words, look, 14.5, "end", weight)


def _spot(mark: Mark, box: Box, level: int) -> Spot:
    """A row of a chart."""
    width = box.right + VALUES - box.left
    return Spot(box.left, box.top + ROW * level, width, ROW, mark.told())
