"""Sub-centre ArcFace: a slow reference, closed forms, invariances, refusals, another library."""

import math

import numpy as np
import pytest
import torch

from refine.losses.arcface import arcface


def batch(n=12, classes=5, dim=7, subcentres=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    centres = torch.randn(classes * subcentres, dim, generator=generator, dtype=torch.float64)
    return z, centres, torch.arange(n) % classes


def reference(z, centres, labels, scale, margin, subcentres, inter_margin=0.0, inter_top=5):
    """Angle by angle, as the papers write it."""
    z, centres = z.numpy(), centres.numpy()
    losses, hits = [], []
    for vector, label in zip(z, labels.tolist(), strict=True):
        angles = [
            math.acos(vector @ c / np.linalg.norm(vector) / np.linalg.norm(c)) for c in centres
        ]
        classes = len(centres) // subcentres
        theta = [min(angles[c * subcentres : (c + 1) * subcentres]) for c in range(classes)]
        logits = [math.cos(angle) for angle in theta]
        own = theta[label]
        logits[label] = (
            math.cos(own + margin)
            if own <= math.pi - margin
            else math.cos(own) - margin * math.sin(margin)
        )
        others = sorted((c for c in range(classes) if c != label), key=lambda c: theta[c])
        hits.append(theta[label] < theta[others[0]])
        for c in others[:inter_top] if inter_margin else []:
            logits[c] = math.cos(max(0.0, theta[c] - inter_margin))
        total = sum(math.exp(scale * x) for x in logits)
        losses.append(-math.log(math.exp(scale * logits[label]) / total))
    return np.mean(losses), np.mean(hits)


@pytest.mark.parametrize("subcentres", [1, 2, 3])
@pytest.mark.parametrize("margin", [0.0, 0.3, 1.2])
@pytest.mark.parametrize("inter_margin", [0.0, 0.1])
def test_it_is_the_slow_reference(subcentres, margin, inter_margin):
    z, centres, labels = batch(subcentres=subcentres)
    parts = arcface(z, centres, labels, 10.0, margin, subcentres, inter_margin, inter_top=2)
    total, accuracy = reference(
        z, centres, labels, 10.0, margin, subcentres, inter_margin, inter_top=2
    )
    assert float(parts.total) == pytest.approx(total, rel=1e-9)
    assert float(parts.accuracy) == pytest.approx(accuracy)


@pytest.mark.parametrize("subcentres", [1, 2])
def test_it_is_pytorch_metric_learnings_with_gradient(subcentres):
    from pytorch_metric_learning import losses

    z, centres, labels = batch(subcentres=subcentres)
    degrees = math.degrees(0.3)
    if subcentres == 1:
        theirs = losses.ArcFaceLoss(num_classes=5, embedding_size=7, margin=degrees, scale=30)
    else:
        theirs = losses.SubCenterArcFaceLoss(
            num_classes=5, embedding_size=7, margin=degrees, scale=30, sub_centers=2
        )
    theirs.W.data = centres.T.clone()
    ours, other = (z.clone().requires_grad_() for _ in range(2))
    total = arcface(ours, centres, labels, 30.0, 0.3, subcentres).total
    expected = theirs(other, labels)
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    total.backward(), expected.backward()
    torch.testing.assert_close(ours.grad, other.grad, rtol=1e-5, atol=1e-8)


def test_closed_forms():
    centres = torch.eye(4, dtype=torch.float64)
    right = arcface(centres, centres, torch.arange(4), 30.0, 0.3)
    assert float(right.total) == pytest.approx(math.log1p(3 * math.exp(-30 * math.cos(0.3))), 1e-4)
    assert (float(right.accuracy), float(right.target), float(right.nearest)) == (1, 1, 0)
    # equally far from all: log C without a margin
    middle = torch.ones(4, 4, dtype=torch.float64)
    even = arcface(middle, centres, torch.arange(4), 30.0, 0.0)
    assert float(even.total) == pytest.approx(math.log(4))
    assert float(even.accuracy) == 0


def test_lengths_and_the_order_of_sub_centres_do_not_count():
    z, centres, labels = batch(subcentres=2)
    total = arcface(z, centres, labels, subcentres=2).total
    lengths = torch.rand(len(z), 1, dtype=torch.float64) + 0.1
    swapped = centres.unflatten(0, (5, 2)).flip(1).flatten(0, 1)
    other = arcface(z * lengths, swapped * 3, labels, subcentres=2).total
    assert float(total) == pytest.approx(float(other), rel=1e-9)
    twice = centres[::2].repeat_interleave(2, dim=0)
    one = arcface(z, centres[::2], labels).total
    assert float(arcface(z, twice, labels, subcentres=2).total) == pytest.approx(float(one))


def test_a_larger_margin_costs_more_even_behind_pi():
    centres = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    angles = torch.linspace(0, math.pi, 50, dtype=torch.float64)
    z = torch.stack([angles.cos(), angles.sin()], dim=1)
    costs = [
        [float(arcface(v[None], centres, torch.tensor([0]), 5.0, m).total) for v in z]
        for m in (0.0, 0.2, 0.5)
    ]
    assert (np.diff(costs, axis=0) > 0).all()


def test_half_precision_is_computed_in_single_and_gradients_are_finite_at_the_ends():
    z, centres, labels = batch()
    whole = arcface(z.float(), centres.float(), labels).total
    half = arcface(z.bfloat16(), centres.bfloat16(), labels).total
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(whole), rel=0.02)
    ends = torch.eye(3).requires_grad_()
    arcface(ends, torch.eye(3), torch.tensor([0, 1, 2])).total.backward()
    assert torch.isfinite(ends.grad).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subcentres": 2}, "subcentres: got 2 for 5 rows"),
        ({"margin": 1.6}, "margin: got 1.6; expected less than pi / 2"),
        ({"margin": -0.1}, "margin: got -0.1"),
        ({"scale": 0.0}, "scale: got 0.0"),
        ({"centres": torch.ones(1, 7)}, "needs at least 2; got 1"),
        ({"labels": torch.arange(12)}, "labels: got 0 to 11; expected 0 to 4"),
        ({"z": torch.zeros(12, 7)}, "a vector of zeros"),
    ],
)
def test_senseless_input_is_refused(changes, message):
    z, centres, labels = batch()
    given = {"z": z.float(), "centres": centres.float(), "labels": labels} | changes
    with pytest.raises(ValueError, match=message):
        arcface(**given)
