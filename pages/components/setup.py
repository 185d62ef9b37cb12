"""The form of a new run: what to refine, on what, how; what it will cost; start."""

import sys
from typing import Any

import streamlit as st

from pages.components import commands, forms, guard, pickers, states
from pages.components.player import escape
from refine import jobs
from refine.options import to_arguments, to_dict
from refine.recipes import RECIPES
from refine.runs import Run
from refine.worker import recipe_class

# what one changes first, recipe by recipe; everything else is folded
BASIC = {
    "rewire": ("positives", "steps", "batch_size", "learning_rate", "temperature", "max_seconds"),
    "dino": ("epochs", "batch_size", "learning_rate", "outputs", "long_seconds", "short_seconds"),
    "two_step": ("factor", "contrastive", "noncontrastive", "weight", "steps", "learning_rate"),
    "interventional": ("factors", "engine", "steps", "pooling", "temperature", "learning_rate"),
}
SMALL = 50_000_000  # parameters; below it the paper's settings, made for 300 M, do little


def draw() -> None:
    columns = st.columns(4, gap="medium")
    with columns[0]:
        encoder = pickers.choose_encoder()
        small, known = about_encoder(encoder)
    with columns[1]:
        corpus = pickers.choose_corpus()
        opened = about_corpus(corpus)
    with columns[2]:
        names = list(RECIPES)
        recipe = pickers.choose("recipe", "Recipe", names, names[0], type_in=False) or names[0]
        cls = recipe_class(recipe)
        about((sys.modules[cls.__module__].__doc__ or "").strip().splitlines()[0])
    with columns[3]:
        preset = choose_preset(cls, small)
    left, right = st.columns([5, 3], gap="large")
    with left:
        st.subheader("Options")
        presets = forms.presets(cls)
        base = presets[preset].config if preset in presets else cls()
        options = forms.fill(cls, base, BASIC.get(recipe, ()), key=f"{recipe}/{preset}")
    with right:
        st.subheader("Start")
        config: dict[str, Any] = {
            "command": "train",
            "recipe": recipe,
            "encoder": encoder,
            "corpus": corpus,
        }
        config |= {"preset": preset} if preset else {}
        if options is not None:
            config["options"] = to_dict(options)
        launch(config, options, base, known and opened)


def about(text: str) -> None:
    """A line below a picker, in a file's or a person's own words."""
    st.caption(escape(text))


def about_encoder(name: str | None) -> tuple[bool, bool]:
    """Says what was chosen. Returns whether it is small, and whether it can be used."""
    info = pickers.described(name or "")
    if isinstance(info, str):
        hub = name is not None and "not downloaded yet" in info
        (st.info if hub else st.error)(info)
        return False, hub
    base = f"{info.family}, refined by {info.recipe}" if info.recipe else info.family
    about(f"{base} · {info.shape} · {pickers.size(info.parameters)}")
    return info.parameters < SMALL, True


def about_corpus(source: str | None) -> bool:
    """Says what was chosen. Returns whether it can be trained on."""
    with guard.sentences():
        splits = pickers.opened(source).counts("split")
        train = int(splits.get("train", 0))
        if not train:
            raise guard.PageError("No clip of this corpus is in the train split; choose another.")
        watched, kept = splits.get("dev", 0), splits.get("test", 0)
        about(f"{train:,} clips to train on, {watched:,} to watch, {kept:,} kept for the test")
        return True
    return False


def choose_preset(cls: type, small: bool) -> str:
    """Where the options begin."""
    presets = forms.presets(cls)
    if not presets:
        return ""
    first = "mini" if small and "mini" in presets else next(iter(presets))
    # a hand that chose differently is not overruled; another encoder starts afresh
    if st.session_state.get("_preset_for") not in (None, first):
        st.session_state["preset"] = first
    st.session_state["_preset_for"] = first
    preset = pickers.choose("preset", "Preset", list(presets), first, type_in=False) or first
    about(presets[preset].reason)
    return preset


def launch(config: dict[str, Any], options: Any | None, base: Any, ready: bool) -> None:
    """Name, start, estimate, and the equal command line."""
    suggested = f"{config['recipe']}-{pickers.encoder_label(config['encoder'] or '')}"
    name = st.text_input("Name", key="run_name", placeholder=suggested).strip()
    config = config | ({"name": name} if name else {})
    usable = ready and options is not None
    with st.container(horizontal=True):
        st.button(
            "Start",
            key="start",
            type="primary",
            icon=":material/play_arrow:",
            disabled=not usable,
            on_click=start,
            args=(config,),
        )
        asked = st.button(
            "Estimate",
            key="estimate",
            icon=":material/timer:",
            disabled=not usable,
            help="Time and memory, from a few real steps in the background.",
        )
    refused = st.session_state.pop("start_refused", None)
    if refused:
        st.error(guard.plain(refused), icon=":material/error:")
    if not usable:
        st.caption("Start is possible once everything on this page is in order.")
        return
    question = {key: config[key] for key in ("recipe", "encoder", "corpus", "options")}
    if asked:
        st.session_state["estimated"] = question
    if st.session_state.get("estimated") == question:
        with guard.sentences():
            estimate(jobs.task("estimate", question))
    arguments = ["train", config["recipe"]]
    arguments += ["--encoder", config["encoder"], "--corpus", config["corpus"]]
    arguments += ["--preset", config["preset"]] if "preset" in config else []
    arguments += to_arguments(options, type(options), base)
    commands.show(arguments + (["--name", name] if name else []))


def start(config: dict[str, Any]) -> None:
    """Submit the run and watch it."""
    try:
        run = jobs.submit(config)
    except Exception as error:
        text = guard.sentence(error)
        if text is None:
            raise
        st.session_state["start_refused"] = text
        return
    st.session_state["run"] = run.id


def estimate(task: Run) -> None:
    """What a few real steps took, as soon as they are done."""
    began = task.status().active

    @guard.guarded
    def look() -> None:
        status, result = task.status(), task.result()
        if status.active:
            st.caption(f":material/timer: {status.message or 'taking a few real steps'} …")
        elif status.state == "finished" and result:
            with st.container(horizontal=True, gap="large"):
                st.metric("All steps", states.span(result["minutes"] * 60), width="content")
                st.metric("One step", f"{result['seconds_per_step']:.2f} s", width="content")
                st.metric("Memory", f"{result['peak_mb'] / 1000:.1f} GB", width="content")
            st.caption(f"On {result['device']} in {result['precision']}.")
        else:
            told = status.message or "It ended without a result."
            st.error(guard.plain(told), icon=":material/error:")
        if began and not status.active:
            st.rerun()

    st.fragment(run_every=1 if began else None)(look)()
