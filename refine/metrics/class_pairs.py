"""Which classes lie closest: every class and the worst pairs, as Numbers, before and after.

Notation of `refine.metrics.classes`. The parts that two of its numbers are the mean of:

    overlap_ab = (S_a + S_b) / D_ab,   worst_a = max_b overlap_ab     mean over a: Davies-Bouldin
    width_a = S_a / mean_{b != c} D_bc                                mean over a: spread_ratio

Null and control: `refine.metrics.chance`.

Pairs are picked because they are the worst, so measured on other clips they will look a little
better (regression to the mean); the change of a pair is of the same pair on both sides.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from refine.metrics.chance import by_chance, shuffled
from refine.metrics.geometry import Geometry
from refine.metrics.influence import Smooth, Units, number, units
from refine.metrics.intervals import RESAMPLES

MOST_PAIRS = 6  # worst pairs a side
MOST_SHOWN = 30  # classes; of more, the ones with the worst neighbour

Pair = tuple[int, int]


class Separation:
    """Overlap of every pair of classes and width of every class, with their influences."""

    def __init__(self, g: Geometry, seed: int = 0):
        self.g = g
        self.names = [str(name) for name in self.g.names]
        self.overlaps = (self.g.S[:, None] + self.g.S) / self.g.D  # diagonal: 0, D is infinite
        self._between = self.g.between()
        self.null, self.control = by_chance(g), shuffled(g, seed)

    def pairs(self, most: int) -> list[Pair]:
        """The worst pairs, worst first."""
        upper = np.triu_indices(self.g.k, 1)
        worst = np.argsort(-self.overlaps[upper], kind="stable")[:most]
        return [(int(upper[0][i]), int(upper[1][i])) for i in worst]

    def rank(self, pair: Pair) -> int:
        """1 for the worst of all pairs."""
        upper = np.triu_indices(self.g.k, 1)
        return int((self.overlaps[upper] > self.overlaps[pair]).sum()) + 1

    def nearest(self, a: int) -> int:
        """The class it overlaps most with."""
        return int(self.overlaps[a].argmax())

    def overlap(self, pair: Pair) -> Smooth:
        """(S_a + S_b) / D_ab."""
        g = self.g
        a, b = pair
        value, distance = self.overlaps[pair], g.D[pair]
        pull = value / distance**2 * (g.mu[a] - g.mu[b])
        influence = g.of_class(a, 1 / distance, -pull) + g.of_class(b, 1 / distance, pull)
        return Smooth(float(value), influence)

    def width(self, a: int) -> Smooth:
        """S_a over the mean distance of two class means."""
        between = self._between
        value = float(self.g.S[a]) / between.value
        influence = self.g.of_class(a, 1 / between.value, 0.0)
        return Smooth(value, influence - value / between.value * between.influence)


def compare(
    before: Geometry,
    after: Geometry | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Worst pairs and every class, before and after, with the paired change.

    Args:
        before, after: as `classes.sides` lays them out; after None: one space alone.
    Returns: `pairs` (the `MOST_PAIRS` worst of either side: `classes` (two names), `rank` by role,
        `before`, `after`, `change` as Number dicts), `classes` (`name`, `n`, and `width` and
        `overlap` by role with `change`, `nearest` by role), `of` (classes there are), `n_pairs`.
    """
    of = _units(before, seed)
    sides = {"before": Separation(before.drawn_by(of), seed)}
    if after is not None:
        sides["after"] = Separation(after.drawn_by(of), seed)
    first = sides["before"]

    def told(what: str, at: dict[str, Any], definition: str) -> dict[str, Any]:
        """`overlap` of the pair, or `width` of the class, that `at` holds by role."""
        smooths, numbers = {}, {}
        for role, place in at.items():
            side = sides[role]
            smooths[role], null, control = (
                getattr(one, what)(place) for one in (side, side.null, side.control)
            )
            numbers[role] = number(
                smooths[role], of, f"{definition} {CHANCE}", (0.0, np.inf), resamples, seed,
                direction="lower", null=null, control=control,
            )  # fmt: skip
        if "after" in smooths:
            change = smooths["after"].minus(smooths["before"])
            about = f"Change, after minus before on the same clips: {definition}"
            numbers["change"] = number(
                change, of, about, resamples=resamples, seed=seed, direction="lower", null=0.0
            )
        return {role: one.as_dict() for role, one in numbers.items()}

    picked: dict[Pair, None] = {}
    for side in sides.values():
        picked |= dict.fromkeys(side.pairs(MOST_PAIRS))
    pairs = [
        {
            "classes": [first.names[c] for c in pair],
            "rank": {role: side.rank(pair) for role, side in sides.items()},
            **told("overlap", dict.fromkeys(sides, pair), OVERLAP),
        }
        for pair in picked
    ]
    worst = np.argsort(-first.overlaps.max(axis=1), kind="stable")[:MOST_SHOWN]
    classes = []
    for a in worst.tolist():
        nearest = {role: side.nearest(a) for role, side in sides.items()}
        classes.append(
            {
                "name": first.names[a],
                "n": int(first.g.sizes[a]),
                "nearest": {role: first.names[b] for role, b in nearest.items()},
                "width": told("width", dict.fromkeys(sides, a), WIDTH),
                "overlap": told("overlap", {role: (a, b) for role, b in nearest.items()}, WORST),
            }
        )
    k = first.g.k
    return {"pairs": pairs, "classes": classes, "of": k, "n_pairs": k * (k - 1) // 2}


OVERLAP = (
    "Overlap of two classes, the sum of their mean distances to their means over the distance of "
    "the means (the term of Davies-Bouldin): 0 = points far apart, 1 = they begin to touch."
)
WORST = f"{OVERLAP} With the class it overlaps most with."
WIDTH = (
    "Mean distance of a clip to its class mean over the mean distance of two class means: "
    "0 = a point."
)
CHANCE = (
    "Null: labels that mean nothing (at the root mean square distance). Control: labels shuffled "
    "once."
)


def _units(g: Geometry, seed: int) -> Units:
    """Speakers, but clips where a class has one speaker: drawing that speaker tells nothing."""
    if g.of.groups is None or g.held.min() > 1:
        return g.of
    why = " (a class has one speaker: nothing is said about others)"
    return replace(units(g.n, None, seed=seed), why=why)
