"""A look at held-out clips while an encoder is trained: does the space become what was meant?"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refine.encoders import Encoder
from refine.metrics import isotropy
from refine.pairs import Pairs, PairSource

ALIGNED_CLIPS = 50  # pairs embedded for the alignment; a curve needs no more
BATCH_CLIPS = 16


class HeldOut:
    """The same clips, embedded the same way, each time: the curve moves with the weights alone."""

    def __init__(self, encoder: Encoder, source: PairSource, layer: int | str, pooling: str):
        self.encoder, self.layer, self.pooling = encoder, layer, pooling
        self.durations = source.corpus.table["duration_s"].to_numpy()
        order = self.durations.argsort()  # clips of one length pad least
        aligned = order[:: max(1, len(order) // ALIGNED_CLIPS)][:ALIGNED_CLIPS]
        self.batches = [_utterances(source.pairs(rows, step=0)) for rows in _chunks(order)]
        self.aligned = [source.pairs(rows, step=0) for rows in _chunks(aligned)]

    def measure(self) -> dict[str, float]:
        """Isotropy of the clips, and how close positive pairs are beside random ones.

        `isoscore`, `partition`, `mean_cosine` of the utterance vectors; `aligned`, the mean cosine
        of a clip and its copy; `random`, that of a clip and another one's copy; `n`, the clips.
        """
        with evaluating(self.encoder):
            vectors = torch.cat([self._embed(pairs) for pairs in self.batches])
            halves = [self._embed(pairs).chunk(2) for pairs in self.aligned]
        x = vectors.double().cpu().numpy()
        ours, copies = (torch.cat(part) for part in zip(*halves, strict=True))
        cosines = torch.nn.functional.cosine_similarity(ours[:, None], copies[None], dim=-1)
        n = len(cosines)
        found: dict[str, float] = {}
        with suppress(ValueError):  # a collapsed space has no isotropy; the training still goes on
            found["isoscore"] = isotropy.isoscore(x)
            found["partition"] = isotropy.partition_isotropy(x)
            found["mean_cosine"] = isotropy.mean_cosine(x)
        return found | {
            "aligned": float(cosines.diagonal().mean()),
            "random": float((cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))),
            "n": len(x),
        }

    def _embed(self, pairs: Pairs) -> Float[Tensor, "clips dim"]:
        return self.encoder.embed(pairs.waveforms, pairs.lengths, self.layer, self.pooling)


@contextmanager
def evaluating(encoder: Encoder) -> Iterator[None]:
    """Without gradient and dropout; the mode of before comes back."""
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        encoder.train(training)


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + BATCH_CLIPS] for first in range(0, len(rows), BATCH_CLIPS)]


def _utterances(pairs: Pairs) -> Pairs:
    """Without the copies, which would double the memory."""
    half = len(pairs.lengths) // 2
    lengths = pairs.lengths[:half]
    waveforms = pairs.waveforms[:half, : int(lengths.max())].clone()
    return Pairs(waveforms, lengths, pairs.audio_s / 2)
