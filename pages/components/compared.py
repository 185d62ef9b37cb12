"""Parts of the Compare page that take actions: open a pair elsewhere, report, export, curves."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages.components import beside, commands, figures, guard, measuring, pickers
from pages.components.player import escape
from refine import curves, jobs, lineage, lineup, paths
from refine.corpus import Corpus
from refine.report import curves_of
from refine.runs import Run

ELSEWHERE = (
    ("pages/isotropy.py", "Isotropy", ":material/blur_on:"),
    ("pages/classes.py", "Classes", ":material/category:"),
    ("pages/subspaces.py", "Subspaces", ":material/join_inner:"),
    ("pages/live.py", "Live", ":material/mic:"),
)


def cards(
    found: dict[str, Any], labels: Mapping[str, str], shades: Mapping[str, str], source: str,
    split: str,
) -> None:  # fmt: skip
    """A card an encoder: what surely changed, and the pair on every other page."""
    others = [name for name in found["encoders"] if name != found["against"]]
    table = lineup.table(found)
    for start in range(0, len(others), beside.COLUMNS):
        row = others[start : start + beside.COLUMNS]
        for column, name in zip(st.columns(beside.COLUMNS), row, strict=False):
            with column, st.container(border=True, key=f"beside_{_slug(name)}", height="stretch"):
                beside.name(labels[name], shades[name], False)
                words = table["verdict"][table["encoder"] == name].value_counts()
                moved = int(words.get("rose", 0) + words.get("fell", 0))
                st.markdown(
                    f":green[**{words.get('better', 0)}** better] · "
                    f":red[**{words.get('worse', 0)}** worse] · **{moved}** moved · "
                    f":gray[{words.get('unsure', 0)} unsure]"
                )
                links(str(found["against"]), name, source, split)


def links(before: str, after: str, source: str, split: str) -> None:
    """The pair on every other page."""
    query = {"before": before, "after": after, "corpus": source, "split": split}
    with st.container(horizontal=True, gap="small"):
        for page, title, icon in ELSEWHERE:
            if (paths.ROOT / page).exists():
                try:
                    st.page_link(page, label=title, icon=icon, query_params=query)
                except StreamlitAPIException:  # not in the frame's navigation
                    continue


@guard.guarded
def take_along(
    others: Sequence[str], against: str, labels: Mapping[str, str], source: str, corpus: Corpus,
    split: str,
) -> None:  # fmt: skip
    """A report or a table of one pair, made in the background, then downloaded."""
    name, begin = others[0], st.query_params.get("take")
    if len(others) > 1:
        first = begin if begin in others else name
        name = st.pills(
            "Of", others, default=first, key="take", required=True, wrap=True,
            format_func=lambda one: escape(labels[one]),
        ) or name  # fmt: skip
    pickers.keep("take", name if name != others[0] else None)
    sign = stamp(name, against)
    out = _report_path(name, against, corpus)
    buttons = (
        ("report", "Report", ":material/description:",
         "One HTML file with numbers, maps, curves and caveats."),
        ("parquet", "Parquet", ":material/table:",
         "Vectors, coordinates, factors and paths of recordings."),
        ("projector", "Projector", ":material/scatter_plot:", "TSV files of TensorBoard."),
    )  # fmt: skip
    with st.container(horizontal=True):
        for form, title, icon, told in buttons:
            asked = (form, name, against, sign, split)
            st.button(title, icon=icon, key=f"make_{form}", help=told, on_click=ask,
                      args=("_take", asked))  # fmt: skip
    form, *of = st.session_state.get("_take", ("", None))
    if of != [name, against, sign, split]:
        return
    base = {"corpus": source, "split": split, "stamp": sign}
    if form == "report":
        question = base | {"before": against, "after": name, "out": str(out)}
        arguments = ["report", "--before", against, "--after", name, "--corpus", source]
        arguments += ["--split", split, "--out", "report.html"]
    else:
        folder = paths.cache() / "exports" / f"{_slug(name)}-{sign}-{form}"
        question = base | {"encoder": name, "against": against, "form": form, "out": str(folder)}
        arguments = ["export", "--encoder", name, "--corpus", source, "--against", against]
        arguments += ["--split", split, "--format", form, "--out", "exported"]
    task = jobs.task("report" if form == "report" else "export", question)
    files = made(task)
    if files is None:
        measuring.watch({form: task}, {form: labels[name]})
    else:
        download(form, files, labels[name])
    commands.show(arguments)


def ask(key: str, question: Any) -> None:
    """Remember what a button asked for; a change of the choices above forgets it."""
    st.session_state[key] = question


def made(task: Run) -> list[Path] | None:
    """The files of a finished task, or None while one is missing."""
    result = task.result() if task.status().state == "finished" else None
    if result is None:
        return None
    files = [Path(path) for path in result.get("files") or [result["path"]]]
    return files if all(path.is_file() for path in files) else None


def download(form: str, files: list[Path], label: str) -> None:
    """The button that hands it over."""
    stem = _slug(label)
    if form == "report":
        data, name, mime = files[0].read_bytes(), f"report-{stem}.html", "text/html"
    elif len(files) == 1:
        data, name, mime = files[0].read_bytes(), f"{stem}.parquet", "application/octet-stream"
    else:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.write(path, path.name)
        data, name, mime = packed.getvalue(), f"{stem}-projector.zip", "application/zip"
    st.download_button(
        f"Download {name} ({len(data) / 1e6:.1f} MB)", data, name, mime, key="download",
        type="primary", icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def training(
    origins: Sequence[lineage.Origin], labels: Mapping[str, str], shades: Mapping[str, str]
) -> None:
    """Curves of the runs among the encoders, one over the other."""
    rows = {one.name: one.run.metrics() for one in origins if one.run}
    rows = {name: frame for name, frame in rows.items() if curves_of(frame)}
    if not rows:
        st.caption("None of these is a run of yours, so there are no training curves to show.")
        return
    columns = list(dict.fromkeys(c for frame in rows.values() for c in curves_of(frame)))
    asked = st.query_params.get("curve")
    first = asked if asked in columns else columns[0]
    column = st.pills(
        "Curve", columns, default=first, key="curve", label_visibility="collapsed",
        format_func=lambda c: c.replace("_", " "), required=True, wrap=True,
    )  # fmt: skip
    pickers.keep("curve", column if column != columns[0] else None)
    shown = {labels[name]: frame for name, frame in rows.items() if column in frame}
    tints = {labels[name]: shades[name] for name in rows}
    figures.show(
        beside.over_steps(shown, str(column), tints, str(column).replace("_", " ")),
        "training_curves",
        f"{column} of {len(shown)} runs over steps",
    )
    st.caption("Losses of different recipes are different sums: compare their shapes, not heights.")


@guard.guarded
def learning(
    every: Sequence[str], labels: Mapping[str, str], shades: Mapping[str, str], source: str,
    corpus: Corpus, split: str,
) -> None:  # fmt: skip
    """Label-efficiency and convergence curves of one factor, measured when asked for."""
    factors = curves.factors_of(corpus)
    if not factors:
        st.caption("No factor of this corpus has two to sixty classes that a head could learn.")
        return
    asked = st.query_params.get("factor")
    first = asked if asked in factors else factors[0]
    factor = st.pills(
        "Factor", factors, default=first, key=f"learn_{corpus.fingerprint[:8]}", required=True,
        wrap=True, format_func=escape,
    )  # fmt: skip
    pickers.keep("factor", factor if factor != factors[0] else None)
    factor = str(factor)
    found = {name: curves.cached(name, corpus, factor, split) for name in every}
    if None in found.values():
        question = {
            "encoders": list(every), "factor": factor, "corpus": source, "split": split,
            "stamp": stamp(*every),
        }  # fmt: skip
        st.button(
            "Measure these curves", icon=":material/play_arrow:", key="learn", on_click=ask,
            args=("_learning", question),
        )  # fmt: skip
        if st.session_state.get("_learning") == question:
            task = jobs.task("curves", question)
            measuring.watch({"curves": task}, {"curves": f"{len(every)} encoders on {factor}"})
        else:
            st.caption("A minute or two an encoder; kept afterwards.")
    else:
        drawn = {name: one for name, one in found.items() if one}
        left, right = st.columns(2, gap="large")
        with left:
            picture = beside.efficiency(drawn, labels, shades)
            figures.show(picture, "efficiency", f"UAR of {factor} over labelled clips")
        with right:
            picture = beside.convergence(drawn, labels, shades)
            figures.show(picture, "convergence", f"UAR of {factor} over steps of a head")
        st.caption(faster(drawn, every[0], labels))
    options = ["--corpus", source, "--factor", factor, "--split", split]
    commands.several(
        [["curves", "--encoder", name, *options] for name in every],
        "The curves, from the command line",
    )


def faster(found: dict[str, dict[str, Any]], against: str, labels: Mapping[str, str]) -> str:
    """Steps to be nearly as good as the reference's best, in a sentence."""
    base = found[against]["convergence"]
    told = []
    for name, one in found.items():
        if name == against:
            continue
        there = curves.reached(one["convergence"], base)
        steps = f"{there['other']} steps" if there["other"] else "not within the budget"
        told.append(f"{escape(labels[name])} {steps}")
    there = curves.reached(base, base)
    return (
        f"To reach {there['level']:.3f} (95 % of the reference's best) the reference takes "
        f"{there['base']} steps; {'; '.join(told)}. One training each and three draws of labels: "
        "no proof. The grey line is the reference with every dimension standardised, which costs "
        "nothing: a gain that it has too is one of scale."
    )


def _report_path(name: str, against: str, corpus: Corpus) -> Path:
    """In the run's folder where this is its own pair, else in the cache."""
    folder = paths.runs() / name
    if (folder / "status.json").exists() and Run(folder).config.get("encoder") == against:
        return folder / "report.html"
    return paths.cache() / "reports" / f"{_slug(against)}-{_slug(name)}-{_slug(corpus.name)}.html"


def stamp(*encoders: str) -> str:
    """Changes when an encoder does."""
    parts = [lineage.origin(name).fingerprint for name in encoders]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in Path(text).name)[:40]
