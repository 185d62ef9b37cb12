"""Rows of all processes, with their gradient: a loss then sees the whole batch."""

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def gather(x: Shaped[Tensor, "rows *rest"]) -> Shaped[Tensor, "all_rows *rest"]:
    """The rows of all processes in the order of their ranks; `x` itself in one process.

    Every process computes the loss of the whole batch on the result. The backward pass adds up what
    the processes' losses say about `x`, so its gradient is the number of processes times that of
    one process, and averaging the parameters' gradients over processes, as
    `DistributedDataParallel` does, gives the gradient of one process with the whole batch. Rows may
    differ in number. Labels go through as well (no gradient). A collective: all processes call it,
    forward and backward, in the same order.

    Raises: `ValueError` in every process where a row of one has another shape than that of another.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    mine = torch.tensor(x.shape, device=x.device)
    sent = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(sent, mine)
    shapes = [tuple(shape.tolist()) for shape in sent]
    if len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(f"rows of different shape cannot be gathered; got {shapes}")
    return _Gather.apply(x, [shape[0] for shape in shapes])


class _Gather(torch.autograd.Function):
    """Gathers forward; adds up over processes and takes the own rows backward."""

    @staticmethod
    def forward(ctx, x: Tensor, counts: list[int]) -> Tensor:
        rank = dist.get_rank()
        ctx.start, ctx.rows = sum(counts[:rank]), counts[rank]
        # collectives take equal shapes: all send as many rows as the longest
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:rows] for part, rows in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.rows], None
