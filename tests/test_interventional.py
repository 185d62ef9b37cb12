"""Interventional: the paper's defaults, its loss, exact resume, refusals, and what a run learns."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from refine import encoders, grid_engines, options, runs, subspace_map
from refine.corpus import open_corpus
from refine.encoders.folder import read_refinement
from refine.encoders.projector import ProjectorConfig
from refine.grids import GridError, join, recorded
from refine.losses.supcon import supcon
from refine.options import OptionError
from refine.recipes import RECIPES, interventional
from refine.recipes.interventional import PRESETS, Interventional
from refine.runs import Run
from refine.subspace_map import Features, HeldOut, Objective, build, loss, shape_of
from refine.training import TrainingError

QUICK = {"steps": 10, "checkpoint_every": 5, "probe_every": 5, "learning_rate": 1e-3}


@pytest.fixture
def corpus(tone_corpus):
    """Six voices, three words: four voices to train on, one each for dev and test."""
    return tone_corpus


@pytest.fixture
def hubert(tiny_encoder):
    return tiny_encoder("hubert")


def new_run(corpus, **changes):
    config = {"command": "train", "recipe": "interventional", "corpus": str(corpus), **changes}
    return runs.create(config)


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
        return path.exists() and f'"step": {self.after}' in path.read_text()


def factorial(speakers=12, contents=10, dim=16, noise=0.5, seed=0):
    """Vectors that are the sum of who, what and noise, and the grid over them."""
    rng = np.random.default_rng(seed)
    who, what = rng.standard_normal((speakers, dim)), rng.standard_normal((contents, dim))
    table = pd.DataFrame(
        [(f"s{i:02d}", f"c{j:02d}") for i in range(speakers) for j in range(contents)],
        columns=["speaker", "content"],
    )
    x = np.repeat(who, contents, 0) + np.tile(what, (speakers, 1))
    x += noise * rng.standard_normal(x.shape)
    return Features(x.astype(np.float32), recorded(table)), table


def shape_for(config, dim=16):
    class Fake:
        n_layers, name = 3, "fake"

    Fake.dim = dim
    return shape_of(config, Fake())


# -- options ---------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers():
    paper = PRESETS["paper"].config
    assert paper == Interventional()
    assert (paper.factors, paper.names) == ("speaker,content", ("speaker", "content"))
    assert (paper.layers, paper.pooling, paper.standardise) == ("last", "mean", False)
    assert (paper.temperature, paper.margin) == (0.1, 0.0)
    assert (paper.orthogonality, paper.orthogonality_weight) == ("corrected", 1.0)
    assert (paper.batch_size, paper.steps, paper.learning_rate) == (512, 480, 1e-4)
    assert (paper.weight_decay, paper.schedule) == (0.01, "onecycle")
    assert (paper.residual_width, paper.feature_noise) == (0, 0.0)
    shape = shape_for(paper, 768)
    assert shape.sizes == (768, 768, 768, 768)
    assert shape.subspaces == {"speaker": 384, "content": 384}
    weights = sum(p.numel() for p in build(shape, factorial(dim=768)[0], 0).parameters())
    assert weights == 3 * (768 * 768 + 768)  # 1.77 M


def test_every_option_has_help_and_every_preset_a_reason():
    for option in options.options(Interventional):
        assert len(option.help) > 40, option.name
    assert all(len(preset.reason) > 40 for preset in PRESETS.values())
    assert RECIPES["interventional"] == "refine.recipes.interventional:Interventional"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"learning_rate": 1e9}, "learning_rate"),
        ({"engine": "tts"}, "engine"),
        ({"layers": "first"}, "layers"),
        ({"factors": ""}, "factors"),
        ({"factors": "speaker,speaker"}, "factors"),
        ({"factors": "speaker,residual"}, "factors"),
        ({"pseudo_speakers": 1}, "pseudo_speakers"),
        ({"more_corpora": "books@cloned"}, "more_corpora"),
        ({"temperature": math.nan}, "temperature"),
    ],
)
def test_senseless_options_are_refused_by_name(changes, field):
    with pytest.raises(OptionError, match=f"^{field}: got"):
        Interventional(**changes)


def test_the_axes_are_the_factors_or_one_and_its_natural_other():
    assert Interventional(factors="content, speaker").axes == ("speaker", "content")
    assert Interventional(factors="speaker").axes == ("speaker", "content")
    assert Interventional(factors="content").axes == ("speaker", "content")
    assert Interventional(factors="emotion").axes == ("emotion", "content")
    three = Interventional(factors="emotion,speaker,content")
    assert three.axes == ("speaker", "emotion", "content")
    assert set(shape_for(three, 48).subspaces.values()) == {16}


def test_each_further_corpus_may_have_its_own_engine():
    config = Interventional(engine="recorded+pseudo", more_corpora="a/b, c@pseudo")
    assert config.more == (("a/b", ("recorded", "pseudo")), ("c", ("pseudo",)))


def test_the_map_follows_the_encoder_and_the_options():
    config = Interventional(
        layers="1", pooling="stats", hidden_layers=1, hidden_width=40, subspace_width=10,
        residual_width=6, standardise=True,
    )  # fmt: skip
    shape = shape_for(config, 16)
    assert shape.sizes == (32, 40, 26)
    assert shape.subspaces == {"speaker": 10, "content": 10, "residual": 6}
    assert (shape.feature_layer, shape.feature_pooling) == (1, "stats")
    assert shape_for(Interventional(hidden_layers=0), 16).sizes == (16, 16)
    with pytest.raises(OptionError, match="layers: got 7; expected last, mean or 0 to 2"):
        shape_for(Interventional(layers="7"))


# -- loss ------------------------------------------------------------------------------------------


def reference_loss(blocks, labels, tau):
    """Loop by loop from the paper's equations, corrected orthogonality."""
    unit = {name: z / np.linalg.norm(z, axis=1, keepdims=True) for name, z in blocks.items()}
    total, floor = 0.0, 0.0
    for name, codes in labels.items():
        z, terms, floors = unit[name], [], []
        for i in range(len(z)):
            positives = [k for k in range(len(z)) if k != i and codes[k] == codes[i]]
            if not positives:
                continue
            below = sum(math.exp(z[i] @ z[n] / tau) for n in range(len(z)) if n != i)
            terms.append(
                -sum(math.log(math.exp(z[i] @ z[k] / tau) / below) for k in positives)
                / len(positives)
            )
            floors.append(math.log(len(positives)))
        total += np.mean(terms)
        floor += np.mean(floors)
    names = list(blocks)
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            total += np.mean((unit[names[a]].T @ unit[names[b]]) ** 2)
    return total, floor


def test_the_loss_is_the_papers():
    rng = np.random.default_rng(0)
    blocks = {name: rng.standard_normal((24, d)) for name, d in (("speaker", 5), ("content", 7))}
    labels = {"speaker": np.repeat(range(4), 6), "content": np.tile(range(6), 4)}
    parts = loss(
        {name: torch.tensor(z) for name, z in blocks.items()},
        {name: torch.tensor(codes) for name, codes in labels.items()},
        0.1,
    )
    total, floor = reference_loss(blocks, labels, 0.1)
    assert float(parts["total"]) == pytest.approx(total, rel=1e-6)
    assert float(parts["floor"]) == pytest.approx(floor, rel=1e-6)
    assert float(parts["floor_speaker"]) == pytest.approx(math.log(5))
    assert float(parts["floor_content"]) == pytest.approx(math.log(3))
    assert list(parts)[:2] == ["total", "floor"]


def test_a_residual_takes_part_in_orthogonality_alone_and_off_leaves_it_out():
    z = {name: torch.randn(12, 4, generator=torch.Generator().manual_seed(i))
         for i, name in enumerate(("speaker", "content", "residual"))}  # fmt: skip
    labels = {
        "speaker": torch.arange(12) // 4,
        "content": torch.arange(12) % 4,
    }
    full, off = loss(z, labels, 0.1), loss(z, labels, 0.1, form=None)
    assert "supcon_residual" not in full
    assert "orthogonality" not in off
    two = loss({k: z[k] for k in labels}, labels, 0.1)
    assert float(full["orthogonality"]) > float(two["orthogonality"])
    twice = loss(z, labels, 0.1, weight=2.0)
    assert float(twice["total"] - off["total"]) == pytest.approx(
        2 * float(full["orthogonality"]), rel=1e-5
    )


@pytest.mark.parametrize(("tau", "margin"), [(0.1, 0.0), (0.05, 0.2), (2.0, 0.0)])
def test_within_sheets_it_is_the_mean_of_the_sheets(tau, margin):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(30, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    codes = torch.tensor([0, 1, 2] * 4 + [3, 4, 0] * 6)
    sheets = torch.tensor([7] * 12 + [9] * 18)
    whole = loss({"content": z}, {"content": codes}, tau, margin, sheets={"content": sheets})
    parts = [supcon(z[sheets == s], codes[sheets == s], tau, margin) for s in (7, 9)]
    expected = (12 * parts[0].total + 18 * parts[1].total) / 30
    assert float(whole["total"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(whole["floor"]) == pytest.approx((12 * math.log(3) + 18 * math.log(5)) / 30, 1e-5)
    gradients = [torch.autograd.grad(total, z, retain_graph=True)[0]
                 for total in (whole["total"], expected)]  # fmt: skip
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_only_the_speaker_is_compared_across_sheets_where_that_is_asked():
    features, _ = factorial(8, 6)
    twice = Features(np.concatenate([features.vectors] * 2), join([features.grid] * 2, ["a", "b"]))
    totals = {}
    for contrast in ("batch", "sheet"):
        config = Interventional(contrast=contrast)
        objective = Objective(config, shape_for(config), twice)
        parts = objective.loss(objective.batch(1))
        totals[contrast] = {name: float(value.detach()) for name, value in parts.items()}
    assert totals["batch"]["supcon_speaker"] == pytest.approx(totals["sheet"]["supcon_speaker"])
    assert totals["batch"]["supcon_content"] > totals["sheet"]["supcon_content"] + 0.3


def test_a_batch_of_one_speaker_is_refused_by_factor():
    z = {"speaker": torch.randn(4, 3), "content": torch.randn(4, 3)}
    labels = {"speaker": torch.zeros(4, dtype=torch.long), "content": torch.arange(4) // 2}
    with pytest.raises(ValueError, match=r"^speaker: all 4 vectors have the same label"):
        loss(z, labels, 0.1)


# -- objective -------------------------------------------------------------------------------------


def test_a_batch_is_a_dense_block_with_its_labels():
    features, _ = factorial(32, 64)
    objective = Objective(Interventional(), shape_for(Interventional()), features)
    vectors, labels, _ = objective.batch(3)
    assert vectors.shape == (512, 16)
    assert torch.bincount(torch.bincount(labels[:, 0]))[32] == 16
    assert torch.bincount(torch.bincount(labels[:, 1]))[16] == 32
    parts = objective.loss(objective.batch(3))
    assert float(parts["floor_speaker"]) == pytest.approx(math.log(31), abs=1e-5)  # 3.43
    assert float(parts["floor_content"]) == pytest.approx(math.log(15), abs=1e-5)  # 2.71


def test_the_loss_starts_near_log_of_the_batch():
    features, _ = factorial(32, 64, dim=64)
    objective = Objective(Interventional(), shape_for(Interventional(), 64), features)
    parts = objective.loss(objective.batch(1))
    assert float(parts["supcon_speaker"].detach()) == pytest.approx(math.log(511), abs=0.6)


def test_feature_noise_follows_the_spread_and_the_step_alone():
    features, _ = factorial()
    plain = Objective(Interventional(), shape_for(Interventional()), features)
    noisy = Objective(Interventional(feature_noise=0.3), shape_for(Interventional()), features)
    assert torch.equal(noisy.batch(2)[0], noisy.batch(2)[0])
    change = noisy.batch(2)[0] - plain.batch(2)[0]
    ratio = change.std(0) / torch.from_numpy(features.vectors).std(0)
    assert ratio.mean() == pytest.approx(0.3, rel=0.1)


def test_subspaces_learn_their_factor_and_forget_the_other():
    """Speakers and contents never trained on: each is told apart in its own subspace alone."""
    grid = factorial(40, 30)[0].grid
    table = factorial(12, 10)[1]
    config = Interventional(steps=200, learning_rate=3e-3, hidden_layers=0, standardise=True)
    rng = np.random.default_rng(9)
    basis = np.linalg.qr(rng.standard_normal((32, 32)))[0]

    def structured(n_speakers, n_contents, seed):
        """Who lives in one half of the space, what in the other, mixed by a rotation."""
        draw = np.random.default_rng(seed)
        who, what = draw.standard_normal((n_speakers, 16)), draw.standard_normal((n_contents, 16))
        x = np.hstack([np.repeat(who, n_contents, 0), np.tile(what, (n_speakers, 1))]) @ basis
        return (x + 0.3 * draw.standard_normal(x.shape)).astype(np.float32)

    features = Features(structured(40, 30, 1), grid)
    objective = Objective(config, shape_for(config, 32), features)
    optimiser = torch.optim.AdamW(objective.module.parameters(), lr=3e-3)
    for step in range(1, 201):
        parts = objective.loss(objective.batch(step))
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
    labels = {name: table[name].to_numpy(dtype=object) for name in ("speaker", "content")}
    found = HeldOut(structured(12, 10, 2), labels).measure(objective.module)
    assert found["eer_speaker_in_speaker"] < 0.1
    assert found["eer_content_in_content"] < 0.1
    assert found["eer_speaker_in_content"] > 0.4
    assert found["eer_content_in_speaker"] > 0.4


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"feature_noise": 0.2, "standardise": True}])
def test_ten_steps_equal_five_a_resume_and_five_more_bit_for_bit(corpus, hubert, changes):
    config = Interventional(**QUICK, **changes)
    whole, halves = new_run(corpus, name="whole"), new_run(corpus, name="halves")
    assert interventional.train(config, hubert, corpus, whole) == "finished"
    assert interventional.train(config, hubert, corpus, StoppingRun(halves, 5)) == "stopped"
    torch.manual_seed(123)
    assert interventional.train(config, hubert, corpus, halves, resume=True) == "finished"
    assert rows(whole) == rows(halves)
    for name in ("step-000010/state.safetensors", "step-000010/state.json"):
        files = [run.checkpoints / name for run in (whole, halves)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_result_is_a_small_folder_that_opens_with_named_subspaces(corpus, hubert):
    run = new_run(corpus)
    interventional.train(Interventional(**QUICK), hubert, corpus, run)
    final = run.checkpoints / "final"
    assert not (final / "model.safetensors").exists()
    told = read_refinement(final)
    assert told["recipe"] == "interventional"
    assert told["base"]["fingerprint"] == encoders.peek(hubert).fingerprint
    assert told["subspaces"] == {"speaker": 16, "content": 16}
    assert told["provenance"]["grids"] == {"tones": "4 speakers × 3 contents, 24 clips"}
    encoder = encoders.load(run.path)
    waveform = torch.randn(1, 8000)
    with torch.no_grad():
        z = encoder.embed(waveform, torch.tensor([8000]))
        speaker = encoder.embed(waveform, torch.tensor([8000]), subspace="speaker")
        base = encoders.load(hubert).embed(waveform, torch.tensor([8000]), layer=2, pooling="mean")
        expected = encoder.projector(base)
    assert torch.equal(z[:, :16], speaker)
    torch.testing.assert_close(z, expected)


def test_the_log_says_the_floor_and_each_subspace_on_each_factor(corpus, hubert):
    table = pd.read_csv(corpus / "clips.csv")
    table.loc[table["speaker"].isin(["s00", "s01"]), "split"] = "dev"
    table["split"] = table["split"].fillna("train") if "split" in table else "train"
    table.to_csv(corpus / "clips.csv", index=False)
    run = new_run(corpus)
    interventional.train(Interventional(**QUICK), hubert, corpus, run)
    logged = rows(run)
    assert [row["step"] for row in logged] == list(range(11))
    for row in logged[1:]:
        assert row["total"] > row["floor"] > 0
        parts = row["supcon_speaker"] + row["supcon_content"] + row["orthogonality"]
        assert row["total"] == pytest.approx(parts, rel=1e-5)
    looked = [row for row in logged if "eer_speaker_in_speaker" in row]
    assert [row["step"] for row in looked] == [0, 5, 10]
    assert {name for name in looked[0] if name.startswith("eer")} == {
        f"eer_{factor}_in_{space}"
        for factor in ("speaker", "content")
        for space in ("speaker", "content")
    }


def test_one_factor_alone_and_three_at_once(corpus, hubert):
    single = new_run(corpus)
    interventional.train(Interventional(**QUICK, factors="content"), hubert, corpus, single)
    assert set(encoders.load(single.path).subspaces) == {"content"}
    three = new_run(corpus)
    config = Interventional(**QUICK, factors="speaker,content,emotion", residual_width=4)
    interventional.train(config, hubert, corpus, three)
    encoder = encoders.load(three.path)
    assert list(encoder.subspaces) == ["speaker", "content", "emotion", "residual"]
    assert rows(three)[-1]["supcon_emotion"] > 0


def test_a_mixture_of_engines_and_corpora(corpus, hubert, tmp_path):
    import shutil

    other = shutil.copytree(corpus, tmp_path / "other")
    table = pd.read_csv(other / "clips.csv").assign(group="b")
    table.to_csv(other / "clips.csv", index=False)
    config = Interventional(
        **QUICK, engine="recorded+pseudo", pseudo_speakers=2, pseudo_recordings=12,
        more_corpora=str(other),
    )  # fmt: skip
    run = new_run(corpus)
    interventional.train(config, hubert, corpus, run)
    grids = read_refinement(run.checkpoints / "final")["provenance"]["grids"]
    assert set(grids) == {
        "tones", "tones as pseudo-speakers", "other", "other as pseudo-speakers",
    }  # fmt: skip
    twice = Interventional(**QUICK, more_corpora=str(corpus))
    with pytest.raises(TrainingError, match="one of them is there twice"):
        interventional.train(twice, hubert, corpus, new_run(corpus))


def test_a_run_of_a_run_composes(corpus, hubert):
    first = new_run(corpus)
    interventional.train(Interventional(**QUICK), hubert, corpus, first)
    second = new_run(corpus)
    interventional.train(Interventional(**QUICK, factors="speaker"), first.path, corpus, second)
    assert set(encoders.load(second.path).subspaces) == {"speaker"}


def test_a_dino_network_can_be_split(corpus):
    """dino -> interventional: the speaker network is a run, and a run is an encoder."""
    from test_recipe_dino import QUICK as SHORT

    from refine.recipes import dino

    first = runs.create({"command": "train", "recipe": "dino", "corpus": str(corpus)})
    assert dino.train(SHORT, "lresnet34", corpus, first) == "finished"
    second = new_run(corpus)
    config = Interventional(**QUICK, layers="last", pooling="mean")
    assert interventional.train(config, first.path, corpus, second) == "finished"
    split = encoders.load(second.path)
    assert set(split.subspaces) == {"content", "speaker"}
    assert read_refinement(second.checkpoints / "final")["base"]["name"] == first.id


def test_a_base_that_changed_since_is_named_on_resume(corpus, hubert, tiny_encoder):
    run = new_run(corpus)
    config = Interventional(**QUICK)
    assert interventional.train(config, hubert, corpus, StoppingRun(run, 5)) == "stopped"
    with pytest.raises(TrainingError, match=r"has changed since this run was begun \(fingerprint"):
        interventional.train(config, tiny_encoder("wavlm"), corpus, run, resume=True)


def test_a_stop_before_the_first_step_ends_at_once(corpus, hubert):
    run = new_run(corpus)
    run.request_stop()
    assert interventional.train(Interventional(**QUICK), hubert, corpus, run) == "stopped"
    assert list(run.checkpoints.iterdir()) == []


def test_an_estimate_keeps_nothing(corpus, hubert, tmp_path, monkeypatch):
    monkeypatch.setattr(grid_engines, "make", None)
    config = Interventional(**QUICK, engine="recorded+pseudo+espeak")
    found = interventional.estimate(config, hubert, corpus)
    parts = found["seconds_per_step"] * 10 / 60 + found["feature_minutes"] + found["grid_minutes"]
    assert found["minutes"] == pytest.approx(parts)
    assert found["grid_minutes"] > 0
    json.dumps(found)


# -- refusals --------------------------------------------------------------------------------------


def test_a_factor_that_is_missing_or_has_one_class_is_refused_before_training(corpus, hubert):
    with pytest.raises(GridError, match="tones: no factor mood; the clips have"):
        interventional.train(
            Interventional(**QUICK, factors="speaker,mood"), hubert, corpus, new_run(corpus)
        )
    table = pd.read_csv(corpus / "clips.csv").assign(content="one")
    table.to_csv(corpus / "clips.csv", index=False)
    with pytest.raises(GridError, match=r"content: one value \(one\)"):
        interventional.train(Interventional(**QUICK), hubert, corpus, new_run(corpus))


def test_a_clip_of_the_grid_that_cannot_be_encoded_is_named(corpus, hubert, monkeypatch):
    real = subspace_map._embedded

    def one_less(*given):
        vectors, table = real(*given)
        return vectors[1:], table.iloc[1:].reset_index(drop=True)

    monkeypatch.setattr(subspace_map, "_embedded", one_less)
    clip = open_corpus(corpus).subset("train").table["clip"][0]
    with pytest.raises(GridError, match=f"{clip}: cannot be encoded"):
        interventional.train(Interventional(**QUICK), hubert, corpus, new_run(corpus))


def test_a_batch_below_a_block_is_refused(corpus, hubert):
    config = Interventional(**QUICK, factors="speaker,content,emotion", batch_size=4)
    with pytest.raises(GridError, match="batch_size: got 4; a block of 3 factors needs at least 8"):
        interventional.train(config, hubert, corpus, new_run(corpus))


def test_a_projector_of_another_width_is_never_built():
    assert isinstance(shape_for(Interventional()), ProjectorConfig)
