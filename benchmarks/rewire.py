"""What `rewire` does to test clips of corpora it was not trained on, and what that costs.

    python benchmarks/rewire.py                  # mini, preset mini, three seeds

Trains encoders of each kind of positives, then measures base and rewired on clips that the rewiring
never heard: isotropy, and what the space still holds of words and voices. Intervals are by speaker
and of the first seed; the change of each seed stands beside them. Writes docs/measured/rewire.json
and the Markdown tables beside it.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from processes import processor_minutes

from refine import encoders, paths, runs
from refine.corpus import Corpus, open_corpus
from refine.embeddings import extract
from refine.metrics import isotropy, verification
from refine.metrics.change import change
from refine.metrics.influence import units
from refine.metrics.trials import trials_from_factor
from refine.probes import changes, probe
from refine.recipes import rewire
from refine.splits import split_of

METRICS = {"isoscore": "IsoScore", "mean_cosine": "mean cosine", "partition": "I(W)"}
RESAMPLES = 500


@dataclass(frozen=True)
class Options:
    """What is trained and measured."""

    encoder: str = "mini"
    """Encoder to rewire."""
    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    train: str = "pretrain"
    """Corpus that is trained on (its train speakers)."""
    batch_factor: str = "source"
    """Column that the clips of a batch share; empty for a corpus of one kind."""
    positives: tuple[Literal["twin", "neutral", "mixed"], ...] = ("twin",)
    """Kinds of positives to train; neutral and mixed need a corpus with words."""
    text_factor: str = "text"
    """Column with the words of a clip, for neutral copies."""
    test: tuple[str, ...] = (
        "ravdess:test",
        "ravdess:all",
        "accents:test",
        "accents:all",
        "arabic_commands:test",
        "librispeech:test",
    )
    """Corpora that are measured on, each with its split."""
    price: str = "arabic_commands"
    """Corpus whose words and speakers say what the space still holds."""
    preset: str = "mini"
    """Preset of the recipe."""
    seeds: int = 3
    """Rewirings of each kind."""
    steps: int | None = None
    """Steps of rewiring; by default the preset's."""
    work: Path = paths.cache() / "benchmarks" / "rewire"
    """Where the rewired encoders are kept; a finished one is not trained again."""
    out: Path = paths.ROOT / "docs" / "measured" / "rewire.json"
    """Where the numbers are written."""


def main(options: Options) -> None:
    """Train each kind and seed, measure all, write and print."""
    started, fresh = time.monotonic(), True
    found: dict[str, Any] = {"isotropy": {"base": {}}, "changes": {}, "price": {}, "seeds": {}}
    for kind in options.positives:
        for seed in range(options.seeds):
            run, new = _train(kind, seed, options)
            fresh &= new
            _measure(found, kind, seed, run, options)
    settings = dataclasses.asdict(_config(options.positives[0], 0, options))
    minutes = (time.monotonic() - started) / 60
    content: dict[str, Any] = {"encoder": options.encoder, "train": options.train}
    content["settings"] = settings
    if fresh:  # else they were partly spent before
        content |= {"minutes": minutes, "processor_minutes": processor_minutes()}
    content |= found
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = tables(content, options)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def _measure(found: dict[str, Any], kind: str, seed: int, run: runs.Run, options: Options) -> None:
    """Add the numbers of a rewiring; of later seeds the changes alone."""
    for place in options.test:
        name, split = place.split(":")
        corpus = open_corpus(options.data / name)
        clips = corpus if split == "all" else corpus.subset(split)
        before, after, speakers = _both(options.encoder, run, clips)
        moved = change(before, after, speakers, resamples=RESAMPLES)
        if seed == 0:
            base = isotropy.measure(before, speakers, resamples=RESAMPLES)
            rewired = isotropy.measure(after, speakers, resamples=RESAMPLES)
            found["isotropy"]["base"][place] = _dicts(base)
            found["isotropy"].setdefault(kind, {})[place] = _dicts(rewired)
            found["changes"].setdefault(kind, {})[place] = _dicts(moved)
        for metric in METRICS:
            _each(found, kind, place, metric).append(moved[metric].value)
    price = _price(options, run)
    if seed == 0:
        found["price"][kind] = price
    for name, row in price.items():
        _each(found, kind, "price", name).append(row["change"]["value"])


def _each(found: dict[str, Any], kind: str, place: str, name: str) -> list[float]:
    """The change of each seed, in order."""
    return found["seeds"].setdefault(kind, {}).setdefault(place, {}).setdefault(name, [])


def _config(positives: str, seed: int, options: Options) -> rewire.Rewire:
    preset = rewire.PRESETS[options.preset].config
    steps = options.steps or preset.steps
    return dataclasses.replace(
        preset,
        positives=positives,
        seed=seed,
        steps=steps,
        warmup_steps=min(preset.warmup_steps, steps),
        text_factor=options.text_factor,
        batch_factor=options.batch_factor,
    )


def _train(positives: str, seed: int, options: Options) -> tuple[runs.Run, bool]:
    """The finished run of these settings and this base, and whether it was trained now."""
    config = _config(positives, seed, options)
    wanted = {
        "command": "train",
        "recipe": "rewire",
        "encoder": options.encoder,
        "fingerprint": encoders.peek(options.encoder).fingerprint,
        "corpus": str(options.data / options.train),
        "options": dataclasses.asdict(config),
        "name": positives,
    }
    for run in runs.all_runs(options.work):
        if run.config == wanted and (run.path / "checkpoints" / "final").is_dir():
            return run, False
    run = runs.create(wanted, options.work)
    rewire.train(config, options.encoder, options.data / options.train, run)
    return run, True


def _both(encoder: str, run: runs.Run, clips: Corpus) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors before and after, averaged over the hidden states, and the speakers."""
    tables = [extract(encoders.load(name), clips, layer="mean") for name in (encoder, run.path)]
    speakers = tables[0].table["speaker"].to_numpy()
    return tables[0].vectors("mean"), tables[1].vectors("mean"), speakers


def _price(options: Options, run: runs.Run) -> dict[str, dict[str, Any]]:
    """Words (a linear probe) and speakers (EER of other words) on test speakers."""
    clips = open_corpus(options.data / options.price)
    before, after, speakers = _both(options.encoder, run, clips)
    words = clips.table["content"].to_numpy()
    split = split_of(clips.table, "content")
    first, second = (probe(x, words, split, speakers) for x in (before, after))
    rows = split.test
    trials = trials_from_factor(speakers[rows], words[rows])
    scores = [verification.cosine_scores(x[rows], trials) for x in (before, after)]
    of = units(len(rows), speakers[rows])
    voices = [verification.numbers(score, trials, of, "cosine")["eer"] for score in scores]
    moved = verification.change(scores[0], scores[1], trials, of)["eer"]
    return {
        "words, UAR": {
            "base": first.uar.as_dict(),
            "rewired": second.uar.as_dict(),
            "change": changes(first, second, speakers)["uar"].as_dict(),
        },
        "speakers, EER": {
            "base": voices[0].as_dict(),
            "rewired": voices[1].as_dict(),
            "change": moved.as_dict(),
        },
    }


def _dicts(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: number.as_dict() for name, number in numbers.items()}


def tables(content: dict[str, Any], options: Options) -> str:
    """The Markdown tables of a JSON."""
    seeds = max(len(row) for part in content["seeds"].values() for row in part["price"].values())
    told = (
        f"{seeds} seeds: 95 % intervals by speaker of the first, changes paired on the same clips, "
        "and the change of each."
    )
    if "minutes" in content:
        told += (
            f" {content['minutes']:.0f} minutes, {content['processor_minutes']:.0f} of processor."
        )
    return f"{told}\n\n{_table(content, options)}\n\n{_prices(content, options)}\n"


def _table(found: dict[str, Any], options: Options) -> str:
    kinds = list(found["changes"])
    head = ["corpus", "metric", "base"]
    head += [title for kind in kinds for title in (kind, "change", "of each seed")]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for place in options.test:
        for metric, title in METRICS.items():
            cells = [place.replace(":", ", "), title]
            cells.append(_cell(found["isotropy"]["base"][place][metric]))
            for kind in kinds:
                cells.append(_cell(found["isotropy"][kind][place][metric]))
                cells.append(_cell(found["changes"][kind][place][metric], "+"))
                cells.append(_values(found["seeds"][kind][place][metric]))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _prices(found: dict[str, Any], options: Options) -> str:
    lines = [f"| {options.price}, test | base | rewired | change | of each seed |"]
    lines.append("| --- " * 5 + "|")
    for kind, price in found["price"].items():
        for name, row in price.items():
            cells = [_cell(row["base"]), _cell(row["rewired"]), _cell(row["change"], "+")]
            cells.append(_values(found["seeds"][kind]["price"][name]))
            lines.append(f"| {kind}: {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _values(values: list[float]) -> str:
    return ", ".join(f"{value:+.3f}" for value in values).replace("-", "−")


def _cell(number: dict[str, Any], sign: str = "") -> str:
    value, low, high = (format(number[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]".replace("-", "−")


if __name__ == "__main__":
    main(tyro.cli(Options))
