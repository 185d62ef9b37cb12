"""Embedding throughput as ratios, measured side by side in one run.

    python benchmarks/embeddings.py --corpus ../shared/data/emodb --encoder mini

(a) share of the plain forward pass of the same model on the same, already decoded batches;
(b) speed-up over the loop a user would write: read, encode, pool, one clip at a time.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from refine.corpus import Corpus, open_corpus
from refine.embeddings import buckets, extract
from refine.encoders import Encoder, load
from refine.encoders.collate import pad


@dataclass(frozen=True)
class Options:
    """What is measured."""

    encoder: str = "mini"
    """Encoder to embed with."""
    corpus: str = "../shared/data/emodb"
    """Corpus to embed; one of mixed lengths shows what bucketing is worth."""
    clips: int = 300
    """At most so many clips, drawn with a fixed seed."""
    rounds: int = 3
    """Rounds; each times the three ways in turn, and medians are printed."""
    batch_seconds: float = 60.0
    """Padded audio in a batch, seconds."""


def main(options: Options) -> None:
    """Time extraction, the plain forward pass and the one-clip loop in turn."""
    encoder = load(options.encoder)
    corpus = open_corpus(options.corpus)
    rng = np.random.default_rng(0)
    clips = corpus.table["clip"].to_numpy()
    corpus = corpus.subset(clips=rng.permutation(clips)[: options.clips].tolist())
    batches = _batches(corpus, options.batch_seconds)
    ways: dict[str, Callable[[], None]] = {
        "extract": lambda: _extract(encoder, corpus, options.batch_seconds),
        "forward": lambda: _forward(encoder, batches),
        "loop": lambda: _loop(encoder, corpus),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # warm-up
        way()
    for _ in range(options.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    result = {
        "encoder": encoder.name,
        "device": str(encoder.device),
        "clips": len(corpus.table),
        "audio_s": round(float(corpus.table["duration_s"].sum()), 1),
        "clips_per_s": round(len(corpus.table) / medians["extract"], 1),
        "share_of_forward": round(medians["forward"] / medians["extract"], 3),
        "speed_up_over_loop": round(medians["loop"] / medians["extract"], 2),
    }
    print(json.dumps(result, indent=2))


def _batches(corpus: Corpus, batch_seconds: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    clips = corpus.table["clip"].tolist()
    rows = buckets(corpus.table["duration_s"].to_numpy(), batch_seconds)
    return [pad([corpus.waveform(clips[row]) for row in batch]) for batch in rows]


def _extract(encoder: Encoder, corpus: Corpus, batch_seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "embeddings.parquet"
        extract(encoder, corpus, layer="all", batch_seconds=batch_seconds, out=out)


def _forward(encoder: Encoder, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with torch.inference_mode():
        for waveforms, lengths in batches:
            encoder.encode(waveforms, lengths)


def _loop(encoder: Encoder, corpus: Corpus) -> None:
    """What a user would write with transformers and soundfile."""
    vectors = []
    with torch.inference_mode():
        for clip in corpus.table["clip"]:
            waveform = torch.from_numpy(corpus.waveform(clip))[None]
            waveform = (waveform - waveform.mean()) / (waveform.var(correction=0) + 1e-7).sqrt()
            states = encoder.model(waveform, output_hidden_states=True).hidden_states
            vectors.append(torch.stack([state.mean(1)[0] for state in states]).numpy())
    np.stack(vectors)


if __name__ == "__main__":
    main(tyro.cli(Options))
