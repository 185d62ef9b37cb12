"""Multi-crop views of utterances for self-distillation (DINO; Caron 2021, Cho et al. 2022).

Every view is a chunk from a start of its own, in surroundings of its own. Views of one utterance
share the speaker and, as far as the surroundings leave it, the channel.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from refine import audio
from refine.corpus import Corpus, CorpusError
from refine.surroundings import Surroundings

ORDER, STARTS, AROUND = 10, 11, 12  # independent streams of random numbers of one seed
KEPT_SAMPLES = 8 * 3600 * audio.SAMPLE_RATE  # decoded audio that stays in memory: 8 h, 920 MB
SPREAD_DRAWS = 5  # starts drawn for two long chunks that are to lie apart


class Crops(NamedTuple):
    """Views of a batch, view by view: row `v * batch + i` is view v of utterance i."""

    long: Float[Tensor, "long_rows samples"]
    long_lengths: Int[Tensor, " long_rows"]
    short: Float[Tensor, "short_rows samples"]
    short_lengths: Int[Tensor, " short_rows"]
    rows: Int[np.ndarray, " batch"]  # of the corpus
    step: int
    audio_s: float  # seconds the student hears, padding left out


class CropSource:
    """Views of a corpus. A batch depends on the seed and the step alone.

    Every epoch meets each clip at most once. With several processes each takes its share of the
    batch: the same rows meet whatever their number.
    """

    def __init__(
        self,
        corpus: Corpus,
        surroundings: Surroundings,
        *,
        long_seconds: float,
        short_seconds: float,
        long_views: int = 2,
        short_views: int = 4,
        spread_share: float = 0.0,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
    ):
        """`spread_share`: how often the two long chunks are the first and last of five drawn.

        Raises: `CorpusError` where the long chunk is longer than every clip: all views of an
            utterance would be the whole of it.
        """
        self.corpus, self.surroundings = corpus, surroundings
        self.long, self.short = (
            int(seconds * audio.SAMPLE_RATE) for seconds in (long_seconds, short_seconds)
        )
        self.long_views, self.short_views = long_views, short_views
        self.spread_share, self.seed = spread_share, seed
        self.rank, self.processes = rank, processes
        self.clips = corpus.table["clip"].tolist()
        longest = float(corpus.table["duration_s"].max())
        if long_seconds > longest:
            raise CorpusError(
                f"{corpus.name}: long_seconds is {long_seconds:g}, but the longest clip has "
                f"{longest:.1f} s, so every view would be a whole clip; choose at most "
                f"{longest / 2:.1f}, or take longer recordings"
            )
        self._kept: dict[str, np.ndarray] = {}
        self._room = KEPT_SAMPLES
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="crops")
        self._coming: tuple[int, int, Future[Crops]] | None = None

    def steps_per_epoch(self, size: int) -> int:
        """Batches in which every clip is met once; a last, smaller one is left out."""
        return max(1, len(self.clips) // size)

    def batch(self, step: int, size: int) -> Crops:
        """The views of a step (1, 2, …) of at most `size` utterances, over all processes.

        Those of the next step are made meanwhile in a thread: what comes out is the same.
        """
        coming, self._coming = self._coming, None
        if coming and coming[:2] == (step, size):
            crops = coming[2].result()
        else:
            crops = self._ahead.submit(self._make, step, size).result()
        self._coming = (step + 1, size, self._ahead.submit(self._make, step + 1, size))
        return crops

    def _make(self, step: int, size: int) -> Crops:
        return self.views(self.rows(step, size)[self.rank :: self.processes], step)

    def rows(self, step: int, size: int) -> Int[np.ndarray, " batch"]:
        """Rows of the clips of a step, of all processes."""
        size = min(size, len(self.clips))
        epoch, place = divmod(step - 1, self.steps_per_epoch(size))
        order = np.random.default_rng([self.seed, ORDER, epoch]).permutation(len(self.clips))
        return order[place * size : (place + 1) * size]

    def views(self, rows: Int[np.ndarray, " batch"], step: int) -> Crops:
        """The views of some clips, as they would be in a step."""
        random = np.random.default_rng([self.seed, STARTS, step, self.rank])
        whole = [self._read(self.clips[row]) for row in rows]
        long, short = [], []
        starts = [self._long_starts(len(wave), random) for wave in whole]
        for view in range(self.long_views):
            long += [_cut(w, s[view], self.long) for w, s in zip(whole, starts, strict=True)]
        for _ in range(self.short_views):
            room = [max(0, len(wave) - self.short) for wave in whole]
            short += [
                _cut(w, int(random.integers(r + 1)), self.short)
                for w, r in zip(whole, room, strict=True)
            ]
        parts = []
        for number, chunks in enumerate((long, short)):
            around = int(
                np.random.default_rng([self.seed, AROUND, step, self.rank, number]).integers(2**31)
            )
            parts.append(self._surrounded(chunks, around))
        heard = sum(int(lengths.sum()) for _, lengths in parts)
        return Crops(*parts[0], *parts[1], rows, step, heard / audio.SAMPLE_RATE)

    def chunk(self, rows: Int[np.ndarray, " batch"], step: int) -> tuple[Tensor, Tensor]:
        """One long chunk of each clip, for supervised training on the same chunks."""
        crops = self.views(rows, step)
        return crops.long[: len(rows)], crops.long_lengths[: len(rows)]

    def _long_starts(self, samples: int, random: np.random.Generator) -> list[int]:
        """Where the long chunks of a clip start."""
        room = max(0, samples - self.long)
        drawn = [int(random.integers(room + 1)) for _ in range(self.long_views)]
        if self.spread_share and random.random() < self.spread_share:
            more = [
                *drawn,
                *(int(random.integers(room + 1)) for _ in range(SPREAD_DRAWS - len(drawn))),
            ]
            drawn[0], drawn[-1] = min(more), max(more)
        return drawn

    def _surrounded(self, chunks: list[np.ndarray], seed: int) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(chunk) for chunk in chunks], dtype=torch.long)
        waveforms = torch.zeros(len(chunks), int(lengths.max()) if chunks else 0)
        for row, chunk in zip(waveforms, chunks, strict=True):
            row[: len(chunk)] = torch.from_numpy(chunk.astype(np.float32) / 2**15)
        if chunks:
            waveforms = self.surroundings.add(waveforms, lengths, seed)
        return waveforms, lengths

    def _read(self, clip: str) -> np.ndarray:
        """A clip in 16 bits, decoded once while there is room."""
        kept = self._kept.get(clip)
        if kept is None:
            wave = self.corpus.waveform(clip)
            kept = np.clip(np.round(wave * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
            if len(kept) <= self._room:
                self._kept[clip] = kept
                self._room -= len(kept)
        return kept


def _cut(wave: np.ndarray, start: int, samples: int) -> np.ndarray:
    """A chunk; the whole clip where it is shorter."""
    return wave[start : start + samples]
