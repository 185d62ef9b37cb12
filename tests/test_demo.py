import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refine import audio, demo
from refine.synthesis import SynthesisError, speak


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.demo_corpus(tmp_path_factory.mktemp("cache"))


def read(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "clips.csv")


def test_the_grid_is_complete(corpus):
    clips = read(corpus)
    assert tuple(clips.columns) == demo.COLUMNS
    assert len(clips) == 12 * 16
    names = [f"v{i:02d}" for i in range(1, 13)], [f"s{i:02d}" for i in range(1, 17)]
    assert list(zip(clips.speaker, clips.content, strict=True)) == list(itertools.product(*names))
    assert clips.groupby("content").text.nunique().eq(1).all()
    assert clips.text.nunique() == 16
    assert set(clips.path) == {path.name for path in corpus.iterdir()} - {"clips.csv"}


def test_splits_keep_speakers_apart_and_hold_both_genders(corpus):
    cast = read(corpus).drop_duplicates("speaker")
    assert len(cast) == 12  # so that no speaker has two splits
    assert cast.split.value_counts().to_dict() == {"train": 8, "dev": 2, "test": 2}
    assert cast.gender.value_counts().to_dict() == {"female": 6, "male": 6}
    assert cast.groupby("split").gender.nunique().eq(2).all()
    assert len({speaker.voice for speaker in demo.speakers()}) == 12


def test_every_clip_is_read_and_is_as_long_as_it_says(corpus):
    for clip in read(corpus).itertuples():
        header = audio.info(corpus / clip.path)
        assert (header.sample_rate, header.channels) == (audio.SAMPLE_RATE, 1)
        assert header.duration_s == pytest.approx(clip.duration_s, abs=1e-3)
        assert audio.find_problem(audio.load(corpus / clip.path)) is None


def test_a_clip_is_the_voice_speaking_the_text(corpus):
    clip = read(corpus).iloc[-1]
    expected = speak(clip.text, demo.speakers()[-1].voice)
    np.testing.assert_allclose(audio.load(corpus / clip.path), expected, atol=2**-15)


def test_a_second_call_speaks_nothing(corpus, monkeypatch):
    monkeypatch.setattr(demo, "speak_many", None)
    assert demo.demo_corpus(corpus.parent) == corpus


def test_the_cache_is_where_the_environment_says(corpus, monkeypatch):
    monkeypatch.setenv("REFINE_CACHE", str(corpus.parent))
    assert demo.demo_corpus() == corpus


def test_other_settings_are_another_folder(corpus, monkeypatch):
    monkeypatch.setattr(demo, "CONTENTS", 1)
    seen: list[tuple[int, int]] = []
    small = demo.demo_corpus(corpus.parent, lambda done, total: seen.append((done, total)))
    assert small != corpus
    assert seen == [(i, 12) for i in range(1, 13)]
    assert len(read(small)) == 12


def test_an_interrupted_corpus_leaves_nothing_behind(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.demo_corpus(tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    def missing(items):
        raise SynthesisError("install it with: pip install 'refine[synthesis]'")

    monkeypatch.setattr(demo, "speak_many", missing)
    with pytest.raises(SynthesisError, match="pip install"):
        demo.demo_corpus(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sentences_are_short_plain_and_different():
    texts = demo.sentences()
    assert len(texts) == len(set(texts)) == 120
    for text in texts:
        assert 4 <= len(text.split()) <= 10
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz ")
    for letter in "abcdefghijklmnopqrstuvwxyz":
        assert sum(letter in text for text in texts) >= 5


def test_sample_clips_open_without_espeak():
    folder = demo.ROOT / "assets/clips"
    clips = read(folder)
    assert tuple(clips.columns) == demo.COLUMNS
    assert len(clips) == 6
    assert set(clips.split) == {"train", "dev", "test"}
    assert sum(path.stat().st_size for path in folder.glob("*.ogg")) < 60_000
    for clip in clips.itertuples():
        waveform = audio.load(folder / clip.path)
        assert waveform.size / audio.SAMPLE_RATE == pytest.approx(clip.duration_s, abs=0.05)
