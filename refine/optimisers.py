"""Optimisers of the training loop: parameter groups, kinds, the one-cycle schedule."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

Kind = Literal["adamw", "adam", "sgd"]

# one cycle (Smith & Topin 2019, as in torch): share of rising steps, first and last rate
RISING, FIRST_DIVISOR, LAST_DIVISOR = 0.1, 25.0, 1e3


def optimiser(
    groups: Sequence[dict[str, Any]],
    kind: Kind,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    amsgrad: bool,
) -> torch.optim.Optimizer:
    """AdamW, Adam (its decay is L2, part of the gradient) or SGD with momentum `betas[0]`."""
    shared: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    if kind == "sgd":
        return torch.optim.SGD(groups, momentum=betas[0], **shared)
    adam = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    return adam(groups, betas=betas, amsgrad=amsgrad, **shared)


def undecayed(module: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups of what is trained: matrices, and biases and norms without weight decay."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1]},
        {
            "params": [parameter for parameter in trained if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


def one_cycle(done: int, steps: int) -> float:
    """Share of the highest rate after `done` steps, as `torch.optim.lr_scheduler.OneCycleLR`."""
    top = RISING * steps - 1
    first, last = 1 / FIRST_DIVISOR, 1 / FIRST_DIVISOR / LAST_DIVISOR
    if done <= top:
        start, end, past = first, 1.0, done / top if top > 0 else 1.0
    else:
        start, end, past = 1.0, last, (done - top) / (steps - 1 - top) if steps > 1 else 0.0
    return end + (start - end) / 2 * (1 + math.cos(math.pi * past))
