"""The spaces of a pair on the same clips: the vector before, and each subspace after.

    spaces = spaces_of(before, after)             # two results of `evaluation.evaluate`
    block = choose_block(spaces.table)            # speakers who say the same things
    errors(spaces, "speaker")["speaker"].det      # one curve and two histograms a space

What pages draw of subspaces is computed here, from embedding tables: no encoder is loaded.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from refine.embeddings import open_embeddings, same_recordings
from refine.encoders import EncoderInfo
from refine.evaluation import blocks_of, table_of
from refine.factors import apart_of, labels_of
from refine.grids import GridError, recorded
from refine.metrics import subspaces, verification
from refine.metrics.influence import Smooth, number, units
from refine.metrics.intervals import Number
from refine.projection import sample

BEFORE = "before"  # the name of the one space before
MOST_CLIPS = 20_000  # looked at; of more, so many are drawn with a seed
SIDE = 8  # speakers, and contents, of a block at most
DET_POINTS = 400
BINS = 60
COMPONENTS = 24  # principal components of each block that a correlation picture shows
RANDOM_SPANS = 20  # draws behind the angles of chance

Vectors = Float[np.ndarray, "n d"]


class SpacesError(ValueError):
    """Results that have no subspaces to look at. The message says what to choose instead."""


class Spaces(NamedTuple):
    """Vectors of the same clips in every space; row i of each is clip i of the table."""

    table: pd.DataFrame  # clip and factors
    x: dict[str, Vectors]  # "before", then the subspaces after, by name
    note: str = ""  # which clips these are

    @property
    def names(self) -> list[str]:
        """The subspaces, without "before"."""
        return [name for name in self.x if name != BEFORE]

    @property
    def speakers(self) -> np.ndarray | None:
        """A label a clip, for intervals; None where nobody is known."""
        if "speaker" not in self.table or not (self.table["speaker"] != "").any():
            return None
        return self.table["speaker"].to_numpy(dtype=object)


class Block(NamedTuple):
    """A clip for each combination of two factors; rows are ordered by the first."""

    factors: tuple[str, str]
    rows: Int[np.ndarray, " clips"]  # of the table
    first: np.ndarray  # a label a clip
    second: np.ndarray
    by_second: Int[np.ndarray, " clips"]  # places in `rows` that order it by the second factor

    @property
    def shape(self) -> tuple[int, int]:
        """How many values each factor has."""
        return len(set(self.first)), len(set(self.second))


class Errors(NamedTuple):
    """Trials of a factor in one space."""

    det: verification.Det
    eer: float
    threshold: float  # where misses and false alarms are equal
    edges: Float[np.ndarray, " edges"]
    target: Float[np.ndarray, " bins"]  # density of the scores
    other: Float[np.ndarray, " bins"]
    n: tuple[int, int]  # target and other pairs


class Angles(NamedTuple):
    """Between the spans of the class means of two factors in one space, degrees, rising."""

    degrees: Float[np.ndarray, " k"]
    chance: Float[np.ndarray, " k"]  # of random spans of those sizes, mean of draws
    sizes: tuple[int, int]


def spaces_of(before: Mapping[str, Any], after: Mapping[str, Any], info: EncoderInfo) -> Spaces:
    """The spaces of two results on the clips that both have.

    info: the encoder after. Raises: `SpacesError` for one without named subspaces, or results
    without a clip in common; `EmbeddingsError` for clips that only share their names.
    """
    tables = [open_embeddings(table_of(side)) for side in (before, after)]
    same_recordings(tables)
    frames = [table.table.fillna("") for table in tables]
    vectors = [
        table.vectors(side["layer"]) for table, side in zip(tables, (before, after), strict=True)
    ]
    blocks = blocks_of(info, after["layer"], vectors[1].shape[1])
    if list(blocks) == ["all"]:
        raise SpacesError(
            f"{after['encoder']} has no named subspaces; choose mini-interventional, or a run of "
            "the recipe interventional"
        )
    places = {clip: row for row, clip in enumerate(frames[1]["clip"])}
    pairs = [(row, places[clip]) for row, clip in enumerate(frames[0]["clip"]) if clip in places]
    if len(pairs) < 2:
        raise SpacesError(
            f"{before['encoder']} and {after['encoder']} have {len(pairs)} clips in common; "
            "measure both on the same corpus and split"
        )
    drawn = sample(len(pairs), MOST_CLIPS, seed=0)
    mine, theirs = (np.array(side)[drawn.rows] for side in zip(*pairs, strict=True))
    x = {BEFORE: vectors[0][mine].astype(np.float64)}
    x |= {name: vectors[1][theirs, columns].astype(np.float64) for name, columns in blocks.items()}
    return Spaces(frames[0].iloc[mine].reset_index(drop=True), x, drawn.note)


def choose_block(
    table: pd.DataFrame, factors: tuple[str, str] = ("speaker", "content"), most: int = SIDE
) -> Block:
    """The largest complete grid of two factors, at most `most` values each, evenly drawn.

    Raises: `GridError` where no two values of one share two of the other.
    """
    grid = recorded(table, factors)
    sheet = grid.sheets[0]
    kept = [
        np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))
        for size in sheet.shape
    ]
    cells = [(i, j) for i in kept[0] for j in kept[1]]
    rows = np.array([sheet.cells[int(i), int(j)][0] for i, j in cells])
    first = np.array([sheet.levels[0][i] for i, _ in cells], dtype=object)
    second = np.array([sheet.levels[1][j] for _, j in cells], dtype=object)
    by_second = np.lexsort((np.arange(len(cells)), [j for _, j in cells]))
    return Block(factors, rows, first, second, by_second)


def cosines(x: Vectors) -> Float[np.ndarray, "n n"]:
    """Cosine of every clip with every other; -1 to 1. Raises: `SpacesError` for zeros or NaN."""
    if not np.isfinite(x).all():
        raise SpacesError("a vector holds NaN or infinity, so it has no direction")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not norms.all():
        raise SpacesError("a vector is all zeros, so it has no direction")
    unit = x / norms
    return np.clip(unit @ unit.T, -1, 1)


def contrasts(square: Float[np.ndarray, "n n"], block: Block, seed: int = 0) -> dict[str, Number]:
    """Mean cosine of pairs that share the first factor alone, the second alone, or neither.

    Null: any two clips of the block. Control: the same pairs after its clips were shuffled.
    """
    left, right = np.triu_indices(len(square), k=1)
    first, second = (labels[left] == labels[right] for labels in (block.first, block.second))
    kinds = {
        block.factors[0]: first & ~second,
        block.factors[1]: ~first & second,
        "neither": ~first & ~second,
    }
    drawn = np.random.default_rng(seed).permutation(len(square))
    spoilt = square[np.ix_(drawn, drawn)]
    of = units(len(square), block.first, seed=seed)
    return {
        name: number(
            _mean_of_pairs(
                square[left[kind], right[kind]], of.of[left[kind]], of.of[right[kind]], of.count
            ),
            of,
            f"Mean cosine of pairs of the block that share "
            f"{'nothing' if name == 'neither' else f'{name} alone'}; n counts pairs. Null: any two "
            "of its clips. Control: its clips shuffled.",
            (-1.0, 1.0),
            seed=seed,
            n=int(kind.sum()),
            null=float(square[left, right].mean()),
            control=float(spoilt[left[kind], right[kind]].mean()),
        )
        for name, kind in kinds.items()
        if kind.sum() > 1
    }


def _mean_of_pairs(
    values: Float[np.ndarray, " pairs"],
    first: Int[np.ndarray, " pairs"],
    second: Int[np.ndarray, " pairs"],
    count: int,
) -> Smooth:
    """A mean over pairs; one of two speakers weighs as both do, one of one speaker as that does."""
    moved = (values - values.mean()) / len(values)
    apart = np.bincount(second, moved * (first != second), minlength=count)
    return Smooth(float(values.mean()), np.bincount(first, moved, minlength=count) + apart)


def errors(spaces: Spaces, factor: str, seed: int = 0) -> dict[str, Errors]:
    """DET curve and score histograms of each space on the trials of a factor, by cosine.

    Pairs are those of `factors.judge`: of two speakers the words differ, else the speakers do.
    Raises: `ValueError` where the factor makes no trials, each with its sentence.
    """
    labels = labels_of(spaces.table, factor)
    trials = verification.trials_from_factor(labels, apart_of(spaces.table, factor), seed=seed)
    found = {}
    for name, x in spaces.x.items():
        scores = verification.cosine_scores(x, trials)
        found[name] = _errors(scores, trials.target)
    return found


def _errors(scores: Float[np.ndarray, " trials"], target: Bool[np.ndarray, " trials"]) -> Errors:
    whole = verification.det(scores, target)
    at = int(np.argmax(whole.false_alarm >= whole.miss))
    low, high = float(scores.min()), float(scores.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    same, other = (
        np.histogram(scores[kind], bins=edges, density=True)[0] for kind in (target, ~target)
    )
    return Errors(
        verification.det(scores, target, DET_POINTS),
        verification.eer(scores, target),
        float(np.clip(whole.threshold[at], low, high)),
        edges,
        same,
        other,
        (int(target.sum()), int((~target).sum())),
    )


def angles(
    x: Vectors, first: Sequence[Any] | np.ndarray, second: Sequence[Any] | np.ndarray, seed: int = 0
) -> Angles:
    """Principal angles between the spans of the class means of two factors (95 % of each).

    Clips where either is unknown ("") are left out. Raises: `SubspacesError` for one class.
    """
    first, second = (np.asarray(labels, dtype=object) for labels in (first, second))
    known = (first != "") & (second != "")
    bases = [
        subspaces.centroid_basis(x[known], labels[known].astype(str)) for labels in (first, second)
    ]
    sizes = (bases[0].shape[1], bases[1].shape[1])
    rng = np.random.default_rng(seed)
    drawn = [
        subspaces.principal_angles(
            *(np.linalg.qr(rng.standard_normal((x.shape[1], size)))[0] for size in sizes)
        )
        for _ in range(RANDOM_SPANS)
    ]
    degrees = np.degrees(subspaces.principal_angles(*bases))
    return Angles(degrees, np.degrees(np.mean(drawn, axis=0)), sizes)


def overlaps(spaces: Spaces, first: str = "speaker", second: str = "content") -> dict[str, Any]:
    """`subspaces.overlap` and `angles` of two factors, before and in the whole vector after.

    Returns: role -> {"overlap": Number, "angles": Angles}. Raises: `SpacesError` for a factor the
    table has not; `SubspacesError` for one class.
    """
    for factor in (first, second):
        if factor not in spaces.table:
            raise SpacesError(f"{factor}: not a factor of this corpus; choose one that has it")
    labels = [spaces.table[name].to_numpy(dtype=object).astype(str) for name in (first, second)]
    known = (labels[0] != "") & (labels[1] != "")
    if known.sum() < 2:
        raise SpacesError(f"no two clips with a known {first} and {second}")
    whole = np.concatenate([spaces.x[name] for name in spaces.names], axis=1)
    speakers = None if spaces.speakers is None else spaces.speakers[known]
    found = {}
    for role, x in (("before", spaces.x[BEFORE]), ("after", whole)):
        one, other = (side[known] for side in labels)
        found[role] = {
            "overlap": subspaces.overlap(x[known], one, other, speakers),
            "angles": angles(x[known], one, other),
        }
    return found


def alike(spaces: Spaces, seed: int = 0) -> dict[tuple[str, str], dict[str, Number]]:
    """CKA and cross-covariance of every pair of spaces, the untrained one included."""
    names = list(spaces.x)
    return {
        (first, second): subspaces.between(spaces.x[first], spaces.x[second], spaces.speakers, seed)
        for place, first in enumerate(names)
        for second in names[place + 1 :]
    }


def importances(
    told: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> tuple[list[str], list[str], Float[np.ndarray, "blocks factors"]]:
    """The matrix behind DCI: bits a probe reads of a factor, over the most there could be.

    told: block -> factor -> numbers, as `subspaces` of a result; factors that every block has.
    Returns: blocks, factors and shares, 0 to 1. `factors.judge` divides by the entropy in training,
    which is the most for classes of one size.
    """
    blocks = list(told)
    factors = [name for name in told[blocks[0]] if all(name in told[block] for block in blocks)]
    shares = np.array(
        [[_share(told[block][name]["leakage_bits"]) for name in factors] for block in blocks]
    ).reshape(len(blocks), len(factors))
    return blocks, factors, shares


def _share(bits: Mapping[str, Any]) -> float:
    return float(np.clip(bits["value"] / (bits["range"][1] or 1.0), 0, 1))


def correlations(a: Vectors, b: Vectors, k: int = COMPONENTS) -> Float[np.ndarray, "k l"]:
    """Correlation of the first principal components of two blocks, largest variance first.

    A block is only known up to a rotation; its principal components are not. Range -1 to 1.
    """
    return subspaces.cross_correlation(*(_components(x, k) for x in (a, b)))


def _components(x: Vectors, k: int) -> Vectors:
    centred = np.asarray(x, dtype=np.float64) - np.mean(x, axis=0)
    left, sigma, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :k] * sigma[:k]


__all__ = [
    "BEFORE", "Angles", "Block", "Errors", "GridError", "Spaces", "SpacesError", "alike", "angles",
    "choose_block", "contrasts", "correlations", "cosines", "errors", "importances", "overlaps",
    "spaces_of",
]  # fmt: skip
