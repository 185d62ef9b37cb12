"""What vectors tell of every factor of a corpus: class structure, probes, verification, subspaces.

    found = judge(vectors, table, evaluated, {"all": slice(0, 256)})
    found["classes"]["emotion"]["probe_uar"], found["left_out_factors"]

Spreads and pairs are of the evaluated clips; probes are fitted on the others (train and dev) and
tested on the evaluated ones. A factor with nothing to compare is left out with its reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from refine import probes
from refine.metrics import classes, subspaces, verification
from refine.metrics.influence import Smooth, Units, units
from refine.metrics.intervals import Number

FEWEST_CLIPS = 10  # of a factor, below which nothing is said of it
MOST_CLIPS = 3_000  # on which a probe is fitted, and tested; more are drawn
MOST_CLASSES = 500  # that a probe is fitted for: beyond, minutes a fit and a few clips a class
NEIGHBOURS = 5
SHOTS = (1, 5, 10)
KNOWN = ("clip", "split", "duration_s", "text", "layer", "vector")  # columns that are no factors

Vectors = Float[np.ndarray, "n d"]
Numbers = dict[str, dict[str, Any]]


def judge(
    x: Vectors,
    table: pd.DataFrame,
    evaluated: Bool[np.ndarray, " n"],
    blocks: Mapping[str, slice],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Every number of every factor, each as `Number.as_dict`.

    Args:
        x: one vector a row of the table, of evaluated clips and of those to fit probes on.
        table: `clip`, `split` and the factors. evaluated: rows that the numbers are about.
        blocks: name -> columns of x; {"all": ...} where there are no subspaces.
    Returns: `classes`, `verification` (factor -> name -> Number), `subspaces` (block -> factor ->
        name -> Number), `disentanglement` (of two blocks or more), `probes` (factor -> classes,
        confusion, predictions …) and `left_out_factors` (factor -> why).
    """
    space = _Space(np.asarray(x), table.reset_index(drop=True), evaluated, seed, blocks)
    factors = [name for name in table.columns if name not in KNOWN]
    found: dict[str, Any] = {
        "classes": {},
        "verification": {},
        "subspaces": {name: {} for name in blocks},
        "probes": {},
    }
    told: dict[str, dict[str, _Told]] = {name: {} for name in blocks}
    for done, factor in enumerate(factors):
        if progress:
            progress(done, len(factors))
        labels = space.labels(factor)
        if labels is None:
            continue
        numbers: Numbers = {}
        if spreads := space.attempt(factor, "classes", space.spreads, labels):
            numbers |= spreads
        read = space.attempt(factor, "probes", space.read, factor)
        if read is not None:
            numbers |= read.numbers
            found["probes"][factor] = read.detail
        if numbers:
            found["classes"][factor] = numbers
        pairs = space.attempt(factor, "verification", space.verify, factor, labels, slice(None))
        if pairs is not None:
            found["verification"][factor] = pairs
        for name, columns in blocks.items() if read is not None else ():  # no block can be read
            whole = len(blocks) == 1
            cell = space.cell(factor, labels, name, columns, read if whole else None, pairs)
            if cell:
                found["subspaces"][name][factor] = cell.numbers
                told[name][factor] = cell
    if len(blocks) > 1:
        found["disentanglement"] = space.disentanglement(blocks, told)
    return found | {"left_out_factors": space.left_out}


@dataclass
class _Told:
    """What a probe reads of a factor, with the parts that other numbers are made of."""

    numbers: Numbers
    detail: dict[str, Any]
    bits: Smooth  # as a share of the factor's entropy, by unit of the whole table
    random: float | None = None  # the same share, of a random block as wide


@dataclass
class _Space:
    x: Vectors
    table: pd.DataFrame
    evaluated: Bool[np.ndarray, " n"]
    seed: int
    blocks: Mapping[str, slice]
    left_out: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.speakers: np.ndarray | None = None
        if "speaker" in self.table and (self.table["speaker"] != "").any():
            self.speakers = self.table["speaker"].to_numpy(dtype=object)
        self.of = units(len(self.table), self.speakers, most=len(self.table))
        self.mine = None if self.speakers is None else self.speakers[self.evaluated]

    def note(self, factor: str, reason: str) -> None:
        told = self.left_out.get(factor)
        self.left_out[factor] = f"{told}; {reason}" if told else reason

    def attempt(self, factor: str, what: str, run: Callable[..., Any], *given: Any) -> Any:
        """The result, or None with the reason noted."""
        try:
            return run(*given)
        except ValueError as error:
            self.note(factor, f"{what}: {error}")
            return None

    def labels(self, factor: str) -> np.ndarray | None:
        """Its labels of the evaluated clips, or None with the reason noted."""
        try:
            return labels_of(self.table[self.evaluated], factor)
        except ValueError as error:
            self.note(factor, str(error))
            return None

    def spreads(self, labels: np.ndarray) -> Numbers:
        found = classes.measure(self.x[self.evaluated], labels, self.mine, self.seed)
        return _dicts(found)

    def verify(self, factor: str, labels: np.ndarray, columns: slice) -> Numbers:
        apart = apart_of(self.table[self.evaluated], factor)
        found = verification.measure(
            self.x[self.evaluated, columns], labels, self.mine, apart, seed=self.seed
        )
        numbers = _dicts(found)
        return numbers | {"min_dcf": numbers["min_dcf_05"]}

    def split(self, factor: str) -> tuple[np.ndarray, probes.Split]:
        """Rows, and the split of them: speakers are probed within the evaluated clips.

        Of many clips the rows that were drawn, so that no other vector is touched.
        """
        rows = np.arange(len(self.table))
        if factor == "speaker":
            rows = rows[self.evaluated]
        part = self.table.iloc[rows].copy()
        counts = part[factor].map(part[factor].value_counts())
        part.loc[counts < 2, factor] = ""
        split = _fewer(probes.split_of(part, factor, self.seed), self.seed)
        sides = (split.train, split.dev, split.test)
        used = np.sort(np.concatenate(sides))
        train, dev, test = (np.searchsorted(used, side) for side in sides)
        return rows[used], replace(split, train=train, dev=dev, test=test)

    def read(self, factor: str, columns: slice | None = None) -> _Told:
        """The linear probe of a factor; without `columns` also neighbours and shots."""
        rows, split = self.split(factor)
        n = self.table[factor].iloc[rows[split.fitted]].nunique()
        if n > MOST_CLASSES:
            raise ValueError(
                f"{n:,} classes, more than the {MOST_CLASSES} that a probe is fitted for"
            )
        x = self.x[rows] if columns is None else self.x[rows, columns]
        y = self.table[factor].to_numpy(dtype=object)[rows].astype(str)
        speakers = None if self.speakers is None else self.speakers[rows]
        result = probes.probe(x, y, split, speakers, seed=self.seed)
        numbers = {f"probe_{name}": number for name, number in result.numbers.items()}
        beside: dict[str, Any] = {}
        if columns is None:
            k = min(NEIGHBOURS, len(split.fitted))
            near = probes.knn(x, y, split, k, speakers)
            numbers |= {"knn_accuracy": near.accuracy, "knn_uar": near.uar}
            beside = {"knn": near.predictions.tolist()}
            fewest = int(np.unique(y[split.fitted], return_counts=True)[1].min())
            shots = [k for k in SHOTS if k <= fewest]
            for k, number in probes.k_shot(x, y, split, shots, speakers=speakers).items():
                numbers[f"shot_{k}"] = number
        told, share = self._bits(result, rows, y)
        random = None
        if columns is not None and len(self.blocks) > 1:
            cut = self.x[rows] @ self._rotation[:, columns]
            unchosen = probes.probe(cut, y, split, speakers, control=False, seed=self.seed)
            numbers["projection_accuracy"] = _unchosen(unchosen.accuracy, cut.shape[1])
            random = self._bits(unchosen, rows, y)[1].value
        detail = {
            "classes": result.classes.tolist(),
            "confusion": result.confusion.tolist(),
            "strength": result.strength,
            "split": split.how,
            "left_out": split.left_out,
            "clips": self.table["clip"].iloc[rows[split.test]].tolist(),
            "predictions": result.predictions.tolist(),
            **beside,
            "truth": result.truth.tolist(),
            "speakers": None if speakers is None else speakers[split.test].tolist(),
        }
        return _Told(_dicts(numbers | {"probe_bits": told}), detail, share, random)

    @cached_property
    def _rotation(self) -> Float[np.ndarray, "d d"]:
        """Turns a vector so that its blocks are random projections of the whole, apart."""
        d = self.x.shape[1]
        return probes.random_projection(np.eye(d), d, self.seed)

    def _bits(
        self, result: probes.ProbeResult, rows: np.ndarray, y: np.ndarray
    ) -> tuple[Number, Smooth]:
        split = result.split
        prior = np.array([(y[split.fitted] == name).mean() for name in result.classes])
        codes = np.searchsorted(result.classes, result.truth)
        of = units(len(codes), None if self.speakers is None else self.speakers[rows[split.test]])
        smooth = subspaces.leakage(result.probabilities, codes, prior, of)
        blind = None
        if result.blind is not None:
            blind = subspaces.leakage(result.blind, codes, prior, of).value
        number = subspaces.leakage_number(
            smooth, of, float(np.log2(len(result.classes))), control=blind, seed=self.seed
        )
        entropy = -float((prior * np.log2(np.maximum(prior, 1e-12))).sum())
        shared = Units(self.of.of[rows[split.test]], self.of.count, self.of.groups)
        whole = subspaces.leakage(result.probabilities, codes, prior, shared)
        return number, Smooth(whole.value / entropy, whole.influence / entropy)

    def cell(
        self,
        factor: str,
        labels: np.ndarray,
        name: str,
        columns: slice,
        read: _Told | None,
        pairs: Numbers | None,
    ) -> _Told | None:
        """One cell of the subspace x factor matrix: what the block tells of the factor."""
        if read is None:
            read = self.attempt(factor, f"probes of {name}", self.read, factor, columns)
            pairs = self.attempt(
                factor, f"verification in {name}", self.verify, factor, labels, columns
            )
        if read is None:
            return None
        told, other = self._better(name, factor)
        numbers = {
            "probe_accuracy": read.numbers["probe_accuracy"] | {"direction": told},
            "probe_uar": read.numbers["probe_uar"] | {"direction": told},
            "chance": _chance(read.numbers["probe_accuracy"]),
            "leakage_bits": read.numbers["probe_bits"] | {"direction": told},
        }
        if unchosen := read.numbers.get("projection_accuracy"):
            numbers["projection_accuracy"] = unchosen
        if pairs is not None:
            numbers["eer"] = pairs["eer"] | {"direction": other}
        return _Told(numbers, read.detail, read.bits, read.random)

    def _better(self, block: str, factor: str) -> tuple[str, str]:
        """Which way is better for what a block tells of a factor, and for errors on it.

        A block should tell of its own factor and not of another block's; of a factor that no block
        is there for (the gender in a voice), neither way is better.
        """
        if block == "all" or factor in _factors_of(block):
            return "higher", "lower"
        if any(factor in _factors_of(name) for name in self.blocks):
            return "lower", "higher"
        return "neither", "neither"

    def disentanglement(
        self, blocks: Mapping[str, slice], told: dict[str, dict[str, _Told]]
    ) -> dict[str, Any]:
        """DCI of the blocks, and CKA and cross-covariance of each pair of them."""
        names, mine = list(blocks), self.x[self.evaluated]
        pairs = {}
        for place, first in enumerate(names):
            for second in names[place + 1 :]:
                found = self.attempt(
                    f"{first} and {second}",
                    "subspaces",
                    subspaces.between,
                    mine[:, blocks[first]],
                    mine[:, blocks[second]],
                    self.mine,
                    self.seed,
                )
                if found is not None:
                    pairs[f"{first}|{second}"] = _dicts(found)
        shared = [f for f in told[names[0]] if all(f in told[name] for name in names)]
        result: dict[str, Any] = {"pairs": pairs}
        numbers = self.attempt("all factors", "dci", self._dci, told, names, shared)
        return result if numbers is None else result | {"dci": _dicts(numbers)}

    def _dci(
        self, told: dict[str, dict[str, _Told]], names: list[str], factors: list[str]
    ) -> dict[str, Number]:
        """Over the speakers (or clips) that were tested in any factor."""
        moves = np.array([told[name][f].bits.influence for name in names for f in factors])
        kept = np.flatnonzero(np.any(moves != 0, axis=0)) if moves.size else np.arange(0)
        of = Units(np.arange(len(kept)), len(kept), None if self.of.groups is None else len(kept))
        importance = {
            name: {
                f: Smooth(told[name][f].bits.value, told[name][f].bits.influence[kept])
                for f in factors
            }
            for name in names
        }
        random = np.array([[told[name][f].random or 0.0 for f in factors] for name in names])
        return subspaces.dci_numbers(importance, of, self.seed, control=random)


def labels_of(table: pd.DataFrame, factor: str) -> np.ndarray:
    """The factor of each clip, classes of one clip as unknown ("").

    Raises: `ValueError` where nothing is left to compare.
    """
    values = table[factor].to_numpy(dtype=object).astype(str)
    counts = pd.Series(values[values != ""]).value_counts()
    single = counts.index[counts == 1]
    kept = int(counts[counts > 1].sum())
    if len(counts) < 2:
        raise ValueError(f"one class ({counts.index[0]})" if len(counts) else "unknown here")
    if counts[counts > 1].size < 2 or kept < counts.sum() / 2:
        raise ValueError(f"{len(single)} of its {len(counts)} values have one clip")
    if kept < FEWEST_CLIPS:
        raise ValueError(f"{kept} clips; {FEWEST_CLIPS} are needed")
    return np.where(np.isin(values, single), "", values)


def apart_of(table: pd.DataFrame, factor: str) -> np.ndarray | None:
    """What the clips of a pair must differ in: the word (speakers), else the speaker; or nothing.

    Known for every clip, or it is not asked for: else clips would be in no pair.
    """
    other = "content" if factor == "speaker" else "speaker"
    if other not in table:
        return None
    values = table[other].to_numpy(dtype=object)
    return values if len(set(values)) > 1 and (values != "").all() else None


def _factors_of(block: str) -> tuple[str, ...]:
    """Factors that a block is there for, by its name."""
    return {"text": ("content", "text"), "word": ("content",)}.get(block, (block,))


def _unchosen(accuracy: Number, width: int) -> Number:
    """The control of a subspace, in words."""
    about = (
        f" The vector is a random projection of all blocks to {width} dimensions: what so many "
        "directions tell that nobody chose; the control of a subspace."
    )
    return replace(accuracy, definition=accuracy.definition + about, direction="neither")


def _fewer(split: probes.Split, seed: int) -> probes.Split:
    """The same split with at most `MOST_CLIPS` rows a side."""
    rng = np.random.default_rng(seed)

    def some(rows: np.ndarray) -> np.ndarray:
        return rows if len(rows) <= MOST_CLIPS else np.sort(rng.choice(rows, MOST_CLIPS, False))

    return probes.Split(
        some(split.train), some(split.dev), some(split.test), split.how, split.left_out
    )


def _dicts(numbers: Mapping[str, Number]) -> Numbers:
    return {name: number.as_dict() for name, number in numbers.items()}


def _chance(accuracy: dict[str, Any]) -> dict[str, Any]:
    value = accuracy["null"]
    definition = "Accuracy of always saying the commonest training class; no draw, so no interval."
    return accuracy | {
        "value": value,
        "low": value,
        "high": value,
        "definition": definition,
        "direction": "neither",
        "control": None,
    }
