"""Lesson 4: pulling words together, pushing them apart, and what becomes of the voice.

Inputs: three words in one plane, three louder voices in another, and noise; a tiny network puts
each clip on a circle. Losses as in `refine.losses`: triplet, Barlow Twins, both (Lux et al. 2022),
and the pull of the triplet alone.
"""

from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from refine.lessons import toy
from refine.metrics import classes

Loss = Literal["pull", "triplet", "barlow", "both"]
LOSSES: tuple[Loss, ...] = ("pull", "triplet", "barlow", "both")
WORDS, VOICES = 3, 3
LOUDER = 2.0  # a voice over a word
MARGIN, OFFDIAGONAL, EPS = 1.0, 0.1, 1e-5
STEPS, BATCH, EVERY, SEED = 250, 96, 25, 0


class Clips(NamedTuple):
    x: np.ndarray  # (n, 4): word plane, voice plane
    word: np.ndarray  # (n,)
    voice: np.ndarray  # (n,)


class Trained(NamedTuple):
    """Held-out clips on the circle while a loss is trained."""

    points: np.ndarray  # (pictures, clips, 2), unit; the first is before training
    within: np.ndarray  # (pictures,): mean distance to the mean of one's word
    between: np.ndarray  # (pictures,): mean distance of two word means
    word: np.ndarray  # (pictures,): share told right by the nearest word mean, chance 1/3
    voice: np.ndarray  # (pictures,): the same for the voice


def draw(word: np.ndarray, rng: np.random.Generator) -> Clips:
    """Clips of these words, each by a voice drawn for it."""
    voice = rng.integers(VOICES, size=len(word))
    clean = np.column_stack(
        [toy.corners(WORDS, 0.5)[word], LOUDER * toy.corners(VOICES, 0.5)[voice]]
    )
    return Clips(clean + 0.35 * rng.standard_normal(clean.shape), word, voice)


def held_out() -> Clips:
    """The 180 clips that are shown; no loss saw them."""
    return draw(np.arange(180) % WORDS, np.random.default_rng(99))


def pull(a: np.ndarray, p: np.ndarray):
    """mean(1 - cos(a, p)) on unit rows, with its slopes: invariance and nothing else."""
    return float(1 - (a * p).sum(axis=1).mean()), -p / len(a), -a / len(a)


def triplet(a: np.ndarray, p: np.ndarray, n: np.ndarray, margin: float = MARGIN):
    """`refine.losses.triplet` on unit rows, with its slopes in a, p and n."""
    hinge = (a * n).sum(axis=1) - (a * p).sum(axis=1) + margin
    active = (hinge > 0)[:, None] / len(a)
    return float(np.maximum(hinge, 0).mean()), active * (n - p), -active * a, active * a


def barlow(a: np.ndarray, b: np.ndarray, offdiagonal: float = OFFDIAGONAL):
    """`refine.losses.barlow_twins`, with its slopes in a and b."""
    (u, scale_u), (v, scale_v) = _normalised(a), _normalised(b)
    correlation = u.T @ v / len(a)
    diagonal = np.diag(correlation)
    off = (correlation**2).sum() - (diagonal**2).sum()
    total = float(((1 - diagonal) ** 2).sum() + offdiagonal * off)
    slope = 2 * offdiagonal * correlation
    np.fill_diagonal(slope, -2 * (1 - diagonal))
    first = _normalised_slope(u, scale_u, v @ slope.T / len(a))
    return total, first, _normalised_slope(v, scale_v, u @ slope / len(a))


@cache
def train(loss: Loss, steps: int = STEPS, seed: int = SEED) -> Trained:
    """Adam on triplets of clips; of no step there is the picture before training alone."""
    rng = np.random.default_rng(seed)
    weights = toy.start(rng, (4, 24, 2), spread=0.5)
    adam = toy.Adam(0.02)
    held, seen = held_out(), []
    for step in range(steps + 1):
        if step % EVERY == 0:
            seen.append(toy.unit(toy.forward(weights, held.x)[0])[0])
        word = rng.integers(WORDS, size=BATCH)
        other = (word + rng.integers(1, WORDS, size=BATCH)) % WORDS
        x = draw(np.concatenate([word, word, other]), rng).x
        z, hidden = toy.forward(weights, x)
        u, length = toy.unit(z)
        slope = toy.unit_slope(u, length, _slope(loss, *np.split(u, 3)))
        weights = adam.step(weights, toy.backward(weights, x, hidden, slope))
    return _measured(np.array(seen), held)


def _slope(loss: Loss, a: np.ndarray, p: np.ndarray, n: np.ndarray) -> np.ndarray:
    slopes = [np.zeros_like(a) for _ in range(3)]
    if loss == "pull":
        slopes[:2] = pull(a, p)[1:]
    if loss in ("triplet", "both"):
        slopes = list(triplet(a, p, n)[1:])
    if loss in ("barlow", "both"):
        first, second = barlow(a, p)[1:]
        slopes[0], slopes[1] = slopes[0] + first, slopes[1] + second
    return np.concatenate(slopes)


def _measured(points: np.ndarray, held: Clips) -> Trained:
    within = np.array([classes.within_spread(x, held.word) for x in points])
    between = np.array([classes.between_centroids(x, held.word) for x in points])
    word = np.array([nearest_mean(x, held.word) for x in points])
    voice = np.array([nearest_mean(x, held.voice) for x in points])
    return Trained(points, within, between, word, voice)


def nearest_mean(x: np.ndarray, labels: np.ndarray) -> float:
    """Share of clips whose nearest class mean, taken over the other half, is their own."""
    half = np.arange(len(x)) // 9 % 2 == 0  # nine neighbours hold every word thrice
    names = np.unique(labels)
    right = 0
    for fit in (half, ~half):
        means = np.stack([x[fit & (labels == name)].mean(axis=0) for name in names])
        far = np.linalg.norm(x[~fit][:, None] - means, axis=2)
        right += int((names[far.argmin(axis=1)] == labels[~fit]).sum())
    return right / len(x)


def _normalised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = 1 / np.sqrt(x.var(axis=0) + EPS)
    return (x - x.mean(axis=0)) * scale, scale


def _normalised_slope(u: np.ndarray, scale: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return scale * (slope - slope.mean(axis=0) - u * (slope * u).mean(axis=0))
