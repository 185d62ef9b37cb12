"""What `python -m refine jobs run PATH` executes: one run, from its config to its last state.

A heartbeat thread says every two seconds that the process lives. However the work ends, the status
says how; the traceback of anything unexpected is in log.txt.
"""

import contextlib
import faulthandler
import importlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from refine import faults, jobs, runs
from refine.files import FileLocked
from refine.processes import identity
from refine.runs import Run, RunError, Status

BEAT_S = 2.0

# Only these may run. Each is called with the run and whether it resumes; what it returns, if it is
# a dict, becomes result.json.
COMMANDS = {
    "train": "refine.worker:train",
    "estimate": "refine.worker:estimate",
    "embed": "refine.worker:embed",
    "evaluate": "refine.worker:evaluate",
    "compare": "refine.lineup:work",
    "curves": "refine.curves:work",
    "report": "refine.report:work",
    "export": "refine.export:work",
    "classes": "refine.worker:classes",
    "heads": "refine.live.teaching:work",
}


class Stopped(Exception):
    """Someone asked a task to stop, and it did."""


def main(path: str) -> int:
    """Claim a run, execute it, start the next one of its lane. Returns the exit code."""
    run = runs.find(path)
    faulthandler.enable()
    try:
        try:
            if not jobs.claim(run):
                return 0  # another worker was faster
        except RunError as told:  # … and has ended: its work is done once
            print(told, file=sys.stderr)
            return 0
        return 0 if execute(run).state in ("finished", "stopped") else 1
    finally:
        with contextlib.suppress(FileLocked):
            jobs.advance(run.path.parent)


def execute(run: Run, on_stop: Callable[[], None] | None = None) -> Status:
    """Do the work of a run that this process has claimed. Returns its last status.

    Ctrl-C and SIGTERM ask the work to stop after its step (and call `on_stop`); a second one
    interrupts it.
    """
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(run, over), name="heartbeat", daemon=True)
    heart.start()
    try:
        with _signals(run, on_stop):
            ending = _work(run)
    finally:
        over.set()
        heart.join()
    _note(run, ": ".join(filter(None, ending.values())))
    with contextlib.suppress(OSError):
        run.write_status(**ending, ended=time.time())
    return run.status()


def train(run: Run, resume: bool) -> Any:
    """Train with the recipe of the config."""
    module, options = _recipe(run.config)
    config = run.config
    return module.train(options, config["encoder"], config["corpus"], run, resume=resume)


def estimate(run: Run, resume: bool) -> dict[str, Any]:
    """Time and memory of a few real steps of the recipe."""
    module, options = _recipe(run.config)
    return module.estimate(options, run.config["encoder"], run.config["corpus"])


def embed(run: Run, resume: bool) -> dict[str, Any]:
    """Extract embeddings into the cache; the result names the table."""
    from refine.corpus import open_corpus
    from refine.embeddings import extract
    from refine.encoders import load

    report = progress(run)
    config = run.config
    corpus = open_corpus(config["corpus"], progress=lambda *n: report("opening the corpus", *n))
    table = extract(
        load(config["encoder"]),
        corpus,
        **config["options"],
        progress=lambda *n: report("embedding", *n),
    )
    return {"path": str(table.path), "n_clips": table.n, "layers": table.layers}


def evaluate(run: Run, resume: bool) -> dict[str, Any]:
    """Measure an encoder on a corpus; the result is the object of the command line."""
    from refine.corpus import open_corpus
    from refine.evaluation import evaluate

    report = progress(run)
    config = run.config
    corpus = open_corpus(config["corpus"], progress=lambda *n: report("opening the corpus", *n))
    return evaluate(config["encoder"], corpus, **config["options"], progress=report)


def classes(run: Run, resume: bool) -> dict[str, Any]:
    """What a page on classes shows beside the evaluations: changes, neighbours, maps."""
    from refine.class_changes import make
    from refine.corpus import open_corpus

    report = progress(run)
    config = run.config
    corpus = open_corpus(config["corpus"], progress=lambda *n: report("opening the corpus", *n))
    return make(config["encoder"], corpus, **config["options"], progress=report)


def progress(run: Run) -> Callable[[str, int, int], None]:
    """A callback (what, done, total) that keeps the status and heeds a request to stop."""
    phase, began = "", time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal phase, began
        if run.stop_requested:
            raise Stopped
        if what != phase:
            phase, began = what, time.monotonic()
            run.write_status(message=what, step=done, total=total, eta_s=None)
            return
        eta_s = (time.monotonic() - began) / done * (total - done) if done else None
        run.write_status(step=done, total=total, eta_s=eta_s)

    return report


def recipe_class(name: str) -> type:
    """The options of a recipe, by name. Loads no torch. Raises `RunError` for an unknown name."""
    from refine.recipes import RECIPES

    if name not in RECIPES:
        raise RunError(f"recipe: got {name!r}; expected one of: {', '.join(RECIPES)}")
    module, _, attribute = RECIPES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _recipe(config: dict[str, Any]) -> tuple[Any, Any]:
    """Module and checked options of the recipe in a config."""
    from refine.options import from_dict

    for key in ("recipe", "encoder", "corpus"):
        if not config.get(key):
            raise RunError(f"{key}: missing in config.json; start a new run")
    cls = recipe_class(config["recipe"])
    return importlib.import_module(cls.__module__), from_dict(cls, config.get("options") or {})


def _work(run: Run) -> dict[str, str]:
    """Run the command of the config. Returns the last state and message."""
    try:
        written = run.written()
        resume = bool(written and written.resume)
        config = run.config
        _note(run, f"{'resume' if resume else 'start'} {config.get('command')} {run.id}")
        outcome = _command(config)(run, resume)
        if isinstance(outcome, dict):
            run.write_result(outcome)
        if outcome == "stopped" or (outcome is None and _cut_short(run)):
            return {"state": "stopped", "message": "stopped after a step; resume it any time"}
    except Stopped:
        return {"state": "stopped", "message": "stopped; what was computed is kept"}
    except KeyboardInterrupt:
        return {"state": "stopped", "message": "interrupted; the last checkpoint is kept"}
    except BaseException as error:
        _note(run, traceback.format_exc())
        return {"state": "failed", "message": describe(error, run)}
    return {"state": "finished", "message": ""}


def describe(error: BaseException, run: Run) -> str:
    """What the status says of an error: its sentence, or its type and where the rest stands."""
    if text := faults.sentence(error, run.path):
        return text
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}; see log.txt"


def _command(config: dict[str, Any]) -> Callable[[Run, bool], Any]:
    name = config.get("command")
    if name not in COMMANDS:
        raise RunError(f"command: got {name!r}; expected one of: {', '.join(COMMANDS)}")
    module, _, attribute = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _cut_short(run: Run) -> bool:
    """Whether the work returned because it was asked to stop, before its last step."""
    run.write_status()
    written = run.written()
    done = written is not None and written.total and (written.step or 0) >= written.total
    return run.stop_requested and not done


def _beat(run: Run, over: threading.Event) -> None:
    while not over.wait(BEAT_S):
        with contextlib.suppress(OSError):  # a full disk: the next beat may reach it
            run.write_status(**identity())


@contextlib.contextmanager
def _signals(run: Run, on_stop: Callable[[], None] | None) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heed(number: int, frame: Any) -> None:
        if run.stop_requested:
            raise KeyboardInterrupt
        run.request_stop()
        if on_stop:
            on_stop()

    before = {which: signal.signal(which, heed) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _note(run: Run, text: str) -> None:
    with contextlib.suppress(OSError):
        run.write_log(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}")
