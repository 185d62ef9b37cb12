"""Everything the Classes page needs, at 100 000 clips: the time of each part.

    python benchmarks/classes_scale.py

Two embedding tables with structure (200 speakers, 40 words, 8 moods; after: tighter words) are
written as `refine embed` writes them and read back through their memory map. Timed are what
`factors.judge` finds of the page's factor on both sides, then what the page makes beside the
evaluations: paired changes, worst pairs, what every factor explains, neighbours, joint map.
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
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from rich.console import Console
from rich.table import Table

from refine import class_changes, factors, maps
from refine.embeddings import ROW_GROUP, open_embeddings
from refine.paths import ROOT

OUT = ROOT / "docs" / "measured" / "classes_scale.json"
LEVELS = {"speaker": 200, "content": 40, "mood": 8}
FIT = 2_000  # clips that probes are fitted on, as `evaluation.PROBE_CLIPS`


@dataclass(frozen=True)
class Options:
    """What is measured."""

    clips: int = 100_000
    """Rows of each table."""
    dim: int = 768
    """Dimensions of a vector."""
    factor: str = "content"
    """The factor that the page shows."""
    out: Path = OUT
    """Where the JSON goes."""


def main(options: Options) -> None:
    """Make the tables, time every part in turn, print and store."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REFINE_CACHE"] = folder
        paths = [made(Path(folder), side, options) for side in (0, 1)]
        parts: dict[str, tuple[float, float]] = {}
        results = {}
        for role, path in zip(("before", "after"), paths, strict=True):
            results[role] = timed(
                parts, f"classes and probes {role}", partial(judged, path, options)
            )
        factor = options.factor
        timed(parts, "changes, pairs, explained", partial(class_changes.look, results, factor))
        timed(parts, "neighbours", partial(class_changes.neighbourhoods, results))
        timed(parts, "joint map", partial(maps.joint, results, "pca"))
        timed(parts, "read back", partial(read, results, factor))
    report(parts, options)


def timed(parts: dict[str, tuple[float, float]], name: str, work: Callable[[], Any]) -> Any:
    """Run it; wall and processor seconds are kept."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    parts[name] = (time.perf_counter() - wall, time.process_time() - cpu)
    print(f"{name}: {parts[name][0]:.1f} s", flush=True)
    return found


def made(folder: Path, side: int, options: Options) -> Path:
    """A table with structure: speaker, word and mood each add their own direction."""
    rng = np.random.default_rng(0)
    n, d = options.clips + FIT, options.dim
    x = np.full((n, d), 0.5, dtype=np.float32)
    columns = {}
    for name, levels in LEVELS.items():
        codes = rng.integers(0, levels, n)
        means = rng.standard_normal((levels, d), dtype=np.float32)
        x += (1.5 if side and name == options.factor else 1.0) * means[codes]
        columns[name] = pa.array(np.char.add(f"{name[0]}", codes.astype(str)))
    noise = np.random.default_rng(1 + side)
    for start in range(0, n, ROW_GROUP):
        part = x[start : start + ROW_GROUP]
        part += 2 * noise.standard_normal(part.shape, dtype=np.float32)
    path = folder / f"{side}.parquet"
    layout = {"layers": ["0"], "pooling": "mean", "encoder": f"synthetic {side}"}
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), d)
    clips = pa.array([f"{row:06d}.wav" for row in range(n)])
    table = pa.table({"clip": clips, "layer": pa.array(["0"] * n), "vector": vectors, **columns})
    pq.write_table(
        table.replace_schema_metadata({"refine": json.dumps(layout)}),
        path, compression="NONE", use_dictionary=False, row_group_size=ROW_GROUP,
    )  # fmt: skip
    return path


def judged(path: Path, options: Options) -> dict[str, Any]:
    """What an evaluation says of the page's factor: its spread, its probes."""
    opened = open_embeddings(path)
    table, vectors = opened.table, opened.vectors("0")
    evaluated = np.arange(len(table)) < options.clips
    split = np.where(evaluated, "test", "train")
    split[options.clips :: 4] = "dev"
    table = table.assign(split=split)
    space = factors._Space(vectors, table, evaluated, 0, {"all": slice(0, options.dim)})
    labels = space.labels(options.factor)
    assert labels is not None
    numbers, read = space.spreads(labels), space.read(options.factor)
    found = {
        "classes": {options.factor: numbers | read.numbers},
        "probes": {options.factor: read.detail},
    }
    return found | {
        "encoder": opened.metadata["encoder"],
        "corpus": "synthetic",
        "layer": "0",
        "pooling": "mean",
        "n_clips": len(table),
        "embeddings": str(path),
        "hidden": str(path),
        "encoder_fingerprint": path.name,
        "corpus_fingerprint": f"{options.clips}x{options.dim}",
    }


def read(results: dict[str, dict[str, Any]], factor: str) -> None:
    """What a page does once all is made."""
    class_changes.looked(results, factor)
    class_changes.neighbours_found(results)
    maps.found(results, "pca")


def report(parts: dict[str, tuple[float, float]], options: Options) -> None:
    """Print the breakdown and store it."""
    console = Console(width=100)
    table = Table("part", "wall s", "processor s")
    for name, (wall, cpu) in parts.items():
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}")
    wall, cpu = (sum(part[place] for part in parts.values()) for place in (0, 1))
    table.add_row("all", f"{wall:.1f}", f"{cpu:.1f}", style="bold")
    console.print(f"{options.clips:,} x {options.dim}, factor {options.factor}")
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    stored = {
        "clips": options.clips,
        "dim": options.dim,
        "factor": options.factor,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "parts": {name: {"wall_s": a, "processor_s": b} for name, (a, b) in parts.items()},
        "wall_s": wall,
        "processor_s": cpu,
        "peak_gb": peak,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
