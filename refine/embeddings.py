"""Embeddings: one vector a clip and layer, extracted once, kept as a Parquet table.

Columns: `clip` (path relative to the corpus), `layer`, `vector` (fixed-size list of float32), and
one a factor. Rows are ordered by layer, then as in the corpus; a row group never spans two layers,
so one layer is read without touching the others.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
from refine.scratch import Scratch

if TYPE_CHECKING:
    from torch import Tensor

    from refine.encoders import Encoder

FORMAT = 1
ROW_GROUP = 16_384  # rows; 50 MB of 768 float32
CONTENT = 16  # digits kept of the hash of a recording
MAX_BATCH = 64  # clips; beyond that a batch of words gains nothing
EMBEDDING_NAMES = ("0", "mean")  # what the only layer of a speaker network also goes by
Progress = Callable[[int, int], None]  # clips done, clips in all


class EmbeddingsError(ValueError):
    """An embedding table that cannot be made or read."""


@dataclass(frozen=True)
class Embeddings:
    """An embedding table on disk, read layer by layer through a memory map.

    A clip with a vector that is not finite, in whatever layer, is no row of it; see `left_out`.
    """

    path: Path

    @cached_property
    def _file(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path, memory_map=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise EmbeddingsError(
                f"{self.path}: not a readable embedding table ({error}); extract it again"
            ) from error

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Encoder and corpus names and fingerprints, pooling, layers, clips left out and why."""
        stored = (self._file.schema_arrow.metadata or {}).get(b"refine")
        if stored is None:
            raise EmbeddingsError(f"{self.path}: a Parquet file, but not written by refine embed")
        return json.loads(stored)

    @property
    def layers(self) -> list[str]:
        """Layer names in order: "0" (input of the first layer) …, "mean"; or one that was asked."""
        return self.metadata["layers"]

    @property
    def n(self) -> int:
        """Clips in the table."""
        return self._stored - len(self._spoilt)

    @cached_property
    def table(self) -> pd.DataFrame:
        """`clip` and the factors, one row a clip, in the order of `vectors`."""
        return self._rows.drop(index=list(self._spoilt)).reset_index(drop=True)

    @cached_property
    def left_out(self) -> dict[str, str]:
        """The clips that have no vector here, and why."""
        clips = self._rows["clip"]
        told = self.metadata.get("left_out", {})
        return {**told, **{clips[r]: why for r, why in self._spoilt.items()}}

    @cached_property
    def contents(self) -> dict[str, str]:
        """A short hash of the recording of each clip; empty where the table does not tell."""
        told = self.metadata.get("contents", "")
        clips = self._rows["clip"]
        if len(told) != CONTENT * len(clips):
            return {}
        return {clip: told[CONTENT * row : CONTENT * (row + 1)] for row, clip in enumerate(clips)}

    def vectors(self, layer: str | int) -> np.ndarray:
        """The vectors of one layer, shape (clips, dim), float32."""
        found = self._vectors(layer)
        return np.delete(found, list(self._spoilt), axis=0) if self._spoilt else found

    def expect(self, encoder: str | None, corpus: str | None) -> "Embeddings":
        """Itself. Raises `EmbeddingsError` for a table of another encoder or other recordings.

        Args: the fingerprints that are expected; None expects nothing.
        """
        for what, expected in (("encoder", encoder), ("corpus", corpus)):
            found = self.metadata.get(f"{what}_fingerprint")
            if found and expected and found != expected:
                raise EmbeddingsError(
                    f"{self.path}: holds vectors of another {what} ({self.metadata[what]}, "
                    f"fingerprint {found[:8]}…; expected {expected[:8]}…); remove the file and "
                    "measure again"
                )
        return self

    @property
    def _stored(self) -> int:
        """Rows a layer, the spoilt ones among them."""
        return self._file.metadata.num_rows // len(self.layers)

    @cached_property
    def _rows(self) -> pd.DataFrame:
        columns = [
            name for name in self._file.schema_arrow.names if name not in {"layer", "vector"}
        ]
        groups = self._groups(self.layers[0])
        return self._file.read_row_groups(groups, columns=columns).to_pandas()

    @cached_property
    def _spoilt(self) -> dict[int, str]:
        stat = self.path.stat()
        return _not_finite(self.path, stat.st_mtime_ns, stat.st_size)

    def _vectors(self, layer: str | int) -> np.ndarray:
        groups = self._groups(str(layer))
        starts = np.cumsum([0, *(self._file.metadata.row_group(g).num_rows for g in groups[:-1])])
        dim = self._file.schema_arrow.field("vector").type.list_size
        found = np.empty((self._stored, dim), dtype=np.float32)

        def read(group: int, start: int) -> None:
            own = pq.ParquetFile(self.path, memory_map=True)  # a reader is for one thread
            for chunk in own.read_row_group(group, columns=["vector"]).column("vector").chunks:
                found[start : start + len(chunk)] = chunk.flatten().to_numpy().reshape(-1, dim)
                start += len(chunk)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(read, groups, starts.tolist()))
        return found

    def save_layer(self, layer: str | int, out: Path, **more: Any) -> "Embeddings":
        """Write one layer as a table of its own; `more` joins its metadata."""
        groups = self._groups(str(layer))
        metadata = {**self.metadata, "layers": [str(layer)], **more}
        rows = self._file.read_row_groups(groups)
        with _replacing(out) as temporary:
            pq.write_table(
                rows.replace_schema_metadata({"refine": json.dumps(metadata)}),
                temporary, compression="NONE", use_dictionary=False, write_statistics=False,
                row_group_size=ROW_GROUP,
            )  # fmt: skip
        return open_embeddings(out)

    def _groups(self, layer: str) -> list[int]:
        if self.layers == ["embedding"] and layer in EMBEDDING_NAMES:
            layer = "embedding"
        if layer not in self.layers:
            raise EmbeddingsError(
                f"layer {layer}: not in the table; it has {', '.join(self.layers)}"
            )
        a_layer, rest = divmod(self._file.metadata.num_row_groups, len(self.layers))
        if rest or not a_layer:
            raise EmbeddingsError(
                f"{self.path}: {self._file.metadata.num_row_groups} row groups for "
                f"{len(self.layers)} layers; write it with row_group_size={self._stored}, so that "
                "each layer has its own"
            )
        first = self.layers.index(layer) * a_layer
        return list(range(first, first + a_layer))


@lru_cache(maxsize=256)
def _not_finite(path: Path, changed: int, size: int) -> dict[int, str]:
    """Row -> which layers hold NaN or infinity; every vector is read once a version of the file."""
    table = Embeddings(path)
    found: dict[int, list[str]] = {}
    for layer in table.layers:
        x = table._vectors(layer)
        with np.errstate(over="ignore", invalid="ignore"):
            odd = np.flatnonzero(~np.isfinite(x @ np.ones(x.shape[1], np.float32)))
        for row in odd[~np.isfinite(x[odd]).all(axis=1)]:  # a sum may overflow by itself
            found.setdefault(int(row), []).append(layer)
    if found and len(found) == table._stored:
        raise EmbeddingsError(
            f"{path}: every vector holds NaN or infinity; remove the file and measure again with "
            "an encoder whose weights are finite"
        )
    return {row: not_finite(layers) for row, layers in found.items()}


def not_finite(layers: Sequence[str]) -> str:
    """Why a clip is left out whose vectors of these layers cannot be measured."""
    which = f"layer{'s' * (len(layers) > 1)} {', '.join(layers)}"
    return f"its vector of {which} holds NaN or infinity; listen to it, and try another encoder"


def same_recordings(tables: Sequence[Embeddings]) -> None:
    """Check that a clip of one name is one recording in all tables.

    Tables of parts of one corpus share recordings; another corpus may share their names alone.
    Raises: `EmbeddingsError` naming a clip that is not the same.
    """
    first, *others = tables
    for other in others:
        shared = [clip for clip in first.contents if clip in other.contents]
        differ = [clip for clip in shared if first.contents[clip] != other.contents[clip]]
        if differ:
            names = [f"{one.metadata['encoder']} on {one.metadata['corpus']}" for one in tables]
            raise EmbeddingsError(
                f"{' and '.join(names)}: {len(differ):,} of {len(shared):,} clips of one name are "
                f"different recordings, the first is {differ[0]}; measure both on the same corpus"
            )


def open_embeddings(path: Path | str) -> Embeddings:
    """Open a table written by `extract`. Raises `EmbeddingsError` when it is none."""
    embeddings = Embeddings(Path(path))
    _ = embeddings.metadata
    return embeddings


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
    with _replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **plain) as writer:
        for index, layer in enumerate(metadata["layers"]):
            for start in range(0, len(rows), ROW_GROUP):
                part = slice(start, start + ROW_GROUP)
                vectors = np.ascontiguousarray(scratch.vectors[index, rows[part]])
                writer.write_table(_rows(factors.iloc[part], layer, vectors, schema))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` when it is whole."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise EmbeddingsError(
            f"{path}: the table could not be written ({error.strerror or error}); free some space "
            "and run it again, what was computed is kept"
        ) from error


def _rows(factors: pd.DataFrame, layer: str, vectors: np.ndarray, schema: pa.Schema) -> pa.Table:
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    values: dict[str, Any] = {
        name: pa.array(factors[name].astype(object).fillna("").astype(str), pa.string())
        for name in factors.columns
    }
    values |= {"layer": pa.array([layer] * len(factors), pa.string()), "vector": column}
    return pa.table([values[name] for name in schema.names], schema=schema)
