"""What changed between two encoders on the same clips: paired differences with their intervals.

Both encoders see the same clips, so a resample draws the same speakers for both. Much of what
makes a value uncertain (which speakers happen to be there) then cancels, and a change can be sure
although the two intervals overlap.
"""

import numpy as np
from jaxtyping import Float

from refine.metrics import isotropy
from refine.metrics.intervals import (
    RESAMPLES,
    Groups,
    Number,
    from_resamples,
    usable_groups,
    weights,
)


def change(
    before: Float[np.ndarray, "n d"],
    after: Float[np.ndarray, "m e"],
    speakers: Groups | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Number]:
    """After minus before, for every statistic of `isotropy.measure`.

        interval of T(after, w) - T(before, w),    w the same draw of speakers for both

    Range -inf to inf, null 0: an interval without 0 is a change beyond what another draw of
    speakers would do. Direction "neither".
    Raises: as `isotropy.measure`; for tables of a different number of clips.
    """
    if len(before) != len(after):
        raise ValueError(
            f"a change is measured on the same clips; got {len(before)} before, {len(after)} after"
        )
    n = len(before)
    groups, count = usable_groups(speakers)
    counts = weights(n, groups, resamples, seed)
    first, second = isotropy.statistics(before, seed), isotropy.statistics(after, seed)
    numbers = {}
    for name in first:
        value = second[name].value - first[name].value
        resampled = second[name].resampled(counts) - first[name].resampled(counts)
        low, high = from_resamples(value, resampled, count or n)
        numbers[name] = Number(
            value,
            low,
            high,
            n,
            f"Change of {name}, after minus before on the same clips; both sides of the 95 % "
            f"interval draw the same {'speakers' if count else 'clips'}.",
            null=0.0,
            groups=count,
        )
    return numbers
