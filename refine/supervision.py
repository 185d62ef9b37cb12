"""Labels for a supervised recipe: which clips train, which are held out, and what is seen on them.

Everything that labels can make impossible is refused here, before anything is trained. No torch.
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from refine import adapter, encoders, head_fitting, heads, probes, softmax
from refine.corpus import Corpus
from refine.metrics import accuracy, calibration, classes
from refine.runs import Run

FEWEST = calibration.FEWEST  # held-out clips that an adapter is calibrated on
HELD_OUT = 0.2  # of the train speakers, where the corpus' own dev split cannot be used
STRENGTH = 1e-2  # of the probe while training; picked anew in an evaluation
ACCEPTED = 3.0  # deviations above the mean positive distance that a pair may have (paper 1's code)


class SupervisionError(ValueError):
    """Labels that cannot be trained on. The message says what was found and what to do."""


class Stopped(Exception):
    """A stop was asked for before the first step."""


@dataclass(frozen=True)
class Rows:
    """Rows of a corpus' table, rising: clips that are trained on, and clips that are held out."""

    train: Int[np.ndarray, " train"]
    held_out: Int[np.ndarray, " held"]
    notes: tuple[str, ...] = ()  # what a user should know of how they were chosen


class Vectors(Protocol):
    """What can embed clips by their rows."""

    def vectors(self, rows: Int[np.ndarray, " clips"]) -> Float[np.ndarray, "clips dim"]:
        """One vector a clip, in evaluation mode."""


class Teller:
    """Says in the run's status what is being prepared, and heeds a stop meanwhile."""

    def __init__(self, run: Run):
        self.run, self.said = run, -math.inf

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        if self.run.stop_requested:
            raise Stopped
        if done is None or time.monotonic() - self.said > 1:
            self.said = time.monotonic()
            self.run.write_status(message=what if done is None else f"{what}, {done} of {total}")

    def note(self, text: str) -> None:
        """A line in the log."""
        self.run.write_log(text)


def resolve_apart(corpus: Corpus, factor: str, apart: str) -> str:
    """The column that positives differ in and that is apart in training and validation, or "none".

    auto: speaker; for the factor speaker the content where it is known.
    Raises: `SupervisionError` where that column is not there.
    """
    table = corpus.table
    known = [name for name in corpus.factors if name != factor]
    if apart == "auto":
        apart = "speaker" if factor != "speaker" else "content" if "content" in known else "none"
    if apart == "none" or apart in known:
        return apart
    if apart in table and (table[apart] == "").all():
        apart = f"{apart} (empty)"
    others = f"; it has {', '.join(known)}" if known else ""
    raise SupervisionError(
        f"{corpus.name}: no column {apart}, whose clips must be apart in training and validation"
        f"{others}; add it to clips.csv, or set apart to another column, or to none"
    )


def rows_of(corpus: Corpus, factor: str, apart: str, seed: int) -> Rows:
    """Train rows, and held-out rows of other speakers (or another column `apart`, or "none").

    Held out is the dev split where it holds two of the trained classes; else some speakers of the
    train split, drawn with the seed. Clips without a class are left out.
    Raises: `SupervisionError` for a factor that is not there or has one class, a class with one
        clip, or no speaker to spare.
    """
    table = corpus.table
    if factor not in corpus.factors:
        there = ", ".join(corpus.factors) or "none"
        raise SupervisionError(f"{factor}: no such factor in {corpus.name}; there is {there}")
    labels = table[factor].to_numpy(dtype=str)
    split = table["split"].to_numpy(dtype=str)
    notes = []
    if unknown := int((labels[split == "train"] == "").sum()):
        notes.append(f"{unknown} train clips have no {factor} and are left out")
    train = np.flatnonzero((split == "train") & (labels != ""))
    refuse_classes(corpus.name, factor, labels[train])
    dev = np.flatnonzero((split == "dev") & np.isin(labels, labels[train]))
    if len(set(labels[dev])) < 2 or _shared(table, apart, train, dev):
        train, dev = _spare(corpus, factor, apart, train, labels, seed)
        notes.append(f"held out: {len(dev)} of the train clips, by {apart}, drawn with the seed")
    if len(dev) < FEWEST:
        raise SupervisionError(
            f"{factor}: {len(dev)} held-out clips of {corpus.name}; at least {FEWEST} are needed "
            "to stop and calibrate the adapter, add recordings of another speaker"
        )
    return Rows(train, dev, tuple(notes))


def refuse_classes(name: str, factor: str, labels: np.ndarray) -> None:
    """Raise `SupervisionError` for less than two classes, or a class with one clip."""
    found, counts = np.unique(labels, return_counts=True)
    if len(found) < 2:
        what = f"one class ({found[0]})" if len(found) else "no clip of a known class"
        raise SupervisionError(
            f"{factor}: {what} in the train split of {name}; two or more are needed, choose "
            "another factor or add recordings"
        )
    if (counts < 2).any():
        alone = found[counts < 2]
        raise SupervisionError(
            f"{factor}: {len(alone)} class{'es' if len(alone) > 1 else ''} with one clip in the "
            f"train split of {name} ({', '.join(alone[:3])}{', …' if len(alone) > 3 else ''}); "
            "each needs two or more, add recordings or leave the class empty"
        )


def refuse_short(corpus: Corpus, rows: np.ndarray, min_samples: int, encoder: str) -> None:
    """Raise `SupervisionError` for clips shorter than one frame."""
    from refine.audio import SAMPLE_RATE

    table = corpus.table.iloc[rows]
    short = table[table["duration_s"] * SAMPLE_RATE < min_samples]
    if len(short):
        raise SupervisionError(
            f"{short['clip'].iloc[0]}: {short['duration_s'].iloc[0]:.3f} s is shorter than one "
            f"frame of {encoder} ({min_samples / SAMPLE_RATE:.3f} s); leave out the {len(short)} "
            "clips that are"
        )


class HeldOut:
    """The same train and held-out clips, looked at from time to time while training."""

    def __init__(
        self, space: Vectors, corpus: Corpus, factor: str, rows: Rows, clips: int, seed: int
    ):
        self.space = space
        random = np.random.default_rng(seed)
        labels = corpus.table[factor].to_numpy(dtype=str)
        drawn = [np.sort(random.permutation(part)[:clips]) for part in (rows.train, rows.held_out)]
        self.train, self.held_out = (part[_in_pairs(labels[part])] for part in drawn)
        self.y, self.y_held_out = labels[self.train], labels[self.held_out]

    def measure(self) -> dict[str, float]:
        """How the classes of held-out clips lie, and how many are told by the train clips.

        `spread_ratio`, `davies_bouldin`: see `refine.metrics.classes`; `uar`: of a linear probe
        fitted on train clips; `pairs_told`: mean of the shares of positive pairs closer and of
        negative pairs farther than mean + 3 deviations of the positive cosine distances, as the
        paper's code watches it (there on test clips); `n`: held-out clips.
        """
        x, seen = self.space.vectors(self.held_out), self.space.vectors(self.train)
        found: dict[str, float] = {"n": len(x)}
        if len(set(self.y)) > 1 and len(x):
            probe = softmax.fit(seen, self.y, STRENGTH, "balanced")
            found["uar"] = accuracy.uar(self.y_held_out, probe.predict(x))
        if len(set(self.y_held_out)) > 1:
            try:
                found["spread_ratio"] = classes.spread_ratio(x, self.y_held_out)
                found["davies_bouldin"] = classes.davies_bouldin(x, self.y_held_out)
            except classes.ClassesError:  # collapsed: the training goes on and the loss shows it
                pass
            found["pairs_told"] = pairs_told(x, self.y_held_out)
        return found


def pairs_told(x: Float[np.ndarray, "n d"], labels: np.ndarray) -> float:
    """Mean share of pairs told right by one threshold on the cosine distance (Lux et al.'s code).

        t = mean(positive distances) + 3 std(positive distances)

    of all pairs of clips. 0.5 is chance, 1 best. Raises: `ValueError` where there is no pair of a
    kind.
    """
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    pairs = np.triu_indices(len(x), 1)
    distance = 1 - (unit @ unit.T)[pairs]
    alike = (labels[:, None] == labels[None, :])[pairs]
    if alike.all() or not alike.any():
        raise ValueError(f"pairs of one kind alone among {len(x)} clips")
    threshold = distance[alike].mean() + ACCEPTED * distance[alike].std()
    return float(
        ((distance[alike] <= threshold).mean() + (distance[~alike] > threshold).mean()) / 2
    )


def fit_adapter(
    space: Vectors, corpus: Corpus, factor: str, rows: Rows, config: adapter.AdapterConfig
) -> adapter.Adapter:
    """Step 2 on the frozen space: fitted on the train rows, stopped on the held-out ones."""
    labels = corpus.table[factor].to_numpy(dtype=str)
    x, held_out = space.vectors(rows.train), space.vectors(rows.held_out)
    return adapter.fit(x, labels[rows.train], held_out, labels[rows.held_out], config)


def as_head(
    fitted: adapter.Adapter,
    space: Vectors,
    corpus: Corpus,
    factor: str,
    rows: Rows,
    folder: Path,
) -> heads.Head:
    """The adapter as a head of the encoder in `folder`: calibrated on the held-out clips it was
    stopped on, measured on the test split.
    """
    table = corpus.table
    labels = table[factor].to_numpy(dtype=str)
    test = np.flatnonzero((table["split"] == "test") & np.isin(labels, labels[rows.train]))
    split = probes.Split(rows.train, rows.held_out, test, "held-out speakers stopped it too")
    x = np.zeros((len(table), len(fitted.mean)))
    used = np.concatenate([rows.held_out, test])
    x[used] = space.vectors(used)
    info = encoders.peek(folder)
    about = {
        "factor": factor,
        "strength": 0.0,
        "layer": "projected",
        "pooling": info.pooling,
        "subspace": None,
        "encoder": {"name": info.name, "fingerprint": info.fingerprint},
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint},
    }
    head = head_fitting._head(fitted, x, table, split, heads.PRECISION, about)
    return replace(head, hidden=fitted.hidden, hidden_bias=fitted.hidden_bias)


def _shared(table: Any, apart: str, train: np.ndarray, dev: np.ndarray) -> bool:
    """Whether a speaker is in both."""
    if apart == "none":
        return False
    values = table[apart].to_numpy(dtype=str)
    return bool((set(values[train]) & set(values[dev])) - {""})


def _spare(
    corpus: Corpus, factor: str, apart: str, train: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train rows without some speakers, and those of these speakers; every class stays in train."""
    table = corpus.table
    groups = np.arange(len(table)).astype(str)
    if apart != "none":
        own = table[apart].to_numpy(dtype=str)
        groups = np.where(own == "", np.char.add("#", groups), own)
    names = np.unique(groups[train])
    if len(names) < 2:
        raise SupervisionError(
            f"{corpus.name}: one {apart} ({names[0]}) in the train split and no usable dev split, "
            f"so none can be held out to stop the adapter: add another {apart}, or apart none"
        )
    held: set[str] = set()
    wanted = max(1, round(HELD_OUT * len(names)))
    for name in np.random.default_rng(seed).permutation(names):
        rest = train[~np.isin(groups[train], [*held, name])]
        enough = all((labels[rest] == c).sum() >= 2 for c in np.unique(labels[train]))
        if enough:
            held.add(str(name))
        if len(held) >= wanted and np.isin(groups[train], list(held)).sum() >= FEWEST:
            break
    if not held:
        raise SupervisionError(
            f"{factor}: every {apart} is needed for two train clips of each class, so none can be "
            f"held out to stop the adapter; add recordings of another {apart}, or set apart to none"
        )
    dev = np.isin(groups[train], list(held))
    return train[~dev], train[dev]


def _in_pairs(labels: np.ndarray) -> np.ndarray:
    """A mask of the clips whose class has two or more."""
    found, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return counts[codes] >= 2 if len(found) else np.zeros(0, dtype=bool)
