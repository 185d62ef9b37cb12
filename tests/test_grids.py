"""Grids: complete, dense, reshuffled, deterministic; holes are named."""

import itertools

import numpy as np
import pandas as pd
import pytest

from refine.grids import BLANK, Batches, Grid, GridError, block_shape, join, recorded, sheets


def table_of(*sizes, takes=1, names=("speaker", "content", "emotion")):
    rows = [
        dict(
            zip(
                names,
                (f"{name[0]}{i:03d}" for name, i in zip(names, at, strict=False)),
                strict=False,
            )
        )
        for at in itertools.product(*map(range, sizes))
        for _ in range(takes)
    ]
    table = pd.DataFrame(rows)
    table.insert(0, "clip", [f"{i}.wav" for i in range(len(table))])
    return table


# -- recorded grids --------------------------------------------------------------------------------


def test_a_full_grid_is_one_sheet_with_every_take():
    grid = recorded(table_of(3, 4, takes=2))
    assert len(grid.sheets) == 1
    assert grid.sheets[0].shape == (3, 4)
    assert all(len(rows) == 2 for rows in grid.sheets[0].cells.values())
    assert grid.notes == ()
    assert grid.summary == "3 speakers × 4 contents, 24 clips"
    assert grid.labels[:9].tolist() == [[0, 0]] * 2 + [[0, 1]] * 2 + [[0, 2]] * 2 + [[0, 3]] * 2 + [
        [1, 0]
    ]


def test_a_speaker_with_holes_is_left_out_and_named():
    table = table_of(5, 6)
    holes = (table["speaker"] == "s002") & table["content"].isin(["c001", "c003"])
    table = table[~holes].reset_index(drop=True)
    grid = recorded(table)
    assert grid.sheets[0].shape == (4, 6)
    assert "s002" not in grid.sheets[0].levels[0]
    assert grid.notes == (
        "speaker: 1 of 5 left out, since not every combination was recorded (s002)",
    )
    outside = (table["speaker"] == "s002").to_numpy()
    assert (grid.labels[outside] == BLANK).all()
    assert sorted(grid.rows) == np.flatnonzero(~outside).tolist()


def test_the_content_nobody_else_says_is_left_out_rather_than_the_speakers():
    table = table_of(6, 5)
    lonely = (table["content"] == "c004") & (table["speaker"] != "s000")
    grid = recorded(table[~lonely].reset_index(drop=True))
    assert grid.sheets[0].shape == (6, 4)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_is_always_complete(seed):
    table = table_of(8, 9, 3)
    keep = np.random.default_rng(seed).random(len(table)) > 0.1
    grid = recorded(table[keep].reset_index(drop=True), ("speaker", "content", "emotion"))
    sheet = grid.sheets[0]
    assert set(sheet.cells) == set(itertools.product(*map(range, sheet.shape)))
    assert min(sheet.shape) >= 2


def test_holes_are_listed_by_name_where_none_are_allowed():
    table = table_of(3, 4)
    table = table[~table["clip"].isin(["1.wav", "6.wav"])].reset_index(drop=True)
    with pytest.raises(
        GridError,
        match=r"2 of the 12 combinations of speaker × content have no clip: s000 × c001, "
        r"s001 × c002; record them",
    ):
        recorded(table, complete=True)
    many = table_of(4, 5).drop(range(0, 20, 2)).reset_index(drop=True)
    with pytest.raises(GridError, match=r"10 of the 20 .* and 5 more"):
        recorded(many, complete=True)


def test_rows_without_a_value_are_no_part_of_it():
    table = table_of(3, 3)
    table.loc[len(table)] = {"clip": "x.wav", "speaker": "", "content": "c000"}
    grid = recorded(table)
    assert grid.sheets[0].shape == (3, 3)
    assert grid.labels[-1].tolist() == [BLANK, BLANK]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((1, 5), r"speaker: one value \(s000\); a subspace needs at least two"),
        ((5, 1), r"content: one value \(c000\)"),
    ],
)
def test_a_factor_with_one_value_is_refused(sizes, message):
    with pytest.raises(GridError, match=message):
        recorded(table_of(*sizes))


def test_other_grids_that_are_none_are_refused():
    table = table_of(4, 4)
    table["content"] = [f"u{i}" for i in range(16)]  # everyone says something else
    with pytest.raises(GridError, match=r"no two values of speaker share two of content.*pseudo"):
        recorded(table)
    with pytest.raises(GridError, match="no factor words; the clips have speaker, content"):
        recorded(table, ("speaker", "words"))
    with pytest.raises(GridError, match="two factors or more; got speaker"):
        recorded(table, ("speaker",))
    with pytest.raises(GridError, match="speaker: no known value in 16 clips"):
        recorded(table.assign(speaker=""))


def test_one_sheet_a_group_and_groups_without_a_grid_are_noted():
    one, two = table_of(3, 2), table_of(3, 4)
    table = pd.concat(
        [one.assign(original="a"), two.assign(original="b"), one.head(1).assign(original="c")],
        ignore_index=True,
    )
    grid = sheets(table, "original")
    assert [sheet.shape for sheet in grid.sheets] == [(3, 2), (3, 4)]
    assert sorted(np.concatenate(list(grid.sheets[1].cells.values()))) == list(range(6, 18))
    assert "1 left out, the first: original c" in grid.notes[-1]
    assert grid.summary.startswith("3 speakers × 4 contents in 2 sheets")


def test_joined_grids_keep_values_of_families_apart():
    one, two = recorded(table_of(2, 3)), recorded(table_of(4, 3))
    apart = join([one, two], ["a", "b"])
    assert apart.n == 18
    assert len(apart.names[0]) == 6
    assert len(apart.names[1]) == 6
    assert not set(apart.labels[:6, 1]) & set(apart.labels[6:, 1])
    same = join([one, two], ["a", "a"])
    assert len(same.names[0]) == 4
    assert len(same.names[1]) == 3
    three = recorded(table_of(2, 2, 2), ("speaker", "content", "emotion"))
    with pytest.raises(
        GridError, match="same factors; got speaker, content; speaker, content, emo"
    ):
        join([one, three], ["a", "b"])


# -- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size", "block"),
    [
        ((32, 256), 512, (16, 32)),  # the paper's
        ((6, 256), 768, (6, 128)),  # and its validation
        ((14, 20), 512, (14, 20)),
        ((24, 20), 512, (24, 20)),
        ((112, 20), 512, (25, 20)),
        ((8, 400), 512, (8, 64)),
        ((32, 256), 4, (2, 2)),
    ],
)
def test_the_most_balanced_block_that_fits(shape, size, block):
    assert block_shape(shape, size) == block
    assert np.prod(block) <= size


def test_blocks_of_three_factors_fit_too():
    block = block_shape((20, 50, 3), 512)
    assert block[2] == 3
    assert 256 < np.prod(block) <= 512
    assert abs(block[0] - block[1]) <= 4


def dense(grid, rows):
    """Whether rows are a complete block, each cell once."""
    labels = grid.labels[rows]
    values = [np.unique(labels[:, axis]) for axis in range(labels.shape[1])]
    cells = {tuple(row) for row in labels}
    return len(cells) == len(rows) == np.prod([len(v) for v in values])


def test_the_papers_batch_has_31_and_15_positives():
    batches = Batches(recorded(table_of(32, 256)), 512, seed=0)
    assert batches.per_epoch == 16
    rows = batches.rows(1)
    assert dense(batches.grid, rows)
    labels = batches.grid.labels[rows]
    for axis, positives in ((0, 31), (1, 15)):
        same = (labels[:, None, axis] == labels[None, :, axis]).sum(1) - 1
        assert (same == positives).all()


def test_an_epoch_meets_every_cell_once_and_the_next_in_other_blocks():
    batches = Batches(recorded(table_of(32, 64)), 512, seed=0)
    assert batches.per_epoch == 4
    first = [batches.rows(step) for step in range(1, 5)]
    assert sorted(np.concatenate(first)) == list(range(32 * 64))
    second = [batches.rows(step) for step in range(5, 9)]
    assert sorted(np.concatenate(second)) == list(range(32 * 64))
    assert {frozenset(rows) for rows in first}.isdisjoint(frozenset(rows) for rows in second)


def test_a_batch_depends_on_seed_and_step_alone():
    grid = recorded(table_of(20, 30, takes=3))
    one, two = Batches(grid, 64, seed=5), Batches(grid, 64, seed=5)
    for step in (1, 2, 40):
        one.rows(step)
    assert one.rows(17).tolist() == two.rows(17).tolist()
    assert Batches(grid, 64, seed=6).rows(17).tolist() != two.rows(17).tolist()


@pytest.mark.parametrize("shape", [(14, 20), (23, 20), (7, 3), (2, 2), (5, 101)])
@pytest.mark.parametrize("size", [8, 60, 512])
def test_odd_grids_are_cut_without_losing_a_cell_or_the_density(shape, size):
    batches = Batches(recorded(table_of(*shape)), size, seed=1)
    seen = [batches.rows(step) for step in range(1, batches.per_epoch + 1)]
    assert sorted(np.concatenate(seen)) == list(range(shape[0] * shape[1]))
    for rows in seen:
        labels = batches.grid.labels[rows]
        assert len(set(labels[:, 0])) >= 2
        assert len(set(labels[:, 1])) >= 2
        assert len(rows) <= 1.5 * size  # half more, rather than one value alone


def test_small_sheets_fill_a_batch_together():
    table = pd.concat(
        [table_of(8, 2).assign(original=f"o{i}") for i in range(40)], ignore_index=True
    )
    table["speaker"] = table["original"] + table["speaker"]
    table["content"] = table["original"] + table["content"]
    batches = Batches(sheets(table, "original"), 512, seed=0)
    assert batches.per_epoch == 2
    sizes = sorted(len(batches.rows(step)) for step in (1, 2))
    assert sizes == [128, 512]


def test_takes_are_drawn_anew():
    batches = Batches(recorded(table_of(4, 4, takes=5)), 512, seed=0)
    assert batches.per_epoch == 1
    drawn = np.concatenate([batches.rows(step) for step in range(1, 60)])
    assert len(set(drawn.tolist())) == 80


def test_a_batch_too_small_for_a_block_is_refused():
    with pytest.raises(GridError, match="batch_size: got 3; a block of 2 factors needs at least 4"):
        Batches(recorded(table_of(4, 4)), 3)


def test_a_grid_is_not_one_without_sheets():
    empty = Grid(("speaker", "content"), (), 3)
    assert empty.rows.tolist() == []
