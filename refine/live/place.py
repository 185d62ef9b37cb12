"""Where a live vector falls on the map of a corpus: the joint PCA of before and after, kept open.

`projection.joint_pca` gives the coordinates of the corpus; here the same axes take new vectors.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from refine.projection import joint_pca, sample

MOST = 600  # clips on a live map; more are sampled
NEAREST = 3


class Spot(NamedTuple):
    """A vector on a map."""

    x: float
    y: float
    near: tuple[int, ...]  # rows of the nearest clips by cosine in the space, nearest first


@dataclass(frozen=True)
class Room:
    """One space of a map: what turns a vector into coordinates, and the corpus in it."""

    axes: Float[np.ndarray, "dim 2"]
    offset: Float[np.ndarray, " 2"]
    unit: Float[np.ndarray, "n dim"]  # unit vectors of the corpus
    xy: Float[np.ndarray, "n 2"]

    def place(self, vector: Float[np.ndarray, " dim"]) -> Spot:
        """Coordinates and nearest clips. Raises: `ValueError` for another width or zeros."""
        length = float(np.linalg.norm(vector))
        if vector.shape != (self.unit.shape[1],) or not length > 0:
            raise ValueError(
                f"vector: got shape {vector.shape}, length {length:g}; this map holds vectors of "
                f"{self.unit.shape[1]} numbers that are not all zero"
            )
        one = np.asarray(vector, dtype=np.float64) / length
        x, y = one @ self.axes - self.offset
        near = np.argsort(-(self.unit @ one), kind="stable")[:NEAREST]
        return Spot(float(x), float(y), tuple(map(int, near)))


def rooms(before: Float[np.ndarray, "n d"], after: Float[np.ndarray, "n c"]) -> tuple[Room, Room]:
    """Both spaces of a joint PCA, ready for new vectors. Raises: as `joint_pca`."""
    joint = joint_pca(before, after)
    first, second = _unit(before), _unit(after)
    turns = [np.eye(first.shape[1]), np.eye(second.shape[1])]
    if first.shape[1] != second.shape[1]:
        narrow = 0 if first.shape[1] < second.shape[1] else 1
        pair = (first, second)
        left, _, right = np.linalg.svd(
            pair[narrow].T @ pair[1 - narrow], full_matrices=False
        )  # the map that joint_pca lays the narrow space with
        turns[narrow] = left @ right
    both = np.concatenate([first @ turns[0], second @ turns[1]])
    mean = both.mean(axis=0)
    xy = np.concatenate([joint.before, joint.after])
    # the axes are eigenvectors: X'(Xv) = v·|Xv|², so they follow from what they gave
    axes = (both - mean).T @ xy / (xy**2).sum(axis=0)
    found = [
        Room(turn @ axes, mean @ axes, unit, drawn)
        for turn, unit, drawn in zip(
            turns, (first, second), (joint.before, joint.after), strict=True
        )
    ]
    return found[0], found[1]


def alone(vectors: Float[np.ndarray, "n d"]) -> Room:
    """A space by itself, such as one subspace."""
    return rooms(vectors, vectors)[0]


def drawn(n: int) -> np.ndarray:
    """Rows of a corpus of n clips that a live map shows."""
    return sample(n, MOST, seed=0).rows


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
