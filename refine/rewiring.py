"""The pairs that `rewire` trains on and is watched on; what has none is refused beforehand."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from refine import neutral
from refine.audio import SAMPLE_RATE
from refine.corpus import Corpus
from refine.encoders import Encoder
from refine.monitor import HeldOut
from refine.options import OptionError
from refine.pairs import PairSource
from refine.supervision import Teller
from refine.training import TrainingError

if TYPE_CHECKING:  # the recipe imports this file
    from refine.recipes.rewire import Rewire


def training_pairs(
    config: "Rewire", encoder: Encoder, corpus: Corpus, tell: Teller | None
) -> PairSource:
    """The training pairs. Refuses, with one sentence each, what cannot be trained on."""
    if config.layer != "mean" and config.layer >= encoder.n_layers:
        raise OptionError(
            "layers", f"got {config.layers}; expected mean or 0 to {encoder.n_layers - 1}"
        )
    train = corpus.subset("train")
    if len(train.table) < 2:
        raise TrainingError(
            f"{corpus.name}: one clip in the train split; at least 2 are needed, add recordings"
        )
    refuse_short(encoder, train)
    if tell and len(train.table) < config.batch_size:
        tell.note(f"{len(train.table)} train clips are fewer than batch_size: every step has all")
    source = _source(config, train, tell)
    if source.distinct < 2:
        raise TrainingError(
            f"{corpus.name}: all train clips have the same text, so there is nothing to push "
            "away from; use positives twin"
        )
    return source


def _source(config: "Rewire", clips: Corpus, tell: Teller | None) -> PairSource:
    copies: list[Path | None] = [None] * len(clips.table)
    if config.positives != "twin":
        copies = neutral.make(clips, texts_of(config, clips, tell), tell)
    return PairSource(
        clips,
        copies,
        twin_share=0.5 if config.positives == "mixed" else 0.0,
        mask_share=config.mask_share,
        max_seconds=config.max_seconds,
        seed=config.seed,
        groups=_groups(config, clips),
    )


def _groups(config: "Rewire", clips: Corpus) -> list[str] | None:
    """The value each clip shares with its batch; None where any clips may meet."""
    if not config.batch_factor:
        return None
    if config.batch_factor not in clips.factors:
        raise OptionError(
            "batch_factor",
            f"got {config.batch_factor!r}; {clips.name} has {', '.join(clips.factors) or 'none'}",
        )
    return clips.table[config.batch_factor].tolist()


def texts_of(config: "Rewire", clips: Corpus, tell: Teller | None) -> list[str]:
    texts = neutral.texts(clips, config.text_factor)
    missing = texts.count("")
    if missing == len(texts) or (missing and config.positives == "neutral"):
        raise TrainingError(
            f"{clips.name}: {missing} of {len(texts)} clips have no text in {config.text_factor}; "
            "name another column in text_factor, or use positives twin, which needs no text"
        )
    if missing and tell:
        tell.note(f"{missing} of {len(texts)} clips have no text and are pulled to twins only")
    return texts


def refuse_short(encoder: Encoder, clips: Corpus) -> None:
    table = clips.table
    short = table[table["duration_s"] * SAMPLE_RATE < encoder.min_samples]
    if len(short):
        raise TrainingError(
            f"{short['clip'].iloc[0]}: {short['duration_s'].iloc[0]:.3f} s is shorter than one "
            f"frame of {encoder.name} ({encoder.min_samples / SAMPLE_RATE:.3f} s); leave out the "
            f"{len(short)} clips that are"
        )


def held_out_pairs(
    config: "Rewire", encoder: Encoder, corpus: Corpus, tell: Teller
) -> HeldOut | None:
    """Clips of dev, else test, drawn with the seed; None, with a note, where there are too few."""
    split = next((s for s in ("dev", "test") if (corpus.table["split"] == s).sum() >= 2), None)
    if config.probe_every == 0 or split is None:
        if split is None:
            tell.note("no clips in dev or test: isotropy is not followed while training")
        return None
    clips = corpus.subset(split)
    chosen = clips.table["clip"].sample(
        min(config.probe_clips, len(clips.table)), random_state=config.seed
    )
    clips = clips.subset(clips=chosen.tolist())
    refuse_short(encoder, clips)
    try:
        source = _source(config, clips, tell)
    except ValueError as error:  # a held-out clip without text must not stop a training
        tell.note(f"held-out pairs are twins ({error})")
        source = _source(replace(config, positives="twin"), clips, tell)
    return HeldOut(encoder, source, config.layer, config.pooling)
