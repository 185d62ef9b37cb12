"""What `two_step` does to emotion on speakers it never heard, beside end-to-end fine-tuning.

    python benchmarks/two_step.py                 # mini
    python benchmarks/two_step.py --quick         # three folds, one seed, few steps: 1 minute

emodb: leave one speaker out (10 folds). ravdess: five folds of four speakers, the first of them
the corpus' own test speakers. In each fold other speakers are held out to stop the adapter and the
fine-tuning. Every variant has the same encoder, clips, steps and dropout; where step 1 holds the
encoder still (preset mini), end-to-end fine-tuning first fits its linear layer and moves a LoRA of
the last layer in the last 60 steps. Finished cells are kept in the JSON, so that a run that was cut
goes on where it was; the Markdown table stands beside it.
ravdess is for evaluation alone (non-commercial): nothing that is trained on it is kept.
"""

import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from processes import PROCESSES, processor_minutes, workers
from two_step_tables import SHOTS, VARIANTS, Cell, Tested, summary, tables

from refine import adapter, encoders, paths, probes
from refine.corpus import Corpus, open_corpus
from refine.metrics import classes
from refine.recipes.two_step import PRESETS, TwoStep
from refine.supervision import Rows
from refine.training import resolve_precision

FACTOR = "emotion"
FEW = 12  # speakers of a corpus; they are left out one by one
TUNED = 60  # last steps of end-to-end fine-tuning in which the encoder moves, if step 1 never does
DRAWS = 20  # of the k-shot prototypes, in each fold and seed
MAIN = ("probe", "base", "head", "end_to_end", "contrastive", "noncontrastive", "combined")


@dataclass(frozen=True)
class Options:
    """What is trained and measured."""

    encoder: str = "mini"
    """Encoder to reshape."""
    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    seeds: int = 5
    """Seeds of every cell."""
    corpora: tuple[str, ...] = ("emodb", "ravdess")
    """Corpora with speakers and emotions."""
    variants: tuple[str, ...] = MAIN
    """What is compared; more: triplet, triplet_combined, vicreg."""
    preset: str = "mini"
    """Preset of `two_step` whose options are used."""
    set: tuple[str, ...] = ()
    """Options that differ from it, as steps=40 pooling=mean."""
    dev: bool = False
    """Tune: folds among the speakers of train and dev; no test speaker is touched."""
    quick: bool = False
    """Three folds, one seed, a few steps."""
    jobs: int = PROCESSES
    """Processes at a time, of one thread each."""
    out: Path = paths.ROOT / "docs" / "measured" / "two_step.json"
    """Cells and numbers; the table goes beside it as .md."""


class Fold(NamedTuple):
    """Speakers of a fold, as rows of the corpus' table."""

    name: str
    rows: Rows
    test: np.ndarray


def main(options: Options) -> None:
    config = _config(options)
    corpora = {name: open_corpus(options.data / name) for name in options.corpora}
    kept = _read(options.out, _about(options, config))
    wanted = list(_cells(options, corpora))
    missing = [cell for cell in wanted if cell.key not in kept["cells"]]
    started, before = time.monotonic(), kept.get("minutes", 0.0)
    spent = kept.get("processor_minutes", 0.0)
    print(f"{len(missing)} of {len(wanted)} cells to measure", flush=True)
    with workers(options.jobs) as turns:
        found = turns({cell.key: (_measure, cell, config, options) for cell in missing})
        for done, (key, row) in enumerate(found, 1):
            kept["cells"][key] = row
            minutes = (time.monotonic() - started) / 60
            if done % 10 == 0 or done == len(missing):
                spending = spent + processor_minutes()
                kept |= {"minutes": before + minutes, "processor_minutes": spending}
                _write(options.out, kept)
                left = minutes / done * (len(missing) - done)
                print(f"{done} of {len(missing)}, {left:.1f} minutes left", flush=True)
    tested = [part for name, corpus in corpora.items() for part in _tested(name, corpus, options)]
    kept["numbers"] = summary(kept["cells"], wanted, tested, options.variants)
    _write(options.out, kept)
    told = f"{kept.get('minutes', 0.0):.0f} minutes on {options.jobs} processes of one thread"
    told += f", {kept.get('processor_minutes', 0.0):.0f} of processor"
    text = tables(kept["numbers"], options.encoder, options.seeds, told)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def folds(corpus: Corpus, dev: bool = False) -> list[Fold]:
    """Folds of a corpus, each speaker tested once: its own test speakers first, by four, where
    there are many speakers, else one by one. The next two (one) speakers are held out.

    With `dev`, folds among the speakers of train and dev alone, four of them.
    """
    data = corpus.table
    speakers = data["speaker"].to_numpy(dtype=str)
    own = sorted(set(speakers[(data["split"] == "test").to_numpy()]))
    names = [*own, *sorted(set(speakers) - set(own))]
    size = 1 if len(names) <= FEW else len(own)
    if dev:
        names = names[len(own) :]
        size = -(-len(names) // 4)
    parts = [names[start : start + size] for start in range(0, len(names), size)]
    found = []
    for part in parts:
        after = names.index(part[-1]) + 1
        held_out = [names[(after + step) % len(names)] for step in range(2 if size > 1 else 1)]
        train = [name for name in names if name not in (*held_out, *part)]
        sides = [np.flatnonzero(np.isin(speakers, side)) for side in (train, held_out, part)]
        found.append(Fold(" ".join(part), Rows(sides[0], sides[1]), sides[2]))
    return found


def _tested(name: str, corpus: Corpus, options: Options) -> Iterator[Tested]:
    """The clips of all folds measured; where folds hold several speakers, the first one apart too,
    which is the corpus' own test split.
    """
    made = folds(corpus, options.dev)
    made = made[:3] if options.quick else made
    data = corpus.table
    labels, speakers = (data[c].to_numpy(dtype=str) for c in (FACTOR, "speaker"))
    codes = np.unique(labels, return_inverse=True)[1]
    views = {name: list(range(len(made)))}
    if not options.dev and len(set(speakers[made[0].test])) > 1:
        views[f"{name}, its own test speakers"] = [0]
    for title, chosen in views.items():
        rows = np.concatenate([made[fold].test for fold in chosen])
        yield Tested(title, name, chosen, codes[rows], speakers[rows])


def _cells(options: Options, corpora: dict[str, Corpus]) -> Iterator[Cell]:
    for seed in range(1 if options.quick else options.seeds):
        for name, corpus in corpora.items():
            count = len(folds(corpus, options.dev))
            for fold in range(min(count, 3) if options.quick else count):
                for variant in options.variants:
                    if seed == 0 or variant != "probe":  # a convex probe knows no seed
                        yield Cell(name, fold, seed, variant)


def _config(options: Options) -> TwoStep:
    config = dataclasses.replace(PRESETS[options.preset].config, factor=FACTOR, apart="speaker")
    if options.quick:
        config = dataclasses.replace(config, steps=20)
    changes = {}
    for text in options.set:
        name, _, value = text.partition("=")
        kind = type(getattr(config, name))
        changes[name] = value == "true" if kind is bool else kind(value)
    return dataclasses.replace(config, **changes)


_OPENED: dict[str, Corpus] = {}
_STATES: dict[str, dict[str, Any]] = {}


def _measure(cell: Cell, config: TwoStep, options: Options) -> dict[str, Any]:
    """One cell: predictions of the test clips, and how their classes lie."""
    if cell.corpus not in _OPENED:
        _OPENED[cell.corpus] = open_corpus(options.data / cell.corpus)
    corpus = _OPENED[cell.corpus]
    fold = folds(corpus, options.dev)[cell.fold]
    changes = VARIANTS[cell.variant][1] or {}
    config = dataclasses.replace(config, seed=cell.seed, **changes)
    if cell.variant == "end_to_end" and config.train == "none":
        held = max(0, config.steps - TUNED)
        # at a steady rate: at the end of a cosine the encoder would not move
        config = dataclasses.replace(
            config, train="lora", top_layers=1, hold_encoder=held, schedule="constant"
        )
    elif cell.variant in ("probe", "base", "head"):
        config = dataclasses.replace(config, train="none", top_layers=0)
    started = time.perf_counter()
    vectors, predicted = _run(cell.variant, config, corpus, fold, options)
    seconds = time.perf_counter() - started
    labels = corpus.table[FACTOR].to_numpy(dtype=str)
    known = np.unique(labels)
    split = probes.Split(fold.rows.train, fold.rows.held_out, fold.test)
    shots = probes.k_shot(vectors, labels, split, SHOTS, DRAWS, cell.seed)
    return {
        "predicted": "".join(map(str, np.searchsorted(known, predicted))),
        **_geometry(vectors[fold.test], labels[fold.test]),
        **{f"shot_{k}": shot.value for k, shot in shots.items()},
        "seconds": round(seconds, 2),
    }


def _run(
    variant: str, config: TwoStep, corpus: Corpus, fold: Fold, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of all clips of the fold (rows of others stay 0), and the predicted test classes."""
    from refine.end_to_end import fine_tune
    from refine.shaping import Shaping, Source, optimise

    encoder = encoders.load(options.encoder, precision=resolve_precision(config.precision))
    kept = _STATES.setdefault(f"{corpus.name} {config.top_layers} {config.layers}", {})
    rows, labels = fold.rows, corpus.table[FACTOR].to_numpy(dtype=str)
    used = np.concatenate([rows.train, rows.held_out, fold.test])
    if variant in ("head", "end_to_end"):
        tuned = fine_tune(config, encoder, corpus, rows, kept)
        found, logits = tuned.outputs(used)
        vectors = _scattered(found, used, corpus)
        return vectors, tuned.classes[logits[-len(fold.test) :].argmax(axis=1)]
    if variant in ("base", "probe"):
        source = Source(config, encoder, corpus, rows.train, kept)
        vectors = _scattered(source.features.whole(used).numpy(), used, corpus)
        mean, scale = vectors[rows.train].mean(axis=0), vectors[rows.train].std(axis=0)
        vectors = (vectors - mean) / np.maximum(scale, 1e-6)  # as step 1 would see them
    else:
        objective = Shaping(config, encoder, corpus, rows.train, kept)
        objective.standardise()
        optimise(objective, config)
        vectors = _scattered(objective.vectors(used), used, corpus)
    if variant == "probe":
        split = probes.Split(rows.train, rows.held_out, fold.test)
        return vectors, probes.probe(vectors, labels, split, control=False).predictions
    settings = adapter.AdapterConfig(
        config.adapter_hidden, config.adapter_dropout, seed=config.seed
    )
    fitted = adapter.fit(
        vectors[rows.train], labels[rows.train],
        vectors[rows.held_out], labels[rows.held_out], settings,
    )  # fmt: skip
    return vectors, fitted.predict(vectors[fold.test])


def _scattered(found: np.ndarray, rows: np.ndarray, corpus: Corpus) -> np.ndarray:
    vectors = np.zeros((len(corpus.table), found.shape[1]))
    vectors[rows] = found
    return vectors


def _geometry(x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Spread of test clips in units of their root mean square distance to their mean."""
    names, counts = np.unique(labels, return_counts=True)
    pairs = np.isin(labels, names[counts > 1])
    x, labels = x[pairs], labels[pairs]
    x = x / np.sqrt(np.square(x - x.mean(axis=0)).sum(axis=1).mean())
    within, between = classes.within_spread(x, labels), classes.between_centroids(x, labels)
    return {
        "within": within,
        "between": between,
        "spread_ratio": within / between,
        "davies_bouldin": classes.davies_bouldin(x, labels),
    }


# -- keeping -----------------------------------------------------------------------------------


def _about(options: Options, config: TwoStep) -> dict[str, Any]:
    """What the cells depend on: with another encoder or other options they start anew."""
    return {
        "encoder": options.encoder,
        "fingerprint": encoders.peek(options.encoder).fingerprint,
        "options": dataclasses.asdict(config),
        "precision": resolve_precision(config.precision),
        "dev": options.dev,
    }


def _read(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.get("about") == about:
            return kept
    return {"about": about, "cells": {}}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    main(tyro.cli(Options))
