"""The geometry of subspaces: DCI, angles, common variance, likeness."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

import streamlit as st

from pages.components import changes, figures, guard, picture, tables, theme
from pages.components import geometry_figures as charts
from refine import spaces as computed
from refine import subspace_look
from refine.spaces import Spaces


@st.cache_resource(max_entries=6, show_spinner="Measuring angles and correlations …")
def _geometry(key: tuple[str, ...], _found: Spaces) -> dict[str, Any]:
    return subspace_look.geometry(_found)


def number_row(name: str, one: Mapping[str, Any], role: str, most: float = 1.0) -> str:
    """One Number as a strip from 0 to `most`: interval, null and control; opens on its words."""
    notes = [escape(str(one["definition"])), f"n = {one['n']:,}"]
    if one.get("control") is not None:
        notes.append(f"control {changes.short(one['control'])}")
    if one.get("null") is not None:
        notes.append(f"nothing to find: {changes.short(one['null'])}")
    better = one["direction"]
    notes.append("neither end is better" if better == "neither" else f"{better} is better")
    return (
        f"<details><summary><span>{escape(name)}</span>{strip(one, role, most)}"
        f'<span style="color:{theme.words(role)}"><b>{changes.short(one["value"])}</b>'
        f'<small style="color:{theme.ink()}">{changes.short(one["low"])} – '
        f"{changes.short(one['high'])}</small></span>"
        f"</summary><p>{' · '.join(notes)}</p></details>"
    )


def listed(key: str, alt: str, rows: Iterable[str]) -> None:
    """Rows of numbers, as one picture."""
    picture.made(f'<div class="refine-numbers">{"".join(rows)}</div>', key, alt)


def strip(one: Mapping[str, Any], role: str, most: float) -> str:
    """A Number on an axis from 0 to `most`; rows of one list share it."""
    width, middle = 420, 20
    colour = theme.before() if role == "before" else theme.after()

    def at(value: float) -> float:
        return 10 + (width - 20) * min(max(value / most, 0.0), 1.0)

    grey = theme.ink(0.55)
    parts = [
        f'<line x1="10" x2="{width - 10}" y1="{middle}" y2="{middle}" stroke="{theme.ink(0.16)}" '
        'stroke-width="2"/>'
    ]
    if one.get("null") is not None:
        x = at(one["null"])
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 12}" y2="{middle + 12}" '
            f'stroke="{grey}" stroke-width="2"/>'
        )
    if one.get("control") is not None:
        parts.append(
            f'<path transform="translate({at(one["control"]):.1f} {middle})" '
            f'd="M-5,0L0,-5L5,0L0,5Z" fill="none" stroke="{grey}" stroke-width="1.6"/>'
        )
    fill = theme.paper() if role == "before" else colour
    parts.append(
        f'<line x1="{at(one["low"]):.1f}" x2="{at(one["high"]):.1f}" y1="{middle}" y2="{middle}" '
        f'stroke="{colour}" stroke-width="6" stroke-linecap="round" opacity="0.4"/>'
        f'<circle cx="{at(one["value"]):.1f}" cy="{middle}" r="6" fill="{fill}" '
        f'stroke="{colour}" stroke-width="3"/>'
    )
    svg = f'<svg viewBox="0 0 {width} {2 * middle}">{"".join(parts)}</svg>'
    image = theme.image(svg, "", "width:100%;display:block")
    return f'<span class="refine-ends"><i>0</i>{image}<i>{most:g}</i></span>'


def draw(key: tuple[str, ...], after: Mapping[str, Any], found: Spaces) -> None:
    """DCI, angles, cross-covariance and CKA."""
    told = _geometry(key, found)
    left, right = st.columns(2, gap="large")
    with left, guard.sentences():
        factors_of_blocks(after)
    with right, guard.sentences():
        directions(told["overlaps"])
    left, right = st.columns(2, gap="large")
    with left, guard.sentences():
        together(told["correlations"], pairs_of(after), found.note)
    with right, guard.sentences():
        likeness(told["alike"], list(found.x))
    with guard.sentences():
        table = tables.of_numbers(_numbers(told, after))
        tables.folded(f"All {len(table)} numbers", "geometry_numbers", table)


def _numbers(
    told: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
    """Every number of the view, and what it is of."""
    for name, one in ((after.get("disentanglement") or {}).get("dci") or {}).items():
        yield {"of": "after", "metric": f"DCI {name}"}, one
    if not isinstance(told["overlaps"], str):
        for role, one in told["overlaps"].items():
            yield {"of": role, "metric": "overlap"}, one["overlap"].as_dict()
    for pair, numbers in pairs_of(after).items():
        for name, one in numbers.items():
            yield {"of": " and ".join(pair), "metric": name}, one
    for pair, alike in told["alike"].items():
        yield {"of": " and ".join(pair), "metric": "cka of spaces"}, alike["cka"].as_dict()


def factors_of_blocks(after: Mapping[str, Any]) -> None:
    """What a probe reads off each block, and how far that is one factor a block."""
    apart = after.get("disentanglement") or {}
    st.subheader("One factor a block?")
    blocks, factors, shares = computed.importances(after["subspaces"])
    if factors:
        figures.show(
            charts.importances(blocks, factors, shares),
            "importances",
            "What each block tells of each factor, as a share of what there is to tell",
        )
    rows = [
        number_row(f"DCI {name}", one, "after") for name, one in (apart.get("dci") or {}).items()
    ]
    listed("dci", "DCI", rows or ["<p>nothing to compare</p>"])
    st.caption(
        "Bars: the share of a factor that a probe reads off a block, its importance in "
        "DCI. DCI stays low while a probe still reads a factor everywhere, however well "
        "cosine keeps them apart. The line is where there is nothing to find. Choose a row for its "
        "definition."
    )


def directions(found: Any) -> None:
    """Principal angles before and after; `found` may be the sentence why there are none."""
    st.subheader("Do voice and words share directions?")
    if isinstance(found, str):
        st.info(found, icon=":material/info:")
    else:
        curves = {role: one["angles"] for role, one in found.items()}
        figures.show(charts.angles(curves), "angles", "Principal angles")
        rows = [
            number_row(f"Overlap {role}", one["overlap"].as_dict(), role)
            for role, one in found.items()
        ]
        listed("overlap", "Overlap of the spans of voice and words", rows)
        st.caption(
            "Principal angles between the span of the speakers' means and that of the "
            "contents' means, in the vector before and the whole vector after: 90° is apart."
        )


def pairs_of(after: Mapping[str, Any]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """How far the blocks of a pair vary together, and are alike, as Numbers."""
    pairs = (after.get("disentanglement") or {}).get("pairs") or {}
    return {tuple(sorted(pair.split("|"))): numbers for pair, numbers in pairs.items()}


def together(
    found: Mapping[tuple[str, str], Any],
    numbers: Mapping[tuple[str, ...], Mapping[str, Any]],
    note: str,
) -> None:
    """Correlations of the blocks' components, and how far the blocks vary together."""
    st.subheader("Do the blocks vary together?")
    titles = {"cross_covariance": "Cross-covariance", "cka": "CKA"}
    for (first, second), r in found.items():
        figures.show(
            charts.correlations(r, first, second),
            f"correlations_{first}_{second}",
            f"Correlations of {first} and {second}",
        )
        rows = [
            number_row(titles.get(key, key), one, "after")
            for key, one in numbers.get(tuple(sorted((first, second))), {}).items()
        ]
        if rows:
            alt = f"How far {first} and {second} vary together"
            listed(f"together_{first}_{second}", alt, rows)
    st.caption(
        "Correlation of the leading principal components of both blocks, over "
        f"{note}. An even, dark-or-pale field without spots is unrelated. Below it, over "
        "all dimensions and with 95 % intervals: cross-covariance is 1 where both are one common "
        "direction alone, CKA where they are the same up to rotation; the diamond is the control "
        "(shuffled)."
    )


def likeness(found: Mapping[tuple[str, str], Any], names: list[str]) -> None:
    """CKA of every pair of spaces, the untrained one included."""
    st.subheader("How alike are the spaces?")
    values = {pair: one["cka"].as_dict() for pair, one in found.items()}
    figures.show(charts.similarity(names, values), "cka", "Linear CKA of the spaces")
    st.caption(
        "Linear CKA with 95 % intervals: 1 is the same up to rotation and scale. *before* is "
        "the vector of the encoder before, untouched by the map. Biased up for few clips: "
        "hover for the value with the clips of one space shuffled. Alike is "
        "neither better nor worse."
    )
