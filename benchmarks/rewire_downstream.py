"""Paper 3's evaluation: how fast, and how well, tasks are learnt on a rewired encoder.

    python benchmarks/rewire_downstream.py        # mini, preset mini; about 20 minutes on two cores
    python benchmarks/rewire_downstream.py --quick

Rewires the encoder with twins, neutral copies and both (the runs are kept below --work), then
learns tasks on 1, 5, 10 and 100 % of the labels with SUPERB's head, frozen and fine-tuned. Writes
docs/measured/rewire_downstream.json, cell by cell, so that a cut run goes on where it stopped, and
the Markdown tables and the curves (SVG) beside it.

Twins learn from `pretrain`, which has no words. Neutral copies need words: they learn from the
train speakers of `fsdd` (digits) and `emodb` (ten sentences), so that on *digits* they have heard
the labels spoken; those cells are marked † and no target is judged by them.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rewire_curves
import tyro
from processes import PROCESSES, processor_minutes, workers
from rewire_tables import CONTROLS, REWIRED, rounded, summary, table

from refine import encoders, paths, runs
from refine.corpus import open_corpus
from refine.downstream import Curve, Settings, draw, finetuned, frozen, mean_curve
from refine.embeddings import extract, open_embeddings
from refine.files import read_json, write_json
from refine.recipes import rewire
from refine.splits import Split, split_of
from refine.training import resolve_precision

VERSION = 1  # raised when a cell changes its meaning


@dataclass(frozen=True)
class Task:
    """What is learnt, from which clips."""

    corpus: str
    factor: str
    learning_rate: float  # s3prl's: 1e-4 for keywords and intents, 1e-3 for speakers
    parts: tuple[str, ...] = ("train", "dev", "test")  # of the corpus; for speakers the unheard


TASKS = {
    "words": Task("arabic_commands", "content", 1e-4),
    "digits": Task("fsdd", "content", 1e-4),
    "emotion": Task("emodb", "emotion", 1e-4),
    "speaker": Task("arabic_commands", "speaker", 1e-3, ("dev", "test")),
}
# fsdd names its digits; these are emodb's sentences, by their codes
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen.",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


@dataclass(frozen=True)
class Options:
    """What is rewired and learnt."""

    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    encoder: str = "mini"
    """Encoder to rewire."""
    preset: str = "mini"
    """Preset of the recipe."""
    seeds: int = 3
    """Rewirings of each kind; intervals are over them."""
    draws: int = 2
    """Draws of labels and starts of the head for each; a seed's curve is their mean."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """What is learnt: words, digits, emotion, speaker."""
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 1.0)
    """Shares of the labels."""
    steps: int = 1000
    """Steps of a head on a frozen encoder."""
    tune: tuple[str, ...] = ("words:0.01", "words:0.05", "words:0.1", "words:1.0")
    """Tasks and shares that are fine-tuned too."""
    tune_steps: int = 60
    """Steps of fine-tuning, of 16 clips each."""
    train: str = "pretrain"
    """Corpus of the twins."""
    rewire_steps: int | None = None
    """Steps of rewiring; by default the preset's."""
    work: Path = paths.cache() / "rewire_downstream"
    """Folder of the rewired encoders and their embeddings."""
    out: Path = paths.ROOT / "docs" / "measured" / "rewire_downstream.json"
    """Where the numbers are written."""
    quick: bool = False
    """A few steps of everything, into --work instead of --out: does it run?"""
    jobs: int = PROCESSES
    """Processes at a time, of one thread each."""


def main(options: Options) -> None:
    """Rewire, learn, write and print."""
    if options.quick:
        options = _quickly(options)
    started, texts = time.monotonic(), _texts(options)
    kinds = [(kind, seed) for kind in REWIRED for seed in range(options.seeds)]
    with workers(options.jobs) as turns:
        found = turns({pair: (_rewired, *pair, texts, options) for pair in kinds})
        names = {("base", seed): options.encoder for seed in range(options.seeds)}
        names |= {pair: str(path) for pair, path in found}
        task_of = {TASKS[name].corpus: name for name in options.tasks}  # vectors are kept by corpus
        parts = [
            (task, name) for task in task_of.values() for name in dict.fromkeys(names.values())
        ]
        dict(turns({part: (_vectors, *part, options) for part in parts}))
        kept = _Found(options)
        cells: dict[str, tuple[Any, ...]] = {
            f"frozen/{name}/{fraction}": (_frozen, name, names, fraction, options)
            for name in options.tasks
            for fraction in options.fractions
        }
        for place in options.tune:
            name, share = place.split(":")
            cells |= {
                f"finetuned/{name}/{float(share)}/{kind}/{seed}": (
                    _tuned, name, encoder, float(share), seed, options,
                )
                for (kind, seed), encoder in names.items()
            }  # fmt: skip
        missing = {key: work for key, work in cells.items() if key not in kept.content["cells"]}
        for key, value in turns(missing):
            kept.add(key, value, time.monotonic() - started)
        kept.sort(list(cells))
    markdown = table(kept.content, options)
    options.out.with_suffix(".md").write_text(markdown + "\n", encoding="utf-8")
    rewire_curves.write(options.out)
    print(markdown)
    took = (time.monotonic() - started) / 60
    print(f"\n{options.out}, {took:.1f} minutes, {processor_minutes():.1f} of processor")


def _quickly(options: Options) -> Options:
    return dataclasses.replace(
        options, seeds=2, draws=1, tasks=("digits",), fractions=(0.1,), steps=40,
        tune=("digits:0.1",), tune_steps=3, train="fsdd", rewire_steps=2,
        work=options.work / "quick", out=options.work / "quick" / "rewire_downstream.json",
    )  # fmt: skip


class _Found:
    """Cells in the JSON file; one that is there is not computed again."""

    def __init__(self, options: Options):
        self.path = options.out
        config = dataclasses.asdict(_config("twin", 0, options))
        about = {
            "version": VERSION,
            "encoder": str(options.encoder),
            "fingerprint": encoders.peek(options.encoder).fingerprint,
            "precision": resolve_precision("auto"),  # of training and fine-tuning
            "rewire": {k: v for k, v in config.items() if k not in ("positives", "seed")},
            **{k: getattr(options, k) for k in ("seeds", "draws", "steps", "tune_steps", "train")},
        }
        about = json.loads(json.dumps(about))
        known = read_json(self.path) or {}
        same = known.get("about") == about
        self.content: dict[str, Any] = known if same else {"about": about, "cells": {}}

    def add(self, key: str, value: Any, seconds: float) -> None:
        self.content["cells"][key] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.content)
        print(f"{key}, {seconds / 60:.1f} minutes", flush=True)

    def sort(self, order: list[str]) -> None:
        cells = self.content["cells"]
        self.content["cells"] = {key: cells[key] for key in sorted(cells, key=order.index)}
        write_json(self.path, self.content)


# -- rewiring ----------------------------------------------------------------------------------


def _config(kind: str, seed: int, options: Options) -> rewire.Rewire:
    preset = rewire.PRESETS[options.preset].config
    steps = options.rewire_steps or preset.steps
    warmup = min(preset.warmup_steps, steps)
    return dataclasses.replace(
        preset, positives=kind, seed=seed, probe_every=0, steps=steps, warmup_steps=warmup
    )


def _rewired(kind: str, seed: int, texts: Path, options: Options) -> Path:
    """The run folder of a rewiring, trained now where it is not there yet."""
    config = _config(kind, seed, options)
    corpus = options.data / options.train if kind == "twin" else texts
    base = encoders.peek(options.encoder).fingerprint
    what = json.dumps([base, dataclasses.asdict(config), str(corpus)], default=str)
    name = f"{kind}-{seed}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"
    place = options.work / "runs" / name
    if not (place / "config.json").exists():
        about: dict[str, Any] = {"command": "train", "recipe": "rewire"}
        about["encoder"] = options.encoder
        about |= {"corpus": str(corpus), "options": dataclasses.asdict(config), "name": name}
        runs.create(about, options.work / "runs", id=name)
    run = runs.Run(place)
    if not (run.checkpoints / "final" / "refine.json").exists():
        started = time.monotonic()
        rewire.train(config, options.encoder, corpus, run, resume=True)
        print(f"rewired {name}: {time.monotonic() - started:.0f} s", flush=True)
    return run.path


def _texts(options: Options) -> Path:
    """A corpus of the train clips whose words are known."""
    folder = options.work / "texts"
    if (folder / "clips.csv").exists():
        return folder
    rows = []
    for name in ("fsdd", "emodb"):
        clips = pd.read_csv(options.data / name / "clips.csv", dtype=str).fillna("")
        for clip in clips[clips["split"] == "train"].to_dict("records"):
            path = f"{name}/{clip['path'].replace('/', '_')}"
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(options.data / name / clip["path"], folder / path)
            text = SENTENCES.get(clip["content"], clip["content"])
            kept = {key: clip.get(key, "") for key in ("speaker", "language", "split")}
            rows.append({"path": path, "text": text, **kept})
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return folder


# -- learning ----------------------------------------------------------------------------------


def _vectors(name: str, encoder: str, options: Options) -> None:
    """Embed the clips of a task, for every task on its corpus."""
    _Clips(name, options).features(encoder)


def _frozen(
    name: str, names: dict[tuple[str, int], str], fraction: float, options: Options
) -> dict[str, Any]:
    return _Clips(name, options).frozen(names, fraction)


def _tuned(name: str, encoder: str, fraction: float, seed: int, options: Options) -> dict[str, Any]:
    return _Clips(name, options).tuned(encoder, fraction, seed)


class _Clips:
    """The clips of a task, their labels and split, and their vectors by any encoder."""

    def __init__(self, name: str, options: Options):
        self.name, self.task, self.options = name, TASKS[name], options
        self.whole = open_corpus(options.data / self.task.corpus)
        kept = self.whole.table["split"].isin(self.task.parts).to_numpy()
        self.rows = np.flatnonzero(kept)
        self.table = self.whole.table[kept].reset_index(drop=True)
        self.labels = self.table[self.task.factor].to_numpy(dtype=object).astype(str)
        self.split: Split = split_of(self.table, self.task.factor)
        self._features: dict[str, np.ndarray] = {}

    def features(self, encoder: str) -> np.ndarray:
        """Mean over time of every hidden state, (clips, layers, dim)."""
        if encoder not in self._features:
            self._features[encoder] = self._extract(encoder)
        return self._features[encoder]

    def _extract(self, encoder: str) -> np.ndarray:
        """Of the whole corpus, kept for every task on it."""
        mark = f"{encoders.peek(encoder).fingerprint[:16]}-{self.whole.fingerprint[:16]}"
        path = self.options.work / "embeddings" / f"{mark}.parquet"
        if path.exists():
            found = open_embeddings(path)
        else:
            loaded = encoders.load(encoder)
            found = extract(loaded, self.whole, layer="all", pooling="mean", out=path)
        if found.table["clip"].tolist() != self.whole.table["clip"].tolist():
            raise SystemExit(f"{self.name}: clips could not be encoded: {found.metadata}")
        layers = [found.vectors(name)[self.rows] for name in found.layers if name != "mean"]
        return np.stack(layers, axis=1)

    def frozen(self, names: dict[tuple[str, int], str], fraction: float) -> dict[str, Any]:
        """All variants, seeds and draws of a cell, trained side by side."""
        options = self.options
        kinds = ("base", *CONTROLS, *REWIRED)
        tables, drawn, starts = [], [], []
        for kind in kinds:
            for seed in range(options.seeds):
                for number in range(options.draws):
                    start = 100 * seed + number
                    tables.append(self._variant(kind, seed, names))
                    drawn.append(draw(self.labels, self.split.train, fraction, start))
                    starts.append(start + (10_000 if kind == "base again" else 0))
        settings = Settings(options.steps, learning_rate=self.task.learning_rate)
        curves = frozen(tables, drawn, self.labels, self.split, settings, starts)
        each = iter(curves)
        by_seed = {
            kind: [
                mean_curve([next(each) for _ in range(options.draws)]) for _ in range(options.seeds)
            ]
            for kind in kinds
        }
        best = {
            kind: [
                float(np.mean([c.best for c in part]))
                for part in _parts(curves[i * len(curves) // len(kinds) :], options)
            ]
            for i, kind in enumerate(kinds)
        }
        return {"labelled": len(drawn[0]), **summary(by_seed, best)}

    def _variant(self, kind: str, seed: int, names: dict[tuple[str, int], str]) -> np.ndarray:
        if kind == "base standardised":
            if kind not in self._features:
                x = self.features(names["base", 0])
                mean, scale = x[self.split.train].mean(0), x[self.split.train].std(0)
                self._features[kind] = (x - mean) / np.maximum(scale, 1e-6)
            return self._features[kind]
        return self.features(names["base" if kind == "base again" else kind, seed])

    def tuned(self, encoder: str, fraction: float, seed: int) -> dict[str, Any]:
        """The curve of one encoder, fine-tuned whole with its head."""
        options, split = self.options, self.split
        waveforms = [self.whole.waveform(clip) for clip in self.table["clip"]]
        drawn = draw(self.labels, split.train, fraction, 100 * seed)
        few = Split(split.train, self._few(split.dev, 100), self._few(split.test, 200))
        steps = options.tune_steps
        looks = sorted({round(share * steps) for share in (0, 0.15, 0.3, 0.6, 1)})
        settings = Settings(steps, batch_size=16, seed=100 * seed, learning_rate=1e-4)
        loaded = encoders.load(encoder, precision=resolve_precision("auto"))
        return rounded(finetuned(loaded, waveforms, drawn, self.labels, few, settings, looks))

    def _few(self, rows: np.ndarray, most: int) -> np.ndarray:
        """As many of each class, so that a test of a fine-tuned encoder stays quick."""
        share = min(1.0, most / len(rows))
        return draw(self.labels, rows, share, seed=0)


def _parts(curves: list[Curve], options: Options) -> list[list[Curve]]:
    n = options.draws
    return [curves[seed * n : (seed + 1) * n] for seed in range(options.seeds)]


if __name__ == "__main__":
    main(tyro.cli(Options))
