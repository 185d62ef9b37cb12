"""Supervised training on chunks: ArcFace and softmax, stages, exact resume, refusals."""

from dataclasses import replace

import pytest
import torch

from refine import encoders, runs, supervised
from refine.corpus import open_corpus
from refine.encoders import speaker
from refine.losses.arcface import arcface
from refine.runs import Run
from refine.supervised import Classifier, Supervised
from refine.training import TrainingError

QUICK = Supervised(
    seconds=0.3, epochs=10 / 3, batch_size=8, noise="made", rooms="made", precision="fp32",
    checkpoint_every=5, learning_rate=3e-3,
)  # fmt: skip


@pytest.fixture
def clips(tone_corpus):
    return open_corpus(tone_corpus).subset("train")  # 24 clips of four voices


def network():
    return speaker.build("ecapa_tdnn", channels=8, dim=12, pooling="stats")


def new_run(tmp_path, name="a"):
    return runs.create({"command": "train", "recipe": "supervised"}, tmp_path / name)


class StoppingRun(Run):
    @property
    def stop_requested(self):
        path = self.path / "metrics.jsonl"
        return path.exists() and '"step": 5' in path.read_text()


def test_the_defaults_are_the_x_vector_of_the_paper():
    given = Supervised()
    assert (given.loss, given.scale, given.margin, given.subcentres) == ("arcface", 30, 0.3, 1)


@pytest.mark.parametrize("loss", ["arcface", "softmax"])
def test_ten_steps_equal_five_a_resume_and_five_more_bit_for_bit(clips, tmp_path, loss):
    settings = replace(QUICK, loss=loss)
    whole, halves = new_run(tmp_path, "a"), new_run(tmp_path, "b")
    labels = clips.speakers
    supervised.train(network(), clips, labels, settings, whole)
    stopped, _ = supervised.train(network(), clips, labels, settings, StoppingRun(halves.path))
    assert stopped == "stopped"
    ended, _ = supervised.train(network(), clips, labels, settings, halves, resume=True)
    assert ended == "finished"
    files = [run.checkpoints / "step-000010" / "state.safetensors" for run in (whole, halves)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert encoders.load(whole.path).width() == 12


def test_the_loss_is_arcface_with_a_margin_that_rises(clips, tmp_path):
    settings = replace(QUICK, margin_epochs=2.0, subcentres=2, inter_margin=0.1)
    classifier = Classifier(network(), sorted(set(clips.speakers)), settings)
    aim = supervised.Objective(
        classifier, supervised._source(clips, settings), clips.speakers, settings
    )
    for step, share in ((1, 1 / 6), (3, 0.5), (60, 1.0)):
        batch = aim.batch(step)
        with torch.no_grad():
            found = aim.loss(batch)
            z = classifier.encoder.embed(batch.long, batch.long_lengths)
            labels = torch.tensor([classifier.classes.index(clips.speakers[r]) for r in batch.rows])
            expected = arcface(z, classifier.centres, labels, 30.0, 0.3 * share, 2, 0.1)
        torch.testing.assert_close(found.total, expected.total)


@pytest.mark.parametrize("loss", ["arcface", "softmax"])
def test_voices_are_learned(clips, tmp_path, loss):
    settings = replace(
        QUICK, loss=loss, epochs=40, noise_share=0.0, room_share=0.0, learning_rate=1e-2, margin=0.1
    )
    run = new_run(tmp_path)
    supervised.train(network(), clips, clips.speakers, settings, run)
    accuracy = run.metrics()["accuracy"]
    assert accuracy.tail(10).mean() > max(0.5, accuracy.head(5).mean() + 0.2)  # chance: 0.25


def test_a_classifier_goes_on_with_its_head(clips, tmp_path):
    first = replace(QUICK, stage="last", epochs=1)
    _, classifier = supervised.train(
        network(), clips, clips.speakers, first, new_run(tmp_path, "a")
    )
    centres = classifier.centres
    _, same = supervised.train(
        classifier, clips, clips.speakers, replace(QUICK, epochs=1), new_run(tmp_path, "b")
    )
    assert same is classifier
    assert same.centres is centres
    assert all(p.requires_grad for p in same.encoder.parameters())


def test_one_class_or_missing_labels_are_refused(clips, tmp_path):
    with pytest.raises(TrainingError, match=r"one class \(a\) teaches nothing"):
        supervised.train(network(), clips, ["a"] * 24, QUICK, new_run(tmp_path))
    with pytest.raises(TrainingError, match="got 3 labels for 24 clips"):
        supervised.train(network(), clips, ["a", "b", "c"], QUICK, new_run(tmp_path))
