"""Pseudo-label rounds: cluster the vectors of an encoder, train on the clusters, cluster again.

    found = cluster(vectors)                                  # labels, -1 where a clip is left out
    history = rounds(encoder, clips, Rounds(), folder)

Cho et al. 2021 (arXiv 2109.13425) and hyperion's `ssl.v1`: PCA, k-means into small pre-clusters,
agglomerative clustering of these by cosine, then sub-centre ArcFace in two stages: the last layers
first, then the whole network. No label of the corpus is used; where speakers are known, they only
say afterwards how pure the clusters are.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from refine.corpus import Corpus
    from refine.encoders import Encoder


class ClusterError(ValueError):
    """Vectors that fall into no usable clusters. The message says what was found."""


@dataclass(frozen=True)
class Clustering:
    """How vectors become pseudo speakers. The defaults are hyperion's after DINO."""

    variance: float = 0.99  # kept by the PCA
    per_precluster: float = 4.0  # vectors in a k-means pre-cluster, about
    threshold: float = 0.8  # cosine above which clusters are joined, on average over their members
    smallest: int = 8  # clips of a cluster that is kept
    largest: int = 50
    seed: int = 0


def cluster(x: Float[np.ndarray, "n d"], how: Clustering = Clustering()) -> Int[np.ndarray, " n"]:
    """A pseudo label a row, 0 … C - 1; -1 for rows of clusters that are too small or too large.

    Raises: `ClusterError` for less than 2 rows, values that are not finite, or where less than two
        clusters of a usable size are left.
    """
    x = np.asarray(x, dtype=np.float64)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ClusterError(f"clustering needs at least 2 finite vectors; got {len(x)}")
    small = _preclusters(_reduced(x, how.variance), how)
    _, start = np.unique(small, return_index=True)
    groups = np.arange(len(start))
    if len(start) > 1:
        from sklearn.cluster import AgglomerativeClustering

        means = _unit(np.stack([_unit(x - x.mean(0))[small == g].mean(0) for g in groups]))
        joined = AgglomerativeClustering(
            n_clusters=None,
            metric="cosine",
            linkage="average",
            distance_threshold=1 - how.threshold,
        )
        groups = joined.fit_predict(means)
    return _usable(groups[small], how)


def purity(labels: Sequence[Any] | np.ndarray, truth: Sequence[Any] | np.ndarray) -> float:
    """Share of clips in whose cluster their own class is the commonest. Range 0 to 1, 1 best.

    One clip a cluster is pure: read it beside the number of clusters and the NMI. Clips left out
    (-1) or of unknown truth ("") do not count.
    Raises: `ClusterError` where none counts.
    """
    labels, truth = _counted(labels, truth)
    best = [np.unique(truth[labels == c], return_counts=True)[1].max() for c in np.unique(labels)]
    return float(np.sum(best) / len(labels))


def nmi(labels: Sequence[Any] | np.ndarray, truth: Sequence[Any] | np.ndarray) -> float:
    """Normalised mutual information, 2 I / (H + H'). Range 0 to 1: 0 nothing shared, 1 the same.

    Raises: as `purity`.
    """
    from sklearn.metrics import normalized_mutual_info_score

    labels, truth = _counted(labels, truth)
    return float(normalized_mutual_info_score(truth, labels))


@dataclass(frozen=True)
class Rounds:
    """Settings of the rounds. The defaults are hyperion's; epochs fit a million utterances."""

    rounds: int = 2
    first: Clustering = field(default_factory=Clustering)
    later_threshold: float = 0.6  # a space trained on labels spreads more
    last_epochs: float = 30.0  # stage a: the last layers
    last_rate: float = 0.1
    all_epochs: float = 70.0  # stage b: all of it
    all_rate: float = 0.01
    margin: float = 0.2
    margin_epochs: float = 10.0
    inter_margin: float = 0.1
    subcentres: int = 2
    seconds: float = 4.0
    batch_size: int = 256
    weight_decay: float = 2e-5
    layers: str = "mean"
    pooling: str = "stats"
    seed: int = 0


def rounds(
    encoder: "Encoder",
    clips: "Corpus",
    settings: Rounds,
    folder: Path,
    truth: Sequence[Any] | np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Cluster and train, round after round; `encoder` is trained in place.

    Args:
        folder: gets a run a stage: round-1-last, round-1-all, … whose checkpoints/final opens.
        truth: speakers, to report how pure the clusters are. Never trained on.
    Returns: a row a round: clusters, clips kept, sizes, threshold, purity and nmi with `truth`, and
        the encoder's folder after it.
    Raises: `ClusterError` where the space falls into less than two usable clusters.
    """
    from refine import runs, supervised

    history = []
    for number in range(1, settings.rounds + 1):
        x = _embedded(encoder, clips, settings)
        how = settings.first
        if number > 1:
            how = replace(how, threshold=settings.later_threshold)
        labels = cluster(x, how)
        row = describe(labels, truth) | {"round": number, "threshold": how.threshold}
        kept = np.flatnonzero(labels >= 0)
        part = clips.subset(clips=clips.table["clip"].iloc[kept].tolist())
        classifier: Any = encoder
        for stage in ("last", "all"):
            given = _stage(settings, stage)
            config = {"command": "train", "recipe": "pseudo_labels", "options": asdict(given)}
            run = runs.create({**config, "name": f"round-{number}-{stage}"}, Path(folder))
            _, classifier = supervised.train(
                classifier, part, labels[kept], given, run, refinement=_told(encoder, settings, row)
            )
        encoder.eval()
        history.append({**row, "encoder": str(run.checkpoints / "final")})
    return history


def describe(
    labels: Int[np.ndarray, " n"], truth: Sequence[Any] | np.ndarray | None = None
) -> dict[str, Any]:
    """Number and sizes of clusters, clips kept; purity and NMI where the truth is known."""
    sizes = np.bincount(labels[labels >= 0])
    found: dict[str, Any] = {
        "clusters": len(sizes),
        "kept": int((labels >= 0).sum()),
        "of": len(labels),
        "median_size": float(np.median(sizes)),
    }
    if truth is not None and (np.asarray(truth, dtype=object)[labels >= 0] != "").any():
        found |= {"purity": purity(labels, truth), "nmi": nmi(labels, truth)}
    return found


def _stage(settings: Rounds, stage: str) -> Any:
    from refine.supervised import Supervised

    last = stage == "last"
    return Supervised(
        stage="last" if last else "all",
        margin=settings.margin,
        margin_epochs=settings.margin_epochs if last else 0.0,
        inter_margin=settings.inter_margin,
        subcentres=settings.subcentres,
        seconds=settings.seconds,
        epochs=settings.last_epochs if last else settings.all_epochs,
        learning_rate=settings.last_rate if last else settings.all_rate,
        optimizer="sgd",
        schedule="cosine",
        batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
        layers=settings.layers,
        pooling=settings.pooling,
        seed=settings.seed,
    )


def _told(encoder: "Encoder", settings: Rounds, row: dict[str, Any]) -> dict[str, Any]:
    from refine.distillation import is_network

    told: dict[str, Any] = {"recipe": "pseudo_labels", "options": asdict(settings), "round": row}
    if encoder.info.chain:
        told["base"] = {"name": str(encoder.name), "fingerprint": encoder.fingerprint}
    if not is_network(encoder):
        layer = int(settings.layers) if settings.layers.isdecimal() else settings.layers
        told |= {"layer": layer, "pooling": settings.pooling}
    return told


def _embedded(encoder: "Encoder", clips: "Corpus", settings: Any) -> Float[np.ndarray, "n d"]:
    from refine.distillation import embed
    from refine.monitor import evaluating
    from refine.supervised import Supervised
    from refine.voices import vectors

    how = Supervised(layers=settings.layers, pooling=settings.pooling)
    waves = [clips.waveform(clip) for clip in clips.table["clip"]]
    with evaluating(encoder):
        return vectors(waves, lambda waveforms, lengths: embed(encoder, waveforms, lengths, how))


def _reduced(x: Float[np.ndarray, "n d"], variance: float) -> Float[np.ndarray, "n k"]:
    """Unit vectors on the leading axes that keep so much of the variance."""
    centred = _unit(x - x.mean(0))
    centred = centred - centred.mean(0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
    kept = int(np.searchsorted(share, variance)) + 1
    return _unit(centred @ axes[:kept].T)


def _preclusters(x: Float[np.ndarray, "n k"], how: Clustering) -> Int[np.ndarray, " n"]:
    from sklearn.cluster import KMeans

    count = max(1, round(len(x) / how.per_precluster))
    found = KMeans(min(count, len(x)), n_init=1, random_state=how.seed, max_iter=50).fit_predict(x)
    return np.unique(found, return_inverse=True)[1]


def _usable(groups: Int[np.ndarray, " n"], how: Clustering) -> Int[np.ndarray, " n"]:
    sizes = np.bincount(groups)
    kept = np.flatnonzero((sizes >= how.smallest) & (sizes <= how.largest))
    if len(kept) < 2:
        raise ClusterError(
            f"{len(kept)} of {len(sizes)} clusters have {how.smallest} to {how.largest} clips "
            f"(the largest has {sizes.max()}, half of them at most {int(np.median(sizes))}), and "
            "two are needed; change threshold, smallest or largest"
        )
    names = np.full(len(sizes), -1)
    names[kept] = np.arange(len(kept))
    return names[groups]


def _counted(labels: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    labels, truth = np.asarray(labels), np.asarray(truth, dtype=object)
    if len(labels) != len(truth):
        raise ClusterError(f"got {len(labels)} labels for {len(truth)} clips")
    counted = (labels != -1) & (truth != "")
    if not counted.any():
        raise ClusterError("no clip has both a cluster and a known class")
    return labels[counted], truth[counted].astype(str)


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
