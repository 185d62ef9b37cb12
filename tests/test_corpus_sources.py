"""Where clips come from: lists and trees, the good, the odd and the wrong."""

import json
import os
import sys
import types

import numpy as np
import pandas as pd
import pytest
from speech import clips, dropped, manifest, notes, sparse_wav, tone, write, write_csv

from refine import paths
from refine.corpus import CorpusError, open_corpus

# clips.csv


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"encoding": "utf-8-sig"},
        {"delimiter": ";", "encoding": "utf-8-sig"},
        {"delimiter": "\t", "encoding": "utf-16"},
    ],
)
def test_what_spreadsheets_write(tmp_path, options):
    rows = ["a.wav", "Jörg, sen."], ["b.wav", "Zoë"]
    corpus = open_corpus(manifest(tmp_path, ("Path ", "Speaker"), *rows, **options))
    assert corpus.table["speaker"].tolist() == ["Jörg, sen.", "Zoë"]


def test_separator_told_in_the_first_line(tmp_path):
    clips(tmp_path, "a.wav")
    (tmp_path / "clips.csv").write_bytes(b"sep=;\r\npath;split\r\na.wav;holdout\r\n")
    with pytest.raises(CorpusError, match=r"clips\.csv row 3: split is 'holdout'"):
        open_corpus(tmp_path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *[("train", "train"), ("Training", "train"), ("test", "test"), ("Testing", "test")],
        *[("val", "dev"), ("valid", "dev"), ("DEV", "dev"), ("validation", "dev")],
    ],
)
def test_split_names(tmp_path, written, read):
    corpus = open_corpus(manifest(tmp_path, ("path", "split"), ("a.wav", written)))
    assert corpus.table["split"].tolist() == [read]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"clips\.csv: the file is empty; expected a header"),
        (b"file,speaker\na.wav,x\n", "no column named path; found: file, speaker. Name the"),
        (b"path,speaker\n", r"clips\.csv: no clips in it"),
        (b"path,name\na.wav,Zo\xeb\n", r"not UTF-8 \(byte 0xeb in line 2\); save it again as"),
        (b"path,split\na.wav,train\n\na.wav,eval\n", r"row 4: split is 'eval'; expected train"),
        (b'path,text\na.wav,"' + b"x" * 200_000 + b'"\n', r"row 2: field larger"),
    ],
)
def test_a_list_that_is_wrong_is_refused(tmp_path, data, sentence):
    clips(tmp_path, "a.wav")
    (tmp_path / "clips.csv").write_bytes(data)
    with pytest.raises(CorpusError, match=sentence) as caught:
        open_corpus(tmp_path)
    assert "\n" not in str(caught.value)


def test_rows_that_are_wrong_are_named_and_the_others_go_on(tmp_path):
    root = clips(tmp_path / "corpus", "a.wav", "b/c.wav")
    clips(tmp_path, "outside.wav")
    rows = [
        ["./a.wav", "x"],
        ["b\\c.wav", "x"],  # written on Windows
        [str(root / "a.wav"), "y"],  # the same clip, by its whole path
        ["../outside.wav", "x"],
        [str(tmp_path / "outside.wav"), "x"],
        ["C:\\clips\\d.wav", "x"],
        ["b/../../outside.wav", "x"],
        ["", "x"],
        ["gone.wav", "x"],
        ["d.wav", "one, two", "three"],
    ]
    write_csv(root / "clips.csv", [("path", "speaker"), *rows])
    corpus = open_corpus(root)
    assert corpus.table["clip"].tolist() == ["a.wav", "b/c.wav"]
    assert corpus.table["speaker"].tolist() == ["x", "x"]
    found = dropped(corpus)
    assert found["a.wav"].startswith("listed twice")
    assert found["gone.wav"] == "file not found; check its name and folder"
    assert found[""] == "row 9 of clips.csv: the path is empty; fill it in or remove the row"
    assert "row 11 of clips.csv has 3 fields, the header 2; put quotes" in found["d.wav"]
    outside = [clip for clip, reason in found.items() if "outside the corpus; copy it" in reason]
    assert outside == [row[0] for row in rows[3:7]]


def test_columns_that_collide_with_ours(tmp_path):
    header = ("path", "clip", "layer", "Duration", "duration_ms", "age", "note", "", "age")
    rows = (
        ("a.wav", "1", "x", "0,5", "loud", "23", "nan", "0", "old"),
        ("b.wav", *"2x1l4", "", "", ""),
    )
    corpus = open_corpus(manifest(tmp_path, header, *rows))
    assert list(corpus.table)[4:] == [
        *("clip_factor", "layer_factor", "duration_ms", "age", "note", "age_2")
    ]
    assert corpus.table["age"].tolist() == ["23", "4"]  # numbers are categories here
    assert "note" not in corpus.factors  # nothing in it is known
    assert any("column clip of clips.csv is called clip_factor" in note for note in notes(corpus))


def test_measured_durations_replace_written_ones(tmp_path):
    header = ("path", "duration_s", "speaker")
    corpus = open_corpus(manifest(tmp_path, header, ("a.wav", "99", "x"), ("b.wav", "", "y")))
    assert corpus.table["duration_s"].tolist() == pytest.approx([0.20, 0.21])
    assert corpus.factors == ("speaker",)


def test_usual_names_of_speaker_and_text(tmp_path):
    header = ("path", "speaker_id", "transcription")
    corpus = open_corpus(manifest(tmp_path, header, ("a.wav", "x", "hello there")))
    assert corpus.table[["speaker", "text"]].to_numpy().tolist() == [["x", "hello there"]]


# the other sources


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_audiofolder(tmp_path, name):
    clips(tmp_path, "data/a.wav", "data/b.wav")
    a = {"file_name": "data/a.wav", "speaker_id": 7, "mood": "calm"}
    b = {"file_name": "data/b.wav", "speaker_id": 8, "mood": None, "tags": ["x"]}
    rows = [a, b]
    if name.endswith("csv"):
        pd.DataFrame(rows).drop(columns="tags").to_csv(tmp_path / name)
    else:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    corpus = open_corpus(tmp_path)
    assert corpus.table["clip"].tolist() == ["data/a.wav", "data/b.wav"]
    assert corpus.table["speaker"].tolist() == ["7", "8"]
    assert corpus.table["mood"].tolist() == ["calm", ""]


def test_audiofolder_with_a_folder_a_split(tmp_path):
    for split in ("train", "validation", "test"):
        rows = [(f"{i}.wav", f"{split}{i}") for i in range(2)]
        manifest(tmp_path / "data" / split, ("file_name", "speaker"), *rows, name="metadata.csv")
    corpus = open_corpus(tmp_path)
    assert corpus.table["clip"][0] == "data/test/0.wav"
    assert corpus.counts("split").to_dict() == {"dev": 2, "test": 2, "train": 2}
    assert corpus.table["speaker"][corpus.table["split"] == "dev"].tolist() == [
        *("validation0", "validation1")
    ]


def test_a_broken_line_of_json_is_named(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.wav"}\n{"file_name": \n')
    with pytest.raises(CorpusError, match=r"metadata\.jsonl line 2: no JSON"):
        open_corpus(tmp_path)


def test_a_tree_of_labels(tmp_path):
    names = ("happy/a.wav", "happy/b.wav", "sad/anna/c.flac", "sad/anna/d.wav")
    corpus = open_corpus(clips(tmp_path, *names, "sad/.hidden.wav", "__MACOSX/happy/a.wav"))
    assert corpus.table["clip"].tolist() == list(names)
    assert corpus.table["label"].tolist() == ["happy", "happy", "sad", "sad"]
    assert corpus.table["label_2"].tolist() == ["", "", "anna", "anna"]
    assert corpus.counts("label").to_dict() == {"happy": 2, "sad": 2}


def test_a_tree_with_a_folder_a_split(tmp_path):
    corpus = open_corpus(clips(tmp_path, "train/yes/a.wav", "test/yes/b.wav", "val/no/c.wav"))
    assert dict(zip(corpus.table["clip"], corpus.table["split"], strict=True)) == {
        "test/yes/b.wav": "test",
        "train/yes/a.wav": "train",
        "val/no/c.wav": "dev",
    }
    assert corpus.counts("label").to_dict() == {"yes": 2, "no": 1}


def test_one_folder_around_everything_is_no_split(tmp_path):
    corpus = open_corpus(clips(tmp_path, "data/train/yes/a.wav", "data/test/no/b.wav"))
    assert corpus.table["split"].tolist() == ["test", "train"]
    assert corpus.table["label"].tolist() == ["no", "yes"]


def test_a_flat_folder_has_no_factor(tmp_path):
    corpus = open_corpus(clips(tmp_path, "a.wav", "b.wav", "notes.txt.wav"))
    assert (len(corpus), corpus.factors) == (3, ())


def test_recordings_in_other_formats_are_never_left_out_silently(tmp_path):
    clips(tmp_path, "x/a.wav")
    (tmp_path / "x" / "b.m4a").write_bytes(b"....ftypM4A ")
    assert dropped(open_corpus(tmp_path)) == {
        "x/b.m4a": "m4a cannot be read; convert it to wav or flac"
    }
    (tmp_path / "x" / "a.wav").unlink()
    with pytest.raises(CorpusError, match="found 1 recordings in other formats, convert them"):
        open_corpus(tmp_path)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", "no such folder; give a folder with clips.csv"),
        ("a.wav", "a file, not a folder"),
        ("empty", r"no wav, flac, ogg or mp3 and no clips\.csv in it"),
        ("several", "holds 2 corpora; open one: one, two"),
    ],
)
def test_places_that_are_no_corpus(tmp_path, source, sentence):
    clips(tmp_path, "a.wav")
    (tmp_path / "empty").mkdir()
    manifest(tmp_path / "several" / "one", ("path",), ("a.wav",))
    manifest(tmp_path / "several" / "two", ("path",), ("a.wav",))
    with pytest.raises(CorpusError, match=sentence):
        open_corpus(tmp_path / source)


def test_no_name_is_not_the_working_directory():
    with pytest.raises(CorpusError, match="no corpus was named"):
        open_corpus("")


def test_a_manifest_names_its_folder(tone_corpus):
    opened = open_corpus(str(tone_corpus / "clips.csv"))
    assert opened.fingerprint == open_corpus(tone_corpus).fingerprint


def test_shipped_corpora_have_names(tmp_path, monkeypatch):
    clips(tmp_path / "clips", "a.wav", "b.wav")
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    demo = types.SimpleNamespace(demo_corpus=lambda progress: clips(tmp_path / "grid", "a.wav"))
    monkeypatch.setitem(sys.modules, "refine.demo", demo)
    assert [(open_corpus(n).name, len(open_corpus(n))) for n in ("samples", "demo")] == [
        *(("samples", 2), ("demo", 1))
    ]

    def silent(progress):
        raise ValueError("espeak-ng is not installed; install the extra synthesis")

    demo.demo_corpus = silent
    with pytest.raises(CorpusError, match="install the extra synthesis"):
        open_corpus("demo")


# bad recordings


def spoil(path, kind):
    if kind == "empty file":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no recording")
    elif kind == "folder":
        path.mkdir()
    elif kind == "3 samples":
        write(path, tone(0.2)[:3])
    elif kind == "silence":
        write(path, tone(0.2) * 0)
    elif kind == "NaN":
        write(path, np.full(3_200, np.nan, "f4"), subtype="FLOAT")
    elif kind == "two hours":
        sparse_wav(path, 7200)


BAD = {
    "missing": "file not found; check",
    "empty file": "the file is empty",
    "text": "not readable as wav",
    "folder": "this is a folder",
    "3 samples": "3 samples (0.0002 s) at 16 kHz; at least",
    "silence": "silent (nothing above -60 dBFS)",
    "NaN": "3200 samples are NaN",
    "two hours": "120 minutes long; the longest clip is 10 minutes",
}


def test_bad_recordings_are_named_and_the_others_go_on(tmp_path):
    good = ("good.wav", "fine.wav")
    names = [f"{kind}.wav" for kind in BAD]
    clips(tmp_path, *good)
    for kind, name in zip(BAD, names, strict=True):
        spoil(tmp_path / name, kind)
    write_csv(tmp_path / "clips.csv", [["path"], *([name] for name in (*good, *names))])
    corpus = open_corpus(tmp_path)
    assert corpus.table["clip"].tolist() == list(good)
    for name, sentence in zip(names, BAD.values(), strict=True):
        assert dropped(corpus)[name].startswith(sentence)
    # the same without a list, found by their names; only the missing one is not there to see
    (tmp_path / "clips.csv").unlink()
    assert set(dropped(open_corpus(tmp_path))) == set(names) - {"missing.wav"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only POSIX has pipes with a name")
def test_names_and_things_no_reader_expects(tmp_path):
    root = clips(tmp_path / "corpus", 'a/ü "q", z.wav', "b/y.wav")
    os.mkfifo(root / "pipe.wav")  # reading it would wait for ever
    (root / "loop").symlink_to(root)
    (root / "dead.wav").symlink_to(tmp_path / "gone.wav")
    corpus = open_corpus(root)
    assert corpus.table["clip"].tolist() == ['a/ü "q", z.wav', "b/y.wav"]
    assert set(dropped(corpus)) == {"pipe.wav", "dead.wav"}
    write_csv(root / "clips.csv", [["path"], ["x" * 300 + ".wav"], ["x\0y.wav"], ["b/y.wav"]])
    reasons = sorted(dropped(open_corpus(root)).values())
    assert reasons[0].startswith("cannot be read (File name too long)")
    assert reasons[1].startswith("file not found")


def test_eight_channels_and_192_khz_are_fine(tmp_path):
    loud = np.repeat(tone(0.5, 440, 192_000)[:, None], 8, axis=1)
    write(tmp_path / "a.wav", loud, 192_000)
    corpus = open_corpus(tmp_path)
    assert corpus.table["duration_s"].tolist() == [0.5]
    assert len(corpus.waveform("a.wav")) == 8_000


def test_warnings_do_not_drop(tmp_path):
    write(tmp_path / "a.wav", np.clip(tone(0.3, level=5.0), -1, 1))
    clips(tmp_path, "b.wav")
    corpus = open_corpus(tmp_path)
    assert len(corpus) == 2
    assert [p.clip for p in corpus.problems if p.clip and not p.dropped] == ["a.wav"]


def test_all_bad_names_the_first_and_counts(tmp_path):
    for number, kind in enumerate(("empty file", "text", "silence", "3 samples")):
        spoil(tmp_path / f"{number}.wav", kind)
    with pytest.raises(
        CorpusError, match=r"none of its 4 clips can be used\. 0\.wav: the file"
    ) as e:
        open_corpus(tmp_path)
    assert "1.wav: not readable" in str(e.value)
    assert "3.wav" not in str(e.value)
