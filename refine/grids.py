"""Intervention grids: every speaker says every sentence, so that only one thing changes at a time.

    grid = recorded(open_corpus("../shared/data/arabic_commands").subset("train").table)
    batches = Batches(grid, size=512, seed=0)
    rows = batches.rows(step=1)                   # rows of the table: a dense block

A grid may be one sheet (16 speakers × 32 sentences of a studio) or many (each recording in its own
set of pseudo-speakers); a sheet is always complete. Where clips come from is in
`refine.grid_engines`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FACTORS = ("speaker", "content")  # Cox & Barker 2026; the first is the rows of a block
BATCH = 512  # 16 speakers x 32 sentences
NAMED = 5  # holes that a message lists before it says how many more there are
BLANK = -1  # label of a row that no sheet uses

Rows = NDArray[np.int64]


class GridError(ValueError):
    """Clips that make no grid. The message names what is missing and what to do."""


@dataclass(frozen=True)
class Sheet:
    """One complete block: for each combination of values, the rows of the table that have it."""

    levels: tuple[tuple[str, ...], ...]  # the values of each factor, sorted
    cells: Mapping[tuple[int, ...], Rows]  # place of each value -> rows, at least one (takes)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each factor has."""
        return tuple(map(len, self.levels))


@dataclass(frozen=True)
class Grid:
    """Complete sheets over the rows of one table."""

    factors: tuple[str, ...]
    sheets: tuple[Sheet, ...]
    n: int  # rows of the table, those outside the grid included
    notes: tuple[str, ...] = ()  # what was left out, a sentence each

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The values of each factor over all sheets; a label is a place in it."""
        return tuple(
            tuple(sorted({name for sheet in self.sheets for name in sheet.levels[axis]}))
            for axis in range(len(self.factors))
        )

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Label of every row in every factor, shape (n, factors); BLANK outside the grid."""
        found = np.full((self.n, len(self.factors)), BLANK, dtype=np.int64)
        for axis, names in enumerate(self.names):
            places = {name: place for place, name in enumerate(names)}
            for sheet in self.sheets:
                for at, rows in sheet.cells.items():
                    found[rows, axis] = places[sheet.levels[axis][at[axis]]]
        return found

    @cached_property
    def sheet_of(self) -> NDArray[np.int64]:
        """Number of the sheet of every row, shape (n,); BLANK outside the grid."""
        found = np.full(self.n, BLANK, dtype=np.int64)
        for number, sheet in enumerate(self.sheets):
            for rows in sheet.cells.values():
                found[rows] = number
        return found

    @property
    def rows(self) -> Rows:
        """The rows that are in the grid, ascending."""
        return np.flatnonzero(self.labels[:, 0] != BLANK)

    @property
    def summary(self) -> str:
        """As a sentence says it: "14 speakers × 20 contents, 1400 clips"."""
        parts = " × ".join(
            f"{len(names)} {factor}{'s' if len(names) != 1 else ''}"
            for factor, names in zip(self.factors, self.names, strict=True)
        )
        sheets = f" in {len(self.sheets)} sheets" if len(self.sheets) > 1 else ""
        return f"{parts}{sheets}, {len(self.rows)} clips"


def recorded(table: pd.DataFrame, factors: Sequence[str] = FACTORS, complete: bool = False) -> Grid:
    """The largest complete grid among recordings in which speakers say the same things.

    Values are left out one by one, always the one with the largest share of holes (finding the
    very largest block is NP-hard; this finds it wherever the holes are few).

    Args:
        table: one row a clip; rows without a value in a factor are no part of it.
        complete: refuse holes, naming them, instead of leaving their speakers or contents out.
    Raises: `GridError` for a factor that is missing or has one value, and for holes.
    """
    _check_factors(table, factors)
    known = np.logical_and.reduce([(table[name] != "").to_numpy() for name in factors])
    found = np.flatnonzero(known)
    codes, values = [], []
    for name in factors:
        code, level = pd.factorize(table[name].to_numpy()[found], sort=True)
        codes.append(code)
        values.append(tuple(map(str, level)))
    _refuse_single(factors, values, table)
    counts = np.zeros(tuple(map(len, values)), dtype=np.int64)
    np.add.at(counts, tuple(codes), 1)
    if complete and (counts == 0).any():
        raise GridError(_holes(counts, factors, values))
    kept = _largest_block(counts)
    if min(map(len, kept)) < 2:
        raise GridError(
            f"no two values of {factors[0]} share two of {' and '.join(factors[1:])}, so there is "
            "no grid in these recordings; use the engine pseudo, which needs none"
        )
    notes = []
    for factor, names, keep in zip(factors, values, kept, strict=True):
        if out := [name for place, name in enumerate(names) if place not in keep]:
            notes.append(
                f"{factor}: {len(out)} of {len(names)} left out, since not every combination was "
                f"recorded ({_some(out)})"
            )
    sheet = _sheet(found, codes, values, kept)
    return Grid(tuple(factors), (sheet,), len(table), tuple(notes))


def sheets(table: pd.DataFrame, by: str, factors: Sequence[str] = FACTORS) -> Grid:
    """One grid a value of `by` (such as the original speaker), each made as `recorded` does.

    Values of `by` whose clips make no grid are left out, with a note.
    Raises: `GridError` when none is left.
    """
    _check_factors(table, [*factors, by])
    found, notes, failed = [], [], []
    for value, part in table.groupby(by, sort=True):
        places = np.flatnonzero((table[by] == value).to_numpy())
        try:
            grid = recorded(part.reset_index(drop=True), factors)
        except GridError as error:
            failed.append(f"{by} {value}: {error}")
            continue
        notes += [f"{by} {value}: {note}" for note in grid.notes]
        found += [
            Sheet(sheet.levels, {at: places[rows] for at, rows in sheet.cells.items()})
            for sheet in grid.sheets
        ]
    if not found:
        raise GridError(failed[0] if failed else f"no {by} is known, so there is no grid")
    if failed:
        notes.append(f"{len(failed)} left out, the first: {failed[0]}")
    return Grid(tuple(factors), tuple(found), len(table), tuple(notes))


def join(grids: Sequence[Grid], families: Sequence[str]) -> Grid:
    """Several grids as one, their tables laid end to end in this order.

    `families`: whose values a grid has. The "zero" of one corpus is not that of another, and so is
    its speaker 1; within a family both are the same. Raises: `GridError` where the factors differ.
    """
    found, notes, start = [], [], 0
    if len({grid.factors for grid in grids}) != 1:
        told = "; ".join(", ".join(grid.factors) for grid in grids)
        raise GridError(f"grids of one training have the same factors; got {told}")
    for family, grid in zip(families, grids, strict=True):
        for sheet in grid.sheets:
            levels = tuple(tuple(f"{family}: {name}" for name in axis) for axis in sheet.levels)
            cells = {at: rows + start for at, rows in sheet.cells.items()}
            found.append(Sheet(levels, cells))
        notes += [f"{family}: {note}" for note in grid.notes]
        start += grid.n
    return Grid(grids[0].factors, tuple(found), start, tuple(notes))


class Batches:
    """Dense blocks of a grid: each epoch meets every cell once, in blocks drawn anew."""

    def __init__(self, grid: Grid, size: int = BATCH, seed: int = 0):
        """`size`: most rows in a batch (half more where else a value would stand alone).

        Raises: `GridError` where no block of two values a factor fits.
        """
        if size < 2 ** len(grid.factors):
            raise GridError(
                f"batch_size: got {size}; a block of {len(grid.factors)} factors needs at least "
                f"{2 ** len(grid.factors)}"
            )
        self.grid, self.size, self.seed = grid, size, seed
        self.shapes = [block_shape(sheet.shape, size) for sheet in grid.sheets]
        self._epoch: tuple[int, list[Rows]] = (-1, [])

    @cached_property
    def per_epoch(self) -> int:
        """Batches in an epoch; the same in each."""
        return len(self._packed(np.random.default_rng(0), order=range(len(self._tiles()))))

    def rows(self, step: int) -> Rows:
        """The rows of the batch of a step (1, 2, …): a function of the seed and the step alone."""
        epoch, place = divmod(step - 1, self.per_epoch)
        if self._epoch[0] != epoch:
            generator = np.random.default_rng([self.seed, epoch])
            self._epoch = (epoch, self._packed(generator))
        return self._epoch[1][place]

    def _tiles(self) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
        """(sheet, (start, end) on each axis) of every block of an epoch, before shuffling."""
        found = []
        for number, (sheet, shape) in enumerate(zip(self.grid.sheets, self.shapes, strict=True)):
            cuts = [_cuts(length, width) for length, width in zip(sheet.shape, shape, strict=True)]
            found += [(number, tile) for tile in itertools.product(*cuts)]
        return found

    def _packed(
        self, generator: np.random.Generator, order: Sequence[int] | range | None = None
    ) -> list[Rows]:
        """Blocks in random order, as many in a batch as fit."""
        places = [
            [generator.permutation(length) for length in sheet.shape] for sheet in self.grid.sheets
        ]
        # large blocks first, so that the number of batches does not depend on chance
        tiles = self._tiles()
        drawn = generator.permutation(len(tiles)).tolist() if order is None else list(order)
        size = {i: math.prod(end - start for start, end in tiles[i][1]) for i in drawn}
        batches: list[list[int]] = []
        room: list[int] = []
        first_open = 0
        for index in sorted(drawn, key=lambda i: -size[i]):
            fits = next((b for b in range(first_open, len(room)) if room[b] >= size[index]), None)
            if fits is None:
                fits = len(batches)
                batches.append([])
                room.append(self.size)
            batches[fits].append(index)
            room[fits] -= size[index]
            while first_open < len(room) and room[first_open] <= 0:
                first_open += 1
        mixed = [batches[i] for i in generator.permutation(len(batches))]
        return [
            np.concatenate([self._draw(tiles[i], places[tiles[i][0]], generator) for i in batch])
            for batch in mixed
        ]

    def _draw(
        self,
        tile: tuple[int, tuple[tuple[int, int], ...]],
        places: list[NDArray[np.int64]],
        generator: np.random.Generator,
    ) -> Rows:
        """One take of each cell of a block, the first factor slowest."""
        number, spans = tile
        chosen = [axis[start:end] for axis, (start, end) in zip(places, spans, strict=True)]
        cells = self.grid.sheets[number].cells
        takes = [cells[tuple(map(int, at))] for at in itertools.product(*chosen)]
        draws = generator.random(len(takes))
        return np.array(
            [rows[int(draw * len(rows))] for rows, draw in zip(takes, draws, strict=True)],
            dtype=np.int64,
        )


def block_shape(shape: Sequence[int], size: int = BATCH) -> tuple[int, ...]:
    """How many values of each factor a block of at most `size` rows has, as balanced as may be.

    Of a grid that can be cut without remainder, the exact factorisation (32 × 256 and 512 give
    16 × 32, as in Cox & Barker 2026: of two as balanced, fewer of the first factor).

    >>> block_shape((32, 256), 512), block_shape((14, 20), 512), block_shape((112, 20), 512)
    ((16, 32), (14, 20), (25, 20))
    """
    if math.prod(shape) <= size:
        return tuple(shape)
    if len(shape) == 2:
        exact = [
            (a, size // a)
            for a in range(2, shape[0] + 1)
            if size % a == 0 and shape[0] % a == 0 and size // a > 1 and shape[1] % (size // a) == 0
        ]
        if exact:
            return min(exact, key=lambda pair: (abs(math.log(pair[0] / pair[1])), pair[0]))
    # the shortest axes first: each takes its fair root of what is left, or all it has
    left, remaining = float(size), len(shape)
    found = [0] * len(shape)
    for axis in sorted(range(len(shape)), key=lambda i: shape[i]):
        share = int(left ** (1 / remaining) + 1e-9)
        found[axis] = min(shape[axis], max(2, share))
        left, remaining = left / found[axis], remaining - 1
    for axis in sorted(range(len(shape)), key=lambda i: -shape[i]):
        others = math.prod(found) // found[axis]
        found[axis] = min(shape[axis], max(found[axis], size // others))
    return tuple(found)


def _cuts(length: int, width: int) -> list[tuple[int, int]]:
    """Even pieces of at most `width`, none of a single value where two are there."""
    pieces = max(1, min(-(-length // width), length // 2))
    edges = [length * piece // pieces for piece in range(pieces + 1)]
    return list(itertools.pairwise(edges))


def _largest_block(counts: NDArray[np.int64]) -> list[list[int]]:
    """The values of each axis that stay when those with the largest share of holes are dropped."""
    kept = [list(range(length)) for length in counts.shape]
    empty = counts == 0
    while True:
        part = empty[np.ix_(*kept)]
        if not part.any() or min(map(len, kept)) < 2:
            return kept
        worst = (0.0, 0.0, 0, 0)
        for axis in range(part.ndim):
            others = tuple(i for i in range(part.ndim) if i != axis)
            share = part.mean(axis=others)
            place = int(share.argmax())
            # at equal shares, of the longer axis: less is lost
            worst = max(worst, (float(share[place]), float(len(kept[axis])), -axis, -place))
        del kept[-worst[2]][-worst[3]]


def _sheet(
    rows: Rows,
    codes: Sequence[NDArray[np.int64]],
    values: Sequence[tuple[str, ...]],
    kept: Sequence[Sequence[int]],
) -> Sheet:
    places = [{code: place for place, code in enumerate(keep)} for keep in kept]
    cells: dict[tuple[int, ...], list[int]] = {}
    for row, *at in zip(rows, *codes, strict=True):
        if all(code in axis for code, axis in zip(at, places, strict=True)):
            cell = tuple(axis[code] for code, axis in zip(at, places, strict=True))
            cells.setdefault(cell, []).append(int(row))
    names = tuple(
        tuple(axis[code] for code in keep) for axis, keep in zip(values, kept, strict=True)
    )
    return Sheet(names, {at: np.array(found, dtype=np.int64) for at, found in cells.items()})


def _check_factors(table: pd.DataFrame, factors: Sequence[str]) -> None:
    if len(set(factors)) < 2:
        raise GridError(f"a grid has two factors or more; got {', '.join(factors) or 'none'}")
    for name in factors:
        if name not in table.columns:
            there = [c for c in table.columns if c not in ("clip", "split", "duration_s", "text")]
            raise GridError(
                f"no factor {name}; the clips have {', '.join(there) or 'none'}, name one of them"
            )


def _refuse_single(
    factors: Sequence[str], values: Sequence[tuple[str, ...]], table: pd.DataFrame
) -> None:
    for factor, names in zip(factors, values, strict=True):
        if len(names) < 2:
            told = f"one value ({names[0]})" if names else f"no known value in {len(table)} clips"
            raise GridError(
                f"{factor}: {told}; a subspace needs at least two to tell apart, add recordings or "
                "leave the factor out"
            )


def _holes(
    counts: NDArray[np.int64], factors: Sequence[str], values: Sequence[tuple[str, ...]]
) -> str:
    empty = np.argwhere(counts == 0)
    named = [
        " × ".join(axis[place] for axis, place in zip(values, at, strict=True))
        for at in empty[:NAMED]
    ]
    more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
    return (
        f"{len(empty)} of the {counts.size} combinations of {' × '.join(factors)} have no clip: "
        f"{', '.join(named)}{more}; record them, or let holes be left out"
    )


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
