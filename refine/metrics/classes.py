"""Class structure: how tight the classes of a factor are, and how far apart.

Notation: x_i (n, d), of class c(i); n_c clips, K classes; mu_c the mean of a class, mu_G that of
those; r_i = x_i - mu_c(i), S_c = mean ||r_i||, V_c = mean ||r_i||^2, D_ab = ||mu_a - mu_b||. Every
class counts alike, however many clips it has. Everything is float64.

Intervals: the first-order expansion in the clips' weights (see `refine.metrics.influence`). Where
every class lies within one speaker, as in the factor `speaker`, drawing speakers draws classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from refine.metrics.chance import by_chance
from refine.metrics.chance import cdnv as cdnv_by_chance
from refine.metrics.geometry import ClassesError, Geometry, checked
from refine.metrics.influence import Smooth, Units, number, owners, table, units
from refine.metrics.intervals import RESAMPLES, Direction, Groups, Number
from refine.metrics.silhouette import SILHOUETTE_CLIPS

MOST_CLASSES = 300  # of more, so many are drawn
BLIND = "Null: labels that mean nothing (at the root mean square distance)."

Matrix = Float[np.ndarray, "n d"]
Labels = Sequence[Any] | np.ndarray


class NC2(NamedTuple):
    """How far centred class means are from a simplex: 0 and 0 is a simplex."""

    equinorm: float
    equiangle: float


def within_spread(x: Matrix, labels: Labels) -> float:
    """Mean distance of a clip to the mean of its class, mean over classes (Lux et al. 2022).

        mean_c S_c

    Range 0 to inf, in the unit of the vectors: compare `spread_ratio` between encoders. (The
    authors' code reports half of it, by a slip.) Raises: as `measure`.
    """
    return Geometry(x, labels).within().value


def between_centroids(x: Matrix, labels: Labels) -> float:
    """Mean distance of two class means, over all pairs: mean_{a != b} D_ab. Range 0 to inf.

    The authors' code sums over the other classes instead, which grows with K. Raises: as `measure`.
    """
    return Geometry(x, labels).between().value


def spread_ratio(x: Matrix, labels: Labels) -> float:
    """`within_spread` over `between_centroids`: free of scale. Range 0 to inf, lower is tighter."""
    return Geometry(x, labels).ratio().value


def davies_bouldin(x: Matrix, labels: Labels) -> float:
    """Davies & Bouldin 1979: mean_a max_{b != a} (S_a + S_b) / D_ab. Range 0 to inf, lower better.

    Equal to scikit-learn's. Raises: as `measure`.
    """
    return Geometry(x, labels).davies_bouldin().value


def silhouette(x: Matrix, labels: Labels, most: int = SILHOUETTE_CLIPS, seed: int = 0) -> float:
    """Rousseeuw 1987: mean over clips of (b - a) / max(a, b), by Euclidean distance.

    a: mean distance to the clips of its class, b: to those of the nearest other class. Range -1 to
    1, 0 where classes overlap, higher better. Of more than `most` clips that many are drawn. Equal
    to scikit-learn's. Raises: as `measure`.
    """
    classes = Geometry(x, labels)
    return float(classes.silhouette(most, seed)[0].mean())


def nc1(x: Matrix, labels: Labels) -> float:
    """Within-class collapse (Papyan et al. 2020): tr( Sigma_W pinv(Sigma_B) ) / K.

        Sigma_W = mean_c mean_{i in c} r_i r_i^T,   Sigma_B = mean_c (mu_c - mu_G)(mu_c - mu_G)^T

    The pseudo-inverse cuts off at rank K - 1. Range 0 to inf, 0 is collapse. Raises: as `measure`.
    """
    return Geometry(x, labels).nc1().value


def nc2(x: Matrix, labels: Labels) -> NC2:
    """Neural collapse 2 (Papyan et al. 2020): do the centred means m_c form a simplex?

        equinorm = sd_c ||m_c|| / mean_c ||m_c||
        equiangle = mean_{a != b} |cos(m_a, m_b) + 1 / (K - 1)|

    Range 0 to inf and 0 to 1 + 1 / (K - 1); 0 is a simplex. Raises: as `measure`; for K < 3.
    """
    classes = Geometry(x, labels)
    return NC2(classes.equinorm().value, classes.equiangle().value)


def cdnv(x: Matrix, labels: Labels) -> float:
    """Class-distance normalised variance (Galanti et al. 2021).

        mean_{a != b} (V_a + V_b) / (2 D_ab^2)

    Range 0 to inf, lower is tighter. Raises: as `measure`.
    """
    return Geometry(x, labels).cdnv().value


def alignment(x: Matrix, labels: Labels) -> float:
    """Alignment (Wang & Isola 2020) of clips of one class, alpha = 2, unit rows u_i.

        mean_c mean_{i != j in c} ||u_i - u_j||^2   ( = 2 - 2 cos )

    Range 0 to 4, lower is closer. Raises: as `measure`, and for a row of zeros.
    """
    return Geometry(x, labels).alignment().value


def explained(x: Matrix, labels: Labels) -> float:
    """Share of the variance that the class means hold (eta squared), over all dimensions.

        sum_c n_c ||mu_c - mu||^2 / sum_i ||x_i - mu||^2

    Range 0 to 1; labels that mean nothing get about (K - 1) / (n - 1). Raises: as `measure`.
    """
    return Geometry(x, labels).explained().value


def measure(
    x: Matrix,
    labels: Labels,
    speakers: Groups | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    control: bool = True,
) -> dict[str, Number]:
    """All of the above as Numbers, resampled by speaker; nc2 is left out for two classes.

    Args:
        x: one vector a clip. labels: a class a clip, "" and None are left out. speakers: a label a
            clip. control: also measure with the labels shuffled over the clips.
    Raises: `ClassesError` for less than two classes, a class of one clip, vectors that are not
        finite or not one a label, or class means that all coincide.
    """
    of = None if speakers is None else np.asarray(speakers, dtype=object)
    x, labels, kept = _kept(x, labels, seed)
    shared = _units(labels, None if of is None else of[kept], seed)
    geometry = Geometry(x, labels, shared)
    found = _statistics(geometry, seed)
    about = _about(geometry, len(kept))
    spoilt: dict[str, Smooth] = {}
    if control:
        shuffled = np.random.default_rng(seed).permutation(labels)
        spoilt = _statistics(Geometry(x, shuffled, shared, moves=False), seed)
    return {
        name: number(
            smooth,
            shared,
            f"{about[name].definition}{' Control: labels shuffled.' if control else ''}",
            about[name].bounds,
            resamples,
            seed,
            direction=about[name].direction,
            null=about[name].null,
            control=spoilt[name].value if control else None,
        )
        for name, smooth in found.items()
    }


def change(
    before: Matrix,
    after: Float[np.ndarray, "m e"],
    labels: Labels,
    speakers: Groups | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    only: Sequence[str] | None = None,
) -> dict[str, Number]:
    """After minus before of every statistic (or `only` some) on the same clips; null 0.

    Raises: as `measure`; for tables of a different number of clips.
    """
    first, second = sides(before, after, labels, speakers, seed)
    return change_of(first, second, seed, resamples, only)


def change_of(
    before: Geometry,
    after: Geometry,
    seed: int = 0,
    resamples: int = RESAMPLES,
    only: Sequence[str] | None = None,
) -> dict[str, Number]:
    """The same of classes that `sides` has laid out."""
    first, second = (_statistics(side, seed, only) for side in (before, after))
    about = _about(before, before.n)
    return {
        name: number(
            second[name].minus(first[name]),
            before.of,
            f"Change of {name}, after minus before on the same clips.",
            resamples=resamples,
            seed=seed,
            direction=about[name].direction,
            null=0.0,
        )
        for name in first
    }


def sides(
    before: Matrix,
    after: Float[np.ndarray, "m e"] | None,
    labels: Labels,
    speakers: Groups | None = None,
    seed: int = 0,
) -> tuple[Geometry, ...]:
    """The classes before and, unless None, after: the same clips and units. Raises: as `change`."""
    if after is not None and len(before) != len(after):
        raise ClassesError(
            f"a change is measured on the same clips; got {len(before)} before, {len(after)} after"
        )
    of = None if speakers is None else np.asarray(speakers, dtype=object)
    x, names, kept = _kept(before, labels, seed)
    shared = _units(names, None if of is None else of[kept], seed)
    first = Geometry(x, names, shared)
    if after is None:
        return (first,)
    return first, Geometry(_kept(after, labels, seed)[0], names, shared)


def statistics(
    x: Matrix, labels: Labels, of: Units, seed: int = 0, only: Sequence[str] | None = None
) -> dict[str, Smooth]:
    """Every value with its influence by unit, of clips of known class. Raises: as `measure`."""
    return _statistics(Geometry(x, labels, of), seed, only)


def _statistics(
    classes: Geometry, seed: int, only: Sequence[str] | None = None
) -> dict[str, Smooth]:
    ways: dict[str, Callable[[], Smooth]] = {
        "within_spread": classes.within,
        "between_centroids": classes.between,
        "spread_ratio": classes.ratio,
        "davies_bouldin": classes.davies_bouldin,
        "silhouette": lambda: classes.silhouette_smooth(SILHOUETTE_CLIPS, seed),
        "nc1": classes.nc1,
        "cdnv": classes.cdnv,
        "alignment": classes.alignment,
        "explained": classes.explained,
    }
    if classes.k > 2:
        ways |= {"nc2_equinorm": classes.equinorm, "nc2_equiangle": classes.equiangle}
    return {name: way() for name, way in ways.items() if only is None or name in only}


def _units(labels: np.ndarray, speakers: np.ndarray | None, seed: int) -> Units:
    """Speakers, but clips where each of two classes is one speaker: there is one pair to draw."""
    of = units(len(labels), speakers, seed=seed)
    names, codes = np.unique(labels, return_inverse=True)
    if len(names) == 2 and of.groups and owners(table(of, codes, 2)) is not None:
        alone = units(len(labels), None, seed=seed)
        return replace(alone, why=" (each class is one speaker: nothing is said about others)")
    return of


class _About(NamedTuple):
    definition: str
    direction: Direction = "lower"
    bounds: tuple[float, float] = (0.0, math.inf)
    null: float | None = None


def _about(of: Geometry, clips: int) -> dict[str, _About]:
    """What each Number says of itself, for these classes."""
    k, n = of.k, of.n
    told = _told(of)
    drawn = f", {SILHOUETTE_CLIPS} drawn clips" if n > SILHOUETTE_CLIPS else ""
    cosine = (float((of.unit_sums().sum(axis=0) ** 2).sum()) - n) / (n * (n - 1))
    blind = by_chance(of)
    wide, apart = float(blind.S.mean()), blind.between
    nearest = "" if of.owner is None else " Too narrow: other speakers may lie closer still."
    about = {
        "within_spread": _About(
            "Mean distance of a clip to its class mean (Lux 2022), in the vectors' own unit. "
            f"{BLIND}",
            "neither",
            null=wide,
        ),
        "between_centroids": _About(
            f"Mean distance of two class means, in the vectors' own unit. {BLIND}",
            "neither",
            null=apart,
        ),
        "spread_ratio": _About(
            f"Within-class spread over the distance of class means: 0 = points. {BLIND}",
            null=wide / apart,
        ),
        "davies_bouldin": _About(
            "Davies-Bouldin index, mean over classes of the worst (S_a + S_b) / D_ab: 0 = points."
            + nearest
        ),
        "silhouette": _About(
            f"Silhouette (Rousseeuw 1987), Euclidean{drawn}: 1 = far apart, 0 = overlapping.",
            "higher",
            (-1.0, 1.0),
            0.0,
        ),
        "nc1": _About(
            "Within-class collapse NC1 (Papyan 2020), tr(Sigma_W pinv(Sigma_B)) / K: 0 = collapsed."
        ),
        "cdnv": _About(
            "Class-distance normalised variance (Galanti 2021), (V_a + V_b) / (2 D_ab^2) over "
            f"pairs of classes: 0 = points. {BLIND}",
            null=cdnv_by_chance(of),
        ),
        "alignment": _About(
            "Alignment (Wang & Isola 2020), mean ||u - v||^2 of two clips of one class, unit rows: "
            "0 = the same. Null: any two clips.",
            "lower",
            (0.0, 4.0),
            2 - 2 * cosine,
        ),
        "explained": _About(
            "Share of the variance of the vectors that the class means hold (eta squared). Null: "
            "labels that mean nothing.",
            "neither",
            (0.0, 1.0),
            (k - 1) / (n - 1),
        ),
        "nc2_equinorm": _About(
            "NC2 (Papyan 2020), spread of the lengths of the centred class means over their mean: "
            "0 = a simplex.",
            "neither",
        ),
        "nc2_equiangle": _About(
            "NC2 (Papyan 2020), mean |cos + 1 / (K - 1)| of centred class means: 0 = a simplex.",
            "neither",
            (0.0, 1 + 1 / (k - 1)),
        ),
    }
    return {name: one._replace(definition=one.definition + told) for name, one in about.items()}


def _told(of: Geometry) -> str:
    """How many classes and clips, and what speakers leave open."""
    told = f" {of.k} classes, {of.n} clips."
    held = of.held
    if of.of.groups and of.owner is None and held.min() == 1:
        told += " Some classes have one speaker: what is theirs and what the class's is not told."
    return told


def _kept(
    x: Matrix, labels: Labels, seed: int
) -> tuple[Float[np.ndarray, "known d"], np.ndarray, np.ndarray]:
    """Rows whose class is known, of `MOST_CLASSES` drawn classes where there are more."""
    names = np.array(["" if name is None else name for name in labels])
    if len(x) != len(names):
        raise ClassesError(f"got vectors of shape {np.shape(x)} for {len(names)} labels")
    rows = np.flatnonzero(names != "") if names.dtype.kind in "UO" else np.arange(len(names))
    found = np.unique(names[rows])
    if len(found) > MOST_CLASSES:
        drawn = np.random.default_rng(seed).choice(found, MOST_CLASSES, replace=False)
        rows = rows[np.isin(names[rows], drawn)]
    if len(rows) < len(names):
        x, names = np.asarray(x)[rows], names[rows]
    return *checked(x, names), rows
