"""What the page on subspaces draws of a pair beside two evaluations, as plain numbers.

    look({"before": result, "after": other}, spaces_of(result, other, info), "speaker")["errors"]

The block of cosines, the errors of a factor, and the geometry; each drawn by a view of the page.
"""

from collections.abc import Callable, Mapping
from typing import Any

from refine import spaces
from refine.spaces import Spaces, SpacesError

Results = Mapping[str, Mapping[str, Any]]


def look(results: Results, found: Spaces, factor: str | None = None) -> dict[str, Any]:
    """All of it, ready for JSON.

    Args:
        results: "before" and "after" -> result of `evaluation.evaluate`.
        found: their spaces, see `spaces.spaces_of`.
        factor: the one whose errors are told; None is the first that makes pairs.
    Returns: `n_clips`, `note`, `cosines`, `errors`, `geometry`, and `left_out` (part -> why it is
        None: a corpus without a complete block of voices and words has no cosines to order).
    Raises: `SpacesError` for a factor that was not compared in any space.
    """
    known = compared(results, found)
    if factor is not None and factor not in known:
        raise SpacesError(
            f"factor: got {factor!r}; compared are {', '.join(known) or 'none, for want of clips'}"
        )
    parts: dict[str, Callable[[], Any]] = {
        "cosines": lambda: cosines(found),
        "errors": lambda: errors(results, found, factor or known[0]) if known else None,
        "geometry": lambda: geometry_of(results, found),
    }
    told: dict[str, Any] = {"n_clips": len(found.table), "note": found.note}
    left_out = {} if known else {"errors": "no factor of this corpus makes pairs"}
    for name, part in parts.items():
        try:
            told[name] = part()
        except ValueError as error:
            told[name], left_out[name] = None, str(error)
    return told | {"left_out": left_out}


def compared(results: Results, found: Spaces) -> list[str]:
    """Factors with an equal error rate in a space of either side, in the order of the table."""
    cells = [cell for result in results.values() for cell in result["subspaces"].values()]
    return [
        name
        for name in found.table.columns
        if any(name in cell and "eer" in cell[name] for cell in cells)
    ]


def cosines(found: Spaces) -> dict[str, Any]:
    """The block: its clips, their labels, and by space the `square` and mean cosines of pairs."""
    block = spaces.choose_block(found.table)
    squares = {name: spaces.cosines(x[block.rows]) for name, x in found.x.items()}
    return {
        "clips": found.table["clip"].iloc[block.rows].tolist(),
        block.factors[0]: block.first,
        block.factors[1]: block.second,
        "spaces": {
            name: {"pairs": spaces.contrasts(square, block), "square": square}
            for name, square in squares.items()
        },
    }


def errors(results: Results, found: Spaces, factor: str) -> dict[str, Any]:
    """By space the EER as a Number, the DET curve and the histograms of scores."""
    told = {}
    for name, one in spaces.errors(found, factor).items():
        role, block = ("before", "all") if name == spaces.BEFORE else ("after", name)
        told[name] = {
            "eer": results[role]["subspaces"].get(block, {}).get(factor, {}).get("eer"),
            "threshold": one.threshold,
            "pairs": {"same": one.n[0], "other": one.n[1]},
            "det": {"false_alarm": one.det.false_alarm, "miss": one.det.miss},
            "scores": {"edges": one.edges, "same": one.target, "other": one.other},
        }
    return {"factor": factor, "spaces": told}


def geometry(found: Spaces) -> dict[str, Any]:
    """`alike`, `overlaps` (or the sentence why there are none) and `correlations` by pair."""
    try:
        between: Any = spaces.overlaps(found)
    except ValueError as error:
        between = str(error)
    names = found.names
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    return {
        "alike": spaces.alike(found),
        "overlaps": between,
        "correlations": {(a, b): spaces.correlations(found.x[a], found.x[b]) for a, b in pairs},
    }


def geometry_of(results: Results, found: Spaces) -> dict[str, Any]:
    """The same with what the evaluation after tells: DCI, its importances, the blocks in pairs."""
    told, after = geometry(found), results["after"]
    apart = after.get("disentanglement") or {}
    blocks, factors, shares = spaces.importances(after["subspaces"])
    between = told["overlaps"]
    sides = {} if isinstance(between, str) else between
    angles = {role: side["angles"]._asdict() for role, side in sides.items()}
    return {
        "dci": apart.get("dci") or {},
        "importances": {"blocks": blocks, "factors": factors, "shares": shares},
        "overlap": {role: side["overlap"] for role, side in sides.items()},
        "angles": angles if sides else between,
        "pairs": apart.get("pairs") or {},
        "correlations": {"|".join(pair): r for pair, r in told["correlations"].items()},
        "alike": {"|".join(pair): numbers for pair, numbers in told["alike"].items()},
    }
