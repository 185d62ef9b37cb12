"""Held-out clips while a speaker space is learned: its shape, and how voices part in it."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refine import audio
from refine.corpus import Corpus
from refine.encoders import Encoder
from refine.encoders.collate import pad
from refine.metrics import isotropy, verification
from refine.monitor import evaluating

BATCH_SECONDS = 60.0  # of audio, padding included
LONGEST_S = 10.0  # of a clip that is looked at
Embed = Callable[[Tensor, Tensor], Tensor]  # waveforms, lengths -> (batch, dim)


class HeldOutVoices:
    """The same clips each time: the curve moves with the weights alone."""

    def __init__(self, encoder: Encoder, corpus: Corpus, embed: Embed, clips: int, seed: int):
        """At most `clips` of the corpus are looked at; two of a speaker where there are two."""
        self.encoder, self.embed = encoder, embed
        rows = _chosen(corpus, clips, seed)
        table = corpus.table.iloc[rows]
        limit = int(LONGEST_S * audio.SAMPLE_RATE)
        self.waves = [corpus.waveform(clip)[:limit] for clip in table["clip"]]
        self.trials = None
        if corpus.speakers is not None:
            with suppress(ValueError):  # one speaker, or one clip of each: there is no trial
                self.trials = verification.trials_from_factor(corpus.speakers[rows], seed=seed)

    def measure(self) -> dict[str, float]:
        """`isoscore` and `mean_cosine` of the vectors; `eer` by cosine where speakers are known."""
        with evaluating(self.encoder):
            x = vectors(self.waves, self.embed)
        found: dict[str, float] = {"n": len(x)}
        with suppress(ValueError):  # a collapsed space has no isotropy and no direction
            found["isoscore"] = isotropy.isoscore(x)
            found["mean_cosine"] = isotropy.mean_cosine(x)
            if self.trials is not None:
                scores = verification.cosine_scores(x, self.trials)
                found["eer"] = verification.eer(scores, self.trials.target)
        return found


def vectors(
    waves: list[np.ndarray], embed: Embed, batch_seconds: float = BATCH_SECONDS
) -> Float[np.ndarray, "clips dim"]:
    """One vector a waveform, batched by length. Without gradient; the mode is the caller's."""
    order = np.argsort([len(wave) for wave in waves], kind="stable")
    found: list[np.ndarray | None] = [None] * len(waves)
    batch: list[int] = []
    with torch.no_grad():
        for place, row in enumerate(order):
            batch.append(int(row))
            following = order[place + 1] if place + 1 < len(order) else None
            longer = len(waves[following]) if following is not None else 0
            if following is None or longer * (len(batch) + 1) > batch_seconds * audio.SAMPLE_RATE:
                embedded = embed(*pad([waves[i] for i in batch])).float().cpu().numpy()
                for i, vector in zip(batch, embedded, strict=True):
                    found[i] = vector
                batch = []
    return np.stack([vector for vector in found if vector is not None]).astype(np.float64)


def _chosen(corpus: Corpus, clips: int, seed: int) -> np.ndarray:
    """Rows of the clips that are looked at, in the order of the table."""
    order = np.random.default_rng(seed).permutation(len(corpus.table))
    if corpus.speakers is not None:
        # pairs of one speaker first, so that few clips still hold targets
        rank: dict[str, int] = {}
        turn = []
        for row in order:
            name = str(corpus.speakers[row])
            rank[name] = rank.get(name, 0) + 1
            turn.append(rank[name] // 2)
        order = order[np.argsort(turn, kind="stable")]
    return np.sort(order[:clips])
