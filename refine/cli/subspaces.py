"""`refine subspaces`: the vector before beside each subspace after, on the same clips."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import tyro
from rich.table import Table
from rich.text import Text

from refine.cli.console import phases, print_json, say, tables

Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Subspaces:
    """Compare a vector with the subspaces learnt from it: cosines, errors, angles, likeness."""

    before: str
    """Name on the hub, folder, run id, or mini."""
    after: str
    """The refined encoder, with named subspaces."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    split: Literal["train", "dev", "test", "all"] | None = None
    """Part of the corpus; by default test, or everything where there is no split."""
    factor: str | None = None
    """The factor that two clips are compared for; by default the first that makes pairs."""
    json: Flag = False
    """Print one JSON object, with the cosines of the block, curves and histograms."""

    def run(self) -> int:
        """Evaluate what is not evaluated yet, compare and print."""
        from refine.corpus import open_corpus
        from refine.encoders import peek
        from refine.evaluation import evaluate
        from refine.spaces import spaces_of
        from refine.subspace_look import look

        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            results = {
                role: evaluate(name, corpus, split=self.split, progress=report)
                for role, name in (("before", self.before), ("after", self.after))
            }
        found = spaces_of(results["before"], results["after"], peek(self.after))
        told = look(results, found, self.factor)
        first = results["before"]
        names = {role: result["encoder"] for role, result in results.items()}
        told = names | {"corpus": first["corpus"], "split": first["split"]} | told
        if self.json:
            print_json(told)
        else:
            _show(told)
        return 0


def _show(told: dict[str, Any]) -> None:
    say(f"{told['before']} to {told['after']} on {told['corpus']}, {told['n_clips']} clips")
    table = Table("of", "what", "value", "95 % interval", box=None)
    last = None
    for of, what, one in _numbers(told):
        number = one if isinstance(one, dict) else one.as_dict()
        ends = f"{number['low']:.4g} to {number['high']:.4g}"
        table.add_row(Text("" if of == last else of), what, f"{number['value']:.4g}", ends)
        last = of
    tables().print(table)
    for part, reason in told["left_out"].items():
        say(f"left out: {part}: {reason}")


def _numbers(told: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Every number that has an interval, and what it is of."""
    for name, one in ((told["cosines"] or {}).get("spaces") or {}).items():
        for kind, number in one["pairs"].items():
            shared = "nothing" if kind == "neither" else f"{kind} alone"
            yield f"{name}, cosine", f"pairs that share {shared}", number
    for name, one in ((told["errors"] or {}).get("spaces") or {}).items():
        if one["eer"] is not None:
            yield f"{name}, errors", f"EER of {told['errors']['factor']}", one["eer"]
    geometry = told["geometry"] or {}
    for name, number in geometry.get("dci", {}).items():
        yield "subspaces", f"DCI {name}", number
    for role, number in geometry.get("overlap", {}).items():
        yield role, "overlap of speaker and content", number
    for pair, numbers in geometry.get("alike", {}).items():
        for name, number in numbers.items():
            yield pair.replace("|", " and "), name.replace("_", " "), number
