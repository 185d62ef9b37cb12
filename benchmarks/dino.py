"""DINO without labels beside a supervised x-vector of the same network, on voices neither heard.

    python benchmarks/dino.py --data ../shared/data --encoder assets/encoders/mini \
        --out docs/measured/dino.json

Trains `dino` (preset `mini`) on the train speakers of all corpora but ravdess, no label read; a
supervised x-vector of the same network on those of them whose speaker is known; one round of pseudo
labels after DINO. Speaker verification by cosine and by PLDA on other voices and on a corpus that
none of them was trained on, beside log-mel statistics and the untrained network; then the transfer
study on the emotions of emodb. About an hour on two cores. Each finished cell is kept in the JSON,
and a cut training goes on from its last checkpoint.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from refine import encoders, monitor, paths, pseudo_labels, runs, supervised, transfer, voices
from refine.corpus import Corpus, open_corpus
from refine.encoders import Encoder, fbank, speaker
from refine.encoders.pooling import stats_pool
from refine.metrics import plda, verification
from refine.metrics.influence import units
from refine.pseudo_labels import Clustering, Rounds
from refine.recipes import dino
from refine.recipes.dino import Dino
from refine.supervised import Supervised
from refine.transfer import Transfer

TRAINED_ON = ("pretrain", "librispeech", "accents", "arabic_commands", "emodb", "fsdd")
# corpus, split ("all": nothing of it was trained on), what both clips of a pair must differ in
TESTS = {
    "ravdess": ("ravdess", "all", "content"),
    "arabic_commands": ("arabic_commands", "test", "content"),
    "librispeech": ("librispeech", "test", None),
    "accents": ("accents", "test", None),
}
CHOSEN_BY = {  # `--choose`: no speaker of the table above; emodb is then not trained on
    "emodb": ("emodb", "all", "content"),
    "arabic_commands": ("arabic_commands", "dev", "content"),
    "librispeech": ("librispeech", "dev", None),
    "accents": ("accents", "dev", None),
}
SYSTEMS = ("log-mel", "mini", "untrained", "x-vector", "dino", "pseudo labels")
TRIALS = 60_000
X_VECTOR = Supervised(
    seconds=2.0, epochs=14.0, margin_epochs=3.0, learning_rate=2e-3, schedule="onecycle",
    weight_decay=0.01, clip_norm=3.0, checkpoint_every=200,
)  # fmt: skip
PSEUDO = Rounds(
    rounds=1, first=Clustering(threshold=0.6, smallest=4, largest=150), last_epochs=2.0,
    all_epochs=8.0, margin_epochs=2.0, seconds=2.0, batch_size=64,
)  # fmt: skip
TRANSFER = Transfer(seconds=2.0, head_epochs=5.0, all_epochs=5.0)
CELLS: dict[str, dict[str, Any]] = {
    "two stages": {},
    "all at once": {"schedule": "all_at_once"},
    "chunks of 1 s": {"seconds": 1.0},
    "chunks of 4 s": {"seconds": 4.0},
    "no noise, no rooms": {"augmented": False},
}


@dataclass(frozen=True)
class Options:
    """What is trained and measured."""

    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    encoder: str = "mini"
    """A pretrained encoder shown beside, as it is."""
    network: str = "ecapa_tdnn"
    """Network that is trained; the preset says how large."""
    seeds: int = 1
    """Trainings of each system; one takes about 45 minutes in full."""
    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """A fifth of the epochs, and no transfer study: to see that all works."""
    choose: tyro.conf.FlagCreatePairsOff[bool] = False
    """Measure on development speakers, and on emodb, which is then left out of the training."""
    ship: Path | None = None
    """Write the DINO encoder of seed 0 here, in 16 bits."""
    work: Path = paths.cache() / "benchmarks" / "dino"
    """Where trainings are kept, so that a cut one goes on."""
    out: Path = paths.ROOT / "docs" / "measured" / "dino.json"
    """Where the numbers are written; the table stands beside it as Markdown."""


class Bench:
    """Corpora and systems, each made once."""

    def __init__(self, options: Options):
        self.options = options
        share = 0.2 if options.quick else 1.0
        preset = dino.PRESETS["mini"].config
        self.dino = dataclasses.replace(
            preset, epochs=preset.epochs * share, warmup_epochs=preset.warmup_epochs * share
        )
        self.x_vector = dataclasses.replace(X_VECTOR, epochs=X_VECTOR.epochs * share)
        name = ("choose" if options.choose else "report") + ("-quick" if options.quick else "")
        self.work = options.work / name
        self.tests = CHOSEN_BY if options.choose else TESTS
        self.found: dict[str, Any] = {"cells": {}}
        if options.out.exists():
            self.found = json.loads(options.out.read_text(encoding="utf-8"))
        told = {
            "network": options.network,
            "dino": dataclasses.asdict(self.dino),
            "x-vector": dataclasses.asdict(self.x_vector),
            "pseudo labels": dataclasses.asdict(PSEUDO),
            "transfer": dataclasses.asdict(TRANSFER),
            "trained on": list(self.trained_on),
            "tests": {name: list(test) for name, test in self.tests.items()},
        }
        if self.found.get("settings") != json.loads(json.dumps(told)):
            self.found = {"settings": told, "cells": {}}
            shutil.rmtree(self.work, ignore_errors=True)  # trained with other settings

    @property
    def trained_on(self) -> tuple[str, ...]:
        left_out = ("emodb",) if self.options.choose else ()
        return tuple(name for name in TRAINED_ON if name not in left_out)

    @cached_property
    def corpus(self) -> Corpus:
        """Train clips of all corpora in one, dev clips beside them for the curve."""
        return open_corpus(merged(self.options.data, self.trained_on, self.work / "corpus"))

    @cached_property
    def labelled(self) -> Corpus:
        table = self.corpus.subset("train").table
        return self.corpus.subset(clips=table["clip"][table["speaker"] != ""].tolist())

    @cached_property
    def unlabelled(self) -> Corpus:
        table = self.corpus.subset("train").table
        long = table["duration_s"] >= self.dino.min_seconds
        return self.corpus.subset(clips=table["clip"][long].tolist())

    def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """A cell of the JSON, made where it is not there yet."""
        cells = self.found["cells"]
        if name not in cells:
            print(f"… {name}", flush=True)
            cells[name] = json.loads(json.dumps(make()))
            self.options.out.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.options.out.with_suffix(".tmp")
            temporary.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, self.options.out)
        return cells[name]

    def run(self, name: str, recipe: str) -> tuple[runs.Run, bool]:
        """The run folder of a training, and whether it is finished."""
        place = self.work / name
        found = sorted(place.glob("*/config.json"))
        if found:
            run = runs.Run(found[0].parent)
            return run, (run.checkpoints / "final").is_dir()
        config = {"command": "train", "recipe": recipe, "name": name}
        return runs.create(config, place), False

    def trained(self, system: str, seed: int) -> Encoder:
        """A trained network; its training goes on where it was cut."""
        name = f"{system.replace(' ', '-')}-{seed}"
        if system == "pseudo labels":
            return self._pseudo(name, seed)
        run, finished = self.run(name, system)
        if not finished and system == "dino":
            config = dataclasses.replace(self.dino, seed=seed)
            dino.train(config, self.options.network, self.corpus.root, run, resume=True)
        elif not finished:
            settings = dataclasses.replace(self.x_vector, seed=seed)
            labels = self.labelled.table["speaker"].to_numpy()
            fresh = self.untrained(seed)
            supervised.train(fresh, self.labelled, labels, settings, run, resume=True)
        return encoders.load(run.path)

    def untrained(self, seed: int) -> Encoder:
        config: Dino = self.dino
        return speaker.build(
            self.options.network,
            channels=config.channels or None,
            dim=config.dim or None,
            pooling=config.pooling,
            seed=seed,
        )

    def _pseudo(self, name: str, seed: int) -> Encoder:
        told = self.work / f"{name}.json"
        if not told.exists():
            shutil.rmtree(self.work / name, ignore_errors=True)
            settings = dataclasses.replace(PSEUDO, seed=seed)
            truth = self.unlabelled.table["speaker"].to_numpy()
            start = self.trained("dino", seed)
            history = pseudo_labels.rounds(
                start, self.unlabelled, settings, self.work / name, truth
            )
            told.write_text(json.dumps(history), encoding="utf-8")
        history = json.loads(told.read_text(encoding="utf-8"))
        told_of = [{k: v for k, v in row.items() if k != "encoder"} for row in history]
        self.keep(f"rounds, seed {seed}", lambda: told_of)  # without the place on this machine
        return encoders.load(history[-1]["encoder"])

    def embed(self, system: str, seed: int) -> Callable[[Corpus], np.ndarray]:
        """What turns clips into vectors."""
        if system == "log-mel":
            return lambda clips: voices.vectors(waves_of(clips), log_mel)
        if system == "untrained":
            encoder = self.untrained(seed)
        else:
            mini = system == "mini"
            encoder = encoders.load(self.options.encoder) if mini else self.trained(system, seed)

        def vectors(clips: Corpus) -> np.ndarray:
            with monitor.evaluating(encoder):
                return voices.vectors(waves_of(clips), encoder.embed)

        return vectors

    def verify(self, system: str, seed: int) -> dict[str, Any]:
        """Scores of every test, by cosine and by PLDA, and the Numbers made of them."""
        vectors = self.embed(system, seed)
        back_end = plda.fit(vectors(self.labelled), self.labelled.table["speaker"].to_numpy())
        found: dict[str, Any] = {}
        for name in self.tests:
            clips, trials, of = self.trials(name)
            x = vectors(clips)
            scored = {
                "cosine": verification.cosine_scores(x, trials),
                "PLDA": back_end.scores(x, trials),
            }
            np.save(self.scores(system, seed, name), scored["cosine"])
            found[name] = {
                by: as_dicts(verification.numbers(scores, trials, of, by))
                for by, scores in scored.items()
            }
        return found

    def scores(self, system: str, seed: int, name: str) -> Path:
        """Where the cosines of a test are kept, for paired comparisons."""
        return self.work / f"scores-{system.replace(' ', '-')}-{seed}-{name}.npy"

    def trials(self, name: str) -> tuple[Corpus, verification.Trials, Any]:
        """Clips of a test, pairs of them, and the speakers its intervals draw."""
        corpus, split, apart = self.tests[name]
        clips = open_corpus(self.options.data / corpus)
        clips = clips if split == "all" else clips.subset(split)
        speakers = clips.table["speaker"].to_numpy()
        words = None if apart is None else clips.table[apart].to_numpy()
        trials = verification.trials_from_factor(speakers, words, TRIALS)
        return clips, trials, units(len(speakers), speakers)

    def change(self, before: str, after: str, seed: int, name: str) -> dict[str, Any]:
        """After minus before by cosine, on the same pairs."""
        _, trials, of = self.trials(name)
        for system in (before, after):
            if not self.scores(system, seed, name).exists():
                self.verify(system, seed)  # the JSON came without the work folder
        scores = [np.load(self.scores(system, seed, name)) for system in (before, after)]
        return as_dicts(verification.change(scores[0], scores[1], trials, of))


def main(options: Options) -> None:
    """Train, measure, write the JSON and the table."""
    bench = Bench(options)
    for seed in range(options.seeds):
        for system in SYSTEMS:
            make = partial(bench.verify, system, seed)
            bench.keep(f"verification, {system}, seed {seed}", make)
        for before in ("x-vector", "log-mel"):
            for name in bench.tests:
                make = partial(bench.change, before, "dino", seed, name)
                bench.keep(f"change, dino after {before}, {name}, seed {seed}", make)
    if options.ship:
        ship(bench, options.ship)
    if not options.quick and not options.choose:
        study(bench)
    text = table(bench)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def study(bench: Bench) -> None:
    """The transfer study: every cell for DINO and the x-vector, the first for no training."""
    emotions = open_corpus(bench.options.data / "emodb")
    for system in ("dino", "x-vector", "untrained"):
        for name, changes in CELLS.items():
            if system == "untrained" and changes:
                continue

            start = partial(bench.trained, system, 0)
            if system == "untrained":
                start = partial(bench.untrained, 0)
            settings = dataclasses.replace(TRANSFER, **changes)
            make = partial(tuned, start, emotions, settings, bench.work / "transfer")
            bench.keep(f"transfer, {system}, {name}", make)


def tuned(
    start: Callable[[], Encoder], emotions: Corpus, settings: Transfer, folder: Path
) -> dict[str, Any]:
    """One cell of the transfer study; its trainings are thrown away."""
    row = transfer.study(start, emotions, "emotion", [settings], folder)[0]
    shutil.rmtree(folder, ignore_errors=True)
    return row


def ship(bench: Bench, folder: Path) -> None:
    """The DINO encoder of seed 0, in 16 bits."""
    encoder = bench.trained("dino", 0)
    told = {**encoder.info.refinement}
    told["provenance"] = {**told.get("provenance", {}), "trained_on": list(bench.trained_on)}
    encoder.save(folder, told, half=True)


def merged(data: Path, names: tuple[str, ...], folder: Path) -> Path:
    """One corpus of several: their train clips, and dev clips to follow the training by."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for name in names:
        table = pd.read_csv(data / name / "clips.csv", dtype=str).fillna("")
        if "split" not in table:
            table["split"] = "train"
        table = table[table["split"].isin(["train", "dev"])]
        table["path"] = name + "/" + table["path"]
        tables.append(table.assign(corpus=name))
        if not (folder / name).exists():
            (folder / name).symlink_to((data / name).resolve(), target_is_directory=True)
    columns = ["path", "speaker", "corpus", "split"]
    pd.concat(tables)[columns].to_csv(folder / "clips.csv", index=False)
    return folder


def waves_of(clips: Corpus) -> list[np.ndarray]:
    return [clips.waveform(clip) for clip in clips.table["clip"]]


def log_mel(waveforms: Any, lengths: Any) -> Any:
    """Mean and deviation over time of 80 log-mel bands."""
    return stats_pool(fbank.log_mel(waveforms), fbank.frames_of(lengths))


def as_dicts(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: number.as_dict() for name, number in numbers.items()}


def table(bench: Bench) -> str:
    """Everything measured, as Markdown."""
    cells = bench.found["cells"]
    lines = [
        "EER [95 % interval by speaker] and minDCF at a target prior of 0.05; lower is better.",
        "",
        "| voices | back-end | " + " | ".join(SYSTEMS) + " |",
        "| --- " * (2 + len(SYSTEMS)) + "|",
    ]
    for seed in range(bench.options.seeds):
        found = [cells[f"verification, {system}, seed {seed}"] for system in SYSTEMS]
        for name, (_, split, _) in bench.tests.items():
            where = f"{name}, {split}" + (f", seed {seed}" if bench.options.seeds > 1 else "")
            for by in ("cosine", "PLDA"):
                numbers = [side[name][by] for side in found]
                shown = [f"{cell(n['eer'])}; {n['min_dcf_05']['value']:.2f}" for n in numbers]
                lines.append(f"| {where} | {by} | " + " | ".join(shown) + " |")
    lines += ["", "| change of the EER by cosine | after the x-vector | after log-mel |"]
    lines += ["| --- " * 3 + "|"]
    for seed in range(bench.options.seeds):
        for name in bench.tests:
            shown = [
                cell(cells[f"change, dino after {before}, {name}, seed {seed}"]["eer"], "+")
                for before in ("x-vector", "log-mel")
            ]
            lines.append(f"| dino, {name}, seed {seed} | " + " | ".join(shown) + " |")
    for seed in range(bench.options.seeds):
        for row in cells.get(f"rounds, seed {seed}", []):
            lines += [
                "",
                f"Pseudo labels, seed {seed}, round {row['round']}: {row['clusters']} clusters of "
                f"{row['kept']} of {row['of']} clips, purity {row.get('purity', 0):.2f}, NMI "
                f"{row.get('nmi', 0):.2f} (speakers, where known).",
            ]
    lines += _transfer_lines(cells)
    return "\n".join(lines) + "\n"


def _transfer_lines(cells: dict[str, Any]) -> list[str]:
    names = [name for name in CELLS if f"transfer, dino, {name}" in cells]
    if not names:
        return []
    lines = ["", "Emotions of emodb, fine-tuned, 5 folds of speakers: UAR [interval]; micro-F1."]
    lines += ["", "| start | " + " | ".join(names) + " |", "| --- " * (1 + len(names)) + "|"]
    for system in ("dino", "x-vector", "untrained"):
        shown = []
        for name in names:
            row = cells.get(f"transfer, {system}, {name}")
            numbers = row["numbers"] if row else None
            shown.append(
                f"{cell(numbers['uar'])}; {numbers['accuracy']['value']:.3f}" if numbers else "–"
            )
        lines.append(f"| {system} | " + " | ".join(shown) + " |")
    return lines


def cell(number: dict[str, Any], sign: str = "") -> str:
    value, low, high = (format(number[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main(tyro.cli(Options))
