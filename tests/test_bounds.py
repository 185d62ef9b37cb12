"""Starts and floors without torch: by hand, and refused where a batch has none."""

import math

import pytest

from refine.losses import bounds


def test_starts_are_logs_of_what_there_is_to_choose_from():
    assert bounds.info_nce_start(4) == pytest.approx(math.log(7))
    assert bounds.supcon_start(512) == pytest.approx(6.236, abs=1e-3)
    assert bounds.dino_start(65536) == pytest.approx(11.090, abs=1e-3)


def test_the_floors_of_paper_4():
    grid = [(speaker, sentence) for speaker in range(16) for sentence in range(32)]
    assert bounds.supcon_floor([speaker for speaker, _ in grid]) == pytest.approx(math.log(31))
    assert bounds.supcon_floor([sentence for _, sentence in grid]) == pytest.approx(math.log(15))


def test_a_floor_is_a_mean_over_anchors_and_not_over_classes():
    floor = bounds.supcon_floor(["a", "a", "b", "b", "b", "b", "alone"])
    assert floor == pytest.approx(4 * math.log(3) / 6)


def test_barlow_twins_of_half_the_rank():
    """r = 1 of d = 2: one number for both dimensions costs 2 c^2 lambda; minimised over c."""
    weight = 0.5
    best = min(2 * (1 - c) ** 2 + 2 * weight * c**2 for c in [k / 1e4 for k in range(10001)])
    assert bounds.barlow_twins_floor(2, 2, weight) == pytest.approx(best, abs=1e-6)
    assert bounds.barlow_twins_floor(65, 64) == 0


@pytest.mark.parametrize(
    ("bound", "told"),
    [
        (lambda: bounds.info_nce_start(1), "at least 2 pairs; got 1"),
        (lambda: bounds.supcon_start(1), "at least 2 vectors; got 1"),
        (lambda: bounds.dino_start(1), "at least 2 outputs; got 1"),
        (lambda: bounds.barlow_twins_floor(1, 4), "at least 2 pairs; got 1"),
        (lambda: bounds.supcon_floor([1, 2, 3]), "no label occurs twice"),
    ],
)
def test_refuses_a_batch_without_a_bound(bound, told):
    with pytest.raises(ValueError, match=told):
        bound()
