"""PLDA: a scoring back-end that knows how voices differ, fitted on labelled speakers.

LDA to `dim` directions, length normalisation, then the two-covariance model (simplified PLDA)

    x = m + y + e,    y ~ N(0, B) a speaker,    e ~ N(0, W) a clip

B and W by analysis of variance (moments, unequal class sizes corrected); the authors of paper 2 fit
theirs by EM. A trial's score is the log likelihood ratio of one speaker against two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from refine.metrics.trials import Trials, VerificationError

SHRINK = 1e-3  # of the mean variance, added to the within-speaker covariance before it is inverted

Matrix = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class Plda:
    """A fitted back-end. In its own coordinates W is the identity and B is diagonal."""

    mean: Float[np.ndarray, " d"]
    lda: Float[np.ndarray, "d k"]
    centre: Float[np.ndarray, " k"]  # of length-normalised vectors
    diagonal: Float[np.ndarray, "k k"]  # to where W is I and B is diag(between)
    between: Float[np.ndarray, " k"]

    def transform(self, x: Matrix) -> Float[np.ndarray, "n k"]:
        """Vectors in the coordinates where the model is diagonal. Raises `VerificationError`."""
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.mean) or not np.isfinite(x).all():
            raise VerificationError(
                f"PLDA reads finite vectors of {len(self.mean)} dimensions; got shape {x.shape}"
            )
        return (_length_norm((x - self.mean) @ self.lda) - self.centre) @ self.diagonal

    def scores(self, x: Matrix, trials: Trials) -> Float[np.ndarray, " trials"]:
        """log p(left, right | one speaker) - log p(left) p(right), in nats; higher is likelier.

        Any real number; 0 is no evidence. Raises: as `transform`.
        """
        z = self.transform(x)
        left, right = z[trials.left], z[trials.right]
        total, shared = 1 + self.between, self.between
        # [u; v] ~ N(0, [[t, s], [s, t]]) against N(0, t) each; t^2 - s^2 = 1 + 2 s
        determinant = total**2 - shared**2
        own = 1 / total - total / determinant
        cross = 2 * shared / determinant
        quadratic = (left**2 + right**2) @ own + (left * right) @ cross
        return quadratic / 2 + 0.5 * float((2 * np.log(total) - np.log(determinant)).sum())


def fit(x: Matrix, speakers: Sequence[Any] | np.ndarray, dim: int | None = None) -> Plda:
    """Fit LDA, length normalisation and PLDA on clips of labelled speakers.

    Args:
        x: one vector a clip. speakers: a label a clip, "" and None are left out; pseudo-labels do.
        dim: LDA directions; None is 200, or what the speakers and dimensions allow.
    Raises: `VerificationError` for less than two speakers with two clips each, vectors that are not
        finite, or a dim that they do not allow.
    """
    x, codes = _check(x, speakers)
    most = min(x.shape[1], int(codes.max()))
    if dim is not None and not 1 <= dim <= most:
        raise VerificationError(
            f"dim: got {dim}; {int(codes.max()) + 1} speakers in {x.shape[1]} dimensions allow "
            f"1 to {most}"
        )
    mean = x.mean(axis=0)
    within, between = _covariances(x - mean, codes)
    lda = _leading(within, between, dim or min(200, most))
    z = _length_norm((x - mean) @ lda)
    centre = z.mean(axis=0)
    within, between = _covariances(z - centre, codes)
    values, vectors = eigh(between, _shrunk(within))
    return Plda(mean, lda, centre, vectors[:, ::-1], np.maximum(values[::-1], 0.0))


def _covariances(
    x: Matrix, codes: np.ndarray
) -> tuple[Float[np.ndarray, "d d"], Float[np.ndarray, "d d"]]:
    """Within and between speakers, unbiased for speakers of unequal size (method of moments)."""
    k, n = int(codes.max()) + 1, len(x)
    sizes = np.bincount(codes).astype(np.float64)
    member = np.zeros((k, n))
    member[codes, np.arange(n)] = 1 / sizes[codes]
    means = member @ x
    rest = x - means[codes]
    within = rest.T @ rest / (n - k)
    off = means - np.average(means, axis=0, weights=sizes)
    squares = (off * sizes[:, None]).T @ off / (k - 1)
    usual = (n - (sizes**2).sum() / n) / (k - 1)  # clips of a speaker, where they are unequal
    between = (squares - within) / usual
    values, vectors = np.linalg.eigh(between)
    return within, (vectors * np.maximum(values, 0)) @ vectors.T


def _leading(
    within: Float[np.ndarray, "d d"], between: Float[np.ndarray, "d d"], dim: int
) -> Float[np.ndarray, "d k"]:
    return eigh(between, _shrunk(within))[1][:, ::-1][:, :dim]


def _shrunk(within: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    level = np.trace(within) / len(within)
    return within + SHRINK * max(level, 1e-12) * np.eye(len(within))


def _length_norm(x: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """To length sqrt(k) (Garcia-Romero & Espy-Wilson 2011)."""
    norms = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return np.sqrt(x.shape[1]) * x / norms


def _check(x: Matrix, speakers: Sequence[Any] | np.ndarray) -> tuple[Matrix, np.ndarray]:
    names = ["" if name is None else name for name in speakers]
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(names):
        raise VerificationError(f"got vectors of shape {x.shape} for {len(names)} speakers")
    known = np.array([name != "" for name in names])
    labels = np.array([str(name) for name in names])[known]
    found, sizes = np.unique(labels, return_counts=True)
    kept = np.isin(labels, found[sizes >= 2])
    if int((sizes >= 2).sum()) < 2:
        raise VerificationError(
            f"PLDA needs two speakers or more with two clips each; got {int((sizes >= 2).sum())} "
            f"of {len(found)} speakers"
        )
    x = x[known][kept]
    if not np.isfinite(x).all():
        raise VerificationError("PLDA needs finite vectors; some hold NaN or infinity")
    return x, np.unique(labels[kept], return_inverse=True)[1]
