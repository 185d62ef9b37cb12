"""What went wrong, for the person who can do something about it: one sentence, or None."""

import contextlib
import errno
import shutil
from pathlib import Path

# EDQUOT is a quota, EFBIG a limit on file size; to the user all three are a full disk
FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


def sentence(error: BaseException, folder: Path) -> str | None:
    """The sentence for a user's error, a full disk or too little memory; None for a fault.

    A user's error is a `ValueError` that `refine` raised itself: its message is written to be read.
    `folder` is where files are being written.
    """
    if _is_ours(error):
        return str(error)
    if is_full(error):
        return full_sentence(folder)
    text = str(error)
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out_of_memory or "can't allocate memory" in text or "out of memory" in text:
        return "not enough memory; lower the batch size or close other programs, then resume"
    return None


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is a full disk. Libraries hide it in their text."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_sentence(folder: Path) -> str:
    """What a user is told when the disk below a folder is full."""
    free = ""
    with contextlib.suppress(OSError):
        free = f" ({shutil.disk_usage(folder).free / 1e6:.0f} MB free)"
    return f"the disk of {folder} is full{free}; free some space, then resume or start again"


def _is_ours(error: BaseException) -> bool:
    if not isinstance(error, ValueError):
        return False
    if type(error).__module__.partition(".")[0] == "refine":
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return type(error) is ValueError and module.partition(".")[0] == "refine"
