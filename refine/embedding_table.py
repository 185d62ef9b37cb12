"""The embedding table: a Parquet file with one vector a clip and layer, read layer by layer.

Columns: `clip` (path relative to the corpus), `layer`, `vector` (fixed-size list of float32), and
one a factor. Rows are ordered by layer, then as in the corpus; a row group never spans two layers,
so one layer is read without touching the others.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = 1
ROW_GROUP = 16_384  # rows; 50 MB of 768 float32
CONTENT = 16  # digits kept of the hash of a recording
EMBEDDING_NAMES = ("0", "mean")  # what the only layer of a speaker network also goes by


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
        dim = self._file.schema_arrow.field("vector").type.list_size
        found = np.empty((self._stored, dim), dtype=np.float32)

        def take(start: int, x: np.ndarray) -> None:
            found[start : start + len(x)] = x

        self._read(layer, take)
        return found

    def _read(self, layer: str | int, take: Callable[[int, np.ndarray], None]) -> None:
        """Pass each stretch of vectors with the row it starts at, as they lie in the file."""
        groups = self._groups(str(layer))
        starts = np.cumsum([0, *(self._file.metadata.row_group(g).num_rows for g in groups[:-1])])
        dim = self._file.schema_arrow.field("vector").type.list_size

        def read(group: int, start: int) -> None:
            own = pq.ParquetFile(self.path, memory_map=True)  # a reader is for one thread
            for chunk in own.read_row_group(group, columns=["vector"]).column("vector").chunks:
                take(start, chunk.flatten().to_numpy().reshape(-1, dim))
                start += len(chunk)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(read, groups, starts.tolist()))

    def save_layer(self, layer: str | int, out: Path, **more: Any) -> "Embeddings":
        """Write one layer as a table of its own; `more` joins its metadata."""
        groups = self._groups(str(layer))
        metadata = {**self.metadata, "layers": [str(layer)], **more}
        rows = self._file.read_row_groups(groups)
        with replacing(out) as temporary:
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
        rows: list[int] = []

        def look(start: int, x: np.ndarray, rows: list[int] = rows) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                odd = np.flatnonzero(~np.isfinite(x @ np.ones(x.shape[1], np.float32)))
            # a sum may overflow by itself
            rows += (start + odd[~np.isfinite(x[odd]).all(axis=1)]).tolist()

        table._read(layer, look)  # in stretches, so that a large table is never held whole
        for row in sorted(rows):
            found.setdefault(row, []).append(layer)
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
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
