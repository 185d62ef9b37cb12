"""What `two_step` trains, by a slow version of its equations; and the baseline beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from refine import encoders
from refine.corpus import open_corpus
from refine.end_to_end import EndToEnd, fine_tune
from refine.losses.bounds import barlow_twins_floor, supcon_floor
from refine.metrics.classes import spread_ratio
from refine.recipes.two_step import TwoStep
from refine.shaping import Shaping, combined, dropped, optimise
from refine.supervision import rows_of

CONFIG = TwoStep(
    factor="content", apart="speaker", batch_size=6, dim=32, feature_dropout=0.0, dropout="off",
    precision="fp32", train="lora", top_layers=1,
)  # fmt: skip


@pytest.fixture
def corpus(tone_corpus):
    return open_corpus(tone_corpus)


@pytest.fixture
def build(tiny_encoder, corpus):
    def make(kind=Shaping, family="hubert", **changes):
        encoder = encoders.load(tiny_encoder(family), precision="fp32")
        rows = np.flatnonzero(corpus.table["split"] == "train")
        return kind(replace(CONFIG, **changes), encoder, corpus, rows)

    return make


def cosine_distance(u, v):
    return 1 - sum(a * b for a, b in zip(u, v, strict=True)) / np.sqrt((u @ u) * (v @ v))


def slow_triplet(a, p, n, margin):
    terms = []
    for u, v, w in zip(a, p, n, strict=True):
        terms.append(max(0.0, cosine_distance(u, v) - cosine_distance(u, w) + margin))
    return np.mean(terms)


def slow_barlow_twins(a, p, offdiagonal):
    size, dim = a.shape
    standard = [(x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in (a, p)]
    total = 0.0
    for j in range(dim):
        for k in range(dim):
            c = sum(standard[0][i, j] * standard[1][i, k] for i in range(size)) / size
            total += (1 - c) ** 2 if j == k else offdiagonal * c**2
    return total


def test_the_loss_is_triplet_and_weighted_barlow_twins_behind_the_projector(build):
    objective = build(standardise=True, roles="shared", batch_size=12)
    objective.standardise()
    batch = objective.batch(3)
    parts = objective.loss(batch)
    with torch.no_grad():
        x = objective.source.features(batch.inputs).double().numpy()
        seen = objective.source.features.whole(objective.source.rows).double().numpy()
    x = (x - seen.mean(0)) / seen.std(0)
    # the projector by hand: linear, batch norm over the batch, ReLU, twice, then linear
    state = {k: v.double().numpy() for k, v in objective.module.projector.state_dict().items()}
    z = x @ state["layers.0.weight"].T
    for norm, linear in ((1, 3), (4, 6)):
        z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
        z = np.maximum(z * state[f"layers.{norm}.weight"] + state[f"layers.{norm}.bias"], 0)
        z = z @ state[f"layers.{linear}.weight"].T
    roles = batch.triplets
    a, p, n = z[roles.anchor], z[roles.positive], z[roles.negative]
    contrastive, noncontrastive = slow_triplet(a, p, n, 1.0), slow_barlow_twins(a, p, 5.1e-4)
    assert float(parts.contrastive.detach()) == pytest.approx(contrastive, rel=1e-3)
    assert float(parts.noncontrastive.detach()) == pytest.approx(noncontrastive, rel=2e-3)
    total = contrastive + 0.05 * noncontrastive
    assert float(parts.total.detach()) == pytest.approx(total, rel=1e-3)
    assert not any(name.endswith("bias") for name in state if name.startswith("layers.0"))
    assert set(parts._fields) == {
        "total", "floor", "contrastive", "positive_distance", "negative_distance", "active",
        "noncontrastive", "on_diagonal", "off_diagonal",
    }  # fmt: skip


@pytest.mark.parametrize("contrastive", ["triplet", "supcon", "none"])
@pytest.mark.parametrize("noncontrastive", ["barlow_twins", "vicreg", "none"])
@pytest.mark.parametrize("roles", ["apart", "shared"])
def test_each_half_alone_and_together_trains_projector_and_encoder(
    build, contrastive, noncontrastive, roles
):
    if contrastive == noncontrastive == "none":
        return
    objective = build(contrastive=contrastive, noncontrastive=noncontrastive, roles=roles)
    parts = objective.loss(objective.batch(1))
    weighted = 0.0
    if contrastive != "none":
        weighted += float(parts.contrastive.detach())
    if noncontrastive != "none":
        weighted += 0.05 * float(parts.noncontrastive.detach())
    assert float(parts.total.detach()) == pytest.approx(weighted, rel=1e-5)
    assert parts.floor <= float(parts.total.detach())
    parts.total.backward()
    trained = [p for group in objective.groups() for p in group["params"]]
    free = [p for p in objective.module.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in free}
    assert sum(float(p.grad.abs().sum()) for p in trained if p.grad is not None) > 0
    names = [n for n, p in objective.module.named_parameters() if p.grad is not None]
    assert any("lora_" in name and "layers.1" in name for name in names)
    assert not any("layers.0.attention" in name for name in names)


def test_the_floor_of_supcon_and_barlow_twins_is_told(build):
    parts = build(contrastive="supcon", roles="shared").loss(build(roles="shared").batch(1))
    # six clips of three classes have one positive each: log 1
    assert parts.floor == pytest.approx(0.05 * barlow_twins_floor(6, 32))
    apart = build(contrastive="supcon", noncontrastive="none", batch_size=12)
    labels = apart.batch(1).labels.tolist()
    assert apart.loss(apart.batch(1)).floor == pytest.approx(supcon_floor(labels), rel=1e-5)


def test_both_objectives_see_the_same_clips(build):
    ours, theirs = build(), build(EndToEnd)
    for step in (1, 5):
        one, two = ours.batch(step), theirs.batch(step)
        assert one.triplets.rows.tolist() == two.triplets.rows.tolist()
        assert torch.equal(one.inputs.inputs, two.inputs.inputs)
    free = [[n for n, p in o.module.named_parameters() if p.requires_grad] for o in (ours, theirs)]
    lora = [{n.split("model.")[-1] for n in names if "lora" in n} for names in free]
    assert lora[0] == lora[1]


def test_the_baseline_is_cross_entropy_of_a_linear_layer(build):
    objective = build(EndToEnd, standardise=True)
    objective.standardise()
    batch = objective.batch(2)
    parts = objective.loss(batch)
    rows = objective.source.rows[batch.triplets.rows]
    features, logits = objective.outputs(rows)
    head = objective.module.head.layers[0]
    weight, bias = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
    np.testing.assert_allclose(features @ weight.T + bias, logits, rtol=1e-4, atol=1e-5)
    labels = objective.source.sampler.labels[batch.triplets.rows]
    shifted = logits - logits.max(1, keepdims=True)
    chances = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    expected = -np.log(chances[np.arange(len(labels)), labels]).mean()
    assert float(parts.total.detach()) == pytest.approx(expected, rel=1e-3)
    assert float(parts.accuracy) == pytest.approx((logits.argmax(1) == labels).mean())
    train = objective.source.features.whole(objective.source.rows).numpy()
    np.testing.assert_allclose(
        objective.module.head.mean.numpy(), train.mean(0), rtol=1e-3, atol=1e-4
    )


def test_a_held_encoder_gives_the_same_features_and_no_gradient(build):
    held, free = build(hold_encoder=5), build()
    one, two = held.batch(5), free.batch(5)
    assert one.held
    assert not two.held
    torch.testing.assert_close(
        held.source.forward(one), free.source.forward(two), atol=1e-5, rtol=1e-4
    )
    held.loss(one).total.backward()
    assert all(p.grad is None for n, p in held.module.named_parameters() if "lora" in n)
    assert held.module.projector.layers[0].weight.grad is not None
    assert not held.batch(6).held


def test_with_nothing_of_the_encoder_trained_a_step_is_the_projectors(build):
    objective = build(train="none", top_layers=0)
    objective.loss(objective.batch(1)).total.backward()
    assert all(p.grad is None for p in objective.module.model.parameters())
    assert len(objective.groups()) == 1


def test_the_vectors_are_those_of_the_saved_encoder(build, corpus, tmp_path):
    objective = build(pooling="stats", standardise=True)
    objective.standardise()
    for step in (1, 2):
        objective.loss(objective.batch(step))  # moves the running statistics
    rows = [0, 7, 20]
    ours = objective.vectors(rows)
    objective.module.save(tmp_path / "saved", {"recipe": "two_step"}, small=True)
    opened = encoders.load(tmp_path / "saved", precision="fp32")
    assert opened.layer == "projected"
    for row, vector in zip(rows, ours, strict=True):
        waveform = torch.from_numpy(corpus.waveform(corpus.table["clip"][row]))[None]
        with torch.no_grad():
            found = opened.embed(waveform, torch.tensor([waveform.shape[1]]))[0].numpy()
        assert found.shape == (32,)
        np.testing.assert_allclose(found, vector, rtol=1e-3, atol=1e-4)
    assert objective.module.projector.training  # looking does not stop the training


def test_dropout_of_the_feature_falls_on_its_mean_where_it_is_standardised(build):
    objective = build(standardise=True, feature_dropout=0.9, train="none", top_layers=0)
    objective.standardise()
    projector = objective.module.projector
    torch.manual_seed(0)
    x = objective.source.features.whole(objective.source.rows)
    seen = {}
    projector.layers[0].register_forward_hook(lambda _m, inputs, _o: seen.update(x=inputs[0]))
    dropped(projector, x, 0.9)
    assert 0.85 < float((seen["x"] == 0).float().mean()) < 0.95
    assert float(seen["x"].mean(0).abs().max()) < 3


def test_one_seed_one_projector_whatever_was_drawn_before(build):
    one = build()
    torch.manual_seed(77)
    two, other = build(), build(seed=1)
    key = "layers.0.weight"
    states = [o.module.projector.state_dict()[key] for o in (one, two, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_loss_of_a_batch_spread_over_rows_is_gathered(build, monkeypatch):
    objective = build()
    batch = objective.batch(1)
    z = torch.randn(len(batch.triplets.rows), 32)
    asked = []
    monkeypatch.setattr("refine.shaping.gather", lambda x: asked.append(x.shape) or x)
    combined(CONFIG, z, batch)
    assert asked == [(6, 32)] * 3


LONGER = {"steps": 60, "batch_size": 18, "learning_rate": 3e-3, "standardise": True}


def test_optimising_pulls_the_classes_of_train_clips_together(build):
    objective = build(**LONGER)
    objective.standardise()
    rows, seen = objective.source.rows, []
    labels = objective.source.sampler.labels
    before = spread_ratio(objective.vectors(rows), labels)
    optimise(objective, replace(CONFIG, **LONGER), seen.append)
    assert seen == [*range(1, 61)]
    assert spread_ratio(objective.vectors(rows), labels) < 0.7 * before


def test_fine_tuning_keeps_the_state_that_held_out_speakers_are_told_best_in(
    tiny_encoder, corpus, monkeypatch
):
    config = replace(CONFIG, **LONGER)
    rows = rows_of(corpus, "content", "speaker", 0)
    labels = corpus.table["content"].to_numpy(dtype=str)
    told = []
    outputs = EndToEnd.outputs

    def spy(self, asked):
        found = outputs(self, asked)
        if np.array_equal(asked, rows.held_out):
            shifted = found[1].astype(float)
            shifted -= np.log(np.exp(shifted).sum(1, keepdims=True))
            codes = np.searchsorted(self.classes, labels[asked])
            told.append(-shifted[np.arange(len(codes)), codes].mean())
        return found

    monkeypatch.setattr(EndToEnd, "outputs", spy)
    encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
    tuned = fine_tune(config, encoder, corpus, rows)
    assert len(told) == 5
    tuned.outputs(rows.held_out)
    assert told[-1] == pytest.approx(min(told[:-1]), rel=1e-5)
    said = tuned.classes[tuned.outputs(rows.train)[1].argmax(axis=1)]
    assert (said == labels[rows.train]).mean() > 0.6


def test_what_is_kept_of_fine_tuning_is_fine_tuned(tiny_encoder, corpus):
    rows = rows_of(corpus, "content", "speaker", 0)
    found = []
    for changes in ({"hold_encoder": 40}, {"train": "none", "top_layers": 0}):
        encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
        before = Shaping(CONFIG, encoder, corpus, rows.train).source.features.whole(rows.held_out)
        encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
        tuned = fine_tune(replace(CONFIG, **LONGER, **changes), encoder, corpus, rows)
        after = tuned.source.features.whole(rows.held_out)
        found.append(float((after - before).abs().max() / before.abs().max()))
    assert found[0] > 1e-3  # the encoder has moved
    assert found[1] < 1e-5  # and there it never does
