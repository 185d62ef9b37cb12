"""The clips that stand still on a live map, read from tables of an evaluation. Without torch."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from refine.embeddings import open_embeddings, same_recordings
from refine.live import place
from refine.live.place import Room

Spec = dict[str, dict[str, Any]]  # role -> path of the table, layer, subspaces {name: [from, to]}


@dataclass(frozen=True)
class Cloud:
    """The same clips in each space, row for row."""

    table: pd.DataFrame  # clip and factors
    vectors: dict[str, Float[np.ndarray, "n dim"]]  # role -> vectors
    rooms: dict[str, Room]  # role -> the joint map
    subspaces: dict[str, Room]  # name -> a map of its own


def load(spec: Spec) -> Cloud:
    """Clips that every table has, at most `place.MOST` of them, and their maps.

    Raises: `EmbeddingsError` for a table that is gone, `ValueError` for too few clips.
    """
    return _load(tuple((role, tuple(sorted(_plain(one).items()))) for role, one in spec.items()))


@lru_cache(maxsize=8)
def _load(items: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]) -> Cloud:
    spec = {role: dict(one) for role, one in items}
    opened = {role: open_embeddings(one["path"]) for role, one in spec.items()}
    same_recordings(list(opened.values()))
    tables = {role: found.table.reset_index(names="row") for role, found in opened.items()}
    table = next(iter(tables.values()))
    for other in list(tables.values())[1:]:
        table = table[table["clip"].isin(other["clip"])]
    table = table.iloc[place.drawn(len(table))].reset_index(drop=True)
    vectors = {}
    for role, found in opened.items():
        rows = tables[role].set_index("clip")["row"].loc[table["clip"]].to_numpy()
        vectors[role] = np.asarray(found.vectors(spec[role]["layer"])[rows], dtype=np.float64)
    first = next(iter(vectors.values()))
    pair = place.rooms(first, vectors.get("after", first))
    rooms = dict(zip(("before", "after"), pair, strict=True))
    blocks = dict(spec.get("after", {}).get("subspaces", ()))
    subspaces = {
        name: place.alone(vectors["after"][:, start:stop]) for name, (start, stop) in blocks.items()
    }
    return Cloud(
        table.drop(columns="row"), vectors, {role: rooms[role] for role in vectors}, subspaces
    )


def _plain(one: dict[str, Any]) -> dict[str, Any]:
    """Hashable: blocks of subspaces as tuples."""
    blocks = tuple((name, tuple(ends)) for name, ends in (one.get("subspaces") or {}).items())
    return {"path": str(one["path"]), "layer": str(one["layer"]), "subspaces": blocks}
