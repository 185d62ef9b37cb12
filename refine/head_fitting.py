"""Fit a task head: train speakers fit it, dev speakers pick and calibrate it, test ones measure it.

    head = fit(encoders.load("mini"), open_corpus("../shared/data/arabic_commands"), "content")
    heads.save(head, "mini")

It stays as fitted on train: what was calibrated is what answers.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from refine import probes
from refine.corpus import Corpus
from refine.embeddings import extract
from refine.heads import PRECISION, Head, HeadError, HeadInfo, Progress, View, block
from refine.metrics import accuracy, calibration
from refine.metrics.intervals import Number, from_values

if TYPE_CHECKING:
    import pandas as pd

    from refine.encoders import Encoder

BEST = "best"  # the layer with the highest UAR on dev


def fit(
    encoder: "Encoder",
    corpus: Corpus,
    factor: str,
    *,
    layer: str | int | None = None,
    pooling: str | None = None,
    subspace: str | None = None,
    precision: float = PRECISION,
    seed: int = 0,
    progress: Progress | None = None,
) -> Head:
    """A calibrated head for a factor of a corpus, on frozen embeddings.

    The strength of the probe (and the layer, where it is "best") is the one with the highest UAR on
    dev; its temperature is fitted there, and its threshold is chosen there: the lowest above which
    a share `precision` of the answers is right.

    Args:
        layer: an index, "mean", "projected", or "best"; None is the checkpoint's own.
        subspace: a named block of the projected vector.
    Raises: `HeadError`, `ProbeError`, `CorpusError` or `EmbeddingsError`, one sentence each.
    """
    if not 0 < precision <= 1:
        raise HeadError(f"precision: got {precision}; expected more than 0, at most 1, as 0.8")
    view = _view(encoder, layer, pooling, subspace)
    probes.split_of(corpus.table, factor, seed)  # refuses before anything is embedded
    table = extract(
        encoder,
        corpus,
        layer="all" if view.layer == BEST else view.layer,
        pooling=view.pooling,
        progress=(lambda *n: progress("embedding", *n)) if progress else None,
    )
    rows = corpus.table.set_index("clip").loc[table.table["clip"]].reset_index()
    truth = rows[factor].to_numpy(dtype=object)
    split = probes.split_of(rows, factor, seed)
    names = table.layers if view.layer == BEST else [str(view.layer)]
    spaces = {name: block(table.vectors(name), encoder, view.subspace) for name in names}
    name, probe, strength = _pick(spaces, truth, split, progress)
    chosen = int(name) if name.isdecimal() else name
    return _head(
        probe,
        spaces[name],
        rows,
        split,
        precision,
        {
            "factor": factor,
            "strength": strength,
            "layer": chosen,
            "pooling": view.pooling,
            "subspace": view.subspace,
            "encoder": {"name": str(encoder.name), "fingerprint": encoder.fingerprint},
            "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint},
        },
    )


def _view(
    encoder: "Encoder", layer: str | int | None, pooling: str | None, subspace: str | None
) -> View:
    """The vector asked for. Raises `ValueError` naming what the encoder has."""
    if layer == BEST:
        if subspace not in (None, "all"):
            raise HeadError(f"layer: got best with subspace {subspace}; leave one of them out")
        return View(BEST, pooling or encoder.info.pooling)
    layer, pooling, subspace = encoder.resolve(layer, pooling, subspace)
    return View(layer, pooling, None if subspace == "all" else subspace)


def _pick(
    spaces: dict[str, Float[np.ndarray, "n dim"]],
    truth: np.ndarray,
    split: probes.Split,
    progress: Progress | None,
) -> tuple[str, probes.LinearProbe, float]:
    """The layer and strength with the highest UAR on dev, the later layer of equals; its probe."""
    found = []
    for done, (name, x) in enumerate(spaces.items()):
        if progress:
            progress("fitting", done, len(spaces))
        found.append((probes.best(x, truth, split), name))
    pick, name = max(found, key=lambda item: item[0].uar)
    return (
        name,
        probes.fit(spaces[name][split.train], truth[split.train], pick.strength),
        pick.strength,
    )


def _head(
    probe: probes.LinearProbe,
    x: Float[np.ndarray, "n dim"],
    rows: "pd.DataFrame",
    split: probes.Split,
    precision: float,
    about: dict[str, Any],
) -> Head:
    """Calibrate on dev, measure on test."""
    if len(split.dev) < calibration.FEWEST:
        raise HeadError(
            f"{about['factor']}: {len(split.dev)} dev clips; at least {calibration.FEWEST} are "
            "needed to calibrate a head, add recordings of more speakers"
        )
    truth = rows[about["factor"]].to_numpy(dtype=object).astype(str)
    codes = {name: probe.codes(truth[getattr(split, name)]) for name in ("dev", "test")}
    logits = probe.logits(x)
    temperature = calibration.fit_temperature(logits[split.dev], codes["dev"])
    chances = calibration.softmax(logits[split.dev], temperature)
    threshold = calibration.choose_threshold(
        chances.max(axis=1), chances.argmax(axis=1) == codes["dev"], precision
    )
    speakers = rows["speaker"].to_numpy(dtype=object)[split.test] if "speaker" in rows else None
    info = HeadInfo(
        labels=tuple(map(str, probe.classes)),
        threshold=threshold.value,
        precision=precision,
        dev_precision=threshold.precision,
        dev_coverage=threshold.coverage,
        temperature=temperature,
        clips={name: len(getattr(split, name)) for name in ("train", "dev", "test")},
        measured=_measure(
            logits[split.test],
            codes["test"],
            probe.classes,
            temperature,
            threshold.value,
            speakers,
            _commonest(truth[split.train]),
        ),
        notes=(split.how, *(f"{name}: left out, {why}" for name, why in split.left_out.items())),
        **about,
    )
    return Head(info, probe.weights, probe.bias, probe.mean, probe.scale)


def _measure(
    logits: Float[np.ndarray, "n k"],
    codes: Int[np.ndarray, " n"],
    classes: np.ndarray,
    temperature: float,
    threshold: float,
    speakers: np.ndarray | None,
    guess: str,
) -> dict[str, dict[str, Any]]:
    """Numbers of test clips: accuracy, uar, macro_f1; nll and ece before and after; answers."""
    if len(codes) < 2:
        return {}
    chances = calibration.softmax(logits, temperature)
    said = chances.argmax(axis=1)
    numbers: dict[str, Number] = accuracy.measure(
        classes[codes], classes[said], classes, speakers, guess=guess, what=" by the head"
    )
    for suffix, value in (("_before", 1.0), ("", temperature)):
        found = calibration.measure(logits, codes, value, speakers)
        numbers |= {f"{name}{suffix}": number for name, number in found.items()}
    sure = chances.max(axis=1) >= threshold
    numbers["coverage"] = from_values(
        sure.astype(float),
        f"Share of test clips that get an answer (probability {threshold:.2f} or more).",
        speakers,
        range=(0.0, 1.0),
    )
    if sure.sum() >= 2:
        numbers["precision"] = from_values(
            (said == codes)[sure].astype(float),
            f"Share of right answers among test clips with probability {threshold:.2f} or more.",
            None if speakers is None else speakers[sure],
            range=(0.0, 1.0),
            direction="higher",
        )
    return {name: number.as_dict() for name, number in numbers.items()}


def _commonest(values: np.ndarray) -> str:
    names, counts = np.unique(values.astype(str), return_counts=True)
    return str(names[counts.argmax()])
