"""Rewire: the paper's defaults, its pairs, exact resume, refusals, and what a short run does."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import speech
import torch

from refine import audio, encoders, neutral, options, runs
from refine.corpus import CorpusError, open_corpus
from refine.encoders.folder import read_refinement
from refine.losses.info_nce import info_nce
from refine.options import OptionError
from refine.pairs import PairSource
from refine.recipes import RECIPES, rewire
from refine.recipes.rewire import PRESETS, Rewire
from refine.runs import Run
from refine.training import TrainingError

QUICK = Rewire(
    steps=10, batch_size=4, learning_rate=1e-3, precision="fp32", checkpoint_every=5,
    probe_every=5, probe_clips=6, warmup_steps=2, schedule="linear", clip_norm=1.0,
)  # fmt: skip


@pytest.fixture
def corpus(tone_corpus):
    """Six voices, three words: four voices to train on, one each for dev and test."""
    return tone_corpus


@pytest.fixture
def hubert(tiny_encoder):
    return tiny_encoder("hubert")


def new_run(corpus, **changes):
    return runs.create({"command": "train", "recipe": "rewire", "corpus": str(corpus), **changes})


def rows(run):
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def source_of(corpus, texts=None, **changes):
    corpus = corpus if hasattr(corpus, "table") else open_corpus(corpus)
    copies = [None] * len(corpus.table) if texts is None else neutral.make(corpus, texts)
    given = {"twin_share": 0.0, "mask_share": 0.2, "max_seconds": 11.25, "seed": 0} | changes
    return PairSource(corpus, copies, **given)


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
    assert paper == Rewire()
    assert (paper.temperature, paper.batch_size, paper.mask_share) == (0.04, 4, 0.2)
    assert (paper.learning_rate, paper.weight_decay) == (1e-6, 0.01)
    assert (paper.schedule, paper.warmup_steps, paper.clip_norm) == ("constant", 0, 0.0)
    assert (paper.layers, paper.pooling, paper.train) == ("mean", "mean", "all")
    assert paper.max_seconds * audio.SAMPLE_RATE == 180_000
    assert paper.steps == 6659 // 4 + 1  # one pass over the clips the paper's script keeps


def test_every_option_has_help_and_every_preset_a_reason():
    for option in options.options(Rewire):
        assert len(option.help) > 40, option.name
    assert all(len(preset.reason) > 40 for preset in PRESETS.values())
    assert RECIPES["rewire"] == "refine.recipes.rewire:Rewire"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"learning_rate": 1e9}, "learning_rate"),
        ({"batch_size": 1}, "batch_size"),
        ({"temperature": 0.0}, "temperature"),
        ({"positives": "both"}, "positives"),
        ({"layers": "last"}, "layers"),
        ({"layers": "-1"}, "layers"),
        ({"mask_share": math.nan}, "mask_share"),
    ],
)
def test_senseless_options_are_refused_by_name(changes, field):
    with pytest.raises(OptionError, match=f"^{field}: got"):
        Rewire(**changes)


def test_the_options_are_read_without_torch():
    import subprocess
    import sys

    code = "import sys, refine.recipes.rewire; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- pairs -------------------------------------------------------------------------------------


def test_a_twin_is_its_utterance_with_a_fifth_at_zero(corpus):
    pairs = source_of(corpus).batch(step=1, size=4)
    assert pairs.lengths[:4].tolist() == pairs.lengths[4:].tolist()
    for one, two, length in zip(
        pairs.waveforms[:4], pairs.waveforms[4:], pairs.lengths.tolist(), strict=False
    ):
        changed = torch.nonzero(one != two).flatten()
        assert int(changed[-1] - changed[0]) < int(0.2 * length)
        assert (two[changed] == 0).all()
        assert (one[length:] == 0).all()
    assert pairs.audio_s == pytest.approx(float(pairs.lengths.sum()) / 16_000)


def test_a_batch_depends_on_seed_and_step_alone(corpus):
    one, two, other = source_of(corpus), source_of(corpus), source_of(corpus, seed=1)
    one.batch(1, 4), one.batch(2, 4)
    assert torch.equal(one.batch(3, 4).waveforms, two.batch(3, 4).waveforms)
    assert one.rows(3, 4).tolist() != other.rows(3, 4).tolist()
    again = one.batch(4, 4)
    assert again.waveforms.shape != one.batch(3, 4).waveforms.shape or not torch.equal(
        again.waveforms, one.batch(3, 4).waveforms
    )


def test_an_epoch_meets_every_clip_once(corpus):
    source = source_of(corpus)
    n = len(source.clips)
    first = [source.rows(step, 4) for step in range(1, n // 4 + 1)]
    assert sorted(np.concatenate(first)) == list(range(n))
    assert source.rows(n // 4 + 1, 4).tolist() != first[0].tolist()
    assert sorted(source.rows(1, 999)) == list(range(n))


def test_the_same_text_never_meets_itself_in_a_batch(corpus):
    corpus = open_corpus(corpus)
    source = source_of(corpus, corpus.table["text"].tolist())
    assert source.distinct == 3
    for step in range(1, 30):
        for size in (2, 3, 4, 30):
            chosen = source.rows(step, size)
            texts = corpus.table["text"].iloc[chosen]
            assert texts.is_unique
            assert len(chosen) >= 2


def test_a_long_clip_is_cut_at_the_same_relative_place_as_its_copy(tmp_path):
    def ramp(seconds):
        return np.linspace(0.1, 0.9, int(seconds * 16_000), dtype=np.float32)

    for name, seconds in (("a", 4.0), ("b", 4.0)):
        speech.write(tmp_path / "x" / f"{name}.wav", ramp(seconds))
    copy = speech.write(tmp_path / "copy.wav", ramp(2.0))
    corpus = open_corpus(tmp_path / "x")
    given = {"twin_share": 0.0, "mask_share": 0.2, "max_seconds": 1.0, "seed": 0}
    pairs = PairSource(corpus, [copy] * 2, **given).pairs([0, 1], step=1)
    assert pairs.lengths.tolist() == [16_000, 16_000, 8_000, 8_000]
    for natural, spoken in zip(pairs.waveforms[:2], pairs.waveforms[2:], strict=True):
        natural, spoken = natural.numpy(), spoken[:8000].numpy()
        assert natural.std() > 0.01
        # same ramp, hence equal first and last values once both are as loud
        np.testing.assert_allclose(spoken[[0, -1]], natural[[0, -1]], rtol=2e-3)
        level = np.sqrt(np.mean(spoken**2) / np.mean(natural**2))
        assert level == pytest.approx(1, rel=1e-3)


def test_neutral_copies_speak_the_text_and_are_kept(corpus, monkeypatch):
    corpus = open_corpus(corpus)
    told = []
    copies = neutral.make(corpus, corpus.table["text"].tolist(), lambda *n: told.append(n))
    assert len(set(copies)) == 3
    assert told[0] == ("speaking neutral copies", 0, 3)
    lengths = {path.stem: len(audio.load(path)) for path in copies}
    assert all(0.1 < length / 16_000 < 3 for length in lengths.values())
    stamps = [path.stat().st_mtime_ns for path in copies]
    monkeypatch.setattr("refine.synthesis.speak_many", lambda items: iter([*items][:0]))
    assert neutral.make(corpus, corpus.table["text"].tolist()) == copies
    assert [path.stat().st_mtime_ns for path in copies] == stamps


def test_a_copy_is_spoken_in_the_clips_language(corpus):
    table = pd.read_csv(corpus / "clips.csv").assign(text="zehn")
    table["language"] = ["de", "de-AT", "xx", "en"] * (len(table) // 4)
    table.to_csv(corpus / "clips.csv", index=False)
    opened = open_corpus(corpus)
    copies = pd.Series(map(str, neutral.make(opened, opened.table["text"].tolist())))
    by_language = copies.groupby(opened.table["language"]).unique()
    assert by_language["xx"].tolist() == by_language["en"].tolist()
    assert by_language["de"].tolist() != by_language["en"].tolist()


def test_names_can_stand_for_text(corpus):
    table = pd.read_csv(corpus / "clips.csv").drop(columns="text")
    table["content"] = "turn_left_" + table["content"]
    table.to_csv(corpus / "clips.csv", index=False)
    assert neutral.texts(open_corpus(corpus), "content")[0] == "turn left one"
    with pytest.raises(neutral.NeutralError, match=r"no column 'words'; choose one of .*content"):
        neutral.texts(open_corpus(corpus), "words")


def test_mixed_flips_a_fair_seeded_coin(corpus):
    opened = open_corpus(corpus)
    mixed = source_of(opened, opened.table["text"].tolist(), twin_share=0.5)
    twins = []
    for step in range(1, 120):
        rows = mixed.rows(step, 3)
        pairs = mixed.pairs(rows, step)
        half = len(rows)
        for one, two, length in zip(
            pairs.waveforms[:half], pairs.waveforms[half:], pairs.lengths.tolist(), strict=False
        ):
            same = (one[:length] == two[:length]).float().mean()
            twins.append(float(same) > 0.7)
    share = np.mean(twins)
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(len(twins))


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positives", "train"), [("twin", "all"), ("mixed", "all"), ("twin", "lora"), ("twin", "norms")]
)
def test_ten_steps_equal_five_a_resume_and_five_more_bit_for_bit(corpus, hubert, positives, train):
    config = Rewire(**{**options.to_dict(QUICK), "positives": positives, "train": train})
    whole, halves = new_run(corpus, name="whole"), new_run(corpus, name="halves")
    assert rewire.train(config, hubert, corpus, whole) == "finished"
    assert rewire.train(config, hubert, corpus, StoppingRun(halves, 5)) == "stopped"
    assert [row["step"] for row in rows(halves)] == [0, 1, 2, 3, 4, 5]
    torch.manual_seed(123)
    assert rewire.train(config, hubert, corpus, halves, resume=True) == "finished"
    assert rows(whole) == rows(halves)
    for name in ("step-000010/state.safetensors", "step-000010/state.json"):
        files = [run.checkpoints / name for run in (whole, halves)]
        assert files[0].read_bytes() == files[1].read_bytes()
    peeked = [encoders.peek(run.path) for run in (whole, halves)]
    assert peeked[0].fingerprint == peeked[1].fingerprint


def test_dropout_is_on_as_in_the_checkpoint_and_masking_is_off(corpus, hubert):
    encoder = encoders.load(hubert)
    assert encoder.model.config.hidden_dropout > 0
    source = source_of(corpus)
    batch = source.batch(1, 4)
    on = rewire._Objective(QUICK, encoder, source)
    assert not torch.equal(on.loss(batch).total, on.loss(batch).total)
    off = rewire._Objective(Rewire(dropout="off"), encoder, source)
    assert torch.equal(off.loss(batch).total, off.loss(batch).total)


def test_the_loss_is_nt_xent_of_the_mean_of_all_layers_and_frames(corpus, hubert):
    encoder = encoders.load(hubert)
    source = source_of(corpus)
    batch = source.batch(1, 4)
    parts = rewire._Objective(Rewire(dropout="off"), encoder, source).loss(batch)
    z = []
    for waveform, length in zip(batch.waveforms, batch.lengths.tolist(), strict=True):
        with torch.no_grad():
            states = encoder.encode(waveform[None, :length], torch.tensor([length])).states
        z.append(states.mean(dim=(0, 1, 2)).double().numpy())
    z = np.array([v / np.linalg.norm(v) for v in z])
    terms = []
    for i in range(8):
        j = (i + 4) % 8
        negatives = [n for n in range(8) if n % 4 != i % 4]
        scores = [z[i] @ z[n] / 0.04 for n in [j, *negatives]]
        terms.append(-scores[0] + math.log(sum(math.exp(s) for s in scores)))
    assert float(parts.total.detach()) == pytest.approx(np.mean(terms), rel=1e-3)
    same = info_nce(torch.tensor(z[:4]), torch.tensor(z[4:]), 0.04)
    assert float(same.total) == pytest.approx(np.mean(terms), rel=1e-9)


def test_a_short_run_pulls_pairs_together_and_spreads_the_rest(corpus, hubert):
    config = Rewire(
        steps=40, batch_size=6, learning_rate=1e-3, dropout="off", precision="fp32", probe_every=20,
        temperature=0.1,
    )  # fmt: skip
    run = new_run(corpus)
    rewire.train(config, hubert, corpus, run)
    found = {row["step"]: row for row in rows(run) if "isoscore" in row}
    assert set(found) == {0, 20, 40}
    before, after = found[0], found[40]
    assert after["mean_cosine"] < before["mean_cosine"] - 0.05
    assert after["aligned"] - after["random"] > before["aligned"] - before["random"]
    totals = [row["total"] for row in rows(run) if "total" in row]
    assert np.mean(totals[-5:]) < np.mean(totals[:5])


def test_the_result_is_an_encoder_that_says_where_it_comes_from(corpus, hubert):
    run = new_run(corpus)
    rewire.train(QUICK, hubert, corpus, run)
    base, refined = encoders.load(hubert), encoders.load(run.path)
    told = read_refinement(run.checkpoints / "final")
    assert (told["recipe"], told["layer"], told["pooling"]) == ("rewire", "mean", "mean")
    assert told["base"] == {"name": str(hubert), "fingerprint": base.fingerprint}
    assert told["options"] == options.to_dict(QUICK)
    assert told["step"] == told["provenance"]["steps"] == 10
    assert told["provenance"]["corpus"]["fingerprint"] == open_corpus(corpus).fingerprint
    with torch.no_grad():
        waveforms, lengths = torch.randn(1, 8000), torch.tensor([8000])
        change = base.embed(waveforms, lengths) - refined.embed(waveforms, lengths)
    assert float(change.abs().max()) > 1e-4
    assert {path.suffix for path in run.checkpoints.rglob("*") if path.is_file()} == {
        ".json", ".safetensors",
    }  # fmt: skip


def test_a_base_that_changed_since_is_named_on_resume(corpus, hubert, tiny_encoder):
    run = new_run(corpus)
    assert rewire.train(QUICK, hubert, corpus, StoppingRun(run, 3)) == "stopped"
    with pytest.raises(TrainingError, match=r"has changed since this run was begun \(fingerprint"):
        rewire.train(QUICK, tiny_encoder("wavlm"), corpus, run, resume=True)


def test_a_stopped_run_can_be_looked_at(corpus, hubert):
    run = new_run(corpus)
    assert rewire.train(QUICK, hubert, corpus, StoppingRun(run, 3)) == "stopped"
    assert read_refinement(run.checkpoints / "step-000003" / "encoder")["step"] == 3
    assert encoders.load(run.path).layer == "mean"


def test_a_stop_before_the_first_step_ends_at_once(corpus, hubert):
    run = new_run(corpus)
    run.request_stop()
    assert rewire.train(QUICK, hubert, corpus, run) == "stopped"
    assert list(run.checkpoints.iterdir()) == []


def test_a_frozen_front_end_stays_as_it_was(corpus, hubert):
    run = new_run(corpus)
    config = Rewire(**{**options.to_dict(QUICK), "train": "transformer"})
    rewire.train(config, hubert, corpus, run)
    before = encoders.load(hubert).model.state_dict()
    after = encoders.load(run.path).model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "encoder" in changed
    assert "feature_extractor" not in changed


def test_norms_alone_move_gains_and_biases_and_no_matrix(corpus, hubert):
    run = new_run(corpus)
    config = Rewire(**{**options.to_dict(QUICK), "train": "norms"})
    rewire.train(config, hubert, corpus, run)
    before = encoders.load(hubert).model.state_dict()
    after = encoders.load(run.path).model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.endswith("layer_norm.weight") for name in changed)
    assert all(before[name].ndim == 1 for name in changed)
    assert not any(name.startswith("feature_extractor") for name in changed)


def matrices(encoder):
    """The weights that a LoRA reaches, by name."""
    state = encoder.model.state_dict()
    return {name: value for name, value in state.items() if name.endswith("_proj.weight")}


def test_a_lora_run_is_small_opens_everywhere_and_can_be_rewired_again(corpus, hubert):
    from refine.evaluation import evaluate

    config = Rewire(**{**options.to_dict(QUICK), "train": "lora", "lora_rank": 4, "steps": 5})
    first, second = new_run(corpus, name="first"), new_run(corpus, name="second")
    rewire.train(config, hubert, corpus, first)
    rewire.train(config, first.id, corpus, second)
    base, one, two = (encoders.load(name) for name in (hubert, first.id, second.path))
    kept = {path.name for path in (second.checkpoints / "final").iterdir()}
    assert kept == {"refine.json", "adapter_config.json", "adapter_model.safetensors"}
    told = read_refinement(second.checkpoints / "final")
    assert (told["recipe"], told["layer"], told["step"]) == ("rewire", "mean", 5)
    assert told["base"] == {"name": first.id, "fingerprint": one.fingerprint}
    assert two.info.chain[0] == hubert
    for before, after in ((base, one), (one, two)):
        same = matrices(before)
        changed = {n for n, value in matrices(after).items() if not torch.equal(value, same[n])}
        assert {name.split(".")[-2] for name in changed} >= {"q_proj", "k_proj", "v_proj"}
        left = {n for n in before.model.state_dict() if n not in same and "dense" not in n}
        states = [encoder.model.state_dict() for encoder in (before, after)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in left)
    whole = evaluate(second.id, corpus, split="all", layer="mean")
    assert whole["encoder_fingerprint"] == two.fingerprint
    assert 0 <= whole["isotropy"]["isoscore"]["value"] <= 1


def test_a_projection_is_left_out_when_its_hidden_states_are_rewired(corpus, hubert, tmp_path):
    from refine.encoders.projector import Projector, ProjectorConfig

    projected = encoders.load(hubert)
    projected.projector = Projector(ProjectorConfig((32, 4)))
    projected.save(tmp_path / "projected", {"recipe": "interventional"}, small=True)
    config = Rewire(**{**options.to_dict(QUICK), "train": "norms", "steps": 1})
    run = new_run(corpus)
    rewire.train(config, tmp_path / "projected", corpus, run)
    assert "the projection of" in run.log_text()
    info = encoders.peek(run.path)
    assert (info.projected, info.layer, len(info.chain)) == (None, "mean", 3)


def test_the_base_encoder_folder_is_never_touched(corpus, hubert):
    before = {path.name: path.read_bytes() for path in hubert.iterdir()}
    rewire.train(QUICK, hubert, corpus, new_run(corpus))
    assert {path.name: path.read_bytes() for path in hubert.iterdir()} == before


def test_an_estimate_is_a_few_real_steps(corpus, hubert):
    config = Rewire(**{**options.to_dict(QUICK), "positives": "mixed", "steps": 600})
    found = rewire.estimate(config, hubert, corpus)
    assert found["minutes"] == pytest.approx(
        found["seconds_per_step"] * 600 / 60 + found["synthesis_minutes"]
    )
    assert 0 < found["synthesis_minutes"] < 1
    assert found["peak_mb"] > 50
    json.dumps(found)


# -- refusals ----------------------------------------------------------------------------------


def without_text(corpus, first):
    table = pd.read_csv(corpus / "clips.csv", dtype=str)
    table.loc[: first - 1, "text"] = ""
    table.to_csv(corpus / "clips.csv", index=False)


def test_neutral_without_text_says_how_many_and_what_needs_none(corpus, hubert):
    without_text(corpus, 36)
    config = Rewire(positives="neutral")
    with pytest.raises(TrainingError, match=r"24 of 24 clips have no text.*twin, which needs no"):
        rewire.train(config, hubert, corpus, new_run(corpus))


def test_mixed_goes_on_without_some_texts_and_notes_it(corpus, hubert):
    without_text(corpus, 12)
    config = Rewire(**{**options.to_dict(QUICK), "positives": "mixed", "steps": 2})
    run = new_run(corpus)
    rewire.train(config, hubert, corpus, run)
    assert "clips have no text and are pulled to twins only" in run.log_text()
    with pytest.raises(TrainingError, match="clips have no text"):
        rewire.train(
            Rewire(**{**options.to_dict(config), "positives": "neutral"}),
            hubert, corpus, new_run(corpus),
        )  # fmt: skip


def test_one_text_for_all_is_refused(corpus, hubert):
    table = pd.read_csv(corpus / "clips.csv").assign(text="hello")
    table.to_csv(corpus / "clips.csv", index=False)
    with pytest.raises(TrainingError, match="the same text"):
        rewire.train(Rewire(positives="neutral"), hubert, corpus, new_run(corpus))


def test_too_few_train_clips_are_refused(corpus, hubert):
    table = pd.read_csv(corpus / "clips.csv").assign(split="test")
    table.to_csv(corpus / "clips.csv", index=False)
    with pytest.raises(CorpusError, match="no clip in split train"):
        rewire.train(QUICK, hubert, corpus, new_run(corpus))
    table.loc[0, "split"] = "train"
    table.to_csv(corpus / "clips.csv", index=False)
    with pytest.raises(TrainingError, match="at least 2 are needed"):
        rewire.train(QUICK, hubert, corpus, new_run(corpus))


def test_a_layer_that_is_not_there_is_refused(corpus, hubert):
    with pytest.raises(OptionError, match="layers: got 9; expected mean or 0 to 2"):
        rewire.train(Rewire(layers="9"), hubert, corpus, new_run(corpus))


def test_a_clip_shorter_than_a_frame_is_refused_by_name(corpus, hubert):
    from refine.rewiring import refuse_short

    encoder = encoders.load(hubert)
    opened = open_corpus(corpus)
    opened.table.loc[3, "duration_s"] = 0.01
    with pytest.raises(TrainingError, match=f"{opened.table['clip'][3]}: 0.010 s is shorter"):
        refuse_short(encoder, opened)


def test_without_held_out_clips_the_log_says_so(corpus, hubert):
    table = pd.read_csv(corpus / "clips.csv").assign(split="train")
    table.to_csv(corpus / "clips.csv", index=False)
    run = new_run(corpus)
    rewire.train(Rewire(**{**options.to_dict(QUICK), "steps": 1}), hubert, corpus, run)
    assert "isotropy is not followed" in run.log_text()
    assert [row["step"] for row in rows(run)] == [1]


def test_weights_that_blow_up_end_in_a_sentence_and_leave_the_last_good_encoder(
    corpus, hubert, monkeypatch
):
    def blow_up(self, step):
        if step == 7:
            self.module.model.encoder.layer_norm.weight.data.fill_(math.inf)

    monkeypatch.setattr(rewire._Objective, "after_step", blow_up)
    run = new_run(corpus)
    with pytest.raises(TrainingError, match=r"step 8: the loss is not finite .* learning rate"):
        rewire.train(QUICK, hubert, corpus, run)
    assert read_refinement(encoders.peek(run.path).folder)["step"] == 5


def test_batches_share_a_group(corpus):
    """Every clip once an epoch, in batches of one group; the last of a group is not left alone."""
    clips = open_corpus(corpus)
    groups = clips.table["speaker"].tolist()
    source = PairSource(
        clips, [None] * len(groups), twin_share=0, mask_share=0.2, max_seconds=1, seed=0,
        groups=groups,
    )  # fmt: skip
    cuts = sum(-(-groups.count(name) // 4) for name in set(groups))
    batches = [source.rows(step, 4) for step in range(1, cuts + 1)]
    assert {row for rows in batches for row in rows.tolist()} == set(range(len(groups)))
    for rows in batches:
        assert len(rows) == len(set(rows.tolist())) >= 2
        assert len({groups[row] for row in rows}) == 1
    assert (source.rows(3, 4) == source.rows(3, 4)).all()


def test_a_missing_batch_factor_is_named(corpus, hubert):
    with pytest.raises(OptionError, match=r"batch_factor.*colour.*speaker"):
        rewire.train(replace(QUICK, batch_factor="colour"), hubert, corpus, new_run(corpus))
