"""Engines: espeak grids, pseudo-speaker grids, and a cloning engine of the user's own."""

import numpy as np
import pandas as pd
import pytest
import speech

from refine import grid_engines
from refine.corpus import open_corpus
from refine.grid_engines import Supply
from refine.grids import GridError, recorded
from refine.recipes.interventional import Interventional


def sources_of(config, folder, **given):
    return grid_engines.sources(config, [Supply(open_corpus(folder), config.engines)], **given)


# -- espeak ----------------------------------------------------------------------------------------


def test_espeak_voices_all_say_everything(tmp_path):
    told = []
    folder = grid_engines.espeak(3, 2, cache=tmp_path, progress=lambda *n: told.append(n))
    assert told[-1] == (6, 6)
    corpus = open_corpus(folder)
    grid = recorded(corpus.table, complete=True)
    assert grid.sheets[0].shape == (3, 2)
    assert corpus.table["voice"].nunique() == 3
    assert len(corpus.table[["content", "text"]].drop_duplicates()) == 2
    assert set(corpus.table["split"]) == {"train"}
    stamp = (folder / "clips.csv").stat().st_mtime_ns
    assert grid_engines.espeak(3, 2, cache=tmp_path) == folder
    assert (folder / "clips.csv").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_rate_and_pitch_are_factors_where_asked():
    factors = ("speaker", "content", "rate", "pitch")
    source = grid_engines.of_espeak(2, 2, factors)
    assert source.grid.sheets[0].shape == (2, 2, 3, 3)
    slow = source.corpus.table.groupby("rate")["duration_s"].mean()
    assert slow["140"] > slow["175"] > slow["220"]


@pytest.mark.parametrize(("voices", "sentences", "what"), [(1, 4, "voices"), (4, 999, "sentences")])
def test_more_than_espeak_has_is_refused(voices, sentences, what):
    with pytest.raises(GridError, match=f"{what}: got .*espeak-ng has 2 to"):
        grid_engines.espeak(voices, sentences)


# -- pseudo-speakers -------------------------------------------------------------------------------


def test_pseudo_speakers_of_a_recorded_grid_are_more_speakers_of_the_same_words(tone_corpus):
    corpus = open_corpus(tone_corpus)
    source = grid_engines.of_pseudo_speakers(corpus, 3, recordings=1000)
    assert source.grid.sheets[0].shape == (4 * 3, 3)
    assert source.grid.names[1] == ("one", "three", "two")
    assert "s00" in source.grid.names[0]
    assert sum("as p01" in name for name in source.grid.names[0]) == 4
    assert set(source.corpus.table["split"]) == {"train"}
    assert source.family == corpus.name


def test_recordings_without_shared_words_have_a_sheet_a_speaker(tone_corpus):
    table = pd.read_csv(tone_corpus / "clips.csv")
    table["content"] = [f"u{i}" for i in range(len(table))]
    table.to_csv(tone_corpus / "clips.csv", index=False)
    source = grid_engines.of_pseudo_speakers(open_corpus(tone_corpus), 2, recordings=1000)
    assert [sheet.shape for sheet in source.grid.sheets] == [(2, 6)] * 4
    table.drop(columns=["content", "speaker"]).to_csv(tone_corpus / "clips.csv", index=False)
    source = grid_engines.of_pseudo_speakers(open_corpus(tone_corpus), 2, recordings=1000)
    assert source.grid.names[0] == ("p00", "p01")


def test_fewer_recordings_are_spread_over_speakers_and_words(tone_corpus):
    source = grid_engines.of_pseudo_speakers(open_corpus(tone_corpus), 2, recordings=12)
    table = source.corpus.table
    assert table["recording"].nunique() == 12
    assert len(table[["original", "content", "recording"]].drop_duplicates()) == 12
    assert source.grid.sheets[0].shape == (8, 3)


# -- mixtures --------------------------------------------------------------------------------------


def test_a_corpus_without_a_grid_is_left_to_its_pseudo_speakers(tone_corpus):
    table = pd.read_csv(tone_corpus / "clips.csv")
    table["content"] = [f"u{i}" for i in range(len(table))]
    table.to_csv(tone_corpus / "clips.csv", index=False)
    notes = []
    mixed = Interventional(engine="recorded+pseudo", pseudo_speakers=2)
    found = sources_of(mixed, tone_corpus, note=notes.append)
    assert len(found) == 1
    assert "its pseudo-speakers are a grid all the same" in notes[0]
    with pytest.raises(GridError, match="tones: no two values of speaker share two"):
        sources_of(Interventional(), tone_corpus)


def test_all_engines_together(tone_corpus):
    config = Interventional(
        engine="recorded+pseudo+espeak", pseudo_speakers=2, espeak_voices=2, espeak_sentences=2
    )
    found = sources_of(config, tone_corpus)
    assert [source.family for source in found] == ["tones", "tones", "espeak"]
    seconds, making = grid_engines.expected(
        config, [Supply(open_corpus(tone_corpus), config.engines)]
    )
    assert seconds > 3 * open_corpus(tone_corpus).subset("train").total_duration_s
    assert making > 0


def test_a_grid_with_holes_is_refused_where_that_is_asked(tone_corpus):
    table = pd.read_csv(tone_corpus / "clips.csv")
    gone = (table["speaker"] == table["speaker"][0]) & (table["content"] == "two")
    table[~gone].to_csv(tone_corpus / "clips.csv", index=False)
    if table["speaker"][0] in set(open_corpus(tone_corpus).subset("train").table["speaker"]):
        refuse = Interventional(holes="refuse")
        with pytest.raises(GridError, match=r"tones: 1 of the 12 combinations .* s00 × two"):
            sources_of(refuse, tone_corpus)
    found = sources_of(Interventional(), tone_corpus)
    assert found[0].grid.sheets[0].shape in ((3, 3), (4, 2), (4, 3))


# -- a cloning engine ------------------------------------------------------------------------------


def test_your_engine_makes_a_grid_and_goes_on_where_it_stopped(tone_corpus, tmp_path):
    corpus, asked = open_corpus(tone_corpus), []

    def clone(reference, text):
        asked.append((len(reference), text))
        if len(asked) == 4:
            raise RuntimeError("out of memory")
        return speech.voice(120.0, "one" if text == "hello" else "two", 0.5, seed=len(asked))

    texts, out = ["hello", "good bye"], tmp_path / "cloned"
    with pytest.raises(RuntimeError):
        grid_engines.cloned(corpus, texts, clone, out)
    grid_engines.cloned(corpus, texts, clone, out)
    assert len(asked) == 4 * 2 + 1
    made = open_corpus(out)
    grid = recorded(made.table, complete=True)
    assert grid.sheets[0].shape == (4, 2)
    assert set(made.table["text"]) == set(texts)
    by_speaker = made.table.merge(
        corpus.table, left_on="reference", right_on="clip", suffixes=("", "_of_reference")
    )
    assert (by_speaker["speaker"] == by_speaker["speaker_of_reference"]).all()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros(8000), "silence or samples that are not finite"),
        (np.full(8000, np.nan), "silence or samples that are not finite"),
        (np.ones((2, 8000)), r"shape \(2, 8000\); expected 16 kHz mono"),
        (np.zeros(0), r"shape \(0,\)"),
    ],
)
def test_what_an_engine_returns_is_checked(tone_corpus, tmp_path, returned, message):
    with pytest.raises(GridError, match=message):
        grid_engines.cloned(
            open_corpus(tone_corpus), ["a", "b"], lambda *_: returned, tmp_path / "out"
        )


def test_one_text_is_no_grid(tone_corpus, tmp_path):
    with pytest.raises(GridError, match="4 speakers and 1 texts"):
        grid_engines.cloned(open_corpus(tone_corpus), ["a", "a"], None, tmp_path)


def test_a_folder_of_speakers_and_sentences_becomes_a_corpus(tmp_path):
    for pitch, speaker in ((120.0, "ann"), (180.0, "bob")):
        for content in speech.CONTENTS:
            speech.write(
                tmp_path / f"own/{speaker}/{content}.wav", speech.voice(pitch, content, 0.5)
            )
    assert grid_engines.listed(tmp_path / "own") == 6
    source = grid_engines.of_recordings(open_corpus(tmp_path / "own"))
    assert source.grid.summary == "2 speakers × 3 contents, 6 clips"
    with pytest.raises(GridError, match="has clips"):
        grid_engines.listed(tmp_path / "own")
    with pytest.raises(GridError, match=r"no recordings as <speaker>/<content>\.wav"):
        grid_engines.listed(tmp_path)
