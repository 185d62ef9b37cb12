"""The lines of a run's curves: each recipe's start, and the floor of what it has logged."""

import math

import pandas as pd
import pytest

from refine import levels
from refine.levels import Level
from refine.recipes.dino import Dino
from refine.recipes.interventional import Interventional
from refine.recipes.rewire import Rewire
from refine.recipes.two_step import TwoStep

NOTHING = pd.DataFrame({"step": [1, 2], "total": [3.0, 2.0]})


def values(found: dict[str, list[Level]]) -> dict[str, list[float]]:
    return {column: [level.value for level in lines] for column, lines in found.items()}


def test_rewire_starts_where_all_candidates_are_as_near() -> None:
    found = levels.of("rewire", Rewire(batch_size=48), NOTHING)
    assert values(found) == {"total": [pytest.approx(math.log(95))]}


def test_dino_starts_at_ln_k_in_the_loss_and_in_the_entropy() -> None:
    found = values(levels.of("dino", Dino(outputs=1024), NOTHING))
    assert set(found) == {"total", "dino", "entropy"}
    assert {line for lines in found.values() for line in lines} == {math.log(1024)}


def test_supcon_has_the_floor_that_its_batches_had() -> None:
    rows = pd.DataFrame({
        "total": [9.0, 8.0, 7.0], "floor": [5.0, 6.0, 7.0], "supcon_speaker": [4.0, 3.0, 3.0],
        "floor_speaker": [2.0, 2.1, 2.2],
    })  # fmt: skip
    found = levels.of("interventional", Interventional(), rows)
    assert values(found) == {"total": [6.0], "supcon_speaker": [pytest.approx(2.1)]}
    assert "mean log|P|" in found["supcon_speaker"][0].label


def test_two_step_draws_the_margin_or_the_floor_of_its_half() -> None:
    triplets = levels.of("two_step", TwoStep(contrastive="triplet", margin=1.0), NOTHING)
    assert values(triplets) == {"contrastive": [1.0]}
    rows = pd.DataFrame({"total": [4.0], "floor": [0.0], "contrastive": [3.4], "gap": [1.4]})
    found = levels.of("two_step", TwoStep(contrastive="supcon"), rows)
    assert values(found) == {"contrastive": [pytest.approx(2.0)]}  # a floor of 0 is the axis


def test_no_line_without_a_number() -> None:
    rows = pd.DataFrame({"total": [1.0], "floor": [float("nan")]})
    assert levels.of("interventional", Interventional(), rows) == {}
