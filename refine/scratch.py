"""Vectors on their way to an embedding table: on disk, so that a stopped extraction goes on."""

import shutil
from pathlib import Path

import numpy as np


class Scratch:
    """A memory-mapped array of vectors, (layers, clips, dim), and which clips are done.

    What is there already is kept, unless its shape is another.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        vectors, done = folder / "vectors.npy", folder / "done.npy"
        if vectors.exists() and np.load(vectors, mmap_mode="r").shape != shape:
            vectors.unlink()
        if not vectors.exists():
            np.lib.format.open_memmap(vectors, "w+", np.float32, shape)
            np.lib.format.open_memmap(done, "w+", np.bool_, (shape[1],))
        self.vectors = np.lib.format.open_memmap(vectors, "r+")
        self.done = np.lib.format.open_memmap(done, "r+")

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        self.vectors[:, rows] = values
        # vectors reach the disk before they count as done
        self.vectors.flush()
        self.done[rows] = True

    def remove(self) -> None:
        del self.vectors, self.done
        shutil.rmtree(self.folder, ignore_errors=True)
