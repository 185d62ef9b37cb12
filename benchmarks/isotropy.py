"""What the isotropy of one layer costs, as ratios measured side by side in one run.

    python benchmarks/isotropy.py

`measure` is six statistics, each with a null, a control and a 95 % interval by speaker. It stands
beside one product x.T @ x, beside numpy's SVD of the same matrix, and beside the interval of one
statistic (effective rank) by resampling it: an SVD a resample.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from refine.metrics import isotropy


@dataclass(frozen=True)
class Options:
    """What is measured."""

    clips: tuple[int, ...] = (2_000, 10_000)
    """Numbers of clips."""
    dim: int = 768
    """Dimensions of a vector."""
    resamples: int = 200
    """Resamples of an interval."""
    rounds: int = 3
    """Rounds; each times the ways in turn, and medians are printed."""


def main(options: Options) -> None:
    """Time `measure` and what it is compared with in turn, on vectors with a falling spectrum."""
    console = Console()
    table = Table("clips", "measure s", "x.T @ x s", "svd s", "/ x.T @ x", "/ svd", "/ resampling")
    for n in options.clips:
        x = np.random.default_rng(0).standard_normal((n, options.dim))
        x = x * (1 + np.arange(options.dim)) ** -0.5 + 0.1
        seconds = _medians(x, options)
        measure, gram, svd = (seconds[name] for name in ("measure", "gram", "svd"))
        table.add_row(
            f"{n:,}",
            *(f"{value:.3f}" for value in (measure, gram, svd)),
            f"{measure / gram:.0f}",
            f"{measure / svd:.2f}",
            f"{measure / (svd * options.resamples):.4f}",
        )
    console.print(f"{options.dim} dimensions, {options.resamples} resamples; medians")
    console.print(table)


def _medians(x: np.ndarray, options: Options) -> dict[str, float]:
    speakers = np.arange(len(x)) // 20
    ways: dict[str, Callable[[], object]] = {
        "measure": lambda: isotropy.measure(x, speakers, resamples=options.resamples),
        "gram": lambda: x.T @ x,
        "svd": lambda: np.linalg.svd(x, full_matrices=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # warm-up; the null of this size is kept from then on, as in use
        way()
    for _ in range(options.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


if __name__ == "__main__":
    main(tyro.cli(Options))
