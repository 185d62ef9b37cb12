"""Subspaces for speaker, content and more, by intervention grids (Cox & Barker 2026).

    python -m refine train interventional --encoder mini --corpus ../shared/data/arabic_commands \
        --preset mini

In a grid every speaker says every sentence, so one thing changes at a time. A small map from the
frozen feature of an encoder learns a subspace a factor: utterances that share the factor meet
there, whatever else differs. The feature is computed once, so the training itself takes seconds.
arXiv 2606.17967.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from refine import options
from refine.options import OptionError, Range
from refine.recipes import Preset

if TYPE_CHECKING:
    from refine.encoders import Encoder
    from refine.grid_engines import Source, Supply
    from refine.runs import Run
    from refine.training import Outcome


@dataclass(frozen=True)
class Interventional:
    """Options of `interventional`. The defaults are the paper's code as of July 2026."""

    factors: str = "speaker,content"
    """Columns that get a subspace each, with commas between: speaker and content, and others the
    grid is crossed in (emotion, rate, pitch). One alone is a single-factor map."""

    engine: Literal[
        "recorded",
        "pseudo",
        "espeak",
        "recorded+pseudo",
        "recorded+espeak",
        "pseudo+espeak",
        "recorded+pseudo+espeak",
    ] = "recorded"
    """Where the grid comes from. recorded: speakers of the corpus who say the same things, which
    includes a folder made by a voice-cloning engine, as in the paper. pseudo: the recordings of the
    corpus in changed voices; needs no shared words. espeak: spoken by espeak-ng."""

    more_corpora: str = ""
    """Further corpora, with commas between; each adds its own grid. One may have another engine,
    named behind an @: recordings/books@pseudo."""

    holes: Literal["leave out", "refuse"] = "leave out"
    """Where a speaker does not say everything: leave out the fewest speakers and contents, or
    refuse and list what is missing."""

    pseudo_speakers: Annotated[int, Range(2, 256)] = 8
    """Voices each recording is changed into with engine pseudo, its own included."""

    pseudo_recordings: Annotated[int, Range(4, 100_000)] = 400
    """Most recordings of a corpus that are changed, spread over its speakers and contents."""

    pseudo_seconds: Annotated[float, Range(0.0, 60.0)] = 0.0
    """Where speakers do not say the same things, cut what is changed into pieces of so many
    seconds: every piece is one more content that all voices of its speaker say. 0: leave whole."""

    espeak_voices: Annotated[int, Range(2, 256)] = 32
    """Voices of engine espeak, drawn from its accents and vocal tracts."""

    espeak_sentences: Annotated[int, Range(2, 120)] = 64
    """Sentences that each voice of engine espeak speaks."""

    layers: str = "last"
    """Hidden state whose frames are pooled: last as in the paper, mean of all, or a number."""

    pooling: Literal["mean", "stats"] = "mean"
    """How frames become the feature: their mean, or their mean and standard deviation."""

    standardise: bool = False
    """Bring each dimension of the feature to mean 0 and deviation 1 over the grid first."""

    hidden_layers: Annotated[int, Range(0, 8)] = 2
    """Layers between feature and subspaces, with ReLU; 0 is a linear map."""

    hidden_width: Annotated[int, Range(0, 16_384)] = 0
    """Width of those layers; 0 is the width of the feature, as in the paper (768)."""

    subspace_width: Annotated[int, Range(0, 8192)] = 0
    """Width of each subspace; 0 shares the width of the feature among them, as in the paper
    (2 × 384 of 768)."""

    residual_width: Annotated[int, Range(0, 8192)] = 0
    """Width of one more subspace, residual, for what no factor explains. 0: none, as in the
    paper."""

    temperature: Annotated[float, Range(0.001, 10.0)] = 0.1
    """Sharpness of the loss. Low: only the most similar others count. High: all count alike."""

    margin: Annotated[float, Range(0.0, 2.0)] = 0.0
    """Taken off the cosine of those that should meet, so that they must be closer still."""

    contrast: Literal["batch", "sheet"] = "batch"
    """What a content (or any factor but the speaker) is told apart from. batch: all others, as in
    the paper. sheet: those of its own complete grid, where the speaker is of no help; the same for
    one recorded grid, and less leakage for pseudo-speakers and mixtures."""

    orthogonality: Literal["corrected", "samples", "off"] = "corrected"
    """How subspaces are kept from saying the same. corrected: their dimensions do not vary
    together. samples: the authors' code before 26 June 2026, which compares utterances."""

    orthogonality_weight: Annotated[float, Range(0.0, 1000.0)] = 1.0
    """How much that counts beside the loss of each factor, which counts 1."""

    feature_noise: Annotated[float, Range(0.0, 10.0)] = 0.0
    """Normal noise added to the feature in each step, in deviations of each dimension. Not in the
    paper; keeps a small grid from being learned by heart."""

    batch_size: Annotated[int, Range(4, 65_536)] = 512
    """Most clips in a step: a dense block of the grid, 16 speakers × 32 sentences."""

    steps: Annotated[int, Range(1, 1_000_000)] = 480
    """Optimiser steps; 480 is 30 epochs of the paper's grid (1600 in its first code)."""

    learning_rate: Annotated[float, Range(1e-8, 1.0)] = 1e-4
    """Highest step size of AdamW. A linear map (`hidden_layers` 0) stands ten times more."""

    weight_decay: Annotated[float, Range(0.0, 10.0)] = 0.01
    """Decay of the weights towards 0 in AdamW, times the learning rate."""

    schedule: Literal["constant", "cosine", "linear", "onecycle"] = "onecycle"
    """How the learning rate goes: one cycle up and down as in the paper, or after the warm-up it
    stays, or falls to 0."""

    warmup_steps: Annotated[int, Range(0, 100_000)] = 0
    """Steps over which the learning rate rises from 0; onecycle has a warm-up of its own."""

    clip_norm: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Longest gradient, over all weights together; longer ones are shortened to it. 0: never."""

    checkpoint_every: Annotated[int, Range(1, 100_000)] = 240
    """Steps between checkpoints. A stopped, killed or crashed run goes on from the last one."""

    probe_every: Annotated[int, Range(0, 100_000)] = 60
    """Steps between looks at held-out clips: each subspace on each factor. 0: never."""

    probe_clips: Annotated[int, Range(8, 5000)] = 400
    """Held-out clips looked at (dev, else test), drawn once with the seed."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Everything random follows from it: the same seed repeats a run."""

    def __post_init__(self) -> None:
        options.check(self)
        if self.layers not in ("mean", "last") and not self.layers.isdecimal():
            raise OptionError(
                "layers", f"got {self.layers!r}; expected last, mean or the number of a state"
            )
        names = self.names
        if not names or len(set(names)) < len(names) or not all(names):
            raise OptionError(
                "factors",
                f"got {self.factors!r}; expected columns with commas between, each once",
            )
        for entry in self.more_corpora.split(","):
            _, at, engine = entry.strip().rpartition("@")
            if at and not set(engine.split("+")) <= {"recorded", "pseudo"}:
                raise OptionError(
                    "more_corpora",
                    f"got {entry.strip()!r}; behind an @ stands recorded, pseudo or both with a +",
                )
        if reserved := {"all", "residual", "total", "floor"} & set(names):
            raise OptionError("factors", f"got {min(reserved)}, which is no column; name another")

    @property
    def names(self) -> tuple[str, ...]:
        """The factors that get a subspace."""
        return tuple(name.strip() for name in self.factors.split(","))

    @property
    def axes(self) -> tuple[str, ...]:
        """The factors the grid is crossed in: at least two, the speaker first."""
        other = "content" if self.names[0] != "content" else "speaker"
        named = self.names if len(self.names) > 1 else (self.names[0], other)
        return tuple(sorted(named, key=lambda name: name != "speaker"))

    @property
    def more(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The entries of `more_corpora`, each with its engines."""
        entries = [place.strip() for place in self.more_corpora.split(",") if place.strip()]
        found = []
        for entry in entries:
            place, at, engine = entry.rpartition("@")
            found.append((place, tuple(engine.split("+"))) if at else (entry, self.engines))
        return tuple(found)

    @property
    def engines(self) -> tuple[str, ...]:
        """The parts of `engine`."""
        return tuple(self.engine.split("+"))


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        Interventional(),
        "the authors' code: a map of three layers on the last hidden state, 480 steps of 512 "
        "utterances; their grid was spoken by a voice-cloning engine (F5-TTS), yours may be too",
    ),
    "mini": Preset(
        Interventional(
            engine="recorded+pseudo",
            layers="5",
            pooling="stats",
            standardise=True,
            hidden_layers=0,
            learning_rate=1e-3,
            contrast="sheet",
            pseudo_seconds=1.33,
            pseudo_recordings=600,
        ),
        "for an encoder of a few million parameters and a few dozen speakers: there a linear map "
        "carries over to new voices better than three layers, which learn the speakers by heart; "
        "pseudo-speakers add voices, and layer 5 of 6 was the best on development speakers",
    ),
}


def train(
    config: Interventional,
    encoder_name: str | Path,
    corpus_source: Any,
    run: "Run",
    resume: bool = False,
) -> "Outcome":
    """Learn the map on the train clips of a corpus; the result is `run`/checkpoints/final.

    Returns: "finished", or "stopped" where someone asked for it.
    Raises: `ValueError` with one sentence for input that cannot be trained on.
    """
    from refine import encoders, grid_engines, subspace_map, training

    tell = _Teller(run)
    try:
        supplies = _supplies(config, corpus_source, tell)
        tell("loading the encoder")
        encoder = encoders.load(encoder_name)
        if resume:
            training.refuse_other_base(run, encoder.name, encoder.fingerprint)
        shape = subspace_map.shape_of(config, encoder)
        found = grid_engines.sources(config, supplies, tell, tell.note)
        for source in found:
            tell.note(f"{source.name}: {source.grid.summary}")
            for note in source.grid.notes:
                tell.note(f"{source.name}: {note}")
        features = subspace_map.features_of(encoder, shape, found, tell)
        objective = subspace_map.Objective(config, shape, features)
        held_out = subspace_map.held_out(config, encoder, shape, supplies[0].corpus, tell)
    except _Stopped:
        return "stopped"
    if held_out is None:
        tell.note("no held-out clips with two of each factor: nothing is followed while training")
    refinement = _refinement(config, encoder, supplies, found)

    def probe(step: int) -> dict[str, float]:
        due = config.probe_every and (step % config.probe_every == 0 or step == config.steps)
        return held_out.measure(objective.module) if due and held_out else {}

    def save(folder: Path, step: int) -> None:
        encoder.projector = objective.module
        encoder.save(folder, {**refinement, "step": step}, small=True)

    tell("training")
    return training.fit(
        objective, training.settings_of(config), run, resume=resume, probe=probe, on_checkpoint=save
    )


def estimate(
    config: Interventional, encoder_name: str | Path, corpus_source: Any
) -> dict[str, Any]:
    """Time and memory: a few real steps on drawn features; nothing is kept or spoken.

    Returns: what `training.measure` returns; `feature_minutes` (a part of `minutes`), the features
    at the speed of a few clips, and `grid_minutes`, making the voices at their usual speed.
    """
    from refine import encoders, grid_engines, subspace_map, training

    supplies = _supplies(config, corpus_source, None)
    encoder = encoders.load(encoder_name)
    shape = subspace_map.shape_of(config, encoder)
    seconds, grid_seconds = grid_engines.expected(config, supplies)
    features = subspace_map.drawn(config, shape, supplies)
    objective = subspace_map.Objective(config, shape, features)
    found = training.measure(objective, training.settings_of(config))
    feature_minutes = seconds / subspace_map.pace(encoder, supplies[0].corpus) / 60
    return {
        **found,
        "minutes": found["minutes"] + feature_minutes + grid_seconds / 60,
        "feature_minutes": feature_minutes,
        "grid_minutes": grid_seconds / 60,
    }


class _Stopped(Exception):
    """A stop was asked for before the first step."""


class _Teller:
    """Says in the run's status what is being prepared, and heeds a stop meanwhile."""

    def __init__(self, run: "Run"):
        self.run, self.said = run, float("-inf")

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        if self.run.stop_requested:
            raise _Stopped
        if done is None or time.monotonic() - self.said > 1:
            self.said = time.monotonic()
            self.run.write_status(message=what if done is None else f"{what}, {done} of {total}")

    def note(self, text: str) -> None:
        """A line in the log."""
        self.run.write_log(text)


def _supplies(config: Interventional, source: Any, tell: _Teller | None) -> "list[Supply]":
    from refine.corpus import open_corpus
    from refine.grid_engines import Supply
    from refine.training import TrainingError

    found = [
        Supply(
            open_corpus(
                place, progress=lambda *n: tell("opening the corpus", *n) if tell else None
            ),
            engines,
        )
        for place, engines in ((source, config.engines), *config.more)
    ]
    if len({supply.corpus.fingerprint for supply in found}) < len(found):
        names = ", ".join(supply.corpus.name for supply in found)
        raise TrainingError(f"more_corpora: {names}: one of them is there twice")
    return found


def _refinement(
    config: Interventional,
    encoder: "Encoder",
    supplies: "list[Supply]",
    found: "list[Source]",
) -> dict[str, Any]:
    """refine.json of the refined encoder, but for the step and the projector."""
    corpora = [supply.corpus for supply in supplies]
    return {
        "recipe": "interventional",
        "options": options.to_dict(config),
        "base": {"name": str(encoder.name), "fingerprint": encoder.fingerprint},
        "provenance": {
            "corpus": {"name": corpora[0].name, "fingerprint": corpora[0].fingerprint},
            "corpora": {corpus.name: corpus.fingerprint for corpus in corpora},
            "grids": {source.name: source.grid.summary for source in found},
            "steps": config.steps,
            "seed": config.seed,
        },
    }
