"""Where encoders come from: base -> run -> run, and in what their configurations differ.

    origins = [origin(name) for name in ("mini", "mini-rewire")]
    tree(origins), differences(origins)

Read off `refine.json` and the run folders alone, so a page opens without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refine import paths
from refine.encoders import EncoderError, EncoderInfo, locate, peek
from refine.files import read_json
from refine.runs import Run

LONGEST = 16  # bases of bases that are followed; more is a circle
ABSENT = "–"  # an option that a recipe does not have


@dataclass(frozen=True)
class Origin:
    """What is known of how one encoder came to be."""

    name: str  # as it was asked for
    label: str  # as a person reads it
    fingerprint: str
    recipe: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    base: str | None = None  # name of the encoder it was refined from
    base_fingerprint: str | None = None
    corpus: str | None = None  # it was trained on
    preset: str | None = None
    run: Run | None = None
    info: EncoderInfo | None = None


@dataclass(frozen=True)
class Node:
    """A place in the lineage. `parent` is a position in the list of nodes."""

    name: str
    label: str
    note: str  # the recipe, or that it is not here
    depth: int
    row: float
    parent: int | None
    chosen: bool  # asked for, not only on the way
    here: bool  # can be opened


@dataclass(frozen=True)
class Difference:
    """One field of the configuration and its value in each encoder."""

    field: str
    values: tuple[str, ...]


def origin(name: str | Path) -> Origin:
    """What is known of an encoder. Raises `EncoderError` with one sentence."""
    info = peek(name)
    refinement, run = info.refinement, _run_of(name, info)
    config = (read_json(run.path / "config.json") or {}) if run else {}
    seen = (refinement.get("provenance") or {}).get("corpus") or {}
    base = refinement.get("base") or {}
    return Origin(
        name=str(name),
        label=run.name if run else _short(str(name)),
        fingerprint=info.fingerprint,
        recipe=info.recipe,
        options=dict(refinement.get("options") or config.get("options") or {}),
        base=base.get("name"),
        base_fingerprint=base.get("fingerprint"),
        corpus=seen.get("name"),
        preset=config.get("preset"),
        run=run,
        info=info,
    )


def tree(origins: Sequence[Origin]) -> list[Node]:
    """The encoders with everything they were refined from, parents before children.

    Encoders are one by their fingerprint, whatever they are called. A base that is not here any
    more, or has changed since, stands in the tree as such. `row` counts leaves from the top.
    """
    found: dict[str, tuple[Origin, str | None, bool]] = {}
    chosen = {one.fingerprint for one in origins}
    for one in origins:
        _climb(one, found, 0)
    children: dict[str | None, list[str]] = {}
    for key, (_, parent, _) in found.items():
        children.setdefault(parent, []).append(key)
    nodes: list[Node] = []
    places: dict[str, int] = {}
    leaf = 0

    def place(key: str, depth: int) -> float:
        nonlocal leaf
        one, parent, here = found[key]
        index = len(nodes)
        places[key] = index
        note = one.recipe or ("as pretrained" if here else "not here, or changed since")
        parent_at = places.get(parent) if parent else None
        draft = Node(one.name, one.label, note, depth, 0.0, parent_at, key in chosen, here)
        nodes.append(draft)
        rows = [place(child, depth + 1) for child in children.get(key, [])]
        if not rows:
            rows, leaf = [float(leaf)], leaf + 1
        row = sum(rows) / len(rows)
        nodes[index] = Node(**{**vars(draft), "row": row})
        return row

    for root in children.get(None, []):
        place(root, 0)
    return nodes


def differences(origins: Sequence[Origin], every: bool = False) -> list[Difference]:
    """The fields in which the encoders differ; of options, those that two or more of them have.

    `every`: options that only one of them has, too (another recipe's).
    """
    rows: list[Difference] = []

    def add(name: str, values: list[Any]) -> None:
        shown = tuple(ABSENT if value is None else _text(value) for value in values)
        if len(set(shown)) > 1:
            rows.append(Difference(name, shown))

    add("recipe", [one.recipe or "as pretrained" for one in origins])
    add("base", [_short(one.base) if one.base else None for one in origins])
    add("trained on", [one.corpus for one in origins])
    add("preset", [one.preset for one in origins])
    add("parameters", [f"{one.info.parameters:,}" if one.info else None for one in origins])
    add("layer, pooling", [_vector(one) for one in origins])
    names = dict.fromkeys(name for one in origins for name in one.options)
    for name in names:
        values = [one.options.get(name) if name in one.options else None for one in origins]
        holders = [value for one, value in zip(origins, values, strict=True) if name in one.options]
        if every or (len(holders) > 1 and len({_text(value) for value in holders}) > 1):
            add(name, values)
    return rows


def cautions(
    origins: Sequence[Origin], reference: Origin, corpus_fingerprint: str, split: str
) -> list[str]:
    """What makes a comparison with the reference one of something else, a sentence each."""
    found = []
    others = [
        one.label
        for one in origins
        if one.base_fingerprint and one.fingerprint != reference.fingerprint
        if one.base_fingerprint != reference.fingerprint
    ]
    if others:
        found.append(
            f"{', '.join(others)}: not refined from {reference.label} itself, so what differs "
            "is more than one refinement."
        )
    seen = [
        one.label
        for one in origins
        if split in ("train", "all") and corpus_fingerprint in _trained_on(one)
    ]
    if seen:
        found.append(
            f"{', '.join(seen)}: these clips include those it was trained on; choose test."
        )
    return found


def _trained_on(one: Origin) -> set[str]:
    provenance = (one.info.refinement if one.info else {}).get("provenance") or {}
    known = [(provenance.get("corpus") or {}).get("fingerprint")]
    return {str(value) for value in [*known, *(provenance.get("corpora") or {}).values()] if value}


def command(one: Origin) -> list[str] | None:
    """The arguments of `refine` that train it again, or None where that is not known."""
    config = (read_json(one.run.path / "config.json") or {}) if one.run else {}
    corpus = config.get("corpus") or one.corpus
    base = config.get("encoder") or one.base
    if not (one.recipe and base and corpus):
        return None
    from refine.options import from_dict, to_arguments
    from refine.worker import recipe_class

    try:
        cls = recipe_class(one.recipe)
        options = to_arguments(from_dict(cls, one.options), cls)
    except ValueError:  # of another version of refine
        return None
    return ["train", one.recipe, "--encoder", str(base), "--corpus", str(corpus), *options]


def _climb(one: Origin, found: dict[str, tuple[Origin, str | None, bool]], steps: int) -> str:
    """Enter an encoder and its bases; returns its key."""
    key = one.fingerprint
    if key in found:
        return key
    found[key] = (one, None, True)
    if not one.base or steps >= LONGEST:
        return key
    try:
        base = origin(one.base)
        is_it = one.base_fingerprint in (None, base.fingerprint)
    except EncoderError:
        is_it = False
    if is_it:
        parent = _climb(base, found, steps + 1)
    else:
        parent = one.base_fingerprint or f"gone {one.base}"
        found.setdefault(parent, (Origin(one.base, _short(one.base), parent), None, False))
    found[key] = (one, parent, True)
    return key


def _run_of(name: str | Path, info: EncoderInfo) -> Run | None:
    """The run that an encoder is the checkpoint of, or None."""
    folder = info.folder
    for place in (paths.runs() / str(name), Path(str(name)), *folder.parents[:3]):
        if (place / "config.json").is_file() and (place / "checkpoints").is_dir():
            is_own = locate(place) == folder
            return Run(place) if is_own else None
    return None


def _vector(one: Origin) -> str | None:
    return f"{one.info.layer}, {one.info.pooling}" if one.info else None


def _short(name: str) -> str:
    path = Path(name)
    return path.name if path.is_absolute() else name


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if str(value) else '""'
