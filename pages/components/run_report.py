"""The report of a run and what it began from: made in the background, then handed over."""

import streamlit as st

from pages.components import commands, compared, guard, measuring
from refine import jobs, report
from refine.encoders import is_encoder
from refine.runs import Run

ASKED = "_run_report"


@guard.guarded
def draw(run: Run) -> None:
    """A button, then progress, then the file; nothing while there is no refined encoder yet."""
    if run.status().active or not is_encoder(run.checkpoints / "final"):
        return
    st.subheader("Take it along")
    st.button(
        "Report",
        key="run_report",
        icon=":material/description:",
        on_click=compared.ask,
        args=(ASKED, run.id),
        help="One HTML file with numbers, maps, curves and caveats: this run beside the encoder it "
        "began from, on its own corpus. What is not measured yet is measured first.",
    )
    if st.session_state.get(ASKED) != run.id:
        return
    before, after, corpus = report.of_run(run)
    out = run.path / "report.html"
    question = {"before": before, "after": after, "corpus": corpus, "out": str(out)}
    task = jobs.task("report", question | {"stamp": compared.stamp(after, before)})
    files = compared.made(task)
    if files is None:
        measuring.watch({"report": task}, {"report": run.id})
    else:
        compared.download("report", files, run.name)
    commands.show(["report", run.id])
