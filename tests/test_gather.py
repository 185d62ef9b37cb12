"""Two gloo processes give the loss and the gradient of one process with the whole batch."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from refine.losses.barlow_twins import barlow_twins
from refine.losses.dino import Centre, dino
from refine.losses.gather import gather
from refine.losses.info_nce import info_nce
from refine.losses.orthogonality import orthogonality
from refine.losses.supcon import supcon
from refine.losses.triplet import triplet
from refine.losses.vicreg import vicreg

WORLD, BATCH, DIM = 2, 10, 6
SHARES = {"equal": (5, 5), "unequal": (3, 7)}  # rows of each process
LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 2, 0, 3, 1])  # positives across processes, one alone


def views() -> Tensor:
    """Four vectors an utterance: anchor, positive, negative, one more; (utterances, 4, dim)."""
    return torch.randn(BATCH, 4, DIM, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(DIM, 8), nn.Tanh(), nn.Linear(8, DIM))


def _dino(z: Tensor, labels: Tensor) -> Tensor:
    student = z.transpose(0, 1)  # (views, batch, dim)
    return dino(student, student[:2].detach() / 2, torch.linspace(-0.1, 0.1, DIM).to(z)).total


def _orthogonality(form: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, labels: orthogonality({"a": z[:, 0, :3], "b": z[:, 1, 3:]}, form).total


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "info_nce": lambda z, labels: info_nce(z[:, 0], z[:, 1], 0.1).total,
    "supcon": lambda z, labels: supcon(z[:, 0], labels, 0.1, 0.1).total,
    "triplet": lambda z, labels: triplet(z[:, 0], z[:, 1], z[:, 2]).total,
    "barlow_twins": lambda z, labels: barlow_twins(z[:, 0], z[:, 1], 0.05).total,
    "vicreg": lambda z, labels: vicreg(z[:, 0], z[:, 1]).total,
    "dino": _dino,
    "orthogonality": _orthogonality("corrected"),
    "orthogonality of samples": _orthogonality("samples"),
}


def alone(name: str) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of the parameters in one process with the whole batch."""
    model = network()
    loss = LOSSES[name](model(views()), LABELS)
    loss.backward()
    return loss.detach(), [p.grad for p in model.parameters()]


def _process(rank: int, folder: str) -> None:
    """One of two processes: every loss on its rows, and what it found into a file."""
    store = dist.FileStore(os.path.join(folder, "store"), WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    found: dict[str, object] = {}
    for share, rows in SHARES.items():
        mine = slice(sum(rows[:rank]), sum(rows[: rank + 1]))
        for name, loss_of in LOSSES.items():
            model = network()
            loss = loss_of(gather(model(views()[mine])), gather(LABELS[mine]))
            loss.backward()
            found[f"{name}, {share}"] = (loss.detach(), _averaged(model))
    mine = slice(5 * rank, 5 * rank + 5)
    found["dino, not gathered"] = _local_dino(mine)
    found["centre"] = _centre(mine)
    found["rows"] = _rows(rank)
    torch.save(found, os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def _local_dino(mine: slice) -> tuple[Tensor, list[Tensor]]:
    model = network()
    loss = _dino(model(views()[mine]), LABELS[mine])
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    return mean / WORLD, _averaged(model)


def _averaged(model: nn.Module) -> list[Tensor]:
    """What DistributedDataParallel leaves (it gave the same, and takes 5 s to import)."""
    gradients = [p.grad for p in model.parameters()]
    for gradient in gradients:
        dist.all_reduce(gradient)
        gradient /= WORLD
    return gradients


def _centre(mine: slice) -> list[Tensor]:
    teacher = views()[mine].transpose(0, 1)  # (views, batch, outputs)
    whole, means = Centre(DIM), Centre(DIM)
    whole.update(gather(teacher.transpose(0, 1)))
    means.update(gather(teacher.mean((0, 1))[None]))
    return [whole.centre, means.centre]


def _rows(rank: int) -> dict[str, Tensor]:
    x = torch.full((rank + 2, 1, 2), float(rank), requires_grad=True)
    weights = torch.arange(1.0, 6.0)[:, None, None] * (rank + 1)
    (gather(x) * weights).sum().backward()
    halves = gather(x.detach().to(torch.bfloat16))
    none_here = gather(torch.arange(3 * rank))
    try:
        gather(torch.ones(2, 3 + rank))
        told = ""
    except ValueError as error:
        told = str(error)
    return {"all": gather(x).detach(), "grad": x.grad, "halves": halves, "none": none_here} | {
        "told": told
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(_process, (str(folder),), nprocs=WORLD)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(WORLD)]


def _same(found: tuple[Tensor, list[Tensor]], expected: tuple[Tensor, list[Tensor]]) -> None:
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    for mine, whole in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(mine, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_are_one_with_the_whole_batch(found, name, share):
    expected = alone(name)
    assert any(gradient.abs().max() > 1e-3 for gradient in expected[1])
    for process in found:
        _same(process[f"{name}, {share}"], expected)


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in ("dino", "triplet")])
def test_rows_of_one_process_alone_are_another_loss(name):
    """What gathering is for: the mean of two halves is not the whole."""
    z = network()(views())
    halves = [LOSSES[name](z[rows], LABELS[rows]) for rows in (slice(0, 5), slice(5, 10))]
    assert (sum(halves) / 2 - LOSSES[name](z, LABELS)).abs() > 1e-3


def test_dino_needs_no_gathering_where_shares_are_equal(found):
    """Its terms know one utterance each, so 65 536 outputs a view need not be sent."""
    expected = alone("dino")
    halves = [LOSSES["dino"](network()(views())[5 * i : 5 * i + 5], LABELS) for i in range(WORLD)]
    for process, half in zip(found, halves, strict=True):
        loss, gradients = process["dino, not gathered"]
        assert abs(loss - expected[0]) < 1e-5
        assert abs(half - expected[0]) > 1e-4  # its own rows alone are no answer
        for mine, whole in zip(gradients, expected[1], strict=True):
            assert torch.allclose(mine, whole, atol=1e-5, rtol=1e-5)


def test_the_centre_is_that_of_all_processes(found):
    expected = 0.1 * views().mean((0, 1))
    for process in found:
        for centre in process["centre"]:
            torch.testing.assert_close(centre, expected)


def test_rows_come_in_the_order_of_the_ranks_with_their_gradient(found):
    """Rank 0 has two rows, rank 1 three; row i is weighed by i + 1 here and 2 (i + 1) there."""
    for rank, process in enumerate(found):
        rows = process["rows"]
        assert rows["all"][:, 0, 0].tolist() == [0, 0, 1, 1, 1]
        assert rows["grad"][:, 0, 0].tolist() == [[3, 6], [9, 12, 15]][rank]
        assert rows["halves"].dtype == torch.bfloat16
        assert rows["none"].tolist() == [0, 1, 2]


def test_refuses_rows_of_different_shape_in_every_process(found):
    for process in found:
        assert "different shape cannot be gathered; got [(2, 3), (2, 4)]" in process["rows"]["told"]


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_says_the_same(name, device):
    z = network()(views()).detach().to(torch.bfloat16)
    expected = LOSSES[name](z.float(), LABELS)
    with torch.autocast(device, torch.bfloat16):
        found = LOSSES[name](z.to(device), LABELS.to(device))
    # the centre of DINO is rounded to half precision too
    torch.testing.assert_close(found.cpu(), expected, atol=2e-3, rtol=1e-3)


def test_one_process_keeps_its_rows():
    x = torch.randn(3, 2, requires_grad=True)
    assert gather(x) is x
