"""Small pictures as SVG, for the report and for pages: strips, maps, curves, confusions, lineages.

Colours are written into style attributes and may be CSS variables (`Look()` for a file that knows
light and dark) or plain colours (`Look(ink="#1D2733", …)`, for an image). Nothing here computes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from refine.lineage import Node

# control characters, halves of surrogate pairs: no XML, though JSON and CSV may hold them
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
PALETTE = 8  # categorical colours of a look
ACROSS, DOWN = 200, 66  # between the places of a lineage


@dataclass(frozen=True)
class Look:
    """Colours, as anything that CSS takes."""

    ink: str = "var(--ink)"
    paper: str = "var(--paper)"
    before: str = "var(--before)"
    after: str = "var(--after)"
    quiet: str = "var(--quiet)"
    colours: tuple[str, ...] = tuple(f"var(--c{i})" for i in range(PALETTE))

    def colour(self, place: int) -> str:
        """A categorical colour; they repeat."""
        return self.colours[place % len(self.colours)]


class Line(NamedTuple):
    """A curve, with its band where low and high are given."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dash: str = ""
    open: bool = False  # hollow points, as of "before"


def svg(
    width: float, height: float, body: str, alt: str = "", grow: bool = True, sized: bool = False
) -> str:
    """A picture of this size in user units; it grows with its place, or `grow` no wider.

    `sized`: it says its size in pixels, for programs that open it as a file.
    """
    title = f"<title>{safe(alt)}</title>" if alt else ""
    most = "" if grow else f'style="max-width:{width:g}px" '
    size = f'width="{width:g}" height="{height:g}" ' if sized else ""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'{size}{most}font-family="Source Sans, system-ui, sans-serif">{title}{body}</svg>'
    )


def safe(words: object) -> str:
    """Text for SVG, as text whatever it holds; what XML does not know becomes a mark."""
    return escape(FORBIDDEN.sub("\ufffd", str(words)))


def cut(words: str, most: int, tail: int = 0) -> str:
    """At most so many letters; the last `tail` of them are kept.

    >>> cut("interventional", 8), cut("rewire-mini · today 14:03", 14, tail=5)
    ('interve…', 'rewire-m…14:03')
    """
    if len(words) <= most:
        return words
    return f"{words[: most - tail - 1]}…{words[len(words) - tail :]}"


def text(
    x: float, y: float, words: str, look: Look, size: float = 13, anchor: str = "start",
    weight: int = 400, alpha: float = 1.0, colour: str = "",
) -> str:  # fmt: skip
    """A line of text, shown as text whatever it holds."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
        f'font-weight="{weight}" style="fill:{colour or look.ink};opacity:{alpha:g}">'
        f"{safe(words)}</text>"
    )


def dot(x: float, y: float, colour: str, look: Look, hollow: bool, r: float = 5) -> str:
    """A point: before is an open circle, after a full one."""
    fill = look.paper if hollow else colour
    style = f"fill:{fill};stroke:{colour};stroke-width:{r * 0.5:g}"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}" style="{style}"/>'


def rule(x1: float, y1: float, x2: float, y2: float, colour: str, **style: Any) -> str:
    """A straight line. `style`: width, alpha, dash."""
    dash = f";stroke-dasharray:{style['dash']}" if style.get("dash") else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'style="stroke:{colour};stroke-width:{style.get("width", 1):g};'
        f'opacity:{style.get("alpha", 1):g}{dash};stroke-linecap:round"/>'
    )


def strip(numbers: Mapping[str, Mapping[str, Any]], look: Look, width: int = 300) -> str:
    """Before and after on one axis: intervals, values, a tick at null, a diamond at control."""
    height, middle = 40, 20
    seen = [n[key] for n in numbers.values() for key in ("value", "low", "high", "null", "control")]
    shown = [float(value) for value in seen if value is not None]
    low, high = min(shown), max(shown)
    pad = 0.05 * (high - low) or 0.5
    low, high = low - pad, high + pad

    def at(value: float) -> float:
        return 10 + (width - 20) * (value - low) / (high - low)

    first = next(iter(numbers.values()))
    parts = [rule(10, middle, width - 10, middle, look.ink, width=1.5, alpha=0.18)]
    if first.get("null") is not None:
        x = at(first["null"])
        parts.append(rule(x, middle - 12, x, middle + 12, look.ink, width=1.6, alpha=0.55))
    if first.get("control") is not None:
        style = f"fill:none;stroke:{look.ink};stroke-width:1.4;opacity:.55"
        place = f"translate({at(first['control']):.1f} {middle})"
        parts.append(f'<path transform="{place}" d="M-5,0L0,-5L5,0L0,5Z" style="{style}"/>')
    for role, n in numbers.items():
        y = middle + ({"before": -8, "after": 8}[role] if len(numbers) > 1 else 0)
        colour = look.before if role == "before" else look.after
        parts.append(rule(at(n["low"]), y, at(n["high"]), y, colour, width=4.5, alpha=0.4))
        parts.append(dot(at(n["value"]), y, colour, look, role == "before"))
    return svg(width, height, "".join(parts))


def scatter(
    xy: Float[np.ndarray, "n 2"],
    groups: Sequence[tuple[str, Int[np.ndarray, " rows"], str]],
    look: Look,
    window: tuple[Sequence[float], Sequence[float]],
    alt: str,
    size: int = 420,
) -> str:
    """A map: dots of each group (label, rows, colour) in a square window ((x0, x1), (y0, y1))."""
    (x0, x1), (y0, y1) = window
    span = max(x1 - x0, y1 - y0) or 1.0
    scale = (size - 16) / span
    left, top = (x0 + x1 - span) / 2, (y0 + y1 + span) / 2
    radius = float(np.clip(110 / math.sqrt(max(1, len(xy))), 2.2, 5))
    frame = f"fill:none;stroke:{look.ink};stroke-opacity:.2"
    parts = [f'<rect x=".5" y=".5" width="{size - 1}" height="{size - 1}" style="{frame}"/>']
    for _, rows, colour in groups:
        places = ((xy[rows] - [left, top]) * [scale, -scale]) + 8
        # a stroke of no length with round ends is a dot, at a fifth of a circle's bytes
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
        style = f"stroke:{colour};stroke-width:{2 * radius:.1f};stroke-linecap:round;fill:none"
        parts.append(f'<path d="{path}" style="{style};opacity:.78"/>')
    return svg(size, size, "".join(parts), alt)


def curves(
    lines: Sequence[Line], look: Look, x_title: str, y_title: str, alt: str,
    log_x: bool = False, width: int = 560, height: int = 300, legend: bool = True,
) -> str:  # fmt: skip
    """Curves over one pair of axes, with bands, and a legend where there are several."""
    known = [line for line in lines if len(line.x)]
    if not known:
        return ""
    left, right, top, bottom = 58, width - 20, 30 if legend and len(known) > 1 else 12, height - 46

    def flat(of: str) -> np.ndarray:
        rows = [np.asarray(v, float) for line in known if (v := getattr(line, of)) is not None]
        every = np.concatenate(rows) if rows else np.zeros(0)
        return every[np.isfinite(every)]

    xs = np.concatenate([flat("x")])
    ys = np.concatenate([flat("y"), flat("low"), flat("high")])
    x_of = (lambda v: math.log10(max(float(v), 1e-12))) if log_x else float
    x0, x1 = x_of(xs.min()), x_of(xs.max())
    y0, y1 = float(ys.min()), float(ys.max())
    x1, pad = x1 + (x1 == x0), 0.06 * (y1 - y0) or 0.5
    y0, y1 = y0 - pad, y1 + pad

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (right - left) * (x_of(x) - x0) / (x1 - x0),
            bottom - (bottom - top) * (float(y) - y0) / (y1 - y0),
        )

    parts = _axes(look, (left, right, top, bottom), (x0, x1), (y0, y1), log_x, x_title, y_title)
    for line in known:
        if line.low is not None and line.high is not None:
            edge = [at(*p) for p in zip(line.x, line.high, strict=True)]
            edge += [at(*p) for p in zip(line.x, line.low, strict=True)][::-1]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in edge)
            parts.append(f'<polygon points="{points}" style="fill:{line.colour};opacity:.16"/>')
    for line in known:
        places = [at(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dash = f";stroke-dasharray:{line.dash}" if line.dash else ""
        style = f"fill:none;stroke:{line.colour};stroke-width:2.4;stroke-linejoin:round{dash}"
        parts.append(f'<polyline points="{points}" style="{style}"/>')
        if len(places) <= 25:
            parts += [dot(x, y, line.colour, look, line.open, 3.6) for x, y in places]
    if legend and len(known) > 1:
        x = float(left)
        for line in known:
            parts.append(rule(x, 14, x + 20, 14, line.colour, width=3, dash=line.dash))
            parts.append(text(x + 26, 18, line.label, look, 12.5))
            x += 44 + 6.6 * len(line.label)
    return svg(width, height, "".join(parts), alt)


def _axes(
    look: Look, box: tuple[float, float, float, float], xs: tuple[float, float],
    ys: tuple[float, float], log_x: bool, x_title: str, y_title: str,
) -> list[str]:  # fmt: skip
    left, right, top, bottom = box
    parts = []
    for value in ticks(*ys):
        y = bottom - (bottom - top) * (value - ys[0]) / (ys[1] - ys[0])
        parts.append(rule(left, y, right, y, look.ink, alpha=0.13))
        parts.append(text(left - 7, y + 4, f"{value:g}", look, 12, "end", alpha=0.75))
    marks = ticks(*xs, most=6)
    if log_x:
        marks = [float(p) for p in range(math.ceil(xs[0]), math.floor(xs[1]) + 1)] or [*xs]
    for value in marks:
        x = left + (right - left) * (value - xs[0]) / (xs[1] - xs[0])
        label = f"{10**value:,.0f}" if log_x else f"{value:,g}"
        parts.append(text(x, bottom + 18, label, look, 12, "middle", alpha=0.75))
    parts.append(text((left + right) / 2, bottom + 38, x_title, look, 12.5, "middle", alpha=0.85))
    middle = (top + bottom) / 2
    turned = text(0, 0, y_title, look, 12.5, "middle", alpha=0.85)
    parts.append(f'<g transform="translate(14 {middle:.1f}) rotate(-90)">{turned}</g>')
    return parts


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def confusion(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], look: Look, colour: str, alt: str
) -> str:
    """Rows are the truth, columns the answer; a cell is the share of its row, in per cent."""
    counts = np.asarray(matrix, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    k, longest = len(classes), max(len(str(c)) for c in classes)
    cell = 44 if k <= 8 else max(20, int(352 / k))
    left = 14 + min(7.2 * longest, 130)
    top = 22 + 5.6 * min(longest, 20)
    width, height = left + k * cell + 14, top + k * cell + 12
    cut = 20 if k <= 12 else 14
    parts = []
    for i, name in enumerate(classes):
        shown = str(name) if len(str(name)) <= cut else f"{str(name)[: cut - 1]}…"
        parts.append(text(left - 8, top + (i + 0.5) * cell + 4, shown, look, 12.5, "end"))
        place = f"translate({left + (i + 0.5) * cell + 4:.1f} {top - 8:.1f}) rotate(-45)"
        parts.append(f'<g transform="{place}">{text(0, 0, shown, look, 12.5)}</g>')
        for j in range(k):
            share = shares[i, j]
            box = f'x="{left + j * cell:.1f}" y="{top + i * cell:.1f}" width="{cell - 2}"'
            style = f"fill:{colour};opacity:{0.06 + 0.84 * share:.3f}"
            parts.append(f'<rect {box} height="{cell - 2}" rx="3" style="{style}"/>')
            if share >= 0.005 and cell >= 26:
                x, y = left + (j + 0.5) * cell - 1, top + (i + 0.5) * cell + 4
                on = look.paper if share > 0.55 else look.ink
                parts.append(text(x, y, f"{100 * share:.0f}", look, 12, "middle", colour=on))
    return svg(width + 40, height, "".join(parts), alt, grow=False)


def lineage(nodes: Sequence[Node], look: Look, colours: Mapping[str, str] | None = None) -> str:
    """Base -> run -> run, from left to right; what was asked for is full, the way to it open."""
    wide = max(node.depth for node in nodes) + 1
    tall = max(node.row for node in nodes) + 1
    parts, marks = [], []

    def at(node: Node) -> tuple[float, float]:
        return 20 + ACROSS * node.depth, 26 + DOWN * node.row

    for node in nodes:
        x, y = at(node)
        if node.parent is not None:
            px, py = at(nodes[node.parent])
            bend = (px + x) / 2 + 30
            path = f"M{px + 10:.0f} {py:.0f}C{bend:.0f} {py:.0f} {bend - 60:.0f} {y:.0f} "
            style = f"fill:none;stroke:{look.ink};stroke-opacity:.35;stroke-width:2"
            parts.append(f'<path d="{path}{x - 10:.0f} {y:.0f}" style="{style}"/>')
        colour = (colours or {}).get(node.name, look.quiet)
        marks.append(dot(x, y, colour, look, not node.chosen, 8))
        cut = node.label if len(node.label) <= 24 else f"{node.label[:23]}…"
        # the name stands below the line that leaves the node
        marks.append(text(x - 10, y + 25, cut, look, 15, weight=600 if node.chosen else 400))
        marks.append(text(x + 14, y - 8, node.note, look, 14, alpha=0.7))
    body = "".join([*parts, *marks])
    names = ", ".join(node.label for node in nodes)
    alt = f"Lineage of {names}"
    return svg(ACROSS * wide + 20, DOWN * tall + 10, body, alt, grow=False)
