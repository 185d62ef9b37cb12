"""Reshape an encoder's space by the classes of a factor, then an adapter (Lux, Chen, Vu 2022).

    python -m refine train two_step --encoder mini --corpus ../shared/data/emodb --preset mini

Step 1 pulls clips of a class together and classes apart (contrastive) and lets clips of a class
agree in dimensions that say different things (non-contrastive), through a projector that stays part
of the encoder. Step 2 trains a small adapter on the frozen space. arXiv 2211.01964.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from refine import options
from refine.options import OptionError, Range
from refine.recipes import Preset

if TYPE_CHECKING:
    from refine.corpus import Corpus
    from refine.encoders import Encoder
    from refine.runs import Run
    from refine.shaping import Shaping
    from refine.supervision import Rows
    from refine.training import Outcome

SMALL = ("norms", "lora", "none")  # what a small folder beside the base can hold


@dataclass(frozen=True)
class TwoStep:
    """Options of `two_step`. The defaults are the paper's code for emotion (IEMOCAP)."""

    factor: str = "emotion"
    """Column whose classes shape the space: emotion, speaker, accent, noise or any other."""

    contrastive: Literal["triplet", "supcon", "none"] = "triplet"
    """The half that pushes classes apart. triplet: cosine distances with a margin, as in the paper.
    supcon: every clip of the step against all others. none: only the other half."""

    noncontrastive: Literal["barlow_twins", "vicreg", "none"] = "barlow_twins"
    """The half that lets two clips of a class agree, dimension by dimension, and keeps the
    dimensions different. barlow_twins as in the paper, or vicreg. none: only the other half."""

    weight: Annotated[float, Range(0.0, 1000.0)] = 0.05
    """How much the non-contrastive half counts beside the contrastive one, which counts 1. The
    former starts at about `dim`, the latter at `margin`."""

    margin: Annotated[float, Range(0.0, 2.0)] = 1.0
    """By how much a negative should be farther than the positive, in cosine distance (0 to 2)."""

    temperature: Annotated[float, Range(0.001, 10.0)] = 0.1
    """Sharpness of supcon. Low: only the most similar other clip counts. High: all count alike."""

    offdiagonal: Annotated[float, Range(0.0, 1.0)] = 5.1e-4
    """Weight in barlow_twins of two dimensions that say the same. With fewer than `dim` + 1 pairs
    in a step it can never be satisfied, so it is small."""

    dim: Annotated[int, Range(32, 4096)] = 64
    """Width of the projector and of the refined vector. A narrow one can go silent altogether."""

    roles: Literal["apart", "shared"] = "apart"
    """apart: a triplet has three clips of its own, as in the paper. shared: the clips of a step
    play anchor, positive and negative by turns, so that as many triplets cost a third."""

    negatives: Literal["any", "same"] = "any"
    """Where a negative comes from. any: another class, whoever speaks. same: another class of the
    same speaker (`apart`) where there is one, so that the voice is no way out."""

    apart: str = "auto"
    """Column in which the two clips of a positive pair differ wherever they can, and whose values
    are either trained on or held out. auto: speaker, or for the factor speaker the content where it
    is known. none: nothing."""

    steps: Annotated[int, Range(1, 1_000_000)] = 17_300
    """Optimiser steps of step 1. 17300 is 100 passes over about 5530 clips (IEMOCAP, 4 classes)."""

    batch_size: Annotated[int, Range(2, 4096)] = 32
    """Triplets in a step. More let barlow_twins tell dimensions apart; memory grows with it."""

    learning_rate: Annotated[float, Range(1e-8, 1.0)] = 1e-4
    """Step size of Adam, for the projector."""

    encoder_rate: Annotated[float, Range(0.0001, 100.0)] = 1.0
    """Step size of the encoder's own weights, as a multiple of `learning_rate`."""

    weight_decay: Annotated[float, Range(0.0, 1.0)] = 5e-4
    """L2 in Adam: added to the gradient, as in the paper's code."""

    schedule: Literal["constant", "cosine", "linear", "onecycle"] = "constant"
    """How the learning rate goes on after the warm-up: stays, or falls to 0."""

    warmup_steps: Annotated[int, Range(0, 100_000)] = 0
    """Steps over which the learning rate rises from 0. The paper has none."""

    clip_norm: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Longest gradient, over all weights together; longer ones are shortened to it. 0: never."""

    layers: str = "last"
    """Hidden state that is pooled and projected: last, the number of one, or mean of all."""

    pooling: Literal["mean", "stats"] = "mean"
    """How frames become one vector: their mean, or their mean and standard deviation."""

    standardise: bool = False
    """Bring every dimension of that vector to mean 0 and deviation 1 over the train clips first.
    Helps where a few dimensions are much larger than the others."""

    feature_dropout: Annotated[float, Range(0.0, 0.95)] = 0.5
    """Share of the dimensions of that vector that is left out in each step, drawn anew."""

    train: Literal["all", "transformer", "norms", "lora", "none"] = "all"
    """Weights of the encoder that are trained. all; transformer: all but the convolutions; norms:
    gains and biases; lora: low-rank additions; none: the projector alone, which takes seconds."""

    lora_rank: Annotated[int, Range(1, 256)] = 8
    """Rank of the additions with lora; they are scaled by 2."""

    top_layers: Annotated[int, Range(0, 1000)] = 0
    """Train only so many of the last transformer layers. What lies below is computed once a clip
    and kept, which saves most of the time. 0: all."""

    hold_encoder: Annotated[int, Range(0, 1_000_000)] = 0
    """Steps at the start in which the encoder is held still and the projector alone learns, on
    features that are computed once; such a step takes milliseconds."""

    max_seconds: Annotated[float, Range(0.5, 60.0)] = 10.0
    """Longer clips are cut to so many seconds, at a new random place each time."""

    dropout: Literal["checkpoint", "off"] = "checkpoint"
    """The dropout the encoder was published with stays on in what is trained, or is switched off.
    Masking inside the encoder and layer dropping are always off."""

    adapter_hidden: Annotated[int, Range(1, 4096)] = 128
    """Width of the hidden layer of the adapter of step 2."""

    adapter_dropout: Annotated[float, Range(0.0, 0.95)] = 0.5
    """Dropout of that layer."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the network. auto: bfloat16 where the hardware multiplies it, which halves
    the time; weights and loss stay float32."""

    checkpoint_every: Annotated[int, Range(1, 100_000)] = 500
    """Steps between checkpoints. A stopped, killed or crashed run goes on from the last one."""

    probe_every: Annotated[int, Range(0, 100_000)] = 100
    """Steps between looks at the classes of held-out clips. 0: never."""

    probe_clips: Annotated[int, Range(8, 5000)] = 200
    """Train clips, and held-out clips, looked at; drawn once with the seed."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Everything random follows from it: the same seed repeats a run."""

    def __post_init__(self) -> None:
        options.check(self)
        if self.layers not in ("mean", "last") and not self.layers.isdecimal():
            raise OptionError(
                "layers", f"got {self.layers!r}; expected last, mean or the number of a state"
            )
        if self.contrastive == self.noncontrastive == "none":
            raise OptionError(
                "contrastive", "got none, and none for noncontrastive too; choose one of them"
            )
        if self.apart == self.factor:
            raise OptionError(
                "apart", f"got {self.apart}, the factor itself; name another column, or none"
            )


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        TwoStep(),
        "the paper's code for emotion, for encoders of about 100 M parameters; audio goes in and "
        "the transformer is trained, where the code fed cached vectors to the convolutions",
    ),
    "mini": Preset(
        TwoStep(
            contrastive="supcon",
            temperature=0.5,
            weight=0.01,
            roles="shared",
            steps=500,
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=5,
            clip_norm=5.0,
            layers="mean",
            pooling="stats",
            standardise=True,
            train="none",
            checkpoint_every=100,
            probe_every=50,
        ),
        "for an encoder of a few million parameters and a few hundred clips: the projector alone "
        "learns, on features computed once, so a step takes milliseconds; supcon sees every pair "
        "of a step, and a small weight keeps the other half from shrinking the classes to points "
        "that hold for the train speakers alone",
    ),
}


def train(
    config: TwoStep,
    encoder_name: str | Path,
    corpus_source: Any,
    run: "Run",
    resume: bool = False,
) -> "Outcome":
    """Both steps on the train clips of a corpus; the result is `run`/checkpoints/final.

    Returns: "finished", or "stopped" where someone asked for it.
    Raises: `ValueError` with one sentence for input that cannot be trained on.
    """
    from refine import checkpoints, encoders, shaping, supervision, training
    from refine.corpus import open_corpus

    tell = supervision.Teller(run)
    try:
        corpus = open_corpus(corpus_source, progress=lambda *n: tell("opening the corpus", *n))
        config, rows = _rows(config, corpus)
        for note in rows.notes:
            tell.note(note)
        tell("loading the encoder")
        precision = training.resolve_precision(config.precision)
        encoder = encoders.load(encoder_name, precision=precision)
        if resume:
            training.refuse_other_base(run, encoder.name, encoder.fingerprint)
        if encoder.projector is not None:
            tell.note(f"the projection of {encoder.name} is left out: a new one takes its place")
        objective = _objective(config, encoder, corpus, rows)
        if config.standardise and not (resume and checkpoints.newest(run.checkpoints)):
            tell("measuring the features")
            objective.standardise()
        space = supervision.HeldOut(
            objective, corpus, config.factor, rows, config.probe_clips, config.seed
        )
    except supervision.Stopped:
        return "stopped"

    def probe(step: int) -> dict[str, float]:
        due = config.probe_every and (step % config.probe_every == 0 or step == config.steps)
        return space.measure() if due else {}

    def save(folder: Path, step: int) -> None:
        told = {**_refinement(config, encoder, corpus), "step": step}
        encoder.save(folder, told, small=config.train in SMALL)
        if folder.name == "final":
            run.write_status(message="fitting the adapter")
            _step_two(config, objective, corpus, rows, folder)

    tell("training")
    return training.fit(
        objective, shaping.settings_of(config), run, resume=resume, probe=probe, on_checkpoint=save
    )


def estimate(config: TwoStep, encoder_name: str | Path, corpus_source: Any) -> dict[str, Any]:
    """Time and memory of step 1 from a few real steps; nothing is kept. Step 2 takes seconds.

    Returns: what `training.measure` returns, and `frozen_minutes` (a part of `minutes`): computing
    once a clip what lies below the first trained layer.
    """
    from refine import encoders, shaping, training
    from refine.corpus import open_corpus

    corpus = open_corpus(corpus_source)
    config, rows = _rows(config, corpus)
    encoder = encoders.load(encoder_name, precision=training.resolve_precision(config.precision))
    objective = _objective(config, encoder, corpus, rows)
    frozen = objective.source.features.seconds_to_keep(rows.train) / 60
    for step in (1, 2, 3):  # else the steps that are measured would also compute what is kept
        objective.batch(step)
    found = training.measure(objective, shaping.settings_of(config))
    return {**found, "minutes": found["minutes"] + frozen, "frozen_minutes": frozen}


def _rows(config: TwoStep, corpus: "Corpus") -> tuple[TwoStep, "Rows"]:
    """The options with `apart` resolved, and the train and held-out rows. Refuses what has none."""
    from refine import supervision

    apart = supervision.resolve_apart(corpus, config.factor, config.apart)
    rows = supervision.rows_of(corpus, config.factor, apart, config.seed)
    return replace(config, apart=apart), rows


def _objective(config: TwoStep, encoder: "Encoder", corpus: "Corpus", rows: "Rows") -> "Shaping":
    """Step 1. Refuses layers that are not there, and clips that are too short."""
    from refine import supervision
    from refine.shaping import Shaping

    if config.layers.isdecimal() and int(config.layers) >= encoder.n_layers:
        raise OptionError(
            "layers", f"got {config.layers}; expected last, mean or 0 to {encoder.n_layers - 1}"
        )
    if config.roles == "shared" and config.batch_size < 4:
        raise OptionError(
            "batch_size",
            f"got {config.batch_size}; with roles shared a step needs two clips of two classes, "
            "raise it to at least 4",
        )
    for part in (rows.train, rows.held_out):
        supervision.refuse_short(corpus, part, encoder.min_samples, encoder.name)
    return Shaping(config, encoder, corpus, rows.train)


def _step_two(
    config: TwoStep, objective: "Shaping", corpus: "Corpus", rows: "Rows", folder: Path
) -> None:
    """Fit the adapter on the frozen space and keep it with the encoder, so that it predicts."""
    from refine import heads, supervision
    from refine.adapter import AdapterConfig

    settings = AdapterConfig(
        hidden=config.adapter_hidden, dropout=config.adapter_dropout, seed=config.seed
    )
    fitted = supervision.fit_adapter(objective, corpus, config.factor, rows, settings)
    head = supervision.as_head(fitted, objective, corpus, config.factor, rows, folder)
    heads.save(head, folder, folder / "heads")


def _refinement(config: TwoStep, encoder: "Encoder", corpus: "Corpus") -> dict[str, Any]:
    """refine.json of the refined encoder, but for the step."""
    return {
        "recipe": "two_step",
        "options": options.to_dict(config),
        "base": {"name": str(encoder.name), "fingerprint": encoder.fingerprint},
        "provenance": {
            "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint},
            "steps": config.steps,
            "seed": config.seed,
        },
    }
