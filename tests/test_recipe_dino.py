"""DINO from corpus to encoder: the paper's defaults, exact resume, refusals, short runs."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from refine import dino_parts, distillation, encoders, options, runs
from refine.corpus import CorpusError, open_corpus
from refine.encoders.folder import read_refinement
from refine.options import OptionError
from refine.recipes import RECIPES, dino
from refine.recipes.dino import PRESETS, Dino
from refine.runs import Run
from refine.training import TrainingError

QUICK = Dino(
    long_seconds=0.3, short_seconds=0.15, min_seconds=0.4, noise="made", rooms="made", outputs=24,
    hidden=16, bottleneck=8, epochs=10 / 6, warmup_epochs=0.5, held_epochs=0.3, batch_size=4,
    learning_rate=0.05, channels=8, dim=12, precision="fp32", checkpoint_every=5, probe_every=5,
    probe_clips=6, momentum=0.9,
)  # fmt: skip


@pytest.fixture
def corpus(tone_corpus):
    """Six voices, three words: 24 clips of four voices to train on, one voice each in dev, test."""
    return tone_corpus


def changed(**changes):
    return Dino(**{**options.to_dict(QUICK), **changes})


def new_run(corpus, **changes):
    return runs.create({"command": "train", "recipe": "dino", "corpus": str(corpus), **changes})


def rows(run):
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def train_on(corpus, **columns):
    """Change the table of a corpus on disk."""
    table = pd.read_csv(corpus / "clips.csv", dtype=str)
    table.assign(**columns).to_csv(corpus / "clips.csv", index=False)
    return corpus


class StoppingRun(Run):
    """Asks for its own stop after a step."""

    def __init__(self, run, after):
        super().__init__(run.path)
        self.after = after

    @property
    def stop_requested(self):
        path = self.path / "metrics.jsonl"
        return path.exists() and f'"step": {self.after}' in path.read_text()


# -- options -----------------------------------------------------------------------------------


def test_the_defaults_are_the_papers():
    paper = PRESETS["paper"].config
    assert paper == Dino()
    assert (paper.long_seconds, paper.short_seconds, paper.min_seconds) == (4, 2, 4)
    assert (paper.long_views, paper.short_views, paper.spread_share) == (2, 4, 0)
    assert (paper.noise_share, paper.room_share) == (0.7, 0.45)
    assert (paper.outputs, paper.hidden, paper.bottleneck) == (65_536, 2048, 256)
    assert (paper.student_temperature, paper.teacher_temperature) == (0.1, 0.04)
    assert (paper.centre_momentum, paper.momentum) == (0.9, 0.996)
    assert (paper.epochs, paper.warmup_epochs, paper.held_epochs) == (70, 10, 1)
    assert (paper.learning_rate, paper.lowest_rate, paper.weight_decay) == (5e-3, 1e-6, 1e-4)
    assert (paper.optimizer, paper.clip_norm, paper.batch_size) == ("adam", 0, 96)
    assert (paper.cosine_weight, paper.cosine_epochs) == (0, 30)
    assert paper.pooling == "stats"


def test_the_settings_of_the_loop_follow_batch_and_epochs(corpus):
    clips = open_corpus(corpus).subset("train")
    settings = dino._settings(changed(epochs=3.0), dino_parts.views_of(QUICK, clips))
    assert settings.steps == 3 * (len(clips.table) // 4)
    assert settings.learning_rate == pytest.approx(0.05 * 4 / 256)
    assert settings.warmup_steps == 3
    assert (settings.optimizer, settings.amsgrad, settings.betas) == ("adam", True, (0.9, 0.95))
    assert (settings.schedule, settings.lowest_rate) == ("cosine", 1e-6)
    later = dino._settings(changed(optimizer="adamw"), dino_parts.views_of(QUICK, clips))
    assert (later.optimizer, later.amsgrad, later.betas) == ("adamw", False, (0.9, 0.99))


def test_every_option_has_help_and_every_preset_a_reason():
    for option in options.options(Dino):
        assert len(option.help) > 20, option.name
    assert all(len(preset.reason) > 40 for preset in PRESETS.values())
    assert RECIPES["dino"] == "refine.recipes.dino:Dino"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"batch_size": 1}, "batch_size"),
        ({"teacher_temperature": 0.0}, "teacher_temperature"),
        ({"momentum": 1.5}, "momentum"),
        ({"layers": "last"}, "layers"),
        ({"long_views": 1, "short_views": 0}, "short_views"),
        ({"short_seconds": 5.0}, "short_seconds"),
        ({"epochs": math.nan}, "epochs"),
        ({"on_collapse": "hope"}, "on_collapse"),
    ],
)
def test_senseless_options_are_refused_by_name(changes, field):
    with pytest.raises(OptionError, match=f"^{field}: got"):
        Dino(**changes)


def test_the_options_are_read_without_torch():
    import subprocess
    import sys

    code = "import sys, refine.recipes.dino; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["ecapa_tdnn", "hubert"])
def test_ten_steps_equal_five_a_resume_and_five_more_bit_for_bit(corpus, encoder, tiny_encoder):
    name = tiny_encoder("hubert") if encoder == "hubert" else encoder
    whole, halves = new_run(corpus, name="whole"), new_run(corpus, name="halves")
    assert dino.train(QUICK, name, corpus, whole) == "finished"
    assert dino.train(QUICK, name, corpus, StoppingRun(halves, 5)) == "stopped"
    assert [row["step"] for row in rows(halves)] == [0, 1, 2, 3, 4, 5]
    torch.manual_seed(123)
    assert dino.train(QUICK, name, corpus, halves, resume=True) == "finished"
    assert rows(whole) == rows(halves)
    assert len(rows(whole)) == 11
    for file in ("step-000010/state.safetensors", "step-000010/state.json"):
        files = [run.checkpoints / file for run in (whole, halves)]
        assert files[0].read_bytes() == files[1].read_bytes()
    peeked = [encoders.peek(run.path) for run in (whole, halves)]
    assert peeked[0].fingerprint == peeked[1].fingerprint


def test_a_base_that_changed_since_is_named_on_resume(corpus, tiny_encoder):
    run = new_run(corpus)
    assert dino.train(QUICK, tiny_encoder("hubert"), corpus, StoppingRun(run, 5)) == "stopped"
    with pytest.raises(TrainingError, match=r"has changed since this run was begun \(fingerprint"):
        dino.train(QUICK, tiny_encoder("wavlm"), corpus, run, resume=True)


def test_the_result_is_the_teacher_and_says_where_it_comes_from(corpus, monkeypatch):
    kept = {}
    build = dino_parts.student_and_teacher
    monkeypatch.setattr(
        dino_parts, "student_and_teacher", lambda *a: kept.setdefault("pair", build(*a))
    )
    run = new_run(corpus)
    dino.train(QUICK, "ecapa_tdnn", corpus, run)
    loaded, pair = encoders.load(run.path), kept["pair"]
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, pair.teacher.state_dict()[name]), name
    assert any(
        not torch.equal(value, pair.student.state_dict()[name])
        for name, value in loaded.state_dict().items()
    )
    told = read_refinement(run.checkpoints / "final")
    assert (told["recipe"], told["step"], told["options"]) == ("dino", 10, options.to_dict(QUICK))
    assert told["provenance"]["steps"] == 10
    assert "base" not in told
    assert encoders.peek(run.path).family == "ECAPA-TDNN"
    vectors = loaded.embed(torch.randn(2, 8000), torch.tensor([8000, 6000]))
    assert vectors.shape == (2, 12)
    files = [path for path in run.checkpoints.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_a_row_has_the_parts_and_the_probe_its_error_rate(corpus):
    voices = pd.read_csv(corpus / "clips.csv")["speaker"]
    train_on(corpus, split=np.where(voices.isin(["s04", "s05"]), "dev", "train"))
    run = new_run(corpus)
    dino.train(QUICK, "ecapa_tdnn", corpus, run)
    first, *steps = rows(run)
    assert set(first) == {"step", "n", "isoscore", "mean_cosine", "eer"}
    parts = {
        "step", "total", "dino", "entropy", "kl", "spread", "commonest", "cosine", "centre",
        "momentum", "lr", "grad_norm", "audio_s",
    }  # fmt: skip
    assert all(parts <= set(row) for row in steps)
    assert [row["step"] for row in steps if "eer" in row] == [5, 10]
    for row in steps:
        assert row["total"] == row["dino"] == pytest.approx(row["entropy"] + row["kl"], rel=1e-5)


def test_without_speakers_the_log_says_that_no_error_rate_is_followed(corpus):
    table = pd.read_csv(corpus / "clips.csv").drop(columns="speaker")
    table["split"] = ["train", "dev"] * (len(table) // 2)
    table.to_csv(corpus / "clips.csv", index=False)
    run = new_run(corpus)
    dino.train(changed(epochs=0.2), "ecapa_tdnn", corpus, run)
    assert "the EER is not followed" in run.log_text()
    assert "eer" not in rows(run)[0]
    assert "isoscore" in rows(run)[0]


def test_the_student_learns_what_the_teacher_says(corpus):
    run = new_run(corpus)
    config = changed(epochs=15, learning_rate=0.3, probe_every=0, noise_share=0.3, room_share=0.0)
    dino.train(config, "ecapa_tdnn", corpus, run)
    found = rows(run)
    first, last = (np.mean([row["kl"] for row in part]) for part in (found[:5], found[-10:]))
    assert last < 0.9 * first


@pytest.mark.parametrize("train", ["norms", "lora", "transformer"])
def test_of_a_transformer_what_is_asked_for_is_trained(corpus, tiny_encoder, train):
    run = new_run(corpus)
    dino.train(changed(train=train, pooling="mean", layers="1"), tiny_encoder(), corpus, run)
    told = read_refinement(run.checkpoints / "final")
    assert (told["layer"], told["pooling"]) == (1, "mean")
    assert encoders.peek(run.path).small == (train != "transformer")
    before, after = (encoders.load(name) for name in (tiny_encoder(), run.path))
    state = after.model.state_dict()
    moved = {n for n, v in before.model.state_dict().items() if not torch.equal(v, state[n])}
    assert moved
    assert not any(name.startswith("feature_extractor") for name in moved)


def test_the_utterance_vector_of_a_transformer_is_its_pooled_hidden_state(corpus, tiny_encoder):
    config = changed(layers="2", pooling="stats")
    pair = dino_parts.student_and_teacher(config, tiny_encoder(), None)
    waves, lengths = torch.randn(2, 8000), torch.tensor([8000, 6000])
    found = distillation.embed(pair.student, waves, lengths, config)
    torch.testing.assert_close(found, pair.student.embed(waves, lengths, 2, "stats"))
    assert pair.student_head.mlp[0].in_features == 64


@pytest.mark.parametrize("network", ["lresnet34", "ecapa_tdnn"])
def test_networks_are_built_as_asked_and_alike_for_one_seed(network):
    one, two = (dino_parts.student_and_teacher(QUICK, network, None) for _ in range(2))
    assert one.student.config.channels == 8
    assert one.student.width() == 12
    state = two.student.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.student.state_dict().items())
    usual = dino_parts.opened(Dino(), "lresnet34")
    assert (usual.config.channels, usual.width(), usual.config.pooling) == (16, 256, "stats")


def test_a_run_goes_on_from_another_run(corpus):
    first, second = new_run(corpus), new_run(corpus)
    dino.train(changed(epochs=0.2), "ecapa_tdnn", corpus, first)
    dino.train(changed(epochs=0.2), first.path, corpus, second)
    told = read_refinement(second.checkpoints / "final")
    assert told["base"]["fingerprint"] == encoders.peek(first.path).fingerprint


def test_a_stop_before_the_first_step_ends_at_once(corpus):
    run = new_run(corpus)
    run.request_stop()
    assert dino.train(QUICK, "ecapa_tdnn", corpus, run) == "stopped"
    assert list(run.checkpoints.iterdir()) == []


def test_an_estimate_is_a_few_real_steps(corpus):
    found = dino.estimate(changed(epochs=100), "ecapa_tdnn", corpus)
    assert found["minutes"] == pytest.approx(found["seconds_per_step"] * 600 / 60)
    json.dumps(found)


# -- refusals ----------------------------------------------------------------------------------


def test_chunks_longer_than_every_clip_are_refused(corpus):
    with pytest.raises(OptionError, match=r"long_seconds: got 4, but the longest train clip of"):
        dino.train(Dino(), "ecapa_tdnn", corpus, new_run(corpus))


def test_no_recording_that_is_long_enough_is_refused(corpus):
    config = changed(min_seconds=30.0)
    with pytest.raises(TrainingError, match=r"0 of 24 train clips have min_seconds = 30 s or more"):
        dino.train(config, "ecapa_tdnn", corpus, new_run(corpus))


def test_clips_that_are_too_short_are_left_out_with_a_note(corpus):
    run = new_run(corpus)
    dino.train(changed(min_seconds=0.7, epochs=0.2), "ecapa_tdnn", corpus, run)
    assert "train clips are too short, left out" in run.log_text()


def test_more_outputs_than_memory_holds_are_refused_before_training(corpus):
    run = new_run(corpus)
    with pytest.raises(TrainingError) as caught:
        dino.train(changed(outputs=10_000_000, batch_size=4096), "ecapa_tdnn", corpus, run)
    message = str(caught.value)
    assert message.startswith("outputs: 10000000 for batches of 4096 take about")
    assert "GB are free; choose at most" in message
    assert not (run.path / "metrics.jsonl").exists()


def test_no_train_split_is_refused(corpus):
    with pytest.raises(CorpusError, match="no clip in split train"):
        dino.train(QUICK, "ecapa_tdnn", train_on(corpus, split="test"), new_run(corpus))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("hubert", {"layers": "9"}, "layers: got 9; expected mean or 0 to 2"),
        ("hubert", {"pooling": "attentive"}, "pooling: got attentive"),
        ("ecapa_tdnn", {"pooling": "mean"}, "pooling: got mean; a network that is built"),
    ],
)
def test_a_layer_or_pooling_that_is_not_there_is_refused(tiny_encoder, name, changes, message):
    name = tiny_encoder() if name == "hubert" else name
    with pytest.raises(OptionError, match=message):
        dino_parts.student_and_teacher(changed(**changes), name, None)


def test_a_collapse_ends_the_run_with_its_name_and_keeps_a_checkpoint(corpus, monkeypatch):
    monkeypatch.setattr(distillation, "ALIKE_STEPS", 7)
    run = new_run(corpus)
    config = changed(teacher_temperature=10.0)  # nobody is told apart: uniform
    with pytest.raises(TrainingError, match=r"step 7: the teacher has collapsed, all outputs are"):
        dino.train(config, "ecapa_tdnn", corpus, run)
    assert read_refinement(encoders.peek(run.path).folder)["step"] == 5
