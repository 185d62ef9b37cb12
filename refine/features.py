"""The utterance feature of clips, with gradient, where part of the encoder is frozen for good.

    features = Features(encoder, corpus, layer=6, pooling="mean", top_layers=2)
    x = features(features.gather([0, 5, 3]))           # (3, dim)

What lies below the first trained layer is computed once a clip, on its own and without dropout, and
kept: a step then costs the trained layers alone. A clip is encoded whole; where it is longer than
`max_seconds`, a window of its frames is taken.
"""

import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from refine import audio
from refine.corpus import Corpus
from refine.encoders import Encoder, Hidden
from refine.encoders.collate import pad
from refine.encoders.pooling import POOLINGS, frame_mask
from refine.encoders.pretrained import select_layer

KEPT_BYTES = 1_500_000_000  # of states; what does not fit is computed again each time
AT_ONCE = 16  # clips embedded at a time where nothing is trained
ALIKE = 8  # clips of like length that go through the trained layers together

# families whose layers pass on nothing but a state; WavLM's share a position bias of the first one
PLAIN = ("wav2vec2", "hubert", "data2vec-audio")


class FeatureError(ValueError):
    """A part of an encoder that cannot be trained alone. The message says what can."""


class Batch(NamedTuple):
    """What goes through the trained part: waveforms, states or, where all is frozen, features."""

    inputs: Float[Tensor, "clips *rest"]
    lengths: Int[Tensor, " clips"]  # samples, frames, or ones
    audio_s: float  # seconds of audio, padding left out


class Features:
    """Features of the clips of a corpus; `kept` may be shared by encoders of one base."""

    def __init__(
        self,
        encoder: Encoder,
        corpus: Corpus,
        layer: int | Literal["mean"],
        pooling: str,
        *,
        top_layers: int | None = None,
        max_seconds: float = 60.0,
        kept: dict[str, Tensor] | None = None,
    ):
        """`top_layers`: how many of the last transformer layers are trained; None: whatever of the
        encoder is trained, so all of it runs each time; 0: nothing is.

        Raises: `FeatureError` for layers that the encoder or the feature does not have.
        """
        self.encoder, self.corpus, self.layer, self.pooling = encoder, corpus, layer, pooling
        self.clips = corpus.table["clip"].tolist()
        self.limit = int(max_seconds * audio.SAMPLE_RATE)
        self.kept: dict[str, Tensor] = {} if kept is None else kept
        self.room = KEPT_BYTES - sum(value.nbytes for value in self.kept.values())
        self.kind: Literal["whole", "top", "frozen"] = "whole"
        if top_layers == 0:
            self.kind = "frozen"
        elif top_layers is not None:
            self.kind = "top"
            self.first = first_trained(encoder, layer, top_layers)

    def gather(
        self, rows: Sequence[int] | np.ndarray, starts: Sequence[float] | np.ndarray | None = None
    ) -> Batch:
        """The inputs of clips by row. `starts`, in [0, 1): where a long one is cut; None: at 0."""
        cuts = np.zeros(len(rows)) if starts is None else starts
        items = [self._item(row, cut) for row, cut in zip(rows, cuts, strict=True)]
        hop = self.hop if self.kind == "top" else 1
        if self.kind == "whole":
            inputs, lengths = pad([item.numpy() for item in items])
        elif self.kind == "top":
            inputs = pad_sequence(items, batch_first=True)
            lengths = torch.tensor([len(item) for item in items])
        else:
            inputs, lengths = torch.stack(items), torch.ones(len(items), dtype=torch.long)
            seconds = self.corpus.table["duration_s"].to_numpy()[np.asarray(rows)]
            return Batch(inputs, lengths, float(np.sum(seconds)))
        return Batch(inputs, lengths, float(lengths.sum()) * hop / audio.SAMPLE_RATE)

    def __call__(self, batch: Batch) -> Float[Tensor, "clips dim"]:
        """The pooled feature."""
        encoder = self.encoder
        if self.kind == "frozen":
            return batch.inputs.to(encoder.device)
        if self.kind == "whole":
            return self._pool(encoder.encode(batch.inputs, batch.lengths))
        return self._finish(batch.inputs.to(encoder.device), batch.lengths.to(encoder.device))

    @torch.no_grad()
    def whole(self, rows: Sequence[int] | np.ndarray) -> Float[Tensor, "clips dim"]:
        """Features of whole clips in the order of `rows`, as the saved encoder makes them.

        Without gradient and dropout; the network's mode comes back.
        """
        rows = np.asarray(rows)
        model = self.encoder.model  # a projector has a mode of its own
        training, limit = model.training, self.limit
        model.eval()
        self.limit = self.encoder.max_samples
        try:
            order = np.argsort(self.corpus.table["duration_s"].to_numpy()[rows], kind="stable")
            chunks = [order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)]
            found = torch.cat([self(self.gather(rows[chunk])).float().cpu() for chunk in chunks])
        finally:
            model.train(training)
            self.limit = limit
        return found[torch.from_numpy(np.argsort(order, kind="stable"))]

    def seconds_to_keep(self, rows: Sequence[int] | np.ndarray, tried: int = 4) -> float:
        """Estimate of the time to compute once what is kept of all `rows`; some are computed."""
        if self.kind == "whole":
            return 0.0
        started = time.perf_counter()
        for row in rows[:tried]:
            self._item(int(row), 0.0)
        seconds = self.corpus.table["duration_s"].to_numpy()[np.asarray(rows)]
        return (time.perf_counter() - started) * float(seconds.sum() / seconds[:tried].sum())

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return int(np.prod(self.encoder.model.config.conv_stride))

    def _item(self, row: int, start: float) -> Tensor:
        clip = self.clips[row]
        if self.kind == "whole":
            waveform = self.kept.get(clip)
            if waveform is None:
                waveform = self._keep(clip, torch.from_numpy(self._waveform(clip)))
            return _window(waveform, self.limit, start)
        states = self.kept.get(clip)
        if states is None:
            states = self._keep(clip, self._below(clip))
        return states if self.kind == "frozen" else _window(states, self.limit // self.hop, start)

    def _keep(self, clip: str, value: Tensor) -> Tensor:
        if value.nbytes <= self.room:
            self.kept[clip] = value
            self.room -= value.nbytes
        return value

    def _waveform(self, clip: str) -> audio.Waveform:
        return self.corpus.waveform(clip)[: self.encoder.max_samples]

    @torch.no_grad()
    def _below(self, clip: str) -> Tensor:
        """What never changes of a clip: its feature, or (frames, dim or 2 dim) states.

        Computed alone, so that it does not depend on which clips came with it.
        """
        model = self.encoder.model
        training = model.training
        model.eval()
        try:
            waveform = torch.from_numpy(self._waveform(clip))[None]
            hidden = self.encoder.encode(waveform, torch.tensor([waveform.shape[1]]))
        finally:
            model.train(training)
        if self.kind == "frozen":
            return self._pool(hidden)[0].cpu()
        states = hidden.states[self.first, 0]
        if self.layer == "mean":  # beside it the sum of all states up to it
            states = torch.cat([states, hidden.states[: self.first + 1, 0].sum(0)], dim=-1)
        return states.cpu()

    def _finish(
        self, states: Float[Tensor, "clips frames _"], lengths: Int[Tensor, " clips"]
    ) -> Float[Tensor, "clips dim"]:
        """Through the trained layers and the pooling.

        On a processor, clips of like length go together: padding takes as long as sound.
        """
        if states.device.type != "cpu" or len(states) <= ALIKE:
            return self._through(states, lengths)
        order = lengths.argsort(stable=True)
        parts = [
            self._through(states[rows, : int(lengths[rows].max())], lengths[rows])
            for rows in order.split(ALIKE)
        ]
        return torch.cat(parts)[order.argsort()]

    def _through(
        self, states: Float[Tensor, "clips frames _"], lengths: Int[Tensor, " clips"]
    ) -> Float[Tensor, "clips dim"]:
        from transformers.masking_utils import create_bidirectional_mask

        encoder, model = self.encoder, self.encoder.model
        states, *sums = states.split(encoder.dim, dim=-1)
        total: Any = sums[0] if sums else 0
        valid = frame_mask(lengths, states.shape[1])
        mask = create_bidirectional_mask(
            config=model.config, inputs_embeds=states, attention_mask=valid.long()
        )
        last = encoder.n_layers - 1 if self.layer == "mean" else self.layer
        with torch.autocast(encoder.device.type, torch.bfloat16, enabled=encoder.bf16):
            for layer in model.encoder.layers[self.first : last]:
                states = layer(states, attention_mask=mask)
                if self.layer == "mean":
                    total = total + states.float()
        feature = total / encoder.n_layers if self.layer == "mean" else states.float()
        return POOLINGS[self.pooling](feature, lengths)

    def _pool(self, hidden: Hidden) -> Float[Tensor, "clips dim"]:
        return POOLINGS[self.pooling](select_layer(hidden.states, self.layer), hidden.lengths)


def first_trained(encoder: Encoder, layer: int | Literal["mean"], top_layers: int) -> int:
    """Number of the first of the last `top_layers` transformer layers; freezes all below it.

    Raises: `FeatureError` where the encoder has no such layers, or none of them reaches the
        feature.
    """
    family = getattr(getattr(encoder.model, "config", None), "model_type", None)
    if family not in PLAIN:
        raise FeatureError(
            f"top_layers: got {top_layers}; {encoder.name} cannot be cut below its last layers, "
            "so use 0, which runs all of it"
        )
    layers = encoder.model.encoder.layers
    if not 1 <= top_layers <= len(layers):
        raise FeatureError(f"top_layers: got {top_layers}; expected 0 to {len(layers)}")
    first = len(layers) - top_layers
    if layer != "mean" and layer <= first:
        raise FeatureError(
            f"top_layers: got {top_layers}, which begin above hidden state {layer} and so never "
            f"reach it; use {len(layers) - layer + 1} or more, or a later layer"
        )
    for name, parameter in encoder.model.named_parameters():
        if not any(name.startswith(f"encoder.layers.{n}.") for n in range(first, len(layers))):
            parameter.requires_grad_(False)
    return first


def _window(values: Tensor, limit: int, start: float) -> Tensor:
    """At most `limit` rows, from a place in [0, 1)."""
    kept = min(len(values), limit)
    first = int(start * (len(values) - kept + 1))
    return values[first : first + kept]
