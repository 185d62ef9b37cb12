"""Jobs: start a run in a process of its own, watch it, stop it, resume it, queue it.

A *lane* is a folder of runs, and one run at a time works in each: trainings in `paths.runs()`,
short tasks (evaluate, embed, estimate) in `.tasks` below it. Who starts a run is gone a moment
later as far as the run is concerned; everything is read back from its folder. Every step from one
state to the next happens under the lane's lock.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from refine import files, paths, runs
from refine.processes import identity
from refine.runs import Run, RunError

WORKER = (sys.executable, "-m", "refine", "jobs", "run")  # followed by the run folder
TERMINATE_S = 5.0  # s between SIGTERM and SIGKILL
POLL_S = 0.1

_children: list[subprocess.Popen] = []  # kept so that finished ones can be reaped


def submit(config: dict[str, Any]) -> Run:
    """Create a run and start it, or leave it queued behind the one that is running."""
    run = runs.create(config)
    start(run)
    return run


def start(run: Run) -> bool:
    """Start a queued run if its lane is free. Returns whether it is starting or running now."""
    status = run.status()
    if status.state == "running":
        return True
    if status.state != "queued":
        raise RunError(f"{run.id}: it is {status.state}; resume it, or start a new run")
    advance(run.path.parent)
    return run.status().state != "queued"


def advance(lane: Path | None = None) -> Run | None:
    """Start the longest-waiting queued run of a lane when none runs there; None: of both lanes.

    Anyone may call this at any time: two callers never start two runs. Returns what it started.
    """
    _reap()
    if lane is None:
        started = [advance(folder) for folder in (paths.runs(), tasks_folder())]
        return next((run for run in started if run), None)
    if not lane.is_dir():
        return None
    with _lane_lock(lane):
        states = [(run, run.status()) for run in runs.all_runs(lane)]
        if any(status.state == "running" for _, status in states):
            return None
        waiting = [
            (status.queued or 0.0, run) for run, status in states if status.state == "queued"
        ]
        if not waiting:
            return None
        run = min(waiting, key=lambda pair: (pair[0], pair[1].id))[1]
        _spawn(run)
        return run


def claim(run: Run) -> bool:
    """Called by a worker: from here on this process is the run. Returns False if another one is.

    A starter holds the lane's lock until it has written the worker's pid, so the first words of
    the worker come after it.
    """
    with _lane_lock(run.path.parent):
        status, me = run.status(), identity()
        if status.state == "running" and status.pid != me["pid"]:
            return False
        if not status.active:
            raise RunError(f"{run.id}: it is {status.state}; resume it, or start a new run")
        now = time.time()
        run.write_status(state="running", message="", started=now, ended=None, **me)
        return True


def claim_here(work: Run | dict[str, Any]) -> Run:
    """Make this process the worker of a new run (from its config) or of one to resume.

    Raises: `RunError` when another run works in the lane, or this one cannot be resumed.
    """
    lane = work.path.parent if isinstance(work, Run) else paths.runs()
    with _lane_lock(lane):
        for other in runs.all_runs(lane):
            if other.status().state == "running":
                raise RunError(
                    f"{other.id} is running; wait for it, stop it with `python -m refine jobs stop "
                    f"{other.id}`, or queue this one with --background"
                )
        if isinstance(work, Run):
            _requeue(work)
        run = work if isinstance(work, Run) else runs.create(work)
        run.write_status(state="running", started=time.time(), **identity())
        return run


def stop(run: Run, grace_s: float = 20.0) -> None:
    """Stop a run: ask, and after `grace_s` seconds SIGTERM, then SIGKILL. Returns when it ended.

    To ask and not wait (a page), call `run.request_stop()`; the worker saves a checkpoint after
    its step and ends. A queued run leaves the queue.
    """
    with _lane_lock(run.path.parent):
        status = run.status()
        if status.state == "queued":
            run.write_status(
                state="stopped", message="stopped before it started", ended=time.time()
            )
            return
        if status.state != "running":
            return
        run.request_stop()
    if not _ends_within(run, grace_s):
        _signal(run, signal.SIGTERM)
        if not _ends_within(run, TERMINATE_S):
            _signal(run, getattr(signal, "SIGKILL", signal.SIGTERM))
            _ends_within(run, TERMINATE_S)
    settle(run)
    advance(run.path.parent)


def resume(run: Run) -> Run:
    """Queue a stopped, failed or crashed run again; it goes on from its last checkpoint."""
    with _lane_lock(run.path.parent):
        _requeue(run)
    advance(run.path.parent)
    return run


def settle(run: Run) -> None:
    """Write down the derived state of a worker that died, so that the file tells the truth too."""
    with _lane_lock(run.path.parent):
        status, written = run.status(), run.written()
        if not status.active and written is not None and written.active:
            ended = written.heartbeat or time.time()
            run.write_status(state=status.state, message=status.message, ended=ended)


def task(command: str, options: dict[str, Any], again: bool = False) -> Run:
    """The task of these options: started on the first call, found again on every later one.

    A page may call this on each rerun. A task that failed is returned as it is, so that its
    message can be shown; `again` starts it (or a finished one) anew. `options` holds encoder,
    corpus, recipe, options, and whatever else the command takes.
    """
    outer: dict[str, Any] = {
        key: options[key] for key in ("recipe", "encoder", "corpus") if key in options
    }
    inner = {key: value for key, value in options.items() if key not in (*outer, "options")}
    inner = {**(options.get("options") or {}), **inner}
    config: dict[str, Any] = {"command": command, **outer, "options": inner}
    stamps = [_stamp(config.get(key)) for key in ("encoder", "corpus")]
    digest = hashlib.sha256(files.to_json([_ordered(config), stamps]).encode()).hexdigest()[:12]
    lane, name = tasks_folder(), f"{command}-{digest}"
    run = Run(lane / name)
    with _lane_lock(lane):
        if not (run.path / "config.json").exists():
            runs.create({**config, "name": name}, root=lane, id=name)
        elif again and not run.status().active:
            (run.path / "result.json").unlink(missing_ok=True)
            _requeue(run, finished=True)
    if run.status().state == "queued":
        advance(lane)
    return run


def tasks_folder() -> Path:
    """The lane of short tasks."""
    return paths.runs() / runs.TASKS


def _requeue(run: Run, finished: bool = False) -> None:
    """Make a run that has ended queued again, to be resumed; the lane's lock is held."""
    state = run.status().state
    if state in ("queued", "running"):
        raise RunError(f"{run.id}: it is {state} already; there is nothing to resume")
    if state == "finished" and not finished:
        raise RunError(f"{run.id}: it has finished; start a new run to train on")
    run.clear_stop()
    cleared = {"pid": None, "created": None, "started": None, "ended": None, "eta_s": None}
    run.write_status(state="queued", message="", queued=time.time(), resume=True, **cleared)


def _spawn(run: Run) -> None:
    """Start the worker of a run; the lane's lock is held. Its own session: it outlives us."""
    flags: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    with (run.path / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            [*WORKER, str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=paths.ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            **flags,
        )
    _children.append(child)
    try:
        who = identity(child.pid)
    except psutil.NoSuchProcess:  # it is over already, and reaped elsewhere
        who = {"pid": child.pid}
    run.write_status(**who)


def _reap() -> None:
    """Take notice of children that ended: a server that never did would collect zombies."""
    _children[:] = [child for child in _children if child.poll() is None]


def _lane_lock(lane: Path) -> Any:
    return files.lock(lane / ".lock")


def _ends_within(run: Run, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while run.status().state == "running":
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _signal(run: Run, which: int) -> None:
    """Signal the worker, and with SIGKILL also its children; never a process that took its pid."""
    status = run.status()
    if status.state != "running" or status.pid is None or status.pid == os.getpid():
        return
    try:
        worker = psutil.Process(status.pid)
        victims = [worker]
        if which != signal.SIGTERM:
            victims += worker.children(recursive=True)
        for victim in victims:
            victim.send_signal(which)
    except psutil.NoSuchProcess:
        return


def _stamp(source: Any) -> Any:
    """What changes when a local folder's files change, without reading them."""
    name = str(source or "")
    folder = paths.MINI if name == "mini" else Path(name)
    if name in runs.RESERVED - {"mini"} or not name:
        return None
    if not folder.exists():
        folder = paths.runs() / name
    if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
        folder = folder / "checkpoints" / "final"  # of a run, only the encoder counts
    if not folder.exists():
        return None
    entries = [folder, *folder.iterdir()] if folder.is_dir() else [folder]
    stats = [(entry.name, entry.stat()) for entry in sorted(entries)[:5000]]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return [[key, _ordered(value[key])] for key in sorted(value)]
    return [_ordered(item) for item in value] if isinstance(value, list | tuple) else value
