"""The linked maps of two evaluations: the same clips in both, joint PCA or aligned UMAP, kept.

    drawn = joint({"before": result, "after": other}, "pca")
    drawn.xy["after"], drawn.quality["after"]["trustworthiness"], drawn.note

A map is made once a pair and kept by the fingerprints of encoders and clips; `found` reads it back.
Two UMAPs fitted apart cannot be compared and are not made: both are laid out together, each clip
held near its own place in the other (AlignedUMAP of umap-learn).
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from refine import paths
from refine.embeddings import open_embeddings, same_recordings
from refine.evaluation import table_of
from refine.metrics.intervals import Groups, Number, from_values
from refine.neighbours import K, overlap
from refine.projection import Sample, joint_pca, quality, sample

VERSION = 2  # raised when what is kept changes
MOST = {"pca": 20_000, "umap": 2_000}  # clips on a map; of more, so many are drawn
FEWEST_UMAP = 20  # clips
UMAP_NEIGHBOURS = 15
UMAP_EPOCHS = 200
METHODS = ("pca", "umap")

Method = Literal["pca", "umap"]
Results = Mapping[str, dict[str, Any]]  # role -> a result of `evaluation.evaluate`
Coordinates = Float[np.ndarray, "n 2"]
Progress = Callable[[str, int, int], None]


class MapError(ValueError):
    """A map that cannot be drawn. The message says why."""


class Clips(NamedTuple):
    """The clips that both encoders have, a draw of many; and their vectors by role."""

    table: pd.DataFrame  # clip and factors
    vectors: dict[str, np.ndarray]
    n: int  # clips there are
    note: str  # what was drawn

    def some(self, most: int, seed: int = 0) -> "Clips":
        """At most `most` of these, each speaker by its share."""
        if len(self.table) <= most:
            return self
        rows = _draw(self.table, most, seed).rows
        vectors = {role: x[rows] for role, x in self.vectors.items()}
        note = f"{most:,} of {self.n:,} clips, drawn with seed {seed}"
        note += ", each speaker by its share" if "speaker" in self.table else ""
        return Clips(self.table.iloc[rows].reset_index(drop=True), vectors, self.n, note)


class Map(NamedTuple):
    """Coordinates of the same clips by role, and how far they can be trusted."""

    table: pd.DataFrame
    xy: dict[str, Coordinates]
    quality: dict[str, dict[str, Number]]  # trustworthiness, neighbours_kept, seed_agreement
    shown: dict[str, float]  # share of the variance on the map; only of a PCA
    note: str


def clips(results: Results, most: int, layer: str | None = None, seed: int = 0) -> Clips:
    """The clips that all results have in common, each speaker by its share where there are more.

    Raises: `MapError` for results without a clip in common; `EmbeddingsError` for clips that only
        share their names.
    """
    opened = {role: open_embeddings(table_of(result, layer)) for role, result in results.items()}
    same_recordings(list(opened.values()))
    tables = {role: found.table.fillna("") for role, found in opened.items()}
    table, *others = tables.values()
    same = all(other["clip"].equals(table["clip"]) for other in others)  # no clip is looked up
    for other in [] if same else others:
        table = table[table["clip"].isin(other["clip"])]
    if not len(table):
        raise MapError("the two encoders have no clip in common; measure both on the same corpus")
    drawn = _draw(table, most, seed)
    table = table.iloc[drawn.rows].reset_index(drop=True)
    vectors = {}
    for role, found in opened.items():
        rows = drawn.rows
        if not same:
            places = pd.Series(np.arange(len(tables[role])), index=tables[role]["clip"])
            rows = places.loc[table["clip"]].to_numpy()
        whole = found.vectors(layer or results[role]["layer"])
        vectors[role] = whole if same and len(rows) == len(whole) else whole[rows]
    note = drawn.note.replace("each group", "each speaker").replace("groups left", "speakers left")
    return Clips(table, vectors, drawn.n, note)


def speakers_of(table: pd.DataFrame) -> np.ndarray | None:
    """A label a clip, "" unknown; None where nobody is known."""
    known = table["speaker"].fillna("").to_numpy(dtype=object) if "speaker" in table else None
    return known if known is not None and (known != "").any() else None


def _draw(table: pd.DataFrame, most: int, seed: int) -> Sample:
    by = table["speaker"].to_numpy() if "speaker" in table else None
    return sample(len(table), most, seed, stratify=by)


def found(
    results: Results, method: Method = "pca", layer: str | None = None, seed: int = 0
) -> Map | None:
    """The map that was made before, or None."""
    kept = load(_path(results, method, layer, seed))
    return None if kept is None else _read(*kept)


def joint(
    results: Results,
    method: Method = "pca",
    layer: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Map:
    """Both spaces on one pair of maps, made or read back.

    Args:
        results: "before" and, if there is one, "after" -> result of `evaluate`.
        method: "pca" (no chance in it) or "umap" (aligned, made twice to see what the seed does).
    Raises: `MapError` for an unknown method, too few clips or vectors that cannot be mapped.
    """
    if method not in METHODS:
        raise MapError(f"method: got {method!r}; expected {' or '.join(METHODS)}")
    kept = found(results, method, layer, seed)
    if kept is not None:
        return kept
    chosen = clips(results, MOST[method], layer, seed)
    make = _pca if method == "pca" else _umap
    try:
        drawn = make(chosen, seed, progress or (lambda *_: None))
    except ValueError as error:
        raise error if isinstance(error, MapError) else MapError(str(error)) from error
    _write(_path(results, method, layer, seed), drawn)
    return drawn


def thinned(drawn: Map, most: int, keep: Sequence[str] = (), seed: int = 0) -> Map:
    """About `most` points of a map, each speaker by its share, and the clips of `keep` among them.

    Its qualities are of the whole.
    """
    if len(drawn.table) <= most:
        return drawn
    rows = _draw(drawn.table, most, seed).rows
    rows = np.union1d(rows, np.flatnonzero(drawn.table["clip"].isin(list(keep))))
    xy = {role: places[rows] for role, places in drawn.xy.items()}
    note = f"{len(rows):,} of its {len(drawn.table):,} points are shown. {drawn.note}"
    return drawn._replace(table=drawn.table.iloc[rows].reset_index(drop=True), xy=xy, note=note)


def aligned_umap(
    spaces: list[np.ndarray], neighbours: int = UMAP_NEIGHBOURS, seed: int = 0
) -> list[Coordinates]:
    """UMAP (McInnes et al. 2018) of the same clips in several spaces, laid out together.

    AlignedUMAP of umap-learn, by cosine: each layout is of its own space, and every clip is drawn
    to the places that its neighbours have in the other. Seeded, so it repeats on one machine.
    Raises: `MapError` for less than `FEWEST_UMAP` clips, or a clip that has no place.
    """
    n = len(spaces[0])
    if n < FEWEST_UMAP:
        raise MapError(f"a UMAP needs at least {FEWEST_UMAP} clips; got {n}")
    import umap  # compiles for some seconds

    model = umap.AlignedUMAP(
        n_neighbors=min(neighbours, n - 1),
        metric="cosine",
        n_epochs=UMAP_EPOCHS,
        alignment_window_size=1,
        random_state=seed,
        transform_seed=seed,  # of the layout: without it every seed gives the same one
    )
    same = {row: row for row in range(n)}
    model.fit(
        [np.asarray(x, dtype=np.float32) for x in spaces], relations=[same] * (len(spaces) - 1)
    )
    places = [np.asarray(place, dtype=np.float64) for place in model.embeddings_]
    if not all(np.isfinite(place).all() for place in places):
        raise MapError("some clips are neighbour to none, so UMAP has no place for them; use PCA")
    return places


def seed_agreement(
    first: Coordinates, second: Coordinates, k: int = K, speakers: Groups | None = None
) -> Number:
    """Share of the k nearest on one map that are so on the map of another seed.

    Range 0 to 1, 1: the seed changes nothing. Null: maps that have nothing to do with each other.
    Control: the neighbours of another clip. speakers: a label a clip, for the interval.
    """
    n = len(first)
    k = min(k, (n - 1) // 2)
    near = [_near(xy, k) for xy in (first, second)]
    other = near[1][np.random.default_rng(0).permutation(n)]
    return from_values(
        overlap(*near),
        f"Share of the {k} nearest on the map that are so on the map of another seed. Null: a map "
        "that knows nothing. Control: the neighbours of another clip.",
        speakers,
        range=(0.0, 1.0),
        direction="higher",
        null=k / (n - 1),
        control=float(overlap(near[0], other).mean()),
    )


def _near(xy: Coordinates, k: int) -> Int[np.ndarray, "n k"]:
    near = cKDTree(xy).query(xy, k + 1)[1]
    own = near == np.arange(len(xy))[:, None]
    own[~own.any(axis=1), -1] = True  # of clips at one place the tree may leave the clip out
    return near[~own].reshape(len(xy), k)


def _pca(chosen: Clips, seed: int, progress: Progress) -> Map:
    progress("projecting both encoders", 0, 1)
    first, *rest = chosen.vectors.values()
    drawn = joint_pca(first, rest[0] if rest else first)
    xy = dict(zip(chosen.vectors, (drawn.before, drawn.after), strict=False))
    shown = dict(zip(chosen.vectors, (drawn.shown_before, drawn.shown_after), strict=False))
    progress("judging the map", 0, 1)
    who = speakers_of(chosen.table)
    trust = {role: quality(chosen.vectors[role], xy[role], seed=seed, speakers=who) for role in xy}
    return Map(chosen.table, xy, trust, shown, f"{_capital(chosen.note)}; {drawn.note}.")


def _umap(chosen: Clips, seed: int, progress: Progress) -> Map:
    progress("laying out both encoders together", 0, 3)
    spaces = list(chosen.vectors.values())
    spaces = spaces if len(spaces) > 1 else spaces * 2
    places = aligned_umap(spaces, seed=seed)
    progress("laying out once more with another seed", 1, 3)
    others = aligned_umap(spaces, seed=seed + 1)
    progress("judging the map", 2, 3)
    xy = dict(zip(chosen.vectors, places, strict=False))
    again = dict(zip(chosen.vectors, others, strict=False))
    trust, who = {}, speakers_of(chosen.table)
    for role in xy:
        trust[role] = quality(chosen.vectors[role], xy[role], seed=seed, speakers=who)
        trust[role]["seed_agreement"] = seed_agreement(xy[role], again[role], speakers=who)
    note = (
        f"{_capital(chosen.note)}; one aligned UMAP of both (cosine, {UMAP_NEIGHBOURS} neighbours, "
        f"seed {seed}). Who is whose neighbour can be read from it, distances and sizes of "
        "clusters cannot."
    )
    return Map(chosen.table, xy, trust, {}, note)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def key(results: Results, layer: str | None, *more: Any) -> str:
    """Names what is made of these results: encoders, clips, layers."""
    parts = [
        [role, r["encoder_fingerprint"], r["corpus_fingerprint"], layer or r["layer"], r["pooling"]]
        for role, r in results.items()
    ]
    return hashlib.sha256(json.dumps([parts, more]).encode()).hexdigest()[:20]


def _path(results: Results, method: str, layer: str | None, seed: int) -> Path:
    name = key(results, layer, method, MOST.get(method), seed)
    return paths.cache() / "maps" / f"{name}-v{VERSION}.npz"


def save(path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Numbers and arrays as one file, there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    told = np.frombuffer(json.dumps(meta, allow_nan=False).encode(), dtype=np.uint8)
    try:
        np.savez(temporary, allow_pickle=False, meta=told, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """What `save` wrote; None where it is not there or torn, so that it is made again."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return json.loads(arrays.pop("meta").tobytes()), arrays
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _write(path: Path, drawn: Map) -> None:
    meta = {
        "table": {name: drawn.table[name].astype(str).tolist() for name in drawn.table},
        "quality": {
            role: {name: one.as_dict() for name, one in numbers.items()}
            for role, numbers in drawn.quality.items()
        },
        "shown": drawn.shown,
        "note": drawn.note,
    }
    save(path, meta, drawn.xy)


def _read(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Map:
    trust = {
        role: {name: number(one) for name, one in numbers.items()}
        for role, numbers in meta["quality"].items()
    }
    return Map(pd.DataFrame(meta["table"]), arrays, trust, meta["shown"], meta["note"])


def number(one: dict[str, Any]) -> Number:
    """A Number from `Number.as_dict`."""
    low, high = one["range"]
    ends = (-np.inf if low is None else low, np.inf if high is None else high)
    return Number(**{**one, "range": ends})
