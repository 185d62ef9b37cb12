"""Orthogonality of subspaces: slow reference, closed forms, invariances, both forms, refusals."""

import math

import numpy as np
import pytest
import torch

from refine.losses.orthogonality import orthogonality


def blocks(batch=6, widths=(4, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    names = ("speaker", "content", "rate")
    return {
        name: torch.randn(batch, width, generator=generator, dtype=torch.float64)
        for name, width in zip(names, widths, strict=False)
    }


def slow(left, right, form):
    left = [row / np.sqrt((row**2).sum()) for row in left]
    right = [row / np.sqrt((row**2).sum()) for row in right]
    if form == "samples":
        return np.mean([(u @ v) ** 2 for u in left for v in right])
    terms = []
    for j in range(len(left[0])):
        for k in range(len(right[0])):
            terms.append(sum(u[j] * v[k] for u, v in zip(left, right, strict=True)) ** 2)
    return np.mean(terms)


@pytest.mark.parametrize("form", ["corrected", "samples"])
@pytest.mark.parametrize("widths", [(4, 4), (3, 3, 3)])
def test_equals_the_loop(form, widths):
    named = blocks(widths=widths)
    found = orthogonality(named, form)
    z = {name: block.numpy() for name, block in named.items()}
    expected = {
        f"{a}/{b}": slow(z[a], z[b], form)
        for a, b in [("speaker", "content"), ("speaker", "rate"), ("content", "rate")]
        if a in z and b in z
    }
    assert {name: value.item() for name, value in found.pairs.items()} == pytest.approx(expected)
    assert found.total.item() == pytest.approx(sum(expected.values()))


def test_the_corrected_form_takes_unequal_widths():
    named = blocks(widths=(5, 2))
    expected = slow(named["speaker"].numpy(), named["content"].numpy(), "corrected")
    assert orthogonality(named).total.item() == pytest.approx(expected)


def test_equals_torchs_einsum_with_its_gradient():
    ours, theirs = blocks(), blocks()
    for block in (*ours.values(), *theirs.values()):
        block.requires_grad_()
    orthogonality(ours).total.backward()
    u, v = (torch.nn.functional.normalize(block, dim=1) for block in theirs.values())
    torch.einsum("bj,bk->jk", u, v).square().mean().backward()
    for name in ours:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad)


def test_the_worst_case_is_the_batch_squared_over_the_widths():
    """All clips one point in each subspace; the paper's batch of 512 in 2 x 384 gives 1.78."""
    for batch, width in ((6, 4), (512, 384)):
        one = torch.zeros(batch, width)
        one[:, 1] = 3.0
        total = orthogonality({"speaker": one, "content": one}).total.item()
        assert total == pytest.approx(batch**2 / width**2)
        assert orthogonality({"a": one, "b": one}, "samples").total.item() == pytest.approx(1)


def test_dimensions_that_never_move_together_cost_nothing():
    """Speakers by sentences, signs crossed: every cross-moment cancels over the grid."""
    speaker = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    content = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert orthogonality({"speaker": speaker, "content": content}).total.item() == 0
    # the older form looks at coordinates of unrelated spaces instead
    older = orthogonality({"speaker": speaker, "content": content}, "samples")
    assert older.total.item() == pytest.approx(1)


def test_a_copied_subspace_costs():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 500, 8, generator=generator)
    copied = orthogonality({"a": a, "b": a}).total.item()
    independent = orthogonality({"a": a, "b": b}).total.item()
    assert copied > 20 * independent
    assert copied == pytest.approx((500 / 8) ** 2 * 8 / 64, rel=0.05)


def test_scale_order_and_rotation_within_a_subspace_change_nothing():
    named = blocks()
    expected = orthogonality(named)
    rotation, _ = torch.linalg.qr(blocks(4, (4,), seed=1)["speaker"])
    order = torch.randperm(6)
    for changed in (
        {"speaker": named["speaker"] * 7, "content": named["content"] * 0.1},
        {"speaker": named["speaker"] @ rotation, "content": named["content"]},
        {name: block[order] for name, block in named.items()},
    ):
        torch.testing.assert_close(orthogonality(changed).total, expected.total)
    swapped = orthogonality(dict(reversed(named.items())))
    torch.testing.assert_close(swapped.total, expected.total)
    assert list(swapped.pairs) == ["content/speaker"]


@pytest.mark.parametrize("form", ["corrected", "samples"])
def test_only_the_loss_carries_a_gradient_and_it_is_the_slope(form):
    z = [block.requires_grad_() for block in blocks(4, (3, 3)).values()]
    parts = orthogonality({"a": z[0], "b": z[1]}, form)
    assert parts.total.requires_grad
    assert not any(value.requires_grad for value in parts.pairs.values())
    assert torch.autograd.gradcheck(lambda a, b: orthogonality({"a": a, "b": b}, form).total, z)


def test_half_precision_is_computed_in_single():
    named = {name: block.to(torch.bfloat16) for name, block in blocks().items()}
    singles = {name: block.float() for name, block in named.items()}
    expected = orthogonality(singles).total
    torch.testing.assert_close(orthogonality(named).total, expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(orthogonality(singles).total, expected)


def test_a_nan_reaches_the_loss_so_that_training_stops():
    named = blocks()
    named["content"][0, 0] = math.nan
    assert orthogonality(named).total.isnan()


def test_the_corrected_form_is_the_default():
    assert orthogonality(blocks()).total == orthogonality(blocks(), "corrected").total


@pytest.mark.parametrize(
    ("named", "form", "told"),
    [
        ({}, "corrected", "between subspaces; got 0"),
        ({"a": torch.ones(3, 2)}, "corrected", "between subspaces; got 1"),
        ({"a": torch.ones(0, 2), "b": torch.ones(0, 2)}, "corrected", "at least one"),
        ({"a": torch.ones(3, 2), "b": torch.ones(3, 4)}, "samples", "equal width"),
        ({"a": torch.ones(3, 2), "b": torch.zeros(3, 2)}, "corrected", "vector of zeros"),
    ],
)
def test_refuses_what_has_no_other_subspace(named, form, told):
    with pytest.raises(ValueError, match=told):
        orthogonality(named, form)
