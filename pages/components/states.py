"""How the state of a run looks."""

import time
from datetime import datetime
from typing import Literal

import streamlit as st

from refine.runs import Run, Status

Colour = Literal["gray", "blue", "green", "red", "orange"]
LOOK: dict[str, tuple[Colour, str, str]] = {  # colour, icon, word
    "queued": ("gray", ":material/hourglass_empty:", "queued"),
    "running": ("blue", ":material/progress_activity:", "running"),
    "finished": ("green", ":material/check_circle:", "finished"),
    "stopped": ("gray", ":material/stop_circle:", "stopped"),
    "failed": ("red", ":material/error:", "failed"),
    "crashed": ("orange", ":material/warning:", "crashed"),
}


def badge(status: Status) -> None:
    """The state as a coloured word with its icon."""
    colour, icon, word = LOOK[status.state]
    st.badge(word, color=colour, icon=icon)


def label(run: Run) -> str:
    """A run in a list: its name and when it was made."""
    return f"{run.name} · {when(run)}"


def when(run: Run) -> str:
    """'today 14:03', or the day."""
    try:
        born = datetime.fromtimestamp((run.path / "config.json").stat().st_mtime)
    except OSError:
        return "gone"
    day = "today" if born.date() == datetime.now().date() else f"{born:%d %b}"
    return f"{day} {born:%H:%M}"


def took(status: Status) -> str:
    """How long a run has worked, so far or in all."""
    if not status.started:
        return "–"
    end = status.ended if not status.active and status.ended else time.time()
    return span(end - status.started)


def span(seconds: float | None) -> str:
    """'3 h 05 min', '4 min 10 s', '12 s'."""
    if seconds is None:
        return "–"
    whole = round(max(0.0, seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
