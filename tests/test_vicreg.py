"""VICReg: slow reference, pytorch-metric-learning, closed forms, invariances, refusals."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import VICRegLoss

from refine.losses.vicreg import vicreg


def views(n=10, dim=5, seed=0, noise=0.5, scale=0.6):
    generator = torch.Generator().manual_seed(seed)
    a = scale * torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return a, a + noise * torch.randn(n, dim, generator=generator, dtype=torch.float64)


def slow(a, b):
    """Invariance, variance and covariance of Bardes et al. 2022, as their code weighs them."""
    n, d = a.shape
    invariance = sum((a[i, j] - b[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    variance = covariance = 0.0
    for x in (a, b):
        mean = x.mean(axis=0)
        cov = np.zeros((d, d))
        for i in range(n):
            cov += np.outer(x[i] - mean, x[i] - mean) / (n - 1)
        variance += sum(max(0, 1 - np.sqrt(cov[j, j] + 1e-4)) for j in range(d)) / d / 2
        covariance += sum(cov[j, k] ** 2 for j in range(d) for k in range(d) if j != k) / d
    return invariance, variance, covariance


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 1.0, 0.04), (0.0, 1.0, 0.0)])
def test_equals_the_loop(n, weights):
    a, b = views(n)
    expected = slow(a.numpy(), b.numpy())
    parts = vicreg(a, b, *weights)
    assert [part.item() for part in parts[1:]] == pytest.approx(expected, abs=1e-12)
    total = sum(w * part for w, part in zip(weights, expected, strict=True))
    assert parts.total.item() == pytest.approx(total, abs=1e-12)


def test_equals_pytorch_metric_learning_with_its_gradient():
    ours, theirs = ([x.requires_grad_() for x in views()] for _ in range(2))
    loss = vicreg(*ours).total
    loss.backward()
    expected = VICRegLoss()(theirs[0], ref_emb=theirs[1])
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-10)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_collapse_costs_the_variance_alone():
    parts = vicreg(torch.ones(6, 4), torch.ones(6, 4))
    assert parts.invariance.item() == parts.covariance.item() == 0
    assert parts.variance.item() == pytest.approx(0.99)  # 1 - sqrt(1e-4)
    assert parts.total.item() == pytest.approx(24.75)


def test_equal_uncorrelated_views_of_spread_one_cost_nothing():
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])  # Hadamard columns
    parts = vicreg(signs, signs)
    assert [part.item() for part in parts] == pytest.approx([0, 0, 0, 0], abs=1e-12)


def test_hand_computed():
    """Two clips in two dimensions that move together: Var = Cov = 2, a shift of 3 in one view."""
    a = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    parts = vicreg(a, a + 3)
    assert parts.invariance.item() == pytest.approx(9)
    assert parts.variance.item() == 0
    assert parts.covariance.item() == pytest.approx(2 * (2 * 2**2) / 2)
    assert parts.total.item() == pytest.approx(25 * 9 + 8)


def test_shift_order_views_and_signs_change_nothing():
    a, b = views()
    expected = vicreg(a, b)
    order = torch.randperm(10)
    shift, sign = torch.randn(5, dtype=torch.float64), torch.tensor([1.0, -1, -1, 1, 1]).double()
    for changed in ((a + shift, b + shift), (a[order], b[order]), (b, a), (a * sign, b * sign)):
        torch.testing.assert_close(tuple(vicreg(*changed)), tuple(expected))


def test_scale_matters():
    a, b = views()
    assert vicreg(3 * a, 3 * b).invariance.item() == pytest.approx(
        9 * vicreg(a, b).invariance.item()
    )


def test_only_the_loss_carries_a_gradient_and_it_is_the_slope():
    a, b = (x.requires_grad_() for x in views(5, 3))
    parts = vicreg(a, b)
    assert parts.total.requires_grad
    assert not any(part.requires_grad for part in parts[1:])
    assert torch.autograd.gradcheck(lambda *x: vicreg(*x).total, (a, b))


def test_collapse_has_a_finite_gradient():
    a = torch.ones(4, 3, requires_grad=True)
    vicreg(a, torch.ones(4, 3)).total.backward()
    assert a.grad.isfinite().all()


def test_half_precision_is_computed_in_single():
    a, b = (x.to(torch.bfloat16) for x in views())
    expected = vicreg(a.float(), b.float())
    torch.testing.assert_close(tuple(vicreg(a, b)), tuple(expected))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tuple(vicreg(a.float(), b.float())), tuple(expected))


def test_a_nan_reaches_the_loss_so_that_training_stops():
    a, b = views()
    a[0, 0] = math.nan
    assert vicreg(a, b).total.isnan()


def test_the_papers_weights_are_the_defaults():
    assert vicreg(*views()).total == vicreg(*views(), 25.0, 25.0, 1.0).total


@pytest.mark.parametrize(
    ("rows", "weights", "told"),
    [
        (torch.ones(1, 4), {}, "at least 2 pairs; got 1"),
        (torch.ones(0, 4), {}, "at least 2 pairs; got 0"),
        (torch.ones(3, 4), {"variance": -1.0}, "variance: got -1.0"),
        (torch.ones(3, 4), {"covariance": math.inf}, "covariance: got inf"),
        (torch.ones(3, 4), {"invariance": math.nan}, "invariance: got nan"),
    ],
)
def test_refuses_what_has_no_variance(rows, weights, told):
    with pytest.raises(ValueError, match=told):
        vicreg(rows, rows, **weights)
