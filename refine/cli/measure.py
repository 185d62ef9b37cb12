"""`refine embed` and `refine evaluate`: look at an encoder without changing it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.table import Table

from refine.cli.console import phases, print_json, say, tables

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
    """A number, mean (of all hidden states) or all; by default the checkpoint's own."""
    pool: Literal["mean", "stats"] | None = None
    """Pooling over time; by default the checkpoint's own."""
    subspace: str | None = None
    """A named subspace of the encoder; one without subspaces has the one subspace all."""
    batch_seconds: float = 60.0
    """Seconds of audio in a batch."""
    json: Flag = False
    """Print one JSON object about the table."""

    def run(self) -> int:
        """Extract and write the table."""
        layer = parse_layer(self.layer)
        if self.out.suffix != ".parquet":
            raise MeasureError(f"out: got {self.out.name}; give a name that ends in .parquet")
        if self.subspace not in (None, "all"):
            raise MeasureError(
                f"subspace: {self.encoder} has no {self.subspace}; its one subspace is all"
            )
        if self.batch_seconds <= 0:
            raise MeasureError(f"batch_seconds: got {self.batch_seconds}; expected more than 0")
        from refine.corpus import open_corpus
        from refine.embeddings import extract
        from refine.encoders import load

        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            table = extract(
                load(self.encoder),
                corpus,
                layer=layer,
                pooling=self.pool,
                batch_seconds=self.batch_seconds,
                out=self.out,
                progress=lambda *n: report("embedding", *n),
            )
        done = {"out": str(self.out.resolve()), "n_clips": table.n, "layers": table.layers}
        if self.json:
            print_json({**done, **table.metadata})
        else:
            left_out = len(table.metadata.get("left_out") or ())
            note = f", {left_out} left out (see metadata)" if left_out else ""
            print(f"{self.out}: {table.n} clips, layers {', '.join(table.layers)}{note}")
        return 0


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
    """A number or mean (of all hidden states); by default the checkpoint's own."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Evaluate and print."""
        layer = parse_layer(self.layer)
        if layer == "all":
            raise MeasureError("layer: got all; every layer is in the result, choose one or mean")
        from refine.corpus import open_corpus
        from refine.evaluation import evaluate

        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            result = evaluate(self.encoder, corpus, split=self.split, layer=layer, progress=report)
        if self.json:
            print_json(result)
        else:
            _print(result)
        return 0


def parse_layer(text: str | None) -> str | int | None:
    """A layer as the library takes it. Raises `MeasureError` for anything else."""
    if text is None or text in ("mean", "all"):
        return text
    if text.isdecimal():
        return int(text)
    if text == "best":
        raise MeasureError("layer: best needs a probe to choose it; give a number, mean or all")
    raise MeasureError(f"layer: got {text!r}; expected a number, mean or all")


def _print(result: dict[str, Any]) -> None:
    about = f"{result['encoder']} on {result['corpus']}, {result['n_clips']} clips"
    say(f"{about}, layer {result.get('layer')}")
    table = Table("metric", "value", "95 % interval", "null", "direction", box=None)
    for name, number in result["isotropy"].items():
        interval = f"{_show(number['low'])} to {_show(number['high'])}"
        table.add_row(
            name, _show(number["value"]), interval, _show(number["null"]), number["direction"]
        )
    tables().print(table)


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
