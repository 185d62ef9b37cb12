"""The transfer study: schedules, folds of speakers, whole clips at test, refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from refine import transfer
from refine.corpus import open_corpus
from refine.encoders import speaker
from refine.splits import ProbeError
from refine.transfer import Transfer, fine_tune, predict, speaker_folds, study

QUICK = Transfer(
    seconds=0.3, head_epochs=1.0, all_epochs=1.0, batch_size=8, noise="made", rooms="made"
)


@pytest.fixture
def corpus(tone_corpus):
    return open_corpus(tone_corpus)


def network():
    return speaker.build("ecapa_tdnn", channels=8, dim=12, pooling="stats")


def test_two_stages_and_one_have_as_many_epochs():
    last, every = QUICK.stages()
    assert (last.stage, every.stage) == ("last", "all")
    assert every.encoder_scale == 0.1
    (once,) = replace(QUICK, schedule="all_at_once").stages()
    assert once.stage == "all"
    assert once.epochs == last.epochs + every.epochs
    assert {stage.loss for stage in (last, every, once)} == {"softmax"}


def test_without_augmentation_there_is_neither_noise_nor_room():
    for stage in replace(QUICK, augmented=False).stages():
        assert (stage.noise_share, stage.room_share) == (0.0, 0.0)
    assert QUICK.stages()[0].noise_share == 0.7


def test_words_of_new_voices_are_learned(corpus, tmp_path):
    settings = replace(QUICK, head_epochs=6.0, all_epochs=20.0, head_rate=5e-3, augmented=False)
    speakers = corpus.speakers
    test = np.isin(speakers, sorted(set(speakers))[:2])
    clips = corpus.table["clip"].to_numpy()
    tuned = fine_tune(
        network(), corpus.subset(clips=clips[~test].tolist()), "content", settings, tmp_path
    )
    told = predict(tuned, corpus.subset(clips=clips[test].tolist()))
    assert tuned.classes == ["one", "three", "two"]
    assert (told == corpus.table["content"][test]).mean() > 0.6  # chance 1/3


def test_a_prediction_hears_the_whole_clip_and_padding_changes_nothing(corpus, tmp_path):
    tuned = fine_tune(network(), corpus, "content", QUICK, tmp_path)
    tuned.encoder.eval()
    together = predict(tuned, corpus)
    for row in (0, 7, 20):
        alone = predict(tuned, corpus.subset(clips=[corpus.table["clip"][row]]))
        assert alone[0] == together[row]


def test_every_speaker_is_tested_once_and_trained_on_in_no_fold_of_its_own(corpus):
    sides = speaker_folds(corpus, 3)
    assert (np.sum(sides, axis=0) == 1).all()
    for side in sides:
        assert not set(corpus.speakers[side]) & set(corpus.speakers[~side])
        assert side.sum() == 12


def test_a_study_has_a_row_a_cell_with_intervals_by_speaker(corpus, tmp_path):
    seen = []
    cells = [QUICK, replace(QUICK, schedule="all_at_once", augmented=False)]
    rows = study(network, corpus, "content", cells, tmp_path, folds=2, done=seen.append)
    assert rows == seen
    assert [row["settings"]["schedule"] for row in rows] == ["two_stage", "all_at_once"]
    for row in rows:
        assert set(row["numbers"]) == {"accuracy", "uar", "macro_f1"}
        assert row["numbers"]["uar"]["groups"] == 6
        right = np.mean(np.array(row["truth"]) == np.array(row["predicted"]))
        assert row["numbers"]["accuracy"]["value"] == pytest.approx(right)


def test_a_study_repeats_for_a_seed(corpus, tmp_path):
    one, two = (study(network, corpus, "content", [QUICK], tmp_path / n, 2) for n in "ab")
    assert one[0]["predicted"] == two[0]["predicted"]


def test_senseless_studies_are_refused(corpus, tone_corpus, tmp_path):
    with pytest.raises(ProbeError, match="has no factor mood; it has"):
        fine_tune(network(), corpus, "mood", QUICK, tmp_path)
    with pytest.raises(ProbeError, match="6 speakers cannot fill 7 folds"):
        speaker_folds(corpus, 7)
    table = pd.read_csv(tone_corpus / "clips.csv").assign(emotion="calm")
    table.drop(columns="speaker").to_csv(tone_corpus / "clips.csv", index=False)
    silent = open_corpus(tone_corpus)
    with pytest.raises(ProbeError, match="emotion: got one class"):
        fine_tune(network(), silent, "emotion", QUICK, tmp_path)
    with pytest.raises(ProbeError, match="no speaker column"):
        study(network, silent, "content", [QUICK], tmp_path)


def test_a_transformer_is_tuned_too(corpus, tiny_encoder, tmp_path):
    from refine import encoders

    encoder = encoders.load(tiny_encoder())
    kept = encoder.model.feature_projection.projection.weight.clone()
    tuned = transfer.fine_tune(encoder, corpus, "content", QUICK, tmp_path)
    assert not torch.equal(kept, encoder.model.feature_projection.projection.weight)
    assert len(predict(tuned, corpus)) == len(corpus.table)
