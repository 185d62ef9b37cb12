"""What a refinement did, at a glance: five numbers before and after, each with its interval.

    glance(evaluate("mini", corpus, split="test"), evaluate("mini-rewire", corpus, split="test"))

For the shipped encoders they are measured once by `tools/measure_shipped.py` and kept as JSON, so
that the first page shows them at once; `shipped()` gives back only what still fits the weights.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from refine import encoders, paths
from refine.comparison import changes
from refine.embeddings import open_embeddings
from refine.evaluation import blocks_of, table_of
from refine.factors import apart_of, labels_of
from refine.metrics import verification

NAMES = ("isotropy", "invariance", "discriminability", "leakage", "eer")
MAIN = ("content", "emotion", "accent", "digit")  # what a corpus is asked about, first found

Result = dict[str, Any]
Mark = dict[str, Any]


class GlanceError(ValueError):
    """Two results that cannot be put side by side. The message says why."""


def glance(before: Result, after: Result, factor: str | None = None) -> dict[str, Any]:
    """Five numbers of two evaluations on the same clips.

    isotropy: IsoScore of the whole vector. invariance: share of its variance that the speaker
    explains (lower: more invariant to the voice). discriminability: UAR of the linear probe of
    `factor`. leakage: bits of the speaker that a probe still reads from the content subspace, or
    from the whole vector where there are no subspaces. eer: of the speaker, in the speaker subspace
    where there is one.

    Args:
        factor: what clips are told apart by; by default the first of `MAIN` that was measured.
    Returns: `factor`, and `marks`: name -> {before, after, change (each a Number dict or None),
        block: the subspace looked at, or "all"}. A mark that the corpus cannot give is missing.
    Raises: `GlanceError` for results on other clips or without a factor in common.
    """
    if before["corpus_fingerprint"] != after["corpus_fingerprint"]:
        raise GlanceError(
            f"{before['encoder']} was measured on {before['corpus']}, {after['encoder']} on "
            f"{after['corpus']}; measure both on the same clips"
        )
    known = [name for name in MAIN if name in before["classes"] and name in after["classes"]]
    factor = factor or (known[0] if known else None)
    if factor is None or factor not in after["classes"]:
        raise GlanceError(
            f"{after['corpus']}: none of {', '.join(MAIN)} was measured; name a factor of it"
        )
    paired = changes(before, after)
    marks = {
        "isotropy": _mark(before, after, paired, "isotropy", None, "isoscore"),
        "invariance": _mark(before, after, paired, "classes", "speaker", "explained"),
        "discriminability": _mark(before, after, paired, "classes", factor, "probe_uar"),
        "leakage": _leakage(before, after),
        "eer": _eer(before, after),
    }
    return {"factor": factor, "marks": {name: mark for name, mark in marks.items() if mark}}


def shipped() -> dict[str, Any]:
    """The kept figures: corpus -> {factor, told, encoders: name -> marks}; {} where there are none.

    Encoders whose weights changed since they were measured are left out. Loads no torch.
    """
    path = paths.ASSETS / "measured" / "glance.json"
    if not path.is_file():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    return {
        corpus: told | {"encoders": {n: m for n, m in told["encoders"].items() if _same(n, m)}}
        for corpus, told in kept.items()
    }


def _same(name: str, measured: Mapping[str, Any]) -> bool:
    try:
        return encoders.peek(name).fingerprint == measured["fingerprint"]
    except ValueError:
        return False


def _mark(
    before: Result, after: Result, paired: Result, section: str, factor: str | None, name: str
) -> Mark | None:
    """A number of the whole vector, with its paired change."""
    sides = [side[section] for side in (before, after, paired)]
    if factor is not None:
        sides = [side.get(factor, {}) for side in sides]
    if name not in sides[0] or name not in sides[1]:
        return None
    numbers = dict(
        zip(("before", "after", "change"), (side.get(name) for side in sides), strict=True)
    )
    return numbers | {"block": "all"}


def _leakage(before: Result, after: Result) -> Mark | None:
    """Of two probes, each with its own interval: the change is not paired."""
    first, second = _block(before, "content"), _block(after, "content")
    sides = [
        side["subspaces"][block].get("speaker", {}).get("leakage_bits")
        for side, block in ((before, first), (after, second))
    ]
    if None in sides:
        return None
    return {"before": sides[0], "after": sides[1], "change": None, "block": second}


def _eer(before: Result, after: Result) -> Mark | None:
    first, second = _block(before, "speaker"), _block(after, "speaker")
    sides = [
        side["subspaces"][block].get("speaker", {}).get("eer")
        or (side["verification"].get("speaker", {}).get("eer") if block == "all" else None)
        for side, block in ((before, first), (after, second))
    ]
    if None in sides:
        return None
    change = _eer_change((before, first), (after, second))
    return {"before": sides[0], "after": sides[1], "change": change, "block": second}


def _eer_change(*sides: tuple[Result, str]) -> dict[str, Any] | None:
    """Paired on the same trials, each side in its own block."""
    vectors, tables = [], []
    for result, block in sides:
        embeddings = open_embeddings(table_of(result))
        x = embeddings.vectors(result["layer"])
        columns = blocks_of(encoders.peek(result["encoder"]), result["layer"], x.shape[1])
        vectors.append(x[:, columns.get(block, slice(None))])
        tables.append(embeddings.table.fillna(""))
    table = tables[0]
    if not np.array_equal(table["clip"], tables[1]["clip"]):
        return None
    speakers = table["speaker"].to_numpy(dtype=object)
    trials = verification.trials_from_factor(
        labels_of(table, "speaker"), apart_of(table, "speaker"), seed=0
    )
    scores = [verification.cosine_scores(x.astype(np.float64), trials) for x in vectors]
    of = verification.drawn(len(table), speakers, 0)
    return verification.change(scores[0], scores[1], trials, of)["eer"].as_dict()


def _block(result: Result, name: str) -> str:
    return name if name in result["subspaces"] else "all"
