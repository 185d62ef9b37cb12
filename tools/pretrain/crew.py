"""Several processes on one batch: each takes some of its pairs, their gradients are added up.

Every process draws the same batch, so nothing but the gradients and the pooled vectors travels.
Beside other work this is much faster than threads, which wait for each other at every operation.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from pretrain.batches import Batch


@dataclass(frozen=True)
class Crew:
    """This process among `size` of them."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def rows(self, count: int) -> torch.Tensor:
        """This process's rows of a batch of `count` = 2 pairs: both views of its pairs."""
        pairs = torch.arange(self.rank, count // 2, self.size)
        return torch.cat([pairs, pairs + count // 2])

    def part(self, batch: Batch) -> Batch:
        """This process's part of a batch."""
        if self.size == 1:
            return batch
        rows = self.rows(len(batch.waveforms))
        return replace(
            batch,
            waveforms=batch.waveforms[rows],
            labels={name: track[rows] for name, track in batch.labels.items()},
            mask=batch.mask[rows],
            altered=batch.altered[rows],
        )

    def gather(self, own: torch.Tensor, count: int) -> torch.Tensor:
        """All `count` rows in the batch's order; gradients flow into this process's rows alone."""
        if self.size == 1:
            return own
        found = torch.zeros(count, own.shape[1])
        found[self.rows(count)] = own.detach()
        dist.all_reduce(found)
        return found.index_copy(0, self.rows(count), own)

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes."""
        if self.size == 1:
            return
        filled = [p for p in parameters if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in filled if p.grad is not None])
        dist.all_reduce(flat)
        for parameter, piece in zip(filled, flat.split([p.numel() for p in filled]), strict=True):
            parameter.grad = piece.view_as(parameter)

    def share(self, value: torch.Tensor) -> torch.Tensor:
        """The leader's value, in every process."""
        if self.size > 1:
            dist.broadcast(value, 0)
        return value

    def add(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over the processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value


def join(rank: int, size: int, meeting: Path) -> Crew:
    """Meet the other processes at a file."""
    if size > 1:
        dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=size)
    return Crew(rank, size)
