"""An embedding table for other viewers: Parquet with coordinates, TensorBoard's projector.

    export("mini-rewire", open_corpus(folder), Path("out"), form="projector", against="mini")

Both hold the same clips in the same order, with the path of every recording, so that a viewer
can play it. Coordinates are those of the house's maps: one PCA for both encoders of a pair.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from refine import evaluation, maps
from refine.corpus import Corpus, open_corpus
from refine.embeddings import Embeddings, open_embeddings
from refine.projection import joint_pca
from refine.runs import Run

Form = Literal["parquet", "projector"]
FORMS: tuple[Form, ...] = ("parquet", "projector")
DIGITS = 7  # of a float32, in TSV
Progress = Callable[[str, int, int], None]


class ExportError(ValueError):
    """A table that cannot be written. The message says what to do."""


class Exported(NamedTuple):
    """The files that were written, and how many clips they hold."""

    files: tuple[Path, ...]
    n: int
    dim: int


def export(
    encoder: str | Path,
    source: Corpus | str | Path,
    out: Path,
    form: Form = "parquet",
    *,
    against: str | Path | None = None,
    split: str | None = None,
    layer: str | int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the vectors of an encoder's clips for another viewer; extracts them where needed.

    Args:
        out: a folder, made where it is not there. Files of the same name are replaced.
        form: "parquet": `embeddings.parquet`, a row a clip: clip, audio (path of the recording),
            split, duration_s, factors, vector, pca_x, pca_y, and umap_x, umap_y where a UMAP is
            in the cache. "projector": `vectors.tsv`, `metadata.tsv`, `projector_config.pbtxt`.
        against: another encoder; the coordinates are then joint, and Parquet also holds
            `against_vector`, `against_pca_x`, `against_pca_y`.
        split, layer: as `evaluation.evaluate`.
    Raises: `ExportError`, `EncoderError`, `CorpusError`.
    """
    if form not in FORMS:
        raise ExportError(f"format: got {form!r}; expected one of: {', '.join(FORMS)}")
    whole = source if isinstance(source, Corpus) else open_corpus(source)
    corpus = evaluation.choose_split(whole, split)
    table, vectors, other = _vectors(encoder, against, corpus, layer, progress)
    if layer is None:
        drawn = _umap(encoder, against, whole, split, table["clip"].tolist())
        table = pd.concat([table, _columns(drawn)], axis=1)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            files = [_parquet(out / "embeddings.parquet", table, vectors, other)]
        else:
            files = _projector(out, table, vectors)
    except OSError as error:
        raise ExportError(
            f"{out}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    return Exported(tuple(files), len(table), vectors.shape[1])


def work(run: Run, resume: bool) -> dict[str, Any]:
    """The task of a page: write a table; the result names its files."""
    from refine.worker import progress

    config, report = run.config, progress(run)
    corpus = open_corpus(config["corpus"], progress=lambda *n: report("opening the corpus", *n))
    options = dict(config["options"])
    out, form = Path(options.pop("out")), options.pop("form")
    options.pop("stamp", None)
    done = export(config["encoder"], corpus, out, form, **options, progress=report)
    return {"files": [str(path) for path in done.files], "n": done.n, "dim": done.dim}


def _vectors(
    encoder: str | Path,
    against: str | Path | None,
    corpus: Corpus,
    layer: str | int | None,
    progress: Progress | None,
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
    """Clips, their vectors, and those of the other encoder; clips that both could encode."""
    first, own = _table(encoder, corpus, layer, progress)
    vectors, table = first.vectors(own), first.table
    other = None
    if against is not None:
        second, name = _table(against, corpus, layer, progress)
        places = {clip: row for row, clip in enumerate(second.table["clip"])}
        kept = np.array([clip in places for clip in table["clip"]])
        table, vectors = table[kept].reset_index(drop=True), vectors[kept]
        other = second.vectors(name)[[places[clip] for clip in table["clip"]]]
    known = corpus.table.set_index("clip").reindex(table["clip"])
    ahead = pd.DataFrame(
        {
            "clip": table["clip"],
            "audio": [str(corpus.path(clip)) for clip in table["clip"]],
            "split": known["split"].to_numpy(),
            "duration_s": known["duration_s"].to_numpy(),
        }
    )
    factors = table.drop(columns=["clip", *[c for c in ahead if c in table and c != "clip"]])
    xy = joint_pca(vectors, other if other is not None else vectors)
    drawn = {"pca": xy.before} | ({"against_pca": xy.after} if other is not None else {})
    return pd.concat([ahead, factors, _columns(drawn)], axis=1), vectors, other


def _columns(drawn: dict[str, np.ndarray]) -> pd.DataFrame:
    """name -> (n, 2) as columns name_x, name_y."""
    return pd.DataFrame(
        {
            f"{name}_{axis}": values[:, i]
            for name, values in drawn.items()
            for i, axis in enumerate("xy")
        }
    )


def _umap(
    encoder: str | Path, against: str | Path | None, whole: Corpus, split: str | None,
    clips: list[str],
) -> dict[str, np.ndarray]:  # fmt: skip
    """The aligned UMAP of the pair where a page has made one; clips it did not draw are NaN."""
    if against is None:
        return {}
    results = {
        role: evaluation.cached(name, whole, split=split)
        for role, name in (("before", against), ("after", encoder))
    }
    if None in results.values():
        return {}
    drawn = maps.found({role: one for role, one in results.items() if one}, "umap")
    if drawn is None:
        return {}
    place = {clip: row for row, clip in enumerate(drawn.table["clip"])}
    rows = np.array([place.get(clip, -1) for clip in clips])
    return {
        name: np.where(rows[:, None] < 0, np.nan, drawn.xy[role][rows])
        for name, role in (("umap", "after"), ("against_umap", "before"))
    }


def _table(
    encoder: str | Path, corpus: Corpus, layer: str | int | None, progress: Progress | None
) -> tuple[Embeddings, str]:
    """The table that holds a layer of an encoder, and the layer's name in it."""
    from refine.encoders import peek

    tables = evaluation.Tables(encoder, progress=progress)
    wanted = peek(encoder).layer if layer is None else layer
    found = tables.of(corpus, "projected" if wanted == "projected" else "all")
    name = evaluation.chosen_layer(peek(encoder), found, wanted)
    return open_embeddings(found.path), name


def _parquet(
    path: Path, table: pd.DataFrame, vectors: np.ndarray, other: np.ndarray | None
) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(table[name]) for name in table.columns}
    for name, rows in (("vector", vectors), ("against_vector", other)):
        if rows is not None:
            flat = pa.array(rows.astype(np.float32).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    pq.write_table(pa.table(columns), path)
    return path


def _projector(out: Path, table: pd.DataFrame, vectors: np.ndarray) -> list[Path]:
    """The three files of projector.tensorflow.org and of TensorBoard's own projector."""
    files = [out / name for name in ("vectors.tsv", "metadata.tsv", "projector_config.pbtxt")]
    np.savetxt(files[0], vectors, delimiter="\t", fmt=f"%.{DIGITS}g")
    shown = table.drop(
        columns=[name for name in table if re.search(r"(pca|umap)_[xy]$", str(name))]
    )
    # a line is a clip: a label may hold neither tabs nor line breaks
    clean = shown.astype(str).map(lambda text: re.sub(r"[\t\r\n]+", " ", text))
    clean.columns = [re.sub(r"[\t\r\n]+", " ", str(name)) for name in clean.columns]
    lines = ["\t".join(row) for row in [list(clean.columns), *clean.to_numpy().tolist()]]
    files[1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    files[2].write_text(
        'embeddings {\n  tensor_name: "refine"\n  tensor_path: "vectors.tsv"\n'
        '  metadata_path: "metadata.tsv"\n}\n',
        encoding="utf-8",
    )
    return files
