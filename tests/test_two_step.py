"""two_step: the paper's defaults, exact resume, what is saved and answers, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from refine import adapter, encoders, heads, options, runs
from refine.corpus import CorpusError, open_corpus
from refine.embeddings import extract
from refine.encoders.folder import read_refinement
from refine.features import FeatureError
from refine.options import OptionError
from refine.recipes import RECIPES, two_step
from refine.recipes.two_step import PRESETS, TwoStep
from refine.runs import Run
from refine.supervision import SupervisionError, rows_of
from refine.training import TrainingError

QUICK = TwoStep(
    factor="content", steps=10, batch_size=6, learning_rate=1e-3, dim=32, pooling="stats",
    train="lora", top_layers=1, precision="fp32", checkpoint_every=5, probe_every=5,
    warmup_steps=2, schedule="cosine", clip_norm=1.0, standardise=True,
)  # fmt: skip


@pytest.fixture
def corpus(tone_corpus):
    """Six voices, three words: four voices to train on, one each for dev and test."""
    return tone_corpus


@pytest.fixture
def hubert(tiny_encoder):
    return tiny_encoder("hubert")


def new_run(corpus, **changes):
    return runs.create({"command": "train", "recipe": "two_step", "corpus": str(corpus), **changes})


def rows(run):
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


class StoppingRun(Run):
    """Asks for its own stop after a step."""

    def __init__(self, run, after):
        super().__init__(run.path)
        self.after = after

    @property
    def stop_requested(self):
        path = self.path / "metrics.jsonl"
        return path.exists() and f'"step": {self.after},' in path.read_text()


@pytest.fixture(scope="module")
def trained(_session_folders, _tones, tiny_encoder, tmp_path_factory):
    """One run that several tests look at: (run, encoder folder, corpus folder)."""
    folder = tmp_path_factory.mktemp("trained")
    run = runs.create({"command": "train", "recipe": "two_step"}, folder)
    encoder = tiny_encoder("hubert")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINE_CACHE", str(folder / "cache"))
        assert two_step.train(QUICK, encoder, _tones, run) == "finished"
    return run, encoder, _tones


# -- options -----------------------------------------------------------------------------------


def test_the_defaults_are_the_papers():
    paper = PRESETS["paper"].config
    assert paper == TwoStep()
    assert (paper.contrastive, paper.noncontrastive) == ("triplet", "barlow_twins")
    assert (paper.weight, paper.margin, paper.offdiagonal) == (0.05, 1.0, 5.1e-4)
    assert (paper.dim, paper.batch_size, paper.learning_rate) == (64, 32, 1e-4)
    assert (paper.weight_decay, paper.feature_dropout) == (5e-4, 0.5)
    assert (paper.schedule, paper.warmup_steps, paper.clip_norm) == ("constant", 0, 0.0)
    assert (paper.layers, paper.pooling, paper.standardise) == ("last", "mean", False)
    assert (paper.train, paper.top_layers, paper.hold_encoder) == ("all", 0, 0)
    assert (paper.adapter_hidden, paper.adapter_dropout) == (128, 0.5)


def test_every_option_has_help_and_every_preset_a_reason():
    for option in options.options(TwoStep):
        assert len(option.help) > 20, option.name
    assert all(len(preset.reason) > 40 for preset in PRESETS.values())
    assert RECIPES["two_step"] == "refine.recipes.two_step:TwoStep"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"learning_rate": 1e9}, "learning_rate"),
        ({"batch_size": 1}, "batch_size"),
        ({"dim": 16}, "dim"),
        ({"contrastive": "arcface"}, "contrastive"),
        ({"contrastive": "none", "noncontrastive": "none"}, "contrastive"),
        ({"layers": "first"}, "layers"),
        ({"apart": "emotion"}, "apart"),
        ({"feature_dropout": 1.0}, "feature_dropout"),
    ],
)
def test_senseless_options_are_refused_by_name(changes, field):
    with pytest.raises(OptionError, match=f"^{field}: got"):
        TwoStep(**changes)


def test_the_options_are_read_without_torch():
    import subprocess
    import sys

    code = "import sys, refine.recipes.two_step; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hold_encoder": 7, "train": "norms", "roles": "shared"},
        {"train": "all", "top_layers": 0, "contrastive": "supcon", "noncontrastive": "vicreg"},
    ],
    ids=["lora", "held norms", "all"],
)
def test_ten_steps_equal_five_a_resume_and_five_more_bit_for_bit(corpus, hubert, changes):
    config = replace(QUICK, **changes)
    whole, halves = new_run(corpus, name="whole"), new_run(corpus, name="halves")
    assert two_step.train(config, hubert, corpus, whole) == "finished"
    assert two_step.train(config, hubert, corpus, StoppingRun(halves, 5)) == "stopped"
    assert [row["step"] for row in rows(halves)] == [0, 1, 2, 3, 4, 5]
    torch.manual_seed(123)
    assert two_step.train(config, hubert, corpus, halves, resume=True) == "finished"
    assert rows(whole) == rows(halves)
    for name in ("step-000010/state.safetensors", "step-000010/state.json"):
        files = [run.checkpoints / name for run in (whole, halves)]
        assert files[0].read_bytes() == files[1].read_bytes()
    peeked = [encoders.peek(run.path) for run in (whole, halves)]
    assert peeked[0].fingerprint == peeked[1].fingerprint
    weights = [heads.read(heads.find(run.path)[0].path).weights for run in (whole, halves)]
    assert (weights[0] == weights[1]).all()


def test_a_row_holds_both_halves_their_floor_and_the_held_out_classes(trained):
    found = rows(trained[0])
    assert [row["step"] for row in found] == list(range(11))
    assert [row["step"] for row in found if "uar" in row] == [0, 5, 10]
    row = found[10]
    assert row["total"] == pytest.approx(
        row["contrastive"] + 0.05 * row["noncontrastive"], rel=1e-4
    )
    assert 0 <= row["floor"] < row["total"]
    assert {"positive_distance", "negative_distance", "on_diagonal", "off_diagonal"} <= set(row)
    assert {"spread_ratio", "davies_bouldin", "pairs_told", "n"} <= set(row)


def test_a_run_descends(corpus, hubert):
    config = replace(
        QUICK, steps=60, batch_size=18, learning_rate=3e-3, probe_every=60, train="none",
        top_layers=0, feature_dropout=0.0,
    )  # fmt: skip
    run = new_run(corpus)
    two_step.train(config, hubert, corpus, run)
    totals = [row["total"] for row in rows(run) if "total" in row]
    assert np.mean(totals[-5:]) < 0.7 * np.mean(totals[:5])


# -- the result --------------------------------------------------------------------------------


def test_the_result_is_a_small_encoder_whose_vector_is_the_projected_one(trained):
    run, hubert, _ = trained
    info = encoders.peek(run.path)
    assert (info.small, info.projected, info.layer, info.recipe) == (
        True,
        32,
        "projected",
        "two_step",
    )
    assert info.heads == ("content",)
    told = read_refinement(run.checkpoints / "final")
    assert told["options"] == options.to_dict(replace(QUICK, apart="speaker"))
    assert told["step"] == told["provenance"]["steps"] == 10
    assert told["base"]["fingerprint"] == encoders.peek(hubert).fingerprint
    encoder = encoders.load(run.path, precision="fp32")
    waveforms, lengths = torch.randn(2, 9000), torch.tensor([9000, 8000])
    with torch.no_grad():
        z = encoder.embed(waveforms, lengths)
        x = encoder.embed(waveforms, lengths, layer=2, pooling="stats")
        torch.testing.assert_close(encoder.projector(x), z)
        base = encoders.load(hubert, precision="fp32").embed(waveforms, lengths, 2, "stats")
    assert z.shape == (2, 32)
    assert float((x - base).abs().max()) > 0  # the encoder has moved too
    suffixes = {path.suffix for path in run.checkpoints.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_all_weights_trained_are_saved_in_full(corpus, hubert):
    run = new_run(corpus)
    two_step.train(replace(QUICK, train="transformer", top_layers=0, steps=2), hubert, corpus, run)
    assert not encoders.peek(run.path).small
    assert encoders.load(run.path).layer == "projected"


def test_the_adapter_is_stored_and_answers(trained):
    run, _, folder = trained
    corpus = open_corpus(folder)
    encoder = encoders.load(run.path, precision="fp32")
    vectors = extract(encoder, corpus, layer="projected")
    found = heads.read(heads.find(run.path)[0].path)
    assert not found.info.stale
    parts = rows_of(corpus, "content", "speaker", 0)
    x = vectors.vectors("projected")
    order = vectors.table["clip"].tolist()
    place = [order.index(clip) for clip in corpus.table["clip"]]
    x, labels = np.asarray(x)[place], corpus.table["content"].to_numpy(dtype=str)
    again = adapter.fit(
        x[parts.train], labels[parts.train], x[parts.held_out], labels[parts.held_out]
    )
    np.testing.assert_allclose(found.logits(x), again.logits(x), atol=5e-2, rtol=5e-2)
    waveforms = [corpus.waveform(clip) for clip in corpus.table["clip"][:6]]
    waveforms = [np.pad(wave, (0, max(0, 8000 - len(wave)))) for wave in waveforms]
    answers = heads.Predictor.load(run.path, precision="fp32").predict(waveforms)
    assert all(sum(a["content"].probabilities.values()) == pytest.approx(1) for a in answers)
    assert {a["content"].label for a in answers} <= {"one", "two", "three"}
    assert found.info.clips == {"train": 24, "dev": 6, "test": 6}
    assert found.info.measured["uar"]["groups"] in (None, 1)


def test_recipes_compose(trained, corpus):
    run = new_run(corpus)
    config = replace(QUICK, steps=2, train="none", top_layers=0, dim=40, factor="emotion")
    two_step.train(config, trained[0].path, corpus, run)
    assert "a new one takes its place" in run.log_text()
    info = encoders.peek(run.path)
    assert (info.projected, info.heads, len(info.chain)) == (40, ("emotion",), 3)
    assert encoders.load(run.path).embed(torch.randn(1, 8000), torch.tensor([8000])).shape == (
        1,
        40,
    )


def test_any_factor_will_do_also_the_speaker(corpus, hubert):
    run = new_run(corpus)
    config = replace(QUICK, factor="speaker", steps=2, batch_size=8, roles="shared")
    two_step.train(config, hubert, corpus, run)
    assert heads.find(run.path)[0].labels == ("s00", "s02", "s04", "s05")


def test_a_stopped_run_can_be_looked_at(corpus, hubert):
    run = new_run(corpus)
    assert two_step.train(QUICK, hubert, corpus, StoppingRun(run, 3)) == "stopped"
    assert read_refinement(run.checkpoints / "step-000003" / "encoder")["step"] == 3
    assert encoders.load(run.path).layer == "projected"


def test_a_stop_before_the_first_step_ends_at_once(corpus, hubert):
    run = new_run(corpus)
    run.request_stop()
    assert two_step.train(QUICK, hubert, corpus, run) == "stopped"
    assert list(run.checkpoints.iterdir()) == []


def test_the_base_encoder_folder_is_never_touched(corpus, hubert):
    before = {path.name: path.read_bytes() for path in hubert.iterdir()}
    two_step.train(replace(QUICK, steps=2), hubert, corpus, new_run(corpus))
    assert {path.name: path.read_bytes() for path in hubert.iterdir()} == before


def test_an_estimate_is_a_few_real_steps(corpus, hubert):
    found = two_step.estimate(replace(QUICK, steps=600), hubert, corpus)
    expected = found["seconds_per_step"] * 10 + found["frozen_minutes"]
    assert found["minutes"] == pytest.approx(expected)
    assert 0 < found["frozen_minutes"] < 1
    json.dumps(found)


# -- refusals ----------------------------------------------------------------------------------


def changed(corpus, **columns):
    table = pd.read_csv(corpus / "clips.csv", dtype=str)
    for name, values in columns.items():
        table = table.drop(columns=name) if values is None else table.assign(**{name: values})
    table.to_csv(corpus / "clips.csv", index=False)


@pytest.mark.parametrize(
    ("columns", "options_", "told"),
    [
        ({}, {"factor": "mood"}, "mood: no such factor in tones; there is speaker, content"),
        ({"emotion": ["calm"] * 36}, {"factor": "emotion"}, "emotion: one class"),
        ({"speaker": None}, {}, "no column speaker, whose clips must be apart"),
        ({}, {"apart": "room"}, "no column room"),
        ({}, {"roles": "shared", "batch_size": 3}, "batch_size: got 3; with roles shared"),
        ({}, {"layers": "9"}, "layers: got 9; expected last, mean or 0 to 2"),
        ({}, {"top_layers": 5}, "top_layers: got 5; expected 0 to 2"),
        ({}, {"layers": "1"}, "begin above hidden state 1"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_training(
    corpus, hubert, columns, options_, told
):
    changed(corpus, **columns)
    run = new_run(corpus)
    with pytest.raises((SupervisionError, OptionError, FeatureError), match=told):
        two_step.train(replace(QUICK, **options_), hubert, corpus, run)
    assert not (run.path / "metrics.jsonl").exists()


def test_a_class_with_one_clip_is_refused(corpus, hubert):
    changed(corpus, emotion=["rage", *["calm", "glad"] * 17, "calm"], split=["train"] * 36)
    with pytest.raises(SupervisionError, match="emotion: 1 class with one clip"):
        two_step.train(replace(QUICK, factor="emotion"), hubert, corpus, new_run(corpus))


def test_no_train_clips_are_refused(corpus, hubert):
    changed(corpus, split=["test"] * 36)
    with pytest.raises((CorpusError, SupervisionError), match="train"):
        two_step.train(QUICK, hubert, corpus, new_run(corpus))


def test_a_base_that_changed_since_is_refused_on_resume(corpus, tiny_encoder, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_encoder("hubert"), tmp_path / "base")
    run = new_run(corpus)
    two_step.train(QUICK, folder, corpus, StoppingRun(run, 5))
    encoder = encoders.load(folder)
    encoder.model.encoder.layer_norm.weight.data += 0.1
    encoder.save(folder)
    with pytest.raises(TrainingError, match="has changed since this run was begun"):
        two_step.train(QUICK, folder, corpus, run, resume=True)
