"""The learning curves of `rewire_downstream.py` as one SVG: score against step, tasks × labels.

    python benchmarks/rewire_curves.py docs/measured/rewire_downstream.json

`rewire_downstream.py` draws it when it ends.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rewire_tables import TOLD

from refine import drawing

KINDS = {"base": "#5B6770", "twin": "#0072B2", "neutral": "#D55E00", "mixed": "#009E73"}
LOOK = drawing.Look(ink="#1D2733", paper="#FFFFFF", before="#5B6770", after="#0072B2",
                    quiet="#8A949C", colours=tuple(KINDS.values()))  # fmt: skip
WIDTH, HEIGHT, TOP, LEFT = 340, 230, 62, 108


def picture(cells: Mapping[str, Any]) -> str:
    """A row a task (and how it is learnt), a column a share of the labels; means over seeds."""
    found = _curves(cells)
    rows = list(dict.fromkeys(place[:2] for place in found))
    columns = sorted({place[2] for place in found})
    heard = any(task == told for _, task in rows for told, _ in TOLD)
    parts = ['<rect width="100%" height="100%" fill="#FFFFFF"/>', *_legend(heard)]
    for i, fraction in enumerate(columns):
        x = LEFT + WIDTH * (i + 0.5)
        parts.append(drawing.text(x, TOP - 8, f"{fraction:.0%} of the labels", LOOK, 14, "middle"))
    for j, (how, task) in enumerate(rows):
        y = TOP + HEIGHT * (j + 0.45)
        parts.append(drawing.text(12, y, task, LOOK, 15, weight=600))
        mark = " †" if any(task == told for told, _ in TOLD) else ""
        parts.append(drawing.text(12, y + 18, how + mark, LOOK, 12.5, alpha=0.8))
        for i, fraction in enumerate(columns):
            if curves := found.get((how, task, fraction)):
                panel = _panel(curves, f"{task}, {how}, {fraction:.0%} of the labels")
                parts.append(_placed(panel, LEFT + WIDTH * i, TOP + HEIGHT * j))
    size = LEFT + WIDTH * len(columns) + 8, TOP + HEIGHT * len(rows) + 8
    alt = "Test UAR against steps of training, base and rewired encoders"
    return drawing.svg(*size, "".join(parts), alt, sized=True)


def _curves(cells: Mapping[str, Any]) -> dict[tuple[str, str, float], dict[str, Any]]:
    """Curves by (how, task, share of labels) and kind; those of single seeds are averaged."""
    found: dict[tuple[str, str, float], dict[str, Any]] = {}
    for key, cell in cells.items():
        how, task, fraction, *rest = key.split("/")
        place = found.setdefault(("frozen" if how == "frozen" else "fine-tuned",
                                  task, float(fraction)), {})  # fmt: skip
        if rest:
            place.setdefault(rest[0], []).append(cell)
        else:
            place |= {kind: [cell["variants"][kind]["curve"]] for kind in KINDS}
    return {
        place: {
            kind: (curves[0]["steps"], np.mean([c["test"] for c in curves], axis=0))
            for kind, curves in kinds.items()
        }
        for place, kinds in found.items()
    }


def _panel(curves: Mapping[str, Any], alt: str) -> str:
    lines = []
    for kind, colour in KINDS.items():
        steps, scores = curves[kind]
        kept = [i for i, step in enumerate(steps) if step]  # no logarithm of 0
        x, y = [steps[i] for i in kept], [float(scores[i]) for i in kept]
        lines.append(drawing.Line(kind, x, y, colour, dash="6 4" if kind == "base" else ""))
    return drawing.curves(
        lines, LOOK, "steps", "test UAR", alt, log_x=True, width=WIDTH, height=HEIGHT, legend=False
    )


def _legend(heard: bool) -> list[str]:
    parts, x = [], float(LEFT)
    for kind, colour in KINDS.items():
        dash = "6 4" if kind == "base" else ""
        parts.append(drawing.rule(x, 20, x + 26, 20, colour, width=3, dash=dash))
        parts.append(drawing.text(x + 34, 25, kind, LOOK, 14))
        x += 60 + 9 * len(kind)
    if heard:
        told = "† neutral and mixed had heard these labels spoken"
        parts.append(drawing.text(x + 10, 25, told, LOOK, 12.5, alpha=0.8))
    return parts


def _placed(panel: str, x: float, y: float) -> str:
    place = f'<svg x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" '
    return panel.replace("<svg ", place, 1)


def write(path: Path) -> Path:
    """Draw the curves of a JSON beside it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    drawn = path.with_suffix(".svg")
    drawn.write_text(picture(content["cells"]) + "\n", encoding="utf-8")
    return drawn


if __name__ == "__main__":
    print(write(tyro.cli(tyro.conf.Positional[Path])))
