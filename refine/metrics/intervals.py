"""A reported number: its value, a 95 % interval, and what a reader needs to judge it.

Clips of one speaker resemble each other, so where speakers exist whole speakers are resampled
(the cluster bootstrap, Efron & Tibshirani 1993): the interval then speaks about other speakers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri, stdtrit

LEVEL = 0.95
RESAMPLES = 200

Direction = Literal["higher", "lower", "neither"]
Groups = Sequence[Any] | np.ndarray  # a label an item


@dataclass(frozen=True)
class Number:
    """A metric as it is reported: never a value alone.

    `n` counts clips (or what the definition says), `groups` the speakers that were resampled (None:
    single clips were). `range` is (lowest, highest) possible, `null` the value where there is
    nothing to find, `control` the same statistic on spoilt data; the definition says which.
    `direction` says which way is better: isotropy alone is "neither".
    Raises: `ValueError` for a value, interval or direction that cannot be reported.
    """

    value: float
    low: float
    high: float
    n: int
    definition: str
    range: tuple[float, float] = (-math.inf, math.inf)
    direction: Direction = "neither"
    null: float | None = None
    control: float | None = None
    groups: int | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            raise ValueError(
                f"a reported number is finite; got {self.value} [{self.low}, {self.high}]"
            )
        if self.low > self.high:
            raise ValueError(f"an interval goes up; got [{self.low}, {self.high}]")
        if self.direction not in ("higher", "lower", "neither"):
            raise ValueError(f"direction is higher, lower or neither; got {self.direction!r}")

    def __format__(self, spec: str) -> str:
        """The value alone, for a label beside which the rest is shown."""
        return format(self.value, spec)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; an end of the range that is infinite becomes None.

        >>> Number(0.5, 0.4, 0.6, 10, "a share", range=(0.0, math.inf)).as_dict()["range"]
        [0.0, None]
        """
        return {
            "value": float(self.value),
            "low": float(self.low),
            "high": float(self.high),
            "n": int(self.n),
            "definition": self.definition,
            "range": [_finite(end) for end in self.range],
            "direction": self.direction,
            "null": _finite(self.null),
            "control": _finite(self.control),
            "groups": self.groups,
        }


def bootstrap(
    statistic: Callable[[Int[np.ndarray, " drawn"]], float],
    n: int,
    groups: Groups | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile interval of a statistic, by resampling items or whole groups with replacement.

    Args:
        statistic: takes indices into the n items, some repeated, and returns a finite number.
        groups: a label an item, usually the speaker; "" and None stand alone. `drawn` then varies.
    Returns: (low, high); where the statistic is biased it need not hold the value itself: then
        `from_resamples` is the honest way.
    Raises: `ValueError` for less than two items or groups, or a statistic that is not finite.
    """
    counts = weights(n, groups, resamples, seed)
    return percentiles([float(statistic(np.repeat(np.arange(n), row))) for row in counts], level)


def from_resamples(
    value: float, values: Float[np.ndarray, " resamples"], units: int, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile interval moved so that the median of the resamples is the value.

    A resample holds fewer different clips than the data, so a statistic that depends on n is off
    in all of them alike; moved, the interval is about the statistic at this n. For G units
    drawn it is widened by sqrt(G / (G - 1)) t(G - 1) / z, else it is too narrow when they are
    few (the expanded percentile interval, Hesterberg 2015): 1.03 for 50 units, 1.3 for 8.
    """
    tail = (1 + level) / 2
    spread = math.sqrt(units / (units - 1)) * float(stdtrit(units - 1, tail) / ndtri(tail))
    return percentiles(value + spread * (values - np.median(values)), level)


def from_values(
    values: Float[np.ndarray, " n"] | Sequence[float],
    definition: str,
    groups: Groups | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    **about: Any,
) -> Number:
    """The mean of one value an item as a Number; `about` are further fields of `Number`.

    The interval ends where the range does.
    Raises: `ValueError` for less than two values, or values that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"{definition}: expected finite values, one an item; got {values!r}")
    n = len(values)
    groups, count = usable_groups(groups)
    counts = weights(n, groups, resamples, seed)
    means = counts @ values / counts.sum(axis=1)
    mean = float(values.mean())
    low, high = from_resamples(mean, means, count or n)
    least, most = about.get("range", (-math.inf, math.inf))
    low, high = max(low, min(least, mean)), min(high, max(most, mean))
    return Number(mean, low, high, n, definition, groups=count, **about)


def weights(
    n: int, groups: Groups | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Int[np.ndarray, "resamples n"]:
    """How often each item is drawn in each resample; those of one group equally often.

    Raises: `ValueError` for less than two items, groups or resamples, labels that are not n.
    """
    if n < 2:
        raise ValueError(f"an interval needs at least 2 items; got {n}")
    if resamples < 2:
        raise ValueError(f"resamples: got {resamples}; an interval needs at least 2")
    labels = np.arange(n) if groups is None else _labels(groups)
    if len(labels) != n:
        raise ValueError(f"groups: got {len(labels)} labels for {n} items")
    units = int(labels.max()) + 1
    if units < 2:
        raise ValueError("got one group; an interval needs two: leave groups out to resample items")
    rng = np.random.default_rng(seed)
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples)[:, labels]


def usable_groups(groups: Groups | None) -> tuple[Groups | None, int | None]:
    """The groups and how many they are, or (None, None) where there are less than two."""
    count = 0 if groups is None else len(np.unique(_labels(groups)))
    return (groups, count) if count > 1 else (None, None)


def percentiles(
    values: Float[np.ndarray, " resamples"] | Sequence[float], level: float = LEVEL
) -> tuple[float, float]:
    """The central `level` share of the values."""
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}; expected a share between 0 and 1, as 0.95")
    if not np.isfinite(values).all():
        raise ValueError("the statistic of a resample is not finite, so it has no interval")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _labels(groups: Groups) -> Int[np.ndarray, " n"]:
    """An integer a group, from 0 up; an unknown one ("" or None) is a group of its own."""
    known: dict[object, int] = {}
    return np.array(
        [
            known.setdefault((row,) if group is None or group == "" else group, len(known))
            for row, group in enumerate(groups)
        ],
        dtype=np.int64,
    )


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)
