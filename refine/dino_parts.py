"""What `dino` needs before its first step: long clips, memory, two encoders, noise and rooms."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from accelerate.state import PartialState

from refine import encoders, surroundings, training
from refine.corpus import Corpus
from refine.crops import CropSource
from refine.distillation import Head, Pair, available_bytes, embed, head_bytes, is_network, width
from refine.encoders import folder, speaker, trainable
from refine.options import OptionError
from refine.training import TrainingError
from refine.voices import HeldOutVoices

if TYPE_CHECKING:
    from refine.encoders import Encoder
    from refine.recipes.dino import Dino

NETWORKS = tuple(folder.NETWORKS)  # built with random weights when named


class Note(Protocol):
    def note(self, text: str) -> None:
        """A line in the log."""


def long_clips(config: "Dino", corpus: Corpus, tell: Note | None) -> Corpus:
    """The train clips that are long enough. Refuses, with one sentence each, what is not."""
    table = corpus.subset("train").table
    longest = float(table["duration_s"].max())
    if config.long_seconds > longest:
        raise OptionError(
            "long_seconds",
            f"got {config.long_seconds:g}, but the longest train clip of {corpus.name} has "
            f"{longest:.1f} s, so every view would be a whole clip; choose at most "
            f"{longest / 2:.1f}, or take longer recordings",
        )
    kept = table[table["duration_s"] >= config.min_seconds]
    if len(kept) < 2:
        raise TrainingError(
            f"{corpus.name}: {len(kept)} of {len(table)} train clips have min_seconds = "
            f"{config.min_seconds:g} s or more, the longest has {longest:.1f} s; lower min_seconds "
            "and the chunks, or take longer recordings"
        )
    if tell and len(kept) < len(table):
        tell.note(f"{len(table) - len(kept)} of {len(table)} train clips are too short, left out")
    if tell and len(kept) < config.batch_size:
        tell.note(f"{len(kept)} train clips are fewer than batch_size: every step has all")
    return corpus.subset("train", clips=kept["clip"].tolist())


def refuse_memory(config: "Dino") -> None:
    """The head alone must fit: its logits grow with outputs x batch."""
    needed, free = head_bytes(config), available_bytes()
    if needed > free:
        share = free / needed
        raise TrainingError(
            f"outputs: {config.outputs} for batches of {config.batch_size} take about "
            f"{needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; choose at most "
            f"{max(2, int(config.outputs * share * 0.8))} outputs (1000 to 4000 do for small "
            "corpora), or a smaller batch_size"
        )


def student_and_teacher(config: "Dino", encoder_name: str | Path, tell: Note | None) -> Pair:
    """Student and teacher, equal at the start."""
    student, teacher = (opened(config, encoder_name) for _ in range(2))
    if not is_network(student):
        if config.layer != "mean" and config.layer >= student.n_layers:
            raise OptionError(
                "layers", f"got {config.layers}; expected mean or 0 to {student.n_layers - 1}"
            )
        if config.pooling == "attentive":
            raise OptionError(
                "pooling", f"got attentive; {student.name} takes mean or stats, which need no "
                "weights of their own"
            )  # fmt: skip
    for encoder in (student, teacher):
        if encoder.projector is not None:
            encoder.projector = None
            if tell:
                tell.note(f"the projector of {encoder.name} is left out: its space is learned anew")
        how = "all" if is_network(encoder) else config.train
        trainable.choose(encoder, how, config.lora_rank, seed=config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        heads = [
            Head(width(student, config), config.outputs, config.hidden, config.bottleneck)
            for _ in range(2)
        ]
    return Pair(student, teacher, *(head.to(student.device) for head in heads))


def opened(config: "Dino", name: str | Path) -> "Encoder":
    """The encoder of that name, or a network that is built."""
    precision = training.resolve_precision(config.precision)
    if str(name) not in NETWORKS:
        return encoders.load(name, precision=precision)
    if config.pooling == "mean":
        raise OptionError("pooling", "got mean; a network that is built takes stats or attentive")
    return speaker.build(
        str(name),
        channels=config.channels or None,
        dim=config.dim or None,
        pooling=config.pooling,
        seed=config.seed,
        precision=precision,
    )


def views_of(config: "Dino", clips: Corpus) -> CropSource:
    """The views of the clips, in noise and rooms."""
    around = surroundings.of(
        clips, config.noise, config.rooms, config.seed, config.noise_share, config.room_share
    )
    state = PartialState()
    return CropSource(
        clips,
        around,
        long_seconds=config.long_seconds,
        short_seconds=config.short_seconds,
        long_views=config.long_views,
        short_views=config.short_views,
        spread_share=config.spread_share,
        seed=config.seed,
        rank=state.process_index,
        processes=state.num_processes,
    )


def held_out_voices(config: "Dino", pair: Pair, corpus: Corpus, tell: Note) -> HeldOutVoices | None:
    """Clips of dev, else test; None, with a note, where there are too few."""
    split = next((s for s in ("dev", "test") if (corpus.table["split"] == s).sum() >= 2), None)
    if config.probe_every == 0 or split is None:
        if split is None:
            tell.note("no clips in dev or test: nothing is followed while training")
        return None
    clips = corpus.subset(split)
    found = HeldOutVoices(
        pair.teacher,
        clips,
        lambda waveforms, lengths: embed(pair.teacher, waveforms, lengths, config),
        config.probe_clips,
        config.seed,
    )
    if found.trials is None:
        tell.note("no two held-out clips of one known speaker: the EER is not followed")
    return found
