"""Projectors: a slow copy of the maths, named blocks, standardising, and what is refused."""

import json

import numpy as np
import pytest
import torch

from refine.encoders.projector import Projector, ProjectorConfig, ProjectorError

PAPER_1 = ProjectorConfig((12, 8, 8, 8), norm="batch", bias=False)
PAPER_4 = ProjectorConfig(
    (12, 12, 12, 12), subspaces={"speaker": 5, "content": 7}, feature_layer=2, standardise=True
)


def vectors(n=40, dim=12, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(2, 3, (n, dim)).astype(np.float32))


def slow(projector, x):
    """The formula, a layer at a time, in NumPy."""
    state = {name: value.double().numpy() for name, value in projector.state_dict().items()}
    x = x.double().numpy()
    if projector.config.standardise:
        x = (x - state["mean"]) / state["scale"]
    for name, layer in projector.layers.named_children():
        key = f"layers.{name}"
        if isinstance(layer, torch.nn.Linear):
            x = x @ state[f"{key}.weight"].T + state.get(f"{key}.bias", 0.0)
        elif isinstance(layer, torch.nn.BatchNorm1d):
            mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
            x = (x - mean) / np.sqrt(variance + 1e-5) * state[f"{key}.weight"]
            x = x + state[f"{key}.bias"]
        else:
            x = np.maximum(x, 0)
    return x


@pytest.mark.parametrize("config", [PAPER_1, PAPER_4, ProjectorConfig((12, 3))])
def test_equals_a_slow_copy(config):
    torch.manual_seed(0)
    projector = Projector(config)
    x = vectors()
    if config.standardise:
        projector.fit_standardise(x)
    projector.train()(x)  # batch statistics move
    np.testing.assert_allclose(projector.eval()(x).detach(), slow(projector, x), atol=1e-5)


def test_the_papers_own_projectors():
    one, four = Projector(PAPER_1), Projector(PAPER_4)
    kinds = [type(layer).__name__ for layer in one.layers]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]
    assert all(layer.bias is None for layer in one.layers if isinstance(layer, torch.nn.Linear))
    assert [type(layer).__name__ for layer in four.layers] == ["Linear", "ReLU"] * 2 + ["Linear"]


def test_blocks_are_slices_in_order_and_cover_the_output():
    projector = Projector(PAPER_4)
    z = projector(vectors())
    blocks = projector.split(z)
    assert {name: block.shape[1] for name, block in blocks.items()} == {"speaker": 5, "content": 7}
    assert torch.equal(torch.cat(list(blocks.values()), dim=1), z)
    assert PAPER_1.slices == {"all": slice(0, 8)}
    assert list(Projector(PAPER_1).split(torch.zeros(2, 8))) == ["all"]


def test_standardised_features_do_not_depend_on_their_unit():
    x = vectors()
    x[:, 3] = 7.0  # a dimension that never moves is centred, not blown up
    plain, scaled = Projector(PAPER_4), Projector(PAPER_4)
    scaled.load_state_dict(plain.state_dict())
    plain.fit_standardise(x)
    scaled.fit_standardise(x * 100 - 5)
    np.testing.assert_allclose(
        plain(x).detach(), scaled(x * 100 - 5).detach(), atol=1e-4, rtol=1e-4
    )
    assert plain.scale[3] == 1
    assert not any(p.requires_grad for p in (plain.mean, plain.scale))


def test_the_description_survives_json():
    for config in (PAPER_1, PAPER_4):
        assert ProjectorConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sizes": (12,)}, r"sizes: got \[12\]; expected two or more"),
        ({"sizes": (12, 0)}, r"sizes: got \[12, 0\]"),
        ({"norm": "layer"}, "norm: got 'layer'; expected none or batch"),
        ({"feature_pooling": "max"}, "feature_pooling: got 'max'"),
        ({"feature_layer": -1}, "feature_layer: got -1"),
        ({"feature_layer": "last"}, "feature_layer: got 'last'"),
        ({"subspaces": {"speaker": 5, "content": 5}}, "add up to 10 and the output has 8"),
        ({"subspaces": {"speaker": 0, "content": 8}}, "'speaker' has width 0"),
        ({"subspaces": {"all": 4, "content": 4}}, "all is the whole vector"),
    ],
)
def test_descriptions_that_do_not_add_up_are_refused(changes, sentence):
    with pytest.raises(ProjectorError, match=sentence):
        ProjectorConfig(**{"sizes": (12, 8), **changes})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "sizes are missing"),
        ({"sizes": [2, 2], "depth": 3}, "depth is unknown; its fields are bias"),
        ({"sizes": 3}, "wrong kind"),
        ({"sizes": [12, 2.5]}, "wrong kind|sizes: got"),
        ({"sizes": [12, 2], "subspaces": [2]}, "wrong kind"),
        ([1], "an object is expected"),
    ],
)
def test_a_broken_description_is_refused(content, sentence):
    with pytest.raises(ProjectorError, match=sentence):
        ProjectorConfig.from_dict(content)


def test_features_of_another_width_or_too_few_are_refused():
    projector = Projector(PAPER_4)
    with pytest.raises(ProjectorError, match="has 9 dimensions and the projector takes 12"):
        projector(vectors(dim=9))
    with pytest.raises(ProjectorError, match="got 1 vectors; at least 2"):
        projector.fit_standardise(vectors(1))
    with pytest.raises(ProjectorError, match="standardise: is off"):
        Projector(PAPER_1).fit_standardise(vectors())
