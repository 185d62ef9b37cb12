"""The run folder: the one thing that pages, jobs and the command line share.

    runs/<id>/ config.json environment.json status.json metrics.jsonl log.txt checkpoints/ stop

`status.json` is what the worker last said; `Run.status()` is what is true: a worker that is dead,
or whose pid now belongs to another process, is `crashed`, whatever the file says.
"""

import contextlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from refine import paths
from refine.faults import full_sentence, is_full
from refine.files import (
    cut_torn_line,
    lock,
    read_json,
    to_json,
    write_json,
)
from refine.processes import STALE_S, environment, is_alive

if TYPE_CHECKING:
    import pandas as pd

State = Literal["queued", "running", "finished", "stopped", "failed", "crashed"]

PROGRESS_EVERY_S = 0.5  # s; progress is written at most this often
TASKS = ".tasks"  # the folder of short jobs (evaluate, embed, estimate) below the runs
RESERVED = frozenset({"mini", "demo", "samples"})  # names that are never read as a folder

# One lock for every status written by this process: the heartbeat and the training loop write
# the same file, and each write is read, change, replace.
_WRITING = threading.RLock()


class RunError(ValueError):
    """A run that is not there, or not in the state that was needed."""


@dataclass(frozen=True)
class Status:
    """What is true of a run now. Times are seconds since the epoch, durations seconds."""

    state: State
    message: str = ""
    pid: int | None = None
    created: float | None = None  # creation time of the process: a reused pid has another one
    host: str | None = None
    queued: float | None = None
    started: float | None = None
    heartbeat: float | None = None
    ended: float | None = None
    step: int | None = None
    total: int | None = None
    eta_s: float | None = None
    resume: bool = False  # the next start continues from the last checkpoint

    @property
    def active(self) -> bool:
        """Queued or running: it may still change by itself."""
        return self.state in ("queued", "running")

    @property
    def progress(self) -> float | None:
        """Share of the steps done, 0 to 1, or None before the total is known."""
        return min((self.step or 0) / self.total, 1.0) if self.total else None


class Run:
    """A run folder. Two objects of one folder may live in different processes."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()
        self.id = self.path.name
        # told of each row ("row") and change of status ("status") that this object writes
        self.watch: Callable[[str, dict[str, Any]], None] | None = None
        self._progress: dict[str, Any] = {}  # written with the next heartbeat
        self._written = 0.0
        self._tidied = False  # metrics.jsonl ends in a whole line

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def config(self) -> dict[str, Any]:
        """What was asked for. Raises `RunError` where config.json is gone or broken."""
        config = read_json(self.path / "config.json")
        if config is None:
            raise RunError(f"{self.id}: config.json is missing or broken; start a new run")
        return config

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, machine and command line of the start."""
        return read_json(self.path / "environment.json") or {}

    @property
    def name(self) -> str:
        """The name a person gave it, else its id."""
        return str((read_json(self.path / "config.json") or {}).get("name") or self.id)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints; `final` in it is the refined encoder."""
        return self.path / "checkpoints"

    def result(self) -> dict[str, Any] | None:
        """What a task computed (result.json), or None before it finished."""
        return read_json(self.path / "result.json")

    def write_result(self, result: dict[str, Any]) -> None:
        """Keep what a task computed."""
        write_json(self.path / "result.json", result)

    # -- status --------------------------------------------------------------------------------

    def status(self) -> Status:
        """The state derived from the file, the process and the heartbeat. Never raises."""
        written = self.written()
        if written is None:
            return Status("crashed", "status.json is missing or broken; resume or delete the run")
        if written.state == "queued" and written.pid is None:
            return written
        if not written.active:
            return written
        if not is_alive(written.pid, written.created, written.host, written.heartbeat):
            return _dead(written, self.stop_requested)
        message = written.message
        if written.state == "queued":  # spawned, and has not spoken yet
            message = "starting"
        elif written.heartbeat and time.time() - written.heartbeat > STALE_S:
            message = f"no sign of life for {time.time() - written.heartbeat:.0f} s"
        elif self.stop_requested:
            message = "stopping after this step"
        return _changed(written, state="running", message=message)

    def written(self) -> Status | None:
        """What the status file says, true or not; None where it is missing or broken."""
        content = read_json(self.path / "status.json")
        if content is None or content.get("state") not in get_args(State):
            return None
        return Status(**{key: content[key] for key in _STATUS_FIELDS if key in content})

    def write_status(self, **changes: Any) -> None:
        """Change fields of status.json, atomically. Each write is a sign of life.

        Progress alone (step, total, eta_s) may be written on each step: it reaches the disk at
        most twice a second, and a full disk does not stop a training for it.
        """
        if unknown := set(changes) - _STATUS_FIELDS:
            raise TypeError(f"no such field of a status: {', '.join(sorted(unknown))}")
        only_progress = bool(changes) and set(changes) <= {"step", "total", "eta_s"}
        with _WRITING:
            if self.watch:
                self.watch("status", changes)
            now = time.time()
            self._progress.update(changes)
            if only_progress and now - self._written < PROGRESS_EVERY_S:
                return
            path = self.path / "status.json"
            content = {**(read_json(path) or {}), **self._progress, "heartbeat": now}
            with contextlib.suppress(OSError) if only_progress else contextlib.nullcontext():
                write_json(path, content, overwrite=True)
                self._progress.clear()
            self._written = now

    # -- metrics and log -----------------------------------------------------------------------

    def log(self, row: dict[str, Any]) -> None:
        """Append one row to metrics.jsonl. Numbers that are not finite are written as null."""
        path = self.path / "metrics.jsonl"
        if not self._tidied:
            cut_torn_line(path)
            self._tidied = True
        with path.open("a", encoding="utf-8") as stream:
            stream.write(to_json(row) + "\n")
        if self.watch:
            self.watch("row", row)

    def metrics(self) -> "pd.DataFrame":
        """The rows so far; torn or broken lines are left out, null is NaN."""
        import pandas as pd

        frame = pd.DataFrame(list(self._rows()))
        for column in frame.select_dtypes("object").columns:  # a column of nulls alone
            with contextlib.suppress(ValueError, TypeError):
                frame[column] = pd.to_numeric(frame[column])
        return frame

    def write_log(self, text: str) -> None:
        """Append a line to log.txt."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as stream:
            stream.write(text.rstrip("\n") + "\n")

    def log_text(self, tail: int | None = 200) -> str:
        """The last `tail` lines of log.txt (None: all); of a progress bar, its last picture."""
        try:
            with (self.path / "log.txt").open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - 400 * tail) if tail else 0)
                text = stream.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
        lines = lines[:-1] if lines and not lines[-1] else lines
        return "\n".join(lines[-tail:] if tail else lines)

    def _rows(self) -> "list[dict[str, Any]]":
        rows = []
        with contextlib.suppress(OSError):
            text = (self.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        rows.append(row)
        return rows

    # -- stop ----------------------------------------------------------------------------------

    @property
    def stop_requested(self) -> bool:
        """Whether someone asked this run to stop. Cheap enough for each step."""
        return (self.path / "stop").exists()

    def request_stop(self) -> None:
        """Ask the worker to save a checkpoint after its step and to end."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "stop").touch()

    def clear_stop(self) -> None:
        """Forget a request to stop."""
        (self.path / "stop").unlink(missing_ok=True)


_STATUS_FIELDS = frozenset(Status.__dataclass_fields__)


def create(config: dict[str, Any], root: Path | None = None, id: str | None = None) -> Run:
    """A new run folder, queued. It appears whole or not at all.

    `config` holds command, recipe, encoder, corpus, options and name; local folders in it are
    made absolute, because the worker runs in another directory.
    """
    root = Path(root or paths.runs())
    config = {**config, "name": check_name(config.get("name") or _default_name(config))}
    for key in ("encoder", "corpus"):
        value = config.get(key)
        if isinstance(value, str | Path) and str(value) not in RESERVED and Path(value).exists():
            config[key] = str(Path(value).resolve())
    wanted = id or f"{datetime.now():%Y%m%d-%H%M%S}-{_slug(config['name'])}"
    part = root / f".new-{wanted}-{os.getpid()}-{threading.get_ident()}"
    try:
        (part / "checkpoints").mkdir(parents=True)
        write_json(part / "config.json", config)
        write_json(part / "environment.json", environment())
        write_json(part / "status.json", {"state": "queued", "queued": time.time()})
        return Run(_place(part, root, wanted, retry=id is None))
    except OSError as error:
        reason = full_sentence(root) if is_full(error) else f"{root}: cannot write here ({error})"
        raise RunError(reason) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def find(id_or_path: str | Path) -> Run:
    """A run by folder, id or the unambiguous start of one. Raises `RunError` if there is none."""
    wanted = str(id_or_path)
    root = paths.runs()
    for folder in (Path(wanted), root / wanted, root / TASKS / wanted):
        if wanted and (folder / "config.json").is_file() and (folder / "status.json").is_file():
            return Run(folder)
    known = all_runs()
    matching = [run for run in known if wanted and run.id.startswith(wanted)]
    if len(matching) == 1:
        return matching[0]
    listed = ", ".join(run.id for run in (matching or known)[:3])
    reason = "several runs begin so" if matching else f"no such run in {root}"
    advice = f"the newest are {listed}" if listed else "there are no runs yet; start one"
    raise RunError(f"{wanted or 'run'}: {reason}; {advice}")


def all_runs(root: Path | None = None) -> list[Run]:
    """Every run of a folder (`paths.runs()`), newest first."""
    folder = Path(root or paths.runs())
    if not folder.is_dir():
        return []
    found = [
        child
        for child in folder.iterdir()
        if not child.name.startswith(".") and (child / "config.json").is_file()
    ]
    return [Run(child) for child in sorted(found, key=lambda c: (_born(c), c.name), reverse=True)]


def delete(run: Run) -> None:
    """Remove a run and its checkpoints for good. Raises `RunError` while it is active."""
    trash = run.path.with_name(f".deleted-{run.id}-{os.getpid()}")
    with lock(run.path.parent / ".lock"):
        if run.status().state == "running":
            raise RunError(f"{run.id}: it is running; stop it before you delete it")
        try:
            run.path.rename(trash)  # gone for everyone at once, however long the removal takes
        except FileNotFoundError:
            return
        except OSError as error:
            raise RunError(f"{run.id}: a program has its files open ({error}); close it") from error
    shutil.rmtree(trash, ignore_errors=True)


def check_name(name: str) -> str:
    """A run's name, stripped. Raises `RunError` for an empty, long or unsafe one."""
    stripped = str(name).strip()
    if not stripped or len(stripped) > 80:
        raise RunError(f"name: {len(stripped)} characters; expected 1 to 80")
    if bad := sorted(set(re.findall(r'[/\\:*?"<>|\x00-\x1f]', stripped))):
        raise RunError(
            f"name: got {' '.join(map(repr, bad))}; use letters, digits, - _ . and space"
        )
    if stripped.startswith("."):
        raise RunError("name: it begins with a dot; begin it with a letter or digit")
    return stripped


def _dead(written: Status, stop_requested: bool) -> Status:
    if stop_requested:
        return _changed(written, state="stopped", message="ended while it was stopping")
    if written.state == "queued":
        message = f"the worker (process {written.pid}) died before it began; see the log, resume it"
    else:
        message = (
            f"the worker (process {written.pid}) is gone without a word: killed, out of memory "
            "or a restart; resume it from its last checkpoint"
        )
    return _changed(written, state="crashed", message=message, ended=written.heartbeat)


def _changed(status: Status, **changes: Any) -> Status:
    return Status(**{**vars(status), **changes})


def _place(part: Path, root: Path, wanted: str, retry: bool) -> Path:
    """Rename a finished folder to its name, or to the next free one (`-2`, `-3`, …)."""
    for number in range(1, 1000):
        place = root / (wanted if number == 1 else f"{wanted}-{number}")
        try:
            return part.rename(place)  # a run folder is not empty, so none is ever replaced
        except OSError:
            if not (retry and place.exists()):
                raise
    raise RunError(f"{wanted}: there are a thousand runs of this name; choose another one")


def _born(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return (folder / "config.json").stat().st_mtime
    return 0.0


def _default_name(config: dict[str, Any]) -> str:
    encoder = Path(str(config.get("encoder") or "")).name
    kind = config.get("recipe") or config.get("command") or "run"
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]+', "-", f"{kind}-{encoder}".strip("-."))[:80]


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name.lower()).strip("-.")[:40] or "run"
