"""What the classes page needs beside two evaluations: read back, made at once, or as a task."""

from typing import Any, NamedTuple

import numpy as np
import streamlit as st

from pages.components import measuring, pickers, player
from refine import class_changes, jobs, maps
from refine.class_changes import Neighbourhoods

AT_ONCE = 1_000  # clips; with more it takes longer than a second and is a task
POINTS = {"fewer points": 4_000, "all points": 20_000}

Results = dict[str, dict[str, Any]]


class Look(NamedTuple):
    """Everything beside the evaluations that the page draws."""

    paired: dict[str, Any]  # see `class_changes.look`
    near: Neighbourhoods
    map: maps.Map
    waits: bool  # the map that was asked for is being made; this is the PCA


def look(
    results: Results, names: dict[str, str], source: str, split: str, factor: str, method: str
) -> Look | None:
    """Everything, or None while it is being made (and its progress is shown)."""
    if results["before"]["n_clips"] <= AT_ONCE:
        with st.spinner("Comparing both encoders …"):
            class_changes.look(results, factor)
            class_changes.neighbourhoods(results)
            maps.joint(results, "pca")
    found = kept(results, factor, method)
    if found is None or found.waits:
        options: dict[str, Any] = {"encoder": names["before"], "corpus": source, "split": split}
        options |= {"factor": factor, "map": method}
        options |= {"after": names["after"]} if "after" in names else {}
        run = jobs.task("classes", options)
        label = {"umap": "UMAP of both", "pca": "classes of both"}[method]
        measuring.watch({label: run}, {label: names.get("after", names["before"])})
        # a task that ended just now is read at once
        found = kept(results, factor, method)
    return found


def kept(results: Results, factor: str, method: str) -> Look | None:
    """What was made before; the PCA where a UMAP is still missing."""
    paired = class_changes.looked(results, factor)
    near = _near(_fingerprint(results), results)
    pca = maps.found(results, "pca")
    if paired is None or near is None or pca is None:
        return None
    drawn = pca if method == "pca" else maps.found(results, "umap")
    return Look(paired, near, drawn or pca, drawn is None)


def factor_of(results: Results) -> str:
    """The factor in the address, else the first whose classes can be told apart by eye."""
    first = results["before"]["classes"]
    names = [name for name in first if all(name in one["classes"] for one in results.values())]
    few = [name for name in names if 3 <= _classes(results, name) <= 12]
    default = (few or names)[0]
    asked = st.query_params.get("factor")
    key = f"factor_{results['before']['corpus_fingerprint'][:8]}"
    chosen = st.pills(
        "Factor",
        names,
        default=asked if asked in names else default,
        key=key,
        format_func=player.escape,
        required=True,
        wrap=True,
        persist_state="session",
    )
    pickers.keep("factor", str(chosen))
    return str(chosen)


def _classes(results: Results, factor: str) -> int:
    probe = results["before"]["probes"].get(factor)
    if probe is not None:
        return len(probe["classes"])
    null = results["before"]["classes"][factor].get("explained", {}).get("null")
    n = results["before"]["n_clips"]
    return 0 if null is None else round(null * (n - 1)) + 1


def _fingerprint(results: Results) -> str:
    # whether it is there yet is part of the question: None must not be remembered
    there = class_changes.neighbours_there(results)
    return f"{maps.key(results, None)}{there}"


@st.cache_resource(max_entries=6, show_spinner=False)
def _near(key: str, _results: Results) -> Neighbourhoods | None:
    return class_changes.neighbours_found(_results)


def rows_in(drawn: maps.Map, clips: list[str]) -> np.ndarray:
    """Rows of the map that these clips have; those not drawn have none."""
    return np.flatnonzero(drawn.table["clip"].isin(clips))
