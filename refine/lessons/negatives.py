"""Lesson 2: which negative InfoNCE pushes, and what temperature trades (Wang & Liu 2021).

For one anchor with cosines s+ to its positive and s_k to N negatives,

    L = -log p+,    p = softmax([s+, s_1, …, s_N] / tau),
    dL/ds_k = p_k / tau  (a push),    -dL/ds+ = (1 - p+) / tau  (the pull, the sum of the pushes),

so the share of the push that negative k gets is p_k / (1 - p+): a softmax over negatives alone.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from refine.lessons import toy
from refine.metrics import isotropy

POSITIVE = 0.9  # cosine of the anchor and its positive
NEAREST, SECOND = 0.8, 0.6  # of the two nearest negatives
CLASSES, CLIPS = 4, 48  # of the toy that is trained
STEPS, SEED = 240, 0
TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Push(NamedTuple):
    """What one anchor feels."""

    shares: np.ndarray  # (negatives,) of the push, they sum to 1
    missing: float  # 1 - p+: how much of the pull is left, 0 to 1
    loss: float  # nats
    chance: float  # log(1 + N): the loss where all cosines are equal


class Sphere(NamedTuple):
    """Clips after training at one temperature."""

    points: np.ndarray  # (clips, 3), unit
    classes: np.ndarray  # (clips,)
    uniformity: float  # Wang & Isola 2020: 0 one point, lower more even
    tolerance: float  # mean cosine of clips of one class (Wang & Liu 2021), -1 to 1


def angles(count: int) -> np.ndarray:
    """Angles (count,) of the negatives from the anchor, nearest first, on alternate sides.

    The two nearest have cosines 0.8 and 0.6, the others are spread evenly up to the far side.
    """
    if count < 1:
        raise ValueError(f"negatives: got {count}; expected 1 or more")
    near = np.arccos([NEAREST, SECOND])
    rest = near[1] + (np.pi - near[1]) * np.arange(1, max(count - 1, 1)) / max(count - 2, 1)
    found = np.concatenate([near, rest])[:count]
    return found * np.where(np.arange(count) % 2, -1, 1)


def evenest() -> float:
    """Uniformity of points drawn evenly over the sphere of three dimensions, where the cosine of a
    pair is itself even over -1 to 1: log( (1 - e^-8) / 8 )."""
    return float(np.log(-np.expm1(-8.0) / 8))


def push(temperature: float, negatives: np.ndarray, positive: float = POSITIVE) -> Push:
    """The gradient of one anchor, from cosines (negatives,) at a temperature."""
    if not temperature > 0:
        raise ValueError(f"temperature: got {temperature}; expected a positive number")
    log_p = toy.log_softmax(np.concatenate([[positive], negatives]) / temperature)
    shares = np.exp(toy.log_softmax(negatives / temperature))
    missing = float(-np.expm1(log_p[0]))
    return Push(shares, missing, float(-log_p[0]), float(np.log1p(len(negatives))))


def nt_xent(a: np.ndarray, b: np.ndarray, temperature: float):
    """`refine.losses.info_nce` on unit rows, with its slopes in a and b."""
    n = len(a)
    z = np.concatenate([a, b])
    logits = z @ z.T / temperature
    np.fill_diagonal(logits, -np.inf)
    log_p = toy.log_softmax(logits)
    partner = np.roll(np.eye(2 * n), n, axis=1)
    slope = (np.exp(log_p) - partner) / (2 * n * temperature)
    both = (slope + slope.T) @ z
    return float(-log_p[partner > 0].mean()), both[:n], both[n:]


@cache
def train(temperature: float, seed: int = SEED) -> Sphere:
    """48 clips of four classes; views differ by a little noise; the loss knows no class."""
    rng = np.random.default_rng(seed)
    weights = toy.start(rng, (2, 32, 3), spread=2.0)
    classes = np.arange(CLIPS) % CLASSES
    x = toy.corners(CLASSES, np.pi / 4)[classes] + 0.25 * rng.standard_normal((CLIPS, 2))
    adam = toy.Adam(0.01)
    for _ in range(STEPS):
        views = np.concatenate([x, x]) + 0.1 * rng.standard_normal((2 * CLIPS, 2))
        z, hidden = toy.forward(weights, views)
        u, length = toy.unit(z)
        _, first, second = nt_xent(u[:CLIPS], u[CLIPS:], temperature)
        slope = toy.unit_slope(u, length, np.concatenate([first, second]))
        weights = adam.step(weights, toy.backward(weights, views, hidden, slope))
    points = toy.unit(toy.forward(weights, x)[0])[0]
    same = (classes[:, None] == classes) & ~np.eye(CLIPS, dtype=bool)
    tolerance = float((points @ points.T)[same].mean())
    return Sphere(points, classes, isotropy.uniformity(points), tolerance)
