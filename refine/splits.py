"""Splits for probes: train, dev and test with no voice on two sides.

A probe of any factor but `speaker` is tested on voices it never heard. A probe of the speaker
itself is tested on other words of the same voices, or on other clips where no words are shared.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Int

DEV, TEST = 0.2, 0.2  # of the speakers (or words) where the corpus' own split cannot be used
NAMES = ("train", "dev", "test")

Rows = Int[np.ndarray, " rows"]


class ProbeError(ValueError):
    """A factor that cannot be probed. The message names it, what was found and what to do."""


@dataclass(frozen=True)
class Split:
    """Row numbers of a table, rising, no row twice; `how` says what lies on no two sides."""

    train: Rows
    dev: Rows
    test: Rows
    how: str = ""
    left_out: dict[str, str] = field(default_factory=dict)  # class -> why it is not probed

    @property
    def fitted(self) -> Rows:
        """Train and dev together."""
        return np.sort(np.concatenate([self.train, self.dev]))


def split_of(
    table: pd.DataFrame, factor: str, seed: int = 0, apart: str | None = "speaker"
) -> Split:
    """The rows on which to fit, choose and test a probe of a factor.

    The corpus' own `split` is taken where it has all three parts and no speaker in two; else the
    speakers are dealt 60/20/20, seeded. Rows whose factor or speaker is unknown ("") are left out,
    so are classes that are not on all of train and test (`left_out` names them).
    For the factor `speaker`, words (`content`) are dealt instead, or clips.

    Args:
        table: one row a clip, with the factor, and `split`, `speaker`, `content` where known.
        apart: the column whose values lie on one side each; None deals single clips.
    Raises: `ProbeError` for a factor that is not there, one class, a class with one clip, no
        speakers where they must be apart, or too few of them.
    """
    values = _check(table, factor)
    if factor == apart or (apart == "speaker" and factor == "speaker"):
        return _of_speakers(table, factor, values, seed)
    groups = _groups(table, factor, apart)
    known = (values != "") & (groups != "")
    own = table["split"].to_numpy(dtype=object).astype(str) if "split" in table else None
    if own is not None and _own_split_holds(own[known], groups[known], values[known]):
        side, how = own, f"the corpus' own split, {apart or 'clip'}s apart"
    else:
        side = _deal_groups(groups, values, known, seed, factor, apart)
        how = f"{apart or 'clip'}s dealt 60/20/20, seed {seed}"
    return _finish(factor, values, np.where(known, side, ""), how)


def leave_one_out(
    table: pd.DataFrame, factor: str, seed: int = 0, apart: str = "speaker"
) -> list[Split]:
    """One split a speaker: tested on that speaker, dev another, train the rest (shuffled by seed).

    For corpora of few speakers, as emodb. Raises: as `split_of`; for less than 3 speakers.
    """
    values, groups = _check(table, factor), _groups(table, factor, apart)
    known = (values != "") & (groups != "")
    names = sorted(set(groups[known]))
    if len(names) < 3:
        raise ProbeError(f"{factor}: leaving one {apart} out needs 3 or more; got {len(names)}")
    order = np.random.default_rng(seed).permutation(len(names))
    splits = []
    for turn, place in enumerate(order):
        dev = names[order[(turn + 1) % len(names)]]
        side = np.where(groups == names[place], "test", np.where(groups == dev, "dev", "train"))
        how = f"{apart} {names[place]} left out"
        splits.append(_finish(factor, values, np.where(known, side, ""), how))
    return splits


def _check(table: pd.DataFrame, factor: str) -> np.ndarray:
    """The values of a factor that has classes to tell apart."""
    if factor not in table:
        factors = [name for name in table.columns if name not in ("clip", "duration_s", "text")]
        raise ProbeError(f"{factor}: no such factor; there is {', '.join(factors) or 'none'}")
    values = table[factor].fillna("").astype(str).to_numpy(dtype=object)
    counts = pd.Series(values[values != ""]).value_counts()
    if len(counts) < 2:
        found = f"one class ({counts.index[0]})" if len(counts) else "no known value"
        raise ProbeError(f"{factor}: got {found}; a probe needs two classes or more")
    single = sorted(counts.index[counts == 1])
    if single:
        raise ProbeError(
            f"{factor}: {_count(len(single), 'class', 'classes')} with one clip "
            f"({_few(single)}); each needs two or more, record more or leave the class out"
        )
    return values


def _groups(table: pd.DataFrame, factor: str, apart: str | None) -> np.ndarray:
    if apart is None:
        return np.arange(len(table)).astype(str).astype(object)
    groups = (
        table[apart].fillna("").astype(str).to_numpy(dtype=object)
        if apart in table
        else np.array([""] * len(table), dtype=object)
    )
    if not (groups != "").any():
        raise ProbeError(
            f"{factor}: no {apart} column is known, and {apart}s must be apart in train and test; "
            f"add a column {apart} to clips.csv"
        )
    return groups


def _own_split_holds(side: np.ndarray, groups: np.ndarray, values: np.ndarray) -> bool:
    """All three parts are there, two classes or more in each, and no group in two of them."""
    if any(len(set(values[side == name])) < 2 for name in NAMES):
        return False
    sides = pd.DataFrame({"group": groups, "side": side}).groupby("group")["side"].nunique()
    return bool((sides == 1).all())


def _deal_groups(
    groups: np.ndarray,
    values: np.ndarray,
    known: np.ndarray,
    seed: int,
    factor: str,
    apart: str | None,
) -> np.ndarray:
    """A side a row; groups of one kind (the classes they hold) are spread over the three."""
    rng = np.random.default_rng(seed)
    names = sorted(set(groups[known]))
    if len(names) < 3:
        raise ProbeError(
            f"{factor}: {len(names)} {apart}s; train, dev and test need one each at least"
        )
    kinds: dict[tuple[str, ...], list[str]] = {}
    frame = pd.DataFrame({"group": groups[known], "value": values[known]})
    for name, held in frame.groupby("group")["value"]:
        kinds.setdefault(tuple(sorted(set(held))), []).append(str(name))
    chosen: dict[str, str] = {}
    if len(kinds) > len(names) // 2:  # hardly two alike: deal them all as one kind
        kinds = {(): names}
    for kind in sorted(kinds):
        members = [kinds[kind][i] for i in rng.permutation(len(kinds[kind]))]
        chosen |= dict(zip(members, _deal(len(members)), strict=True))
    for needed in ("dev", "test"):  # small kinds may leave a part empty
        if needed not in chosen.values():
            spare = [name for name in names if chosen[name] == "train"]
            chosen[spare[int(rng.integers(len(spare)))]] = needed
    return np.array([chosen.get(group, "") for group in groups], dtype=object)


def _deal(n: int) -> list[str]:
    """Sides of n units: test and dev a fifth each, one at least where three are there."""
    if n == 1:
        return ["train"]
    if n == 2:
        return ["train", "test"]
    test, dev = max(1, round(n * TEST)), max(1, round(n * DEV))
    return ["test"] * test + ["dev"] * dev + ["train"] * (n - test - dev)


def _of_speakers(table: pd.DataFrame, factor: str, values: np.ndarray, seed: int) -> Split:
    """Words on one side each where speakers share them, else clips of each speaker dealt."""
    rng = np.random.default_rng(seed)
    known = values != ""
    words = (
        table["content"].fillna("").astype(str).to_numpy(dtype=object)
        if "content" in table
        else np.array([""] * len(table), dtype=object)
    )
    frame = pd.DataFrame({"value": values, "word": words})[known & (words != "")]
    shared = frame.groupby("word")["value"].nunique()
    side = np.full(len(values), "", dtype=object)
    if len(shared) >= 3 and shared.mean() >= 2 and len(frame) == known.sum():
        order = [str(shared.index[i]) for i in rng.permutation(len(shared))]
        chosen = dict(zip(order, _deal(len(order)), strict=True))
        side = np.array([chosen.get(word, "") for word in words], dtype=object)
        train = set(values[known & (side == "train")])
        if train == set(values[known]):
            how = f"contents dealt 60/20/20, seed {seed}: no content is on two sides"
            return _finish(factor, values, np.where(known, side, ""), how)
    for name in sorted(set(values[known])):
        rows = np.flatnonzero(values == name)
        # clips of one text stay together, so that a word learnt is no speaker known
        units = [words[row] or f"#{row}" for row in rows]
        distinct = sorted(set(units))
        if len(distinct) < 2:
            units = [f"#{row}" for row in rows]
            distinct = units
        order = [distinct[i] for i in rng.permutation(len(distinct))]
        chosen = dict(zip(order, _deal(len(order)), strict=True))
        side[rows] = [chosen[unit] for unit in units]
    how = f"clips of each {factor} dealt 60/20/20, seed {seed}"
    return _finish(factor, values, side, how)


def _finish(factor: str, values: np.ndarray, side: np.ndarray, how: str) -> Split:
    """Row numbers of the three sides, without the classes that are not in train."""
    parts = {name: np.flatnonzero((side == name) & (values != "")) for name in NAMES}
    learnt, asked = set(values[parts["train"]]), set(values[parts["test"]])
    left_out = dict.fromkeys(sorted(set(values) - learnt - {""}), "no clip in train")
    if len(learnt) < 2 or len(asked & learnt) < 1:
        raise ProbeError(
            f"{factor}: {_count(len(learnt), 'class', 'classes')} in train, of which "
            f"{len(asked & learnt)} in test; add speakers of each class, or choose another factor"
        )
    kept = {
        name: np.array([row for row in rows if values[row] in learnt], dtype=np.int64)
        for name, rows in parts.items()
    }
    if not len(kept["dev"]):
        raise ProbeError(f"{factor}: no clip of a trained class is left for dev; add speakers")
    return Split(kept["train"], kept["dev"], kept["test"], how, left_out)


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
