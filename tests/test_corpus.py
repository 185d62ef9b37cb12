"""Corpora: the table, splits that keep voices apart, fingerprints, and decoding only once."""

import hashlib
import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from speech import clips, dropped, make_corpus, manifest, noise, notes, tone, voice, write

from refine import audio, corpus_scan, paths
from refine.audio import AudioError
from refine.corpus import CorpusError, Problem, fingerprint, open_corpus


def on_one_side(groups, splits):
    """Whether no group has clips in two splits."""
    return len(set(zip(groups, splits, strict=True))) == len(set(groups))


def test_the_table_is_the_contract(tone_corpus):
    corpus = open_corpus(tone_corpus)
    assert list(corpus.table) == [
        *("clip", "split", "duration_s", "text"),
        *("speaker", "content", "emotion"),
    ]
    assert corpus.name == "tones"
    assert corpus.root == tone_corpus.resolve()
    assert corpus.factors == ("speaker", "content", "emotion")
    assert len(corpus) == 6 * 3 * 2
    assert corpus.table.index.equals(pd.RangeIndex(36))
    assert corpus.table.loc[1].tolist()[4:] == ["s00", "one", "glad"]
    # the length is 0.4 s + 0.1 s x ((speaker + 2 content + 3 take) mod 7)
    assert corpus.table["duration_s"][:6].tolist() == pytest.approx([0.4, 0.7, 0.6, 0.9, 0.8, 0.4])
    assert corpus.total_duration_s == pytest.approx(corpus.table["duration_s"].sum())
    assert corpus.counts("content").to_dict() == {"one": 12, "three": 12, "two": 12}
    assert corpus.problems == ()
    assert len(corpus.waveform("00/one_0.wav")) == 6_400
    assert corpus.path("00/one_0.wav") == tone_corpus / "00" / "one_0.wav"


def test_constants_and_ids_are_offered_last(tmp_path):
    header = ("path", "id", "language", "mood", "text")
    rows = [(f"{i}.wav", f"id{i}", "en", "ab"[i % 2], f"text {i}") for i in range(4)]
    corpus = open_corpus(manifest(tmp_path, header, *rows))
    assert corpus.factors == ("mood", "language", "id")
    assert corpus.speakers is None
    assert corpus.groups.tolist() == corpus.table["clip"].tolist()


def test_a_clip_that_changed_is_not_passed_off(tone_corpus):
    corpus = open_corpus(tone_corpus)
    first, second = corpus.table["clip"][:2]
    write(corpus.path(first), noise(0.5))
    with pytest.raises(AudioError, match="changed since the corpus was opened; open"):
        corpus.waveform(first)
    corpus.path(second).unlink()
    with pytest.raises(AudioError, match="file not found"):
        corpus.waveform(second)
    with pytest.raises(CorpusError, match=r"tones: no usable clip named \.\./x\.wav"):
        corpus.waveform("../x.wav")


# splits


def many(n):
    """Rows of a manifest, one speaker a clip."""
    return [(f"{i:03}.wav", f"speaker {i}") for i in range(n)]


@pytest.mark.parametrize(
    ("speakers", "train", "dev", "test"),
    [(2, 1, 0, 1), (3, 1, 1, 1), (4, 2, 1, 1), (10, 7, 1, 2), (20, 14, 3, 3), (41, 29, 6, 6)],
)
def test_seventy_fifteen_fifteen_by_speakers(tmp_path, speakers, train, dev, test):
    corpus = open_corpus(manifest(tmp_path, ("path", "speaker"), *many(speakers)))
    found = corpus.counts("split").to_dict()
    assert (found["train"], found.get("dev", 0), found["test"]) == (train, dev, test)


def test_a_speaker_is_on_one_side(tone_corpus):
    table = open_corpus(tone_corpus).table
    assert on_one_side(table["speaker"], table["split"])
    assert set(table["split"]) == {"train", "dev", "test"}


def test_the_split_is_the_same_everywhere(tone_corpus):
    """By hand: speakers in the order of SHA-256("seed:speaker"); test, dev, train in turn."""
    order = sorted(
        (f"s{i:02}" for i in range(6)), key=lambda s: hashlib.sha256(f"0:{s}".encode()).hexdigest()
    )
    table = open_corpus(tone_corpus).table
    found = dict(zip(table["speaker"], table["split"], strict=True))
    assert [found[s] for s in order] == ["test", "dev", "train", "train", "train", "train"]
    assert {s for s, split in found.items() if split != "train"} == {"s01", "s03"}  # pinned
    assert len({open_corpus(tone_corpus, seed=s).fingerprint for s in range(4)}) > 1


def test_unknown_speakers_are_split_clip_by_clip(tmp_path):
    rows = [(f"{i:03}.wav", f"s{i % 5}" if i < 20 else "") for i in range(60)]
    corpus = open_corpus(manifest(tmp_path, ("path", "speaker"), *rows))
    known = corpus.table[corpus.table["speaker"] != ""]
    assert on_one_side(known["speaker"], known["split"])
    loose = corpus.table[corpus.table["speaker"] == ""]
    assert loose["split"].value_counts().to_dict() == {"train": 28, "dev": 6, "test": 6}
    assert len(set(corpus.groups)) == 5 + 40  # each unknown voice for itself
    assert corpus.speakers.tolist().count("") == 40


def test_copies_of_one_recording_stay_together(tmp_path):
    for number in range(10):
        for copy in "abc":
            write(tmp_path / f"{copy}{number}.wav", tone(0.2, 200 + 10 * number))
    table = open_corpus(tmp_path).table
    assert on_one_side(table["clip"].str[1:], table["split"])
    assert set(table["split"]) == {"train", "dev", "test"}


def test_clips_without_a_split_go_with_their_speaker(tmp_path):
    header = ("path", "speaker", "split")
    rows = ("a.wav", "x", "test"), ("b.wav", "x", ""), ("c.wav", "y", ""), ("d.wav", "", "")
    corpus = open_corpus(manifest(tmp_path, header, *rows))
    assert corpus.table["split"].tolist() == ["test", "test", "train", "train"]
    assert any("3 clips have no split" in note for note in notes(corpus))


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([("a.wav", "x")], "one clip only: nothing can be compared"),
        ([("a.wav", "x"), ("b.wav", "x")], "one speaker only: nothing can be tested on an unseen"),
        ([("a.wav", "x"), ("b.wav", "x")], "no clip is in test, all are in train"),
        ([("a.wav", ""), ("b.wav", "")], "no speakers are known: the same voice may be in"),
    ],
)
def test_what_cannot_be_split_still_opens_and_says_so(tmp_path, rows, note):
    corpus = open_corpus(manifest(tmp_path, ("path", "speaker"), *rows))
    assert len(corpus) == len(rows)
    assert any(text.startswith(note) for text in notes(corpus))
    if rows[0][1]:
        assert set(corpus.table["split"]) == {"train"}


def test_a_given_split_that_shares_voices_is_noted(tmp_path):
    rows = ("a.wav", "x", "train"), ("b.wav", "x", "test"), ("c.wav", "y", "train")
    corpus = open_corpus(manifest(tmp_path, ("path", "speaker", "split"), *rows))
    assert any("1 speakers are in more than one split (x)" in note for note in notes(corpus))


# fingerprints and subsets


def test_a_fingerprint_is_of_the_content(tone_corpus, tmp_path):
    before = open_corpus(tone_corpus).fingerprint
    listing = tone_corpus / "clips.csv"
    header, *rows = listing.read_text().splitlines()
    listing.write_text("\n".join([header, *rows[::-1]]))
    moved = tone_corpus.rename(tmp_path / "elsewhere")
    assert open_corpus(moved).fingerprint == before
    (moved / "clips.csv").write_text("\n".join([header, *rows]).replace("glad", "sad", 1))
    assert open_corpus(moved).fingerprint != before
    (moved / "clips.csv").write_text("\n".join([header, *rows]))
    assert open_corpus(moved).fingerprint == before
    write(moved / "00" / "one_0.wav", voice(100, "one", 0.4, seed=99))
    assert open_corpus(moved).fingerprint != before


def test_a_fingerprint_cannot_be_confused_by_separators():
    def of(*cells):
        table = pd.DataFrame([("a", *cells)], columns=["clip", "x", "y"])
        return fingerprint(table, {"a": "0"})

    assert len({of("1", "2"), of("1,2", ""), of('1","2', ""), of("", "12")}) == 4


def test_subsets(tone_corpus):
    corpus = open_corpus(tone_corpus)
    parts = [corpus.subset(split=split) for split in ("train", "dev", "test")]
    assert [len(part) for part in parts] == [24, 6, 6]
    prints = {part.fingerprint for part in (corpus, *parts)}
    assert len(prints) == 4
    test = parts[2]
    chosen = test.table["clip"].tolist()[::-1]
    assert corpus.subset(clips=chosen).fingerprint == test.fingerprint
    assert corpus.subset(clips=chosen).table["clip"].tolist() == chosen[::-1]
    assert corpus.subset(clips=corpus.table["clip"]).fingerprint == corpus.fingerprint
    assert test.table.index.equals(pd.RangeIndex(6))
    assert len(corpus.subset(split="test", clips=chosen[:2])) == 2


def test_subsets_refuse(tone_corpus):
    corpus = open_corpus(tone_corpus)
    with pytest.raises(CorpusError, match="no clip in split holdout; clips there are: train 24"):
        corpus.subset(split="holdout")
    with pytest.raises(CorpusError, match=r"no usable clip named x\.wav"):
        corpus.subset(clips=["x.wav"])
    with pytest.raises(CorpusError, match="no clip in the clips asked for"):
        corpus.subset(clips=[])
    with pytest.raises(CorpusError, match="has no factor mood; it has speaker, content, emotion"):
        corpus.counts("mood")


def test_a_subset_keeps_its_own_problems(tmp_path):
    write(tmp_path / "a.wav", np.clip(tone(0.3, level=5.0), -1, 1))
    clips(tmp_path, "b.wav")
    corpus = open_corpus(tmp_path)
    assert corpus.subset(clips=["b.wav"]).problems == ()
    (warning,) = corpus.subset(clips=["a.wav"]).problems
    assert isinstance(warning, Problem)
    assert warning.reason.startswith("clipped")


# the scan


def test_a_second_opening_decodes_nothing(tone_corpus, monkeypatch):
    seen = []
    first = open_corpus(tone_corpus, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 36) for i in range(1, 37)]
    inspect = audio.inspect
    with monkeypatch.context() as patched:
        patched.setattr(audio, "inspect", lambda _: pytest.fail("decoded again"))
        second = open_corpus(tone_corpus)
    assert second.fingerprint == first.fingerprint
    changed = write(tone_corpus / "00" / "one_0.wav", noise(0.7))
    decoded = []
    monkeypatch.setattr(audio, "inspect", lambda path: (decoded.append(path), inspect(path))[1])
    third = open_corpus(tone_corpus)
    assert decoded == [changed]
    assert third.fingerprint != first.fingerprint


def test_the_cache_is_a_convenience(tone_corpus, monkeypatch, tmp_path):
    before = open_corpus(tone_corpus).fingerprint
    for store in (paths.cache() / "corpora").iterdir():
        store.write_text("{half of a")
    assert open_corpus(tone_corpus).fingerprint == before
    (tmp_path / "file").write_text("no folder can be made below a file")
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path / "file" / "cache"))
    assert open_corpus(tone_corpus).fingerprint == before


def test_somebody_who_stops_half_way_keeps_the_half(tone_corpus, monkeypatch):
    def stop(done, _total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_corpus(tone_corpus, progress=stop)
    decoded = itertools.count()
    inspect = audio.inspect
    monkeypatch.setattr(audio, "inspect", lambda path: (next(decoded), inspect(path))[1])
    open_corpus(tone_corpus)
    assert next(decoded) == 26


def test_changed_rules_make_old_scans_worthless(tone_corpus, monkeypatch):
    open_corpus(tone_corpus)
    monkeypatch.setattr(corpus_scan, "RULES", (*corpus_scan.RULES, "stricter"))
    decoded = []
    inspect = audio.inspect
    monkeypatch.setattr(audio, "inspect", lambda path: (decoded.append(path), inspect(path))[1])
    open_corpus(tone_corpus)
    assert len(decoded) == 36


def test_a_page_opens_a_corpus_without_torch(tone_corpus):
    code = (
        "import sys; from refine.corpus import open_corpus; "
        f"corpus = open_corpus({str(tone_corpus)!r}); corpus.waveform(corpus.table['clip'][0]); "
        "assert 'torch' not in sys.modules and 'streamlit' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=paths.ROOT, env=dict(os.environ))


# recorded speech


def test_every_recorded_corpus_opens(speech_folder):
    folders = sorted(
        p.parent for p in speech_folder.glob("*/clips.csv") if p.parent.name != "pretrain"
    )
    assert folders
    for folder in folders:
        corpus = open_corpus(folder)
        listed = len((folder / "clips.csv").read_text().splitlines()) - 1
        assert len(corpus) + len(dropped(corpus)) == listed, folder.name
        assert not dropped(corpus), folder.name
        if corpus.speakers is not None:
            assert on_one_side(corpus.speakers, corpus.table["split"]), folder.name


def test_written_durations_agree_with_measured_ones(speech_folder):
    corpus = open_corpus(speech_folder / "ravdess")
    listed = pd.read_csv(speech_folder / "ravdess" / "clips.csv")
    np.testing.assert_allclose(corpus.table["duration_s"], listed["duration_s"], atol=6e-4)
    assert corpus.counts("speaker").tolist() == [30] * 20


def test_2400_clips_open_in_half_a_second(speech_folder):
    open_corpus(speech_folder / "arabic_commands")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        corpus = open_corpus(speech_folder / "arabic_commands")
        times.append(time.perf_counter() - start)
    assert len(corpus) == 2_400
    assert min(times) < 0.5


def test_speech_without_splits_or_all_speakers(speech_folder, tmp_path):
    """`pretrain` has no split and unknown speakers; its list over a few of its clips."""
    if not (speech_folder / "pretrain").is_dir():
        pytest.skip(f"no pretrain corpus in {speech_folder}")
    header, *rows = (speech_folder / "pretrain" / "clips.csv").read_text().splitlines()
    chosen = rows[::20]
    for row in chosen:
        path = tmp_path / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(speech_folder / "pretrain" / row.split(",")[0])
    (tmp_path / "clips.csv").write_text("\n".join([header, *chosen]))
    corpus = open_corpus(tmp_path)
    assert len(corpus) == len(chosen)
    assert set(corpus.table["split"]) == {"train", "dev", "test"}
    known = corpus.table[corpus.table["speaker"] != ""]
    assert 0 < len(known) < len(corpus)
    assert on_one_side(known["speaker"], known["split"])


def test_factorial_fixture_is_factorial(tmp_path):
    folder = make_corpus(tmp_path / "small", speakers=2, takes=1, columns=("path", "content"))
    assert open_corpus(folder).factors == ("content",)
