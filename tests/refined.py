"""Encoders that look refined: a small family on the tone corpus, measured once a test file."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from refine import lineup, runs
from refine.encoders import peek
from refine.options import to_dict
from refine.recipes.rewire import Rewire


@dataclass(frozen=True)
class Family:
    """A base, a run refined from it, and a run refined from that run."""

    root: Path
    corpus: Path
    base: str
    first: runs.Run
    second: runs.Run

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Its runs and cache, instead of the test's own."""
        patch.setenv("REFINE_RUNS", str(self.root / "runs"))
        patch.setenv("REFINE_CACHE", str(self.root / "cache"))


def a_run(encoder: Path, base: str, corpus: Path, name: str, **options: object) -> runs.Run:
    """A finished run whose checkpoint is a copy of `encoder`, refined from `base`."""
    config = {
        "command": "train",
        "recipe": "rewire",
        "encoder": base,
        "corpus": str(corpus),
        "options": to_dict(Rewire(**options)),
        "name": name,
    }
    run = runs.create(config)
    final = Path(shutil.copytree(encoder, run.checkpoints / "final"))
    refinement = {
        "recipe": "rewire",
        "options": config["options"],
        "base": {"name": base, "fingerprint": peek(base).fingerprint},
        "provenance": {"corpus": {"name": corpus.name, "fingerprint": "elsewhere"}},
    }
    (final / "refine.json").write_text(json.dumps(refinement), encoding="utf-8")
    for step in range(1, 61):
        run.log({"step": step, "total": 3.0 / step, "lr": 1e-4})
        if step % 10 == 0:
            run.log({"step": step, "isoscore": 0.01 * step, "mean_cosine": 1 - 0.01 * step})
    run.write_status(state="finished", step=60, total=60)
    return run


@contextmanager
def family(
    root: Path, tones: Path, tiny_encoder: Callable[[str], Path], measured: bool = True
) -> Iterator[Family]:
    """The family, in folders of its own; its metrics are in its cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINE_RUNS", str(root / "runs"))
        patch.setenv("REFINE_CACHE", str(root / "cache"))
        corpus = Path(shutil.copytree(tones, root / "tones"))
        base = str(tiny_encoder("hubert"))
        first = a_run(tiny_encoder("wavlm"), base, corpus, "first", steps=60)
        second = a_run(
            tiny_encoder("data2vec-audio"), first.id, corpus, "second", steps=60, seed=1,
            temperature=0.1,
        )  # fmt: skip
        if measured:
            lineup.lineup([first.id, second.id], base, str(corpus), "all")
    yield Family(root, corpus, base, first, second)
