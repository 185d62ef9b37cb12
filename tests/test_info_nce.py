"""NT-Xent: slow reference, pytorch-metric-learning, closed forms, invariances, refusals."""

import math

import pytest
import references
import torch
from pytorch_metric_learning.losses import NTXentLoss

from refine.losses.bounds import info_nce_start
from refine.losses.info_nce import info_nce


def views(n=4, dim=16, seed=0, noise=0.5):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return a, a + noise * torch.randn(n, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("n", [2, 4, 7])
@pytest.mark.parametrize("temperature", [0.04, 0.5])
def test_equals_the_loop(n, temperature):
    a, b = views(n, noise=1.5)
    loss, retrieval = references.nt_xent(a.numpy(), b.numpy(), temperature)
    parts = info_nce(a, b, temperature)
    assert parts.total.item() == pytest.approx(loss, abs=1e-10)
    assert parts.retrieval.item() == pytest.approx(retrieval)


@pytest.mark.parametrize("n", [2, 4, 16])
@pytest.mark.parametrize("temperature", [0.04, 0.1, 1.0])
def test_equals_pytorch_metric_learning_with_its_gradient(n, temperature):
    ours, theirs = ([view.clone().requires_grad_() for view in views(n)] for _ in range(2))
    loss = info_nce(*ours, temperature).total
    loss.backward()
    labels = torch.arange(n).repeat(2)
    expected = NTXentLoss(temperature)(torch.cat(theirs), labels)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("n", [2, 5])
def test_collapse_costs_the_log_of_the_candidates(n):
    a = torch.ones(n, 8, dtype=torch.float64)
    parts = info_nce(a, a)
    assert parts.total.item() == pytest.approx(math.log(2 * n - 1))
    assert parts.total.item() == pytest.approx(info_nce_start(n))
    assert parts.positive.item() == pytest.approx(1)
    assert parts.negative.item() == pytest.approx(1)
    assert parts.retrieval.item() == 0


def test_orthogonal_pairs_cost_next_to_nothing():
    a = torch.eye(4, dtype=torch.float64)
    parts = info_nce(a, a, temperature=0.5)
    assert parts.total.item() == pytest.approx(math.log(1 + 6 * math.exp(-2)))
    assert parts.positive.item() == pytest.approx(1)
    assert parts.negative.item() == pytest.approx(0)
    assert parts.retrieval.item() == 1
    assert info_nce(a, a, temperature=0.04).total.item() < 1e-9


def test_the_worst_case_is_finite():
    """Positives opposite, negatives equal: 2 / tau above the log of six negatives."""
    a = torch.ones(2, 3)
    worst = info_nce(torch.stack([a[0], -a[0]]), torch.stack([-a[0], a[0]]), 0.01).total
    assert worst.item() == pytest.approx(200, abs=1e-3)


def test_views_scale_rotation_and_order_change_nothing():
    a, b = views()
    expected = info_nce(a, b)
    rotation, _ = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))
    order = torch.tensor([2, 0, 3, 1])
    for changed in (
        (b, a),
        (a * 7, b * 0.1),
        (a @ rotation, b @ rotation),
        (a[order], b[order]),
    ):
        torch.testing.assert_close(tuple(info_nce(*changed)), tuple(expected))


def test_only_the_loss_carries_a_gradient():
    a, b = views()
    parts = info_nce(a.requires_grad_(), b)
    assert parts.total.requires_grad
    assert not any(part.requires_grad for part in parts[1:])


def test_gradient_is_the_slope():
    a, b = views(3, 4)
    assert torch.autograd.gradcheck(
        lambda *pair: info_nce(*pair, 0.5).total, (a.requires_grad_(), b)
    )


def test_half_precision_is_computed_in_single():
    a, b = (view.to(torch.bfloat16) for view in views())
    expected = info_nce(a.float(), b.float())
    torch.testing.assert_close(tuple(info_nce(a, b)), tuple(expected))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tuple(info_nce(a.float(), b.float())), tuple(expected))


def test_a_nan_reaches_the_loss_so_that_training_stops():
    a, b = views()
    a[0, 0] = math.nan
    assert info_nce(a, b).total.isnan()


def test_the_papers_temperature_is_the_default():
    a, b = views(noise=1.5)
    assert info_nce(a, b).total == info_nce(a, b, 0.04).total


@pytest.mark.parametrize(
    ("a", "b", "temperature", "told"),
    [
        (torch.ones(1, 4), torch.ones(1, 4), 0.04, "at least 2 pairs; got 1"),
        (torch.ones(0, 4), torch.ones(0, 4), 0.04, "at least 2 pairs; got 0"),
        (torch.ones(2, 4), torch.ones(2, 4), 0.0, "temperature: got 0.0"),
        (torch.ones(2, 4), torch.ones(2, 4), math.nan, "temperature: got nan"),
        (torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.ones(2, 2), 0.04, "vector of zeros"),
    ],
)
def test_refuses_what_has_no_contrast(a, b, temperature, told):
    with pytest.raises(ValueError, match=told):
        info_nce(a, b, temperature)
