"""Pictures of the intervention bench: marks stand where the numbers are, the rest at the edge."""

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from pages.components import bench_figures
from pages.components.picture import Picture
from refine import drawing
from refine.drawing import Look
from refine.interventions import BEFORE, KINDS, References, Scale
from refine.metrics.intervals import Number

LOOK = Look("#000001", "#fffffe", "#aa0000", "#0000aa", "#888888", ("#00aa00",) * 8)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.components.theme.dark", lambda: False)


def scale(missing: tuple[str, ...] = ()) -> Scale:
    """Pairs around 0.1, 0.2, 0.3 and 0.4 in every space, so that a stranger is 0.4 away."""
    random = np.random.default_rng(0)
    kinds = [kind for kind in KINDS if kind not in missing]
    spread = {kind: 0.1 * (i + 1) + 0.01 * random.normal(size=40) for i, kind in enumerate(KINDS)}
    medians = {k: Number(0.1 * (KINDS.index(k) + 1), 0.05, 0.5, 40, "") for k in kinds}
    one = References({kind: spread[kind] for kind in kinds}, medians)
    return Scale({BEFORE: one, "speaker": one, "<content>": one}, {}, missing)


def tree(made: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.svg(made.width, made.height, "".join(made.parts)))


def circles(made: Picture, style: str) -> list[dict[str, Any]]:
    return [one.attrib for one in tree(made).iter(f"{SVG}circle") if style in one.get("style", "")]


def test_rulers_mark_each_space_where_it_moved() -> None:
    far = {BEFORE: 0.5, "speaker": 1.0, "<content>": 9.0}
    made = bench_figures.rulers(scale(), far, LOOK)
    (before,) = circles(made, f"stroke:{LOOK.before}")
    assert LOOK.paper in before["style"]  # before is an open circle
    after = [float(one["cx"]) for one in circles(made, f"stroke:{LOOK.after}")]
    zero = bench_figures.LEFT
    assert after[0] - zero == pytest.approx(2 * (float(before["cx"]) - zero), abs=0.2)
    assert after[1] == pytest.approx(bench_figures.WIDE - bench_figures.RIGHT, abs=0.1)  # the edge
    texts = [one.text for one in tree(made).iter(f"{SVG}text")]
    assert {"0.50", "1.00", "9.00 →", "before", "<content> subspace"} <= set(texts)


def test_rulers_tell_the_median_of_each_kind() -> None:
    made = bench_figures.rulers(scale(), dict.fromkeys((BEFORE, "speaker", "<content>"), 1.0), LOOK)
    assert len(made.spots) == 3 * (len(KINDS) + 1)
    assert "median distance 0.100 (0.050 to 0.500)\n40 pairs" in made.spots[0].told
    assert all(one.left >= 0 and one.left + one.width <= made.width for one in made.spots)
    fewer = bench_figures.rulers(
        scale(KINDS[:1]), dict.fromkeys((BEFORE, "speaker", "<content>"), 1.0), LOOK
    )
    assert len(fewer.spots) == 3 * len(KINDS)
    assert fewer.height < made.height


def test_the_plane_holds_every_pair_and_the_way() -> None:
    far = {"speaker": 0.5, "<content>": 0.25}
    past = [{"speaker": 0.0, "<content>": 0.0}]
    made = bench_figures.plane(scale(), ("speaker", "<content>"), far, past, LOOK)
    assert len(list(tree(made).iter(f"{SVG}use"))) == 40 * len(KINDS)
    (start,) = circles(made, f"fill:{LOOK.paper};stroke:{LOOK.ink}")
    (end,) = circles(made, f"fill:{LOOK.after}")
    right = float(end["cx"]) - float(start["cx"])
    up = float(start["cy"]) - float(end["cy"])
    assert right == pytest.approx(2 * up, abs=0.2)
    assert "speaker subspace 0.50" in made.spots[-1].told
    alone = bench_figures.plane(scale(), ("speaker", "<content>"), far, [], LOOK)
    assert not circles(alone, f"fill:{LOOK.paper};stroke:{LOOK.ink}")
