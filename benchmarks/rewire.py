"""What `rewire` does to the isotropy of test clips, corpora it was not trained on among them.

    python benchmarks/rewire.py                  # mini, preset mini; about 15 minutes on two cores

Trains one encoder a kind of positives, then measures base and rewired on the test speakers of every
corpus. Writes docs/measured/rewire.json and prints the Markdown table that the README shows.
"""

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from refine import paths, runs
from refine.evaluation import evaluate
from refine.recipes import rewire

METRICS = {
    "isoscore": "IsoScore",
    "mean_cosine": "mean cosine",
    "partition": "I(W)",
    "effective_rank": "effective rank",
}


@dataclass(frozen=True)
class Options:
    """What is trained and measured."""

    encoder: str = "mini"
    """Encoder to rewire."""
    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    train: str = "arabic_commands"
    """Corpus that is trained on (its train speakers)."""
    text_factor: str = "content"
    """Column with the words of a clip, for neutral copies."""
    test: tuple[str, ...] = ("arabic_commands", "ravdess", "emodb", "librispeech")
    """Corpora that are measured on (their test speakers)."""
    preset: str = "mini"
    """Preset of the recipe."""
    out: Path = paths.ROOT / "docs" / "measured" / "rewire.json"
    """Where the numbers are written."""


def main(options: Options) -> None:
    """Train each kind, measure all, write and print."""
    results = {"base": _measure(options.encoder, options)}
    with tempfile.TemporaryDirectory() as folder:
        for positives in ("twin", "neutral", "mixed"):
            run = _train(positives, options, Path(folder))
            results[positives] = _measure(str(run.path), options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.asdict(rewire.PRESETS[options.preset].config)
    content = {"encoder": options.encoder, "train": options.train, "settings": settings}
    content |= {"results": results}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(_table(results, options))


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
    return {
        name: evaluate(encoder, options.data / name, split="test")["isotropy"]
        for name in options.test
    }


def _table(results: dict[str, Any], options: Options) -> str:
    lines = [
        "| test speakers of | metric | " + " | ".join(results) + " |",
        "| --- | --- |" + " --- |" * len(results),
    ]
    for corpus in options.test:
        seen = " (trained on its train speakers)" if corpus == options.train else ""
        for metric, title in METRICS.items():
            cells = [_cell(result[corpus][metric]) for result in results.values()]
            lines.append(f"| {corpus}{seen} | {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(number: dict[str, Any]) -> str:
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**number)


if __name__ == "__main__":
    main(tyro.cli(Options))
