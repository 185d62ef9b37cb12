"""Numbers before and after: one strip a metric, with interval, null value and control."""

from collections.abc import Mapping
from html import escape
from typing import Any

from pages.components import picture, theme
from refine import names
from refine.names import short

WIDTH, HEIGHT = 420, 46  # of a strip, px


def rows(
    key: str,
    alt: str,
    numbers: Mapping[str, Mapping[str, Mapping[str, Any]]],
    paired: Mapping[str, Mapping[str, Any]] | None = None,
    null: str = "an even cloud of as many clips",
) -> None:
    """Draw every metric.

    Args:
        key: what it is called as a file. alt: what it shows.
        numbers: "before" and "after" -> metric -> Number as a dict.
        paired: metric -> the change on the same clips, where both saw the same.
        null: what the upright line of a strip stands for.
    """
    metrics = next(iter(numbers.values()))
    body = "".join(
        row(
            metric,
            {role: found[metric] for role, found in numbers.items() if metric in found},
            (paired or {}).get(metric),
            null,
        )
        for metric in metrics
    )
    html = f'<div class="refine-rows">{legend(list(numbers), null)}{body}</div>'
    picture.made(html, key, alt)


def legend(roles: list[str], null: str = "an even cloud of as many clips") -> str:
    """What the marks mean."""
    grey = theme.ink(0.55)
    line = f'<line y1="-8" y2="8" stroke="{grey}" stroke-width="2"/>'
    diamond = f'<path d="M-5,0L0,-5L5,0L0,5Z" fill="none" stroke="{grey}" stroke-width="1.6"/>'
    marks = {role: dot(role, 0) for role in roles}
    marks |= {null: line, "control": diamond}
    spans = []
    for label, mark in marks.items():
        svg = f'<svg viewBox="-9 -9 18 18">{mark}</svg>'
        spans.append(f"<span>{theme.image(svg, '', 'height:1.1rem')} {label}</span>")
    return f'<div class="refine-legend">{"".join(spans)}</div>'


def row(
    metric: str,
    numbers: Mapping[str, Mapping[str, Any]],
    paired: Mapping[str, Any] | None = None,
    null: str = "an even cloud of as many clips",
) -> str:
    """Name, strip, values and the change of one metric."""
    first = next(iter(numbers.values()))
    values = "".join(
        f'<td style="color:{theme.words(role)}"><b>{short(n["value"])}</b>'
        f'<small style="color:{theme.ink()}">{short(n["low"])} – {short(n["high"])}</small></td>'
        for role, n in numbers.items()
    )
    notes = [escape(str(first["definition"]))]
    notes.append(f"n = {first['n']:,} clips")
    if first.get("groups"):
        notes.append(f"95 % intervals over {first['groups']} speakers")
    if first.get("control") is not None:
        controls = " → ".join(short(n["control"]) for n in numbers.values())
        notes.append(f"control {controls}")
    if first.get("null") is not None:
        notes.append(f"{escape(null)}: {short(first['null'])}")
    notes.append(
        "neither end is better by itself"
        if first["direction"] == "neither"
        else f"{first['direction']} is better"
    )
    return (
        f"<details><summary><table><tr><th>{escape(names.name(metric))}"
        f"<small>{escape(names.gist(metric))}</small></th>"
        f"<td>{strip(numbers)}</td>{values}<td>{change(numbers, paired)}</td></tr></table>"
        "</summary>"
        f"<p>{' · '.join(notes)}</p></details>"
    )


def strip(numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """Before and after on one axis, from the lowest to the highest thing shown."""
    seen = [n[key] for n in numbers.values() for key in ("value", "low", "high", "null", "control")]
    shown = [value for value in seen if value is not None]
    low, high = min(shown), max(shown)
    margin = 0.04 * (high - low) or 0.5
    low, high = low - margin, high + margin

    def at(value: float) -> float:
        return 10 + (WIDTH - 20) * (value - low) / (high - low)

    grey = theme.ink(0.5)
    middle = HEIGHT / 2
    parts = [
        f'<line x1="10" x2="{WIDTH - 10}" y1="{middle}" y2="{middle}" '
        f'stroke="{theme.ink(0.16)}" stroke-width="2"/>'
    ]
    first = next(iter(numbers.values()))
    if first.get("null") is not None:
        x = at(first["null"])
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{middle - 13}" y2="{middle + 13}" stroke="{grey}" '
            'stroke-width="2"/>'
        )
    if first.get("control") is not None:
        parts.append(
            f'<path transform="translate({at(first["control"]):.1f} {middle})" '
            f'd="M-5,0L0,-5L5,0L0,5Z" fill="none" stroke="{grey}" stroke-width="1.6"/>'
        )
    offsets = {"before": -9.0, "after": 9.0} if len(numbers) > 1 else {"before": 0.0}
    for role, n in numbers.items():
        y = middle + offsets.get(role, 0.0)
        parts.append(
            f'<line x1="{at(n["low"]):.1f}" x2="{at(n["high"]):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{colour(role)}" stroke-width="5" stroke-linecap="round" opacity="0.4"/>'
            f'<g transform="translate({at(n["value"]):.1f} {y})">{dot(role, 0)}</g>'
        )
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    return theme.image(svg, "", "width:100%;display:block")


def dot(role: str, x: float) -> str:
    """Before is an open circle, after a full one: the two differ without colour too."""
    fill = theme.paper() if role == "before" else colour(role)
    return f'<circle cx="{x}" r="5.5" fill="{fill}" stroke="{colour(role)}" stroke-width="3"/>'


def change(
    numbers: Mapping[str, Mapping[str, Any]], paired: Mapping[str, Any] | None = None
) -> str:
    """The difference and whether it is sure: paired on the same clips, else by both intervals."""
    if len(numbers) < 2:
        return ""
    before, after = numbers["before"], numbers["after"]
    difference = after["value"] - before["value"]
    if paired:
        clear = paired["low"] > 0 or paired["high"] < 0
        low, high = (f"{paired[end]:.2g}".replace("-", "−") for end in ("low", "high"))
        note = f"{low} to {high}: {'sure' if clear else 'unsure'}"
    else:
        clear = after["low"] > before["high"] or after["high"] < before["low"]
        note = "beyond both intervals" if clear else "within the intervals"
    sign = "+" if difference >= 0 else "−"
    weight = "600" if clear else "400"
    return (
        f'<span style="font-weight:{weight}">{sign}{short(abs(difference))}</span>'
        f"<small>{note}</small>"
    )


def colour(role: str) -> str:
    return theme.before() if role == "before" else theme.after()
