"""Choosing a corpus and an encoder. A choice follows from page to page and into the address."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import streamlit as st

from pages.components import states
from pages.components.guard import PageError
from refine import paths
from refine.corpus import Corpus, open_corpus
from refine.corpus_sources import MANIFESTS
from refine.encoders import EncoderInfo, is_encoder, peek
from refine.recipes import RECIPES
from refine.runs import Run, all_runs

KEPT = 8  # corpora open at a time, shared by all sessions
_opened: OrderedDict[tuple[str, tuple], Corpus] = OrderedDict()
_lock = threading.Lock()


def remembered(key: str, default: str | None) -> None:
    """Let a widget start from the address, else from the session, else from `default`."""
    asked = st.query_params.get(key)
    if asked and st.session_state.get(f"_{key}_in_address") != asked:
        st.session_state[key] = asked
    elif st.session_state.get(key) is None:
        st.session_state[key] = default


def keep(key: str, value: str | None) -> None:
    """Write a choice into the address, so that a reload or a shared link brings it back."""
    st.session_state[f"_{key}_in_address"] = value
    if value is None:
        st.query_params.pop(key, None)
    elif st.query_params.get(key) != value:
        st.query_params[key] = value


def choose(
    key: str,
    label: str,
    options: Sequence[str],
    default: str | None,
    show: Callable[[str], str] = str,
    help: str | None = None,
    type_in: bool = True,
) -> str | None:
    """A select box whose choice survives page changes and reloads, and takes typed paths."""
    remembered(key, default)
    current = st.session_state.get(key)
    listed = list(options)
    if current is not None and current not in listed:
        if type_in:
            listed.append(current)
        else:
            st.session_state[key] = default if default in listed else None
    value = st.selectbox(
        label,
        listed,
        key=key,
        format_func=show,
        help=help,
        accept_new_options=type_in,
        persist_state="session",
    )
    keep(key, value)
    return value


def choose_view(key: str, views: Mapping[str, str]) -> str:
    """One of a page's views (the first unless asked), kept in the address."""
    asked = st.query_params.get("view")
    first = next(iter(views))
    chosen = st.segmented_control(
        "View",
        list(views),
        default=asked if asked in views else first,
        key=key,
        format_func=views.__getitem__,
        required=True,
        label_visibility="collapsed",
        width="stretch",
        persist_state="session",
    )
    keep("view", chosen if chosen != first else None)
    return str(chosen)


def found_corpora() -> list[str]:
    """Corpora at hand: the shipped ones, then the folders of recorded speech."""
    names = ["samples"] if (paths.ASSETS / "clips").is_dir() else []
    names.append("demo")
    speech = paths.speech()
    if speech:
        folders = sorted(path for path in speech.iterdir() if path.is_dir())
        names += [str(path) for path in folders if any((path / m).exists() for m in MANIFESTS)]
    return names


def corpus_label(source: str) -> str:
    """How a source reads in a list."""
    shipped = {"samples": "samples · shipped clips", "demo": "demo · synthesised voices"}
    if source in shipped:
        return shipped[source]
    path = Path(source)
    if path.parent == paths.cache() / "uploads":
        return f"uploads {path.name[:6]}"
    return path.name if path.is_absolute() and path.is_dir() else source


def choose_corpus(label: str = "Corpus") -> str | None:
    """The source that all pages share: a name or a folder, found or typed."""
    listed = found_corpora()
    return choose(
        "corpus",
        label,
        listed,
        listed[0],
        corpus_label,
        help="One that was found, or type the path of a folder: with clips.csv, "
        "metadata.csv, or one folder a label.",
    )


def opened(source: str | None) -> Corpus:
    """Open a corpus, with progress when its clips are decoded for the first time."""
    if not source:
        raise PageError("No corpus is chosen: choose one above, or type the path of a folder.")
    key = (str(source), _stamp(str(source)))
    with _lock:
        if key in _opened:
            _opened.move_to_end(key)
            return _opened[key]
    bar = st.empty()

    def progress(done: int, total: int) -> None:
        if total and (done % 50 == 0 or done == total):
            bar.progress(done / total, f"Listening to every clip once: {done:,} of {total:,}")

    try:
        corpus = open_corpus(source, progress=progress)
    finally:
        bar.empty()
    with _lock:
        _opened[key] = corpus
        while len(_opened) > KEPT:
            _opened.popitem(last=False)
    return corpus


def _stamp(source: str) -> tuple:
    """Changes when the folder or its manifest does."""
    folder = paths.ASSETS / "clips" if source == "samples" else Path(source).expanduser()
    files = [folder, *(folder / name for name in MANIFESTS)]
    return tuple(os.stat(path).st_mtime_ns for path in files if path.exists())


def shipped_encoders() -> list[str]:
    """Encoders that come with refine: as pretrained, then by recipe."""
    folder = paths.ASSETS / "encoders"
    names = [path.name for path in folder.iterdir() if is_encoder(path)] if folder.is_dir() else []
    return sorted(names, key=lambda name: (_place(name), name))


def _place(name: str) -> int:
    info = described(name)
    recipe = None if isinstance(info, str) else info.recipe
    order = (None, *RECIPES)
    return order.index(recipe) if recipe in order else len(order)


@st.cache_data(ttl=10, show_spinner=False)
def described(name: str) -> EncoderInfo | str:
    """What an encoder folder says of itself, or the sentence why it cannot be opened."""
    try:
        return peek(name)
    except ValueError as error:
        return str(error)


def size(parameters: int) -> str:
    """5_300_000 -> '5.3 M'."""
    return f"{parameters / 1e6:.1f} M" if parameters < 1e9 else f"{parameters / 1e9:.2f} G"


def trained_runs() -> list[Run]:
    """Runs that hold a refined encoder, newest first."""
    return [run for run in all_runs() if is_encoder(run.checkpoints / "final")]


def encoder_label(name: str) -> str:
    """How an encoder reads in a list: its name, or the run's name and day."""
    folder = paths.runs() / name
    if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
        return states.label(Run(folder))
    path = Path(name)
    return path.name if path.is_absolute() and path.is_dir() else name


def choose_encoder(
    key: str = "encoder", label: str = "Encoder", default: str = "mini"
) -> str | None:
    """An encoder: shipped, refined by a run, a folder, or a name on the hub."""
    listed = shipped_encoders() + [run.id for run in trained_runs()]
    return choose(
        key,
        label,
        listed,
        default if default in listed else (listed[0] if listed else default),
        encoder_label,
        help="A shipped encoder, one of your runs, the folder of a checkpoint written by "
        "save_pretrained, or a name on the Hugging Face hub "
        "(wav2vec 2.0, HuBERT, WavLM, data2vec-audio).",
    )
