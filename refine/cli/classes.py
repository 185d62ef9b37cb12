"""`refine classes`: what changed between two encoders for the classes of one factor."""

from dataclasses import dataclass
from typing import Any, Literal

import tyro

from refine.cli.console import phases, print_json, say
from refine.cli.showing import unmeasured

Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Classes:
    """Compare the classes of a factor before and after: changes, worst pairs, neighbours, map."""

    before: str
    """Name on the hub, folder, run id, or mini."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    after: str | None = None
    """The refined encoder; without it one encoder alone is looked at."""
    split: Literal["train", "dev", "test", "all"] | None = None
    """Part of the corpus; by default test, or everything where there is no split."""
    factor: str | None = None
    """The factor whose classes are looked at; by default the first."""
    map: Literal["pca", "umap"] = "pca"
    """The pair of maps that is made: one joint PCA, or one aligned UMAP (minutes)."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Evaluate what is not evaluated yet, compare and print."""
        from refine.class_changes import make
        from refine.corpus import open_corpus

        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            found = make(self.before, corpus, self.after, self.split, self.factor, self.map, report)
        if self.json:
            print_json(found)
        else:
            _show(found)
        return 0


def _show(found: dict[str, Any]) -> None:
    names = " to ".join(found[role] for role in ("before", "after") if role in found)
    say(f"{names} on {found['corpus']}, {found['n_clips']} clips, {found['factor']}")
    for name, one in found["changes"].items():
        print(f"{name:20} {_interval(one, '+')}")
    if found["neighbours_kept"]:
        print(f"{'neighbours kept':20} {_interval(found['neighbours_kept'])}")
    print("worst pairs, overlap")
    for pair in found["pairs"]:
        sides = [_interval(pair[role]) for role in ("before", "after") if role in pair]
        print(f"  {' and '.join(pair['classes']):30} {' to '.join(sides)}")
    unmeasured({clip: why for told in found["left_out"].values() for clip, why in told.items()})


def _interval(one: dict[str, Any], sign: str = "") -> str:
    return f"{one['value']:{sign}.3g} ({one['low']:.3g} to {one['high']:.3g})"
