"""One self-contained HTML file about a pair of encoders, or a run and what it began from.

    write("mini", "mini-rewire", open_corpus(folder), Path("report.html"))

Nothing in the file is fetched from anywhere: numbers, maps, curves and the style stand in it. What
it shows is gathered here, how it looks is in `report_html`.
"""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from refine import evaluation, lineage, lineup
from refine.corpus import Corpus, open_corpus
from refine.embeddings import open_embeddings
from refine.maps import speakers_of
from refine.processes import environment
from refine.projection import joint_pca, quality, sample
from refine.runs import Run, RunError

MAP_CLIPS = 2_000  # on a map; more are drawn, and it says so
FEW_SPEAKERS = 6
CLASSES = 24  # of a confusion matrix; more are no picture
BOOKKEEPING = ("step", "epoch", "lr", "seconds", "grad_norm", "encoder_lr")  # columns of a run
MOST_CURVES = 8

Progress = Callable[[str, int, int], None]


class ReportError(ValueError):
    """A report that cannot be made. The message says why."""


class Maps(NamedTuple):
    """Joint PCA of both encoders on the same clips."""

    xy: dict[str, np.ndarray]  # "before", "after" -> (n, 2)
    table: pd.DataFrame  # clip and factors
    titles: dict[str, str]
    note: str
    factors: tuple[str, ...]  # to colour by


@dataclass(frozen=True)
class Report:
    """Everything a report says, before it is written."""

    before: lineage.Origin
    after: lineage.Origin
    results: dict[str, dict[str, Any]]  # "before", "after" -> evaluation
    changes: dict[str, Any]
    maps: Maps
    training: pd.DataFrame
    caveats: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]  # what it does, the command line
    corpus: dict[str, Any]
    measured: dict[str, Any]  # the environment of this report
    made: str = field(default_factory=lambda: f"{datetime.now():%Y-%m-%d %H:%M}")

    @property
    def title(self) -> str:
        """What the report is about."""
        what = self.after.recipe or "another encoder"
        return f"What {what} changed: {self.before.label} → {self.after.label}"


def write(
    before: str | Path,
    after: str | Path,
    source: Corpus | str | Path,
    out: Path,
    split: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Measure what is missing, gather, and write the file whole or not at all. Returns its path.

    Raises: `ReportError`, `EncoderError`, `CorpusError`, `ComparisonError`.
    """
    from refine.report_html import page

    text = page(gather(before, after, source, split, progress))
    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise ReportError(
            f"{out}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
    return out


def of_run(run: Run) -> tuple[str, str, str]:
    """Encoder before, the run, and the corpus of a run. Raises `ReportError` without these."""
    try:
        config = run.config
    except RunError as error:
        raise ReportError(str(error)) from error
    base, corpus = config.get("encoder"), config.get("corpus")
    if config.get("command", "train") != "train" or not (base and corpus):
        raise ReportError(
            f"{run.id}: no encoder and corpus in config.json; give --before, --after and --corpus"
        )
    return str(base), run.id, str(corpus)


def gather(
    before: str | Path,
    after: str | Path,
    source: Corpus | str | Path,
    split: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """All of it; encoders are measured where the cache has nothing. Raises: as `write`."""
    corpus = source if isinstance(source, Corpus) else open_corpus(source)
    origins = {"before": lineage.origin(before), "after": lineage.origin(after)}
    if origins["before"].fingerprint == origins["after"].fingerprint:
        raise ReportError(
            f"{after} is the same encoder as {before}; a report needs two different ones"
        )
    results = {
        role: evaluation.evaluate(one.name, corpus, split=split, progress=progress)
        for role, one in origins.items()
    }
    if progress:
        progress("comparing on the same clips", 0, 1)
    changes = lineup.changes(results["before"], results["after"])
    run = origins["after"].run
    asked = str(source) if not isinstance(source, Corpus) else str(corpus.root)
    return Report(
        before=origins["before"],
        after=origins["after"],
        results=results,
        changes=changes,
        maps=_maps(results, corpus),
        training=run.metrics() if run else pd.DataFrame(),
        caveats=tuple(caveats(origins, results, changes, corpus)),
        commands=tuple(_commands(origins, asked, results["before"]["split"])),
        corpus={
            "name": corpus.name,
            "split": results["before"]["split"],
            "clips": {str(k): int(v) for k, v in corpus.counts("split").items()},
            "speakers": int(corpus.table["speaker"].replace("", pd.NA).nunique())
            if "speaker" in corpus.table
            else 0,
            "hours": corpus.total_duration_s / 3600,
            "factors": corpus.factors,
            "fingerprint": corpus.fingerprint,
        },
        measured=environment(),
    )


def caveats(
    origins: dict[str, lineage.Origin],
    results: dict[str, dict[str, Any]],
    changes: dict[str, Any],
    corpus: Corpus,
) -> list[str]:
    """What a reader must know before believing the numbers, and must not conclude from them."""
    before, after = origins["before"], origins["after"]
    split = results["after"]["split"]
    found = []
    if after.base_fingerprint and after.base_fingerprint != before.fingerprint:
        found.append(
            f"{after.label} was not refined from this very {before.label}: what differs is more "
            "than the refinement."
        )
    seen = ((after.info.refinement if after.info else {}).get("provenance") or {}).get("corpus")
    if seen and seen.get("name") == corpus.name:
        words = (
            "These clips include those it was trained on: the numbers flatter it."
            if split in ("train", "all")
            else "It was trained on other clips of this corpus: voices are new to it, the "
            "microphone and perhaps the words are not."
        )
        found.append(words)
    speakers = results["after"]["isotropy"]["isoscore"]["groups"]
    if speakers is None:
        found.append("No speakers are known: intervals speak of other clips of the same voices.")
    elif speakers < FEW_SPEAKERS:
        found.append(
            f"{speakers} speakers stand behind the intervals; with so few, other speakers may "
            "well lie outside them."
        )
    if results["before"]["layer"] != results["after"]["layer"]:
        found.append(
            f"The vectors compared are each encoder's own: layer {results['before']['layer']} "
            f"before, {results['after']['layer']} after. Metrics in a space's own units (spreads, "
            "distances) cannot be compared across them."
        )
    total, sure = lineup.tested(lineup.of_pair(results, changes))
    found.append(
        f"Of {total} paired changes {sure} leave out 0. About {max(1, round(0.05 * total))} would "
        "do so by chance if nothing had changed: trust a pattern, not a single line."
    )
    found.append(
        "Isotropy is not better at either end: noise is the most even space there is. Read it "
        "beside the probes."
    )
    found.append(
        "Intervals are over other test speakers, for this one training. Another seed, or other "
        "training clips, would move the numbers too."
    )
    reasons = results["after"].get("left_out_factors") or {}
    if reasons:
        listed = "; ".join(f"{name} ({_reason(text)})" for name, text in reasons.items())
        found.append(f"Not measured, or not in full: {listed}.")
    left = {role: one.get("left_out") or {} for role, one in results.items()}
    if any(left.values()):
        clip, why = next(iter({**left["before"], **left["after"]}.items()))
        found.append(
            f"{len(left['before'])} clips were left out before, {len(left['after'])} after (the "
            f"first, {clip}: {_reason(why)}); both are compared on the {changes['n_clips']} that "
            "both have."
        )
    return found


def _reason(text: str) -> str:
    """The first reason of several, without the names of what was tried."""
    first = text.split("; ")[0]
    return first.rpartition(": ")[2]


def curves_of(rows: pd.DataFrame) -> list[str]:
    """Columns of a run that are worth a picture: the loss first, then what was watched."""
    if "step" not in rows:
        return []
    columns = [c for c in rows.select_dtypes("number").columns if c not in BOOKKEEPING]
    columns = [c for c in columns if rows[c].notna().sum() > 1 and not c.startswith("floor_")]
    columns = [c for c in columns if rows[c].min() < rows[c].max()]
    watched = [c for c in columns if rows[c].notna().sum() < 0.6 * len(rows)]
    loss = [c for c in ("total", "loss") if c in columns][:1]
    rest = [c for c in columns if c not in (*loss, *watched)]
    return [*loss, *watched, *rest][:MOST_CURVES]


def confusions(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """factor -> role -> probe, of the factors with few enough classes to draw."""
    probes = {role: one.get("probes") or {} for role, one in results.items()}
    shared = [factor for factor in probes["before"] if factor in probes["after"]]
    return {
        factor: {role: probes[role][factor] for role in results}
        for factor in shared
        if len(probes["before"][factor]["classes"]) <= CLASSES
        and probes["before"][factor]["classes"] == probes["after"][factor]["classes"]
    }


def work(run: Run, resume: bool) -> dict[str, Any]:
    """The task of a page: write a report; the result names the file."""
    from refine.worker import progress

    report, config = progress(run), run.config
    options = config["options"]
    corpus = open_corpus(config["corpus"], progress=lambda *n: report("opening the corpus", *n))
    # the name that a person would type stands in the report, not the folder it was resolved to
    out = write(
        options["before"], options["after"], corpus, Path(options["out"]), options.get("split"),
        report,
    )  # fmt: skip
    return {"path": str(out)}


def _maps(results: dict[str, dict[str, Any]], corpus: Corpus) -> Maps:
    """Both spaces in one plane, of at most `MAP_CLIPS` clips that both have."""
    opened = {role: open_embeddings(evaluation.table_of(one)) for role, one in results.items()}
    rows = {
        role: {clip: row for row, clip in enumerate(found.table["clip"])}
        for role, found in opened.items()
    }
    table = opened["before"].table
    table = table[table["clip"].isin(list(rows["after"]))].reset_index(drop=True)
    drawn = sample(len(table), MAP_CLIPS, seed=0)
    table = table.iloc[drawn.rows].reset_index(drop=True).fillna("")
    x = {
        role: opened[role].vectors(one["layer"])[[rows[role][clip] for clip in table["clip"]]]
        for role, one in results.items()
    }
    joint = joint_pca(x["before"], x["after"])
    xy = {"before": joint.before, "after": joint.after}
    shown = {"before": joint.shown_before, "after": joint.shown_after}
    titles = {}
    for role in xy:
        trust = quality(x[role], xy[role], speakers=speakers_of(table))
        kept, worthy = trust["neighbours_kept"], trust["trustworthiness"]
        titles[role] = (
            f"shows {shown[role]:.0%} of the spread, keeps {kept:.0%} ({kept.low:.0%} to "
            f"{kept.high:.0%}; by chance {kept.null:.0%}) of the neighbours, trustworthiness "
            f"{worthy:.2f} ({worthy.low:.2f} to {worthy.high:.2f}; {worthy.null:.2f}), n = "
            f"{worthy.n:,}"
        )
    sizes = {f: table[f].replace("", pd.NA).nunique() for f in corpus.factors if f in table}
    few = [f for f, n in sizes.items() if 2 <= n <= 8]
    many = [f for f, n in sizes.items() if n > 8]
    note = f"{drawn.note[:1].upper()}{drawn.note[1:]}; {joint.note}."
    return Maps(xy, table, titles, note, tuple([*few, *many][:3]))


def _commands(origins: dict[str, lineage.Origin], corpus: str, split: str) -> list[tuple[str, str]]:
    """What to type to have it all again."""
    before, after = origins["before"], origins["after"]
    found = []
    if train := lineage.command(after):
        found.append(("Train it again", train))
    for role, one in origins.items():
        words = ["evaluate", "--encoder", one.name, "--corpus", corpus, "--split", split, "--json"]
        found.append((f"Measure {role}", words))
    words = ["report", "--before", before.name, "--after", after.name, "--corpus", corpus]
    found.append(("This report", [*words, "--split", split, "--out", "report.html"]))
    return [(what, shlex.join(["python", "-m", "refine", *rest])) for what, rest in found]
