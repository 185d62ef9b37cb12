"""The map of `interventional`: cached features in, named subspaces out, and how it is watched."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from refine import embeddings
from refine.audio import SAMPLE_RATE
from refine.encoders import Encoder
from refine.encoders.projector import Projector, ProjectorConfig
from refine.grids import Batches, Grid, GridError, Sheet, join, recorded
from refine.losses.orthogonality import orthogonality
from refine.losses.supcon import supcon
from refine.metrics import verification
from refine.options import OptionError

if TYPE_CHECKING:
    from refine.corpus import Corpus
    from refine.grid_engines import Source, Supply
    from refine.recipes.interventional import Interventional

PACE_CLIPS = 8  # embedded to estimate the speed of the features
Tell = Callable[..., None]


@dataclass(frozen=True)
class Features:
    """One frozen vector for each clip of a grid; rows of both are the same."""

    vectors: Float[np.ndarray, "n dim"]
    grid: Grid


class Parts(dict[str, Any]):
    """The loss and its parts, `total` first; names depend on the factors."""

    def _asdict(self) -> dict[str, Any]:
        return dict(self)


def loss(
    blocks: Mapping[str, Float[Tensor, "batch _"]],
    labels: Mapping[str, Int[Tensor, " batch"]],
    temperature: float,
    margin: float = 0.0,
    form: Literal["corrected", "samples"] | None = "corrected",
    weight: float = 1.0,
    sheets: Mapping[str, Int[Tensor, " batch"]] | None = None,
) -> Parts:
    """SupCon of each factor in its own subspace, and orthogonality of all (Cox & Barker 2026).

        L = sum_j L_SupCon(z_j, labels_j) + weight * L_orth

    `sheets`: for a factor named here, only clips with the same code are compared.
    Returns: `total` and its `floor`, the mean log|P| of each factor summed (orthogonality 0);
    `supcon_<factor>` and `floor_<factor>`; `orthogonality`, where there are two blocks or more.
    Raises: `ValueError` for a batch with one value of a factor, or none twice.
    """
    terms = {}
    for name, codes in labels.items():
        try:
            within = sheets.get(name) if sheets else None
            if within is None:
                terms[name] = supcon(blocks[name], codes, temperature, margin)
            else:
                apart, scale = _set_apart(blocks[name], within, temperature)
                codes = codes + within * (codes.max() + 1)  # a class of one sheet is its own
                terms[name] = supcon(apart, codes, temperature / scale, margin / scale)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    total = torch.stack([term.total for term in terms.values()]).sum()
    floor = torch.stack([term.floor for term in terms.values()]).sum()
    parts: dict[str, Tensor] = {}
    for name, term in terms.items():
        parts |= {f"supcon_{name}": term.total, f"floor_{name}": term.floor}
    if form is not None and len(blocks) > 1:
        apart = orthogonality(blocks, form).total
        total = total + weight * apart
        parts["orthogonality"] = apart
    return Parts(total=total, floor=floor, **parts)


def _set_apart(
    z: Float[Tensor, "batch dim"], sheets: Int[Tensor, " batch"], temperature: float
) -> tuple[Float[Tensor, "batch wider"], float]:
    """Vectors whose cosines across sheets are so low that none takes part in a softmax.

    Dimensions of their own add a constant c to every inner product within a sheet: (s + c) / (1 +
    c) at a temperature divided by 1 + c is s at that temperature, and the constant cancels. Across
    sheets c is missing: even the closest there has e^-20 of the farthest here.
    Returns: them, and 1 + c.
    """
    added = 2 + 20 * temperature
    unit = torch.nn.functional.normalize(z.float(), dim=1)
    own = torch.nn.functional.one_hot(torch.unique(sheets, return_inverse=True)[1])
    return torch.cat([unit, own.to(unit) * added**0.5], dim=1), 1 + added


class Objective:
    """What the loop trains: the map, on dense blocks of the grid."""

    def __init__(self, config: "Interventional", shape: ProjectorConfig, features: Features):
        self.config = config
        self.module = build(shape, features, config.seed)
        self.batches = Batches(features.grid, config.batch_size, config.seed)
        self.vectors = torch.from_numpy(features.vectors)
        self.labels = torch.from_numpy(features.grid.labels)
        self.axis = {name: i for i, name in enumerate(features.grid.factors)}
        self.sheet_of = torch.from_numpy(features.grid.sheet_of)
        self.spread = self.vectors[torch.from_numpy(features.grid.rows)].std(0, correction=0)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.from_numpy(self.batches.rows(step))
        vectors = self.vectors[rows]
        if self.config.feature_noise:
            draw = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
            noise = torch.randn(vectors.shape, generator=draw)
            vectors = vectors + self.config.feature_noise * self.spread * noise
        return vectors, self.labels[rows], self.sheet_of[rows]

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> Parts:
        config = self.config
        device = next(self.module.parameters()).device
        vectors, labels, sheets = (part.to(device) for part in batch)
        confined = config.names if config.contrast == "sheet" else ()
        return loss(
            self.module.split(self.module(vectors)),
            {name: labels[:, self.axis[name]] for name in config.names},
            config.temperature,
            config.margin,
            None if config.orthogonality == "off" else config.orthogonality,
            config.orthogonality_weight,
            {name: sheets for name in confined if name != "speaker"},
        )

    def after_step(self, step: int) -> None:
        pass


def shape_of(config: "Interventional", encoder: Encoder) -> ProjectorConfig:
    """The shape of the map for an encoder. Raises `OptionError` for a layer that is not there."""
    last = encoder.n_layers - 1
    if config.layers.isdecimal() and int(config.layers) > last:
        raise OptionError("layers", f"got {config.layers}; expected last, mean or 0 to {last}")
    layer: int | Literal["mean"] = "mean"
    if config.layers != "mean":
        layer = last if config.layers == "last" else int(config.layers)
    width = encoder.dim * (2 if config.pooling == "stats" else 1)
    block = config.subspace_width or width // max(2, len(config.names))
    blocks = dict.fromkeys(config.names, block)
    if config.residual_width:
        blocks["residual"] = config.residual_width
    hidden = [config.hidden_width or width] * config.hidden_layers
    return ProjectorConfig(
        sizes=(width, *hidden, sum(blocks.values())),
        subspaces=blocks,
        feature_layer=layer,
        feature_pooling=config.pooling,
        standardise=config.standardise,
    )


def build(shape: ProjectorConfig, features: Features, seed: int) -> Projector:
    """The untrained map; its weights follow from the seed, its scale from the grid's features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = Projector(shape)
    if shape.standardise:
        projector.fit_standardise(torch.from_numpy(features.vectors[features.grid.rows]))
    return projector


def features_of(
    encoder: Encoder,
    shape: ProjectorConfig,
    sources: "Sequence[Source]",
    tell: Tell | None = None,
) -> Features:
    """The features of every clip of the grids, from the cache where they are known.

    Raises: `GridError` naming a clip of a grid that cannot be encoded, `EmbeddingsError`.
    """
    vectors = [_vectors(encoder, shape, source.corpus, source.grid, tell) for source in sources]
    grid = join([source.grid for source in sources], [source.family for source in sources])
    return Features(np.concatenate(vectors), grid)


class HeldOut:
    """Each subspace on each factor, on clips of people who are not trained on."""

    def __init__(self, vectors: Float[np.ndarray, "n dim"], labels: dict[str, np.ndarray]):
        self.vectors = torch.from_numpy(vectors)
        self.trials: dict[str, verification.Trials] = {}
        for name, values in labels.items():
            others = [other for key, other in labels.items() if key != name]
            with contextlib.suppress(verification.VerificationError):
                apart = others[0] if others else None
                self.trials[name] = verification.trials_from_factor(values, apart, limit=20_000)

    @torch.no_grad()
    def measure(self, projector: Projector) -> dict[str, float]:
        """`eer_<factor>_in_<subspace>` by cosine: low in its own, 0.5 is ideal in the others."""
        device = next(projector.parameters()).device
        was_training = projector.training
        projector.eval()
        blocks = projector.split(projector(self.vectors.to(device)))
        projector.train(was_training)
        found = {}
        for space, block in blocks.items():
            x = block.double().cpu().numpy()
            for name, trials in self.trials.items():
                with contextlib.suppress(verification.VerificationError):  # a vector of zeros
                    scores = verification.cosine_scores(x, trials)
                    found[f"eer_{name}_in_{space}"] = verification.eer(scores, trials.target)
        return found


def held_out(
    config: "Interventional",
    encoder: Encoder,
    shape: ProjectorConfig,
    corpus: "Corpus",
    tell: Tell | None = None,
) -> HeldOut | None:
    """Clips of dev, else test; None where no factor has pairs of both kinds there."""
    table = corpus.table
    split = next((name for name in ("dev", "test") if (table["split"] == name).sum() >= 4), None)
    known = [name for name in config.axes if name in table]
    if config.probe_every == 0 or split is None or not known:
        return None
    clips = table["clip"][table["split"] == split]
    number = min(config.probe_clips, len(clips))
    part = corpus.subset(clips=clips.sample(number, random_state=config.seed).tolist())
    vectors, used = _embedded(encoder, shape, part, tell)
    labels = {name: used[name].to_numpy(dtype=object) for name in known}
    found = HeldOut(vectors, labels)
    return found if found.trials else None


def drawn(
    config: "Interventional", shape: ProjectorConfig, supplies: "Sequence[Supply]"
) -> Features:
    """Features of the right shape without any meaning, to time a step with."""
    grids = [
        recorded(supply.corpus.subset("train").table, config.axes)
        for supply in supplies
        if supply.engines == ("recorded",)
    ]
    if not grids:
        sizes = [config.pseudo_speakers, max(2, config.batch_size // config.pseudo_speakers)]
        sizes += [2] * (len(config.axes) - 2)
        cells = {at: np.array([row]) for row, at in enumerate(np.ndindex(*sizes))}
        levels = tuple(tuple(str(value) for value in range(size)) for size in sizes)
        grids = [Grid(config.axes, (Sheet(levels, cells),), len(cells))]
    grid = join(grids, [str(number) for number in range(len(grids))])
    vectors = np.random.default_rng(0).standard_normal((grid.n, shape.sizes[0]))
    return Features(vectors.astype(np.float32), grid)


@torch.no_grad()
def pace(encoder: Encoder, corpus: "Corpus") -> float:
    """Seconds of audio that are encoded in a second, one clip at a time."""
    clips = corpus.table["clip"][:PACE_CLIPS]
    waveforms = [torch.from_numpy(corpus.waveform(clip)) for clip in clips]
    usable = [wave for wave in waveforms if len(wave) >= encoder.min_samples]
    if not usable:
        raise GridError(f"{clips.iloc[0]}: shorter than one frame of {encoder.name}; leave it out")
    encoder.embed(usable[0][None], torch.tensor([len(usable[0])]), layer="all")  # warm
    started = time.perf_counter()
    for wave in usable:
        encoder.embed(wave[None], torch.tensor([len(wave)]), layer="all")
    took = time.perf_counter() - started
    return sum(map(len, usable)) / SAMPLE_RATE / took


def _vectors(
    encoder: Encoder, shape: ProjectorConfig, corpus: "Corpus", grid: Grid, tell: Tell | None
) -> np.ndarray:
    """One row a row of the table; zeros where a clip outside the grid could not be encoded."""
    found, used = _embedded(encoder, shape, corpus, tell)
    if len(used) == len(corpus.table):
        return found
    place = {clip: row for row, clip in enumerate(used["clip"])}
    clips = corpus.table["clip"].tolist()
    for row in grid.rows:
        if clips[row] not in place:
            raise GridError(
                f"{clips[row]}: cannot be encoded by {encoder.name}, and so leaves a hole in the "
                "grid; leave the clip out"
            )
    vectors = np.zeros((len(clips), found.shape[1]), dtype=np.float32)
    for row, clip in enumerate(clips):
        if clip in place:
            vectors[row] = found[place[clip]]
    return vectors


def _embedded(
    encoder: Encoder, shape: ProjectorConfig, corpus: "Corpus", tell: Tell | None
) -> tuple[np.ndarray, Any]:
    """Vectors and their table. The whole table of layers is cached, so that trying one is free."""

    def progress(done: int, total: int) -> None:
        if tell:
            tell(f"features of {corpus.name}", done, total)

    table = embeddings.extract(
        encoder, corpus, layer="all", pooling=shape.feature_pooling, progress=progress
    )
    return np.array(table.vectors(shape.feature_layer), dtype=np.float32), table.table
