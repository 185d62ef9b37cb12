"""What the commands print: results on stdout, progress and words on stderr."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from refine.files import to_json


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(to_json(value, indent=2) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A word on stderr, so that stdout stays for results."""
    print(text, file=sys.stderr, flush=True)


def tables() -> Console:
    """A console for tables on stdout; as wide as needed when it is not a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=160)


@contextlib.contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for work in phases; yields the callback (what, done, total)."""
    with _bar("") as bar:
        rows: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in rows:
                rows[what] = bar.add_task(what, total=total, detail="")
            bar.update(rows[what], completed=done, total=total)

        yield report


@contextlib.contextmanager
def training(name: str) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """A progress bar of a training; yields what `Run.watch` is set to."""
    with _bar("detail") as bar:
        row = bar.add_task(name, total=None, detail="preparing")
        seen: dict[str, Any] = {}

        def watch(kind: str, values: dict[str, Any]) -> None:
            if kind == "row" and isinstance(values.get("total"), int | float):
                seen["loss"] = values["total"]
            elif kind == "status":
                seen.update({key: values[key] for key in ("eta_s", "message") if key in values})
                bar.update(row, completed=values.get("step"), total=values.get("total"))
            loss = f"loss {seen['loss']:.4f}" if "loss" in seen else seen.get("message", "")
            left = f"  {span(seen['eta_s'])} left" if seen.get("eta_s") else ""
            bar.update(row, detail=loss + left)

        yield watch


def span(seconds: float | None) -> str:
    """A duration to read: 42 s, 3:05 min, 2:10 h."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def _bar(detail: str) -> Progress:
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns.append(TextColumn("{task.fields[detail]}") if detail else TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
