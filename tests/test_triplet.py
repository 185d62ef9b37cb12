"""Cosine triplet loss: slow reference, torch's own, closed forms, invariances, refusals."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refine.losses.triplet import triplet


def triplets(n=7, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=generator, dtype=torch.float64) for _ in range(3)]


def slow(anchors, positives, negatives, margin):
    losses, near, far = [], [], []
    for a, p, n in zip(anchors, positives, negatives, strict=True):
        near.append(1 - a @ p / np.sqrt((a @ a) * (p @ p)))
        far.append(1 - a @ n / np.sqrt((a @ a) * (n @ n)))
        losses.append(max(0.0, near[-1] - far[-1] + margin))
    return np.mean(losses), np.mean(near), np.mean(far), np.mean([loss > 0 for loss in losses])


@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0, 1.2])
def test_equals_the_loop(margin):
    rows = triplets(31)
    found = [part.item() for part in triplet(*rows, margin)]
    assert found == pytest.approx(slow(*(x.numpy() for x in rows), margin), abs=1e-12)


@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_equals_torch_with_its_gradient(margin):
    ours, theirs = ([x.requires_grad_() for x in triplets(16)] for _ in range(2))
    loss = triplet(*ours, margin).total
    loss.backward()
    expected = F.triplet_margin_with_distance_loss(
        *theirs, distance_function=lambda u, v: 1 - F.cosine_similarity(u, v), margin=margin
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize(
    ("positive", "negative", "total", "active"),
    [
        ([1.0, 0.0], [1.0, 0.0], 1.0, 1),  # collapse costs the margin
        ([1.0, 0.0], [0.0, 1.0], 0.0, 0),  # orthogonal classes are just enough at margin 1
        ([1.0, 0.0], [-1.0, 0.0], 0.0, 0),
        ([0.0, 1.0], [1.0, 0.0], 2.0, 1),
        ([-1.0, 0.0], [1.0, 0.0], 3.0, 1),  # the worst: margin + 2
    ],
)
def test_hand_computed(positive, negative, total, active):
    a, p, n = (torch.tensor([row]) for row in ([1.0, 0.0], positive, negative))
    parts = triplet(a, p, n)
    assert parts.total.item() == pytest.approx(total)
    assert parts.active.item() == active
    assert parts.positive_distance.item() == pytest.approx(1 - p[0, 0].item())
    assert parts.negative_distance.item() == pytest.approx(1 - n[0, 0].item())


def test_scale_rotation_and_order_change_nothing():
    rows = triplets()
    expected = triplet(*rows)
    rotation, _ = torch.linalg.qr(triplets(5)[0])
    order = torch.tensor([6, 2, 0, 1, 5, 3, 4])
    for changed in (
        [rows[0] * 3, rows[1] * 0.1, rows[2] * 40],
        [x @ rotation for x in rows],
        [x[order] for x in rows],
    ):
        torch.testing.assert_close(tuple(triplet(*changed)), tuple(expected))


def test_a_triplet_that_is_told_apart_pulls_no_more():
    a = torch.eye(3, dtype=torch.float64).requires_grad_()
    triplet(
        a, torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)
    ).total.backward()
    assert not a.grad.any()


def test_only_the_loss_carries_a_gradient_and_it_is_the_slope():
    rows = [x.requires_grad_() for x in triplets(4, 3)]
    parts = triplet(*rows)
    assert parts.total.requires_grad
    assert not any(part.requires_grad for part in parts[1:])
    assert torch.autograd.gradcheck(lambda *x: triplet(*x).total, rows)


def test_half_precision_is_computed_in_single():
    rows = [x.to(torch.bfloat16) for x in triplets()]
    expected = triplet(*(x.float() for x in rows))
    torch.testing.assert_close(tuple(triplet(*rows)), tuple(expected))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tuple(triplet(*(x.float() for x in rows))), tuple(expected))


def test_a_nan_reaches_the_loss_so_that_training_stops():
    rows = triplets()
    rows[2][0, 0] = math.nan
    assert triplet(*rows).total.isnan()


def test_the_papers_margin_is_the_default():
    assert triplet(*triplets()).total == triplet(*triplets(), 1.0).total


@pytest.mark.parametrize(
    ("rows", "margin", "told"),
    [
        ([torch.ones(0, 4)] * 3, 1.0, "at least 1 triplet; got 0"),
        ([torch.ones(2, 4)] * 3, -1.0, "margin: got -1.0"),
        ([torch.ones(2, 4)] * 3, math.nan, "margin: got nan"),
        ([torch.ones(2, 4), torch.ones(2, 4), torch.zeros(2, 4)], 1.0, "vector of zeros"),
    ],
)
def test_refuses_what_is_no_triplet(rows, margin, told):
    with pytest.raises(ValueError, match=told):
        triplet(*rows, margin)
