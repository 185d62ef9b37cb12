"""Subspaces: what each block of a vector tells of each factor, and how far blocks are apart.

Notation: A (n, a) and B (n, b), two blocks of the same clips, centred; C_AB = A^T B / n. A block
is blind to a rotation inside it, so everything here is measured on whole blocks, never on single
coordinates (as MIG and SAP would).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import subspace_angles

from refine.metrics.influence import Smooth, Units, number, units
from refine.metrics.intervals import RESAMPLES, Direction, Groups, Number

LOWEST = 1e-9  # a probability is never taken as less: one clip does not decide

Block = Float[np.ndarray, "n a"]
Other = Float[np.ndarray, "m b"]  # m = n is checked with a sentence


class SubspacesError(ValueError):
    """Blocks that cannot be compared. The message says what was found."""


class DCI(NamedTuple):
    """Disentanglement of each block, completeness of each factor, and their weighted means."""

    blocks: Float[np.ndarray, " blocks"]
    factors: Float[np.ndarray, " factors"]
    disentanglement: float
    completeness: float


def leakage(
    probabilities: Float[np.ndarray, "test k"],
    codes: Int[np.ndarray, " test"],
    prior: Float[np.ndarray, " classes"],
    of: Units,
) -> Smooth:
    """Bits of a factor that a probe reads off a block (V-information, Xu et al. 2020).

        mean_i log2 p(y_i | x_i) / prior(y_i)

    prior: the shares of the classes in training, all that is known without the block. Range up to
    log2 K; 0 or less is nothing (a reader may ignore the block, so it is reported as 0).
    Raises: `SubspacesError` for shapes that do not fit.
    """
    if probabilities.shape != (len(codes), len(prior)) or len(of.of) != len(codes):
        raise SubspacesError(
            f"got probabilities of shape {probabilities.shape} for {len(codes)} clips and "
            f"{len(prior)} classes"
        )
    told = np.maximum(probabilities[np.arange(len(codes)), codes], LOWEST)
    bits = np.log2(told / np.maximum(prior[codes], LOWEST))
    each = (bits - bits.mean()) / len(bits)
    return Smooth(float(bits.mean()), np.bincount(of.of, each, minlength=of.count))


def leakage_number(
    smooth: Smooth,
    of: Units,
    most: float,
    direction: Direction = "neither",
    control: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Number:
    """`leakage` as a Number, nothing below 0; `most` is log2 K."""
    return number(
        Smooth(max(smooth.value, 0.0), smooth.influence),
        of,
        "Bits of the factor that a calibrated linear probe reads off the vector on test clips, "
        "beyond the class shares in training (V-information, Xu 2020): 0 = nothing. "
        "Control: labels shuffled before fitting.",
        (0.0, max(most, smooth.value)),
        resamples,
        seed,
        direction=direction,
        null=0.0,
        control=None if control is None else max(control, 0.0),
    )


def dci(importance: Float[np.ndarray, "blocks factors"]) -> DCI:
    """DCI (Eastwood & Williams 2018) of whole blocks.

        P = R / row sums,   D_b = 1 - H_F(P_b.),   D = sum_b (share of all importance in b) D_b

    and completeness C likewise over columns, with the entropy to the base of how many there are.
    R is what a block tells of a factor, here the share of its entropy that a probe reads there
    (the authors: importances of single coordinates in boosted trees). Range 0 to 1: 1 is one factor
    a block; a block that tells nothing has D_b 0. Raises: `SubspacesError` for a negative or empty
    R, or less than two blocks or factors.
    """
    r = np.asarray(importance, dtype=np.float64)
    if r.ndim != 2 or min(r.shape) < 2:
        raise SubspacesError(f"DCI needs two blocks and two factors or more; got shape {r.shape}")
    if (r < 0).any() or not np.isfinite(r).all() or not r.sum() > 0:
        raise SubspacesError("importances must be finite, not negative and not all 0")

    def pure(rows: np.ndarray) -> np.ndarray:
        total = rows.sum(axis=1, keepdims=True)
        p = rows / np.where(total > 0, total, 1)
        entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1) / np.log(rows.shape[1])
        return np.where(total[:, 0] > 0, 1 - entropy, 0.0)

    blocks, factors = pure(r), pure(r.T)
    weight = r / r.sum()
    return DCI(
        blocks,
        factors,
        float(weight.sum(axis=1) @ blocks),
        float(weight.sum(axis=0) @ factors),
    )


def dci_numbers(
    importance: Mapping[str, Mapping[str, Smooth]],
    of: Units,
    seed: int = 0,
    resamples: int = RESAMPLES,
    control: Float[np.ndarray, "blocks factors"] | None = None,
) -> dict[str, Number]:
    """`disentanglement` and `completeness` as Numbers, from block -> factor -> importance.

    Every influence is by the same units; n counts units. control: importances of random blocks (of
    shuffled labels they would not do: DCI divides by their sum, so that noise may look pure).
    Raises: as `dci`.
    """
    cells = [[row[name] for name in next(iter(importance.values()))] for row in importance.values()]
    r = np.array([[max(cell.value, 0.0) for cell in row] for row in cells])
    moves = np.array([[cell.influence * (cell.value > 0) for cell in row] for row in cells])
    found = dci(r)
    random = None if control is None or not np.any(control > 0) else dci(np.maximum(control, 0.0))
    about_random = "" if random is None else " Control: the same vector cut into random blocks."
    numbers = {}
    for name, about, alike in (
        (
            "disentanglement",
            "how far each block tells of one factor alone",
            "every factor by a block",
        ),
        ("completeness", "how far each factor is in one block alone", "a factor by every block"),
    ):
        slope = np.zeros_like(r)
        for cell in np.ndindex(*r.shape):
            step = np.zeros_like(r)
            step[cell] = min(1e-6, r[cell] / 2) if r[cell] > 0 else 0.0
            if step[cell]:
                ends = getattr(dci(r + step), name) - getattr(dci(r - step), name)
                slope[cell] = ends / (2 * step[cell])
        smooth = Smooth(getattr(found, name), np.einsum("bf,bfu->u", slope, moves))
        numbers[name] = number(
            smooth,
            of,
            f"DCI {name} (Eastwood & Williams 2018) of whole blocks, {about}; importance is the "
            "share of a factor's entropy that a probe reads off a block. Null: as much is told of "
            f"{alike}.{about_random}",
            (0.0, 1.0),
            resamples,
            seed,
            direction="higher",
            null=0.0,
            control=None if random is None else getattr(random, name),
        )
    return numbers


def linear_cka(a: Block, b: Other) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019).

        ||C_AB||_F^2 / ( ||C_AA||_F ||C_BB||_F )

    Range 0 to 1: 1 where one is a rotated and scaled copy of the other, 0 where no direction of one
    goes with any of the other; with few clips it is biased up. Raises: as `between`.
    """
    a, b = _centred(a, b)
    return float(_cka(a, b)[0])


def cross_covariance(a: Block, b: Other) -> float:
    """Share of the products of variance that is covariance: ||C_AB||_F^2 / (tr C_AA tr C_BB).

    Range 0 to 1: 0 is uncorrelated; 1 is one common direction alone. Raises: as `between`.
    """
    a, b = _centred(a, b)
    return float(_coupling(a, b)[0])


def cross_correlation(a: Block, b: Other) -> Float[np.ndarray, "a b"]:
    """Pearson correlation of every coordinate of a block with every one of the other.

    Range -1 to 1; 0 for a coordinate that never varies. Raises: as `between`.
    """
    a, b = _centred(a, b)
    scale = [np.sqrt((block**2).mean(axis=0)) for block in (a, b)]
    unit = [block / np.where(s > 0, s, 1) for block, s in zip((a, b), scale, strict=True)]
    return np.clip(unit[0].T @ unit[1] / len(a), -1, 1)


def principal_angles(
    first: Float[np.ndarray, "d k"], second: Float[np.ndarray, "e l"]
) -> Float[np.ndarray, " smaller"]:
    """Angles between the spans of two bases (Bjorck & Golub 1973), radians, rising.

    Range 0 to pi / 2: 0 is a shared direction, pi / 2 at right angles. As many as the smaller has
    directions. Raises: `SubspacesError` for bases of other spaces.
    """
    if first.shape[0] != second.shape[0]:
        raise SubspacesError(
            f"the bases are of spaces of {first.shape[0]} and {second.shape[0]} dimensions"
        )
    return subspace_angles(first, second)[::-1]


def centroid_basis(
    x: Block, labels: Sequence[Any] | np.ndarray, share: float = 0.95, size: int | None = None
) -> Float[np.ndarray, "a k"]:
    """Orthonormal directions that hold `share` of the variance between the class means, or `size`.

    Raises: `SubspacesError` for less than two classes.
    """
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    return _basis(np.asarray(x, dtype=np.float64), codes, np.ones(len(codes)), share, size)


def overlap(
    x: Block,
    first: np.ndarray,
    second: np.ndarray,
    speakers: Groups | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Number:
    """How far the class means of two factors lie in the same directions of one space.

        mean_k cos^2 of the principal angles between the spans of their class means

    Range 0 to 1: 0 at right angles, 1 the smaller within the larger. Null: two random spans of that
    size. Control: the labels of both shuffled, whose means lie in the widest directions of the
    space. Raises: as `centroid_basis`.
    """
    x = np.asarray(x, dtype=np.float64)
    codes = [np.unique(np.asarray(labels), return_inverse=True)[1] for labels in (first, second)]
    of = units(len(x), speakers, seed=seed)
    sizes = [_basis(x, code, np.ones(len(x)), 0.95, None).shape[1] for code in codes]

    def shared(labels: list[np.ndarray], clips: np.ndarray) -> float:
        bases = [_basis(x, code, clips, 1.0, k) for code, k in zip(labels, sizes, strict=True)]
        return float(((bases[0].T @ bases[1]) ** 2).sum() / min(sizes))

    rng = np.random.default_rng(seed)
    control = shared([rng.permutation(code) for code in codes], np.ones(len(x)))

    return number(
        numeric(lambda weight: shared(codes, weight[of.of]), of.count),
        of,
        f"Mean cos^2 of the principal angles between the spans ({sizes[0]} and {sizes[1]} "
        "directions, 95 % of the variance between class means): 0 = at right angles, 1 = shared. "
        "Null: random spans. Control: the labels of both shuffled.",
        (0.0, 1.0),
        resamples,
        seed,
        null=max(sizes) / x.shape[1],
        control=control,
    )


def between(
    a: Block, b: Other, speakers: Groups | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Number]:
    """cka and cross_covariance of two blocks as Numbers; the control shuffles the clips of one.

    Raises: `SubspacesError` for blocks of a different number of clips, less than two clips, values
    that are not finite, or a block that never varies.
    """
    a, b = _centred(a, b)
    of = units(len(a), speakers, seed=seed)
    spoilt = np.random.default_rng(seed).permutation(b)
    found = {}
    for name, function, told in (
        ("cka", _cka, "Linear CKA (Kornblith 2019): 0 = unrelated, 1 = the same up to rotation"),
        (
            "cross_covariance",
            _coupling,
            "Squared covariance over the product of the variances: 0 = uncorrelated",
        ),
    ):
        value, each = function(a, b)
        found[name] = number(
            Smooth(float(value), np.bincount(of.of, each, minlength=of.count)),
            of,
            f"{told}. Null and control: the clips of one block shuffled.",
            (0.0, 1.0),
            resamples,
            seed,
            direction="lower",
            null=float(function(a, spoilt)[0]),
            control=float(function(a, spoilt)[0]),
        )
    return found


def numeric(statistic: Callable[[np.ndarray], float], count: int, step: float = 1e-4) -> Smooth:
    """A Smooth from a function of the units' weights, by central differences."""
    influence = np.empty(count)
    for unit in range(count):
        ends = []
        for sign in (1, -1):
            weight = np.ones(count)
            weight[unit] += sign * step
            ends.append(statistic(weight))
        influence[unit] = (ends[0] - ends[1]) / (2 * step)
    return Smooth(statistic(np.ones(count)), influence)


def _cka(a: Block, b: Other) -> tuple[float, Float[np.ndarray, " n"]]:
    parts = [_squared(first, second) for first, second in ((a, b), (a, a), (b, b))]
    value = parts[0][0] / np.sqrt(parts[1][0] * parts[2][0])
    if parts[0][0] == 0:
        return 0.0, np.zeros(len(a))
    relative = [each / power for power, each in parts]
    return value, value * (relative[0] - relative[1] / 2 - relative[2] / 2)


def _coupling(a: Block, b: Other) -> tuple[float, Float[np.ndarray, " n"]]:
    power, each = _squared(a, b)
    spreads = [(block**2).sum(axis=1) for block in (a, b)]
    traces = [spread.mean() for spread in spreads]
    value = power / (traces[0] * traces[1])
    moved = each / (traces[0] * traces[1])
    for spread, trace in zip(spreads, traces, strict=True):
        moved = moved - value * (spread - trace) / (trace * len(a))
    return value, moved


def _squared(a: Block, b: Other) -> tuple[float, Float[np.ndarray, " n"]]:
    """||C_AB||_F^2, and what each clip adds to it."""
    covariance = a.T @ b / len(a)
    power = float((covariance**2).sum())
    return power, 2 * (np.einsum("nb,nb->n", a @ covariance, b) - power) / len(a)


def _basis(
    x: Block, codes: Int[np.ndarray, " n"], weight: np.ndarray, share: float, size: int | None
) -> Float[np.ndarray, "a k"]:
    k = int(codes.max()) + 1
    if k < 2:
        raise SubspacesError("got one class; its means span nothing")
    member = np.zeros((k, len(x)))
    member[codes, np.arange(len(x))] = weight
    means = member @ x / member.sum(axis=1, keepdims=True)
    _, sigma, rows = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    if size is None:
        held = np.cumsum(sigma**2) / (sigma**2).sum()
        size = int(np.searchsorted(held, share - 1e-12)) + 1
    return rows[: min(size, k - 1)].T


def _centred(a: Block, b: Other) -> tuple[Block, Other]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or len(a) < 2:
        raise SubspacesError(
            f"two blocks of the same clips are needed; got {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise SubspacesError("a block holds NaN or infinity")
    for block in (a, b):
        if np.ptp(block, axis=0).max() <= 1e-12 * np.abs(block).max():
            raise SubspacesError("a block is the same for every clip")
    return a - a.mean(axis=0), b - b.mean(axis=0)
