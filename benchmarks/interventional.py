"""Subspaces learned from grids, on recorded speech of people and corpora they never heard.

    python benchmarks/interventional.py --data ../shared/data --encoder assets/encoders/mini \
        --seeds 5 --out docs/measured/interventional.json

Trains the map of `interventional` on train speakers, with every engine and their mixtures, other
layers and poolings, single factors, and scores every subspace on both tasks: who speaks (speaker
EER, other words) and what is said (a linear probe of the word). Writes the JSON and a Markdown
table beside it. Each finished cell is kept, so a cut run goes on where it stopped.
`--choose` scores development speakers instead, which is how the preset `mini` was chosen.
"""

import dataclasses
import json
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro
from processes import PROCESSES, processor_minutes, workers

from refine import encoders, grid_engines, paths, probes, runs, subspace_map, training
from refine.corpus import Corpus, open_corpus
from refine.embeddings import extract
from refine.encoders import Encoder
from refine.encoders.projector import Projector
from refine.metrics import verification
from refine.metrics.influence import units
from refine.recipes.interventional import PRESETS, Interventional

WORDS = "arabic_commands"


@dataclass(frozen=True)
class Trial:
    """Clips on which a speaker is verified: pairs differ in `apart`."""

    corpus: str
    splits: tuple[str, ...]
    apart: str | None = "content"


REPORTED = {
    "arabic_commands": Trial("arabic_commands", ("test",)),
    "ravdess": Trial("ravdess", ("train", "dev", "test")),
    "librispeech": Trial("librispeech", ("dev", "test"), None),
    "accents": Trial("accents", ("test",)),
}
CHOSEN_BY = {
    "arabic_commands": Trial("arabic_commands", ("dev",)),
    "emodb": Trial("emodb", ("dev", "test")),
    "fsdd": Trial("fsdd", ("train", "dev", "test")),
    "accents": Trial("accents", ("dev",)),
}


@dataclass(frozen=True)
class Variant:
    """One way to train, as changes of the preset `mini`."""

    changes: dict[str, Any] = field(default_factory=dict)
    corpora: tuple[str, ...] | None = None  # None: those of the shipped encoder
    preset: str = "mini"
    half: bool = False  # train on every other word, and probe the others


SHIPPED = ("arabic_commands", "librispeech@pseudo", "emodb", "accents@pseudo")
ONE = ("arabic_commands",)
MLP = {"hidden_layers": 2, "learning_rate": 1e-4}
VARIANTS: dict[str, Variant] = {
    "mini preset, four corpora (shipped)": Variant(),
    "speaker alone": Variant({"factors": "speaker"}),
    "content alone": Variant({"factors": "content"}),
    "recorded: arabic_commands": Variant({"engine": "recorded"}, ONE),
    "pseudo: librispeech": Variant(corpora=("librispeech@pseudo",)),
    "espeak": Variant({"engine": "espeak"}, ()),
    "recorded arabic_commands + pseudo librispeech": Variant(
        {"engine": "recorded"}, (*ONE, "librispeech@pseudo")
    ),
    "paper preset: arabic_commands": Variant(corpora=ONE, preset="paper"),
    "shipped without librispeech": Variant(corpora=(SHIPPED[0], *SHIPPED[2:])),
    "shipped without accents": Variant(corpora=SHIPPED[:3]),
    "shipped without arabic_commands": Variant(corpora=SHIPPED[1:]),
    "every other word, probed on the others": Variant({"engine": "recorded"}, ONE, half=True),
    "three layers (paper's map)": Variant(MLP),
    "content told apart in the batch": Variant({"contrast": "batch"}),
    "orthogonality of samples": Variant({"orthogonality": "samples"}),
    "no orthogonality": Variant({"orthogonality": "off"}),
    "layer 3": Variant({"layers": "3"}),
    "last layer": Variant({"layers": "last"}),
    "mean of layers": Variant({"layers": "mean"}),
    "pooling mean": Variant({"pooling": "mean"}),
}


@dataclass(frozen=True)
class Options:
    """What is trained and measured."""

    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    encoder: str = "mini"
    """Encoder whose frozen features are mapped."""
    seeds: int = 5
    """Maps trained a variant."""
    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only the preset, its single factors and the engines, with two seeds."""
    choose: tyro.conf.FlagCreatePairsOff[bool] = False
    """Score development speakers and other corpora, none of them in the reported table."""
    only: tuple[str, ...] = ()
    """Names of the variants to train; all by default."""
    jobs: int = PROCESSES
    """Processes at a time, of one thread each."""
    out: Path = paths.ROOT / "docs" / "measured" / "interventional.json"
    """Where the numbers are written; the table stands beside it as Markdown."""


class Bench:
    """Corpora, features and trials, each made once."""

    def __init__(self, options: Options):
        self.options = options
        self.encoder: Encoder = encoders.load(options.encoder)
        self.trials = CHOSEN_BY if options.choose else REPORTED
        self.corpus = cache(lambda name: open_corpus(options.data / name))
        self.features = cache(self._features)
        self.sources = cache(self._sources)

    def _features(
        self, name: str, layer: int | str, pooling: str
    ) -> tuple[np.ndarray, pd.DataFrame]:
        corpus = self.corpus(name)
        table = extract(self.encoder, corpus, layer="all", pooling=pooling)
        rows = table.table.merge(corpus.table[["clip", "split"]], on="clip", how="left")
        return table.vectors(layer), rows

    def _sources(
        self, config: Interventional, names: tuple[str, ...], half: bool
    ) -> list[grid_engines.Source]:
        supplies: list[grid_engines.Supply] = []
        for name in names:
            name, at, engine = name.partition("@")
            corpus = _half(self.corpus(name)) if half else self.corpus(name)
            engines = tuple(engine.split("+")) if at else config.engines
            supplies.append(grid_engines.Supply(corpus, engines))
        return grid_engines.sources(config, supplies)

    def train(self, variant: Variant, seed: int) -> tuple[Projector, dict[str, float]]:
        """A map, and what it took."""
        preset = PRESETS[variant.preset].config
        config = dataclasses.replace(preset, **variant.changes, seed=seed, probe_every=0)
        shape = subspace_map.shape_of(config, self.encoder)
        grid = dataclasses.replace(config, seed=0)  # the same clips for every seed
        names = SHIPPED if variant.corpora is None else variant.corpora
        found = self.sources(grid, names, variant.half)
        features = subspace_map.features_of(self.encoder, shape, found)
        started = time.perf_counter()
        cpu = time.process_time()
        objective = subspace_map.Objective(config, shape, features)
        with tempfile.TemporaryDirectory() as folder:
            run = runs.create({"command": "train", "recipe": "interventional"}, Path(folder))
            training.fit(objective, training.settings_of(config), run)
        took = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu,
            "clips": len(features.grid.rows),
        }
        return objective.module.eval(), took

    def score(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Every subspace on both tasks, beside the raw feature."""
        projector, took = self.train(variant, seed)
        layer, pooling = projector.config.feature_layer, projector.config.feature_pooling

        def spaces(x: np.ndarray) -> dict[str, np.ndarray]:
            with torch.no_grad():
                blocks = projector.split(projector(torch.from_numpy(np.array(x))))
            return {name: block.numpy() for name, block in blocks.items()}

        eer: dict[str, Any] = {}
        for place, trial in self.trials.items():
            before, trials, of = self.raw_scores(place, layer, pooling)
            x, rows = self._clips(trial, layer, pooling)
            eer[place] = {"raw": verification.eer(before, trials.target)}
            for name, z in spaces(x).items():
                after = verification.cosine_scores(z, trials)
                moved = verification.change(before, after, trials, of)["eer"]
                eer[place][name] = [
                    verification.eer(after, trials.target), moved.value, moved.low, moved.high
                ]  # fmt: skip
        x, rows = self.features(WORDS, layer, pooling)
        rows, x = _probed(rows, x, variant.half, self.options.choose)
        split = probes.split_of(rows, "content")
        y, speakers = rows["content"].to_numpy(), rows["speaker"].to_numpy()
        raw = self.raw_word(layer, pooling, variant.half)
        word: dict[str, Any] = {"raw": raw.uar.value}
        for name, z in spaces(x).items():
            found = probes.probe(z, y, split, speakers, control=False)
            moved = probes.changes(raw, found, speakers)["uar"]
            word[name] = [found.uar.value, moved.value, moved.low, moved.high]
        return {"eer": eer, "word": word, **took}

    def raw_scores(self, place: str, layer: int | str, pooling: str) -> tuple[Any, Any, Any]:
        """Cosine scores of the raw feature, their trials, and the speakers to resample."""
        x, rows = self._clips(self.trials[place], layer, pooling)
        apart = self.trials[place].apart
        labels = rows["speaker"].to_numpy()
        trials = verification.trials_from_factor(
            labels, None if apart is None else rows[apart].to_numpy(), limit=60_000
        )
        return verification.cosine_scores(x, trials), trials, units(len(labels), labels)

    def raw_word(self, layer: int | str, pooling: str, half: bool) -> probes.ProbeResult:
        """The probe of the word on the raw feature."""
        x, rows = self.features(WORDS, layer, pooling)
        rows, x = _probed(rows, x, half, self.options.choose)
        return probes.probe(
            x, rows["content"].to_numpy(), probes.split_of(rows, "content"),
            rows["speaker"].to_numpy(), control=False,
        )  # fmt: skip

    def _clips(
        self, trial: Trial, layer: int | str, pooling: str
    ) -> tuple[np.ndarray, pd.DataFrame]:
        x, rows = self.features(trial.corpus, layer, pooling)
        keep = rows["split"].isin(trial.splits).to_numpy()
        return x[keep], rows[keep].reset_index(drop=True)


def main(options: Options) -> None:
    """Train and score what is not there yet, write and print."""
    content = _read(options)
    encoder = encoders.peek(options.encoder)
    if content.get("fingerprint") not in (None, encoder.fingerprint):
        content = {}  # another encoder: its cells say nothing of this one
    cells = content.setdefault("cells", {})
    content |= {"encoder": encoder.name, "fingerprint": encoder.fingerprint}
    trials = CHOSEN_BY if options.choose else REPORTED
    content |= {"seeds": options.seeds, "trials": _described(trials)}
    work = {
        f"{name} / {seed}": (_scored, options, name, seed)
        for seed in range(2 if options.quick else options.seeds)
        for name, variant in _variants(options).items()
        if cells.get(f"{name} / {seed}", {}).get("variant") != _told(variant)
    }
    first = next(iter(work), "")  # its features are kept on disk for all others
    needs = {key: [first] for key in work if key != first}
    before, spent = content.get("minutes", 0.0), content.get("processor_minutes", 0.0)
    started = time.monotonic()
    with workers(options.jobs) as turns:
        for key, cell in turns(work, needs):
            cells[key] = cell
            content["minutes"] = before + (time.monotonic() - started) / 60
            content["processor_minutes"] = spent + processor_minutes()
            _write(options, content)
            print(f"{key}: {cell['seconds']:.0f} s", flush=True)
    _write(options, content)
    print(_table(content))


@cache
def _bench(options: Options) -> Bench:
    return Bench(options)


def _scored(options: Options, name: str, seed: int) -> dict[str, Any]:
    variant = VARIANTS[name]
    return {"variant": _told(variant), **_bench(options).score(variant, seed)}


def _variants(options: Options) -> dict[str, Variant]:
    chosen = {n: v for n, v in VARIANTS.items() if not options.only or n in options.only}
    if options.quick:
        chosen = dict(list(chosen.items())[:8])
    return chosen


def _half(corpus: Corpus) -> Corpus:
    """The clips of every other word."""
    kept = set(sorted(set(corpus.table["content"]))[::2])
    return corpus.subset(clips=corpus.table["clip"][corpus.table["content"].isin(kept)].tolist())


def _probed(
    rows: pd.DataFrame, x: np.ndarray, half: bool, choose: bool
) -> tuple[pd.DataFrame, np.ndarray]:
    """The clips of the word probe; when choosing, train speakers stand in for dev, dev for test."""
    keep = np.ones(len(rows), dtype=bool)
    if half:
        keep &= ~rows["content"].isin(sorted(set(rows["content"]))[::2]).to_numpy()
    if choose:
        keep &= (rows["split"] != "test").to_numpy()
    rows, x = rows[keep].reset_index(drop=True), x[keep]
    if choose:
        people = sorted(set(rows["speaker"][rows["split"] == "train"]))
        inner = rows["speaker"].isin(people[::4])
        rows["split"] = np.where(rows["split"] == "dev", "test", np.where(inner, "dev", "train"))
    return rows, x


def _told(variant: Variant) -> dict[str, Any]:
    """What a cell was made with, as JSON gives it back: a changed variant is trained again."""
    told = dataclasses.asdict(variant) | {
        "preset_options": dataclasses.asdict(PRESETS[variant.preset].config),
        "corpora": SHIPPED if variant.corpora is None else variant.corpora,
    }
    return json.loads(json.dumps(told))


def _described(trials: dict[str, Trial]) -> dict[str, str]:
    return {
        place: f"{trial.corpus}, {' + '.join(trial.splits)}"
        + (f", pairs differ in {trial.apart}" if trial.apart else "")
        for place, trial in trials.items()
    }


def _read(options: Options) -> dict[str, Any]:
    if not options.out.exists():
        return {}
    content = json.loads(options.out.read_text(encoding="utf-8"))
    return content if "cells" in content else {}


def _write(options: Options, content: dict[str, Any]) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    part = options.out.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(options.out)
    options.out.with_suffix(".md").write_text(_table(content), encoding="utf-8")


def _table(content: dict[str, Any]) -> str:
    """Variants × places: speaker EER in both subspaces, word accuracy, all against the raw."""
    every = content["cells"]
    groups = {
        name: [cell for key, cell in sorted(every.items()) if key.rsplit(" / ", 1)[0] == name]
        for name in VARIANTS
    }
    places = list(content["trials"])
    head = ["map", "seeds", "seconds"]
    head += [f"{place}: EER raw → speaker (relative)" for place in places]
    head += [f"{place}: EER in content" for place in places]
    head += ["word UAR raw → content (kept)", "word in speaker"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for name, cells in groups.items():
        if not cells:
            continue
        row = [name, str(len(cells)), f"{np.mean([c['cpu_seconds'] for c in cells]):.0f}"]
        row += [_eer(cells, place, "speaker") for place in places]
        row += [_plain(cells, place) for place in places]
        row += [_word(cells, "content"), _word_alone(cells, "speaker")]
        lines.append("| " + " | ".join(row) + " |")
    if "minutes" in content:
        told = f"{content['minutes']:.0f} minutes, {content['processor_minutes']:.0f} of processor."
        lines = [told, "", *lines]
    return "\n".join(lines) + "\n"


def _mean(values: list[list[float]]) -> np.ndarray:
    """Value, change and its interval, mean over seeds."""
    return np.mean(np.array(values), axis=0)


def _eer(cells: list[dict[str, Any]], place: str, space: str) -> str:
    if space not in cells[0]["eer"][place]:
        return "–"
    raw = cells[0]["eer"][place]["raw"]
    value, change, low, high = _mean([cell["eer"][place][space] for cell in cells])
    return (
        f"{100 * raw:.1f} → {100 * value:.1f} % ({100 * change / raw:+.0f} % "
        f"[{100 * low / raw:+.0f}, {100 * high / raw:+.0f}])"
    )


def _plain(cells: list[dict[str, Any]], place: str) -> str:
    if "content" not in cells[0]["eer"][place]:
        return "–"
    raw = cells[0]["eer"][place]["raw"]
    value, _, low, high = _mean([cell["eer"][place]["content"] for cell in cells])
    return f"{100 * value:.1f} % [{100 * (raw + low):.1f}, {100 * (raw + high):.1f}]"


def _word(cells: list[dict[str, Any]], space: str) -> str:
    if space not in cells[0]["word"]:
        return "–"
    raw = cells[0]["word"]["raw"]
    value, _, low, high = _mean([cell["word"][space] for cell in cells])
    return (
        f"{100 * raw:.1f} → {100 * value:.1f} % ({100 * value / raw:.0f} % "
        f"[{100 * (raw + low) / raw:.0f}, {100 * (raw + high) / raw:.0f}])"
    )


def _word_alone(cells: list[dict[str, Any]], space: str) -> str:
    if space not in cells[0]["word"]:
        return "–"
    return f"{100 * _mean([cell['word'][space] for cell in cells])[0]:.1f} %"


if __name__ == "__main__":
    main(tyro.cli(Options))
