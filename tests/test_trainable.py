"""What of an encoder is trained: the right weights, a LoRA that starts at nothing and is seen."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModel

from refine.encoders import load
from refine.encoders.collate import pad
from refine.encoders.speaker import build
from refine.encoders.trainable import LORA_TARGETS, TrainableError, choose, merge, merged

FAMILIES = ["wav2vec2-group", "wav2vec2-layer", "hubert", "wavlm", "data2vec-audio"]


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return pad([(0.1 * rng.normal(size=n)).astype(np.float32) for n in (8_000, 12_000)])


def states(encoder):
    with torch.no_grad():
        return encoder.encode(*batch()).states


def stir(encoder, size=0.3):
    """Move a LoRA away from nothing."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in encoder.model.named_parameters():
        if ".lora_B." in name:
            parameter.data = size * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_starts_at_nothing_and_reaches_attention_and_feed_forward(tiny_encoder, family):
    folder = tiny_encoder(family)
    encoder, plain = load(folder), load(folder)
    trained = choose(encoder, "lora", lora_rank=4)
    torch.testing.assert_close(states(encoder), states(plain), atol=1e-6, rtol=0)
    matrices = 2 * 2 * len(LORA_TARGETS)  # halves, layers, places
    assert len(trained) == matrices
    assert sum(p.numel() for p in trained) == 2 * 4 * (4 * 2 * 32 + 2 * (32 + 64))
    free = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert len(free) == matrices
    assert all(".lora_" in name for name in free)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_of_a_lora_gets_a_gradient_and_changes_the_result(tiny_encoder, family):
    """WavLM's attention reads the weights without calling the layers: it must see the LoRA too."""
    encoder = load(tiny_encoder(family))
    before = states(encoder)
    trained = choose(encoder, "lora", lora_rank=4)
    stir(encoder)
    encoder.encode(*batch()).states.square().sum().backward()
    for name, parameter in encoder.model.named_parameters():
        if ".lora_" in name:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name
        else:
            assert parameter.grad is None, name
    for place in LORA_TARGETS:
        alone = copy.deepcopy(encoder)
        for name, parameter in alone.model.named_parameters():
            if ".lora_B." in name and place not in name:
                parameter.data.zero_()
        assert float((states(alone) - before).abs().max()) > 1e-4, place
    assert len(trained) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_merging_changes_no_result_and_leaves_a_plain_model(tiny_encoder, family):
    encoder = load(tiny_encoder(family))
    choose(encoder, "lora", lora_rank=4)
    stir(encoder)
    before = states(encoder)
    plain = merged(encoder.model)
    assert plain is not encoder.model
    assert any(".lora_" in name for name in encoder.model.state_dict())
    fresh = AutoModel.from_pretrained(tiny_encoder(family))
    assert set(plain.state_dict()) == set(fresh.state_dict())
    merge(encoder.model)
    torch.testing.assert_close(states(encoder), before, atol=1e-4, rtol=1e-4)
    assert set(encoder.model.state_dict()) == set(fresh.state_dict())


def test_the_closed_form_of_a_lora(tiny_encoder):
    encoder = load(tiny_encoder("hubert"))
    before = encoder.model.state_dict()["encoder.layers.1.feed_forward.output_dense.weight"].clone()
    choose(encoder, "lora", lora_rank=2, lora_alpha=6)
    stir(encoder)
    layer = encoder.model.encoder.layers[1].feed_forward.output_dense
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (before + 6 / 2 * (b @ a)).detach()
    after = merged(encoder.model).state_dict()["encoder.layers.1.feed_forward.output_dense.weight"]
    torch.testing.assert_close(after, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(layer.weight.detach(), expected, atol=1e-6, rtol=1e-5)


def test_a_lora_is_drawn_from_its_seed_alone(tiny_encoder):
    drawn = []
    for noise, seed in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(noise)
        encoder = load(tiny_encoder("hubert"))
        before = torch.get_rng_state()
        drawn.append(torch.cat([p.flatten() for p in choose(encoder, "lora", seed=seed)]))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_norms_transformer_and_all(tiny_encoder):
    encoder = load(tiny_encoder("hubert"))
    free = {}
    for train in ("norms", "transformer", "all"):
        trained = choose(encoder, train)
        free[train] = {name for name, p in encoder.model.named_parameters() if p.requires_grad}
        assert len(trained) == len(free[train])
    assert free["norms"] < free["transformer"] < free["all"]
    parameters = dict(encoder.model.named_parameters())
    assert free["all"] == set(parameters)
    assert {n.split(".")[0] for n in free["all"] - free["transformer"]} == {"feature_extractor"}
    assert all(parameters[name].ndim == 1 for name in free["norms"])


def test_a_copy_of_an_encoder_is_as_indifferent_to_padding(tiny_encoder):
    """A teacher is a copy of its student."""
    for family in ("wav2vec2-group", "data2vec-audio"):
        encoder = load(tiny_encoder(family))
        choose(encoder, "lora", lora_rank=4)
        stir(encoder)
        teacher = copy.deepcopy(encoder)
        states(encoder)  # tells the guard of the student other lengths
        waveforms, lengths = batch(1)
        with torch.no_grad():
            together = teacher.embed(waveforms, lengths)
            alone = teacher.embed(waveforms[:1, : lengths[0]], lengths[:1])
        torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)


def test_refusals(tiny_encoder):
    encoder = load(tiny_encoder("hubert"))
    for rank in (0, 33):
        with pytest.raises(TrainableError, match=f"lora_rank: got {rank}; expected 1 to 32"):
            choose(encoder, "lora", lora_rank=rank)
    with pytest.raises(TrainableError, match="lora_alpha: got 0"):
        choose(encoder, "lora", lora_alpha=0)
    choose(encoder, "lora")
    with pytest.raises(TrainableError, match="already carries a LoRA that is not saved"):
        choose(encoder, "norms")
    with pytest.raises(TrainableError, match="lresnet18 is no transformer"):
        choose(build("lresnet18"), "lora")
    assert choose(build("lresnet18"), "all")
