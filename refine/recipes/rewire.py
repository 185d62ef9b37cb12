"""Rewire an encoder's space without labels (Yang, Zhao, Haffari, Shareghi 2022, arXiv 2210.13030).

    python -m refine train rewire --encoder mini --corpus ../shared/data/fsdd --preset mini

A short contrastive training pulls every utterance to a copy of itself (a part masked, or the same
words spoken by one monotone synthetic voice) and pushes it away from the other utterances of its
batch; the space becomes more isotropic.
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
    from refine.losses.info_nce import InfoNCE
    from refine.pairs import Pairs, PairSource
    from refine.runs import Run
    from refine.supervision import Teller
    from refine.training import Outcome, Settings


@dataclass(frozen=True)
class Rewire:
    """Options of `rewire`. The defaults are the paper's, for an encoder of 300 M parameters."""

    positives: Literal["twin", "neutral", "mixed"] = "twin"
    """What an utterance is pulled to. twin: a copy with one block of its samples set to 0, needs
    nothing but audio. neutral: its words spoken by one monotone synthetic voice, so that voice and
    mood count less; needs a text for every clip. mixed: a coin flip for each utterance; clips
    without text get a twin."""

    text_factor: str = "text"
    """Column that holds the words of a clip for neutral copies. A column of names such as content
    will do; underscores are read as spaces."""

    steps: Annotated[int, Range(1, 1_000_000)] = 1665
    """Optimiser steps. 1665 is one pass over the paper's data with twins (three passes for mixed,
    seven for neutral). The loss is near 0 soon; more steps then change little."""

    batch_size: Annotated[int, Range(2, 4096)] = 4
    """Pairs in a step. Every other pair of the batch is pushed away, so more pairs spread the space
    more evenly; memory grows with it."""

    batch_factor: str = ""
    """Column whose value the utterances of a batch share, such as the source of a mixed corpus;
    empty: any clips meet, as in the paper, whose corpus is of one kind. Where clips of several
    languages, rooms or microphones meet, these alone tell them apart and little else moves."""

    learning_rate: Annotated[float, Range(1e-8, 1.0)] = 1e-6
    """Step size of AdamW. The paper's code lets gradients pile up over the whole run, here they are
    zeroed, so up to 5e-6 is its equal. A small encoder stands 1e-4 or so; too much forgets words
    and voices."""

    weight_decay: Annotated[float, Range(0.0, 1.0)] = 0.01
    """Decay of the weights towards 0 in AdamW, times the learning rate."""

    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes on after the warm-up: stays, or falls to 0 along half a cosine or
    a line."""

    warmup_steps: Annotated[int, Range(0, 100_000)] = 0
    """Steps over which the learning rate rises from 0. The paper has none; a few steadies large
    learning rates."""

    clip_norm: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Longest gradient, over all weights together; longer ones are shortened to it. 0: never, as in
    the paper."""

    temperature: Annotated[float, Range(0.001, 10.0)] = 0.04
    """Sharpness of the loss. Low: only the most similar other utterance counts. High: all count
    alike."""

    layers: str = "mean"
    """Hidden states that make the utterance vector: mean, the plain average of all of them, or the
    number of one (0 is the input of the first layer)."""

    pooling: Literal["mean", "stats"] = "mean"
    """How frames become one vector: their mean, or their mean and standard deviation."""

    mask_share: Annotated[float, Range(0.01, 0.9)] = 0.2
    """Share of the samples that a twin has set to 0, as one block."""

    max_seconds: Annotated[float, Range(0.5, 60.0)] = 11.25
    """Longer clips are cut to so many seconds, at a new random place each time; a neutral copy is
    cut at the same relative place. (The paper leaves longer clips out.)"""

    train: Literal["all", "transformer", "norms", "lora"] = "all"
    """Weights that are trained. all: every one, as in the paper. transformer: all but the
    convolutions at the input, which is faster. norms: of the transformer only the gains and biases,
    so that directions are shifted and scaled but what the encoder knows of words and voices stays;
    it stands a learning rate of 3e-3. lora: low-rank additions to its attention and feed-forward.
    With norms and lora the result is a small folder that names its base."""

    lora_rank: Annotated[int, Range(1, 512)] = 8
    """Rank of the additions of train lora: higher can move the space further and takes more room
    on the disk, 8 about 0.9 MB for the mini encoder."""

    dropout: Literal["checkpoint", "off"] = "checkpoint"
    """The dropout the encoder was published with stays on while training, as in the paper, or is
    switched off. Masking inside the encoder and layer dropping are always off."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the network. auto: bfloat16 where the hardware multiplies it, which halves
    the time; weights and loss stay float32."""

    checkpoint_every: Annotated[int, Range(1, 100_000)] = 100
    """Steps between checkpoints. A stopped, killed or crashed run goes on from the last one."""

    probe_every: Annotated[int, Range(0, 100_000)] = 50
    """Steps between looks at the isotropy of held-out clips. 0: never."""

    probe_clips: Annotated[int, Range(2, 2000)] = 200
    """Held-out clips looked at (dev, else test), drawn once with the seed."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Everything random follows from it: the same seed repeats a run."""

    def __post_init__(self) -> None:
        options.check(self)
        if self.layers != "mean" and not self.layers.isdecimal():
            raise OptionError(
                "layers", f"got {self.layers!r}; expected mean or the number of a hidden state"
            )

    @property
    def layer(self) -> int | Literal["mean"]:
        """`layers` as an encoder takes it."""
        return "mean" if self.layers == "mean" else int(self.layers)


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        Rewire(),
        "the paper's own settings, for encoders of about 300 M parameters; "
        "gradients are zeroed at every step, which its code forgot",
    ),
    "mini": Preset(
        Rewire(
            steps=100,
            batch_size=48,
            learning_rate=3e-4,
            temperature=0.1,
            schedule="cosine",
            warmup_steps=10,
            clip_norm=1.0,
            max_seconds=1.0,
            checkpoint_every=40,
            probe_every=20,
        ),
        "for an encoder of a few million parameters: at the paper's temperature it tells the pairs "
        "of a batch apart at once and nothing moves, so the loss is softer, the batch larger and "
        "the step longer; short crops keep a run at about three minutes on two cores",
    ),
    "mini-lora": Preset(
        Rewire(
            steps=100,
            batch_size=48,
            learning_rate=2e-3,
            temperature=0.1,
            schedule="cosine",
            warmup_steps=10,
            clip_norm=1.0,
            max_seconds=1.0,
            train="lora",
            lora_rank=16,
            checkpoint_every=40,
            probe_every=20,
        ),
        "as mini, but only low-rank additions are trained: the space opens as much, words are kept "
        "and voices suffer less, and the result takes 2 MB beside its base",
    ),
}


def train(
    config: Rewire,
    encoder_name: str | Path,
    corpus_source: Any,
    run: "Run",
    resume: bool = False,
) -> "Outcome":
    """Rewire an encoder on the train clips of a corpus; the result is `run`/checkpoints/final.

    Returns: "finished", or "stopped" where someone asked for it.
    Raises: `ValueError` with one sentence for input that cannot be trained on.
    """
    from refine import encoders, rewiring, training
    from refine.corpus import open_corpus
    from refine.supervision import Stopped, Teller

    tell = Teller(run)
    try:
        corpus = open_corpus(corpus_source, progress=lambda *n: tell("opening the corpus", *n))
        tell("loading the encoder")
        precision = training.resolve_precision(config.precision)
        encoder = encoders.load(encoder_name, precision=precision)
        if resume:
            training.refuse_other_base(run, encoder.name, encoder.fingerprint)
        _leave_projection(encoder, tell)
        source = rewiring.training_pairs(config, encoder, corpus, tell)
        held_out = rewiring.held_out_pairs(config, encoder, corpus, tell)
    except Stopped:
        return "stopped"
    refinement = _refinement(config, encoder, corpus)
    small = config.train in ("norms", "lora")

    def probe(step: int) -> dict[str, float]:
        due = config.probe_every and (step % config.probe_every == 0 or step == config.steps)
        return held_out.measure() if due and held_out else {}

    tell("training")
    return training.fit(
        _Objective(config, encoder, source),
        _settings(config),
        run,
        resume=resume,
        probe=probe,
        on_checkpoint=lambda folder, step: encoder.save(
            folder, {**refinement, "step": step}, small=small
        ),
    )


def estimate(config: Rewire, encoder_name: str | Path, corpus_source: Any) -> dict[str, Any]:
    """Time and memory of a training, from a few real steps; nothing is kept.

    Neutral copies are stood in for by twins, which cost about the same; speaking them is estimated.
    Returns: what `training.measure` returns, and `synthesis_minutes` (a part of `minutes`).
    """
    from refine import encoders, neutral, rewiring, training
    from refine.corpus import open_corpus

    corpus = open_corpus(corpus_source)
    encoder = encoders.load(encoder_name, precision=training.resolve_precision(config.precision))
    source = rewiring.training_pairs(replace(config, positives="twin"), encoder, corpus, None)
    synthesis_s = 0.0
    if config.positives != "twin":
        texts = rewiring.texts_of(config, source.corpus, None)
        seconds = dict(zip(texts, source.corpus.table["duration_s"], strict=True))
        synthesis_s = sum(seconds[text] for text in seconds if text) / neutral.SPEED
    found = training.measure(_Objective(config, encoder, source), _settings(config))
    minutes = found["minutes"] + synthesis_s / 60
    return {**found, "minutes": minutes, "synthesis_minutes": synthesis_s / 60}


class _Objective:
    """What the loop trains: the encoder, on pairs, with the paper's loss."""

    def __init__(self, config: Rewire, encoder: "Encoder", source: "PairSource"):
        from refine.encoders import trainable

        self.config, self.module, self.source = config, encoder, source
        # in training mode dropout works; masking and layer dropping were switched off by `load`
        encoder.train(config.dropout == "checkpoint")
        trainable.choose(encoder, config.train, config.lora_rank, seed=config.seed)

    def batch(self, step: int) -> "Pairs":
        return self.source.batch(step, self.config.batch_size)

    def loss(self, batch: "Pairs") -> "InfoNCE":
        from refine.losses.info_nce import info_nce

        config = self.config
        vectors = self.module.embed(
            batch.waveforms, batch.lengths, config.layer, config.pooling
        )  # (2 batch, dim)
        utterances, positives = vectors.chunk(2)
        return info_nce(utterances, positives, config.temperature)

    def after_step(self, step: int) -> None:
        pass


def _leave_projection(encoder: "Encoder", tell: "Teller") -> None:
    """A projection was fitted to hidden states that are about to change."""
    if encoder.projector is not None:
        encoder.projector = None
        tell.note(f"the projection of {encoder.name} is left out: its hidden states are rewired")


def _settings(config: Rewire) -> "Settings":
    from refine.training import settings_of

    return settings_of(config)


def _refinement(config: Rewire, encoder: "Encoder", corpus: "Corpus") -> dict[str, Any]:
    """refine.json of the refined encoder, but for the step."""
    return {
        "recipe": "rewire",
        "options": options.to_dict(config),
        "base": {"name": str(encoder.name), "fingerprint": encoder.fingerprint},
        "layer": config.layer,
        "pooling": config.pooling,
        "provenance": {
            "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint},
            "steps": config.steps,
            "seed": config.seed,
        },
    }
