"""Evaluate an encoder on a corpus: embeddings once, then every metric as a Number.

The result is the `evaluate` object of the command line and what the pages draw. It is cached by the
fingerprints of encoder and corpus, so a page reads it back without loading torch.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from refine import encoders, paths
from refine.corpus import Corpus, CorpusError, open_corpus
from refine.embeddings import Embeddings, extract, find, open_embeddings
from refine.encoders import EncoderInfo, peek
from refine.factors import judge
from refine.metrics import isotropy

VERSION = 3  # raised when a number changes its meaning, so that no old result is shown
RESAMPLES = 200
COSINE_PAIRS = 20_000
PROBE_CLIPS = 2_000  # of the other splits, embedded to fit probes on; more are drawn

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
        every hidden state), `spectrum`, `cosines`, the path of the `embeddings`; `classes`,
        `verification`, `subspaces`, `probes`, `left_out_factors` (see `factors.judge`). Of an
        encoder with a projector the numbers are of layer "projected", unless another is asked for.
    Raises: `EncoderError`, `CorpusError`, `EmbeddingsError` with one sentence each.
    """
    whole = source if isinstance(source, Corpus) else open_corpus(source)
    corpus = choose_split(whole, split)
    tables = Tables(encoder, pooling, progress)
    hidden = tables.of(corpus, "all")
    info = peek(encoder)
    path = _cache_path(info, corpus, whole, layer, pooling)
    if path.exists():
        return _read(path)
    result = _measure(tables, info, whole, corpus, hidden, split, layer)
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
    whole = source if isinstance(source, Corpus) else open_corpus(source)
    path = _cache_path(peek(encoder), choose_split(whole, split), whole, layer, pooling)
    return _read(path) if path.exists() else None


def table_of(result: Mapping[str, Any], layer: str | int | None = None) -> str:
    """The path of the embedding table that holds a layer of a result (None: its own).

    Raises: `EmbeddingsError` for a file that holds another encoder or other recordings by now.
    """
    own = layer is None or str(layer) == result["layer"]
    path = result["embeddings"] if own else result["hidden"]
    expected = (result.get(f"{what}_fingerprint") for what in ("encoder", "corpus"))
    open_embeddings(path).expect(*expected)
    return path


def left_out(result: dict[str, Any]) -> dict[str, str]:
    """The clips that a result is not about, and why; those spoilt since it was made among them."""
    tables = {result["hidden"], result["embeddings"]}
    found = dict(result["left_out"])
    for path in sorted(tables):
        found |= open_embeddings(path).left_out
    return found


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


@dataclass
class Tables:
    """Embedding tables of one encoder, found in the cache or made; it is loaded when needed."""

    encoder: str | Path
    pooling: str | None = None
    progress: Progress | None = None
    _loaded: Any = field(default=None, repr=False)

    def of(self, corpus: Corpus, layer: str | int) -> Embeddings:
        """The table of a corpus and layer. Raises `EncoderError`, `EmbeddingsError`."""
        pooling = None if layer == "projected" else self.pooling  # a projector brings its own
        try:
            info = peek(self.encoder)
        except ValueError:
            info = (
                None  # a hub name before its first download; load says what is wrong, if anything
            )
        if info is not None:
            path = find(info.fingerprint, corpus.fingerprint, layer, pooling or info.pooling)
            if path is not None:
                return open_embeddings(path).expect(info.fingerprint, corpus.fingerprint)
        if self._loaded is None:
            self._loaded = encoders.load(self.encoder)
        report = self.progress
        return extract(
            self._loaded,
            corpus,
            layer=layer,
            pooling=pooling,
            progress=(lambda done, total: report("embedding", done, total)) if report else None,
        )


class Clips(NamedTuple):
    """Vectors of the evaluated clips and of those that probes are fitted on."""

    x: np.ndarray  # (n, d) float32
    table: pd.DataFrame  # clip, split, factors
    evaluated: np.ndarray  # bool, n


def clips_of(
    tables: Tables, whole: Corpus, corpus: Corpus, evaluated: Embeddings, layer: str
) -> Clips:
    """The evaluated clips, and beside test clips those of train and dev (a draw of many)."""
    parts = [(corpus, evaluated)]
    rest = _to_fit(whole, corpus)
    if rest is not None:
        parts.append((rest, tables.of(rest, layer if layer == "projected" else _asked(layer))))
    frames, vectors = [], []
    for part, embeddings in parts:
        split = part.table.set_index("clip")["split"]
        frame = embeddings.table
        frames.append(frame.assign(split=split.reindex(frame["clip"]).to_numpy()))
        vectors.append(embeddings.vectors(layer))
    table = pd.concat(frames, ignore_index=True).fillna("")
    return Clips(np.concatenate(vectors), table, np.arange(len(table)) < len(frames[0]))


def chosen_layer(info: EncoderInfo, hidden: Embeddings, layer: str | int | None) -> str:
    """The layer that numbers are about, as tables name it."""
    name = str(info.layer if layer is None else layer)
    # the one layer of a speaker network goes by several names
    return hidden.layers[0] if name == "embedding" and name not in hidden.layers else name


def blocks_of(info: EncoderInfo, layer: str, dim: int) -> dict[str, slice]:
    """Columns of each subspace; {"all": …} where there are none."""
    if layer != "projected" or not info.subspaces:
        return {"all": slice(0, dim)}
    ends = np.cumsum(list(info.subspaces.values())).tolist()
    starts = [0, *ends[:-1]]
    return {
        name: slice(start, end)
        for name, start, end in zip(info.subspaces, starts, ends, strict=True)
    }


def _to_fit(whole: Corpus, corpus: Corpus) -> Corpus | None:
    """Clips of train and dev that are not evaluated themselves; None where there are none."""
    if set(corpus.table["split"]) != {"test"}:
        return None
    others = whole.table["clip"][whole.table["split"].isin(["train", "dev"])]
    if not len(others):
        return None
    if len(others) > PROBE_CLIPS:
        others = others.sample(PROBE_CLIPS, random_state=0)
    return whole.subset(clips=others.tolist())


def _asked(layer: str) -> str | int:
    return int(layer) if layer.isdecimal() else layer


def _measure(
    tables: Tables,
    info: EncoderInfo,
    whole: Corpus,
    corpus: Corpus,
    hidden: Embeddings,
    split: str | None,
    layer: str | int | None,
) -> dict[str, Any]:
    chosen = chosen_layer(info, hidden, layer)
    table = tables.of(corpus, "projected") if chosen == "projected" else hidden
    speakers = _speakers(table)
    numbers = _isotropy(tables.progress, hidden)
    vectors = table.vectors(chosen)
    own = numbers.get(chosen)
    if own is None:
        found = isotropy.measure(vectors, speakers, resamples=RESAMPLES)
        own = {metric: number.as_dict() for metric, number in found.items()}
    clips = clips_of(tables, whole, corpus, table, chosen)
    report = tables.progress
    judged = judge(
        *clips,
        blocks_of(info, chosen, vectors.shape[1]),
        progress=(lambda *n: report("measuring factors", *n)) if report else None,
    )
    return {
        "encoder": info.name,
        "corpus": corpus.name,
        "split": split or ("test" if set(corpus.table["split"]) == {"test"} else "all"),
        "n_clips": table.n,
        "layer": chosen,
        "pooling": table.metadata["pooling"],
        "isotropy": own,
        "layers": numbers,
        "spectrum": isotropy.spectrum(vectors).tolist(),
        "cosines": isotropy.cosines(vectors, COSINE_PAIRS, seed=0).tolist(),
        **judged,
        "embeddings": str(table.path),
        "hidden": str(hidden.path),
        "left_out": {**hidden.left_out, **table.left_out},
        "encoder_fingerprint": info.fingerprint,
        "corpus_fingerprint": corpus.fingerprint,
    }


def _isotropy(progress: Progress | None, hidden: Embeddings) -> dict[str, dict[str, Any]]:
    """Of every hidden state, as exactly as of the chosen one: resamples cost next to nothing."""
    layers = {}
    for done, name in enumerate(hidden.layers):
        if progress:
            progress("measuring layers", done, len(hidden.layers))
        numbers = isotropy.measure(hidden.vectors(name), _speakers(hidden), resamples=RESAMPLES)
        layers[name] = {metric: number.as_dict() for metric, number in numbers.items()}
    return layers


def _speakers(embeddings: Embeddings) -> np.ndarray | None:
    table = embeddings.table
    if "speaker" not in table or (table["speaker"] == "").all():
        return None
    return table["speaker"].to_numpy()


def _cache_path(
    info: EncoderInfo,
    corpus: Corpus,
    whole: Corpus,
    layer: str | int | None,
    pooling: str | None,
) -> Path:
    chosen = info.layer if layer is None else layer
    # probes are fitted on the rest of the corpus, so that counts as well
    parts = (info.fingerprint[:16], corpus.fingerprint[:16], whole.fingerprint[:8])
    name = "-".join([*parts, str(chosen), pooling or info.pooling])
    return paths.cache() / "evaluations" / f"{name}-v{VERSION}.json"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
