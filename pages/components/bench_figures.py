"""Pictures of the intervention bench: how far each space moved, beside pairs of the corpus."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from pages.components import theme
from pages.components.picture import Picture, Spot
from refine import drawing
from refine.drawing import Look
from refine.interventions import BEFORE, KINDS, Scale, density

LONGEST = 1.6  # of an axis, in strangers; what lies beyond stands at its edge
TICKS = (0.0, 0.5, 1.0, 1.5)
POINTS = 260  # of a kind on the plane
GRID = np.linspace(0, LONGEST, 97)
WIDE = 560  # of a picture, in its own units
MOST = 680  # px it grows to
LEFT, RIGHT = 214, 14  # of the hills
RIDGE, HEAD = 32, 40  # a kind of pair, and the name of a space above its kinds
SIDE = 494  # of the plane
CORNER = (62, 12)  # its left upper corner
# kind -> a mark of about twelve units across
MARKS = dict(
    zip(
        KINDS,
        (
            "M0,-6L1.5,-2 5.7,-1.9 2.3,0.8 3.5,4.9 0,2.5 -3.5,4.9 -2.3,0.8 -5.7,-1.9 -1.5,-2Z",
            "M0,-4.8L4.2,2.4 -4.2,2.4Z",
            "M0,-4.6L4.6,0 0,4.6 -4.6,0Z",
            "M-3.5,0A3.5,3.5 0 1 1 3.5,0A3.5,3.5 0 1 1 -3.5,0Z",
        ),
        strict=True,
    )
)


def name(space: str) -> str:
    """How a space is called on a picture."""
    return "before" if space == BEFORE else f"{space} subspace"


def kind_colours() -> dict[str, str]:
    """A colour a kind of pair; amber and petrol stay for before and after."""
    palette = theme.palette()
    clear = palette[5] if theme.dark() else palette[2]  # the green is dim on a dark background
    return dict(zip(KINDS, (theme.ink(), clear, palette[3], palette[4]), strict=True))


def rulers(scale: Scale, relative: Mapping[str, float], look: Look) -> Picture:
    """A hill a kind of pair in each space, and where the intervention stands.

    relative: distance in each space, in units of two strangers who say different things.
    """
    kinds = [kind for kind in KINDS if kind not in scale.missing]
    each = HEAD + RIDGE * len(kinds)
    bottom = each * len(scale.spaces) + 6
    parts: list[str] = []
    for value in TICKS:
        parts.append(drawing.rule(_at(value), 20, _at(value), bottom, look.ink, alpha=0.12))
        tick = drawing.text(_at(value), bottom + 20, f"{value:g}", look, 15.5, "middle", alpha=0.75)
        parts.append(tick)
    middle = (LEFT + WIDE - RIGHT) / 2
    parts.append(drawing.text(middle, bottom + 44, "distance, in strangers", look, 16.5, "middle"))
    spots: list[Spot] = []
    for row, space in enumerate(scale.spaces):
        top = row * each
        for place, kind in enumerate(kinds):
            floor = top + HEAD + RIDGE * (place + 1)
            parts += _hill(scale, space, kind, floor, look)
            spots.append(_told(scale, space, kind, floor))
        parts += _stand(space, relative[space], top, top + each, look)
        words = f"{name(space)}\nthis intervention: {relative[space]:.2f}"
        spots.append(Spot(_at(relative[space]) - 14, top + 10, 28, 28, words))
    return Picture(WIDE, bottom + 56, parts, spots)


def _at(value: float) -> float:
    """x of a distance on the rulers."""
    return LEFT + (WIDE - LEFT - RIGHT) * min(value, LONGEST) / LONGEST


def _hill(scale: Scale, space: str, kind: str, floor: float, look: Look) -> Iterator[str]:
    """The density of the distances of one kind, its name and its median."""
    shade, reference = kind_colours()[kind], scale.spaces[space]
    ridge = density(reference.pairs[kind] / reference.unit, GRID)
    tops = floor - 1.22 * RIDGE * ridge / (ridge.max() or 1.0)  # all beyond the edge
    line = "L".join(f"{_at(x):.1f},{y:.1f}" for x, y in zip(GRID, tops, strict=True))
    style = f"fill:{_thin(shade, 0.38)};stroke:{shade};stroke-width:1.3;stroke-linejoin:round"
    yield f'<path d="M{LEFT},{floor}L{line}L{_at(LONGEST):.1f},{floor}Z" style="{style}"/>'
    yield drawing.text(LEFT - 9, floor - 5, kind, look, 15.5, "end", colour=shade)
    x = _at(reference.medians[kind].value / reference.unit)
    yield drawing.rule(x, floor - 9, x, floor, look.ink, width=2)


def _told(scale: Scale, space: str, kind: str, floor: float) -> Spot:
    middle = scale.spaces[space].medians[kind]
    words = (
        f"{name(space)}: {kind}\nmedian distance {middle.value:.3f} ({middle.low:.3f} to "
        f"{middle.high:.3f})\n{middle.n:,} pairs"
    )
    return Spot(0, floor - RIDGE, WIDE - RIGHT, RIDGE, words)


def _stand(space: str, far: float, top: float, bottom: float, look: Look) -> Iterator[str]:
    """The name of a space, and the line and mark of the intervention in it."""
    yield drawing.text(
        LEFT - 9, top + 30, drawing.cut(name(space), 19), look, 17, "end", weight=650
    )
    colour, x = look.before if space == BEFORE else look.after, _at(far)
    yield drawing.rule(x, top + 24, x, bottom, colour, width=3)
    yield drawing.dot(x, top + 24, colour, look, space == BEFORE, 7.5)
    words = f"{far:.2f}{' →' if far > LONGEST else ''}"
    side, anchor = (16, "start") if far < 0.8 * LONGEST else (-16, "end")
    yield drawing.text(x + side, top + 30, words, look, 18, anchor, weight=700, colour=colour)


def plane(
    scale: Scale,
    axes: tuple[str, str],
    relative: Mapping[str, float],
    past: Sequence[Mapping[str, float]],
    look: Look,
) -> Picture:
    """How far one subspace moved against how far the other did, among the pairs of the corpus."""
    kinds = [kind for kind in KINDS if kind not in scale.missing]
    parts = [*_frame(axes, look), *_clouds(scale, axes, kinds)]
    spots = []
    for kind in kinds:
        x, y = _place(*(scale.spaces[axis].medians[kind].value / scale.spaces[axis].unit
                        for axis in axes))  # fmt: skip
        lines = kind.split(", ")
        wide, high = 9.5 * max(map(len, lines)) + 8, 19 * len(lines) + 4
        style = f"fill:{look.paper};opacity:.72"
        box = f'x="{x - wide / 2:.1f}" y="{y - high / 2:.1f}" width="{wide:.1f}" height="{high}"'
        parts.append(f'<rect {box} rx="3" style="{style}"/>')
        for place, words in enumerate(lines):
            at = y - high / 2 + 16 + 19 * place
            shade = kind_colours()[kind]
            parts.append(drawing.text(x, at, words, look, 17.5, "middle", 650, colour=shade))
    parts += _trail(axes, relative, past, look)
    x, y = _place(*(relative[axis] for axis in axes))
    told = "\n".join(f"{name(axis)} {relative[axis]:.2f}" for axis in axes)
    spots.append(Spot(x - 16, y - 16, 32, 32, f"this intervention\n{told}"))
    return Picture(WIDE, CORNER[1] + SIDE + 56, parts, spots)


def _place(x: float, y: float) -> tuple[float, float]:
    """Where two distances are on the plane."""
    left, top = CORNER
    unit = (SIDE - 16) / LONGEST
    return left + 8 + unit * min(x, LONGEST), top + SIDE - 8 - unit * min(y, LONGEST)


def _frame(axes: tuple[str, str], look: Look) -> Iterator[str]:
    left, top = CORNER
    bottom = top + SIDE
    yield drawing.rule(left, top, left, bottom, look.ink, alpha=0.4)
    yield drawing.rule(left, bottom, left + SIDE, bottom, look.ink, alpha=0.4)
    for value in TICKS:
        x, y = _place(value, value)
        yield drawing.rule(left, y, left + SIDE, y, look.ink, alpha=0.12)
        yield drawing.rule(x, top, x, bottom, look.ink, alpha=0.12)
        yield drawing.text(x, bottom + 20, f"{value:g}", look, 17.5, "middle", alpha=0.75)
        yield drawing.text(left - 8, y + 5, f"{value:g}", look, 17.5, "end", alpha=0.75)
    words = [f"how far {name(axis)} moved" for axis in axes]
    yield drawing.text(left + SIDE / 2, bottom + 44, words[0], look, 18, "middle")
    turned = drawing.text(0, 0, words[1], look, 18, "middle")
    yield f'<g transform="translate(16 {top + SIDE / 2}) rotate(-90)">{turned}</g>'


def _clouds(scale: Scale, axes: tuple[str, str], kinds: Sequence[str]) -> Iterator[str]:
    """Pairs of the corpus, a mark a kind."""
    units = [scale.spaces[axis].unit for axis in axes]
    for number, kind in enumerate(kinds):
        shade = _thin(kind_colours()[kind], 0.5)
        yield f'<defs><path id="mark{number}" d="{MARKS[kind]}" style="fill:{shade}"/></defs>'
        sides = [scale.spaces[axis].pairs[kind][:POINTS] for axis in axes]
        for one, other in zip(*sides, strict=True):
            x, y = _place(one / units[0], other / units[1])
            yield f'<use href="#mark{number}" x="{x:.1f}" y="{y:.1f}"/>'


def _trail(
    axes: tuple[str, str],
    relative: Mapping[str, float],
    past: Sequence[Mapping[str, float]],
    look: Look,
) -> Iterator[str]:
    """The intervention, and the way the last ones went."""
    way = [_place(*(one[axis] for axis in axes)) for one in (*past, relative)]
    for (x1, y1), (x2, y2) in pairwise(way):
        yield drawing.rule(x1, y1, x2, y2, look.ink, width=1.6, alpha=0.5, dash="2 5")
    for x, y in way[:-1]:
        yield drawing.dot(x, y, look.ink, look, True, 4.5)
    x, y = way[-1]
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="15" style="fill:{look.paper}"/>'
    yield drawing.dot(x, y, look.after, look, False, 9)


def _thin(colour: str, alpha: float) -> str:
    """A palette colour with transparency; the ink has one already."""
    return theme.rgba(colour, alpha) if colour.startswith("#") else theme.ink(0.7 * alpha)
