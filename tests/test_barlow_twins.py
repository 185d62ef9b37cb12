"""Barlow Twins: slow reference, torch's batch norm, closed forms, invariances, refusals."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from refine.losses.barlow_twins import barlow_twins
from refine.losses.bounds import barlow_twins_floor


def views(n=12, dim=5, seed=0, noise=0.7):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return a, a + noise * torch.randn(n, dim, generator=generator, dtype=torch.float64)


def slow(a, b, weight):
    """Zbontar et al. 2021, eq. 1 and 2, with the 1e-5 of batch normalisation."""
    n, d = a.shape
    on = off = 0.0
    correlation = np.zeros((d, d))
    for j in range(d):
        for k in range(d):
            left = (a[:, j] - a[:, j].mean()) / np.sqrt(a[:, j].var() + 1e-5)
            right = (b[:, k] - b[:, k].mean()) / np.sqrt(b[:, k].var() + 1e-5)
            correlation[j, k] = sum(left[i] * right[i] for i in range(n)) / n
            if j == k:
                on += (1 - correlation[j, j]) ** 2
            else:
                off += correlation[j, k] ** 2
    return on + weight * off, on, off, correlation


@pytest.mark.parametrize("n", [2, 5, 12])
@pytest.mark.parametrize("weight", [5.1e-4, 5.1e-3, 1.0])
def test_equals_the_loop(n, weight):
    a, b = views(n)
    total, on, off, correlation = slow(a.numpy(), b.numpy(), weight)
    parts = barlow_twins(a, b, weight)
    assert [parts.total.item(), parts.on_diagonal.item(), parts.off_diagonal.item()] == (
        pytest.approx([total, on, off], abs=1e-10)
    )
    np.testing.assert_allclose(parts.correlation.numpy(), correlation, atol=1e-12)


def test_equals_the_published_code_with_its_gradient():
    """`bn(z1).T @ bn(z2) / N` by torch's BatchNorm1d without affine weights."""
    ours, theirs = ([x.requires_grad_() for x in views()] for _ in range(2))
    barlow_twins(*ours, 0.0051).total.backward()
    norm = nn.BatchNorm1d(5, affine=False, dtype=torch.float64)
    c = norm(theirs[0]).T @ norm(theirs[1]) / 12
    on = (c.diagonal() - 1).pow(2).sum()
    off = c[~torch.eye(5, dtype=torch.bool)].pow(2).sum()
    (on + 0.0051 * off).backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_equal_uncorrelated_views_cost_nothing():
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])  # Hadamard columns
    parts = barlow_twins(signs, signs)
    torch.testing.assert_close(parts.correlation, torch.eye(3), atol=1e-4, rtol=0)
    assert parts.total.item() < 1e-8


def test_collapse_costs_the_number_of_dimensions():
    parts = barlow_twins(torch.ones(6, 8), torch.ones(6, 8))
    assert parts.on_diagonal.item() == pytest.approx(8)
    assert parts.off_diagonal.item() == 0


def test_copied_dimensions_are_told_by_the_off_diagonal():
    a = torch.randn(20, 1, dtype=torch.float64).expand(20, 4) * 100
    parts = barlow_twins(a, a)
    assert parts.on_diagonal.item() == pytest.approx(0, abs=1e-8)
    assert parts.off_diagonal.item() == pytest.approx(12, abs=1e-6)
    assert parts.total.item() == pytest.approx(12 * 5.1e-4, abs=1e-8)


@pytest.mark.parametrize(("n", "dim"), [(12, 24), (4, 8)])
def test_a_batch_of_few_cannot_reach_zero(n, dim):
    """Training the vectors themselves ends at the floor of the rank, not below it."""
    floor = barlow_twins_floor(n, dim, 5.1e-2)
    a, b = (x.clone().requires_grad_() for x in views(n, dim, noise=0.1))
    optimiser = torch.optim.LBFGS([a, b], max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = barlow_twins(a, b, 5.1e-2).total
        loss.backward()
        return loss

    optimiser.step(closure)
    reached = barlow_twins(a, b, 5.1e-2).total.item()
    assert floor * (1 - 1e-4) <= reached <= floor * 1.05 + 1e-3
    assert barlow_twins_floor(dim + 1, dim) == 0


def test_scale_shift_and_order_change_nothing():
    a, b = (x * 100 for x in views())  # variances far above the 1e-5 of batch normalisation
    expected = barlow_twins(a, b)
    order = torch.randperm(12)
    scale, shift = torch.rand(5, dtype=torch.float64) + 1, torch.randn(5, dtype=torch.float64)
    for changed in ((a * scale + shift, b * 9), (a[order], b[order])):
        torch.testing.assert_close(
            tuple(barlow_twins(*changed)), tuple(expected), atol=1e-6, rtol=1e-6
        )
    torch.testing.assert_close(barlow_twins(b, a).total, expected.total)
    torch.testing.assert_close(barlow_twins(b, a).correlation, expected.correlation.T)


def test_only_the_loss_carries_a_gradient_and_it_is_the_slope():
    a, b = (x.requires_grad_() for x in views(5, 3))
    parts = barlow_twins(a, b)
    assert parts.total.requires_grad
    assert not any(part.requires_grad for part in parts[1:])
    assert torch.autograd.gradcheck(lambda *x: barlow_twins(*x, 0.5).total, (a, b))


def test_half_precision_is_computed_in_single():
    a, b = (x.to(torch.bfloat16) for x in views())
    expected = barlow_twins(a.float(), b.float())
    torch.testing.assert_close(tuple(barlow_twins(a, b)), tuple(expected))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tuple(barlow_twins(a.float(), b.float())), tuple(expected))


def test_a_nan_reaches_the_loss_so_that_training_stops():
    a, b = views()
    a[0, 0] = math.nan
    assert barlow_twins(a, b).total.isnan()


def test_the_papers_weight_is_the_default():
    assert barlow_twins(*views()).total == barlow_twins(*views(), 0.00051).total


@pytest.mark.parametrize(
    ("rows", "weight", "told"),
    [
        (torch.ones(1, 4), 5.1e-4, "at least 2 pairs; got 1"),
        (torch.ones(0, 4), 5.1e-4, "at least 2 pairs; got 0"),
        (torch.ones(3, 4), -1.0, "offdiagonal: got -1.0"),
        (torch.ones(3, 4), math.nan, "offdiagonal: got nan"),
    ],
)
def test_refuses_what_has_no_correlation(rows, weight, told):
    with pytest.raises(ValueError, match=told):
        barlow_twins(rows, rows, weight)
