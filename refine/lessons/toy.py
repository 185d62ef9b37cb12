"""What the toys share: a network of one hidden layer with its gradient by hand, and Adam."""

from dataclasses import dataclass, field

import numpy as np

Weights = list[np.ndarray]


def start(rng: np.random.Generator, sizes: tuple[int, int, int], spread: float, out: float = 1.0):
    """Weights of inputs → tanh → outputs: (in, hidden), (hidden,), (hidden, out), (out,)."""
    inputs, hidden, outputs = sizes
    return [
        spread * rng.standard_normal((inputs, hidden)),
        0.5 * rng.standard_normal(hidden),
        out * rng.standard_normal((hidden, outputs)) / np.sqrt(hidden),
        np.zeros(outputs),
    ]


def forward(weights: Weights, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (n, out) and hidden activations (n, hidden)."""
    hidden = np.tanh(x @ weights[0] + weights[1])
    return hidden @ weights[2] + weights[3], hidden


def backward(weights: Weights, x: np.ndarray, hidden: np.ndarray, slope: np.ndarray) -> Weights:
    """Gradients of the weights, from the slope of the loss in the outputs (n, out)."""
    inner = slope @ weights[2].T * (1 - hidden**2)
    return [x.T @ inner, inner.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)]


def unit(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows over their lengths, and the lengths (n, 1)."""
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return z / length, length


def unit_slope(u: np.ndarray, length: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The slope in z, from that in u = z / |z|."""
    return (slope - u * (slope * u).sum(axis=1, keepdims=True)) / length


@dataclass
class Adam:
    """Kingma & Ba 2015, with a second moment of 0.99: the toys take a few hundred steps."""

    rate: float
    steps: int = 0
    first: Weights = field(default_factory=list)
    second: Weights = field(default_factory=list)

    def step(self, weights: Weights, slopes: Weights) -> Weights:
        if not self.first:
            self.first = [np.zeros_like(w) for w in weights]
            self.second = [np.zeros_like(w) for w in weights]
        self.steps += 1
        self.first = [0.9 * m + 0.1 * g for m, g in zip(self.first, slopes, strict=True)]
        self.second = [0.99 * v + 0.01 * g**2 for v, g in zip(self.second, slopes, strict=True)]
        one, two = 1 - 0.9**self.steps, 1 - 0.99**self.steps
        return [
            w - self.rate * (m / one) / (np.sqrt(v / two) + 1e-8)
            for w, m, v in zip(weights, self.first, self.second, strict=True)
        ]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def corners(classes: int, turn: float = 0.0) -> np.ndarray:
    """Points (classes, 2) evenly around the unit circle."""
    angle = 2 * np.pi * np.arange(classes) / classes + turn
    return np.column_stack([np.cos(angle), np.sin(angle)])
