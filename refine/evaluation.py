"""Evaluate an encoder on a corpus: embeddings once, then every metric as a Number.

The result is the `evaluate` object of the command line and what the pages draw. It is cached by the
fingerprints of encoder and corpus, so a page reads it back without loading torch.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refine import encoders, paths
from refine.corpus import Corpus, CorpusError, open_corpus
from refine.embeddings import Embeddings, extract, find, open_embeddings
from refine.encoders import EncoderInfo, peek
from refine.metrics import isotropy

VERSION = 1  # raised when a number changes its meaning, so that no old result is shown
LAYER_RESAMPLES = 50  # for the curve over layers; the chosen layer gets the full number
RESAMPLES = 200
COSINE_PAIRS = 20_000

Progress = Callable[[str, int, int], None]  # what is being done, done, in all


def evaluate(
    encoder: str | Path,
    source: Corpus | str | Path,
    *,
    split: str | None = None,
    layer: str | int | None = None,
    pooling: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure an encoder on the clips of one split.

    Args:
        encoder: any name that `encoders.load` takes.
        source: a corpus, or what `open_corpus` takes.
        split: "train", "dev", "test" or "all"; None is "test" where there is one, else "all".
        layer: an index or "mean"; None is the checkpoint's own.
        pooling: "mean" or "stats"; None is the checkpoint's own.
    Returns: `encoder, corpus, split, n_clips, layer, pooling, isotropy`, `layers` (the isotropy of
        every hidden state), `spectrum`, `cosines` and the path of the `embeddings`.
    Raises: `EncoderError`, `CorpusError`, `EmbeddingsError` with one sentence each.
    """
    corpus = choose_split(source if isinstance(source, Corpus) else open_corpus(source), split)
    embeddings = _embeddings(encoder, corpus, pooling, progress)
    info = peek(encoder)
    path = _cache_path(info, corpus, layer, pooling)
    if path.exists():
        return _read(path)
    result = _measure(info, corpus, embeddings, split, layer, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)
    return result


def cached(
    encoder: str | Path,
    source: Corpus | str | Path,
    *,
    split: str | None = None,
    layer: str | int | None = None,
    pooling: str | None = None,
) -> dict[str, Any] | None:
    """The result of an earlier `evaluate`, or None. Loads neither torch nor the encoder."""
    corpus = choose_split(source if isinstance(source, Corpus) else open_corpus(source), split)
    path = _cache_path(peek(encoder), corpus, layer, pooling)
    return _read(path) if path.exists() else None


def choose_split(corpus: Corpus, split: str | None) -> Corpus:
    """The clips to evaluate on. Raises `CorpusError` naming the splits there are."""
    present = set(corpus.table["split"])
    if split is None:
        split = "test" if "test" in present else "all"
    if split == "all":
        return corpus
    if split not in present:
        raise CorpusError(
            f"{corpus.name}: no clip in split {split!r}; it has {', '.join(sorted(present))} or all"
        )
    return corpus.subset(split=split)


def _embeddings(
    encoder: str | Path, corpus: Corpus, pooling: str | None, progress: Progress | None
) -> Embeddings:
    try:
        info = peek(encoder)
    except ValueError:
        info = None  # a hub name before its first download; load says what is wrong, if anything
    if info is not None:
        path = find(info.fingerprint, corpus.fingerprint, "all", _pooling(info, pooling))
        if path is not None:
            return open_embeddings(path)
    loaded = encoders.load(encoder)
    return extract(
        loaded,
        corpus,
        layer="all",
        pooling=pooling,
        progress=(lambda done, total: progress("embedding", done, total)) if progress else None,
    )


def _measure(
    info: EncoderInfo,
    corpus: Corpus,
    embeddings: Embeddings,
    split: str | None,
    layer: str | int | None,
    progress: Progress | None,
) -> dict[str, Any]:
    chosen = str(info.refinement.get("layer", "mean") if layer is None else layer)
    speakers = _speakers(embeddings)
    layers: dict[str, dict[str, Any]] = {}
    for done, name in enumerate(embeddings.layers):
        if progress:
            progress("measuring", done, len(embeddings.layers))
        numbers = isotropy.measure(
            embeddings.vectors(name),
            speakers,
            resamples=RESAMPLES if name == chosen else LAYER_RESAMPLES,
        )
        layers[name] = {metric: number.as_dict() for metric, number in numbers.items()}
    vectors = embeddings.vectors(chosen)
    return {
        "encoder": info.name,
        "corpus": corpus.name,
        "split": split or ("test" if set(corpus.table["split"]) == {"test"} else "all"),
        "n_clips": embeddings.n,
        "layer": chosen,
        "pooling": embeddings.metadata["pooling"],
        "isotropy": layers[chosen],
        "layers": layers,
        "spectrum": isotropy.spectrum(vectors).tolist(),
        "cosines": isotropy.cosines(vectors, COSINE_PAIRS, seed=0).tolist(),
        "embeddings": str(embeddings.path),
        "left_out": embeddings.metadata["left_out"],
        "encoder_fingerprint": info.fingerprint,
        "corpus_fingerprint": corpus.fingerprint,
    }


def _speakers(embeddings: Embeddings) -> np.ndarray | None:
    table = embeddings.table
    if "speaker" not in table or (table["speaker"] == "").all():
        return None
    return table["speaker"].to_numpy()


def _pooling(info: EncoderInfo, pooling: str | None) -> str:
    return pooling or info.refinement.get("pooling", "mean")


def _cache_path(
    info: EncoderInfo, corpus: Corpus, layer: str | int | None, pooling: str | None
) -> Path:
    chosen = info.refinement.get("layer", "mean") if layer is None else layer
    name = f"{info.fingerprint[:16]}-{corpus.fingerprint[:16]}-{chosen}-{_pooling(info, pooling)}"
    return paths.cache() / "evaluations" / f"{name}-v{VERSION}.json"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
