"""DINO, self-distillation without labels or negatives (Caron et al. 2021; Cho et al. 2022)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refine.losses._vectors import positive, single

STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04  # Cho et al. 2022, constant
CENTRE_MOMENTUM = 0.9


class DINO(NamedTuple):
    """The loss and what it is made of; only `total` carries a gradient."""

    total: Float[Tensor, ""]  # nats; entropy + kl, about ln K at the start
    entropy: Float[Tensor, ""]  # of the teacher: 0 is collapse to one output, ln K to all alike
    kl: Float[Tensor, ""]  # from student to teacher over the cross-view terms; 0 best
    spread: Float[Tensor, ""]  # sd of the teacher's logits over the batch; 0 where clips look alike


def dino(
    student: Float[Tensor, "views batch outputs"] | Sequence[Float[Tensor, "batch outputs"]],
    teacher: Float[Tensor, "long batch outputs"] | Sequence[Float[Tensor, "batch outputs"]],
    centre: Float[Tensor, "outputs"],
    student_temperature: float = STUDENT_TEMPERATURE,
    teacher_temperature: float = TEACHER_TEMPERATURE,
) -> DINO:
    """Cross-entropy of the student's views against the teacher's other views.

    With V student views of which the first U are the teacher's long ones, logits s and t, centre c,

        q_u = softmax((t_u - c) / tau_t),    p_v = softmax(s_v / tau_s)
        L   = 1 / (U (V - 1)) sum_u sum_{v != u} mean_batch( -sum_k q_u(k) log p_v(k) ),

    and no gradient goes to the teacher or the centre. Range 0 to ln K + 2 max|s| / tau_s; ln K
    where the student says nothing. `entropy` near 0 or ln K with `spread` near 0 is a collapse.
    Half precision is computed in float32.

    Raises: `ValueError` where no term crosses views (one view each), the student misses a view of
        the teacher, shapes differ, the batch is one utterance (no spread to tell a collapse by) or
        a temperature is not positive.
    """
    s, t = _stacked(student), _stacked(teacher)  # (views, batch, outputs), (long, batch, outputs)
    views, longs = len(s), len(t)
    if s.shape[1:] != t.shape[1:] or centre.shape != t.shape[2:]:
        raise ValueError(
            "student, teacher and centre share batch and outputs; got "
            f"{tuple(s.shape)}, {tuple(t.shape)} and {tuple(centre.shape)}"
        )
    if not views >= longs >= 1:
        raise ValueError(
            f"the student sees every view of the teacher first; got {views} student views for "
            f"{longs} of the teacher"
        )
    if views < 2:
        raise ValueError("no term crosses views; got 1 student view and 1 teacher view")
    if s.shape[1] < 2:
        raise ValueError(f"a DINO batch needs at least 2 utterances; got {s.shape[1]}")
    positive("student_temperature", student_temperature)
    positive("teacher_temperature", teacher_temperature)
    log_p = (s / student_temperature).log_softmax(dim=-1)
    with torch.no_grad():
        log_q = ((t - centre) / teacher_temperature).log_softmax(dim=-1)
        q = log_q.exp()
        entropy = -(q * log_q).sum(dim=-1).mean()
        spread = t.std(dim=1, correction=0).mean()
    # a matrix product would add 65 536 small numbers one by one, 0.02 nats off where all are alike
    terms = [
        -(q_u * log_p_v).sum(dim=-1).mean()
        for u, q_u in enumerate(q)
        for v, log_p_v in enumerate(log_p.unbind())
        if u != v
    ]
    total = torch.stack(terms).mean()
    return DINO(total, entropy, total.detach() - entropy, spread)


class Centre(nn.Module):
    """The running mean of the teacher's logits, part of a checkpoint; read it as `.centre`."""

    centre: Tensor  # (outputs,)

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(outputs))

    @torch.no_grad()
    def update(
        self, teacher: Float[Tensor, "... outputs"], momentum: float = CENTRE_MOMENTUM
    ) -> None:
        """c <- momentum c + (1 - momentum) mean(t), after the loss of the step was taken.

        `teacher` are logits of the teacher alone, all views. With several processes that hold as
        many utterances each, give the gathered means, `gather(teacher.mean((0, 1))[None])`: less to
        send than all logits, and the same.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum: got {momentum}; expected 0 to 1")
        if not teacher.numel():
            raise ValueError("no teacher output to take a mean of")
        mean = single(teacher).flatten(0, -2).mean(dim=0)
        self.centre.lerp_(mean.to(self.centre.dtype), 1 - momentum)


def _stacked(logits: Tensor | Sequence[Tensor]) -> Tensor:
    if not len(logits):
        raise ValueError("no view at all")
    return single(logits if isinstance(logits, Tensor) else torch.stack(tuple(logits)))
