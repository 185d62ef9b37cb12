"""What `rewire` does to the isotropy of test clips, corpora it was not trained on among them.

    python benchmarks/rewire.py                  # mini, preset mini; about 6 minutes on two cores

Trains one encoder a kind of positives, then measures base and rewired on speakers that the rewiring
never heard. Writes docs/measured/rewire.json and prints the Markdown table that the README shows.
"""

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from refine import paths, runs
from refine.embeddings import open_embeddings
from refine.evaluation import evaluate
from refine.metrics.change import change
from refine.recipes import rewire

METRICS = {
    "isoscore": "IsoScore",
    "mean_cosine": "mean cosine",
    "partition": "I(W)",
}


@dataclass(frozen=True)
class Options:
    """What is trained and measured."""

    encoder: str = "mini"
    """Encoder to rewire."""
    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    train: str = "pretrain"
    """Corpus that is trained on (its train speakers)."""
    positives: tuple[Literal["twin", "neutral", "mixed"], ...] = ("twin",)
    """Kinds of positives to train; neutral and mixed need a corpus with words."""
    text_factor: str = "text"
    """Column with the words of a clip, for neutral copies."""
    test: tuple[str, ...] = (
        "ravdess:all",
        "accents:all",
        "arabic_commands:test",
        "librispeech:test",
    )
    """Corpora that are measured on, each with its split: all where the rewiring heard nothing of
    the corpus, test where other speakers of it were trained on."""
    preset: str = "mini"
    """Preset of the recipe."""
    out: Path = paths.ROOT / "docs" / "measured" / "rewire.json"
    """Where the numbers are written."""


def main(options: Options) -> None:
    """Train each kind, measure all, write and print."""
    base = _measure(options.encoder, options)
    results = {"base": base}
    changes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for positives in options.positives:
            run = _train(positives, options, Path(folder))
            results[positives] = _measure(str(run.path), options)
            changes[positives] = {
                name: _change(base[name], results[positives][name]) for name in options.test
            }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.asdict(rewire.PRESETS[options.preset].config)
    numbers = {
        kind: {name: result["isotropy"] for name, result in found.items()}
        for kind, found in results.items()
    }
    content = {"encoder": options.encoder, "train": options.train, "settings": settings}
    content |= {"isotropy": numbers, "changes": changes}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(_table(numbers, changes, options))


def _train(positives: str, options: Options, folder: Path) -> runs.Run:
    preset = rewire.PRESETS[options.preset].config
    config = dataclasses.replace(preset, positives=positives, text_factor=options.text_factor)
    corpus = options.data / options.train
    run = runs.create(
        {
            "command": "train",
            "recipe": "rewire",
            "encoder": options.encoder,
            "corpus": str(corpus),
            "options": dataclasses.asdict(config),
            "name": positives,
        },
        folder,
    )
    rewire.train(config, options.encoder, corpus, run)
    return run


def _measure(encoder: str, options: Options) -> dict[str, Any]:
    found = {}
    for place in options.test:
        name, split = place.split(":")
        found[place] = evaluate(encoder, options.data / name, split=split)
    return found


def _change(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    tables = [open_embeddings(result["embeddings"]) for result in (before, after)]
    vectors = [table.vectors("mean") for table in tables]
    numbers = change(vectors[0], vectors[1], tables[0].table["speaker"].to_numpy())
    return {name: number.as_dict() for name, number in numbers.items()}


def _table(numbers: dict[str, Any], changes: dict[str, Any], options: Options) -> str:
    kinds = list(changes)
    head = ["corpus", "metric", "base"]
    head += [title for kind in kinds for title in (kind, "change")]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for corpus in options.test:
        for metric, title in METRICS.items():
            base = numbers["base"][corpus][metric]
            cells = [corpus.replace(":", ", "), title, _cell(base)]
            for kind in kinds:
                cells.append(_cell(numbers[kind][corpus][metric]))
                cells.append(_cell(changes[kind][corpus][metric], "+"))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(number: dict[str, Any], sign: str = "") -> str:
    value, low, high = (format(number[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main(tyro.cli(Options))
