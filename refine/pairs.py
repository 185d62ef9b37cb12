"""Positive pairs of utterances: which clips meet in a batch, and what each is pulled to."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from refine import audio, augment
from refine.corpus import Corpus
from refine.encoders.collate import pad

COPY, ORDER, COIN = 0, 1, 2  # independent streams of random numbers of one seed
KEPT_SAMPLES = 2 * 3600 * audio.SAMPLE_RATE  # decoded audio that stays in memory: 2 h, 460 MB


class Pairs(NamedTuple):
    """Utterances and, after them in the same order, what each is pulled to."""

    waveforms: Float[Tensor, "two_batch samples"]
    lengths: Int[Tensor, " two_batch"]
    audio_s: float  # seconds of audio in both halves, padding left out


class PairSource:
    """Pairs of a corpus. A batch depends on the seed and the step alone.

    Every epoch meets each clip at most once. Clips of one key (the same neutral copy) never meet in
    a batch: they would be pushed away from their own positive.
    """

    def __init__(
        self,
        corpus: Corpus,
        copies: Sequence[Path | None],
        *,
        twin_share: float,
        mask_share: float,
        max_seconds: float,
        seed: int,
        groups: Sequence[str] | None = None,
    ):
        """`copies`: neutral copy of each clip, None for a twin.

        `twin_share`: how often a clip that has a copy is pulled to a twin all the same.
        `groups`: one name a clip; the utterances of a batch then share theirs.
        """
        self.corpus, self.copies = corpus, list(copies)
        self.twin_share, self.mask_share, self.seed = twin_share, mask_share, seed
        self.limit = int(max_seconds * audio.SAMPLE_RATE)
        self.clips = corpus.table["clip"].tolist()
        self._kept: dict[str, audio.Waveform] = {}
        self._room = KEPT_SAMPLES
        names = [str(copy) if copy else f"clip {row}" for row, copy in enumerate(self.copies)]
        self.keys = np.unique(names, return_inverse=True)[1]  # (clips,)
        self.groups = None if groups is None else np.unique(groups, return_inverse=True)[1]

    @property
    def distinct(self) -> int:
        """How many clips can meet in one batch."""
        return int(self.keys.max()) + 1

    def batch(self, step: int, size: int) -> Pairs:
        """The pairs of a step (1, 2, …), at most `size` of them, at least two."""
        return self.pairs(self.rows(step, size), step)

    def rows(self, step: int, size: int) -> np.ndarray:
        """Rows of the clips of a step; all keys differ."""
        if self.groups is not None:
            return self._grouped(self.groups, step, size)
        size = min(size, len(self.clips))
        batches = len(self.clips) // size
        epoch, place = divmod(step - 1, batches)
        random = np.random.default_rng([self.seed, ORDER, epoch])
        order = random.permutation(len(self.clips))[: batches * size]
        # dealt out key by key, the clips of one key go to different batches
        rank = random.permutation(self.distinct)
        order = order[np.argsort(rank[self.keys[order]], kind="stable")]
        dealt = order[place::batches]
        _, first = np.unique(self.keys[dealt], return_index=True)
        chosen = dealt[np.sort(first)]
        if len(chosen) < 2:
            others = np.flatnonzero(self.keys != self.keys[chosen[0]])
            chosen = np.append(chosen, random.choice(others))
        return chosen

    def _grouped(self, groups: np.ndarray, step: int, size: int) -> np.ndarray:
        """Batches of one group each, those of an epoch in random order; all keys differ."""
        cuts = [range(0, int(n), size) for n in np.bincount(groups)]
        places = [(group, first) for group, cut in enumerate(cuts) for first in cut]
        epoch, place = divmod(step - 1, len(places))
        random = np.random.default_rng([self.seed, ORDER, epoch])
        group, first = places[random.permutation(len(places))[place]]
        members = random.permutation(np.flatnonzero(groups == group))
        chosen = members[first : first + size]
        chosen = chosen[np.sort(np.unique(self.keys[chosen], return_index=True)[1])]
        if len(chosen) < 2:  # the rest of a group: any other of it, else any other clip
            others = np.setdiff1d(members, chosen)
            others = others[self.keys[others] != self.keys[chosen[0]]]
            others = others if len(others) else np.flatnonzero(self.keys != self.keys[chosen[0]])
            chosen = np.append(chosen, random.choice(others))
        return chosen

    def pairs(self, rows: Sequence[int] | np.ndarray, step: int) -> Pairs:
        """The pairs of some clips, as they would be in a step."""
        place = np.random.default_rng([self.seed, COPY, step])
        coin = np.random.default_rng([self.seed, COIN, step])
        utterances, neutral = [], []
        for row in rows:
            start, toss = place.random(), coin.random()
            whole = self._read(self.clips[row])
            window = self._window(len(whole), start)
            utterances.append(whole[window[0] : window[1]])
            copy = self.copies[row] if toss >= self.twin_share else None
            neutral.append(self._neutral(copy, utterances[-1], window, len(whole)))
        waveforms, lengths = pad(utterances)
        mask_seed = int(place.integers(2**31))
        twins = augment.mask_span(waveforms, lengths, mask_seed, self.mask_share)
        positives = [
            twin[:length].numpy() if copy is None else copy
            for twin, length, copy in zip(twins, lengths.tolist(), neutral, strict=True)
        ]
        waveforms, lengths = pad([*utterances, *positives])
        return Pairs(waveforms, lengths, float(lengths.sum()) / audio.SAMPLE_RATE)

    def _read(self, clip: str) -> audio.Waveform:
        """A clip, decoded once while there is room; clips come in random order, so any will do."""
        waveform = self._kept.get(clip)
        if waveform is None:
            waveform = self.corpus.waveform(clip)
            if len(waveform) <= self._room:
                self._kept[clip] = waveform
                self._room -= len(waveform)
        return waveform

    def _window(self, samples: int, start: float) -> tuple[int, int]:
        """First and last sample of a cut at a random place (`start` in [0, 1))."""
        kept = min(samples, self.limit)
        first = int(start * (samples - kept + 1))
        return first, first + kept

    def _neutral(
        self, copy: Path | None, utterance: np.ndarray, window: tuple[int, int], whole: int
    ) -> np.ndarray | None:
        """A neutral copy, cut at the same relative place and as loud as the utterance."""
        if copy is None:
            return None
        spoken = audio.load(copy)
        if len(utterance) < whole:
            first, last = (round(edge / whole * len(spoken)) for edge in window)
            last = max(last, first + audio.MIN_SAMPLES)
            spoken = spoken[max(0, min(first, len(spoken) - audio.MIN_SAMPLES)) : last]
        level = np.sqrt(np.mean(np.square(utterance)) / max(np.mean(np.square(spoken)), 1e-12))
        return (spoken[: self.limit] * level).astype(np.float32)
