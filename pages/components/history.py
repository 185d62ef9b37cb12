"""The list of runs, each with its state as it is now."""

from pathlib import Path

import streamlit as st

from pages.components import guard, pickers, states
from pages.components.player import escape
from refine.runs import Run, Status, all_runs


@st.fragment(run_every=3)
@guard.guarded
def runs(most: int = 30, leave: str | None = None) -> None:
    """Draw the newest runs. `leave`: the page to open a run on, when it is not this one."""
    found = all_runs()
    for run in found[:most]:
        status = run.status()
        with st.container(border=True, key=f"row_{run.id}"):
            name, state, work = st.columns([5, 4, 8], vertical_alignment="center")
            with name:
                opened = st.button(
                    f"**{escape(run.name)}**",
                    key=f"open_{run.id}",
                    type="tertiary",
                    on_click=open_run,
                    args=(run.id,),
                )
                if opened and leave:
                    st.switch_page(leave)
            with state:
                states.badge(status)
            with work:
                st.caption(f"{escape(describe(run, status))}{change(run)}")
    if len(found) > most:
        st.caption(f"The newest {most} of {len(found)} runs; `python -m refine jobs list` has all.")


def describe(run: Run, status: Status) -> str:
    """Encoder, corpus, progress and age of a run in a line."""
    try:
        config = run.config
    except ValueError:
        return "its config.json is broken"
    encoder = pickers.encoder_label(str(config.get("encoder", "?")))
    corpus = pickers.corpus_label(str(config.get("corpus", "?")))
    steps = f"step {status.step or 0:,} of {status.total:,}" if status.total else "not begun"
    if status.state == "finished":
        steps = f"{status.total or 0:,} steps"
    return f"{encoder} on {corpus} · {steps} · {states.when(run)}"


def change(run: Run) -> str:
    """The mean cosine of its held-out clips, first and last, in the colours of before and after."""
    path = run.path / "metrics.jsonl"
    found = _ends(str(path), path.stat().st_mtime_ns if path.exists() else 0)
    if found is None:
        return ""
    return f"  \nmean cosine :orange[{found[0]:.2f}] → :blue[{found[1]:.2f}]"


@st.cache_data(max_entries=200, show_spinner=False)
def _ends(path: str, changed: int) -> tuple[float, float] | None:
    rows = Run(Path(path).parent).metrics()
    if "mean_cosine" not in rows or rows["mean_cosine"].count() < 2:
        return None
    values = rows["mean_cosine"].dropna()
    return float(values.iloc[0]), float(values.iloc[-1])


def open_run(id: str) -> None:
    """Choose the run that the Train page watches."""
    st.session_state["run"] = id
    st.session_state["_run_in_address"] = st.query_params.get("run")
