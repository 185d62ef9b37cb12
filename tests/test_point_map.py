"""What the linked maps are given to draw."""

import base64
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pages.components import live_panel, point_map, theme
from pages.components.point_map import Marked, Panel

TABLE = pd.DataFrame(
    {
        "clip": [f"{i}.wav" for i in range(24)],
        "word": [f"w{i % 12:02d}" for i in range(24)],
        "kind": ["<b>a</b>" if i % 3 else "" for i in range(24)],
    }
)
XY = np.random.default_rng(0).normal(size=(24, 2))


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theme, "dark", lambda: False)


def told(
    marked: Marked = point_map.NOTHING, fit: bool = False, factor: str | None = "word"
) -> dict:
    panels = [Panel("before", "all of it", XY), Panel("after", "half", 3 * XY + 1)]
    return point_map.payload("maps", panels, TABLE, factor, marked, fit)


def unpacked(text: str, kind: type) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def test_every_point_goes_where_it_lies() -> None:
    data = told()
    for panel, xy in zip(data["panels"], (XY, 3 * XY + 1), strict=True):
        np.testing.assert_allclose(unpacked(panel["xy"], np.float32).reshape(-1, 2), xy, rtol=1e-6)
    assert sorted(unpacked(data["order"], np.int32)) == list(range(24))
    assert data["names"] == TABLE["clip"].tolist()


def test_each_point_has_the_class_of_its_row() -> None:
    data = told()
    names = np.array([one["name"] for one in data["groups"]])
    drawn = names[unpacked(data["group"], np.uint8)]
    levels = sorted(TABLE["word"].unique())[: len(theme.palette())]
    others = 12 - len(levels)
    for word, name in zip(TABLE["word"], drawn, strict=True):
        assert name == (word if word in levels else f"{others} others")
    assert len({(one["colour"], one["symbol"]) for one in data["groups"]}) == len(names)


def test_others_are_drawn_first() -> None:
    data = told()
    names = np.array([one["name"] for one in data["groups"]])
    drawn = names[unpacked(data["group"], np.uint8)[unpacked(data["order"], np.int32)]]
    behind = np.char.endswith(drawn, "others")
    assert behind.any()
    assert behind[: behind.sum()].all()


def test_clips_without_a_label_stand_back_and_markup_stays_text() -> None:
    names = [one["name"] for one in told(factor="kind")["groups"]]
    assert names == ["unknown", "<b>a</b>"]
    assert [one["name"] for one in told(factor=None)["groups"]] == ["clips"]


def test_one_window_for_both_unless_to_fit() -> None:
    first, second = (panel["range"] for panel in told()["panels"])
    assert first == second
    every = np.concatenate([XY, 3 * XY + 1])
    assert first[0] < every[:, 0].min()
    assert first[3] > every[:, 1].max()
    first, second = (panel["range"] for panel in told(fit=True)["panels"])
    assert second[1] - second[0] == pytest.approx(3 * (first[1] - first[0]))


def test_a_clip_leads_to_its_neighbours_in_each_space() -> None:
    data = told(Marked(3, {"before": np.array([1, 2]), "after": np.array([2, 7])}, None))
    assert data["chosen"] == 3
    assert data["marked"] == [1, 2, 3, 7]
    assert [panel["star"] for panel in data["panels"]] == [[1, 2], [2, 7]]
    assert told(Marked(None, {}, np.array([4, 5])))["marked"] == [4, 5]
    assert told(Marked(3, {}, None))["marked"] is None  # without neighbours all keep their colour


def test_other_points_are_another_map() -> None:
    assert told()["stamp"] == told(Marked(3, {}, None))["stamp"]
    assert told()["stamp"] != told(fit=True)["stamp"]


@pytest.mark.parametrize("component", [point_map, live_panel])
def test_a_component_has_every_function_once(component: Any) -> None:
    """Its scripts are one module: a name that two of them declare would stop it."""
    script, _ = component._assets()
    declared = re.findall(r"^(?:function|class|const) (\w+)", script, flags=re.MULTILINE)
    assert "h" in declared
    assert len(set(declared)) == len(declared)
