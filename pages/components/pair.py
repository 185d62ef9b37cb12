"""The pair that a page shows: an encoder before and after, the clips they are measured on."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.components import commands, pickers
from refine.corpus import Corpus

NONE = "none"
FEW = 20  # test clips; with fewer the page begins with all of them


def encoders() -> tuple[str, str | None]:
    """The encoder as it was, and the refined one (or none)."""
    runs = [run.id for run in pickers.trained_runs()]
    shipped = pickers.shipped_encoders()
    refined = [*runs, *(name for name in shipped if name != "mini")]
    first = refined[0] if refined else NONE
    left, right = st.columns(2)
    with right:
        after = pickers.choose(
            "after",
            "After",
            [NONE, *refined],
            first,
            lambda name: "nothing yet" if name == NONE else pickers.encoder_label(name),
            help="A run, a refined encoder that is shipped, or the folder of any encoder.",
        )
    info = pickers.described(after) if after and after != NONE else None
    base = info.base if info is not None and not isinstance(info, str) else None
    with left:
        before = pickers.choose_encoder("before", "Before", base or "mini")
    return before or "mini", None if after in (None, NONE) else after


def caveats(before: str, after: str | None, corpus: Corpus, split: str) -> None:
    """What makes this pair, or these clips, a comparison of something else."""
    first, second = pickers.described(before), pickers.described(after or "")
    if isinstance(first, str) or isinstance(second, str):
        return
    base = (second.refinement.get("base") or {}).get("fingerprint")
    if base and base != first.fingerprint:
        st.warning(
            "After was not refined from this very Before (another encoder, or another version of "
            "it), so what differs is more than the refinement.",
            icon=":material/info:",
        )
    seen = (second.refinement.get("provenance") or {}).get("corpus") or {}
    if split in ("train", "all") and seen.get("fingerprint") == corpus.fingerprint:
        st.warning(
            "These clips include the ones it was trained on; choose test for an honest picture.",
            icon=":material/info:",
        )


def choose_split(corpus: Corpus) -> str:
    """The clips to measure on: test, where that is more than a few."""
    counts = corpus.counts("split")
    names = [name for name in ("test", "dev", "train") if name in counts] + ["all"]
    first = "test" if counts.get("test", 0) >= FEW else "all"
    asked = st.query_params.get("split")
    chosen = st.segmented_control(
        "Split",
        names,
        default=asked if asked in names else first,
        key=f"split_{corpus.fingerprint[:8]}",
        format_func=lambda name: f"{name} {counts.get(name, len(corpus)):,}",
        required=True,
        help="Test clips are by speakers that no training has heard.",
    )
    pickers.keep("split", chosen if chosen != first else None)
    return str(chosen)


def choose_layer(results: dict[str, dict[str, Any]]) -> str | None:
    """One layer for both encoders, or each one's own."""
    common = [
        name for name in next(iter(results.values()))["layers"]
        if all(name in result["layers"] for result in results.values())
    ]  # fmt: skip
    own = {result["layer"] for result in results.values()}
    names = [layer_label(own), *common]
    asked = st.query_params.get("layer")
    first = asked if asked in common else names[0]
    chosen = st.pills("Layer", names, default=first, key="layer", required=True, wrap=True)
    layer = None if chosen == names[0] else str(chosen)
    pickers.keep("layer", layer)
    return layer


def numbers(result: dict[str, Any], layer: str | None) -> dict[str, Any]:
    return result["isotropy"] if layer is None else result["layers"][layer]


def layer_label(own: set[str]) -> str:
    return f"own ({' / '.join(sorted(own))})"


def command_lines(
    names: dict[str, str],
    split: str,
    layers: dict[str, str] | None = None,
    more: Sequence[Sequence[str]] = (),
) -> None:
    """The equal commands, and `more`. layers: of each role, where not the checkpoint's own."""
    corpus = str(st.session_state["corpus"])
    lines = []
    for role, name in names.items():
        arguments = ["evaluate", "--encoder", name, "--corpus", corpus, "--split", split]
        arguments += ["--layer", layers[role]] if layers and role in layers else []
        lines.append([*arguments, "--json"])
    commands.several([*lines, *more], "The same from the command line")
