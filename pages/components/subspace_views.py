"""The views of the Subspaces page: what each block tells, cosines, errors, geometry."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import figures, guard, pickers, subspace_geometry, tables
from pages.components import subspace_figures as charts
from pages.components.player import escape
from pages.components.subspace_geometry import listed, number_row
from refine import interventions, subspace_look
from refine import spaces as computed
from refine.evaluation import blocks_of
from refine.interventions import Scale
from refine.spaces import Spaces

Results = dict[str, dict[str, Any]]
WIDEST = 4  # factors of a matrix that shares its row


def spaces(results: Results, after: str) -> Spaces:
    """The vectors of the pair in every space."""
    return _spaces(_key(results), _asked(results), after)


def scale(results: Results, after: str) -> Scale:
    """What a distance means in this corpus."""
    return _scale(_key(results), _asked(results), after)


def blocks(results: Results, after: str) -> dict[str, slice]:
    """Columns of each subspace in the vector after."""
    info = pickers.described(after)
    if isinstance(info, str):
        raise guard.PageError(info)
    found = computed.open_embeddings(results["after"]["embeddings"])
    return blocks_of(info, results["after"]["layer"], found.metadata["dim"])


def _key(results: Results) -> tuple[str, ...]:
    return tuple(results[role]["embeddings"] for role in ("before", "after"))


def _asked(results: Results) -> dict[str, dict[str, Any]]:
    keys = ("encoder", "embeddings", "layer", "encoder_fingerprint", "corpus_fingerprint")
    return {role: {key: one[key] for key in keys} for role, one in results.items()}


@st.cache_resource(max_entries=6, show_spinner="Laying the clips out in every space …")
def _spaces(key: tuple[str, ...], _results: Results, after: str) -> Spaces:
    info = pickers.described(after)
    if isinstance(info, str):
        raise guard.PageError(info)
    return computed.spaces_of(_results["before"], _results["after"], info)


@st.cache_resource(max_entries=6, show_spinner="Measuring pairs of the corpus …")
def _scale(key: tuple[str, ...], _results: Results, after: str) -> Scale:
    return interventions.references(_spaces(key, _results, after))


@st.cache_resource(max_entries=24, show_spinner="Comparing every pair …")
def _errors(key: tuple[str, ...], factor: str, _found: Spaces) -> dict[str, computed.Errors]:
    return computed.errors(_found, factor)


# -- what each block tells -----------------------------------------------------------------------


def tells(results: Results, found: Spaces) -> None:
    """Subspace x factor: what a probe reads, and what cosine compares."""
    rows = _rows(results)
    factors = list(dict.fromkeys(f for _, cells in rows for f in cells))
    if not factors:
        reasons = results["after"].get("left_out_factors") or {}
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise guard.PageError(
            f"No factor of this corpus can be probed ({told or 'it has no factors'}); choose a "
            "larger corpus or split, such as demo."
        )
    st.subheader("What each subspace tells of each factor")
    wide = len(factors) > WIDEST
    left, right = [st.container(), st.container()] if wide else st.columns(2, gap="large")
    with left:
        st.markdown("##### Can a probe read it?")
        figures.show(_matrix("probe_accuracy", rows, factors), "matrix_accuracy", "Probe accuracy")
    with right:
        st.markdown("##### How many bits leak?")
        figures.show(_matrix("leakage_bits", rows, factors), "matrix_leakage", "Leakage in bits")
    left, right = (
        [st.container(), st.container()]
        if wide
        else st.columns(2, gap="large", vertical_alignment="center")
    )
    with left:
        st.markdown("##### Is it what cosine compares?")
        figures.show(_matrix("eer", rows, factors), "matrix_eer", "Equal error rates")
    with right:
        st.markdown(
            "A frame marks a subspace's **own** factor: there, high accuracy, many bits and a low "
            "error are good. Elsewhere the opposite is asked for.\n\n"
            "**Chance** is always saying the commonest class; **shuffled** is the same probe "
            "fitted on shuffled labels (of errors: shuffled pairs, and n counts pairs); **random** "
            "is the probe on a random projection of the whole vector, as wide as the subspace: "
            "what directions tell that nobody chose.\n\n"
            "What must not be concluded: *a probe that reads a factor does not show that anything "
            "uses it* (probing is not causal), and *50 % EER does not show that a factor is gone*, "
            "only that cosine does not see it: compare the probe in the same cell."
        )
    tables.folded("Every number, with its interval", "subspace_numbers", _table(rows))
    left_out = results["after"].get("left_out_factors") or {}
    if left_out:
        told = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        st.caption(f"Left out: {escape(told)}.")


def _rows(results: Results) -> list[tuple[str, dict[str, Any]]]:
    """(name as shown, factor -> numbers) of the vector before and each subspace after."""
    rows = []
    for role in ("before", "after"):
        for name, cells in results[role]["subspaces"].items():
            shown = role if name == "all" else f"{role} · {name}"
            rows.append((shown, cells))
    return rows


def _matrix(metric: str, rows: list[tuple[str, dict[str, Any]]], factors: list[str]) -> Any:
    shade = np.full((len(rows), len(factors)), np.nan)
    texts = [["" for _ in factors] for _ in rows]
    hovers = [["not measured" for _ in factors] for _ in rows]
    own = []
    for i, (name, cells) in enumerate(rows):
        for j, factor in enumerate(factors):
            one = (cells.get(factor) or {}).get(metric)
            if one is None:
                continue
            shade[i, j], texts[i][j] = _cell(metric, one, cells[factor])
            hovers[i][j] = _hover(one)
            better = cells[factor]["probe_accuracy"]["direction"]
            if "·" in name and better == "higher":
                own.append((i, j))
    return charts.matrix(
        [_bold(name) for name, _ in rows],
        [charts.hover_safe(factor) for factor in factors],
        shade,
        texts,
        hovers,
        own,
        height=44 + 108 * len(rows),
    )


def _bold(name: str) -> str:
    role, _, space = charts.hover_safe(name).partition(" · ")
    return f"{role}<br><b>{space}</b>" if space else f"<b>{role}</b>"


def _cell(metric: str, one: dict[str, Any], cell: dict[str, Any]) -> tuple[float, str]:
    """How strong a cell is drawn (0 to 1 of what is possible), and its words."""
    value = one["value"]
    if metric == "probe_accuracy":
        chance = cell["chance"]["value"]
        above = (value - chance) / max(1 - chance, 1e-9)
        small = f"chance {chance:.0%} · shuffled {one['control']:.0%}<br>n = {one['n']:,}"
        if unchosen := cell.get("projection_accuracy"):
            small = f"random {unchosen['value']:.0%}<br>{small}"
        return max(above, 0.0), f"<b>{value:.1%}</b><br><span style='font-size:11px'>{small}</span>"
    if metric == "leakage_bits":
        most = one["range"][1] or 1.0
        small = f"of {most:.1f}<br>shuffled {one['control'] or 0:.2f}<br>n = {one['n']:,}"
        return (
            value / most,
            f"<b>{value:.2f} bits</b><br><span style='font-size:11px'>{small}</span>",
        )
    small = f"chance 50%<br>shuffled {one['control']:.0%}<br>n = {one['n']:,}"
    return max(1 - 2 * value, 0.0), (
        f"<b>{value:.1%}</b><br><span style='font-size:11px'>{small}</span>"
    )


def _hover(one: dict[str, Any]) -> str:
    words = charts.hover_safe(one["definition"]).split()
    lines: list[str] = []
    line = ""
    for word in words:
        if len(line) + len(word) > 60:
            lines, line = [*lines, line], ""
        line = f"{line} {word}".strip()
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})<br>" + "<br>".join(
        [*lines, line]
    )


def _table(rows: list[tuple[str, dict[str, Any]]]) -> pd.DataFrame:
    return tables.of_numbers(
        ({"space": name, "factor": factor, "metric": metric}, one)
        for name, cells in rows
        for factor, numbers in cells.items()
        for metric, one in numbers.items()
    )


# -- cosines -------------------------------------------------------------------------------------


def cosines(results: Results, found: Spaces) -> None:
    """A block of speakers who say the same things, ordered both ways."""
    block = computed.choose_block(found.table)
    speakers, contents = block.shape
    st.subheader("The same clips, ordered by voice and by words")
    st.caption(
        f"Cosine of every clip with every other: {speakers} speakers × {contents} contents, one "
        f"clip each, chosen automatically from {found.note}. Squares along the diagonal above "
        "mean that a voice is like itself; below, that a word is. Each space has its own scale, "
        "from its lowest to its highest hundredth."
    )
    squares = {name: computed.cosines(x[block.rows]) for name, x in found.x.items()}
    clips = found.table["clip"].iloc[block.rows].tolist()
    figures.show(charts.heat_maps(squares, block, clips), "cosine_maps", "Cosines of a block")
    numbers = {name: computed.contrasts(square, block) for name, square in squares.items()}
    frame = tables.of_numbers(
        ({"space": charts.label(name), "pairs that share": kind}, one.as_dict())
        for name, kinds in numbers.items()
        for kind, one in kinds.items()
    )
    parts = ("value", "low", "high", "null", "control")
    shown = {part: st.column_config.NumberColumn(format="%.3f") for part in parts}
    shown["value"] = st.column_config.NumberColumn("mean cosine", format="%.3f")
    shown["n"] = st.column_config.NumberColumn("n pairs")
    st.dataframe(
        frame.drop(columns="direction"), hide_index=True, column_config=shown, key="contrasts"
    )
    st.caption(
        "Intervals over speakers of the block; null: any two of its clips; control: its clips "
        "shuffled. What must not be concluded: a picture of some clips "
        "is not a measurement of all; *Errors* compares every pair."
    )


# -- errors --------------------------------------------------------------------------------------


def errors(results: Results, found: Spaces) -> str:
    """DET curves and score histograms of a factor in every space; returns the factor."""
    factors = subspace_look.compared(results, found)
    if not factors:
        raise guard.PageError("No factor of this corpus makes pairs; choose a larger one or split.")
    asked = st.query_params.get("verify")
    st.subheader("Are two clips of the same …?")
    factor = st.pills(
        "Factor",
        factors,
        default=asked if asked in factors else factors[0],
        key=f"verify_{'-'.join(factors)[:40]}",
        format_func=escape,
        required=True,
        label_visibility="collapsed",
        wrap=True,
    )
    pickers.keep("verify", factor if factor != factors[0] else None)
    curves = _errors(_key(results), str(factor), found)
    left, right = st.columns([6, 7], gap="large")
    with left:
        st.markdown("##### Misses against false alarms")
        figures.show(charts.det(curves, 520), "det", f"DET curves for {factor}")
    with right:
        st.markdown(f"##### Cosine of pairs: same {escape(str(factor))}, or another")
        figures.show(
            charts.histograms(curves, str(factor), 520), "scores", f"Score histograms for {factor}"
        )
    one, named = next(iter(curves.values())), escape(str(factor))
    numbers = dict(_eers(results, str(factor)))
    drawn = [
        number_row(f"EER, {name}", each, "before" if name.startswith("before") else "after", 0.55)
        for name, each in numbers.items()
    ]
    listed("eers", f"EER of {factor} in every space", drawn)
    st.caption(
        f"{one.n[0]:,} pairs of one {named} (filled) and {one.n[1]:,} of two (grey, dotted). "
        "Where speakers are compared the words differ, else the speakers do. A curve through the "
        "middle (50 %) is what a subspace should show for what it is *not* there for: absent for "
        "cosine, which is not the same as absent."
    )
    table = tables.of_numbers(
        ({"space": name, "factor": str(factor), "metric": "eer"}, one)
        for name, one in numbers.items()
    )
    tables.folded("These numbers", "eer_numbers", table)
    return str(factor)


def _eers(results: Results, factor: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The EER of every space, with interval, chance and control."""
    for name, cells in _rows(results):
        one = (cells.get(factor) or {}).get("eer")
        if one is not None:
            yield name, one


# -- geometry ------------------------------------------------------------------------------------


def geometry(results: Results, found: Spaces) -> None:
    """DCI, angles, cross-covariance and CKA."""
    subspace_geometry.draw(_key(results), results["after"], found)
