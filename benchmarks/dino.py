"""DINO without labels beside a supervised x-vector of the same network, on voices neither heard.

    python benchmarks/dino.py --data ../shared/data --encoder assets/encoders/mini \
        --out docs/measured/dino.json

Trains `dino` (preset `mini`) on the train speakers of all corpora but ravdess, no label read; a
supervised x-vector of the same network on those of them whose speaker is known; one round of pseudo
labels after DINO (of the first seed). Speaker verification by cosine and by PLDA on other voices
and on a corpus that none of them was trained on, beside log-mel statistics and the untrained
network; then the transfer study on the emotions of emodb. Each finished cell is kept in the JSON,
and a cut training goes on from its last checkpoint.
"""

import json
import shutil
import time
from functools import cache
from typing import Any

import tyro
from dino_systems import CELLS, SEEDED, SYSTEMS, Options, Systems
from dino_tables import table
from processes import processor_minutes, workers

from refine.files import write_json

Job = tuple[tuple[Any, ...], tuple[str, ...]]  # function and arguments; names of what it needs


def main(options: Options) -> None:
    """Train, measure, write the JSON and the table."""
    systems = Systems(options)
    found = _read(options, systems)
    systems.prepare()
    jobs = _jobs(options, systems)
    missing = _missing(jobs, found["cells"])
    before, started = found.get("minutes", 0.0), time.monotonic()
    spent = found.get("processor_minutes", 0.0)
    with workers(options.jobs) as turns:
        work = {name: jobs[name][0] for name in missing}
        for name, result in turns(work, {name: jobs[name][1] for name in missing}):
            if result is not None:
                print(f"… {name}", flush=True)
                found["cells"][name] = result
                found["minutes"] = before + (time.monotonic() - started) / 60
                found["processor_minutes"] = spent + processor_minutes()
                _write(options, found)
    if options.ship:
        systems.ship(options.ship)
    text = table(found, systems, options)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def _jobs(options: Options, systems: Systems) -> dict[str, Job]:
    """All there is to do: trainings, whose result is a folder, and cells of the JSON."""
    jobs: dict[str, Job] = {}
    for seed in range(options.seeds):
        for system in ("dino", "x-vector"):
            jobs[f"{system}, seed {seed}"] = (_trained, options, system, seed), ()
        if seed == 0:
            jobs["rounds, seed 0"] = (_rounds, options, 0), ("dino, seed 0",)
        for system in SYSTEMS if seed == 0 else SEEDED:
            needs = "rounds" if system == "pseudo labels" else system
            work = (_verified, options, system, seed)
            jobs[f"verification, {system}, seed {seed}"] = work, (f"{needs}, seed {seed}",)
        for before in ("x-vector", "log-mel"):
            of = {"dino": seed, before: seed if before in SEEDED else 0}
            both = tuple(f"verification, {one}, seed {its}" for one, its in of.items())
            for name in systems.tests:
                change = (_changed, options, before, seed, name)
                jobs[f"change, dino after {before}, {name}, seed {seed}"] = change, both
    if not options.quick and not options.choose:
        for system in ("dino", "x-vector", "untrained"):
            for name, changes in CELLS.items():
                if not changes or system != "untrained":
                    cell = (_transferred, options, system, changes)
                    jobs[f"transfer, {system}, {name}"] = cell, (f"{system}, seed 0",)
    return jobs


def _missing(jobs: dict[str, Job], cells: dict[str, Any]) -> list[str]:
    """Cells that are not there, and the trainings they need; the longest training begins first."""
    wanted = {name for name, (work, _) in jobs.items() if work[0] is not _trained} - set(cells)
    found: set[str] = set()
    while wanted:
        found |= wanted
        wanted = {
            one for name in wanted for one in jobs[name][1] if one in jobs and one not in cells
        } - found
    return [name for name in jobs if name in found]


@cache
def _systems(options: Options) -> Systems:
    return Systems(options)


def _trained(options: Options, system: str, seed: int) -> None:
    _systems(options).trained(system, seed)


def _rounds(options: Options, seed: int) -> Any:
    history = _systems(options).rounds(seed)
    return [{k: v for k, v in row.items() if k != "encoder"} for row in history]


def _verified(options: Options, system: str, seed: int) -> Any:
    return _systems(options).verify(system, seed)


def _changed(options: Options, before: str, seed: int, name: str) -> Any:
    return _systems(options).change(before, "dino", seed, name)


def _transferred(options: Options, system: str, changes: dict[str, Any]) -> Any:
    return _systems(options).transferred(system, changes)


def _read(options: Options, systems: Systems) -> dict[str, Any]:
    """What an earlier run found with these settings; what it trained with others is thrown away."""
    settings = json.loads(json.dumps(systems.settings))
    if options.out.exists():
        found = json.loads(options.out.read_text(encoding="utf-8"))
        if found.get("settings") == settings:
            return found
    shutil.rmtree(systems.work, ignore_errors=True)
    return {"settings": settings, "cells": {}}


def _write(options: Options, found: dict[str, Any]) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, found)


if __name__ == "__main__":
    main(tyro.cli(Options))
