"""The systems of the benchmark of dino, their corpora, and how each is trained and measured."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import tyro
from processes import PROCESSES

from refine import encoders, monitor, paths, pseudo_labels, runs, supervised, transfer, voices
from refine.corpus import Corpus, open_corpus
from refine.encoders import Encoder, fbank, speaker
from refine.encoders.pooling import stats_pool
from refine.files import write_json
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
SEEDED = ("untrained", "x-vector", "dino")  # measured again with each further seed
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
    """Trainings of DINO and the x-vector; see docs/measured.md for how long one takes."""
    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """A fifth of the epochs, and no transfer study: to see that all works."""
    choose: tyro.conf.FlagCreatePairsOff[bool] = False
    """Measure on development speakers, and on emodb, which is then left out of the training."""
    ship: Path | None = None
    """Write the DINO encoder of seed 0 here, in 16 bits."""
    work: Path = paths.cache() / "benchmarks" / "dino"
    """Where trainings are kept, so that a cut one goes on."""
    jobs: int = PROCESSES
    """Processes at a time, of one thread each."""
    out: Path = paths.ROOT / "docs" / "measured" / "dino.json"
    """Where the numbers are written; the table stands beside it as Markdown."""


class Systems:
    """Corpora and systems, each made once in a process."""

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

    @property
    def settings(self) -> dict[str, Any]:
        """What a number depends on."""
        return {
            "network": self.options.network,
            "dino": dataclasses.asdict(self.dino),
            "x-vector": dataclasses.asdict(self.x_vector),
            "pseudo labels": dataclasses.asdict(PSEUDO),
            "transfer": dataclasses.asdict(TRANSFER),
            "trained on": list(self.trained_on),
            "tests": {name: list(test) for name, test in self.tests.items()},
        }

    @property
    def trained_on(self) -> tuple[str, ...]:
        left_out = ("emodb",) if self.options.choose else ()
        return tuple(name for name in TRAINED_ON if name not in left_out)

    def prepare(self) -> None:
        """Write what all processes read."""
        merged(self.options.data, self.trained_on, self.work / "corpus")

    @cached_property
    def corpus(self) -> Corpus:
        """Train clips of all corpora in one, dev clips beside them for the curve."""
        return open_corpus(self.work / "corpus")

    @cached_property
    def labelled(self) -> Corpus:
        table = self.corpus.subset("train").table
        return self.corpus.subset(clips=table["clip"][table["speaker"] != ""].tolist())

    @cached_property
    def unlabelled(self) -> Corpus:
        table = self.corpus.subset("train").table
        long = table["duration_s"] >= self.dino.min_seconds
        return self.corpus.subset(clips=table["clip"][long].tolist())

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
            return encoders.load(self.rounds(seed)[-1]["encoder"])
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

    def rounds(self, seed: int) -> list[dict[str, Any]]:
        """Rounds of pseudo labels after DINO, and where their encoders are."""
        name = f"pseudo-labels-{seed}"
        told = self.work / f"{name}.json"
        if not told.exists():
            shutil.rmtree(self.work / name, ignore_errors=True)
            settings = dataclasses.replace(PSEUDO, seed=seed)
            truth = self.unlabelled.table["speaker"].to_numpy()
            start = self.trained("dino", seed)
            folder = self.work / name
            history = pseudo_labels.rounds(start, self.unlabelled, settings, folder, truth)
            write_json(told, {"rounds": history})
        return json.loads(told.read_text(encoding="utf-8"))["rounds"]

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
        sides = [(system, seed if system in SEEDED else 0) for system in (before, after)]
        for side in sides:
            if not self.scores(*side, name).exists():
                self.verify(*side)  # the JSON came without the work folder
        scores = [np.load(self.scores(*side, name)) for side in sides]
        return as_dicts(verification.change(scores[0], scores[1], trials, of))

    def transferred(self, system: str, changes: dict[str, Any]) -> dict[str, Any]:
        """One cell of the transfer study; its trainings are thrown away."""
        fresh = system == "untrained"
        start = partial(self.untrained, 0) if fresh else partial(self.trained, system, 0)
        emotions = open_corpus(self.options.data / "emodb")
        settings = dataclasses.replace(TRANSFER, **changes)
        with TemporaryDirectory(dir=self.work) as folder:
            return transfer.study(start, emotions, "emotion", [settings], Path(folder))[0]

    def ship(self, folder: Path) -> None:
        """The DINO encoder of seed 0, in 16 bits."""
        encoder = self.trained("dino", 0)
        told = {**encoder.info.refinement}
        told["provenance"] = {**told.get("provenance", {}), "trained_on": list(self.trained_on)}
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
