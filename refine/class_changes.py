"""What a page on classes shows beside two evaluations: paired changes, worst pairs, neighbours.

    found = look({"before": result, "after": other}, "emotion")
    found["changes"]["spread_ratio"], found["explained"]["speaker"], found["pairs"]
    near = neighbourhoods(results)
    near.most_moved(labels)[:10]

Both are kept by the fingerprints of encoders and clips: `looked` and `neighbours_found` read them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from refine import confusion, maps, neighbours, paths
from refine.comparison import probe_changes
from refine.corpus import Corpus
from refine.evaluation import evaluate, left_out
from refine.factors import KNOWN, labels_of
from refine.metrics import class_pairs, classes
from refine.metrics.intervals import Number

VERSION = 2  # raised when what is kept changes
MOST = 10_000  # clips among which neighbours are looked for; of those on the map

Results = Mapping[str, dict[str, Any]]
Progress = Callable[[str, int, int], None]


class ClassLookError(ValueError):
    """A factor whose classes cannot be looked at. The message says why."""


class Neighbourhoods(NamedTuple):
    """The nearest clips of each clip by role; of two encoders also what was kept."""

    table: pd.DataFrame  # clip and factors; rows as on the map
    near: dict[str, np.ndarray]  # role -> (n, k) rows, nearest first
    kept: np.ndarray | None
    drift: np.ndarray | None
    number: Number | None
    note: str

    def rows_of(self, clip: str) -> dict[str, list[str]]:
        """The nearest clips of a clip by role; empty where it was not drawn."""
        rows = np.flatnonzero(self.table["clip"].to_numpy() == clip)
        if not len(rows):
            return {}
        names = self.table["clip"].to_numpy()
        return {role: names[near[rows[0]]].tolist() for role, near in self.near.items()}

    def told(self, factor: str) -> pd.DataFrame:
        """A row a clip: `clip`, `class`, `kept`, `drift`, and by role `own_…`, `says_…`.

        own: share of its neighbours that are of its class; says: their commonest class.
        """
        labels = self.table[factor].to_numpy(dtype=object).astype(str)
        frame = pd.DataFrame({"clip": self.table["clip"], "class": labels})
        if self.kept is not None:
            frame["kept"], frame["drift"] = self.kept, self.drift
        for role, near in self.near.items():
            frame[f"own_{role}"] = neighbours.own_class(near, labels)
            frame[f"says_{role}"] = neighbours.say(near, labels)
        return frame

    def meeting(self, factor: str, pair: tuple[str, str], role: str) -> tuple[str, str] | None:
        """Two clips, one of each class, that are close neighbours in a space; None where none are.

        The one with the other class highest among its neighbours; ties go to the first row.
        """
        labels = self.table[factor].to_numpy(dtype=object).astype(str)
        near, found = self.near[role], []
        for mine, other in (pair, pair[::-1]):
            rows = np.flatnonzero(labels == mine)
            hit = labels[near[rows]] == other
            place = np.where(hit.any(axis=1), hit.argmax(axis=1), near.shape[1])
            if len(rows) and place.min() < near.shape[1]:
                row = rows[place.argmin()]
                found.append((int(place.min()), int(row), int(near[row, place.min()])))
        if not found:
            return None
        _, row, other_row = min(found)
        ends = sorted((row, other_row), key=lambda end: labels[end] != pair[0])
        first, second = self.table["clip"].iloc[ends]
        return str(first), str(second)

    def most_moved(self, factor: str, most: int = 50) -> pd.DataFrame:
        """The clips whose neighbours changed most, as `told`; empty for one encoder alone."""
        frame = self.told(factor)
        if self.kept is None or self.drift is None:
            return frame.iloc[:0]
        return frame.iloc[np.lexsort((-self.drift, self.kept))[:most]].reset_index(drop=True)


def look(
    results: Results, factor: str, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Paired changes of a factor, its worst pairs and classes, and what every factor explains.

    Args:
        results: "before" and, if there is one, "after" -> result of `evaluation.evaluate`.
    Returns: `changes` (metric -> Number dict, of the factor), `explained` (factor -> Number dict,
        the change of the share of variance), `pairs`, `classes`, `of`, `n_pairs` (see
        `metrics.class_pairs.compare`), `n_clips`. Without "after" the first two are empty.
    Raises: `ClassLookError` for a factor that has nothing to compare.
    """
    report = progress or (lambda *_: None)
    kept = looked(results, factor, seed)
    if kept is not None:
        return kept
    report("reading vectors", 0, 3)
    every = maps.clips(results, most=2**62, seed=seed)
    table, spaces = every.table, list(every.vectors.values())
    if factor not in table:
        raise ClassLookError(f"factor: got {factor!r}; the clips have {', '.join(table.columns)}")
    try:
        labels = labels_of(table, factor)
    except ValueError as error:
        raise ClassLookError(f"{factor}: {error}") from error
    speakers = maps.speakers_of(table)
    after = spaces[1] if len(spaces) > 1 else None
    report("comparing classes", 1, 3)
    found: dict[str, Any] = {"n_clips": len(table), "changes": {}, "explained": {}}
    sides = classes.sides(spaces[0], after, labels, speakers, seed)
    found |= class_pairs.compare(sides[0], sides[1] if len(sides) > 1 else None, seed)
    if after is not None:
        paired = classes.change_of(sides[0], sides[1], seed)
        paired |= probe_changes(results["before"], results["after"], factor, seed)
        found["changes"] = {name: one.as_dict() for name, one in paired.items()}
        del sides  # before the other factors are laid out
        report("comparing factors", 2, 3)
        others = table.drop(columns=factor)
        found["explained"] = {factor: found["changes"]["explained"]}
        found["explained"] |= _explained(spaces[0], after, others, speakers, seed)
    maps.save(_path(results, "look", factor, seed), found, {})
    return found


def looked(results: Results, factor: str, seed: int = 0) -> dict[str, Any] | None:
    """What `look` found before, or None."""
    kept = maps.load(_path(results, "look", factor, seed))
    return None if kept is None else kept[0]


def neighbourhoods(
    results: Results, seed: int = 0, progress: Progress | None = None
) -> Neighbourhoods:
    """The nearest clips of each clip (at most `MOST`, drawn), before and after.

    Raises: `MapError`, `NeighboursError` for vectors that have no neighbours.
    """
    kept = neighbours_found(results, seed)
    if kept is not None:
        return kept
    if progress:
        progress("looking for neighbours", 0, 1)
    drawn = maps.clips(results, maps.MOST["pca"], seed=seed).some(MOST, seed)
    k = min(neighbours.K, (len(drawn.table) - 1) // 2)
    spaces = list(drawn.vectors.values())
    if len(spaces) > 1:
        moved = neighbours.moves(spaces[0], spaces[1], maps.speakers_of(drawn.table), k, seed)
        found = Neighbourhoods(
            drawn.table,
            {"before": moved.before, "after": moved.after},
            moved.kept,
            moved.drift,
            moved.number,
            drawn.note,
        )
    else:
        near = {"before": neighbours.nearest(spaces[0], k)}
        found = Neighbourhoods(drawn.table, near, None, None, None, drawn.note)
    arrays = {f"near_{role}": near.astype(np.int32) for role, near in found.near.items()}
    if found.kept is not None and found.drift is not None:
        arrays |= {"kept": found.kept, "drift": found.drift}
    meta = {
        "table": {name: found.table[name].astype(str).tolist() for name in found.table},
        "number": None if found.number is None else found.number.as_dict(),
        "note": found.note,
    }
    maps.save(_path(results, "neighbours", str(MOST), seed), meta, arrays)
    return found


def neighbours_there(results: Results, seed: int = 0) -> bool:
    """Whether `neighbourhoods` has been made."""
    return _path(results, "neighbours", str(MOST), seed).exists()


def neighbours_found(results: Results, seed: int = 0) -> Neighbourhoods | None:
    """What `neighbourhoods` found before, or None."""
    kept = maps.load(_path(results, "neighbours", str(MOST), seed))
    if kept is None:
        return None
    meta, arrays = kept
    near = {role: arrays[f"near_{role}"] for role in results}
    number = None if meta["number"] is None else maps.number(meta["number"])
    table = pd.DataFrame(meta["table"])
    return Neighbourhoods(
        table, near, arrays.get("kept"), arrays.get("drift"), number, meta["note"]
    )


def confused(results: Results, near: Neighbourhoods, factor: str, most: int = 50) -> pd.DataFrame:
    """The most confused clips: fewest neighbours of their own class in the last space, first.

    As `Neighbourhoods.told`, with `probe_…` by role where a probe was tested on the clip; only
    clips whose neighbours (or probe) say another class.
    """
    frame = near.told(factor)
    last = list(results)[-1]
    probed = confusion.clips(results, factor).drop(columns=["truth", "turn"], errors="ignore")
    probed = probed.rename(columns={role: f"probe_{role}" for role in results})
    frame = frame.merge(probed, on="clip", how="left") if len(probed) else frame
    wrong = frame[f"says_{last}"] != frame["class"]
    if f"probe_{last}" in frame:
        wrong |= frame[f"probe_{last}"].notna() & (frame[f"probe_{last}"] != frame["class"])
    frame = frame[wrong & (frame["class"] != "")]
    return frame.sort_values(f"own_{last}", kind="stable").head(most).reset_index(drop=True)


def make(
    before: str | Path,
    corpus: Corpus | str | Path,
    after: str | Path | None = None,
    split: str | None = None,
    factor: str | None = None,
    map: maps.Method = "pca",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate both encoders and make all of this, each part only where it is not kept yet.

    Args: as of `evaluation.evaluate`; factor: None is the first with classes to compare.
    Returns: encoders, corpus, split, `factor`, the result of `look`, `neighbours_kept` (Number),
        `map` (its quality and note) and `left_out` (role -> clip -> why); by role `numbers` of the
        factor and `shares` of the variance (factor -> Number); `confusion` (`names`, `counts` by
        role with rows true, `n`, `left_out`; None without a probe) and `confused` (a row a clip,
        see `confused`).
    Raises: `ClassLookError`, `MapError`, and what `evaluate` raises.
    """
    names = {"before": before} | ({"after": after} if after else {})
    results = {
        role: evaluate(name, corpus, split=split, progress=progress) for role, name in names.items()
    }
    first = results["before"]
    if factor is None:
        if not first["classes"]:
            raise ClassLookError(f"{first['corpus']}: no factor has classes to compare")
        factor = next(iter(first["classes"]))
    found = look(results, factor, progress=progress)
    near = neighbourhoods(results, progress=progress)
    drawn = maps.joint(results, map, progress=progress)
    trust = {
        role: {name: one.as_dict() for name, one in numbers.items()}
        for role, numbers in drawn.quality.items()
    }
    return {
        **{role: result["encoder"] for role, result in results.items()},
        "corpus": first["corpus"],
        "split": first["split"],
        "factor": factor,
        **found,
        "neighbours_kept": None if near.number is None else near.number.as_dict(),
        "map": {"method": map, "quality": trust, "note": drawn.note},
        "left_out": {role: left_out(result) for role, result in results.items()},
        "numbers": {role: result["classes"][factor] for role, result in results.items()},
        "shares": {role: _shares(result) for role, result in results.items()},
        "confusion": _confusion(results, factor),
        "confused": confused(results, near, factor).to_dict("records"),
    }


def _shares(result: Mapping[str, Any]) -> dict[str, Any]:
    classed = result["classes"].items()
    return {name: found["explained"] for name, found in classed if "explained" in found}


def _confusion(results: Results, factor: str) -> dict[str, Any] | None:
    found = confusion.matrices(results, factor)
    if found is None:
        return None
    counts = {role: matrix.tolist() for role, matrix in found.counts.items()}
    return {"names": found.names, "counts": counts, "n": found.n, "left_out": found.left_out}


def _explained(
    before: np.ndarray,
    after: np.ndarray,
    table: pd.DataFrame,
    speakers: np.ndarray | None,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The change of the share of variance that each factor's means hold."""
    found = {}
    for factor in [name for name in table.columns if name not in KNOWN]:
        try:
            labels = labels_of(table, factor)
            only = classes.change(before, after, labels, speakers, seed, only=("explained",))
        except ValueError:
            continue  # the evaluation says why it is left out
        found[factor] = only["explained"].as_dict()
    return found


def _path(results: Results, what: str, detail: str, seed: int) -> Path:
    name = maps.key(results, None, what, detail, seed)
    return paths.cache() / "classes" / f"{what}-{name}-v{VERSION}.npz"
