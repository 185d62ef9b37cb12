"""Train: refine an encoder, and watch it."""

import streamlit as st

from pages.components import guard, history, pickers, running, setup, states
from refine import jobs
from refine.runs import Run, all_runs, find

NEW = "new"


def draw() -> None:
    st.title("Refine an encoder")
    with guard.sentences():
        jobs.advance()  # a run may be waiting behind one that was killed
    run = choose_run()
    if run is None:
        setup.draw()
    else:
        running.draw(run)
    if all_runs():
        st.space("small")
        st.subheader("Runs")
        history.runs()


def choose_run() -> Run | None:
    """The run that is watched, or None for the form of a new one. It stands in the address."""
    runs = {run.id: run for run in all_runs()}
    asked = st.query_params.get("run")
    if asked and asked not in runs and st.session_state.get("_run_in_address") != asked:
        with guard.sentences():
            runs[asked] = find(asked)
    if not runs:
        return None
    chosen = pickers.choose(
        "run",
        "Run",
        [NEW, *runs],
        NEW,
        lambda id: "A new run" if id == NEW else states.label(runs[id]),
        type_in=False,
    )
    if chosen == NEW:
        pickers.keep("run", None)
    return runs.get(chosen or NEW)


guard.page(draw)
