"""One row an encoder: what refinement moved, as small before/after marks on shared scales."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any
from urllib.parse import urlencode

from pages.components import changes, picture, theme

WIDTH, HEIGHT = 220, 40  # of a mark, px
# metric -> (title, what it asks, which way reads how)
COLUMNS = {
    "isotropy": ("Isotropy", "IsoScore: how evenly the space is used"),
    "invariance": ("Voice share", "of the spread; less is more invariant"),
    "discriminability": ("Told apart", "by a linear probe (UAR); more is better"),
    "leakage": ("Voice leaks", "bits about the speaker, in content where split"),
    "eer": ("Voice EER", "speakers confused; less is better"),
}
# recipe -> one sentence in plain words
PLAIN = {
    "": "As pretrained: nothing refined yet.",
    "rewire": "Each clip is pulled to its own altered copy and pushed from all others, which opens "
    "the crowded cone.",
    "dino": "A student learns to say of short noisy pieces what its teacher says of the whole: the "
    "voice, without a label.",
    "two_step": "Clips of one class are drawn together across speakers; then a small adapter "
    "names them.",
    "interventional": "What changes when only the voice changes goes into one subspace, what "
    "changes with the words into another.",
}
PAGES = (("isotropy", "isotropy"), ("classes", "classes"), ("subspaces", "subspaces"))


def rows(measured: Mapping[str, Any], about: Mapping[str, Any], source: str | None) -> None:
    """Draw the table.

    Args:
        measured: encoder -> {"marks": name -> {before, after, change, block}}.
        about: encoder -> `EncoderInfo`. source: the corpus of the links, where it is here.
    """
    scales = {name: _scale(measured, name) for name in COLUMNS}
    head = "".join(
        f"<th>{escape(title)}<small>{escape(gist)}</small></th>" for title, gist in COLUMNS.values()
    )
    body = "".join(
        _row(name, info, measured.get(name), scales, source) for name, info in about.items()
    )
    html = (
        f'<table class="refine-glance"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )
    picture.made(html, "glance", "One encoder, refined by each method")


def numbers(measured: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
    """Every number of the table, and what it is of."""
    for encoder, told in measured.items():
        for column, mark in told["marks"].items():
            refined = mark["after"] != mark["before"]
            for of in ("before", "after", "change") if refined else ("before",):
                if mark[of]:
                    where = {"encoder": encoder, "mark": column, "of": of, "space": mark["block"]}
                    yield where, mark[of]


def _row(
    name: str,
    info: Any,
    measured: Mapping[str, Any] | None,
    scales: Mapping[str, tuple[float, float] | None],
    source: str | None,
) -> str:
    links = _links(name, info, source) if info.recipe else ""
    plain = PLAIN.get(info.recipe or "", "")
    if info.recipe and not info.base:
        plain += " A small network of its own, beside mini."
    first = f"<th><b>{escape(name)}</b><small>{escape(plain)}</small>{links}</th>"
    if measured is None:
        note = "its weights changed since it was measured" if info.recipe else "not measured yet"
        return f'<tr>{first}<td colspan="{len(COLUMNS)}"><small>{note}</small></td></tr>'
    cells = "".join(
        _cell(title, measured["marks"].get(column), scales[column], bool(info.recipe))
        for column, (title, _) in COLUMNS.items()
    )
    return f"<tr>{first}{cells}</tr>"


def _links(name: str, info: Any, source: str | None) -> str:
    query = {"before": info.base or "mini", "after": name}
    if source:
        query |= {"corpus": source, "split": "test"}
    pages = [entry for entry in PAGES if entry[0] != "subspaces" or info.subspaces]
    links = "".join(
        f'<a href="{page}?{escape(urlencode(query))}" target="_self">{label}</a>'
        for page, label in pages
    )
    return f"<span>{links}</span>"


def _cell(
    title: str, mark: Mapping[str, Any] | None, scale: tuple[float, float] | None, refined: bool
) -> str:
    if mark is None or scale is None:
        return "<td><small>not measurable here</small></td>"
    before, after = mark["before"], mark["after"]
    if not refined:
        text = f"<b>{changes.short(before['value'])}</b>"
        told = f"{_told('', before)}\n{before['definition']}"
        return _td(told, _strip({"before": before}, scale, title) + text)
    sure = _sure(mark)
    arrow = "▲" if after["value"] > before["value"] else "▼"
    word = f"{arrow} sure" if sure else "unsure"
    block = "" if mark["block"] == "all" else f" · {escape(mark['block'])} subspace"
    text = (
        f"<b>{changes.short(before['value'])} → {changes.short(after['value'])}</b>"
        f'<small class="{"sure" if sure else ""}">{word}{block}</small>'
    )
    drawn = _strip({"before": before, "after": after}, scale, title)
    lines = [_told("before ", before), _told("after ", after)]
    if mark["change"]:
        lines.append(_told("change ", mark["change"]))
    return _td("\n".join([*lines, after["definition"]]), drawn + text)


def _td(told: str, inner: str) -> str:
    """A cell that says more when it is pointed at, or reached by keyboard."""
    return f'<td tabindex="0" data-told="{escape(told)}">{inner}</td>'


def _sure(mark: Mapping[str, Any]) -> bool:
    """By the paired change; without one, by both intervals apart."""
    change = mark["change"]
    if change:
        return bool(change["low"] > 0 or change["high"] < 0)
    before, after = mark["before"], mark["after"]
    return bool(after["low"] > before["high"] or after["high"] < before["low"])


def _told(role: str, number: Mapping[str, Any]) -> str:
    value, low, high = (changes.short(number[end]) for end in ("value", "low", "high"))
    return f"{role}{value}, 95 % interval {low} to {high}, n = {number['n']:,}"


def _scale(measured: Mapping[str, Any], column: str) -> tuple[float, float] | None:
    """One axis for a column, so that rows can be compared by eye."""
    marks = [told["marks"][column] for told in measured.values() if column in told["marks"]]
    ends = [n for mark in marks for n in (mark["before"], mark["after"])]
    if not ends:
        return None
    low = min(number["low"] for number in ends)
    high = max(number["high"] for number in ends)
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _strip(numbers: Mapping[str, Mapping[str, Any]], scale: tuple[float, float], title: str) -> str:
    low, high = scale

    def at(value: float) -> float:
        return 8 + (WIDTH - 16) * (value - low) / (high - low)

    middle = HEIGHT / 2
    parts = [
        f'<line x1="4" x2="{WIDTH - 4}" y1="{middle}" y2="{middle}" '
        f'stroke="{theme.ink(0.15)}" stroke-width="1.5"/>'
    ]
    offsets = {"before": -8.0, "after": 8.0} if len(numbers) > 1 else {"before": 0.0}
    for role, number in numbers.items():
        y = middle + offsets[role]
        parts.append(
            f'<line x1="{at(number["low"]):.1f}" x2="{at(number["high"]):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{changes.colour(role)}" stroke-width="5" stroke-linecap="round" '
            f'opacity="0.35"/><g transform="translate({at(number["value"]):.1f} {y})">'
            f"{changes.dot(role, 0)}</g>"
        )
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    said = ", ".join(f"{role} {changes.short(n['value'])}" for role, n in numbers.items())
    return theme.image(svg, f"{title}: {said}", "width:100%;display:block")
