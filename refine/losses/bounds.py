"""Where each loss starts and what it cannot go below, in nats: the lines a page draws.

No torch here. The start is the value where nothing is told apart, the floor the least the batch
allows. Triplet starts at its margin and has the floor 0; VICReg and orthogonality have the floor 0.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable


def info_nce_start(pairs: int) -> float:
    """log(2N - 1) for N pairs: every candidate is as near as the partner.

    >>> round(info_nce_start(4), 3)
    1.946
    """
    _at_least(pairs, 2, "pairs")
    return math.log(2 * pairs - 1)


def supcon_start(batch: int) -> float:
    """log(B - 1): all cosines equal.

    >>> round(supcon_start(512), 2)
    6.24
    """
    _at_least(batch, 2, "vectors")
    return math.log(batch - 1)


def supcon_floor(labels: Iterable[Hashable]) -> float:
    """Mean log|P(i)| over the anchors with a positive, as `supcon` returns it.

    >>> round(supcon_floor([speaker for speaker in range(16) for sentence in range(32)]), 2)
    3.43
    """
    classes = [n for n in Counter(labels).values() if n > 1]
    if not classes:
        raise ValueError("no label occurs twice, so no anchor has a positive")
    return sum(n * math.log(n - 1) for n in classes) / sum(classes)


def dino_start(outputs: int) -> float:
    """ln K: the student says nothing. It is also the teacher's entropy in uniform collapse.

    >>> round(dino_start(65536), 2)
    11.09
    """
    _at_least(outputs, 2, "outputs")
    return math.log(outputs)


def barlow_twins_floor(batch: int, dim: int, offdiagonal: float = 5.1e-4) -> float:
    """The least of Barlow Twins for `batch` pairs in `dim` dimensions; 0 where batch > dim.

    The correlation of N centred pairs has a rank r of at most N - 1, so with r < d it cannot be
    the identity: ||C||^2 >= (tr C)^2 / r, and minimising over the trace leaves d w / (1 + w) with
    w = lambda (d / r - 1). Holds for lambda up to 1.

    >>> round(barlow_twins_floor(32, 64), 3)
    0.035
    """
    _at_least(batch, 2, "pairs")
    weight = offdiagonal * max(0.0, dim / (batch - 1) - 1)
    return dim * weight / (1 + weight)


def _at_least(found: int, least: int, what: str) -> None:
    if found < least:
        raise ValueError(f"expected at least {least} {what}; got {found}")
