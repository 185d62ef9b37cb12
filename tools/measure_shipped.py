"""Measure every shipped encoder beside its base, for the first page.

    python tools/measure_shipped.py

Test clips of recorded speech, heard by no encoder's training except where the card says so. Writes
assets/measured/glance.json; about five minutes on two cores when nothing is cached.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from refine import encoders, evaluation, glance, paths
from refine.corpus import open_corpus

TOLD = {
    "arabic_commands": "20 words, {speakers} voices of the test split",
    "ravdess": "8 moods, {speakers} actors of the test split",
}


@dataclass(frozen=True)
class Options:
    """What is measured."""

    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    base: str = "mini"
    """The encoder before."""
    out: Path = paths.ASSETS / "measured" / "glance.json"
    """Where the figures are kept."""


FACTORS = {"arabic_commands": "content", "ravdess": "emotion"}


def main(options: Options) -> None:
    folder = paths.ASSETS / "encoders"
    names = sorted(path.name for path in folder.iterdir() if encoders.is_encoder(path))
    found: dict[str, dict[str, Any]] = {}
    for corpus_name, told in TOLD.items():
        corpus = open_corpus(options.data / corpus_name)
        before = evaluation.evaluate(options.base, corpus, split="test")
        clips = corpus.subset(split="test").table
        found[corpus_name] = {
            "told": told.format(speakers=clips["speaker"].nunique()),
            "clips": len(clips),
            "encoders": {},
        }
        for name in names:
            after = evaluation.evaluate(name, corpus, split="test")
            seen = glance.glance(before, after, FACTORS[corpus_name])
            found[corpus_name]["factor"] = seen["factor"]
            found[corpus_name]["encoders"][name] = {
                "fingerprint": after["encoder_fingerprint"],
                "marks": seen["marks"],
            }
            print(f"{corpus_name} {name}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
