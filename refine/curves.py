"""How few labels and how few steps an encoder needs: two curves a factor, cached.

    learn("mini-rewire", open_corpus(folder), "emotion")

Label efficiency is a probe on a share of the labels (`probes.label_efficiency`); convergence is
SUPERB's head trained step by step on the frozen encoder (`downstream.frozen`, paper 3). Beside it
stands a control that costs no training: the same vectors, every dimension standardised.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refine import evaluation, paths
from refine.corpus import Corpus, open_corpus
from refine.embeddings import open_embeddings
from refine.encoders import peek
from refine.files import read_json, to_json
from refine.probes import ProbeError, label_efficiency, split_of
from refine.runs import Run
from refine.splits import Split

VERSION = 2  # raised when what is kept changes
FRACTIONS = (0.01, 0.03, 0.1, 0.3, 1.0)
DRAWS = 3  # of labels, and starts of the head
STEPS = 600
RATE = 1e-3  # learning rate of the head
REACH = 0.95  # of the reference's best score
MOST = 1_500  # clips that curves are made of; more are drawn

Progress = Callable[[str, int, int], None]


class CurvesError(ValueError):
    """A curve that cannot be made. The message says why."""


def learn(
    encoder: str | Path,
    source: Corpus | str | Path,
    factor: str,
    split: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Both curves of one encoder and factor, on speakers that were not learnt from.

    Args: as `evaluation.evaluate`; `factor`: a column of the corpus.
    Returns: `encoder, corpus, factor, layer, how, n_train, n_test, null`; `efficiency`: a row a
        share of the labels (fraction, clips, uar and accuracy as Number dicts); `convergence` and
        `standardised`: `steps`, and `test` and `dev` (a list a draw).
    Raises: `CurvesError`, `EncoderError`, `CorpusError`.
    """
    whole = source if isinstance(source, Corpus) else open_corpus(source)
    path = _path(encoder, whole, factor, split)
    if (kept := read_json(path)) is not None:
        return kept
    result = evaluation.evaluate(encoder, whole, split=split, progress=progress)
    table, own, hidden = _vectors(encoder, whole, result, progress)
    try:
        sides, rows = _split(table, factor)
    except ProbeError as error:
        raise CurvesError(f"{whole.name}: {error}") from error
    table, own, hidden = table.iloc[rows], own[rows], hidden[rows]
    labels = table[factor].to_numpy(dtype=object).astype(str)
    speakers = table["speaker"].to_numpy(dtype=object) if "speaker" in table else None
    report = progress or (lambda *_: None)
    report("probes on few labels", 0, 3)
    points = label_efficiency(own, labels, sides, FRACTIONS, DRAWS, speakers)
    report("a head, step by step", 1, 3)
    plain = _converge(hidden, labels, sides)
    report("the same, standardised", 2, 3)
    spread = hidden[sides.train].std(axis=0)
    even = (hidden - hidden[sides.train].mean(axis=0)) / np.maximum(spread, 1e-6)
    found = {
        "encoder": str(encoder),
        "corpus": whole.name,
        "factor": factor,
        "layer": result["layer"],
        "how": sides.how,
        "n_train": len(sides.train),
        "n_test": len(sides.test),
        "null": 1 / len(np.unique(labels[sides.train])),
        "efficiency": [
            {"fraction": p.fraction, "clips": p.clips} | {
                name: getattr(p, name).as_dict() for name in ("uar", "accuracy")
            }
            for p in points
        ],
        "convergence": plain,
        "standardised": _converge(even, labels, sides),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.write_text(to_json(found), encoding="utf-8")
    os.replace(temporary, path)
    return found


def cached(
    encoder: str | Path, source: Corpus, factor: str, split: str | None = None
) -> dict[str, Any] | None:
    """What an earlier `learn` found, or None. Loads no torch."""
    return read_json(_path(encoder, source, factor, split))


def reached(
    curve: dict[str, Any], base: dict[str, Any], share: float = REACH
) -> dict[str, float | int | None]:
    """Steps until a curve is as good as `share` of the base's best, by draw means.

    Returns: `level` (the score), `base` and `other` (steps; None: not within the budget), and
        `ratio` other / base, None where either is.
    """
    first, second = (np.mean(one["test"], axis=0) for one in (base, curve))
    level = share * float(first.max())
    found = []
    for steps, scores in ((base["steps"], first), (curve["steps"], second)):
        there = np.flatnonzero(scores >= level - 1e-12)
        found.append(max(1, int(steps[there[0]])) if len(there) else None)
    both = found[0] is not None and found[1] is not None
    ratio = found[1] / found[0] if both and found[0] and found[1] else None
    return {"level": level, "base": found[0], "other": found[1], "ratio": ratio}


def factors_of(corpus: Corpus) -> list[str]:
    """Factors with two to sixty classes, none of them the speaker: what a head could learn."""
    few = [name for name in corpus.factors if name != "speaker"]
    return [name for name in few if 2 <= len(corpus.counts(name)) <= 60]


def work(run: Run, resume: bool) -> dict[str, Any]:
    """The task of a page: the curves of several encoders."""
    from refine.worker import progress

    options, report = run.config["options"], progress(run)
    corpus = open_corpus(run.config["corpus"], progress=lambda *n: report("opening the corpus", *n))
    for name in options["encoders"]:
        learn(name, corpus, options["factor"], options.get("split"), report)
    return {"encoders": options["encoders"]}


def _vectors(
    encoder: str | Path, whole: Corpus, result: dict[str, Any], progress: Progress | None
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Table, own vectors (n, d) and what a head reads, (n, layers, d), of all clips there are.

    A head reads all hidden states; behind a projector it reads the projected vector.
    """
    tables = evaluation.Tables(encoder, progress=progress)
    corpus = evaluation.choose_split(whole, result["split"])
    own = open_embeddings(evaluation.table_of(result))
    clips = evaluation.clips_of(tables, whole, corpus, own, result["layer"])
    if result["layer"] == "projected":
        return clips.table, clips.x, clips.x[:, None]
    parts = [open_embeddings(result["hidden"])]
    rest = clips.table["clip"][~clips.evaluated].tolist()
    if rest:
        parts.append(tables.of(whole.subset(clips=rest), "all"))
    layers = [name for name in parts[0].layers if name != "mean"]
    states = np.stack([np.concatenate([p.vectors(name) for p in parts]) for name in layers], 1)
    order = [clip for part in parts for clip in part.table["clip"]]
    if order != clips.table["clip"].tolist():
        place = {clip: row for row, clip in enumerate(order)}
        states = states[[place[clip] for clip in clips.table["clip"]]]
    return clips.table, clips.x, states


def _split(table: pd.DataFrame, factor: str) -> tuple[Split, np.ndarray]:
    """Train, dev and test of a factor, and the rows of the table they are of."""
    rows = np.arange(len(table))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
    part = table.iloc[rows].copy()
    if factor not in part:
        raise ProbeError(f"{factor}: no such factor")
    counts = part[factor].map(part[factor].value_counts())
    part.loc[counts < 2, factor] = ""
    return split_of(part, factor, 0), rows


def _converge(x: np.ndarray, labels: np.ndarray, sides: Split) -> dict[str, Any]:
    from refine.downstream import Settings, draw, frozen

    settings = Settings(steps=STEPS, learning_rate=RATE)
    seeds: Sequence[int] = range(DRAWS)
    drawn = [draw(labels, sides.train, 0.5, seed) for seed in seeds]
    found = frozen([x] * DRAWS, drawn, labels, sides, settings, seeds)
    return {
        "steps": found[0].steps.tolist(),
        "test": [curve.test.tolist() for curve in found],
        "dev": [curve.dev.tolist() for curve in found],
    }


def _path(encoder: str | Path, whole: Corpus, factor: str, split: str | None) -> Path:
    safe = "".join(c if c.isalnum() else "_" for c in factor)[:40]
    parts = (peek(encoder).fingerprint[:16], whole.fingerprint[:16], split or "own", safe)
    version = f"v{VERSION}.{evaluation.VERSION}"
    return paths.cache() / "curves" / f"{'-'.join(parts)}-{version}.json"
