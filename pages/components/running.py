"""A run as it goes: progress, curves, stop, resume, log."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.components import commands, figures, forms, guard, pickers, run_report, states
from pages.components.player import escape
from refine import jobs, levels, names, report
from refine.encoders import is_encoder
from refine.options import from_dict, options, to_arguments
from refine.runs import Run, Status
from refine.worker import recipe_class

WATCHED = {
    "dino": "Collapse has two faces: *entropy* (of the teacher) at ln K, or near 0, while *kl* and "
    "*spread* fall to 0. By default the training then stops and "
    "names it."
}
SPACE = {"isoscore": "IsoScore", "mean_cosine": "mean cosine"}


def draw(run: Run) -> None:
    """Everything about one run; what changes is redrawn each second while it is active."""
    active = run.status().active
    st.fragment(run_every=1 if active else None)(live)(run, active)
    details(run)
    run_report.draw(run)


def live(run: Run, was_active: bool) -> None:
    """State, progress and curves."""
    with guard.sentences():
        status = run.status()
        if status.active != was_active:
            st.rerun()
        header(run, status)
        progress(run, status)
        curves(run, status)
        with st.expander("Log", icon=":material/terminal:"):
            st.code(run.log_text(60) or "nothing yet", language=None, wrap_lines=True, height=280)


def header(run: Run, status: Status) -> None:
    """Name, state, and what can be done now."""
    with st.container(horizontal=True, vertical_alignment="center", key="run_state"):
        st.subheader(escape(run.name), width="content")
        states.badge(status)
        if status.active:
            st.button(
                "Stop",
                key="stop",
                icon=":material/stop:",
                on_click=stop,
                args=(run,),
                disabled=run.stop_requested,
                help="Saves a checkpoint after this step. It can be resumed.",
            )
            if run.stop_requested:
                st.button(
                    "Stop at once",
                    key="kill",
                    on_click=act,
                    args=(jobs.stop, run, 0.0),
                    type="tertiary",
                    help="The work since the last checkpoint is lost.",
                )
        elif status.state in ("stopped", "failed", "crashed"):
            st.button(
                "Resume",
                key="resume",
                type="primary",
                icon=":material/resume:",
                on_click=act,
                args=(jobs.resume, run),
            )
        if is_encoder(run.checkpoints / "final") and st.button(
            "See what changed", key="see", type="primary", icon=":material/blur_on:"
        ):
            see(run)
    refused = st.session_state.pop("act_refused", None)
    if refused:
        st.error(guard.plain(refused), icon=":material/error:")


def see(run: Run) -> None:
    """Open the Isotropy page on this run and what it began from."""
    st.session_state["before"] = str(run.config["encoder"])
    st.session_state["corpus"] = str(run.config["corpus"])
    st.session_state["after"] = run.id
    st.switch_page("pages/isotropy.py")


def stop(run: Run) -> None:
    """Ask a running one to stop after its step; take a waiting one off the queue."""
    if run.status().state == "queued":
        act(jobs.stop, run)
    else:
        run.request_stop()


def act(what: Any, *arguments: Any) -> None:
    """A button's work; a refusal is shown as its sentence."""
    try:
        what(*arguments)
    except Exception as error:
        text = guard.sentence(error)
        if text is None:
            raise
        st.session_state["act_refused"] = text


def progress(run: Run, status: Status) -> None:
    """Where it is, how long it takes, and the sentence of how it ended."""
    share = status.progress
    if status.state == "running" and not status.total:
        st.progress(0.0, status.message or "Loading the encoder and the corpus …")
    elif share is not None:
        text = f"Step {status.step or 0:,} of {status.total:,}"
        if status.state == "running":
            left = f" · {states.span(status.eta_s)} to go" if status.eta_s is not None else ""
            note = f" · {status.message}" if status.message else ""
            text += f" · {states.took(status)} so far{left}{note}"
        elif status.started:
            text += f" · {states.took(status)}"
        st.progress(share, text)
    if status.state == "queued":
        st.info("Waits for the run before it to end.", icon=":material/hourglass_empty:")
    elif status.state == "failed":
        st.error(guard.plain(upper(status.message)), icon=":material/error:")
    elif status.state == "crashed":
        st.warning(guard.plain(upper(status.message)), icon=":material/warning:")


def upper(text: str) -> str:
    """A message as a sentence of its own."""
    text = text.strip() or "it ended without saying why; see the log"
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def curves(run: Run, status: Status) -> None:
    """Loss and isotropy over the steps."""
    rows = run.metrics()
    if not len(rows) or "step" not in rows:
        st.caption("The curves begin with the first step.")
        return
    total = status.total or 0
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("##### Loss")
        loss(run, rows, total)
    with right:
        watched(rows, total)


def watched(rows: pd.DataFrame, total: int) -> None:
    """What was measured on held-out clips while it trained."""
    lines = {name: label for name, label in SPACE.items() if name in rows}
    title = "How evenly it uses its space, on held-out clips"
    if not lines:
        title = "On held-out clips"
        sparse = [name for name in report.curves_of(rows) if not _each_step(rows, name)]
        lines = {name: _label(name) for name in sparse[:4]}
    st.markdown(f"##### {title}")
    if not lines:
        st.caption("Nothing is measured yet; the first comes after some steps.")
        return
    picture = figures.training(rows, lines, height=max(300, 112 * len(lines)), total=total)
    figures.show(picture, "space_curve", f"{', '.join(lines.values())} over steps")


def _each_step(rows: pd.DataFrame, name: str) -> bool:
    return bool(rows[name].notna().sum() > 0.6 * len(rows))


def _label(name: str) -> str:
    """A column of the log as it reads: 'EER of speaker in content'."""
    if name.startswith("eer_") and "_in_" in name:
        factor, _, space = name.removeprefix("eer_").partition("_in_")
        return f"EER of {factor} in the {space} subspace"
    return names.name(name)


def loss(run: Run, rows: pd.DataFrame, total: int) -> None:
    """The loss or one of its parts, with the line it starts from or cannot go below."""
    parts = [name for name in report.curves_of(rows) if name not in (*SPACE, "floor")]
    parts = [name for name in parts if _each_step(rows, name)] or ["total"]
    part = parts[0]
    if len(parts) > 1:
        part = st.pills(
            "Part", parts, default=parts[0], key=f"loss_part_{run.id}", required=True, wrap=True,
            format_func=lambda name: "loss" if name == "total" else _label(name),
            label_visibility="collapsed", persist_state="page",
        ) or parts[0]  # fmt: skip
    if part not in rows:
        return
    recipe = str(run.config.get("recipe", ""))
    config: Any = from_dict(recipe_class(recipe), run.config.get("options") or {})
    drawn = levels.of(recipe, config, rows)
    word = "loss" if part == "total" else part.replace("_", " ")
    picture = figures.training(rows, {part: word}, total=total, levels=drawn)
    figures.show(picture, "loss_curve", f"{word} over steps".capitalize())
    if recipe in WATCHED:
        st.caption(WATCHED[recipe])


def details(run: Run) -> None:
    """How it was started, as a command and as values."""
    with guard.sentences():
        config = run.config
        cls = recipe_class(config.get("recipe", ""))
        chosen: Any = from_dict(cls, config.get("options") or {})
        preset = config.get("preset")
        base = forms.presets(cls).get(preset) if preset else None
        arguments = ["train", config["recipe"], "--encoder", config["encoder"]]
        arguments += ["--corpus", config["corpus"]]
        arguments += ["--preset", preset] if base else []
        arguments += to_arguments(chosen, cls, base.config if base else None)
        left, right = st.columns([3, 2], gap="large")
        with left:
            commands.show([str(word) for word in arguments])
            if run.status().state in ("stopped", "failed", "crashed"):
                commands.show(["train", "--resume", run.id], "Resume it from the command line")
        with right, st.expander("Options", icon=":material/tune:"):
            values = [
                (option.name, str(getattr(chosen, option.name)), str(option.default))
                for option in options(cls)
            ]
            st.dataframe(
                [dict(zip(("option", "value", "default"), row, strict=True)) for row in values],
                hide_index=True,
            )
        st.caption(
            f"{pickers.encoder_label(str(config['encoder']))} on "
            f"{pickers.corpus_label(str(config['corpus']))} · started {states.when(run)} · "
            f"`{run.id}`"
        )
