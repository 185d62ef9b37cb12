"""Small files that several processes share: JSON written whole or not at all, and a lock."""

import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refine.faults import FULL


class FileLocked(ValueError):
    """Another process has held a lock for too long."""


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that any reader accepts: NaN and infinities are null, paths and arrays are plain."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None where the file is missing, torn or holds something else."""
    for attempt in range(5):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else None
        except PermissionError:  # Windows, while another process replaces it
            time.sleep(0.01 * attempt)
        except (OSError, ValueError):
            return None
    return None


def write_json(path: Path, value: dict[str, Any], overwrite: bool = False) -> None:
    """Replace a file in one step, so that a reader sees the old or the new one, never half.

    With `overwrite`, a full disk is survived by writing over the old content in its own blocks:
    the last word of a run ("the disk is full") must still reach the reader.
    """
    text = to_json(value, indent=1) + "\n"
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        _replace(part, path)
    except OSError as error:
        if not (overwrite and error.errno in FULL and path.exists()):
            raise
        with path.open("r+", encoding="utf-8") as stream:
            stream.write(text)
            stream.truncate()
    finally:
        part.unlink(missing_ok=True)


def cut_torn_line(path: Path) -> None:
    """Drop what follows the last line break: a line that a crash left half written."""
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as stream:
        data = stream.read()
        if data and not data.endswith(b"\n"):
            stream.truncate(data.rfind(b"\n") + 1)


@contextlib.contextmanager
def lock(path: Path, patience_s: float = 10.0) -> Iterator[None]:
    """Hold a lock that excludes every other process and thread; the system drops it at death.

    Raises: `FileLocked` when another holder keeps it for longer than `patience_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    with path.open("a+b") as stream:
        while not _try_lock(stream):
            if time.monotonic() > deadline:
                raise FileLocked(f"{path}: another process holds it; try again in a moment")
            time.sleep(0.02)
        try:
            yield
        finally:
            _unlock(stream)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(stream: Any) -> bool:
        stream.seek(0)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(stream: Any) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    # flock belongs to the open file, not to the process: it also excludes the threads of one
    # Streamlit server from each other.
    def _try_lock(stream: Any) -> bool:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(stream: Any) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)


def _replace(part: Path, path: Path) -> None:
    for attempt in range(20):
        try:
            os.replace(part, path)
            return
        except PermissionError:  # Windows, while another process reads it
            if os.name != "nt" or attempt == 19:
                raise
            time.sleep(0.01)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return _plain(value.tolist())
    if hasattr(value, "as_dict"):  # a Number
        return _plain(value.as_dict())
    return str(value)
