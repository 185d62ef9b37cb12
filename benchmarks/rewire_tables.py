"""What `rewire_downstream.py` makes of its curves: summaries of a cell, and the Markdown tables."""

import json
from typing import Any, Protocol

import numpy as np

from refine.downstream import Curve, mean_curve, over_seeds, speed_up

REWIRED = ("twin", "neutral", "mixed")
CONTROLS = ("base again", "base standardised")  # another start; what costs no training at all
TOLD = {("digits", "neutral"), ("digits", "mixed")}  # their positives spoke the labels
SHARES = (0.95, 1.0)
TARGET = 0.5  # of the base's steps, at 10 % of the labels


class Options(Protocol):
    """What the tables say of the experiment."""

    seeds: int
    draws: int
    steps: int
    tune: tuple[str, ...]
    tune_steps: int


def summary(by_seed: dict[str, list[Curve]], best: dict[str, list[float]]) -> dict[str, Any]:
    """Curves (mean over seeds), scores and speed-ups of each variant beside the base's."""
    base, variants = by_seed["base"], {}
    for kind, curves in by_seed.items():
        entry: dict[str, Any] = {
            "curve": rounded(mean_curve(curves)),
            "score": over_seeds(best[kind], "Test UAR where dev is best, mean over draws"),
        }
        if kind != "base":
            change = np.subtract(best[kind], best["base"]).tolist()
            entry["change"] = over_seeds(change, "Change of the score against base, by seed")
            entry["speed_up"] = {}
            for share in SHARES:
                found = speed_up(base, curves, share)
                entry["speed_up"][str(share)] = {**found._asdict(), "never": found.never}
        variants[kind] = entry
    return {"variants": json.loads(json.dumps(_plain(variants)))}


def rounded(curve: Curve) -> dict[str, list]:
    return {
        "steps": curve.steps.tolist(),
        **{name: np.round(getattr(curve, name), 4).tolist() for name in ("dev", "test")},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.as_dict() if hasattr(value, "as_dict") else value


def table(content: dict[str, Any], options: Options) -> str:
    """The Markdown tables: speed, scores, fine-tuning, and whether the target is met."""
    cells = {key: cell for key, cell in content["cells"].items() if key.startswith("frozen/")}
    kinds = (*REWIRED, *CONTROLS)
    speed = ["task", "labels", "clips", "base, steps", *kinds]
    score = ["task", "labels", "base", *(f"{kind}, change" for kind in kinds)]
    rows: dict[str, list[list[str]]] = {"0.95": [], "1.0": [], "score": []}
    for key, cell in cells.items():
        _, name, fraction = key.split("/")
        about, found = [name, f"{float(fraction):.0%}"], cell["variants"]
        for share in ("0.95", "1.0"):
            ups = {kind: found[kind]["speed_up"][share] for kind in kinds}
            base = np.exp(np.mean(np.log(np.maximum(1, ups["twin"]["base"]))))
            shown = [_speed(up) + _told(name, kind) for kind, up in ups.items()]
            rows[share].append([*about, str(cell["labelled"]), f"{base:.0f}", *shown])
        changes = [_number(found[k]["change"], "+") + _told(name, k) for k in kinds]
        rows["score"].append([*about, _number(found["base"]["score"]), *changes])
    n = f"{options.seeds} seeds of {options.draws} draws"
    return "\n\n".join(
        [
            f"Frozen: steps to reach 95 % of the base's best test UAR, as a share of the base's "
            f"steps ({n}; ≥: never reached in {options.steps} steps by a seed)",
            _markdown(speed, rows["0.95"]),
            "The same, to reach the base's best",
            _markdown(speed, rows["1.0"]),
            "Frozen: test UAR where dev is best, and the change against it on the same labels",
            _markdown(score, rows["score"]),
            *_tuned(content["cells"], options),
            verdict(cells),
        ]
    )


def verdict(cells: dict[str, Any]) -> str:
    """Whether a rewiring reaches the base's best in half the steps at 10 % labels, surely."""
    met = []
    for key, cell in cells.items():
        _, name, fraction = key.split("/")
        for kind in REWIRED:
            up = cell["variants"][kind]["speed_up"]["1.0"]
            surely = up["ratio"]["high"] <= TARGET and not up["never"]
            if float(fraction) == 0.1 and surely and (name, kind) not in TOLD:
                met.append(f"{kind} on {name} ({_speed(up)})")
    return (
        "Target (base's best in at most half the steps at 10 % labels, by more than the interval): "
        + (f"met by {', '.join(met)}." if met else "missed.")
    )


def _tuned(cells: dict[str, Any], options: Options) -> list[str]:
    """Score and speed of fine-tuning, a row a task and share of the labels."""
    if not options.tune:
        return []
    ups = [f"{kind}, {share:.0%}" for share in SHARES for kind in REWIRED]
    head = ["task", "labels", "UAR of base", *(f"{kind}, change" for kind in REWIRED), *ups]
    rows = []
    for place in options.tune:
        name, fraction = place.split(":")[0], float(place.split(":")[1])
        curves = {
            kind: [
                Curve(*(np.array(cells[f"finetuned/{name}/{fraction}/{kind}/{seed}"][part])
                        for part in Curve._fields))
                for seed in range(options.seeds)
            ]
            for kind in ("base", *REWIRED)
        }  # fmt: skip
        scores = {kind: np.array([curve.best for curve in found]) for kind, found in curves.items()}
        row = [
            name,
            f"{fraction:.0%}",
            _number(over_seeds(scores["base"].tolist(), "score").as_dict()),
        ]
        for kind in REWIRED:
            change = over_seeds((scores[kind] - scores["base"]).tolist(), "change").as_dict()
            row.append(_number(change, "+") + _told(name, kind))
        for share in SHARES:
            for kind in REWIRED:
                up = speed_up(curves["base"], curves[kind], share)
                row.append(_speed({"ratio": up.ratio.as_dict(), "never": up.never}))
        rows.append(row)
    title = (
        f"Fine-tuned with its head, {options.tune_steps} steps: test UAR where dev is best, the "
        "change against the base on the same labels, and the steps to 95 % of the base's best and "
        "to its best, as a share of the base's"
    )
    return [title, _markdown(head, rows)]


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _told(name: str, kind: str) -> str:
    return " †" if (name, kind) in TOLD else ""


def _speed(up: dict[str, Any]) -> str:
    ratio = up["ratio"]
    at_least = "≥ " if up["never"] else ""
    return f"{at_least}{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _number(number: dict[str, Any], sign: str = "") -> str:
    value, low, high = (format(number[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
