"""`refine embed` and `refine evaluate`: look at an encoder without changing it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from refine.cli.console import phases, print_json
from refine.cli.showing import show, unmeasured

if TYPE_CHECKING:
    from refine.corpus import Corpus
    from refine.embeddings import Embeddings
    from refine.encoders import Encoder

Report = Callable[[str, int, int], None]  # what is being done, done, in all
Flag = tyro.conf.FlagCreatePairsOff[bool]


class MeasureError(ValueError):
    """A flag that names something the encoder does not have."""


@dataclass(frozen=True)
class Embed:
    """Write one vector a clip and layer to a Parquet table."""

    encoder: str
    """Name on the hub, folder, run id, or mini."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    out: Path
    """The table to write, *.parquet."""
    layer: str | None = None
    """A number, mean (of all hidden states), all, projected (behind its projector), or best: the
    one whose probe of --factor does best on dev speakers. By default the checkpoint's own."""
    factor: str | None = None
    """The factor that --layer best is chosen for."""
    pool: Literal["mean", "stats"] | None = None
    """Pooling over time; by default the checkpoint's own."""
    subspace: str | None = None
    """A named block of the projected vector; an encoder without subspaces has the one, all."""
    batch_seconds: float = 60.0
    """Seconds of audio in a batch."""
    json: Flag = False
    """Print one JSON object about the table."""

    def run(self) -> int:
        """Extract and write the table."""
        layer = parse_layer(self.layer)
        if self.out.suffix != ".parquet":
            raise MeasureError(f"out: got {self.out.name}; give a name that ends in .parquet")
        if (layer == "best") != (self.factor is not None):
            raise MeasureError("factor: --layer best and --factor NAME go together; give both")
        if self.batch_seconds <= 0:
            raise MeasureError(f"batch_seconds: got {self.batch_seconds}; expected more than 0")
        from refine.corpus import open_corpus
        from refine.encoders import load

        with phases() as report:
            encoder = load(self.encoder)
            encoder.resolve("all" if layer == "best" else layer, self.pool, self.subspace)
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            table = self._extract(encoder, corpus, layer, report)
        done = {"out": str(self.out.resolve()), "n_clips": table.n, "layers": table.layers}
        if self.json:
            told = {name: one for name, one in table.metadata.items() if name != "contents"}
            print_json({**done, **told, "left_out": table.left_out})
        else:
            note = ""
            if best := table.metadata.get("best"):
                uar = best["dev_uar"][table.layers[0]]
                note += f"; best for {best['factor']}, dev UAR {uar:.3f} (see metadata for others)"
            print(f"{self.out}: {table.n} clips, layers {', '.join(table.layers)}{note}")
            unmeasured(table.left_out)
        return 0

    def _extract(
        self, encoder: "Encoder", corpus: "Corpus", layer: str | int | None, report: Report
    ) -> "Embeddings":
        from refine.embeddings import extract
        from refine.layers import best_layer

        best = layer == "best"
        table = extract(
            encoder,
            corpus,
            layer="all" if best else layer,
            pooling=self.pool,
            subspace=self.subspace,
            batch_seconds=self.batch_seconds,
            out=None if best else self.out,
            progress=lambda *n: report("embedding", *n),
        )
        if not best or self.factor is None:
            return table
        chosen, found = best_layer(
            table, corpus, self.factor, progress=lambda *n: report("probing layers", *n)
        )
        why = {"factor": self.factor, "dev_uar": found}
        return table.save_layer(chosen, self.out, best=why)


@dataclass(frozen=True)
class Evaluate:
    """Measure an encoder on a corpus: every number with its interval, null value and control."""

    encoder: str
    """Name on the hub, folder, run id, or mini."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    split: Literal["train", "dev", "test", "all"] | None = None
    """Part of the corpus; by default test, or everything where there is no split."""
    layer: str | None = None
    """A number, mean (of all hidden states) or projected; by default the checkpoint's own."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Evaluate and print."""
        layer = parse_layer(self.layer)
        if layer in ("all", "best"):
            raise MeasureError(
                f"layer: got {layer}; every layer is in the result, choose one, mean or projected"
            )
        from refine.corpus import open_corpus
        from refine.evaluation import evaluate

        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            result = evaluate(self.encoder, corpus, split=self.split, layer=layer, progress=report)
        if self.json:
            print_json(result)
        else:
            show(result)
        return 0


def parse_layer(text: str | None) -> str | int | None:
    """A layer as the library takes it. Raises `MeasureError` for anything else."""
    if text is None or text in ("mean", "all", "projected", "best"):
        return text
    if text.isdecimal():
        return int(text)
    raise MeasureError(f"layer: got {text!r}; expected a number, mean, all, projected or best")
