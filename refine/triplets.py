"""Supervised triplets of a factor: which clips meet in a step, and in which role.

    triplets = Sampler(labels, speakers, batch_size=32, seed=0).draw(step)

An anchor, a positive of its class and a negative of another one (Lux et al. 2022; the paper's own
sampler is not public). Classes take turns, whatever their size; positives come from another speaker
where there is one, so that a voice is no way to tell a class. No torch here.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

TURN, DECK, ROLE = 0, 1, 2  # independent streams of random numbers of one seed

Rows = Int[np.ndarray, " rows"]
Roles = Literal["apart", "shared"]
Negatives = Literal["any", "same"]


class Triplets(NamedTuple):
    """Clips of a step, and the places among them of each triplet's three."""

    rows: Int[np.ndarray, " clips"]
    anchor: Int[np.ndarray, " batch"]
    positive: Int[np.ndarray, " batch"]
    negative: Int[np.ndarray, " batch"]
    starts: Float[np.ndarray, " clips"]  # in [0, 1): where a long clip is cut


class Sampler:
    """Triplets of clips. What a step gets depends on the seed and the step alone."""

    def __init__(
        self,
        labels: Sequence[str] | np.ndarray,
        groups: Sequence[str] | np.ndarray | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        roles: Roles = "apart",
        negatives: Negatives = "any",
    ):
        """One label a clip, and a group (the speaker) that the clips of a positive pair differ in.

        Args:
            groups: "" stands alone; None: nothing is preferred.
            batch_size: triplets in a step.
            roles: apart: every triplet has three clips of its own; shared: a step has `batch_size`
                clips, each the anchor of one triplet and positive or negative in others.
            negatives: any other class, evenly; same: of the anchor's group where it has one.
        Raises: `ValueError` for one class, a class with one clip, or a step too small for two
            clips of two classes.
        """
        self.names, self.labels = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        counts = np.bincount(self.labels)
        if len(counts) < 2:
            raise ValueError(f"triplets need two classes or more; got {self.names.tolist()}")
        if counts.min() < 2:
            raise ValueError(f"{self.names[counts.argmin()]}: one clip, so it has no positive")
        if batch_size < (4 if roles == "shared" else 2):
            raise ValueError(f"batch_size: got {batch_size}; a step needs two classes")
        own = np.arange(len(self.labels)).astype(str)
        groups = own if groups is None else np.asarray(groups, dtype=str)
        alone = np.where(groups == "", np.char.add("#", own), groups)
        self.groups = np.unique(alone, return_inverse=True)[1]
        self.members = [np.flatnonzero(self.labels == c) for c in range(len(counts))]
        self.batch_size, self.seed, self.roles, self.negatives = batch_size, seed, roles, negatives
        self._orders: dict[tuple[int, ...], np.ndarray] = {}

    def draw(self, step: int) -> Triplets:
        """The triplets of a step (1, 2, …)."""
        random = np.random.default_rng([self.seed, ROLE, step])
        first = (step - 1) * self.batch_size
        anchors = np.array([self._anchor(first + i) for i in range(self.batch_size)])
        rows, roles = (self._apart if self.roles == "apart" else self._shared)(anchors, random)
        anchor, positive, negative = roles
        return Triplets(rows, anchor, positive, negative, random.random(len(rows)))

    def _anchor(self, number: int) -> int:
        """Anchor number 0, 1, … of a training: each class once a turn, each clip once a deck.

        Where roles are shared a class comes in pairs, so that its clips find each other.
        """
        times = 2 if self.roles == "shared" else 1
        turn, place = divmod(number // times, len(self.members))
        label = int(self._order(TURN, turn, size=len(self.members))[place])
        members = self.members[label]
        deck, card = divmod(times * turn + number % times, len(members))
        order = self._order(DECK, label, deck, size=len(members))
        if deck and len(order) > 2:  # no deck begins with the last clip of the one before
            last = self._order(DECK, label, deck - 1, size=len(members))[-1]
            if order[0] == last and card < 2:
                card = 1 - card
        return int(members[order[card]])

    def _order(self, *stream: int, size: int) -> np.ndarray:
        """A permutation of its own for each stream; a few are remembered."""
        found = self._orders.get(stream)
        if found is None:
            if len(self._orders) > 1000:
                self._orders.clear()
            found = np.random.default_rng([self.seed, *stream]).permutation(size)
            self._orders[stream] = found
        return found

    def _apart(self, anchors: Rows, random: np.random.Generator) -> tuple[Rows, list[Rows]]:
        """Anchors, positives and negatives, each drawn from all clips."""
        everything = np.arange(len(self.labels))
        positives = self._positives(anchors, everything, random)
        negatives = []
        for anchor in anchors:  # first the class is drawn, then the clip
            label = random.integers(len(self.members) - 1)
            members = self.members[label + (label >= self.labels[anchor])]
            if self.negatives == "same":
                same = np.flatnonzero(
                    (self.groups == self.groups[anchor]) & (self.labels != self.labels[anchor])
                )
                members = same if len(same) else members
            negatives.append(members[random.integers(len(members))])
        n = len(anchors)
        rows = np.concatenate([anchors, everything[positives], negatives])
        return rows, [np.arange(start, start + n) for start in (0, n, 2 * n)]

    def _shared(self, anchors: Rows, random: np.random.Generator) -> tuple[Rows, list[Rows]]:
        """The anchors alone: each is positive and negative of others."""
        rows = list(anchors)
        for anchor in anchors:  # a class of two may bring the same clip twice
            alike = self.labels[rows] == self.labels[anchor]
            if not (alike & (np.array(rows) != anchor)).any():
                others = self.members[self.labels[anchor]]
                rows.append(int(random.choice(others[others != anchor])))
        batch = np.array(rows)
        positives = self._positives(anchors, batch, random)
        other = self.labels[anchors][:, None] != self.labels[batch][None]
        score = random.random(other.shape) + other
        if self.negatives == "same":
            score += other & (self.groups[anchors][:, None] == self.groups[batch][None])
        return batch, [np.arange(len(anchors)), positives, score.argmax(axis=1)]

    def _positives(self, anchors: Rows, among: Rows, random: np.random.Generator) -> Rows:
        """Places in `among`: of the class, never the clip itself, of another group if there is."""
        alike = self.labels[anchors][:, None] == self.labels[among][None]
        alike &= anchors[:, None] != among[None]
        others = alike & (self.groups[anchors][:, None] != self.groups[among][None])
        return (random.random(alike.shape) + alike + others).argmax(axis=1)
