"""A tiny encoder with two subspaces, and a pair of encoders measured on tones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import speech


def encoder(base: Path, folder: Path) -> Path:
    """`base` behind a random linear map into the subspaces speaker and content, 16 wide each."""
    import torch

    from refine.encoders import load
    from refine.encoders.projector import Projector, ProjectorConfig

    made = load(str(base))
    config = ProjectorConfig((32, 32), subspaces={"speaker": 16, "content": 16})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made.projector = Projector(config)
    made.save(folder, {"recipe": "interventional"})
    return folder


def measured(folder: Path, tiny_encoder: Callable[[str], Path]) -> dict[str, str]:
    """What a page's address says of a pair measured on tones; its cache is `folder`/cache."""
    from refine.evaluation import evaluate

    base = tiny_encoder("hubert")
    names = {"before": str(base), "after": str(encoder(base, folder / "split"))}
    corpus = str(speech.make_corpus(folder / "tones"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINE_CACHE", str(folder / "cache"))
        for name in names.values():
            evaluate(name, corpus, split="all")
    return names | {"corpus": corpus, "split": "all"}
