"""Labels: which clips train, which are held out, what is refused before anything is trained."""

import numpy as np
import pandas as pd
import pytest

from refine import supervision
from refine.corpus import open_corpus
from refine.supervision import HeldOut, SupervisionError, pairs_told, resolve_apart, rows_of


def opened(folder, **columns):
    """The corpus with columns replaced (None: taken out)."""
    table = pd.read_csv(folder / "clips.csv", dtype=str)
    for name, values in columns.items():
        table = table.drop(columns=name) if values is None else table.assign(**{name: values})
    table.to_csv(folder / "clips.csv", index=False)
    return open_corpus(folder)


def test_the_own_dev_split_is_held_out(tone_corpus):
    corpus = open_corpus(tone_corpus)
    rows = rows_of(corpus, "content", "speaker", 0)
    split = corpus.table["split"].to_numpy()
    assert rows.train.tolist() == np.flatnonzero(split == "train").tolist()
    assert rows.held_out.tolist() == np.flatnonzero(split == "dev").tolist()
    assert rows.notes == ()


def test_without_a_dev_split_speakers_of_train_are_held_out(tone_corpus):
    corpus = opened(tone_corpus, split=["train"] * 36)
    rows = rows_of(corpus, "content", "speaker", 0)
    speakers = corpus.table["speaker"].to_numpy()
    assert not set(speakers[rows.train]) & set(speakers[rows.held_out])
    assert sorted([*rows.train, *rows.held_out]) == list(range(36))
    assert len(rows.held_out) == 6
    assert "held out: 6 of the train clips" in rows.notes[0]
    again = rows_of(corpus, "content", "speaker", 0)
    assert again.held_out.tolist() == rows.held_out.tolist()
    others = {tuple(rows_of(corpus, "content", "speaker", seed).held_out) for seed in range(6)}
    assert len(others) > 1


def test_a_dev_split_that_shares_a_speaker_is_not_used(tone_corpus):
    corpus = opened(tone_corpus, split=["train", "dev"] * 18)
    rows = rows_of(corpus, "content", "speaker", 0)
    speakers = corpus.table["speaker"].to_numpy()
    assert not set(speakers[rows.train]) & set(speakers[rows.held_out])


def test_the_speaker_itself_is_held_out_by_content(tone_corpus):
    corpus = open_corpus(tone_corpus)
    assert resolve_apart(corpus, "speaker", "auto") == "content"
    rows = rows_of(corpus, "speaker", "content", 0)
    table = corpus.table
    assert set(table["speaker"][rows.held_out]) == set(table["speaker"][rows.train])
    assert not set(table["content"][rows.held_out]) & set(table["content"][rows.train])


def test_clips_without_a_class_are_left_out(tone_corpus):
    corpus = opened(tone_corpus, emotion=["", *["calm", "glad"] * 17, "calm"])
    rows = rows_of(corpus, "emotion", "speaker", 0)
    assert 0 not in rows.train
    assert "1 train clips have no emotion" in rows.notes[0]


def test_apart_is_the_speaker_unless_told_otherwise(tone_corpus):
    corpus = open_corpus(tone_corpus)
    assert resolve_apart(corpus, "emotion", "auto") == "speaker"
    assert resolve_apart(corpus, "emotion", "content") == "content"
    assert resolve_apart(corpus, "emotion", "none") == "none"


def test_without_speakers_it_says_what_to_do(tone_corpus):
    corpus = opened(tone_corpus, speaker=None)
    with pytest.raises(
        SupervisionError, match=r"no column speaker.*; it has content; add.*to none"
    ):
        resolve_apart(corpus, "emotion", "auto")
    assert resolve_apart(corpus, "speaker", "auto") == "content"
    rows = rows_of(corpus, "emotion", "none", 0)
    assert len(rows.held_out) >= 5


def test_an_empty_speaker_column_is_named_as_such(tone_corpus):
    corpus = opened(tone_corpus, speaker=[""] * 36)
    with pytest.raises(SupervisionError, match="no column speaker"):
        resolve_apart(corpus, "emotion", "speaker")


@pytest.mark.parametrize(
    ("columns", "factor", "told"),
    [
        ({}, "mood", r"mood: no such factor in tones; there is speaker, content, emotion"),
        ({"emotion": ["calm"] * 36}, "emotion", r"emotion: one class \(calm\) in the train split"),
        (
            {"emotion": ["rage", *["calm", "glad"] * 17, "calm"], "split": ["train"] * 36},
            "emotion",
            r"emotion: 1 class with one clip in the train split of tones \(rage\)",
        ),
        (
            {"speaker": ["one"] * 36, "split": ["train"] * 36},
            "emotion",
            r"one speaker \(one\) in the train split and no usable dev split",
        ),
        (
            {"speaker": ["a"] * 18 + ["b"] * 18, "split": ["train"] * 36}
            | {"emotion": ["calm"] * 18 + ["glad"] * 18},
            "emotion",
            r"every speaker is needed for two train clips of each class",
        ),
    ],
)
def test_labels_that_cannot_be_trained_on_are_refused(tone_corpus, columns, factor, told):
    corpus = opened(tone_corpus, **columns)
    with pytest.raises(SupervisionError, match=told):
        rows_of(corpus, factor, "speaker", 0)


def test_too_few_held_out_clips_are_refused(tone_corpus):
    split = ["train"] * 24 + ["dev"] * 4 + ["test"] * 8
    corpus = opened(tone_corpus, split=split)
    with pytest.raises(SupervisionError, match="content: 4 held-out clips of tones; at least 5"):
        rows_of(corpus, "content", "none", 0)


def test_a_clip_shorter_than_a_frame_is_refused_by_name(tone_corpus):
    corpus = open_corpus(tone_corpus)
    corpus.table.loc[3, "duration_s"] = 0.01
    with pytest.raises(SupervisionError, match=f"{corpus.table['clip'][3]}: 0.010 s is shorter"):
        supervision.refuse_short(corpus, np.arange(10), 400, "mini")


def test_pairs_told_by_a_slow_loop():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(14, 4)) + 2, np.array(list("aaaabbbbccccdd"))
    x[labels == "a"] += [3, 0, 0, 0]
    near, far = [], []
    for i in range(14):
        for j in range(i + 1, 14):
            cosine = x[i] @ x[j] / np.sqrt(x[i] @ x[i]) / np.sqrt(x[j] @ x[j])
            (near if labels[i] == labels[j] else far).append(1 - cosine)
    threshold = np.mean(near) + 3 * np.std(near)
    expected = (np.mean(np.array(near) <= threshold) + np.mean(np.array(far) > threshold)) / 2
    assert pairs_told(x, labels) == pytest.approx(expected)
    assert pairs_told(x * 7, labels) == pytest.approx(expected)


def test_pairs_told_closed_forms_and_refusal():
    corners = np.repeat(np.eye(3), 4, axis=0)
    labels = np.repeat(["a", "b", "c"], 4)
    corners[::4] *= 2  # length does not matter
    assert pairs_told(corners, labels) == 1
    with pytest.raises(ValueError, match="pairs of one kind alone"):
        pairs_told(corners, np.array(["a"] * 12))


class Space:
    """Vectors of a corpus that know the content, or nothing."""

    def __init__(self, corpus, spread):
        codes = np.unique(corpus.table["content"], return_inverse=True)[1]
        rng = np.random.default_rng(0)
        self.x = np.eye(3)[codes] + spread * rng.normal(size=(len(codes), 3))

    def vectors(self, rows):
        return self.x[rows]


def test_held_out_clips_show_whether_classes_are_told(tone_corpus):
    corpus = open_corpus(tone_corpus)
    rows = rows_of(corpus, "content", "speaker", 0)
    tight, loose = (
        HeldOut(Space(corpus, spread), corpus, "content", rows, 200, 0).measure()
        for spread in (0.01, 5.0)
    )
    assert set(tight) == {"n", "uar", "spread_ratio", "davies_bouldin", "pairs_told"}
    assert tight["uar"] == 1
    assert tight["spread_ratio"] < 0.05 < 0.5 < loose["spread_ratio"]
    assert tight["davies_bouldin"] < loose["davies_bouldin"]
    assert loose["uar"] < 1
    assert tight["n"] == len(rows.held_out)


def test_a_collapsed_space_is_no_error(tone_corpus):
    corpus = open_corpus(tone_corpus)
    space = Space(corpus, 0.0)
    space.x[:] = 1.0
    found = HeldOut(space, corpus, "content", rows_of(corpus, "content", "speaker", 0), 99, 0)
    assert "spread_ratio" not in found.measure()
