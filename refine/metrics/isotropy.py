"""Isotropy of an embedding space: how evenly it uses the directions it has.

Notation: X (n, d), rows x_i; u_i = x_i / ||x_i||; lambda_k the eigenvalues of the covariance,
sigma_k singular values. Everything is float64. Neither end is "better": a collapsed space has no
isotropy, but noise has the most.

Intervals: resampling a spectral statistic itself would cost a decomposition a resample and be off,
since a resample with duplicates has a lower rank (its interval may lie wholly below the value). So
the first-order expansion is resampled (the infinitesimal jackknife, Efron 1982),

    value + sum_i (w_i - 1) influence_i,    influence_i = d statistic / d w_i at w = 1,

in closed form (`refine.metrics.expansions`); no clip ever meets its own duplicate.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from refine.metrics import expansions
from refine.metrics.decomposition import Space, decompose
from refine.metrics.influence import Smooth
from refine.metrics.intervals import (
    RESAMPLES,
    Groups,
    Number,
    from_resamples,
    usable_groups,
    weights,
)

RANKME_EPS = 1e-7  # Garrido et al. 2023
UNIFORMITY_T = 2.0  # Wang & Isola 2020
PARTITION_LEADING = 16  # directions in which a resample looks for its extremes
UNIFORMITY_CLIPS = 2_000  # beyond, each clip is compared with that many drawn ones
BLOCK = 1_000  # rows of a kernel matrix held at a time

Matrix = Float[np.ndarray, "n d"]
Reference = Float[np.ndarray, "m c"]  # c = d is checked with a sentence


class Statistic(NamedTuple):
    """A value, and its values when the clips are weighted by each row of (resamples, n)."""

    value: float
    resampled: Callable[[np.ndarray], np.ndarray]


def isoscore(x: Matrix) -> float:
    """IsoScore (Rudman et al. 2022): the share of dimensions that are used equally.

        IsoScore = (PR - 1) / (d - 1),    PR = (sum_k lambda_k)^2 / sum_k lambda_k^2

    which equals the published delta formula (tested). Range 0 to 1: 0 is one direction, 1 all d
    alike, (k - 1) / (d - 1) is k equal ones. Biased low unless n is well above d: an isotropic
    Gaussian scores about 1 / (1 + d / n).
    Raises: `ValueError` for n < 2, d < 2, values that are not finite, rows that are all equal.
    """
    return expansions.isoscore(decompose(_centred(_check(x)))).value


def isoscore_star(x: Matrix, zeta: float = 0.2, reference: Reference | None = None) -> float:
    """IsoScore* (Rudman & Eickhoff 2024): IsoScore of (1 - zeta) Cov(X) + zeta C0.

    C0 is the covariance of `reference` (rows of a larger sample), or the identity; with the
    identity the score depends on the scale of X. zeta = 0 is IsoScore. Range 0 to 1.
    Raises: as `isoscore`, and for a zeta outside 0 to 1 or a reference of another dimension.
    """
    if not 0 <= zeta <= 1:
        raise ValueError(f"zeta: got {zeta}; expected 0 to 1")
    covariance = np.cov(_check(x, scale=False), rowvar=False)
    if reference is None:
        prior = np.eye(len(covariance))
    else:
        prior = np.cov(_check(reference, scale=False), rowvar=False)
        if prior.shape != covariance.shape:
            raise ValueError(f"reference: got {len(prior)} dimensions, x has {len(covariance)}")
    mixed = (1 - zeta) * covariance + zeta * prior
    mixed /= np.abs(mixed).max()
    ratio = np.trace(mixed) ** 2 / (mixed**2).sum()  # the squared norm is sum_k lambda_k^2
    return float((ratio - 1) / (len(mixed) - 1))


def partition_isotropy(x: Matrix) -> float:
    """I(W) (Arora et al. 2016; Mu & Viswanath 2018), on unit rows u_i.

        Z(a) = sum_i exp(a . u_i),    I = min_a Z(a) / max_a Z(a),    a = +v_k and -v_k

    over the eigenvectors v_k of U^T U, with both signs, since Z(a) != Z(-a) and the sign an
    eigenvector comes with is an accident. Range 0 to 1 (exp(-2) is the lowest for unit rows),
    1 = isotropic. Log-sum-exp throughout.
    Raises: as `isoscore`, and for a row of zeros.
    """
    return _partition(decompose(_unit(_check(x)))).value


def mean_cosine(x: Matrix) -> float:
    """Mean cosine over all pairs i != j: how far the cloud sits off the origin, not its spread.

        ( ||sum_i u_i||^2 - n ) / ( n (n - 1) )

    Range -1 / (n - 1) to 1; 0 is a centred space, 1 all clips in one direction.
    Raises: as `isoscore`, and for a row of zeros.
    """
    return expansions.mean_cosine(_unit(_check(x))).value


def effective_rank(x: Matrix) -> float:
    """Effective rank (Roy & Vetterli 2007): how many directions the centred rows use.

        exp( - sum_k p_k log p_k ),    p_k = sigma_k / sum sigma   (sigma, not sigma^2)

    Range 1 to min(n - 1, d). Raises: as `isoscore`.
    """
    return expansions.entropy_rank(decompose(_centred(_check(x)))).value


def rankme(x: Matrix) -> float:
    """RankMe (Garrido et al. 2023): the effective rank of the rows as they are, not centred.

        exp( - sum_k p_k log p_k ),    p_k = sigma_k / sum sigma + 1e-7

    Range 1 to min(n, d). The authors used 25 600 samples: with fewer than d it counts the clips.
    Raises: as `isoscore`.
    """
    return expansions.entropy_rank(decompose(_check(x)), RANKME_EPS).value


def uniformity(
    x: Matrix, t: float = UNIFORMITY_T, most: int = UNIFORMITY_CLIPS, seed: int = 0
) -> float:
    """Uniformity on the sphere (Wang & Isola 2020).

        log mean_{i != j} exp( -t ||u_i - u_j||^2 )

    Range -4t to 0: 0 is one point, about -2t a uniform sphere of many dimensions; lower is more
    uniform. With more than `most` clips each is compared with `most` drawn ones instead of all.
    Raises: as `isoscore`, and for a row of zeros or a t that is not positive.
    """
    if not t > 0:
        raise ValueError(f"t: got {t}; expected a positive number")
    return _uniformity(_unit(_check(x)), t, most, seed).value


def spectrum(x: Matrix) -> Float[np.ndarray, " k"]:
    """Singular values of the centred rows over the largest, falling; a flat line is isotropic.

    Returns: shape (min(n, d),), from 1 down to 0. Raises: as `isoscore`.
    """
    space = decompose(_centred(_check(x)))
    padded = np.zeros(space.most)
    padded[: len(space.sigma)] = space.sigma / space.sigma[0]
    return padded


def cosines(x: Matrix, pairs: int = 20_000, seed: int = 0) -> Float[np.ndarray, " pairs"]:
    """Cosines of random pairs i != j, for a histogram; all of them where there are no more.

    Raises: as `mean_cosine`.
    """
    unit = _unit(_check(x))
    n = len(unit)
    if n * (n - 1) // 2 <= pairs:
        first, second = np.triu_indices(n, k=1)
    else:
        rng = np.random.default_rng(seed)
        first = rng.integers(n, size=pairs)
        second = (first + rng.integers(1, n, size=pairs)) % n
    return np.clip(np.einsum("pd,pd->p", unit[first], unit[second]), -1, 1)


def measure(
    x: Matrix, speakers: Groups | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Number]:
    """All six statistics with 95 % intervals, resampled by speaker where there are two or more.

    Args:
        x: one vector a clip, (n, d). speakers: a label a clip; "" is unknown.
    Returns: isoscore, partition, mean_cosine, effective_rank, rankme, uniformity. Each carries as
        `null` its value for an isotropic Gaussian of this n and d, and as `control` its value after
        every coordinate was shuffled over the clips on its own; direction is "neither" throughout.
    Raises: as `mean_cosine`; for speakers that are not one a clip.
    """
    x = _check(x)
    n, d = x.shape
    if speakers is not None and len(speakers) != n:
        raise ValueError(f"speakers: got {len(speakers)} labels for {n} clips")
    groups, count = usable_groups(speakers)
    counts = weights(n, groups, resamples, seed)
    found = statistics(x, seed)
    null = _null(n, d)
    shuffled = np.random.default_rng(seed).permuted(x, axis=0)
    control = (
        statistics(shuffled, seed) if shuffled.any(axis=1).all() else {}
    )  # a sparse row may empty
    told = _resampled(speakers, count)
    numbers = {}
    for name, (definition, bounds) in _about(n, d).items():
        value, resampled = found[name]
        low, high = from_resamples(value, resampled(counts), count or n)
        numbers[name] = Number(
            value,
            max(low, min(bounds[0], value)),
            min(high, max(bounds[1], value)),
            n,
            f"{definition} {told}",
            range=bounds,
            null=null[name],
            control=control[name].value if control else None,
            groups=count,
        )
    return numbers


def _smooth(smooth: Smooth) -> Statistic:
    return Statistic(
        smooth.value, lambda counts: smooth.value + (counts - 1.0) @ smooth.influence
    )  # fmt: skip


def _partition(space: Space) -> Statistic:
    projected = space.left * space.sigma  # (n, rank), v_k . u_i for every eigenvector v_k
    # log-sum-exp: a . u is at most 1 for unit rows, so 1 is the shift for every column
    sums = np.concatenate([np.exp(sign * projected - 1).sum(axis=0) for sign in (1, -1)])
    log_z = 1 + np.log(sums)
    lowest = log_z.min()
    if len(space.sigma) < space.d:
        lowest = min(lowest, np.log(len(projected)))  # an eigenvector that no row points along
    leading = projected[:, :PARTITION_LEADING]
    return Statistic(
        float(np.exp(lowest - log_z.max())),
        lambda counts: np.array([_reweighted_partition(leading, row) for row in counts]),
    )


def _reweighted_partition(
    projected: Float[np.ndarray, "n leading"], count: Float[np.ndarray, " n"] | np.ndarray
) -> float:
    """I(W) of reweighted rows within their leading directions.

    Neighbouring eigenvalues let eigenvectors turn at once, which no first-order expansion follows:
    they are found anew, in the few directions where the extremes lie.
    """
    drawn = count > 0
    rows, weight = projected[drawn], count[drawn].astype(np.float64)
    _, turned = np.linalg.eigh((rows * weight[:, None]).T @ rows)
    grown = np.exp(rows @ turned)  # a . u is within -1 to 1: nothing to overflow
    z = np.concatenate([weight @ grown, weight @ (1 / grown)])
    return float(z.min() / z.max())


def _uniformity(unit: Matrix, t: float, most: int, seed: int) -> Statistic:
    n = len(unit)
    others = np.arange(n)
    if n > most:
        others = np.sort(np.random.default_rng(seed).choice(n, size=most, replace=False))
    rows = np.empty(n)
    for start in range(0, n, BLOCK):
        kernel = unit[start : start + BLOCK] @ unit[others].T
        np.exp(2 * t * (kernel - 1), out=kernel)  # ||u - v||^2 = 2 - 2 u . v
        own = np.flatnonzero((others >= start) & (others < start + len(kernel)))
        kernel[others[own] - start, own] = 0  # i != j
        rows[start : start + BLOCK] = kernel.sum(axis=1)
    rows /= len(others) - np.isin(np.arange(n), others)
    mean = rows.mean()
    return _smooth(Smooth(float(np.log(mean)), 2 * (rows / mean - 1) / n))


def statistics(x: Matrix, seed: int = 0) -> dict[str, Statistic]:
    """All six at once, from the same decompositions. Raises: as `mean_cosine`."""
    x = _check(x)
    unit = _unit(x)
    centred = decompose(_centred(x))
    return {
        "isoscore": _smooth(expansions.isoscore(centred)),
        "partition": _partition(decompose(unit)),
        "mean_cosine": _smooth(expansions.mean_cosine(unit)),
        "effective_rank": _smooth(expansions.entropy_rank(centred)),
        "rankme": _smooth(expansions.entropy_rank(decompose(x), RANKME_EPS)),
        "uniformity": _uniformity(unit, UNIFORMITY_T, UNIFORMITY_CLIPS, seed),
    }


@lru_cache(maxsize=32)
def _null(n: int, d: int) -> dict[str, float]:
    """The statistics of an isotropic Gaussian; the same for every layer of an encoder."""
    gaussian = np.random.default_rng(0).standard_normal((n, d))
    return {name: statistic.value for name, statistic in statistics(gaussian, 0).items()}


def _about(n: int, d: int) -> dict[str, tuple[str, tuple[float, float]]]:
    """Definition and range of each statistic; what depends on this n and d is said."""
    few = f"; biased low, since {n} clips are no more than {d} dimensions" if n <= d else ""
    pairs = f"each clip against {UNIFORMITY_CLIPS} drawn ones" if n > UNIFORMITY_CLIPS else "all"
    return {
        "isoscore": (
            "IsoScore (Rudman 2022), (PR - 1) / (d - 1) with PR the participation ratio of the "
            f"covariance's eigenvalues: 0 = one direction, 1 = all alike{few}.",
            (0.0, 1.0),
        ),
        "partition": (
            "Partition isotropy I(W) (Mu & Viswanath 2018), min Z / max Z over the eigenvectors "
            "with both signs, unit rows: 1 = isotropic.",
            (0.0, 1.0),
        ),
        "mean_cosine": (
            "Mean cosine of all pairs of clips: 0 = centred, 1 = all in one direction.",
            (-1.0, 1.0),
        ),
        "effective_rank": (
            "Effective rank (Roy & Vetterli 2007), exp of the entropy of the centred singular "
            f"values (sigma, not squared): 1 = one direction, at most {min(n - 1, d)}.",
            (1.0, float(min(n - 1, d))),
        ),
        "rankme": (
            "RankMe (Garrido 2023), effective rank of the uncentred vectors, eps 1e-7: "
            f"1 = one direction, at most {min(n, d)}.",
            (1.0, float(min(n, d))),
        ),
        "uniformity": (
            "Uniformity (Wang & Isola 2020), log mean exp(-2 ||u - v||^2) over pairs of unit rows "
            f"({pairs}): 0 = one point, about -4 = evenly over a sphere.",
            (-4 * UNIFORMITY_T, 0.0),
        ),
    }


def _resampled(speakers: Groups | None, count: int | None) -> str:
    after = (
        "Null: an isotropic Gaussian of the same size. "
        "Control: every coordinate shuffled over the clips."
    )
    if count:
        return f"95 % interval over {count} speakers. {after}"
    why = "" if speakers is None else " (one speaker only: nothing is said about others)"
    return f"95 % interval over clips{why}. {after}"


def _check(x: Matrix, scale: bool = True) -> Matrix:
    """Float64 rows that have a statistic; by default over the largest value, so squares fit."""
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2 or x.shape[1] < 2:
        raise ValueError(
            f"isotropy needs vectors of 2 or more dimensions, of 2 or more clips; got {x.shape}"
        )
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"isotropy needs finite vectors; {(~finite).sum()} of {len(x)} hold NaN or infinity, "
            f"the first is row {int(finite.argmin())}"
        )
    largest = np.abs(x).max()
    if largest == 0 or np.ptp(x / largest, axis=0).max() < 1e-12:
        raise ValueError(f"isotropy needs vectors that differ; all {len(x)} rows are equal")
    return x / largest if scale else x


def _unit(x: Matrix) -> Matrix:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"row {int(norms.argmin())} is all zeros, so it has no direction")
    return x / norms


def _centred(x: Matrix) -> Matrix:
    return x - x.mean(axis=0)
