"""`refine jobs`: what runs, what ran, and how to stop and resume it."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import tyro
from rich.table import Table

from refine import jobs, runs
from refine.cli.console import print_json, say, span, tables
from refine.runs import Run

Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Jobs:
    """List, show, stop, resume and run jobs."""

    def run(self) -> int:
        """Never called: `jobs` alone shows its help."""
        return 0


@dataclass(frozen=True)
class List:
    """List the runs, newest first."""

    tasks: Flag = False
    """List the short tasks (evaluate, embed, estimate) instead of the trainings."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Print a table of runs."""
        jobs.advance()
        found = runs.all_runs(jobs.tasks_folder() if self.tasks else None)
        if self.json:
            print_json({"runs": [_summary(run) for run in found]})
            return 0
        if not found:
            say("no runs yet; start one with: python -m refine train rewire --help")
            return 0
        table = Table("run", "state", "step", "left", "started", "message", box=None)
        for run in found:
            status = run.status()
            steps = f"{status.step or 0}/{status.total}" if status.total else ""
            left = span(status.eta_s) if status.state == "running" else ""
            table.add_row(
                run.id, status.state, steps, left, _clock(status.started), status.message[:60]
            )
        tables().print(table)
        return 0


@dataclass(frozen=True)
class Show:
    """Show a run: its options, state, last numbers and the end of its log."""

    id: tyro.conf.Positional[str]
    """Id of the run, or the start of it, or its folder."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Print what is known of a run."""
        run = runs.find(self.id)
        frame = run.metrics()
        last = frame.iloc[-1].to_dict() if len(frame) else {}
        if self.json:
            more = {"last": last, "environment": run.environment, "result": run.result()}
            print_json({**_summary(run), **more})
            return 0
        status = run.status()
        print(f"{run.id}  {status.state}  {status.message}".rstrip())
        print(f"folder   {run.path}")
        for key, value in {**run.config, **run.config.get("options", {})}.items():
            if key != "options":
                print(f"  {key:24} {value}")
        if last:
            print("last row")
            for key, value in last.items():
                print(f"  {key:24} {value}")
        print("log")
        print(run.log_text(tail=20))
        return 0


@dataclass(frozen=True)
class Stop:
    """Stop a run: it saves a checkpoint after its step; one that does not answer is ended."""

    id: tyro.conf.Positional[str]
    """Id of the run, or the start of it, or its folder."""
    grace: float = 20.0
    """Seconds to wait for the checkpoint before the process is ended."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Stop and wait."""
        run = runs.find(self.id)
        jobs.stop(run, grace_s=self.grace)
        return _report(run, self.json)


@dataclass(frozen=True)
class Resume:
    """Resume a stopped, failed or crashed run in the background, from its last checkpoint."""

    id: tyro.conf.Positional[str]
    """Id of the run, or the start of it, or its folder."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Queue it, and start it if nothing else runs."""
        return _report(jobs.resume(runs.find(self.id)), self.json)


@dataclass(frozen=True)
class Execute:
    """Do the work of a queued run in this process (this is what the dashboard starts)."""

    path: tyro.conf.Positional[str]
    """The folder of the run."""

    def run(self) -> int:
        """Become the worker of the run."""
        from refine import worker

        return worker.main(self.path)


def _report(run: Run, as_json: bool) -> int:
    status = run.status()
    if as_json:
        print_json(_summary(run))
    else:
        print(f"{run.id}: {status.state}" + (f" ({status.message})" if status.message else ""))
    return 0


def _summary(run: Run) -> dict[str, Any]:
    status = {key: value for key, value in asdict(run.status()).items() if key != "resume"}
    return {"id": run.id, "path": str(run.path), **status, "config": run.config}


def _clock(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""
