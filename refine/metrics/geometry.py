"""Class means, what is left of the clips around them, and how statistics of both move.

A statistic T of S_c, V_c, mu_c (see `refine.metrics.classes`) moves with the weight of clip i by

    ( dT/dS_c (||r_i|| - S_c) + dT/dV_c (||r_i||^2 - V_c) + (dT/dmu_c - dT/dS_c e_c) . r_i ) / n_c

with e_c the mean direction of the clips from their mean. Every gradient here is in closed form; the
tests hold them against finite differences. Units are drawn, not clips, so of the last term the sum
of r_i by unit and class is all that is needed.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_array

from refine.metrics.influence import Smooth, Units, owners, table, units
from refine.metrics.silhouette import silhouettes

BLOCK = 4_096  # clips whose rest is held at once; 25 MB of 768 dimensions

Matrix = Float[np.ndarray, "n d"]
Labels = Sequence[Any] | np.ndarray
Means = Float[np.ndarray, "k d"]
PerClass = Float[np.ndarray, " k"]


class ClassesError(ValueError):
    """Labels or vectors that have no class structure. The message says what was found."""


class _Cells(NamedTuple):
    """Sums of r_i by class and unit, class by class."""

    sums: Float[np.ndarray, "cells d"]
    unit_of: Int[np.ndarray, " cells"]
    slices: list[slice]  # of each class


class Geometry:
    """Class means and what is left of the clips, with the derivative of what is made of them.

    Clips are held class by class (`order` says which are where); what is left of them is made anew
    by blocks in float64, since of 100 000 clips of 768 dimensions it is 0.6 GB.
    `moves` False: values alone, every influence is 0.
    """

    def __init__(self, x: Matrix, labels: Labels, of: Units | None = None, moves: bool = True):
        self.raw, names = checked(x, labels)  # in the order of the clips
        self.n, self.moves = len(self.raw), moves
        self.names, codes = np.unique(names, return_inverse=True)
        self.k = len(self.names)
        self.order = np.argsort(codes, kind="stable")
        self.codes = codes[self.order]
        self._draw(units(self.n) if of is None else of)
        self.sizes = np.bincount(codes).astype(np.float64)
        starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(int)
        self.slices = [slice(a, b) for a, b in pairwise(starts.tolist())]
        self._read()
        self.S, self.V = self._mean(self.s), self._mean(self.v)
        gram = self.mu @ self.mu.T
        squared = np.diag(gram)[:, None] + np.diag(gram) - 2 * gram
        self.D2 = np.maximum(squared, 0.0)
        np.fill_diagonal(self.D2, np.inf)  # a class is no pair with itself
        if self.D2.min() <= 1e-20 * max(float(self.V.max()), float(np.abs(gram).max())):
            a, b = np.unravel_index(self.D2.argmin(), self.D2.shape)
            raise ClassesError(
                f"classes {self.names[a]} and {self.names[b]} have the same mean; nothing is "
                "between them"
            )
        self.D = np.sqrt(self.D2)

    def _read(self) -> None:
        """Of each class, in one reading: its mean, and of its clips all that is a number a clip."""
        d = self.raw.shape[1]
        # off the common mean first: sums of squares keep their digits
        self.mean = self.raw.mean(axis=0, dtype=np.float64)
        self.mu, self.e, self._unit_sums = np.empty((3, self.k, d))
        self.v, self.s, self._norms = np.empty((3, self.n))
        self._toward, self._along = np.empty((2, self.n))  # r . mu_c, r . sum of unit vectors
        for c, rows in enumerate(self.slices):
            r = self.raw[self.order[rows]].astype(np.float64, copy=False)
            norms = np.sqrt(np.einsum("nd,nd->n", r, r))
            self._norms[rows] = norms
            total = (1 / np.maximum(norms, 1e-300)) @ r
            r -= self.mean
            self.mu[c] = r.mean(axis=0)
            r -= self.mu[c]
            self.v[rows] = np.einsum("nd,nd->n", r, r)
            self.s[rows] = np.sqrt(self.v[rows])
            # mean direction of the clips from their mean: -dS / dmu
            self.e[c] = (1 / np.maximum(self.s[rows], 1e-300)) @ r / len(r)
            self._unit_sums[c] = total
            self._toward[rows], self._along[rows] = (r @ np.stack([self.mu[c], total], axis=1)).T

    def _left(self) -> Iterator[tuple[slice, Float[np.ndarray, "_ d"]]]:
        """What is left of some clips after another, and which rows held they are."""
        for start in range(0, self.n, BLOCK):
            rows = slice(start, min(start + BLOCK, self.n))
            r = self.raw[self.order[rows]].astype(np.float64, copy=False)
            r -= self.mean
            r -= self.mu[self.codes[rows]]
            yield rows, r

    def _draw(self, of: Units) -> None:
        self.of, self.unit_of = of, of.of[self.order]
        clips = table(Units(self.unit_of, of.count, of.groups), self.codes, self.k)
        self.owner, self.held = owners(clips), (clips > 0).sum(axis=0)  # units a class lies in
        self.__dict__.pop("_cells", None)

    def drawn_by(self, of: Units) -> "Geometry":
        """The same classes with other units drawn; no clip is measured again."""
        if of is self.of:
            return self
        other = copy(self)
        other._draw(of)
        return other

    @cached_property
    def _cells(self) -> _Cells:
        count = self.of.count
        cells, place = np.unique(self.codes * count + self.unit_of, return_inverse=True)
        sums = np.zeros((len(cells), self.raw.shape[1]))
        for rows, r in self._left():
            mine = place[rows]
            first, last = mine.min(), mine.max() + 1  # clips are held by class, so are cells
            by_cell = (np.ones(len(r)), mine - first, np.arange(len(r) + 1))
            sums[first:last] += csc_array(by_cell, shape=(last - first, len(r))) @ r
        ends = np.searchsorted(cells, count * np.arange(self.k + 1)).tolist()
        return _Cells(sums, cells % count, [slice(a, b) for a, b in pairwise(ends)])

    def _mean(self, values: Float[np.ndarray, " n"]) -> PerClass:
        return np.bincount(self.codes, values, minlength=self.k) / self.sizes

    def unit_sums(self) -> Means:
        """Sum of the unit vectors of each class."""
        if not self._norms.all():
            row = int(self.order[self._norms == 0].min())
            raise ClassesError(f"row {row} is all zeros, so it has no direction")
        return self._unit_sums

    def smooth(
        self,
        value: float,
        *,
        S: PerClass | None = None,
        V: PerClass | None = None,
        mu: Means | None = None,
        classes: PerClass | None = None,
        clips: Float[np.ndarray, " n"] | None = None,
    ) -> Smooth:
        """Influences from the gradient in S, V and mu, in class weights, and what clips add."""
        if not self.moves:
            return Smooth(float(value), np.zeros(self.of.count))
        each = np.zeros(self.n) if clips is None else clips.copy()
        scale = 1 / self.sizes[self.codes]
        if S is not None:
            each += S[self.codes] * scale * (self.s - self.S[self.codes])
            mu = (0.0 if mu is None else mu) - S[:, None] * self.e
        if V is not None:
            each += V[self.codes] * scale * (self.v - self.V[self.codes])
        influence = np.bincount(self.unit_of, each, minlength=self.of.count)
        if mu is not None:
            for c in range(self.k):
                self._move(influence, c, mu[c])
        if self.owner is not None and classes is not None:
            influence += np.bincount(self.owner, classes, minlength=self.of.count)
        return Smooth(float(value), influence)

    def of_class(
        self, c: int, S: float, mu: Float[np.ndarray, " d"] | float
    ) -> Float[np.ndarray, " units"]:
        """Influence by unit of the gradient in S_c and mu_c of one class."""
        rows = self.slices[c]
        each = S * (self.s[rows] - self.S[c]) / self.sizes[c]
        influence = np.bincount(self.unit_of[rows], each, minlength=self.of.count)
        self._move(influence, c, mu - S * self.e[c])
        return influence

    def _move(
        self, influence: Float[np.ndarray, " units"], c: int, mu: Float[np.ndarray, " d"]
    ) -> None:
        """Add what the gradient in mu_c does, mu . r_i / n_c over the clips of the class."""
        cells = self._cells.slices[c]
        influence[self._cells.unit_of[cells]] += self._cells.sums[cells] @ mu / self.sizes[c]

    def _pairs(self, of_pair: Float[np.ndarray, "k k"]) -> tuple[float, PerClass]:
        """Mean over pairs a != b (the diagonal is 0), and its derivative in class weights."""
        pairs = self.k * (self.k - 1)
        value = of_pair.sum() / pairs
        return float(value), 2 * (of_pair.sum(axis=1) - (self.k - 1) * value) / pairs

    def _pull(self, weight: Float[np.ndarray, "k k"]) -> Means:
        """sum_b weight_ab (mu_a - mu_b)."""
        return weight.sum(axis=1)[:, None] * self.mu - weight @ self.mu

    def within(self) -> Smooth:
        value = self.S.mean()
        return self.smooth(value, S=np.full(self.k, 1 / self.k), classes=(self.S - value) / self.k)

    def between(self) -> Smooth:
        distance = np.where(np.isinf(self.D), 0.0, self.D)
        value, drawn = self._pairs(distance)
        return self.smooth(
            value, mu=2 * self._pull(1 / self.D) / (self.k * (self.k - 1)), classes=drawn
        )

    def ratio(self) -> Smooth:
        within, between = self.within(), self.between()
        value = within.value / between.value
        return Smooth(value, (within.influence - value * between.influence) / between.value)

    def davies_bouldin(self) -> Smooth:
        ratios = (self.S[:, None] + self.S) / self.D
        worst = ratios.argmax(axis=1)
        rows = np.arange(self.k)
        largest, distance = ratios[rows, worst], self.D[rows, worst]
        S = 1 / (self.k * distance)
        S = S + np.bincount(worst, S, minlength=self.k)
        weight = np.zeros((self.k, self.k))
        weight[rows, worst] = -largest / (self.k * distance**2)
        value = largest.mean()
        return self.smooth(
            value,
            S=S,
            mu=self._pull(weight + weight.T),
            classes=(largest - value) / self.k,
        )

    def cdnv(self) -> Smooth:
        pair = (self.V[:, None] + self.V) / (2 * self.D2)
        value, drawn = self._pairs(pair)
        pairs = self.k * (self.k - 1)
        return self.smooth(
            value,
            V=(1 / self.D2).sum(axis=1) / pairs,
            mu=-4 * self._pull(pair / self.D2) / pairs,
            classes=drawn,
        )

    def from_mean(self) -> Float[np.ndarray, " n"]:
        """Squared distance of each clip held to the mean of all, ||x_i - mu||^2."""
        length = np.einsum("kd,kd->k", self.mu, self.mu)
        return np.maximum(self.v + 2 * self._toward + length[self.codes], 0.0)

    def explained(self) -> Smooth:
        total = self.from_mean()
        all_, within = total.sum(), self.v.sum()
        return self.smooth(1 - within / all_, clips=(within * total - self.v * all_) / all_**2)

    def alignment(self) -> Smooth:
        # angles are seen from the origin, not from the mean
        total = self.unit_sums()
        pairs = self.sizes * (self.sizes - 1)
        cosine = (np.einsum("kd,kd->k", total, total) - self.sizes) / pairs
        centre = np.einsum("kd,kd->k", self.mu + self.mean, total)
        mine = (self._along + centre[self.codes]) / self._norms - 1
        each = 2 * (mine - (cosine * (self.sizes - 1))[self.codes]) / pairs[self.codes]
        value = (2 - 2 * cosine).mean()
        return self.smooth(
            value, clips=-2 * each / self.k, classes=(2 - 2 * cosine - value) / self.k
        )

    def nc1(self) -> Smooth:
        m = self.mu - self.mu.mean(axis=0)
        left, sigma, right = np.linalg.svd(m, full_matrices=False)
        rank = min(self.k - 1, int((sigma > 1e-10 * sigma[0]).sum()))
        left, sigma, right = left[:, :rank], sigma[:rank], right[:rank]  # m = left sigma right
        weight = 1 / (self.k * self.sizes[self.codes])
        each = np.empty(self.n)
        across = np.zeros((rank, m.shape[1]))  # right Sigma_W
        for rows, r in self._left():
            projected = r @ right.T  # r_i in the space of the means
            each[rows] = ((projected / sigma) ** 2).sum(axis=1)
            if self.moves:
                across += (projected * weight[rows, None]).T @ r
        of_class = self._mean(each)
        value = of_class.mean()
        if not self.moves:
            return self.smooth(value)
        inside = across @ right.T
        mu = -(inside / sigma[:, None] / sigma**2)  # sigma^-1 inside sigma^-2
        turned = (across - inside @ right) / sigma[:, None] ** 3
        pull = 2 * left @ (mu @ right + turned)
        drawn = np.einsum("kr,rs,ks->k", left / sigma, inside, left / sigma)
        return self.smooth(
            value,
            mu=pull - pull.mean(axis=0),
            clips=weight * (each - of_class[self.codes]),
            classes=(of_class - value) / self.k - (drawn - value / self.k),
        )

    def equinorm(self) -> Smooth:
        m, norms = self._centred_means()
        mean, spread = norms.mean(), norms.std()
        value = spread / mean
        if spread <= 1e-12 * mean:  # a simplex as it is: no direction is down
            return self.smooth(value)
        gradient = (norms - mean) / (self.k * spread * mean) - spread / (self.k * mean**2)
        drawn = ((norms - mean) ** 2 - spread**2) / (2 * self.k * spread * mean)
        drawn = drawn - spread / mean**2 * (norms - mean) / self.k
        return self._of_centred(value, gradient[:, None] * m / norms[:, None], drawn)

    def equiangle(self) -> Smooth:
        m, norms = self._centred_means()
        unit = m / norms[:, None]
        cosine = unit @ unit.T
        off = cosine + 1 / (self.k - 1)
        np.fill_diagonal(off, 0.0)
        value, drawn = self._pairs(np.abs(off))
        sign = 2 * np.sign(off) / (self.k * (self.k - 1))
        # d cos_ab / d m_a = (u_b - cos_ab u_a) / ||m_a||
        gradient = (sign @ unit - (sign * cosine).sum(axis=1)[:, None] * unit) / norms[:, None]
        return self._of_centred(value, gradient, drawn)

    def silhouette(self, most: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value of each clip looked at, the influence of each, and which rows held they are."""
        clips = np.arange(self.n)
        if self.n > most:
            clips = np.sort(np.random.default_rng(seed).choice(self.n, most, replace=False))
        place = np.empty(self.n, dtype=np.int64)
        place[self.order] = np.arange(self.n)
        rows = place[clips]
        x = self.raw[clips] - self.mean
        values, influence = silhouettes(x, self.codes[rows], self.k)
        return values, influence, rows

    def silhouette_smooth(self, most: int, seed: int) -> Smooth:
        values, influence, rows = self.silhouette(most, seed)
        each = np.zeros(self.n)
        each[rows] = influence
        return self.smooth(float(values.mean()), clips=each)

    def _centred_means(self) -> tuple[Means, PerClass]:
        if self.k < 3:
            raise ClassesError("nc2 needs three classes or more; two means always form a simplex")
        m = self.mu - self.mu.mean(axis=0)
        norms = np.linalg.norm(m, axis=1)
        if norms.min() <= 1e-12 * norms.max():
            name = self.names[int(norms.argmin())]
            raise ClassesError(f"class {name} lies at the mean of all: it has no direction")
        return m, norms

    def _of_centred(self, value: float, gradient: Means, drawn: PerClass) -> Smooth:
        """From the gradient in the centred means; drawing a class moves their mean as well."""
        m = self.mu - self.mu.mean(axis=0)
        drawn = drawn - m @ gradient.sum(axis=0) / self.k
        return self.smooth(value, mu=gradient - gradient.mean(axis=0), classes=drawn)


def checked(x: Matrix, labels: Labels) -> tuple[Matrix, np.ndarray]:
    """Rows of float32 or 64 and their labels, all known. Raises `ClassesError` as `measure`."""
    x, names = np.asarray(x), np.asarray(labels)
    x = x if x.dtype == np.float32 else x.astype(np.float64, copy=False)
    names = names.astype(str) if names.dtype == object else names
    if x.ndim != 2 or len(x) != len(names):
        raise ClassesError(f"got vectors of shape {x.shape} for {len(names)} labels")
    if not np.isfinite(x.sum(axis=1)).all() and not np.isfinite(x).all():
        finite = np.isfinite(x).all(axis=1)
        raise ClassesError(
            f"{(~finite).sum()} of {len(x)} vectors hold NaN or infinity, the first is row "
            f"{int(finite.argmin())}; class metrics need finite ones"
        )
    found, sizes = np.unique(names, return_counts=True)
    if len(found) < 2:
        raise ClassesError(
            f"got {len(found)} class{'' if len(found) == 1 else 'es'} in {len(x)} clips; class "
            "metrics need two or more"
        )
    if sizes.min() < 2:
        lone = found[sizes < 2]
        single = ", ".join(map(str, lone[:3]))
        raise ClassesError(
            f"{len(lone)} class{'' if len(lone) == 1 else 'es'} with one clip ({single}); each "
            "needs two or more"
        )
    return x, names
