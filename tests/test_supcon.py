"""SupCon: slow reference, pytorch-metric-learning, closed forms, invariances, refusals."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss

from refine.losses.bounds import supcon_floor, supcon_start
from refine.losses.info_nce import info_nce
from refine.losses.supcon import supcon

LABELS = torch.tensor(
    [0, 1, 0, 2, 1, 0, 3, 1, 2]
)  # 3 anchors of two positives, 3, 2, and one alone


def vectors(n=9, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def slow(z, labels, temperature, margin=0.0):
    """Khosla et al. 2020, eq. 2, anchor by anchor; the margin as in Wang et al. 2018."""
    z = [row / np.sqrt((row**2).sum()) for row in z]
    losses, floors = [], []
    for i in range(len(z)):
        positives = [k for k in range(len(z)) if k != i and labels[k] == labels[i]]
        if not positives:
            continue
        terms = {}
        for n in range(len(z)):
            if n != i:
                terms[n] = np.exp((z[i] @ z[n] - margin * (n in positives)) / temperature)
        logs = [np.log(terms[k] / sum(terms.values())) for k in positives]
        losses.append(-sum(logs) / len(positives))
        floors.append(np.log(len(positives)))
    return np.mean(losses), np.mean(floors), len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_equals_the_loop(temperature, margin):
    z = vectors()
    parts = supcon(z, LABELS, temperature, margin)
    loss, floor, anchors = slow(z.numpy(), LABELS.tolist(), temperature, margin)
    assert parts.total.item() == pytest.approx(loss, abs=1e-10)
    assert parts.floor.item() == pytest.approx(floor, abs=1e-12)
    assert parts.gap.item() == pytest.approx(loss - floor, abs=1e-10)
    assert parts.anchors.item() == anchors == 8


@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
def test_equals_pytorch_metric_learning_with_its_gradient(temperature):
    ours, theirs = (vectors().requires_grad_() for _ in range(2))
    loss = supcon(ours, LABELS, temperature).total
    loss.backward()
    expected = SupConLoss(temperature)(theirs, LABELS)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-8)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-8, rtol=1e-6)


def test_one_positive_each_is_nt_xent():
    a, b = vectors(4, seed=1), vectors(4, seed=2)
    parts = supcon(torch.cat([a, b]), torch.arange(4).repeat(2), 0.1)
    assert parts.total.item() == pytest.approx(info_nce(a, b, 0.1).total.item(), abs=1e-12)
    assert parts.floor.item() == 0


@pytest.mark.parametrize(("classes", "members"), [(2, 3), (16, 32), (32, 16)])
def test_separated_classes_cost_the_log_of_the_positives_not_zero(classes, members):
    """Paper 4's block: 31 positives have the floor 3.43, 15 have 2.71."""
    z = torch.eye(classes, dtype=torch.float64).repeat_interleave(members, dim=0)
    labels = torch.arange(classes).repeat_interleave(members)
    parts = supcon(z, labels, temperature=0.01)
    assert parts.floor.item() == pytest.approx(math.log(members - 1))
    assert parts.floor.item() == pytest.approx(supcon_floor(labels.tolist()))
    assert parts.total.item() == pytest.approx(math.log(members - 1), abs=1e-9)
    assert parts.gap.item() == pytest.approx(0, abs=1e-9)


def test_no_vectors_go_below_the_floor():
    for seed in range(20):
        assert supcon(vectors(seed=seed), LABELS, 0.05).gap.item() > 0


def test_collapse_costs_the_log_of_the_candidates():
    total = supcon(torch.ones(9, 4, dtype=torch.float64), LABELS).total
    assert total.item() == pytest.approx(math.log(8)) == supcon_start(9)


def test_a_margin_is_a_shift_of_the_positives():
    """Two classes of two, orthogonal: -log of 1 positive among itself and two negatives."""
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(2, dim=0)
    labels = torch.tensor([0, 0, 1, 1])
    total = supcon(z, labels, temperature=0.5, margin=0.3).total
    assert total.item() == pytest.approx(math.log(1 + 2 * math.exp(-(1 - 0.3) / 0.5)))


def test_scale_rotation_order_and_names_of_labels_change_nothing():
    z = vectors()
    expected = supcon(z, LABELS)
    rotation, _ = torch.linalg.qr(vectors(6, 6, seed=3))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(4))
    scale = torch.linspace(0.1, 9, 9, dtype=torch.float64)[:, None]
    for changed, labels in (
        (z * scale, LABELS),
        (z @ rotation, LABELS),
        (z[order], LABELS[order]),
        (z, 7 - 3 * LABELS),
    ):
        torch.testing.assert_close(tuple(supcon(changed, labels)), tuple(expected))


def test_an_anchor_without_a_positive_is_a_candidate_only():
    """It gives no term of its own, yet the others are pushed from it."""
    z = vectors().requires_grad_()
    supcon(z, LABELS).total.backward()
    assert z.grad[6].abs().sum() > 0
    without = [i for i in range(9) if i != 6]
    fewer = supcon(z[without], LABELS[without])
    assert fewer.anchors.item() == 8
    assert fewer.total < supcon(z, LABELS).total


def test_only_the_loss_carries_a_gradient_and_it_is_the_slope():
    z = vectors(5, 3).requires_grad_()
    labels = torch.tensor([0, 1, 0, 1, 2])
    parts = supcon(z, labels)
    assert parts.total.requires_grad
    assert not any(part.requires_grad for part in parts[1:])
    assert torch.autograd.gradcheck(lambda x: supcon(x, labels, 0.5, 0.1).total, (z,))


def test_half_precision_is_computed_in_single():
    z = vectors().to(torch.bfloat16)
    expected = supcon(z.float(), LABELS)
    torch.testing.assert_close(tuple(supcon(z, LABELS)), tuple(expected))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tuple(supcon(z.float(), LABELS)), tuple(expected))


def test_a_nan_reaches_the_loss_so_that_training_stops():
    z = vectors()
    z[0, 0] = math.nan
    assert supcon(z, LABELS).total.isnan()


def test_the_papers_settings_are_the_defaults():
    assert supcon(vectors(), LABELS).total == supcon(vectors(), LABELS, 0.1, 0.0).total


@pytest.mark.parametrize(
    ("z", "labels", "settings", "told"),
    [
        (torch.ones(3, 4), [0, 1, 2], {}, "no label occurs twice among 3 vectors"),
        (torch.ones(3, 4), [5, 5, 5], {}, "all 3 vectors have the same label"),
        (torch.ones(1, 4), [0], {}, "at least 2 vectors; got 1"),
        (torch.ones(3, 4), [0, 0, 1], {"temperature": 0.0}, "temperature: got 0.0"),
        (torch.ones(3, 4), [0, 0, 1], {"temperature": math.inf}, "temperature: got inf"),
        (torch.ones(3, 4), [0, 0, 1], {"margin": -0.1}, "margin: got -0.1"),
        (torch.tensor([[1.0], [0.0], [2.0]]), [0, 0, 1], {}, "vector of zeros"),
    ],
)
def test_refuses_what_has_no_contrast(z, labels, settings, told):
    with pytest.raises(ValueError, match=told):
        supcon(z, torch.tensor(labels), **settings)
