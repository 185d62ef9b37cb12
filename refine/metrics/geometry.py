"""Class means, what is left of the clips around them, and how statistics of both move.

A statistic T of S_c, V_c, mu_c (see `refine.metrics.classes`) moves with the weight of clip i by

    ( dT/dS_c (||r_i|| - S_c) + dT/dV_c (||r_i||^2 - V_c) + (dT/dmu_c - dT/dS_c e_c) . r_i ) / n_c

with e_c the mean direction of the clips from their mean. Every gradient here is in closed form; the
tests hold them against finite differences.
"""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from refine.metrics.influence import Smooth, Units, owners, units
from refine.metrics.silhouette import silhouettes

Matrix = Float[np.ndarray, "n d"]
Labels = Sequence[Any] | np.ndarray
Means = Float[np.ndarray, "k d"]
PerClass = Float[np.ndarray, " k"]


class ClassesError(ValueError):
    """Labels or vectors that have no class structure. The message says what was found."""


class Geometry:
    """Class means and what is left of the clips, with the derivative of what is made of them.

    Rows are held class by class (`order` says which clip each is), so that everything by class is
    a product with a slice: of 100 000 clips of 768 dimensions only `r` is held, 0.6 GB.
    """

    def __init__(self, x: Matrix, labels: Labels, of: Units | None = None):
        self.raw, names = checked(x, labels)  # in the order of the clips
        self.n = len(self.raw)
        self.names, codes = np.unique(names, return_inverse=True)
        self.k = len(self.names)
        self.order = np.argsort(codes, kind="stable")
        self.codes = codes[self.order]
        self._draw(units(self.n) if of is None else of)
        self.sizes = np.bincount(codes).astype(np.float64)
        starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(int)
        self.slices = [slice(a, b) for a, b in pairwise(starts.tolist())]
        self.r = self.raw[self.order]
        # off the common mean first: sums of squares keep their digits
        self.mean = self.r.mean(axis=0)
        self.r -= self.mean
        self.mu = np.add.reduceat(self.r, starts[:-1], axis=0) / self.sizes[:, None]
        for rows, centre in zip(self.slices, self.mu, strict=True):
            self.r[rows] -= centre
        self.v = np.einsum("nd,nd->n", self.r, self.r)
        self.s = np.sqrt(self.v)
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

    def _draw(self, of: Units) -> None:
        self.of, self.unit_of = of, of.of[self.order]
        clips = np.zeros((of.count, self.k))
        np.add.at(clips, (self.unit_of, self.codes), 1)
        self.owner, self.held = owners(clips), (clips > 0).sum(axis=0)  # units a class lies in

    def drawn_by(self, of: Units) -> "Geometry":
        """The same classes with other units drawn; nothing is measured again."""
        other = copy(self)
        other._draw(of)
        return other

    def _mean(self, values: Float[np.ndarray, " n"]) -> PerClass:
        return np.bincount(self.codes, values, minlength=self.k) / self.sizes

    def _sums(self, weight: Float[np.ndarray, " n"]) -> Means:
        """sum_i weight_i r_i of each class."""
        return np.stack([weight[rows] @ self.r[rows] for rows in self.slices])

    def _dots(self, of_class: Means) -> Float[np.ndarray, " n"]:
        """r_i . of_class_c(i)."""
        each = np.empty(self.n)
        for rows, direction in zip(self.slices, of_class, strict=True):
            each[rows] = self.r[rows] @ direction
        return each

    @cached_property
    def e(self) -> Means:
        """Mean direction of the clips from their mean: -dS / dmu."""
        return self._sums(1 / np.maximum(self.s, 1e-300)) / self.sizes[:, None]

    @cached_property
    def norms(self) -> Float[np.ndarray, " n"]:
        """Lengths of the vectors as they are, seen from the origin; in the order held."""
        norms = np.sqrt(np.einsum("nd,nd->n", self.raw, self.raw))
        if not norms.all():
            raise ClassesError(f"row {int(norms.argmin())} is all zeros, so it has no direction")
        return norms[self.order]

    def unit_sums(self) -> Means:
        """Sum of the unit vectors of each class."""
        weight = 1 / self.norms
        total = np.bincount(self.codes, weight, minlength=self.k)
        return self._sums(weight) + total[:, None] * (self.mu + self.mean)

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
        each = np.zeros(self.n) if clips is None else clips.copy()
        scale = 1 / self.sizes[self.codes]
        if S is not None:
            each += S[self.codes] * scale * (self.s - self.S[self.codes])
            mu = (0.0 if mu is None else mu) - S[:, None] * self.e
        if V is not None:
            each += V[self.codes] * scale * (self.v - self.V[self.codes])
        if mu is not None:
            each += scale * self._dots(mu)
        influence = np.bincount(self.unit_of, each, minlength=self.of.count)
        if self.owner is not None and classes is not None:
            influence += np.bincount(self.owner, classes, minlength=self.of.count)
        return Smooth(float(value), influence)

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

    def explained(self) -> Smooth:
        length = np.einsum("kd,kd->k", self.mu, self.mu)
        total = self.v + 2 * self._dots(self.mu) + length[self.codes]  # ||x_i - mu||^2
        all_, within = total.sum(), self.v.sum()
        return self.smooth(1 - within / all_, clips=(within * total - self.v * all_) / all_**2)

    def alignment(self) -> Smooth:
        # angles are seen from the origin, not from the mean
        total = self.unit_sums()
        pairs = self.sizes * (self.sizes - 1)
        cosine = (np.einsum("kd,kd->k", total, total) - self.sizes) / pairs
        centre = np.einsum("kd,kd->k", self.mu + self.mean, total)
        mine = (self._dots(total) + centre[self.codes]) / self.norms - 1
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
        projected = self.r @ right.T  # r_i in the space of the means
        spread = (projected / sigma) ** 2
        each = spread.sum(axis=1)
        of_class = self._mean(each)
        value = of_class.mean()
        weight = 1 / (self.k * self.sizes[self.codes])
        across = (projected * weight[:, None]).T @ self.r  # right Sigma_W
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
        x = self.r[rows] + self.mu[self.codes[rows]]
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
    """Float64 rows and their labels, all known. Raises `ClassesError` as `classes.measure`."""
    x, names = np.asarray(x, dtype=np.float64), np.asarray(labels)
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
