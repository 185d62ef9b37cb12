"""Evaluations that a page needs: read from the cache, or measured in the background."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.components import guard, pickers, states
from pages.components.player import escape
from refine import evaluation, jobs
from refine.corpus import Corpus
from refine.runs import Run


def results(
    names: dict[str, str], source: str, corpus: Corpus, split: str
) -> dict[str, dict[str, Any]] | None:
    """The evaluation of each encoder, or None while one is missing (and being measured).

    Args:
        names: role ("before", "after") -> encoder.
        source: what the corpus was opened from.
    """
    tasks: dict[str, Run] = {}
    found: dict[str, dict[str, Any]] = {}
    for role, name in names.items():
        result = cached(name, corpus, split)
        if result is not None:
            found[role] = result
        else:
            tasks[role] = jobs.task("evaluate", question(name, source, split))
    if not tasks:
        unmeasured(found)
        return found
    # a task that finished is read on this rerun; one that failed shows its sentence
    watch(tasks, names)
    return None


def unmeasured(results: dict[str, dict[str, Any]]) -> None:
    """The clips that no number is about, each with its reason."""
    rows = [
        (clip, role, reason)
        for role, result in results.items()
        for clip, reason in evaluation.left_out(result).items()
    ]
    if not rows:
        return
    n = len({clip for clip, *_ in rows})
    label = f"{n:,} clip{'s' * (n > 1)} left out of every number, for a reason each"
    with st.expander(label, icon=":material/warning:"):
        st.dataframe(pd.DataFrame(rows, columns=["clip", "encoder", "reason"]), hide_index=True)


def cached(name: str, corpus: Corpus, split: str) -> dict[str, Any] | None:
    """An earlier result, without torch; None for an encoder that is not here yet."""
    if isinstance(pickers.described(name), str):
        return None
    return evaluation.cached(name, corpus, split=split)


def question(name: str, source: str, split: str) -> dict[str, Any]:
    return {"encoder": name, "corpus": source, "split": split}


def watch(tasks: dict[str, Run], names: dict[str, str]) -> None:
    """Progress of the measurements; the page is drawn anew when they are done."""
    active = any(run.status().active for run in tasks.values())

    @guard.guarded
    def look() -> None:
        states_now = {role: run.status() for role, run in tasks.items()}
        for role, status in states_now.items():
            label = f"{role.capitalize()}: {escape(pickers.encoder_label(names[role]))}"
            if status.state == "queued":
                st.progress(0.0, f"{label} · waits its turn")
            elif status.active:
                left = f" · {states.span(status.eta_s)} to go" if status.eta_s else ""
                count = f" · {status.step or 0:,} of {status.total:,}" if status.total else ""
                text = status.message or "loading the encoder"
                st.progress(status.progress or 0.0, f"{label} · {text}{count}{left}")
            elif status.state == "finished":
                st.progress(1.0, f"{label} · done")
            else:
                told = status.message or "It ended without a result."
                st.error(guard.plain(told), icon=":material/error:")
        if active and not any(status.active for status in states_now.values()):
            st.rerun()

    st.fragment(run_every=1 if active else None)(look)()
    if not active:
        st.button("Measure again", icon=":material/refresh:", on_click=again, args=(tasks,))


def again(tasks: dict[str, Run]) -> None:
    """Start tasks anew that failed, or whose result is gone."""
    for run in tasks.values():
        config = run.config
        options = {key: config[key] for key in ("encoder", "corpus") if key in config}
        jobs.task(config["command"], options | config["options"], again=True)
