"""The adapter of step 2: its arithmetic, its stop, its classes, what it refuses."""

import warnings

import numpy as np
import pytest
import torch

from refine import adapter
from refine.adapter import AdapterConfig, AdapterError


def blobs(seed=0, n=60, spread=0.7, dim=5, classes=("anger", "joy", "calm")):
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(len(classes), dim)) * 3
    codes = np.arange(n) % len(classes)
    x = means[codes] + spread * rng.normal(size=(n, dim))
    return x * 10 + 100, np.array(classes)[codes]


@pytest.fixture(scope="module")
def fitted():
    return adapter.fit(*blobs(0), *blobs(1))


def test_the_defaults_are_the_stand_in_of_the_methods_page():
    config = AdapterConfig()
    assert (config.hidden, config.dropout) == (128, 0.5)


def test_it_equals_scikit_learns_network_of_the_same_weights(fitted):
    sklearn = pytest.importorskip("sklearn.neural_network")
    x, labels = blobs(2)
    z = (x - fitted.mean) / fitted.scale
    oracle = sklearn.MLPClassifier(hidden_layer_sizes=(128,), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step of its own, whose weights are replaced below
        oracle.fit(z, labels)
    order = [list(fitted.classes).index(name) for name in oracle.classes_]
    oracle.coefs_ = [fitted.hidden.T, fitted.weights[order].T]
    oracle.intercepts_ = [fitted.hidden_bias, fitted.bias[order]]
    np.testing.assert_allclose(
        oracle.predict_proba(z), fitted.probabilities(x)[:, order], rtol=1e-6, atol=1e-12
    )
    assert (oracle.predict(z) == fitted.predict(x)).all()


def test_it_equals_the_torch_network_in_evaluation_mode(fitted):
    network = adapter._network(5, 3, AdapterConfig()).double()
    network.load_state_dict(
        {
            "0.weight": torch.from_numpy(fitted.hidden),
            "0.bias": torch.from_numpy(fitted.hidden_bias),
            "3.weight": torch.from_numpy(fitted.weights),
            "3.bias": torch.from_numpy(fitted.bias),
        }
    )
    x, _ = blobs(3)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy((x - fitted.mean) / fitted.scale))
    np.testing.assert_allclose(fitted.logits(x), expected.numpy(), rtol=1e-9)


def test_it_tells_what_can_be_told(fitted):
    x, labels = blobs(4)
    assert (fitted.predict(x) == labels).mean() > 0.95
    assert fitted.classes.tolist() == ["anger", "calm", "joy"]
    assert np.allclose(fitted.probabilities(x).sum(axis=1), 1)


def test_it_tells_what_no_line_can():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    labels = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
    config = AdapterConfig(dropout=0.0, learning_rate=5e-3)
    found = adapter.fit(x[:300], labels[:300], x[300:350], labels[300:350], config)
    assert (found.predict(x[350:]) == labels[350:]).mean() > 0.85


def test_it_stops_where_held_out_clips_are_told_best():
    x, labels = blobs(0)
    rng = np.random.default_rng(0)
    noise = rng.permutation(labels)  # nothing to learn: held-out loss rises at once
    found = adapter.fit(x, noise, *blobs(1), AdapterConfig(patience=5, dropout=0.0))
    assert len(found.losses) == found.epoch + 5 < 100
    assert found.losses[found.epoch - 1] == min(found.losses)


def test_one_seed_one_adapter_whatever_was_drawn_before():
    one = adapter.fit(*blobs(0), *blobs(1))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    two = adapter.fit(*blobs(0), *blobs(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert (one.weights == two.weights).all()
    other = adapter.fit(*blobs(0), *blobs(1), AdapterConfig(seed=1))
    assert not np.allclose(one.weights, other.weights)


def test_shift_and_scale_of_a_dimension_do_not_matter(fitted):
    move = np.array([1.0, 10.0, 0.1, 5.0, 2.0]), np.array([3.0, -4.0, 0.0, 100.0, 1.0])
    (x, y), (v, w), (t, _) = blobs(0), blobs(1), blobs(5)
    moved = adapter.fit(x * move[0] + move[1], y, v * move[0] + move[1], w)
    np.testing.assert_allclose(
        moved.logits(t * move[0] + move[1]), fitted.logits(t), atol=1e-2, rtol=1e-2
    )


def test_every_class_weighs_alike():
    weights = adapter.class_weights(np.array([0] * 90 + [1] * 10), 2)
    assert weights @ [90, 10] == pytest.approx(100)
    assert weights[1] == pytest.approx(9 * weights[0])
    rare = np.random.default_rng(0).normal(size=(300, 2))
    labels = np.array(["common"] * 270 + ["rare"] * 30)
    rare[270:] += 1.2
    found = adapter.fit(rare, labels, rare, labels)
    recalls = [
        (found.predict(rare) == labels)[labels == name].mean() for name in ("common", "rare")
    ]
    assert min(recalls) > 0.6


def test_validation_clips_of_an_unknown_class_do_not_count(fitted):
    x, labels = blobs(1)
    more = np.concatenate([x, 1e3 + x[:3]]), np.concatenate([labels, ["grief"] * 3])
    assert (adapter.fit(*blobs(0), *more).weights == fitted.weights).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x, y, v, w: (x, ["one"] * len(y), v, w), "two classes or more; got"),
        (lambda x, y, v, w: (x[:5], y, v, w), "got vectors of shape"),
        (lambda x, y, v, w: (x * np.nan, y, v, w), "60 vectors hold NaN"),
        (lambda x, y, v, w: (x, y, v, ["new"] * len(w)), "no validation clip is of a class"),
        (lambda x, y, v, w: (x, y, v[:4], w), "got 4 validation vectors for 60 labels"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, told):
    with pytest.raises(AdapterError, match=told):
        adapter.fit(*change(*blobs(0), *blobs(1)))


def test_vectors_of_another_width_are_refused(fitted):
    with pytest.raises(ValueError, match="reads 5 dimensions; got shape"):
        fitted.logits(np.zeros((3, 4)))
