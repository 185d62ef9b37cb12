"""A worker process with commands made for the tests: the product's own table has no such entry.

The process, its signals, its status and its queue are `refine.worker` and `refine.jobs` unchanged.
"""

import errno
import os
import sys
import time

from refine import jobs, worker
from refine.options import OptionError
from refine.runs import Run

COMMANDS = ("count", "deaf", "refuse", "fault", "full", "killed", "answer")
WORKER = (sys.executable, __file__)


def count(run: Run, resume: bool) -> None:
    """Count to options["steps"], one row a step; goes on from the last row when resumed."""
    config = run.config["options"]
    path = run.path / "metrics.jsonl"
    done = len(path.read_text().splitlines()) if path.exists() else 0
    assert resume or done == 0
    while done < config["steps"] and not run.stop_requested:
        done += 1
        run.log({"step": done, "total": 1 / done})
        run.write_status(step=done, total=config["steps"], eta_s=1.0)
        time.sleep(config.get("each_s", 0.02))


def deaf(run: Run, resume: bool) -> None:
    """Never looks whether it should stop."""
    run.log({"step": 1})
    time.sleep(60)


def refuse(run: Run, resume: bool) -> None:
    raise OptionError("learning_rate", "got 1e9; expected 1e-8 to 1; lower it")


def fault(run: Run, resume: bool) -> None:
    raise KeyError("surprise")


def full(run: Run, resume: bool) -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as error:
        raise RuntimeError("the writer failed") from error


def killed(run: Run, resume: bool) -> None:
    os.kill(os.getpid(), 9)


def answer(run: Run, resume: bool) -> dict[str, float]:
    run.log({"step": 1})
    return {"value": float("nan"), "of": run.config["options"]["of"]}


def install() -> None:
    """Let this process run and start the commands above."""
    worker.COMMANDS.update({name: f"job_worker:{name}" for name in COMMANDS})
    jobs.WORKER = WORKER


if __name__ == "__main__":
    install()
    sys.exit(worker.main(sys.argv[1]))
