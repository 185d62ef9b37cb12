"""The baseline of `two_step`: end-to-end fine-tuning with a linear layer and cross-entropy.

    objective = fine_tune(config, encoder, corpus, rows)
    objective.outputs(test_rows)                      # features and logits

The same encoder, the same clips in the same steps, the same weights set free, the same dropout.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from refine.adapter import class_weights
from refine.corpus import Corpus
from refine.encoders import Encoder
from refine.encoders.projector import Projector, ProjectorConfig
from refine.shaping import (
    Source,
    Step,
    as_parts,
    dropped,
    feature_width,
    optimise,
    parameter_groups,
    set_mode,
    standardised,
)
from refine.supervision import Rows

LOOKS = 5  # times that the held-out clips are looked at; the best state is kept


def fine_tune(
    config: Any,
    encoder: Encoder,
    corpus: Corpus,
    rows: Rows,
    kept: dict[str, Tensor] | None = None,
) -> "EndToEnd":
    """Train `config.steps` steps and keep the state with the lowest held-out cross-entropy.

    Looked at `LOOKS` times, the last step among them and all of them after `hold_encoder`: as the
    adapter of step 2, it is stopped by speakers that it does not train on.
    `kept`: see `refine.features.Features`.
    """
    objective = EndToEnd(config, encoder, corpus, rows.train, kept)
    objective.standardise()
    labels = corpus.table[config.factor].to_numpy(dtype=str)[rows.held_out]
    codes = np.searchsorted(objective.classes, labels)
    weight = class_weights(codes, len(objective.classes))[codes]
    best: tuple[float, dict[str, Tensor]] | None = None
    # never before the encoder has moved: that would be a linear layer on the frozen encoder
    first = config.hold_encoder if config.hold_encoder < config.steps else 0
    looks = {int(step) for step in np.linspace(first, config.steps, LOOKS + 1)[1:].round()}

    def look(step: int) -> None:
        nonlocal best
        if step not in looks:
            return
        logits = torch.from_numpy(objective.outputs(rows.held_out)[1]).double()
        losses = F.cross_entropy(logits, torch.from_numpy(codes), reduction="none").numpy()
        told = float(weight @ losses / weight.sum())
        if best is None or told < best[0]:
            best = told, copy.deepcopy(objective.trained())

    optimise(objective, config, look)
    assert best is not None
    objective.module.load_state_dict(best[1], strict=False)
    return objective


class EndToEnd:
    """The baseline: the same encoder, clips and steps, a linear layer and cross-entropy."""

    def __init__(
        self,
        config: Any,
        encoder: Encoder,
        corpus: Corpus,
        rows: Sequence[int] | np.ndarray,
        kept: dict[str, Tensor] | None = None,
    ):
        encoder.projector = None
        self.config = config
        self.source = Source(config, encoder, corpus, rows, kept)
        self.module = _Classifier(
            encoder, feature_width(config, encoder), len(self.classes), config.seed
        )
        set_mode(config, encoder)

    @property
    def classes(self) -> np.ndarray:
        return self.source.sampler.names

    def standardise(self) -> None:
        """As `Shaping.standardise`."""
        if self.config.standardise:
            self.module.head.fit_standardise(self.source.first_features)

    def batch(self, step: int) -> Step:
        return self.source.step(step)

    def loss(self, batch: Step) -> Any:
        """Cross-entropy of the clips of the step, and the share that is right."""
        x = self.source.forward(batch)
        logits = dropped(self.module.head, x, self.config.feature_dropout)
        labels = batch.labels.to(logits.device)
        right = (logits.detach().argmax(dim=1) == labels).float().mean()
        return as_parts(total=F.cross_entropy(logits.float(), labels), accuracy=right)

    def groups(self) -> list[dict[str, Any]]:
        """The linear layer at the learning rate, the encoder at its own share of it."""
        return parameter_groups(self.config, self.module.encoder.model, self.module.head)

    def after_step(self, step: int) -> None:
        pass

    def trained(self) -> dict[str, Tensor]:
        """The weights that move, by name."""
        return {n: p.detach() for n, p in self.module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def outputs(
        self, rows: Sequence[int] | np.ndarray
    ) -> tuple[Float[np.ndarray, "clips dim"], Float[np.ndarray, "clips classes"]]:
        """Features (standardised as the linear layer reads them) and logits of whole clips."""
        head = self.module.head
        x = standardised(head, self.source.features.whole(rows).to(self.module.encoder.device))
        logits = head.layers(x)
        return x.float().cpu().numpy(), logits.float().cpu().numpy()


class _Classifier(nn.Module):
    """Encoder and linear layer; the latter is a projector of one layer, which can standardise."""

    def __init__(self, encoder: Encoder, width: int, classes: int, seed: int):
        super().__init__()
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = Projector(ProjectorConfig((width, classes), standardise=True))
