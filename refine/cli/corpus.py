"""`refine corpus`: what is in a folder of recordings, and which clips cannot be used."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from refine.cli.console import phases, print_json, say, tables

if TYPE_CHECKING:
    from refine import corpus as corpora

Flag = tyro.conf.FlagCreatePairsOff[bool]
NAMED = 4  # values of a factor that the table names, the most frequent first


@dataclass(frozen=True)
class Corpus:
    """Open a corpus: clips, seconds, splits, factors, and what is wrong with which clip."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of recordings, or demo (spoken on first use), or samples."""
    json: Flag = False
    """Print one JSON object, with every value of every factor."""

    def run(self) -> int:
        """Listen to every clip once, then print."""
        from refine.corpus import open_corpus

        with phases() as report:
            corpus = open_corpus(self.source, progress=lambda *n: report("opening the corpus", *n))
        told = describe(corpus)
        if self.json:
            print_json(told)
        else:
            _show(told)
        return 0


def describe(corpus: "corpora.Corpus") -> dict[str, Any]:
    """What the page on corpora shows: counts, lengths in seconds, problems with their reasons."""
    seconds = corpus.table["duration_s"]
    factors = {name: corpus.counts(name).to_dict() for name in corpus.factors}
    return {
        "corpus": corpus.name,
        "folder": corpus.root,
        "fingerprint": corpus.fingerprint,
        "n_clips": len(corpus),
        "duration_s": {
            "total": corpus.total_duration_s,
            "shortest": seconds.min(),
            "median": seconds.median(),
            "longest": seconds.max(),
        },
        "split": corpus.counts("split").to_dict(),
        "factors": factors,
        "left_out": sum(problem.dropped for problem in corpus.problems),
        "problems": [asdict(problem) for problem in corpus.problems],
    }


def _show(told: dict[str, Any]) -> None:
    """Factors as a table; what is wrong goes to stderr, a line a clip."""
    lengths, splits = told["duration_s"], told["split"]
    print(
        f"{told['corpus']}: {told['n_clips']:,} clips, {lengths['total']:,.0f} s together, "
        f"{lengths['shortest']:.1f} to {lengths['longest']:.1f} s each; "
        f"{', '.join(f'{name} {n:,}' for name, n in splits.items())}"
    )
    table = Table("factor", "values", "clips of each", box=None)
    for factor, counts in told["factors"].items():
        named = [f"{value} {n:,}" for value, n in list(counts.items())[:NAMED]]
        more = ["…"] if len(counts) > NAMED else []
        # as Text, since a label may hold what rich takes for markup
        table.add_row(Text(factor), f"{len(counts):,}", Text(", ".join([*named, *more])))
    tables().print(table)
    for problem in told["problems"]:
        done = "left out" if problem["dropped"] else "kept"
        of = f"{problem['clip']} ({done}): " if problem["clip"] else ""
        say(f"{of}{problem['reason']}")
