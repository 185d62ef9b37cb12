"""`refine compare`, `curves`, `report` and `export`: encoders beside each other, to take along."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.table import Table

from refine.cli.console import phases, print_json, say, tables

if TYPE_CHECKING:
    import pandas as pd

Flag = tyro.conf.FlagCreatePairsOff[bool]
Part = Literal["train", "dev", "test", "all"]


class SharingError(ValueError):
    """Flags that do not go together."""


@dataclass(frozen=True)
class Compare:
    """Several encoders on the same clips: every metric, and its paired change from a reference."""

    encoders: tuple[str, ...]
    """Names on the hub, folders, run ids, or mini."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    against: str = "mini"
    """The reference that changes are taken from."""
    split: Part | None = None
    """Part of the corpus; by default test, or everything where there is no split."""
    csv: Path | None = None
    """Also write every number to a table here, *.csv."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Measure, compare and print."""
        from refine import lineup
        from refine.corpus import open_corpus

        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            found = lineup.lineup(list(self.encoders), self.against, corpus, self.split, report)
        rows = lineup.table(found)
        if self.csv is not None:
            try:
                rows.to_csv(self.csv, index=False)
            except OSError as error:
                raise SharingError(f"csv: {self.csv} cannot be written ({error})") from error
        if self.json:
            print_json(found)
        else:
            _show(rows, found["against"])
        return 0


@dataclass(frozen=True)
class Curves:
    """How few labels and how few steps an encoder needs to tell a factor, on unheard speakers."""

    encoder: str
    """Name on the hub, folder, run id, or mini."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    factor: str
    """The column that is learnt."""
    split: Part | None = None
    """As evaluate."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Learn and print."""
        from refine import curves
        from refine.corpus import open_corpus

        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            found = curves.learn(self.encoder, corpus, self.factor, self.split, report)
        if self.json:
            print_json(found)
            return 0
        table = Table("labels", "clips", "UAR", "95 % interval", box=None)
        for point in found["efficiency"]:
            n = point["uar"]
            between = f"{n['low']:.3f} to {n['high']:.3f}"
            table.add_row(
                f"{point['fraction']:.0%}", str(point["clips"]), f"{n['value']:.3f}", between
            )
        tables().print(table)
        return 0


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML file about a run, or a pair of encoders."""

    run_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ""
    """Id of a run, or the start of it, or its folder: compared with what it began from."""
    before: str | None = None
    """The encoder as it was; of a run, what it began from."""
    after: str | None = None
    """The refined encoder; or give a run."""
    corpus: str | None = None
    """Folder of recordings; of a run, its own."""
    split: Part | None = None
    """Part of the corpus; by default test, or everything where there is no split."""
    out: Path | None = None
    """The file; by default report.html in the run's folder."""

    def run(self) -> int:
        """Measure what is missing and write."""
        from refine import report as reports
        from refine import runs
        from refine.corpus import open_corpus

        before, after, corpus, out = self.before, self.after, self.corpus, self.out
        if self.run_id:
            if after:
                raise SharingError("after: give a run or --after, not both")
            run = runs.find(self.run_id)
            base, after, own = reports.of_run(run)
            before, corpus, out = before or base, corpus or own, out or run.path / "report.html"
        if not (before and after and corpus):
            raise SharingError("report: give a run, or --before, --after and --corpus")
        with phases() as progress:
            opened = open_corpus(corpus, progress=lambda *n: progress("opening the corpus", *n))
            path = reports.write(
                before, after, opened, out or Path("report.html"), self.split, progress
            )
        print(path)
        return 0


@dataclass(frozen=True)
class Export:
    """Write the vectors of clips for another viewer, with coordinates and paths of recordings."""

    encoder: str
    """Name on the hub, folder, run id, or mini."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    out: Path
    """The folder to write into."""
    format: Literal["parquet", "projector"] = "parquet"
    """One Parquet table, or the TSV files of TensorBoard's projector."""
    against: str | None = None
    """Another encoder; coordinates are then joint, and Parquet holds its vectors too."""
    split: Part | None = None
    """Part of the corpus; by default test, or everything where there is no split."""
    layer: str | None = None
    """A number, mean or projected; by default the checkpoint's own."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Extract and write."""
        from refine.cli.measure import parse_layer
        from refine.corpus import open_corpus
        from refine.export import export

        layer = parse_layer(self.layer)
        if layer in ("all", "best"):
            raise SharingError(f"layer: got {layer}; an export holds one, give its number or mean")
        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            done = export(
                self.encoder, corpus, self.out, self.format, against=self.against,
                split=self.split, layer=layer,
                progress=lambda *n: report(*n),
            )  # fmt: skip
        if self.json:
            print_json({"files": [str(p) for p in done.files], "n": done.n, "dim": done.dim})
        else:
            for path in done.files:
                print(path)
            say(f"{done.n:,} clips, {done.dim} dimensions")
        return 0


def _show(rows: "pd.DataFrame", against: str) -> None:
    """A row a metric and encoder, with what changed."""
    table = Table("of", "metric", "encoder", "value", "95 % interval", "change", "", box=None)
    last = None
    for row in rows.to_dict("records"):
        here = (row["group"], row["metric"])
        change = "" if row["verdict"] == "" else f"{row['change']:+.4g}"
        table.add_row(
            *(here if here != last else ("", "")),
            row["encoder"] + (" (reference)" if row["encoder"] == against else ""),
            f"{row['value']:.4g}",
            f"{row['low']:.4g} to {row['high']:.4g}",
            change,
            row["verdict"],
        )
        last = here
    tables().print(table)
