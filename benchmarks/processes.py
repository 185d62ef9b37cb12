"""Work spread over processes of one thread each, which on two cores beats one of two threads."""

import os
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from graphlib import TopologicalSorter
from multiprocessing import get_context
from typing import Any

import psutil

Work = Mapping[Any, tuple[Any, ...]]  # key -> function and its arguments
Needs = Mapping[Any, Collection[Any]]  # key -> keys that must be done before
THREADS = "OMP_NUM_THREADS"
PROCESSES = max(1, min(2, os.cpu_count() or 1))  # at a time, where nobody says
Turns = Callable[..., Iterator[tuple[Hashable, Any]]]


@contextmanager
def workers(jobs: int) -> Iterator[Turns]:
    """Something that does work and yields (key, result) as each is done; with one job, here.

    It is called with `Work`, and with `Needs` where some of it waits for other work.
    """
    if jobs == 1:
        yield _here
        return
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"  # torch and BLAS read it where a process starts
    pool = ProcessPoolExecutor(jobs, get_context("spawn"))

    def turns(work: Work, needs: Needs | None = None) -> Iterator[tuple[Hashable, Any]]:
        order, asked = _order(work, needs), dict[Future[Any], Hashable]()
        while order.is_active():
            for key in order.get_ready():
                call, *given = work[key]
                asked[pool.submit(call, *given)] = key
            for one in wait(asked, return_when=FIRST_COMPLETED).done:
                key = asked.pop(one)
                yield key, one.result()
                order.done(key)

    try:
        yield turns
    finally:
        pool.shutdown(cancel_futures=True)  # after a failure nobody would see the rest
        os.environ.pop(THREADS) if before is None else os.environ.update({THREADS: before})


def processor_minutes() -> float:
    """Of this process and of those it started: what other work on the machine hardly adds to."""
    this = psutil.Process()
    alive = sum(sum(one.cpu_times()[:4]) for one in this.children(recursive=True))
    return (sum(this.cpu_times()[:4]) + alive) / 60


def _here(work: Work, needs: Needs | None = None) -> Iterator[tuple[Hashable, Any]]:
    order = _order(work, needs)
    while order.is_active():
        for key in order.get_ready():
            call, *given = work[key]
            yield key, call(*given)
            order.done(key)


def _order(work: Work, needs: Needs | None) -> "TopologicalSorter[Any]":
    """What needs nothing comes first, as it was given; what is not among the work is there."""
    order = TopologicalSorter(
        {key: [one for one in (needs or {}).get(key, ()) if one in work] for key in work}
    )
    order.prepare()
    return order
