"""Task heads on a frozen encoder: fitted once, calibrated, kept beside the encoder, asked any time.

    head = head_fitting.fit(encoders.load(run), corpus, "emotion")
    heads.save(head, run)
    heads.Predictor.load(run).predict([waveform])  # [{"emotion": Prediction(label, …)}]

A head is a linear probe on one pooled vector. Train speakers fit it; dev speakers pick its
strength, its temperature and the threshold below which it says "unsure"; test speakers measure it.
A file is safetensors with all words as JSON in its header: a page describes a head without torch.
"""

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from refine import encoders, paths
from refine.audio import SAMPLE_RATE, Waveform, find_problem
from refine.encoders import EncoderInfo, peek

if TYPE_CHECKING:
    import torch

    from refine.encoders import Encoder

FORMAT = 1
SUFFIX = ".safetensors"
ARRAYS = ("weights", "bias", "mean", "scale")
HIDDEN = ("hidden", "hidden_bias")  # of a head with a hidden layer, as the adapter of `two_step`
MIN_SECONDS = 0.5  # less holds no word, mood or voice to speak of
PRECISION = 0.8  # share of answers that shall be right; below its threshold a head is unsure

Progress = Callable[[str, int, int], None]  # what is being done, done, in all


class HeadError(ValueError):
    """A head that cannot be fitted, read or asked. The message says what to do."""


class Prediction(NamedTuple):
    """What a head answers about one clip."""

    label: str  # the most probable class, also where it is unsure
    probability: float  # calibrated, of `label`
    probabilities: dict[str, float]  # of every class, in the order of the head's labels
    unsure: bool  # `probability` is below the head's threshold


class View(NamedTuple):
    """Which vector of a clip a head reads."""

    layer: str | int
    pooling: str
    subspace: str | None = None


@dataclass(frozen=True)
class HeadInfo:
    """What is known of a head without its weights. Needs no torch."""

    factor: str
    labels: tuple[str, ...]
    threshold: float  # probability below which an answer is "unsure"
    precision: float  # asked for when the threshold was chosen
    dev_precision: float  # reached on dev above the threshold
    dev_coverage: float  # share of dev clips above it
    temperature: float  # the logits are divided by it
    strength: float  # regularisation of the probe, picked on dev
    layer: str | int
    pooling: str
    subspace: str | None
    encoder: dict[str, str]  # name, fingerprint
    corpus: dict[str, str]  # name, fingerprint
    clips: dict[str, int]  # in train, dev, test
    measured: dict[str, dict[str, Any]]  # Numbers of test speakers: uar, accuracy, nll, ece, …
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know
    path: Path | None = None
    stale: bool = False  # fitted for another state of this encoder

    @property
    def view(self) -> View:
        """The vector it reads."""
        return View(self.layer, self.pooling, self.subspace)

    @property
    def met(self) -> bool:
        """Whether the precision asked for was reached on dev."""
        return self.dev_precision >= self.precision - 1e-9

    @property
    def statement(self) -> str:
        """What its threshold means, in one sentence."""
        reached = (
            f"{self.dev_precision:.0%} of its answers on dev clips were right at or above it "
            f"({self.dev_coverage:.0%} of the clips)"
        )
        if self.met:
            return f"unsure below {self.threshold:.2f}: {reached}"
        return f"unsure below {self.threshold:.2f}: {self.precision:.0%} was asked for, {reached}"


@dataclass(frozen=True)
class Head:
    """A fitted head. `weights` (classes, dim), `bias` (classes,), `mean` and `scale` (dim,).

    With a hidden layer, `hidden` (width, dim) and `hidden_bias` (width,): ReLU follows, and the
    weights are (classes, width).
    """

    info: HeadInfo
    weights: Float[np.ndarray, "classes dim"]
    bias: Float[np.ndarray, " classes"]
    mean: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"]
    hidden: Float[np.ndarray, "width dim"] | None = None
    hidden_bias: Float[np.ndarray, " width"] | None = None

    def logits(self, vectors: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n classes"]:
        """Scores of the classes before calibration."""
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise HeadError(
                f"head {self.info.factor}: got vectors of shape {vectors.shape}; it reads "
                f"{len(self.mean)} numbers a clip, fit it again for this encoder"
            )
        inner = (vectors - self.mean) / self.scale
        if self.hidden is not None and self.hidden_bias is not None:
            inner = np.maximum(inner @ self.hidden.T + self.hidden_bias, 0)
        return inner @ self.weights.T + self.bias

    def probabilities(self, vectors: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n classes"]:
        """Calibrated probabilities; rows sum to 1."""
        from refine.metrics import calibration  # brings scipy, which a page's first word need not

        return calibration.softmax(self.logits(vectors), self.info.temperature)

    def predict(self, vectors: Float[np.ndarray, "n dim"]) -> list[Prediction]:
        """One answer a vector."""
        answers = []
        for row in self.probabilities(vectors):
            best = int(row.argmax())
            chances = dict(zip(self.info.labels, map(float, row), strict=True))
            sure = row[best] >= self.info.threshold
            answers.append(Prediction(self.info.labels[best], float(row[best]), chances, not sure))
        return answers


class Predictor:
    """An encoder and its heads, loaded once. One forward pass answers all heads."""

    def __init__(self, encoder: "Encoder", heads: Sequence[Head]):
        self.encoder, self.heads = encoder.eval(), tuple(heads)
        self.own = View(encoder.layer, encoder.pooling)  # what embeddings and maps show
        self.min_samples = max(encoder.min_samples, int(MIN_SECONDS * SAMPLE_RATE))

    @classmethod
    def load(
        cls,
        name: str | Path,
        factors: Sequence[str] | None = None,
        *,
        device: str | None = None,
        precision: Any = "auto",
    ) -> "Predictor":
        """Open an encoder with its heads, or those of some factors.

        Raises: `HeadError` naming the command that fits a head where there is none.
        """
        found = choose(name, factors)  # before the encoder is loaded: a refusal comes at once
        heads = [read(info.path) for info in found if info.path]
        return cls(encoders.load(name, device=device, precision=precision), heads)

    def problem(self, waveform: Waveform) -> str | None:
        """Why a clip gets no answer, as half a sentence with what to do, or None."""
        seconds, least = len(waveform) / SAMPLE_RATE, self.min_samples / SAMPLE_RATE
        if 0 < len(waveform) < self.min_samples:
            return f"{seconds:.2f} s; at least {least:.2g} s are needed, record more"
        return find_problem(waveform)

    def predict(self, waveforms: Sequence[Waveform]) -> list[dict[str, Prediction]]:
        """Answers of every head (factor -> answer) to each clip: 16 kHz mono, shape (n,).

        Raises: `HeadError` for a clip that gets no answer (see `problem`), with its place.
        """
        for place, waveform in enumerate(waveforms):
            if reason := self.problem(waveform):
                raise HeadError(f"clip {place}: {reason}")
        return self.answer(self.vectors(waveforms))

    def vectors(self, waveforms: Sequence[Waveform]) -> dict[View, Float[np.ndarray, "n dim"]]:
        """What the heads read of each clip, and the encoder's own vector (`own`)."""
        import torch

        from refine.encoders.collate import pad

        views = dict.fromkeys([self.own, *(head.info.view for head in self.heads)])
        with torch.inference_mode():
            found = _embed(self.encoder, *pad(waveforms), {view[:2] for view in views})
        vectors = {key: value.float().cpu().numpy() for key, value in found.items()}
        return {view: block(vectors[view[:2]], self.encoder, view.subspace) for view in views}

    def answer(
        self, vectors: dict[View, Float[np.ndarray, "n dim"]]
    ) -> list[dict[str, Prediction]]:
        """The heads' answers to `vectors`."""
        each = {head.info.factor: head.predict(vectors[head.info.view]) for head in self.heads}
        rows = len(next(iter(vectors.values())))
        return [{factor: answers[row] for factor, answers in each.items()} for row in range(rows)]


def find(name: str | Path) -> list[HeadInfo]:
    """The heads of an encoder, one a factor, by name; those fitted for another state are `stale`.

    Reads headers only, without torch. Raises: `EncoderError` where there is no such encoder.
    """
    info = peek(name)
    heads: dict[str, HeadInfo] = {}
    for folder in _places(info):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            head = describe(path)
            stale = head.encoder["fingerprint"] != info.fingerprint
            known = heads.get(head.factor)
            if known is None or (known.stale and not stale):
                heads[head.factor] = replace(head, stale=stale)
    return [heads[factor] for factor in sorted(heads)]


def choose(name: str | Path, factors: Sequence[str] | None = None) -> list[HeadInfo]:
    """The usable heads of an encoder, or those of some factors. Raises `HeadError` for none."""
    found = find(name)
    usable = {head.factor: head for head in found if not head.stale}
    for factor in factors or ():
        if factor not in usable:
            stale = any(head.factor == factor for head in found)
            raise HeadError(_missing(name, factor, sorted(usable), stale))
    if not usable:
        raise HeadError(_missing(name, None, [], bool(found)))
    return [usable[factor] for factor in factors or usable]


def describe(path: Path) -> HeadInfo:
    """A head file's header. Raises `HeadError` for a file that is no head."""
    try:
        with safe_open(path, framework="numpy") as file:
            content = json.loads((file.metadata() or {})["refine"])
        if content.pop("format") != FORMAT:
            raise HeadError(f"{path}: a head of another version of refine; fit it again")
        for name in ("labels", "notes"):
            content[name] = tuple(content[name])
        return HeadInfo(**content, path=path)
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise HeadError(
            f"{path}: not a whole head file; delete it and fit the head again"
        ) from error


def read(path: Path) -> Head:
    """A head with its weights. Raises `HeadError` for a file that is no head or does not add up."""
    info = describe(path)
    try:
        with safe_open(path, framework="numpy") as file:
            deep = "hidden" in file.keys()  # noqa: SIM118 (it is no dict)
            arrays = {name: file.get_tensor(name) for name in ARRAYS + (HIDDEN if deep else ())}
    except (OSError, SafetensorError) as error:
        raise HeadError(
            f"{path}: not a whole head file; delete it and fit the head again"
        ) from error
    classes, dim = len(info.labels), arrays["mean"].size
    width = arrays["hidden_bias"].size if deep else dim
    shapes = {"weights": (classes, width), "bias": (classes,), "mean": (dim,), "scale": (dim,)}
    if deep:
        shapes |= {"hidden": (width, dim), "hidden_bias": (width,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise HeadError(f"{path}: {name} is broken or of another shape; fit the head again")
    return Head(info, **arrays)


def save(head: Head, name: str | Path, folder: Path | None = None) -> Path:
    """Keep a head with its encoder: in the run's folder, else in the cache; or in `folder`.

    It appears whole or not at all, and replaces the one of its factor. Returns the file.
    """
    # the state that was fitted, which may not be the folder's any more
    fitted = replace(peek(name), fingerprint=head.info.encoder["fingerprint"])
    folder = folder or _places(fitted)[0]
    path = folder / f"{quote(head.info.factor, safe='')}{SUFFIX}"
    content = {key: value for key, value in asdict(head.info).items() if key not in _UNSAVED}
    names = ARRAYS if head.hidden is None else ARRAYS + HIDDEN
    arrays = {n: np.ascontiguousarray(getattr(head, n), dtype=np.float32) for n in names}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **content}, ensure_ascii=False, allow_nan=False)
        save_file(arrays, part, metadata={"refine": text})
        os.replace(part, path)
    except OSError as error:
        raise HeadError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def delete(name: str | Path, factor: str) -> Path:
    """Remove a head. Raises `HeadError` where there is none, or it is shipped with the encoder."""
    found = {head.factor: head for head in find(name)}
    head = found.get(factor)
    if head is None or head.path is None:
        listed = ", ".join(found) or "none"
        raise HeadError(f"{name}: no head for {factor}; it has {listed}")
    if head.path.parent == peek(name).folder / "heads":
        raise HeadError(f"{head.path}: shipped with the encoder; remove the file by hand")
    head.path.unlink()
    return head.path


def _places(info: EncoderInfo) -> list[Path]:
    """Where heads of an encoder lie; new ones go to the first.

    A finished run holds its own. Other encoders may be read-only or shared, so theirs are in the
    cache; heads that were shipped inside an encoder's folder are found last.
    """
    cache = paths.cache() / "heads" / info.fingerprint[:16]
    run = info.folder.parent.parent
    finished = info.folder.name == "final" and info.folder.parent.name == "checkpoints"
    places = [cache, info.folder / "heads"]
    if not finished:
        return places
    writable = os.access(run / "heads" if (run / "heads").exists() else run, os.W_OK)
    return [run / "heads", *places] if writable else [cache, run / "heads", places[1]]


def _missing(name: str | Path, factor: str | None, others: list[str], stale: bool) -> str:
    what = f"head for {factor}" if factor else "head"
    why = f"its {what} was fitted for an earlier state of it" if stale else f"no {what} yet"
    has = f"; it has {', '.join(others)}" if others else ""
    command = f"python -m refine heads fit --encoder {shlex.quote(str(name))} --corpus FOLDER"
    return f"{name}: {why}{has}; fit one: {command} --factor {shlex.quote(factor or 'FACTOR')}"


def _embed(
    encoder: "Encoder",
    waveforms: "torch.Tensor",
    lengths: "torch.Tensor",
    wanted: set[tuple[str | int, str]],
) -> "dict[tuple[str | int, str], torch.Tensor]":
    """Pooled vectors (batch, dim) of each (layer, pooling), from one forward pass where it can."""
    from refine.encoders.pooling import POOLINGS
    from refine.encoders.pretrained import select_layer

    if len(wanted) == 1 or any(layer == "embedding" for layer, _ in wanted):
        return {key: encoder.embed(waveforms, lengths, *key) for key in wanted}
    hidden = encoder.encode(waveforms, lengths)
    return {
        (layer, pooling): encoder.project(hidden)
        if layer == "projected"
        else POOLINGS[pooling](select_layer(hidden.states, layer), hidden.lengths)
        for layer, pooling in wanted
    }


def block(vectors: np.ndarray, encoder: "Encoder", subspace: str | None) -> np.ndarray:
    """The columns of a named subspace of projected vectors."""
    return vectors if subspace is None else vectors[:, encoder.subspaces[subspace]]


_UNSAVED = ("path", "stale")
