"""Embeddings: one vector a clip and layer, extracted once, kept as a table (`embedding_table`)."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from refine import paths
from refine.audio import SAMPLE_RATE, AudioError, Waveform
from refine.corpus import Corpus
from refine.embedding_table import (
    CONTENT,
    FORMAT,
    ROW_GROUP,
    Embeddings,
    EmbeddingsError,
    not_finite,
    open_embeddings,
    replacing,
    same_recordings,
)
from refine.scratch import Scratch

if TYPE_CHECKING:
    from torch import Tensor

    from refine.encoders import Encoder

__all__ = [
    "Embeddings", "EmbeddingsError", "buckets", "cache_path", "extract", "find", "open_embeddings",
    "same_recordings",
]  # fmt: skip

MAX_BATCH = 64  # clips; beyond that a batch of words gains nothing
Progress = Callable[[int, int], None]  # clips done, clips in all


def find(
    encoder_fingerprint: str,
    corpus_fingerprint: str,
    layer: str | int = "all",
    pooling: str = "mean",
    subspace: str = "all",
) -> Path | None:
    """The cached table of an encoder and a corpus, or None when it has not been extracted."""
    path = cache_path(encoder_fingerprint, corpus_fingerprint, layer, pooling, subspace)
    return path if path.exists() else None


def cache_path(
    encoder: str, corpus: str, layer: str | int, pooling: str, subspace: str = "all"
) -> Path:
    """Where the table of these fingerprints is kept."""
    name = f"{encoder[:16]}-{corpus[:16]}-{layer}-{pooling}"
    if subspace != "all":  # a name may hold what a file name may not
        name += f"-{quote(subspace, safe='')}"
    return paths.cache() / "embeddings" / f"{name}.parquet"


def extract(
    encoder: "Encoder",
    corpus: Corpus,
    *,
    layer: str | int | None = "all",
    pooling: str | None = None,
    subspace: str | None = None,
    batch_seconds: float = 60.0,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Embeddings:
    """Extract (or find in the cache) one vector a clip and layer.

    Clips are sorted by length and batched up to `batch_seconds` of padded audio. An interrupted
    extraction goes on where it stopped. A clip that cannot be encoded is left out and named in
    `metadata["left_out"]`.

    Args:
        layer: an index, "mean" of all hidden states, "all" (every one, and their mean), or
            "projected" (what the encoder's projector makes of its hidden states).
        pooling: "mean" or "stats"; None is the checkpoint's own.
        subspace: a named block of the projected vector; None or "all" is the whole.
        out: write here instead of the cache.
    Raises: `EmbeddingsError` when no clip can be encoded; `ValueError` for a layer, pooling or
        subspace that the encoder does not have.
    """
    layer, pooling, subspace = encoder.resolve(layer, pooling, subspace)
    kept = cache_path(encoder.fingerprint, corpus.fingerprint, layer, pooling, subspace)
    path = out or kept
    if out is None and path.exists():
        return open_embeddings(path).expect(encoder.fingerprint, corpus.fingerprint)
    layers = encoder.layer_names if layer == "all" else [str(layer)]
    dim = encoder.width(layer, pooling, subspace)
    scratch = Scratch(
        kept.with_suffix(".partial"),
        (len(layers), len(corpus.table), dim),
    )

    def embed(waveforms: "Tensor", lengths: "Tensor") -> "Tensor":
        return _embed(encoder, waveforms, lengths, layer, pooling, subspace)

    left_out = _fill(scratch, encoder, corpus, layers, embed, batch_seconds, progress)
    metadata = {
        "format": FORMAT,
        "encoder": encoder.name,
        "encoder_fingerprint": encoder.fingerprint,
        "corpus": corpus.name,
        "corpus_fingerprint": corpus.fingerprint,
        "pooling": pooling,
        "subspace": subspace,
        "layers": layers,
        "dim": dim,
        "precision": "bf16" if encoder.bf16 else "fp32",
        "left_out": left_out,
        "contents": "".join(
            corpus.contents[clip][:CONTENT] for clip in corpus.table["clip"][scratch.done]
        ),
    }
    _write(path, corpus, scratch, metadata)
    scratch.remove()
    return open_embeddings(path)


def buckets(
    durations: Sequence[float] | np.ndarray, batch_seconds: float, most: int = MAX_BATCH
) -> list[np.ndarray]:
    """Indices of clips of similar length, each batch at most `batch_seconds` padded; longest first.

    The longest batch comes first, so that too large a batch fails at once and not at the end.
    """
    order = np.argsort(-np.asarray(durations), kind="stable")
    batches: list[np.ndarray] = []
    start = 0
    while start < len(order):
        longest = max(float(durations[int(order[start])]), 1e-3)
        size = int(np.clip(batch_seconds // longest, 1, most))
        batches.append(order[start : start + size])
        start += size
    return batches


def _fill(
    scratch: Scratch,
    encoder: "Encoder",
    corpus: Corpus,
    layers: list[str],
    embed: "Callable[[Tensor, Tensor], Tensor]",
    batch_seconds: float,
    progress: Progress | None,
) -> dict[str, str]:
    import torch

    from refine.encoders.collate import pad

    left_out: dict[str, str] = {}
    clips = corpus.table["clip"].tolist()
    durations = corpus.table["duration_s"].to_numpy()
    todo = [
        rows[~scratch.done[rows]]
        for rows in buckets(durations, batch_seconds)
        if not scratch.done[rows].all()
    ]
    finished = int(scratch.done.sum())
    encoder.eval()
    for rows, waveforms in _prefetch(todo, lambda row: _decode(corpus, clips[row], encoder)):
        good = {i: wave for i, wave in enumerate(waveforms) if not isinstance(wave, str)}
        left_out |= {
            clips[rows[i]]: reason for i, reason in enumerate(waveforms) if isinstance(reason, str)
        }
        if good:
            with torch.inference_mode():
                vectors = embed(*pad(list(good.values()))).cpu().numpy()
            finite = np.isfinite(vectors).all(axis=2)  # (layers, batch)
            these = rows[list(good)]
            for row, told in zip(these, finite.T, strict=True):
                if not told.all():
                    bad = [name for name, ok in zip(layers, told, strict=True) if not ok]
                    left_out[clips[row]] = not_finite(bad)
            kept = finite.all(axis=0)
            if kept.any():
                scratch.put(these[kept], vectors[:, kept])
        finished += len(rows)
        if progress:
            progress(finished, len(clips))
    if not scratch.done.any():
        first = next(iter(left_out.items()), ("corpus", "it has no clip"))
        raise EmbeddingsError(f"no clip could be encoded; the first: {first[0]}: {first[1]}")
    return left_out


def _embed(
    encoder: "Encoder",
    waveforms: "Tensor",
    lengths: "Tensor",
    layer: str | int,
    pooling: str,
    subspace: str,
) -> "Tensor":
    """Shape (layers, batch, dim), the mean of all hidden states last when all are asked for."""
    import torch

    from refine.encoders.pooling import POOLINGS

    if layer != "all" or len(encoder.layer_names) == 1:
        vectors = encoder.embed(waveforms, lengths, layer, pooling, subspace)
        return vectors if layer == "all" else vectors[None]
    hidden = encoder.encode(waveforms, lengths)
    pool = POOLINGS[pooling]
    pooled = pool(hidden.states, hidden.lengths)
    # the mean over layers and the mean over time commute; a deviation does not
    mean = pooled.mean(0) if pooling == "mean" else pool(hidden.states.mean(0), hidden.lengths)
    return torch.cat([pooled, mean[None]])


def _decode(corpus: Corpus, clip: str, encoder: "Encoder") -> Waveform | str:
    """The waveform, or why it is left out."""
    try:
        waveform = corpus.waveform(clip)
    except AudioError as error:
        return str(error)
    if len(waveform) < encoder.min_samples:
        return (
            f"{len(waveform) / SAMPLE_RATE:.3f} s is shorter than one frame of {encoder.name} "
            f"({encoder.min_samples / SAMPLE_RATE:.3f} s)"
        )
    return waveform


def _prefetch(
    batches: list[np.ndarray], decode: Callable[[int], Waveform | str]
) -> Iterator[tuple[np.ndarray, list[Waveform | str]]]:
    """Decode the next batch in a thread while the current one is encoded."""
    with ThreadPoolExecutor(max_workers=2) as pool:

        def submit(number: int) -> list[Future]:
            return [
                pool.submit(decode, row) for batch in batches[number : number + 1] for row in batch
            ]

        coming = submit(0)
        for number, rows in enumerate(batches):
            current, coming = coming, submit(number + 1)
            yield rows, [future.result() for future in current]


def _write(path: Path, corpus: Corpus, scratch: Scratch, metadata: dict[str, Any]) -> None:
    rows = np.flatnonzero(scratch.done)
    factors = corpus.table.iloc[rows][["clip", *corpus.factors]].reset_index(drop=True)
    dim = metadata["dim"]
    schema = pa.schema(
        [
            ("clip", pa.string()),
            ("layer", pa.string()),
            ("vector", pa.list_(pa.float32(), dim)),
            *[(name, pa.string()) for name in corpus.factors],
        ],
        metadata={"refine": json.dumps(metadata)},
    )
    # vectors do not compress; a plain page can be read through the memory map
    plain: dict[str, Any] = {
        "compression": "NONE", "use_dictionary": False, "write_statistics": False,
    }  # fmt: skip
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **plain) as writer:
        for index, layer in enumerate(metadata["layers"]):
            for start in range(0, len(rows), ROW_GROUP):
                part = slice(start, start + ROW_GROUP)
                vectors = np.ascontiguousarray(scratch.vectors[index, rows[part]])
                writer.write_table(_rows(factors.iloc[part], layer, vectors, schema))


def _rows(factors: pd.DataFrame, layer: str, vectors: np.ndarray, schema: pa.Schema) -> pa.Table:
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    values: dict[str, Any] = {
        name: pa.array(factors[name].astype(object).fillna("").astype(str), pa.string())
        for name in factors.columns
    }
    values |= {"layer": pa.array([layer] * len(factors), pa.string()), "vector": column}
    return pa.table([values[name] for name in schema.names], schema=schema)
