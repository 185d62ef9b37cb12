"""DINO: slow reference, torch's cross-entropy, closed forms, collapse, the centre, refusals."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refine.losses.bounds import dino_start
from refine.losses.dino import Centre, dino


def logits(views=6, longs=2, batch=5, outputs=7, seed=0, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((views, batch, outputs), (longs, batch, outputs), (outputs,))
    return [scale * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def slow(student, teacher, centre, tau_s, tau_t):
    """Caron et al. 2021, algorithm 1 with multi-crop, term by term; and the entropy of q."""

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    terms, entropies = [], []
    for u in range(len(teacher)):
        for v in range(len(student)):
            if u == v:
                continue
            for clip in range(student.shape[1]):
                q = softmax((teacher[u, clip] - centre) / tau_t)
                p = softmax(student[v, clip] / tau_s)
                terms.append(-sum(q[k] * np.log(p[k]) for k in range(len(q))))
                entropies.append(-sum(q[k] * np.log(q[k]) for k in range(len(q))))
    return np.mean(terms), np.mean(entropies)


@pytest.mark.parametrize(("views", "longs"), [(6, 2), (2, 2), (2, 1), (3, 3)])
@pytest.mark.parametrize("temperatures", [(0.1, 0.04), (0.5, 0.2)])
def test_equals_the_loop(views, longs, temperatures):
    rows = logits(views, longs)
    parts = dino(*rows, *temperatures)
    total, entropy = slow(*(x.numpy() for x in rows), *temperatures)
    assert parts.total.item() == pytest.approx(total, abs=1e-10)
    assert parts.entropy.item() == pytest.approx(entropy, abs=1e-10)
    assert parts.kl.item() == pytest.approx(total - entropy, abs=1e-10)
    assert parts.spread.item() == pytest.approx(rows[1].numpy().std(axis=1).mean())


def test_equals_torchs_cross_entropy_over_ten_terms_with_its_gradient():
    (student, teacher, centre), (other, _, _) = logits(), logits()
    student.requires_grad_()
    other.requires_grad_()
    dino(student, teacher, centre).total.backward()
    terms = [
        F.cross_entropy(other[v] / 0.1, ((teacher[u] - centre) / 0.04).softmax(dim=-1))
        for u in range(2)
        for v in range(6)
        if u != v
    ]
    assert len(terms) == 10
    (sum(terms) / 10).backward()
    torch.testing.assert_close(student.grad, other.grad)


def test_kl_is_torchs():
    student, teacher, centre = logits(2, 1)
    kl = F.kl_div(
        (student[1] / 0.1).log_softmax(-1),
        ((teacher[0] - centre) / 0.04).log_softmax(-1),
        log_target=True,
        reduction="batchmean",
    )
    assert dino(student, teacher, centre).kl.item() == pytest.approx(kl.item())


@pytest.mark.parametrize("outputs", [2, 64, 4096])
def test_a_student_that_says_nothing_costs_ln_k(outputs):
    """The start of training, whatever the teacher says; uniform collapse has the same entropy."""
    teacher = torch.randn(2, 3, outputs)
    parts = dino(torch.zeros(6, 3, outputs), teacher, torch.zeros(outputs))
    assert parts.total.item() == pytest.approx(math.log(outputs), rel=1e-5)
    assert dino_start(outputs) == pytest.approx(math.log(outputs))
    flat = dino(torch.zeros(6, 3, outputs), torch.ones(2, 3, outputs), torch.zeros(outputs))
    assert flat.entropy.item() == pytest.approx(math.log(outputs), rel=1e-5)
    assert flat.kl.item() == pytest.approx(0, abs=1e-5)
    assert flat.spread.item() == 0


def test_collapse_to_one_output_has_no_entropy_and_no_spread():
    one = torch.zeros(2, 3, 8)
    one[..., 5] = 10.0
    parts = dino(one, one, torch.zeros(8))
    assert [part.item() for part in parts] == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_centring_undoes_a_collapse_to_one_output():
    one = torch.zeros(2, 3, 8)
    one[..., 5] = 10.0
    entropy = dino(one, one, one[0, 0]).entropy
    assert entropy.item() == pytest.approx(math.log(8))


def test_the_students_own_view_gives_no_term():
    """Student view 0 answers teacher view 1 alone: with one teacher view it has no gradient."""
    student, teacher, centre = logits(3, 1)
    student.requires_grad_()
    dino(student, teacher, centre).total.backward()
    assert not student.grad[0].any()
    assert student.grad[1].any()
    assert student.grad[2].any()


def test_no_gradient_reaches_the_teacher_or_the_centre():
    student, teacher, centre = (x.requires_grad_() for x in logits())
    parts = dino(student, teacher, centre)
    parts.total.backward()
    assert teacher.grad is None
    assert centre.grad is None
    assert not any(part.requires_grad for part in parts[1:])


def test_gradient_is_the_slope():
    student, teacher, centre = logits(3, 2, 2, 4)
    assert torch.autograd.gradcheck(
        lambda s: dino(s, teacher, centre, 0.5, 0.2).total, student.requires_grad_()
    )


def test_shift_order_and_lists_change_nothing():
    student, teacher, centre = logits()
    expected = dino(student, teacher, centre)
    clips, outputs, short = torch.randperm(5), torch.randperm(7), torch.tensor([0, 1, 5, 3, 2, 4])
    for changed in (
        (student + 3, teacher - 5, centre + 2),
        (student[:, clips], teacher[:, clips], centre),
        (student[..., outputs], teacher[..., outputs], centre[outputs]),
        (student[short], teacher, centre),
        (list(student), tuple(teacher), centre),
    ):
        torch.testing.assert_close(tuple(dino(*changed)), tuple(expected))


def test_half_precision_is_computed_in_single():
    rows = [x.to(torch.bfloat16) for x in logits()]
    expected = dino(*(x.float() for x in rows))
    torch.testing.assert_close(tuple(dino(*rows)), tuple(expected))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tuple(dino(*(x.float() for x in rows))), tuple(expected))


def test_extreme_logits_stay_finite():
    student, teacher, centre = (1e4 * x.float() for x in logits())
    parts = dino(student.requires_grad_(), teacher, centre)
    parts.total.backward()
    assert all(part.isfinite() for part in parts)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("where", [0, 1])
def test_a_nan_reaches_the_loss_so_that_training_stops(where):
    rows = logits()
    rows[where][0, 0, 0] = math.nan
    assert dino(*rows).total.isnan()


def test_the_papers_temperatures_are_the_defaults():
    assert dino(*logits()).total == dino(*logits(), 0.1, 0.04).total


def test_the_centre_is_a_running_mean_over_views_and_clips():
    centre = Centre(7)
    first, second = logits()[1], logits(seed=1)[1]
    centre.update(first)
    centre.update(second)
    expected = 0.9 * (0.1 * first.mean((0, 1))) + 0.1 * second.mean((0, 1))
    torch.testing.assert_close(centre.centre, expected.float())
    assert centre.centre.dtype == torch.float32
    centre.update(first.to(torch.bfloat16), momentum=0.0)
    torch.testing.assert_close(centre.centre, first.bfloat16().float().mean((0, 1)))


def test_the_centre_is_part_of_a_checkpoint_and_has_no_gradient():
    centre = Centre(7)
    centre.update(logits()[1].requires_grad_())
    assert not centre.centre.requires_grad
    assert not list(centre.parameters())
    again = Centre(7)
    again.load_state_dict(centre.state_dict())
    assert torch.equal(again.centre, centre.centre)


def test_the_loss_does_not_move_the_centre():
    centre = Centre(7).double()
    student, teacher, _ = logits()
    dino(student, teacher, centre.centre)
    assert not centre.centre.any()


@pytest.mark.parametrize(
    ("views", "longs", "batch", "settings", "told"),
    [
        (1, 1, 4, {}, "no term crosses views; got 1 student view"),
        (2, 3, 4, {}, "got 2 student views for 3 of the teacher"),
        (3, 0, 4, {}, "no view at all"),
        (6, 2, 1, {}, "at least 2 utterances; got 1"),
        (6, 2, 4, {"student_temperature": 0.0}, "student_temperature: got 0.0"),
        (6, 2, 4, {"teacher_temperature": math.nan}, "teacher_temperature: got nan"),
    ],
)
def test_refuses_what_has_no_other_view(views, longs, batch, settings, told):
    with pytest.raises(ValueError, match=told):
        dino(*logits(views, longs, batch), **settings)


@pytest.mark.parametrize(
    ("teacher", "momentum", "told"),
    [
        (torch.ones(2, 3, 7), 1.5, "momentum: got 1.5"),
        (torch.ones(0, 7), 0.9, "no teacher output"),
    ],
)
def test_the_centre_refuses(teacher, momentum, told):
    with pytest.raises(ValueError, match=told):
        Centre(7).update(teacher, momentum)
