"""Lesson 3: DINO on four clouds of points, with and without centring and sharpening.

Student and teacher are tiny networks with K = 4 outputs; two noisy views of each point; teacher an
average of students; centre an average of teacher logits (Caron et al. 2021, `refine.losses.dino`).
"""

from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from refine.lessons import toy

OUTPUTS = 4
STUDENT, TEACHER = 0.1, 0.04  # temperatures; without sharpening the teacher has the student's
MOMENTUM, CENTRE = 0.9, 0.9
STEPS, BATCH, NOISE = 500, 64, 0.5
EVERY = 25  # steps between two kept pictures
GRID = 17  # cells a side of the map of the plane
HALF = 2.0  # the plane shown is -2 to 2
ARMS = ((False, True), (True, False), (False, False), (True, True))  # centring, sharpening
End = Literal["one", "uniform", "neither"]


class Parts(NamedTuple):
    total: float  # nats
    entropy: float  # of the teacher, clip by clip: 0 certain, ln K says nothing
    kl: float  # from student to teacher


class Run(NamedTuple):
    """A training of the toy."""

    parts: np.ndarray  # (steps, 3): loss, entropy, kl
    plane: np.ndarray  # (pictures, GRID * GRID, OUTPUTS): the teacher's output over the plane
    used: np.ndarray  # (pictures, OUTPUTS): its mean output over held-out points
    told: float  # share of held-out points in the cloud that their winning output stands for


def parts(
    student: np.ndarray, teacher: np.ndarray, centre: np.ndarray, teacher_temperature: float
) -> tuple[Parts, np.ndarray]:
    """`refine.losses.dino` on two views, logits (2, batch, K), and its slope in the student's."""
    log_p = toy.log_softmax(student / STUDENT)
    log_q = toy.log_softmax((teacher - centre) / teacher_temperature)
    q = np.exp(log_q)
    other = q[::-1]  # the student's view v meets the teacher's other view
    total = float(-(other * log_p).sum(axis=-1).mean())
    entropy = float(-(q * log_q).sum(axis=-1).mean())
    slope = (np.exp(log_p) - other) / (STUDENT * log_p.shape[0] * log_p.shape[1])
    return Parts(total, entropy, total - entropy), slope


def points(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) of four clouds, and the cloud of each."""
    return _draw(n, np.random.default_rng(seed))


def plane() -> np.ndarray:
    """The cells of the map, (GRID * GRID, 2), row by row from below."""
    side = (np.arange(GRID) + 0.5) / GRID * 2 * HALF - HALF
    return np.column_stack([np.tile(side, GRID), np.repeat(side, GRID)])


@cache
def train(centring: bool, sharpening: bool, seed: int = 0) -> Run:
    """500 steps of plain SGD with momentum."""
    rng = np.random.default_rng(seed)
    student = toy.start(rng, (2, 24, OUTPUTS), spread=1.5, out=0.05)
    teacher = [w.copy() for w in student]
    speed = [np.zeros_like(w) for w in student]
    centre = np.zeros(OUTPUTS)
    temperature = TEACHER if sharpening else STUDENT
    held, clouds = points(400, seed=1)
    log, planes, used = np.empty((STEPS, 3)), [], []

    def output(x: np.ndarray) -> np.ndarray:
        return np.exp(toy.log_softmax((toy.forward(teacher, x)[0] - centre) / temperature))

    for step in range(STEPS):
        if step % EVERY == 0:
            planes.append(output(plane()))
            used.append(output(held).mean(axis=0))
        x = _draw(BATCH, rng)[0]
        views = np.concatenate([x, x]) + NOISE * rng.standard_normal((2 * BATCH, 2))
        logits, hidden = toy.forward(student, views)
        target = toy.forward(teacher, views)[0].reshape(2, BATCH, OUTPUTS)
        found, slope = parts(logits.reshape(target.shape), target, centre, temperature)
        log[step] = found
        slopes = toy.backward(student, views, hidden, slope.reshape(-1, OUTPUTS))
        speed = [0.9 * v + g for v, g in zip(speed, slopes, strict=True)]
        student = [w - 0.01 * v for w, v in zip(student, speed, strict=True)]
        teacher = [MOMENTUM * t + (1 - MOMENTUM) * s for t, s in zip(teacher, student, strict=True)]
        if centring:
            centre = CENTRE * centre + (1 - CENTRE) * target.mean(axis=(0, 1))
    final = output(held)
    planes.append(output(plane()))
    used.append(final.mean(axis=0))
    return Run(log, np.array(planes), np.array(used), _told(final.argmax(axis=1), clouds))


def ended(run: Run) -> End:
    """Where the last 25 steps were, by the teacher's entropy and that of its mean output."""
    entropy = run.parts[-EVERY:, 1].mean()
    mean = run.used[-1]
    spread = -(mean * np.log(np.maximum(mean, 1e-30))).sum()
    if entropy > 0.95 * np.log(OUTPUTS):
        return "uniform"
    return "one" if entropy < 0.05 and spread < 0.05 else "neither"


def _draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    cloud = rng.integers(OUTPUTS, size=n)
    centres = toy.corners(OUTPUTS, np.pi / OUTPUTS)
    return centres[cloud] + 0.25 * rng.standard_normal((n, 2)), cloud


def _told(winner: np.ndarray, clouds: np.ndarray) -> float:
    most = [np.bincount(clouds[winner == output]).max() for output in np.unique(winner)]
    return float(np.sum(most) / len(clouds))
