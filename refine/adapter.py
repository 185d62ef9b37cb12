"""Step 2 of `two_step`: a small network from frozen embeddings to classes (Lux et al. 2022).

    adapter = fit(x, labels, x_validation, labels_validation)
    adapter.predict(x_test)

Its architecture is not in the paper's public code (UNFOUND), so this one is ours: standardise,
Linear(d, 128), ReLU, Dropout 0.5, Linear(128, classes), cross-entropy in which every class weighs
alike, stopped early on validation speakers. It predicts without torch.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from refine.softmax import LinearProbe

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST_SCALE = 1e-6  # a dimension that never moves is only centred


class AdapterError(ValueError):
    """An adapter that cannot be fitted. The message says what was got."""


@dataclass(frozen=True)
class AdapterConfig:
    """How an adapter is built and fitted."""

    hidden: int = 128
    dropout: float = 0.5
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: int = 100  # at most
    patience: int = 15  # epochs without a lower validation loss
    seed: int = 0


@dataclass(frozen=True)
class Adapter(LinearProbe):
    """A fitted adapter: a `LinearProbe` with a hidden layer before its weights.

    `hidden` (h, d), `hidden_bias` (h,), `weights` (k, h), `bias` (k,), `mean` and `scale` (d,).
    `losses` holds the validation loss of every epoch, `epoch` the one that was kept, from 1.
    """

    hidden: Float[np.ndarray, "h d"]
    hidden_bias: Float[np.ndarray, " h"]
    losses: tuple[float, ...] = ()
    epoch: int = 0

    def logits(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """One row a clip. Raises `ValueError` for vectors of another width."""
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"the adapter reads {len(self.mean)} dimensions; got shape {x.shape}")
        inner = ((x - self.mean) / self.scale) @ self.hidden.T + self.hidden_bias
        return np.maximum(inner, 0) @ self.weights.T + self.bias


def fit(
    x: Float[np.ndarray, "n d"],
    labels: Any,
    x_validation: Float[np.ndarray, "m d"],
    labels_validation: Any,
    config: AdapterConfig | None = None,
) -> Adapter:
    """Fit on the first clips, stop on the others; the epoch with the lowest loss there is kept.

    Args:
        labels: a class a clip. x_validation: clips of other speakers; those whose class is not
            among `labels` are left out.
    Raises: `AdapterError` for one class, vectors that do not fit or are not finite, or no
        validation clip of a known class.
    """
    import torch

    config = config or AdapterConfig()
    x, classes, codes = _checked(x, labels)
    known, places = _validation(x_validation, labels_validation, classes)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale < SMALLEST_SCALE, 1.0, scale)
    parts = [
        torch.from_numpy((part - mean) / scale).float() for part in (x, np.asarray(x_validation))
    ]
    held_out = (parts[1][torch.from_numpy(known)], torch.from_numpy(places))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = _network(x.shape[1], len(classes), config)
        losses, epoch, state = _train(
            network, (parts[0], torch.from_numpy(codes)), held_out, config
        )
    arrays = {name: value.double().numpy() for name, value in state.items()}
    return Adapter(
        classes=classes,
        weights=arrays["3.weight"],
        bias=arrays["3.bias"],
        mean=mean,
        scale=scale,
        hidden=arrays["0.weight"],
        hidden_bias=arrays["0.bias"],
        losses=tuple(losses),
        epoch=epoch,
    )


def class_weights(codes: Int[np.ndarray, " n"], classes: int) -> Float[np.ndarray, " k"]:
    """n / (K n_c): every class weighs alike in a mean over clips; 0 for a class without a clip.

    >>> class_weights(np.array([0, 0, 0, 1]), 2).tolist()
    [0.6666666666666666, 2.0]
    """
    counts = np.bincount(codes, minlength=classes)
    there = max(1, int((counts > 0).sum()))
    return np.where(counts > 0, len(codes) / (there * np.maximum(counts, 1)), 0.0)


def _network(dim: int, classes: int, config: AdapterConfig) -> "nn.Sequential":
    from torch import nn

    return nn.Sequential(
        nn.Linear(dim, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, classes),
    )


def _train(
    network: "nn.Sequential",
    train: tuple["Tensor", "Tensor"],
    held_out: tuple["Tensor", "Tensor"],
    config: AdapterConfig,
) -> tuple[list[float], int, dict[str, "Tensor"]]:
    """Validation loss of every epoch, the best epoch (from 1) and its weights."""
    import torch
    import torch.nn.functional as F

    x, y = train
    k = int(y.max()) + 1
    weight = torch.from_numpy(class_weights(y.numpy(), k)).float()
    weight_held_out = torch.from_numpy(class_weights(held_out[1].numpy(), k)).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    losses: list[float] = []
    best, state = 0, network.state_dict()
    for epoch in range(1, config.epochs + 1):
        network.train()
        for rows in torch.randperm(len(x)).split(config.batch_size):
            # weights of the classes, not of the batch: the mean over batches is the mean over clips
            loss = F.cross_entropy(network(x[rows]), y[rows], weight, reduction="sum") / len(rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            losses.append(
                float(F.cross_entropy(network(held_out[0]), held_out[1], weight_held_out))
            )
        if losses[-1] <= min(losses):
            best, state = epoch, copy.deepcopy(network.state_dict())
        elif epoch - best >= config.patience:
            break
    return losses, best, state


def _checked(
    x: Float[np.ndarray, "n d"], labels: Any
) -> tuple[Float[np.ndarray, "n d"], np.ndarray, Int[np.ndarray, " n"]]:
    """Float64 vectors, the classes, and a code a clip."""
    x, labels = np.asarray(x, dtype=np.float64), np.asarray(labels, dtype=str)
    if x.ndim != 2 or len(x) != len(labels):
        raise AdapterError(f"got vectors of shape {x.shape} for {len(labels)} labels")
    if not np.isfinite(x).all():
        raise AdapterError(f"{(~np.isfinite(x)).any(axis=1).sum()} vectors hold NaN or infinity")
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise AdapterError(f"an adapter needs two classes or more; got {classes.tolist()}")
    return x, classes, codes


def _validation(
    x: Float[np.ndarray, "m d"], labels: Any, classes: np.ndarray
) -> tuple[np.ndarray, Int[np.ndarray, " known"]]:
    """Which validation clips have a known class (a mask), and the codes of those."""
    labels = np.asarray(labels, dtype=str)
    if len(x) != len(labels):
        raise AdapterError(f"got {len(x)} validation vectors for {len(labels)} labels")
    known = np.isin(labels, classes)
    if not known.any():
        raise AdapterError("no validation clip is of a class that was fitted; add speakers")
    return known, np.searchsorted(classes, labels[known])
