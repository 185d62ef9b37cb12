"""An utterance encoder learned without labels and without negatives (DINO for speech).

    python -m refine train dino --encoder ecapa_tdnn --corpus ../shared/data/pretrain --preset mini

Cho, Villalba, Moro-Velazquez, Dehak 2022, arXiv 2208.05445 and 2208.05413. A student sees chunks of
an utterance, each in a noise and room of its own, and says of every chunk what its teacher, a
running mean of itself, says of another. With the preset `mini` about 12 minutes on two cores.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from refine import options
from refine.options import OptionError, Range
from refine.recipes import Preset

if TYPE_CHECKING:
    from refine.corpus import Corpus
    from refine.crops import CropSource
    from refine.distillation import Pair
    from refine.runs import Run
    from refine.training import Outcome, Settings


@dataclass(frozen=True)
class Dino:
    """Options of `dino`. The defaults are the paper's, for a million utterances."""

    long_seconds: Annotated[float, Range(0.2, 60.0)] = 4.0
    """Length of the long chunks, which the teacher sees."""

    short_seconds: Annotated[float, Range(0.1, 60.0)] = 2.0
    """Length of the short chunks, which only the student sees."""

    long_views: Annotated[int, Range(1, 8)] = 2
    """Long chunks of an utterance, each from a start, in a noise and a room of its own."""

    short_views: Annotated[int, Range(0, 32)] = 4
    """Short chunks of an utterance. Fewer cost less time a step."""

    spread_share: Annotated[float, Range(0.0, 1.0)] = 0.0
    """How often the long chunks lie apart: five starts are drawn, the first and last are taken."""

    min_seconds: Annotated[float, Range(0.1, 600.0)] = 4.0
    """Shorter clips are left out: chunks of them would be the same speech."""

    noise_share: Annotated[float, Range(0.0, 1.0)] = 0.7
    """How often a chunk gets a background sound: noise at 0 to 18 dB, or music or babble at 3 to 18
    dB below the speech."""

    room_share: Annotated[float, Range(0.0, 1.0)] = 0.45
    """How often a chunk is put into a room. Without it and noise the vector learns the microphone,
    which all chunks of an utterance share."""

    noise: str = ""
    """Folder of background sounds. Empty: those of the recorded speech where it is, else made.
    made: coloured noise made on the spot. Babble is always mixed from the corpus."""

    rooms: str = ""
    """Folder of impulse responses, drawn beside made rooms. Empty: those of the recorded speech
    where it is. made: made rooms alone."""

    outputs: Annotated[int, Range(2, 10_000_000)] = 65_536
    """Outputs K of the head. Memory grows with K times the batch; for small corpora 1000 to 4000 do
    as well."""

    hidden: Annotated[int, Range(8, 16_384)] = 2048
    """Width of the two inner layers of the head, which is thrown away after the training."""

    bottleneck: Annotated[int, Range(2, 4096)] = 256
    """Width of the vector of length one before the outputs."""

    student_temperature: Annotated[float, Range(0.001, 10.0)] = 0.1
    """Softness of what the student says."""

    teacher_temperature: Annotated[float, Range(0.001, 10.0)] = 0.04
    """Softness of what the teacher says; lower than the student's, so that it is sharper. Too low
    collapses to one output, too high to all alike."""

    centre_momentum: Annotated[float, Range(0.0, 1.0)] = 0.9
    """How slowly the centre follows the teacher's mean output, which is taken off it: this keeps
    one output from winning."""

    momentum: Annotated[float, Range(0.0, 1.0)] = 0.996
    """How slowly the teacher follows the student at the start; rises to 1 along half a cosine. A
    run of few steps needs less."""

    cosine_weight: Annotated[float, Range(0.0, 100.0)] = 0.0
    """Weight of a second term, 1 - the cosine of the student's and the teacher's utterance vectors
    of different chunks. The later public code has 0.1 as an option."""

    cosine_epochs: Annotated[float, Range(0.0, 10_000.0)] = 30.0
    """Epochs over which that weight rises from 0."""

    held_epochs: Annotated[float, Range(0.0, 10_000.0)] = 1.0
    """Epochs in which the last layer of the head is held still."""

    epochs: Annotated[float, Range(0.01, 100_000.0)] = 70.0
    """Passes over the clips."""

    warmup_epochs: Annotated[float, Range(0.0, 10_000.0)] = 10.0
    """Epochs over which the learning rate rises from 0; then it falls along half a cosine."""

    batch_size: Annotated[int, Range(2, 65_536)] = 96
    """Utterances in a step. Each is long_views + short_views chunks to the student."""

    learning_rate: Annotated[float, Range(1e-8, 1.0)] = 5e-3
    """Highest learning rate for a batch of 256; it is scaled to the batch (times batch / 256). A
    pretrained transformer stands about 1e-3."""

    lowest_rate: Annotated[float, Range(0.0, 1.0)] = 1e-6
    """Learning rate at the end."""

    optimizer: Literal["adam", "adamw"] = "adam"
    """adam: with amsgrad and betas 0.9 and 0.95, its decay a part of the gradient, as in the paper.
    adamw: betas 0.9 and 0.99, as in the later public code."""

    weight_decay: Annotated[float, Range(0.0, 1.0)] = 1e-4
    """Decay of matrices towards 0; biases and norms have none."""

    clip_norm: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Longest gradient; longer ones are shortened to it. 0: never, as in the paper. The later
    public code has 15."""

    channels: Annotated[int, Range(0, 4096)] = 0
    """Channels of a network that is built: of the first stage of a ResNet (the paper: 16), of all
    blocks of ECAPA-TDNN. 0: its usual number. Of no effect on an encoder that is loaded."""

    dim: Annotated[int, Range(0, 8192)] = 0
    """Width of the utterance vector of a network that is built. 0: its usual one, 256 in the
    paper."""

    pooling: Literal["mean", "stats", "attentive"] = "stats"
    """How frames become one vector. stats: mean and standard deviation, as in the paper.
    attentive: both weighted by attention, for networks that are built. mean: for transformers."""

    layers: str = "mean"
    """Hidden states of a transformer that make the utterance vector: mean of all, or the number of
    one. A speaker network has one alone."""

    train: Literal["all", "transformer", "norms", "lora"] = "all"
    """Weights of a transformer that are trained. all: every one. transformer: all but the
    convolutions at the input. norms: gains and biases alone. lora: low-rank additions. Of a
    network: all."""

    lora_rank: Annotated[int, Range(1, 512)] = 8
    """Rank of the additions of train lora."""

    dropout: Literal["checkpoint", "off"] = "off"
    """Dropout of a transformer while it trains: as it was published with, or off. The paper's
    network has none."""

    on_collapse: Literal["stop", "go on"] = "stop"
    """What happens when the teacher says the same of every clip for 20 steps. stop: with a sentence
    that says which collapse it is."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the network. auto: bfloat16 where the hardware multiplies it; weights and
    loss stay float32."""

    checkpoint_every: Annotated[int, Range(1, 1_000_000)] = 500
    """Steps between checkpoints. A stopped, killed or crashed run goes on from the last one."""

    probe_every: Annotated[int, Range(0, 1_000_000)] = 250
    """Steps between looks at held-out clips: isotropy, and the equal error rate of speakers where
    they are known. Labels are used for nothing else. 0: never."""

    probe_clips: Annotated[int, Range(2, 5000)] = 200
    """Held-out clips looked at (dev, else test), drawn once with the seed."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Everything random follows from it: the same seed repeats a run."""

    def __post_init__(self) -> None:
        options.check(self)
        if self.layers != "mean" and not self.layers.isdecimal():
            raise OptionError(
                "layers", f"got {self.layers!r}; expected mean or the number of a hidden state"
            )
        if self.long_views + self.short_views < 2:
            raise OptionError(
                "short_views", "got 0 beside one long view; no chunk has another to agree with"
            )
        if self.short_seconds > self.long_seconds:
            raise OptionError(
                "short_seconds",
                f"got {self.short_seconds:g}; expected at most long_seconds, {self.long_seconds:g}",
            )

    @property
    def layer(self) -> int | Literal["mean"]:
        """`layers` as an encoder takes it."""
        return "mean" if self.layers == "mean" else int(self.layers)


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        Dino(),
        "the first public recipe's settings, for LResNet34 on a million utterances of 4 s or more",
    ),
    "mini": Preset(
        Dino(
            long_seconds=2.0,
            short_seconds=1.0,
            min_seconds=2.0,
            outputs=1024,
            hidden=512,
            bottleneck=128,
            momentum=0.95,
            epochs=20,
            warmup_epochs=2,
            batch_size=32,
            learning_rate=1e-2,
            clip_norm=3.0,
            channels=64,
            dim=192,
            optimizer="adamw",
            weight_decay=1e-2,
            checkpoint_every=200,
            probe_every=100,
        ),
        "for two cores and some hours of speech: shorter chunks, fewer outputs, a faster teacher "
        "and a small ECAPA-TDNN, which learns in minutes what a ResNet takes hours for",
    ),
}


def train(
    config: Dino,
    encoder_name: str | Path,
    corpus_source: Any,
    run: "Run",
    resume: bool = False,
) -> "Outcome":
    """Learn an utterance encoder from the train clips; the teacher becomes checkpoints/final.

    `encoder_name`: a network to build (lresnet34, lresnet18, ecapa_tdnn) or any encoder to load.
    Returns: "finished", or "stopped" where someone asked for it.
    Raises: `ValueError` with one sentence for input that cannot be trained on, and for a collapse.
    """
    from refine import dino_parts, training
    from refine.corpus import open_corpus
    from refine.distillation import Objective

    tell = _Teller(run)
    try:
        corpus = open_corpus(corpus_source, progress=lambda *n: tell("opening the corpus", *n))
        clips = dino_parts.long_clips(config, corpus, tell)
        dino_parts.refuse_memory(config)
        tell("loading the encoder")
        pair = dino_parts.student_and_teacher(config, encoder_name, tell)
        if resume:
            training.refuse_other_base(run, pair.teacher.name, pair.teacher.fingerprint)
        tell("gathering noise and rooms")
        views = dino_parts.views_of(config, clips)
        held_out = dino_parts.held_out_voices(config, pair, corpus, tell)
    except _Stopped:
        return "stopped"
    settings = _settings(config, views)
    told = _refinement(config, pair, encoder_name, corpus, settings.steps)

    def probe(step: int) -> dict[str, float]:
        due = config.probe_every and (step % config.probe_every == 0 or step == settings.steps)
        return held_out.measure() if due and held_out else {}

    tell("training")
    return training.fit(
        Objective(config, pair, views, settings.steps),
        settings,
        run,
        resume=resume,
        probe=probe,
        on_checkpoint=lambda folder, step: pair.save(folder, {**told, "step": step}),
    )


def estimate(config: Dino, encoder_name: str | Path, corpus_source: Any) -> dict[str, Any]:
    """Time and memory of a training, from a few real steps; nothing is kept.

    Returns: what `training.measure` returns.
    """
    from refine import dino_parts, training
    from refine.corpus import open_corpus
    from refine.distillation import Objective

    clips = dino_parts.long_clips(config, open_corpus(corpus_source), None)
    dino_parts.refuse_memory(config)
    pair = dino_parts.student_and_teacher(config, encoder_name, None)
    views = dino_parts.views_of(config, clips)
    settings = _settings(config, views)
    return training.measure(Objective(config, pair, views, settings.steps), settings)


class _Stopped(Exception):
    """A stop was asked for before the first step."""


class _Teller:
    """Says in the run's status what is being prepared, and heeds a stop meanwhile."""

    def __init__(self, run: "Run"):
        self.run, self.said = run, -math.inf

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        if self.run.stop_requested:
            raise _Stopped
        if done is None or time.monotonic() - self.said > 1:
            self.said = time.monotonic()
            self.run.write_status(message=what if done is None else f"{what}, {done} of {total}")

    def note(self, text: str) -> None:
        """A line in the log."""
        self.run.write_log(text)


def _settings(config: Dino, views: "CropSource") -> "Settings":
    from refine.training import Settings

    epoch = views.steps_per_epoch(config.batch_size)
    adam = config.optimizer == "adam"
    return Settings(
        steps=max(1, round(config.epochs * epoch)),
        learning_rate=config.learning_rate * config.batch_size / 256,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup_epochs * epoch),
        schedule="cosine",
        clip_norm=config.clip_norm,
        precision=config.precision,
        seed=config.seed,
        checkpoint_every=config.checkpoint_every,
        lowest_rate=config.lowest_rate,
        optimizer=config.optimizer,
        betas=(0.9, 0.95) if adam else (0.9, 0.99),
        amsgrad=adam,
    )


def _refinement(
    config: Dino, pair: "Pair", encoder_name: str | Path, corpus: "Corpus", steps: int
) -> dict[str, Any]:
    """refine.json of the teacher, but for the step."""
    from refine.distillation import is_network

    teacher = pair.teacher
    told: dict[str, Any] = {"recipe": "dino", "options": options.to_dict(config)}
    if teacher.info.chain:  # a network that was built has no base
        told["base"] = {"name": str(teacher.name), "fingerprint": teacher.fingerprint}
    if not is_network(teacher):
        told |= {"layer": config.layer, "pooling": config.pooling}
    corpora = {"name": corpus.name, "fingerprint": corpus.fingerprint}
    return told | {"provenance": {"corpus": corpora, "steps": steps, "seed": config.seed}}
