"""A million vectors from disk: isotropy, class and verification metrics in one go, and their price.

    python benchmarks/streaming.py

A table of 1 000 000 x 768 float32 (3 GB) with structure is written and measured from its memory
map by `refine.metrics.streaming`. Beside it stand one product x.T @ x over the same map, and what a
user would write with scikit-learn: PCA (for the spectrum), Davies-Bouldin and a silhouette of
2 000 clips, on as many rows as fit the limit of memory.
"""

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from refine.metrics import streaming
from refine.paths import ROOT

BLOCK = 16_384  # rows, as in a table of embeddings
OUT = ROOT / "docs" / "measured" / "streaming.json"


@dataclass(frozen=True)
class Options:
    """What is measured."""

    clips: int = 1_000_000
    """Rows of the table."""
    dim: int = 768
    """Dimensions of a vector."""
    classes: int = 100
    """Classes of the factor."""
    sklearn_clips: int = 100_000
    """Rows given to scikit-learn, which holds copies of all; its time is scaled to all rows."""
    folder: Path | None = None
    """Where the table is written; by default the system's place for what is temporary."""
    out: Path = OUT
    """Where the JSON goes."""


def main(options: Options) -> None:
    """Write the table, time the three ways, print and store."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        labels = written(Path(folder) / "x.npy", options)
        x = np.load(Path(folder) / "x.npy", mmap_mode="r")
        blocks = [x[start : start + BLOCK] for start in range(0, len(x), BLOCK)]
        found, ours = timed(partial(streaming.measure, blocks, labels))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        _, product = timed(partial(gram, blocks))
        _, theirs = timed(partial(by_sklearn, x[: options.sklearn_clips], labels))
    scale = options.clips / min(options.clips, options.sklearn_clips)
    stored = {
        "clips": options.clips,
        "dim": options.dim,
        "classes": options.classes,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "measure": ours,
        "product": product,
        "sklearn_scaled": {name: scale * value for name, value in theirs.items()},
        "ratio_to_product": ours["processor_s"] / product["processor_s"],
        "ratio_to_sklearn": ours["processor_s"] / (scale * theirs["processor_s"]),
        "peak_gb": peak,  # the pages of the map that are in memory count as well
        "values": {name: one._asdict() for name, one in found.items()},
    }
    report(stored)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


def written(path: Path, options: Options) -> np.ndarray:
    """A table with classes and a falling spectrum, block by block; returns the labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, options.classes, options.clips)
    means = rng.standard_normal((options.classes, options.dim), dtype=np.float32)
    scale = ((1 + np.arange(options.dim)) ** -0.3).astype(np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (options.clips, options.dim))
    for start in range(0, options.clips, BLOCK):
        part = labels[start : start + BLOCK]
        noise = rng.standard_normal((len(part), options.dim), dtype=np.float32)
        out[start : start + len(part)] = 0.3 + means[part] + 2 * scale * noise
    out.flush()
    return labels


def gram(blocks: list[np.ndarray]) -> np.ndarray:
    """One product of the same size."""
    total = np.zeros((blocks[0].shape[1],) * 2, dtype=np.float64)
    for block in blocks:
        total += block.T @ block
    return total


def by_sklearn(x: np.ndarray, labels: np.ndarray) -> float:
    """What one would write; of the verification metrics scikit-learn has none."""
    from sklearn.decomposition import PCA
    from sklearn.metrics import davies_bouldin_score, silhouette_score

    few = np.array(x)
    PCA(svd_solver="covariance_eigh").fit(few)
    davies_bouldin_score(few, labels[: len(few)])
    return float(silhouette_score(few, labels[: len(few)], sample_size=2_000, random_state=0))


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result, and the seconds by the wall and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    spent = {"wall_s": time.perf_counter() - wall, "processor_s": time.process_time() - cpu}
    return found, spent


def report(stored: dict[str, Any]) -> None:
    """Print what was measured."""
    table = Table("", "wall s", "processor s")
    for name in ("measure", "product", "sklearn_scaled"):
        row = stored[name]
        table.add_row(name.replace("_", " "), f"{row['wall_s']:.1f}", f"{row['processor_s']:.1f}")
    console = Console(width=100)
    console.print(f"{stored['clips']:,} x {stored['dim']}, {stored['classes']} classes")
    console.print(table)
    console.print(
        f"{stored['ratio_to_product']:.2f} products, {stored['ratio_to_sklearn']:.2f} of "
        f"scikit-learn, {stored['peak_gb']:.1f} GB at most"
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
