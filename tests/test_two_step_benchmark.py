"""The protocol of benchmarks/two_step.py: every speaker tested once, none on two sides."""

import sys

import numpy as np
import pandas as pd
import pytest

from refine import paths
from refine.corpus import Corpus, open_corpus

sys.path.insert(0, str(paths.ROOT / "benchmarks"))
import two_step
import two_step_tables as tables


def corpus(speakers, test, dev):
    """Four clips of two classes a speaker."""
    names = [f"s{i:02}" for i in range(speakers) for _ in range(4)]
    side = dict.fromkeys(names, "train")
    side |= {f"s{i:02}": "test" for i in test} | {f"s{i:02}": "dev" for i in dev}
    table = pd.DataFrame(
        {
            "clip": [f"{row}.wav" for row in range(len(names))],
            "speaker": names,
            "split": [side[name] for name in names],
            "emotion": ["calm", "glad"] * (len(names) // 2),
        }
    )
    return Corpus("made", paths.ROOT, table, (), "none", {})


@pytest.mark.parametrize(("speakers", "size"), [(10, 1), (20, 4)])
def test_every_speaker_is_tested_once_and_on_one_side(speakers, size):
    made = corpus(speakers, test=range(speakers - 4, speakers), dev=[1, 2])
    names = made.table["speaker"].to_numpy()
    folds = two_step.folds(made)
    assert len(folds) == speakers // size
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(names)))
    for fold in folds:
        sides = [set(names[rows]) for rows in (fold.rows.train, fold.rows.held_out, fold.test)]
        assert len(sides[2]) == size
        assert len(sides[1]) == (2 if size > 1 else 1)
        assert sum(map(len, sides)) == len(set().union(*sides)) == speakers
    if size > 1:
        assert set(names[folds[0].test]) == {"s16", "s17", "s18", "s19"}


@pytest.mark.parametrize("speakers", [10, 20])
def test_tuning_touches_no_test_speaker(speakers):
    made = corpus(speakers, test=[0, 5], dev=[1])
    names = made.table["speaker"].to_numpy()
    for fold in two_step.folds(made, dev=True):
        for rows in (fold.rows.train, fold.rows.held_out, fold.test):
            assert not {"s00", "s05"} & set(names[rows])


def test_the_numbers_of_known_predictions():
    made = corpus(20, test=[16, 17, 18, 19], dev=[1])
    options = two_step.Options(seeds=2, corpora=("made",), variants=("end_to_end", "combined"))
    views = list(two_step._tested("made", made, options))
    assert [view.title for view in views] == ["made", "made, its own test speakers"]
    wanted = list(two_step._cells(options, {"made": made}))
    cells = {}
    for cell in wanted:
        right = "01" * 8  # four speakers of a fold, four clips each
        wrong = "00" * 8
        said = right if cell.variant == "combined" or cell.seed == 0 else wrong
        measured = dict.fromkeys((*tables.GEOMETRY, "shot_1", "shot_5", "shot_10"), 0.5)
        cells[cell.key] = {"predicted": said, **measured}
    found = tables.summary(cells, wanted, views, options.variants)["made"]
    ours, theirs = found["numbers"]["combined"], found["numbers"]["end_to_end"]
    assert ours["uar"]["value"] == 1
    assert theirs["uar"]["value"] == 0.75  # one seed right, one at chance
    assert theirs["uar"]["seeds"] == [1.0, 0.5]
    assert ours["minus_end_to_end"]["uar"]["value"] == pytest.approx(0.25)
    assert ours["minus_end_to_end"]["spread_ratio"]["value"] == 0
    assert (found["clips"], found["speakers"]) == (80, 20)
    text = tables.tables({"made": found}, "mini", 2, "1 minute")
    assert "| combined | 1.000 [1.000, 1.000] | +0.250" in text


def test_the_recorded_corpora_have_the_folds_that_the_page_tells(speech_folder):
    emodb, ravdess = (two_step.folds(open_corpus(speech_folder / n)) for n in ("emodb", "ravdess"))
    assert (len(emodb), len(ravdess)) == (10, 5)
    assert ravdess[0].name == "ravdess_17 ravdess_18 ravdess_19 ravdess_20"
