"""Work spread over processes of one thread each, which on two cores beats one of two threads."""

import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

Work = Mapping[Any, tuple[Any, ...]]  # key -> function and its arguments
THREADS = "OMP_NUM_THREADS"
Turns = Callable[[Work], Iterator[tuple[Hashable, Any]]]


@contextmanager
def workers(jobs: int) -> Iterator[Turns]:
    """Something that does work and yields (key, result) as each is done; with one job, here."""
    if jobs == 1:
        yield lambda work: ((key, call(*given)) for key, (call, *given) in work.items())
        return
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"  # torch and BLAS read it where a process starts
    pool = ProcessPoolExecutor(jobs, get_context("spawn"))

    def turns(work: Work) -> Iterator[tuple[Hashable, Any]]:
        asked = {pool.submit(call, *given): key for key, (call, *given) in work.items()}
        for one in as_completed(asked):
            yield asked[one], one.result()

    try:
        yield turns
    finally:
        pool.shutdown(cancel_futures=True)  # after a failure nobody would see the rest
        os.environ.pop(THREADS) if before is None else os.environ.update({THREADS: before})


def processor_minutes() -> float:
    """Of this process and of those it started: what other work on the machine hardly adds to."""
    return sum(os.times()[:4]) / 60
