"""The transfer study of paper 2: fine-tune an utterance encoder to a factor, schedule by schedule.

    tuned = fine_tune(encoder, train_clips, "emotion", Transfer(), folder)
    predicted = predict(tuned, test_clips)
    rows = study(lambda: encoders.load(name), corpus, "emotion", [Transfer(), …], folder)

Two stages (the head and the last affine layers first, then everything) against all at once, by the
length of the chunks and with or without noise and rooms. Tested on whole clips of voices that no
fold trained on. Learning rates and epochs of the paper are UNFOUND; these are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from refine import runs, supervised, surroundings
from refine.corpus import Corpus
from refine.encoders import Encoder
from refine.metrics import accuracy
from refine.monitor import evaluating
from refine.splits import ProbeError
from refine.supervised import Classifier, Supervised
from refine.voices import vectors


@dataclass(frozen=True)
class Transfer:
    """One cell of the study."""

    schedule: Literal["two_stage", "all_at_once"] = "two_stage"
    """two_stage: `head_epochs` of the head and the last affine layers, then `all_epochs` of all.
    all_at_once: as many epochs of all in one go."""
    seconds: float = 4.0  # of a training chunk; a shorter clip stays whole
    augmented: bool = True  # noise and rooms in training
    head_epochs: float = 10.0
    all_epochs: float = 10.0
    head_rate: float = 1e-3
    encoder_scale: float = 0.1  # of the encoder's learning rate, beside the head's
    batch_size: int = 32
    noise: str = ""
    rooms: str = ""
    layers: str = "mean"
    pooling: str = "stats"
    seed: int = 0

    def stages(self) -> list[Supervised]:
        """What is trained, one after the other."""
        share = 1.0 if self.augmented else 0.0
        both = Supervised(
            loss="softmax",
            seconds=self.seconds,
            noise_share=share * surroundings.NOISE_SHARE,
            room_share=share * surroundings.ROOM_SHARE,
            noise=self.noise,
            rooms=self.rooms,
            batch_size=self.batch_size,
            learning_rate=self.head_rate,
            encoder_scale=self.encoder_scale,
            weight_decay=0.01,
            clip_norm=5.0,
            layers=self.layers,
            pooling=self.pooling,
            seed=self.seed,
        )
        if self.schedule == "all_at_once":
            return [replace(both, epochs=self.head_epochs + self.all_epochs)]
        last = replace(both, stage="last", epochs=self.head_epochs, encoder_scale=1.0)
        return [last, replace(both, epochs=self.all_epochs)]


def fine_tune(
    encoder: Encoder, clips: Corpus, factor: str, settings: Transfer, folder: Path
) -> Classifier:
    """Train the encoder, in place, on the clips whose factor is known.

    Raises: `ProbeError` for a factor with less than two known classes.
    """
    clips = _known(clips, factor)
    labels: Any = clips.table[factor].tolist()
    classifier: Any = encoder
    for number, stage in enumerate(settings.stages(), 1):
        config = {"command": "train", "recipe": "transfer", "options": asdict(stage)}
        run = runs.create({**config, "name": f"{settings.schedule}-{number}"}, Path(folder))
        told: dict[str, Any] = {"recipe": "transfer", "options": asdict(settings), "factor": factor}
        if encoder.n_layers > 1:
            told |= {"layer": stage.layer, "pooling": stage.pooling}
        _, classifier = supervised.train(classifier, clips, labels, stage, run, refinement=told)
    return classifier


def predict(classifier: Classifier, clips: Corpus) -> np.ndarray:
    """The likeliest class of each clip, heard whole."""
    waves = [clips.waveform(clip) for clip in clips.table["clip"]]
    with evaluating(classifier.encoder), torch.no_grad():
        logits = vectors(waves, classifier.logits)
    return np.array(classifier.classes, dtype=object)[logits.argmax(axis=1)]


def study(
    load: Callable[[], Encoder],
    corpus: Corpus,
    factor: str,
    cells: Sequence[Transfer],
    folder: Path,
    folds: int = 5,
    done: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Each cell over folds of speakers.

    Args:
        load: a fresh encoder of before; called once a fold and cell.
        done: called with each finished row, so that a cut study loses nothing.
    Returns: a row a cell: settings, uar, accuracy (= micro-F1) and macro_f1 as Numbers over all
        clips, each tested once; truth, predicted and speakers for paired comparisons.
    Raises: `ProbeError` for one class, or fewer speakers than folds.
    """
    corpus = _known(corpus, factor)
    sides = speaker_folds(corpus, folds)
    rows = []
    for cell in cells:
        truth = corpus.table[factor].to_numpy(dtype=object)
        predicted = np.full(len(truth), "", dtype=object)
        clips = corpus.table["clip"].to_numpy(dtype=object)
        for side in sides:
            train = corpus.subset(clips=clips[~side].tolist())
            tuned = fine_tune(load(), train, factor, cell, folder)
            predicted[side] = predict(tuned, corpus.subset(clips=clips[side].tolist()))
        numbers = accuracy.measure(truth, predicted, speakers=corpus.speakers, seed=cell.seed)
        row = {
            "settings": asdict(cell),
            "numbers": {name: number.as_dict() for name, number in numbers.items()},
            "truth": truth.tolist(),
            "predicted": predicted.tolist(),
        }
        rows.append(row)
        if done:
            done(row)
    return rows


def speaker_folds(corpus: Corpus, folds: int) -> list[np.ndarray]:
    """Which clips each fold tests: every speaker once, folds of about as many clips."""
    speakers = corpus.speakers
    if speakers is None:
        raise ProbeError(
            f"{corpus.name}: no speaker column, and a test voice must not be in training; add one"
        )
    names, counts = np.unique(speakers.astype(str), return_counts=True)
    if len(names) < folds:
        raise ProbeError(
            f"{corpus.name}: {len(names)} speakers cannot fill {folds} folds; take fewer folds"
        )
    load = np.zeros(folds)
    side = {}
    for place in np.argsort(-counts, kind="stable"):
        fold = int(load.argmin())
        side[names[place]] = fold
        load[fold] += counts[place]
    of = np.array([side[name] for name in speakers.astype(str)])
    return [of == fold for fold in range(folds)]


def _known(corpus: Corpus, factor: str) -> Corpus:
    if factor not in corpus.factors:
        raise ProbeError(
            f"{corpus.name} has no factor {factor}; it has {', '.join(corpus.factors) or 'none'}"
        )
    known = corpus.table[corpus.table[factor] != ""]
    if known[factor].nunique() < 2:
        raise ProbeError(f"{factor}: got one class in {corpus.name}; two or more are needed")
    return corpus.subset(clips=known["clip"].tolist())
