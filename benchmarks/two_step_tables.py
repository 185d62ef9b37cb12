"""Numbers and Markdown tables of `two_step.py`: from predictions to intervals by speaker."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from refine.metrics import accuracy
from refine.metrics.influence import Smooth, Units, number, table, units
from refine.metrics.intervals import Number, from_values

SHOTS = (1, 5, 10)
GEOMETRY = ("within", "between", "spread_ratio", "davies_bouldin")

# name -> (what it is called, what differs from the preset); None: not trained by step 1
VARIANTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "probe": ("base, linear probe", None),
    "base": ("base, adapter", None),
    "head": ("base, linear layer", None),
    "end_to_end": ("end-to-end fine-tuning", None),
    "contrastive": ("contrastive", {"noncontrastive": "none"}),
    "noncontrastive": ("non-contrastive", {"contrastive": "none"}),
    "combined": ("combined", {}),
    "triplet": ("triplet", {"contrastive": "triplet", "noncontrastive": "none"}),
    "triplet_combined": ("triplet + Barlow Twins", {"contrastive": "triplet"}),
    "vicreg": ("combined with VICReg", {"noncontrastive": "vicreg"}),
}


class Cell(NamedTuple):
    """One training, or one look at the base."""

    corpus: str
    fold: int
    seed: int
    variant: str

    @property
    def key(self) -> str:
        return "/".join(map(str, self))


class Tested(NamedTuple):
    """Clips that the numbers of a table are of, in the order of the folds."""

    title: str
    corpus: str
    folds: list[int]
    codes: np.ndarray  # class of each clip
    speakers: np.ndarray


def summary(
    cells: dict[str, Any], wanted: list[Cell], tested: list[Tested], variants: Sequence[str]
) -> dict[str, Any]:
    """Numbers of every variant, and its changes against base, end-to-end and combined."""
    found: dict[str, Any] = {}
    for view in tested:
        mine = [cell for cell in wanted if cell.corpus == view.corpus and cell.fold in view.folds]
        of = units(len(view.codes), view.speakers)
        smooth, geometry, numbers = {}, {}, {}
        for variant in variants:
            own = [cell for cell in mine if cell.variant == variant]
            smooth[variant], seeds = _recall(cells, own, view.codes, of)
            geometry[variant] = _by_fold(cells, own)
            numbers[variant] = _numbers(smooth[variant], geometry[variant], of, view.codes, seeds)
        for variant, told in numbers.items():
            for other in ("base", "end_to_end", "combined"):
                if other in numbers and other != variant:
                    told[f"minus_{other}"] = _change(
                        smooth[variant], smooth[other], geometry[variant], geometry[other], of
                    )
        found[view.title] = {
            "numbers": numbers,
            "clips": len(view.codes),
            "speakers": len(set(view.speakers)),
        }
    return found


def _of(cells: list[Cell], field: str) -> list[Any]:
    return sorted({getattr(cell, field) for cell in cells})


def _recall(
    cells: dict[str, Any], own: list[Cell], codes: np.ndarray, of: Units
) -> tuple[Smooth, list[float]]:
    """UAR with its influence by speaker, of the mean over seeds, and the UAR of each seed."""
    k, right, each = int(codes.max()) + 1, [], []
    for seed in _of(own, "seed"):
        mine = sorted((cell for cell in own if cell.seed == seed), key=lambda cell: cell.fold)
        said = np.array([int(c) for cell in mine for c in cells[cell.key]["predicted"]])
        right.append((said == codes).astype(float))
        each.append(accuracy.uar(codes, said))
    hits = np.mean(right, axis=0)
    return accuracy.recalls(table(of, codes, k), table(of, codes, k, hits))["uar"], each


def _by_fold(cells: dict[str, Any], own: list[Cell]) -> dict[str, np.ndarray]:
    """Mean over seeds of what a fold's vectors measure, one value a fold."""
    names = (*GEOMETRY, *(f"shot_{k}" for k in SHOTS))
    return {
        name: np.array(
            [
                np.mean([cells[cell.key][name] for cell in own if cell.fold == fold])
                for fold in _of(own, "fold")
            ]
        )
        for name in names
    }


def _numbers(
    uar: Smooth, geometry: dict[str, np.ndarray], of: Units, codes: np.ndarray, seeds: list[float]
) -> dict[str, Any]:
    k = int(codes.max()) + 1
    told = f"UAR of test speakers, mean of {len(seeds)} seeds"
    found = {
        "uar": number(uar, of, told, (0.0, 1.0), direction="higher", null=1 / k).as_dict()
        | {"seeds": seeds, "sd_of_seeds": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0}
    }
    for name, values in geometry.items():
        found[name] = _mean(values, f"{name} of test speakers, mean over folds")
    return found


def _change(
    uar: Smooth, other: Smooth, geometry: dict[str, Any], others: dict[str, Any], of: Units
) -> dict[str, Any]:
    """Paired differences: the same speakers are drawn on both sides."""
    found = {"uar": number(uar.minus(other), of, "change of UAR", (-1.0, 1.0), null=0.0).as_dict()}
    for name, values in geometry.items():
        found[name] = _mean(values - others[name], f"change of {name}")
    return found


def _mean(values: np.ndarray, told: str) -> dict[str, Any]:
    if len(values) < 2:
        value = float(values.mean())
        return Number(value, value, value, len(values), f"{told}; one fold, no interval").as_dict()
    return from_values(values, f"{told}; 95 % interval over folds").as_dict()


def tables(numbers: dict[str, Any], encoder: str, seeds: int, told: str) -> str:
    """Markdown tables of each corpus: accuracy, then every measure, then its changes."""
    lines = [
        f"`{encoder}`, {seeds} seeds; UAR with intervals (95 %) by speaker, the rest over folds; "
        f"within and between in units of the clips' own spread; {told}.",
    ]
    for corpus, found in numbers.items():
        lines += ["", f"**{corpus}**, {found['clips']} clips of {found['speakers']} speakers"]
        rows = {VARIANTS[variant][0]: of for variant, of in found["numbers"].items()}
        lines += ["", *_accuracy(rows)]
        lines += ["", "Every measure:", "", *_every(rows)]
        for other, about in (("base", "base, adapter"), ("end_to_end", "end-to-end fine-tuning")):
            changed = {name: of[f"minus_{other}"] for name, of in rows.items()
                       if f"minus_{other}" in of}  # fmt: skip
            if changed:
                lines += ["", f"Change against {about}:", "", *_every(changed, "+")]
    return "\n".join(lines) + "\n"


def _accuracy(rows: dict[str, dict[str, Any]]) -> list[str]:
    """UAR and the ratio of spreads, and what each is against its rival."""
    head = ["UAR", "UAR - end-to-end", "ratio", "ratio - combined", "1-shot"]
    body = {
        name: [
            _cell(of["uar"]),
            _cell(of.get("minus_end_to_end", {}).get("uar"), "+"),
            _cell(of["spread_ratio"]),
            _cell(of.get("minus_combined", {}).get("spread_ratio"), "+"),
            _cell(of["shot_1"]),
        ]
        for name, of in rows.items()
    }
    return _markdown(head, body)


def _every(rows: dict[str, dict[str, Any]], sign: str = "") -> list[str]:
    names = {"within": "within", "between": "between", "davies_bouldin": "Davies-Bouldin"}
    names |= {f"shot_{k}": f"{k}-shot" for k in SHOTS}
    body = {name: [_cell(of[key], sign) for key in names] for name, of in rows.items()}
    return _markdown(list(names.values()), body)


def _markdown(head: list[str], body: dict[str, list[str]]) -> list[str]:
    lines = [["", *head], ["---"] * (len(head) + 1), *([name, *row] for name, row in body.items())]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(number: dict[str, Any] | None, sign: str = "") -> str:
    """The value with its interval; one fold has none."""
    if number is None:
        return ""
    value, low, high = (format(number[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return value if number["n"] == 1 else f"{value} [{low}, {high}]"
