"""Two tiny encoders measured on tones: what the tests of the classes page stand on."""

import os
from collections.abc import Callable
from pathlib import Path

import speech


def measured(folder: Path, tiny_encoder: Callable[[str], Path]) -> dict[str, str]:
    """Corpus, before and after as strings; their evaluations are kept in `folder`/cache."""
    from refine.evaluation import evaluate

    corpus = speech.make_corpus(folder / "tones")
    before, after = (str(tiny_encoder(family)) for family in ("hubert", "wavlm"))
    kept = os.environ["REFINE_CACHE"]
    os.environ["REFINE_CACHE"] = str(folder / "cache")
    try:
        for encoder in (before, after):
            evaluate(encoder, str(corpus), split="all")
    finally:
        os.environ["REFINE_CACHE"] = kept
    return {"corpus": str(corpus), "before": before, "after": after, "split": "all"}
