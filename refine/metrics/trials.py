"""Trials of a verification task: pairs of clips, and whether they are of one class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

ENUMERATED = 3_000  # clips up to which every pair is looked at; beyond, pairs are drawn


class VerificationError(ValueError):
    """A verification that cannot be done. The message says what was found and what to do."""


class Trials(NamedTuple):
    """Row numbers of both sides of each trial; target: both are of one class."""

    left: Int[np.ndarray, " trials"]
    right: Int[np.ndarray, " trials"]
    target: Bool[np.ndarray, " trials"]
    how: str = ""  # ends a definition: which pairs these are


def trials_from_factor(
    labels: Sequence[Any] | np.ndarray,
    apart: Sequence[Any] | np.ndarray | None = None,
    limit: int = 200_000,
    seed: int = 0,
) -> Trials:
    """Pairs of clips of one class (targets) and of two (the others), at most `limit`.

    Args:
        labels: a class a clip; "" or None is unknown and in no trial.
        apart: only pairs that differ in this label, as other words, so that a match in it helps
            nobody; a clip where it is unknown is in no trial.
        limit: beyond, pairs are drawn: half of each kind where there are enough, since error rates
            do not depend on how many there are of each.
    Raises: `VerificationError` where no target or no other pair is left.
    """
    names = _known(labels, "labels")
    words = None if apart is None else _known(apart, "apart")
    if words is not None and len(words) != len(names):
        raise VerificationError(f"apart: got {len(words)} labels for {len(names)} clips")
    usable = names >= 0 if words is None else (names >= 0) & (words >= 0)
    rows = np.flatnonzero(usable)
    rng = np.random.default_rng(seed)
    if len(rows) <= ENUMERATED:
        first, second = np.triu_indices(len(rows), k=1)
        left, right = rows[first], rows[second]
        if words is not None:
            differ = words[left] != words[right]
            left, right = left[differ], right[differ]
        same = names[left] == names[right]
        kinds = [np.flatnonzero(same), np.flatnonzero(~same)]
        kept = np.sort(np.concatenate(_limited(kinds, limit, rng)))
        left, right, target = left[kept], right[kept], same[kept]
    else:
        left, right, target = _drawn(names, words, rows, limit, rng)
    if not target.any() or target.all():
        which = "of one class" if not target.any() else "of two classes"
        where = "" if apart is None else " that differ in what must be apart"
        raise VerificationError(
            f"no pair of clips {which}{where} among {len(rows)} clips; add clips, or choose "
            "another factor"
        )
    return Trials(left, right, target, "" if apart is None else ", apart in the other factor")


def trials_from_list(path: str | Path, clips: Sequence[str]) -> Trials:
    """A trial list: a line a trial, `1 a.wav b.wav` (VoxCeleb) or `a.wav b.wav target|nontarget`.

    Args:
        clips: the names of the clips, in the order of the vectors.
    Raises: `VerificationError` naming the line that cannot be read, or how many clips are missing.
    """
    places = {clip: row for row, clip in enumerate(clips)}
    sides: list[tuple[str, str]] = []
    target: list[bool] = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VerificationError(f"{path}: not a readable trial list ({error})") from error
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        mark = {"1": True, "0": False, "target": True, "nontarget": False}
        if len(fields) == 3 and fields[0] in mark:
            sides.append((fields[1], fields[2]))
            target.append(mark[fields[0]])
        elif len(fields) == 3 and fields[2] in mark:
            sides.append((fields[0], fields[1]))
            target.append(mark[fields[2]])
        else:
            raise VerificationError(
                f"{path}: line {number} is {line[:60]!r}; expected 1 or 0 and two clips"
            )
    missing = sorted({clip for pair in sides for clip in pair} - set(places))
    if missing:
        raise VerificationError(
            f"{path}: {len(missing)} of its clips are not in the corpus, the first is {missing[0]}"
        )
    if not any(target) or all(target):
        raise VerificationError(
            f"{path}: {sum(target)} target and {len(target) - sum(target)} other trials; "
            "an error rate needs one of each"
        )
    left, right = (np.array([places[pair[side]] for pair in sides]) for side in (0, 1))
    return Trials(left, right, np.array(target), f", from the list {Path(path).name}")


def _known(labels: Sequence[Any] | np.ndarray, name: str) -> np.ndarray:
    """A code a label, -1 for an unknown one."""
    labels = list(labels)
    if len(labels) < 2:
        raise VerificationError(f"{name}: got {len(labels)} clips; a trial needs two")
    codes = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    return np.array(
        [-1 if label is None or label == "" else codes[label] for label in labels], dtype=np.int64
    )


def _limited(kinds: list[np.ndarray], limit: int, rng: np.random.Generator) -> list[np.ndarray]:
    """At most `limit` in all, half of each where both have enough."""
    first, second = (len(kind) for kind in kinds)
    if first + second <= limit:
        return kinds
    share = [limit // 2, limit - limit // 2]
    if first < share[0]:
        share = [first, limit - first]
    elif second < share[1]:
        share = [limit - second, second]
    return [
        kind if len(kind) <= most else rng.choice(kind, most, replace=False)
        for kind, most in zip(kinds, share, strict=True)
    ]


def _drawn(
    names: np.ndarray,
    words: np.ndarray | None,
    rows: np.ndarray,
    limit: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different pairs drawn at random, half of each kind: too many clips to look at all pairs."""
    order = rows[np.argsort(names[rows], kind="stable")]
    _, start, size = np.unique(names[order], return_index=True, return_counts=True)
    pairs = size * (size - 1.0)
    found: list[np.ndarray] = []
    for wanted in (True, False):
        half = np.empty((0, 2), dtype=np.int64)
        for _ in range(20):  # rejected ones are drawn again, within reason
            if wanted and not pairs.any():
                break
            if wanted:
                group = rng.choice(len(size), limit, p=pairs / pairs.sum())
                a = rng.integers(size[group])
                b = (a + rng.integers(1, size[group])) % size[group]
                left, right = order[start[group] + a], order[start[group] + b]
            else:
                left, right = rng.choice(rows, limit), rng.choice(rows, limit)
            good = names[left] != names[right] if not wanted else left != right
            if words is not None:
                good &= words[left] != words[right]
            more = np.sort(np.stack([left[good], right[good]], axis=1), axis=1)
            half = np.unique(np.concatenate([half, more]), axis=0)
            if len(half) >= limit // 2:
                half = half[np.sort(rng.choice(len(half), limit // 2, replace=False))]
                break
        found.append(half)
    both = np.concatenate(found)
    target = np.repeat([True, False], [len(half) for half in found])
    return both[:, 0], both[:, 1], target
