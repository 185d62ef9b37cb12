"""Who runs a job, and with what: the identity of a process, and the record of its environment."""

import contextlib
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from typing import Any

import psutil

from refine import paths

STALE_S = 15.0  # s without a heartbeat after which a worker we cannot look at counts as dead
VERSIONS = ("refine", "torch", "torchaudio", "transformers", "accelerate", "numpy", "streamlit")


def identity(pid: int | None = None) -> dict[str, Any]:
    """pid, creation time and host of a process (this one), as status.json keeps them."""
    process = psutil.Process(pid)  # a new object each time: it follows changes of the clock
    return {"pid": process.pid, "created": process.create_time(), "host": platform.node()}


def is_alive(
    pid: int | None, created: float | None, host: str | None, heartbeat: float | None
) -> bool:
    """Whether the very process that said this still lives: not a zombie, not a reused pid."""
    if pid is None:
        return False
    recent = heartbeat is not None and time.time() - heartbeat < STALE_S
    if host and host != platform.node():  # a shared folder: its word is all there is
        return recent
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return created is None or abs(process.create_time() - created) < 1.0
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it exists and belongs to someone else
        return recent


def environment() -> dict[str, Any]:
    """Versions, machine and command line, read without importing any of the libraries."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "versions": {name: version for name in VERSIONS if (version := _version(name))},
        "git_commit": _commit(),
        "argv": sys.argv,
        "cwd": os.getcwd(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    if not (paths.ROOT / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(paths.ROOT), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return done.stdout.strip() if done.returncode == 0 else None
    return None
