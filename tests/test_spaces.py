"""Spaces of a pair: slow references, closed forms, invariances, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import split
from scipy.stats import norm, ortho_group
from sklearn.metrics import det_curve

from refine import spaces
from refine.encoders import peek
from refine.evaluation import evaluate
from refine.grids import GridError
from refine.metrics import verification


def crossed(speakers: int = 4, contents: int = 3, takes: int = 2) -> pd.DataFrame:
    rows = [
        (f"{s}/{c}/{t}", f"s{s}", f"c{c}")
        for s in range(speakers)
        for c in range(contents)
        for t in range(takes)
    ]
    return pd.DataFrame(rows, columns=["clip", "speaker", "content"])


def known(table: pd.DataFrame, noise: float = 0.1, seed: int = 0, dim: int = 8) -> spaces.Spaces:
    """The block "speaker" holds the speaker alone, "content" the content, before both."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for name in ("speaker", "content"):
        codes = np.unique(table[name], return_inverse=True)[1]
        centres = ortho_group.rvs(dim, random_state=seed)[: codes.max() + 1]
        blocks[name] = centres[codes] + noise * rng.normal(size=(len(table), dim))
    before = np.concatenate(list(blocks.values()), axis=1)
    return spaces.Spaces(table, {"before": before, **blocks}, "all clips")


def test_a_block_has_one_clip_a_cell_and_both_orders() -> None:
    table = crossed(takes=3).sample(frac=1, random_state=0).reset_index(drop=True)
    block = spaces.choose_block(table)
    assert block.shape == (4, 3)
    assert len(block.rows) == 12
    assert table["speaker"].iloc[block.rows].tolist() == block.first.tolist()
    assert table["content"].iloc[block.rows].tolist() == block.second.tolist()
    assert block.first.tolist() == sorted(block.first)
    ordered = block.second[block.by_second].tolist()
    assert ordered == sorted(ordered)
    cells = set(zip(block.first, block.second, strict=True))
    assert len(cells) == 12


def test_a_block_leaves_out_who_said_little_and_stays_small() -> None:
    table = crossed(speakers=20, contents=30, takes=1)
    hole = ~((table["speaker"] == "s0") & (table["content"] != "c0"))
    block = spaces.choose_block(table[hole].reset_index(drop=True), most=5)
    assert block.shape == (5, 5)
    assert "s0" not in block.first


def test_a_table_without_a_grid_is_refused() -> None:
    table = crossed(4, 4, 1)
    with pytest.raises(GridError):
        spaces.choose_block(table[table["speaker"].str[1] == table["content"].str[1]])
    with pytest.raises(GridError, match="content"):
        spaces.choose_block(table.drop(columns="content"))


def test_cosines_are_cosines_and_blind_to_scale_and_rotation() -> None:
    x = np.random.default_rng(0).normal(size=(6, 5))
    square = spaces.cosines(x)
    for i in range(6):
        for j in range(6):
            slow = sum(a * b for a, b in zip(x[i], x[j], strict=True))
            slow /= sum(a * a for a in x[i]) ** 0.5 * sum(b * b for b in x[j]) ** 0.5
            assert square[i, j] == pytest.approx(slow)
    turned = 3 * x @ ortho_group.rvs(5, random_state=1)
    np.testing.assert_allclose(spaces.cosines(turned), square, atol=1e-12)


@pytest.mark.parametrize(("value", "told"), [(0.0, "all zeros"), (np.nan, "NaN")])
def test_cosines_refuse(value: float, told: str) -> None:
    x = np.ones((3, 2))
    x[1] = value
    with pytest.raises(spaces.SpacesError, match=told):
        spaces.cosines(x)


def test_contrasts_are_means_over_the_pairs() -> None:
    table = crossed(takes=1)
    found = known(table)
    block = spaces.choose_block(table)
    for name in ("speaker", "content"):
        square = spaces.cosines(found.x[name][block.rows])
        numbers = spaces.contrasts(square, block)
        slow = [
            square[i, j]
            for i in range(12)
            for j in range(i + 1, 12)
            if block.first[i] == block.first[j] and block.second[i] != block.second[j]
        ]
        assert numbers["speaker"].value == pytest.approx(np.mean(slow))
        assert numbers["speaker"].n == len(slow)
        other = "content" if name == "speaker" else "speaker"
        assert numbers[name].value > 0.8 > 0.2 > numbers[other].value
        any_two = [square[i, j] for i in range(12) for j in range(12) if i != j]
        drawn = np.random.default_rng(0).permutation(12)
        spoilt = [
            square[drawn[i], drawn[j]]
            for i in range(12)
            for j in range(i + 1, 12)
            if block.first[i] == block.first[j] and block.second[i] != block.second[j]
        ]
        for one in numbers.values():
            assert one.groups == len(set(block.first))
            assert one.null == pytest.approx(np.mean(any_two))
        assert numbers["speaker"].control == pytest.approx(np.mean(spoilt))
        assert numbers[name].control < numbers[name].low


def test_the_interval_of_a_contrast_lets_both_speakers_of_a_pair_weigh() -> None:
    """The influence of a speaker is the derivative of the mean with its weight at 1."""
    rng = np.random.default_rng(0)
    first, second = np.array([(a, b) for a in range(4) for b in range(a, 4) for _ in range(3)]).T
    values = rng.normal(size=len(first))

    def mean(weight: np.ndarray) -> float:
        pair = np.where(first == second, weight[first], weight[first] * weight[second])
        return float(pair @ values / pair.sum())

    found = spaces._mean_of_pairs(values, first, second, 4)
    assert found.value == pytest.approx(values.mean())
    for speaker in range(4):
        step = 1e-6 * (np.arange(4) == speaker)
        slope = (mean(1 + step) - mean(1 - step)) / 2e-6
        assert found.influence[speaker] == pytest.approx(slope, abs=1e-8)


def test_errors_equal_scikit_learn_and_know_their_subspace() -> None:
    found = known(crossed(5, 4, 3), noise=0.2)
    curves = spaces.errors(found, "speaker")
    trials = verification.trials_from_factor(
        found.table["speaker"].to_numpy(), found.table["content"].to_numpy()
    )
    for name, one in curves.items():
        scores = verification.cosine_scores(found.x[name], trials)
        fpr, fnr, _ = det_curve(trials.target, scores)
        crossing = np.interp(0, (fpr - fnr)[::-1], fpr[::-1])
        assert one.eer == pytest.approx(crossing, abs=2 / one.n[0])
        assert sum(one.n) == len(scores)
        miss = (scores[trials.target] < one.threshold).mean()
        alarm = (scores[~trials.target] >= one.threshold).mean()
        assert miss == pytest.approx(one.eer, abs=0.02)
        assert alarm == pytest.approx(one.eer, abs=0.02)
        width = np.diff(one.edges)
        assert (one.target * width).sum() == pytest.approx(1)
        assert (one.other * width).sum() == pytest.approx(1)
    assert curves["speaker"].eer < 0.05
    assert abs(curves["content"].eer - 0.5) < 0.12


def test_scores_that_are_normal_make_a_straight_curve() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(1, 1, 40_000), rng.normal(-1, 1, 40_000)])
    one = spaces._errors(scores, np.arange(80_000) < 40_000)
    rates = np.stack([one.det.false_alarm, one.det.miss])
    inner = ((rates > 0.02) & (rates < 0.98)).all(axis=0)
    x, y = norm.ppf(one.det.false_alarm[inner]), norm.ppf(one.det.miss[inner])
    np.testing.assert_allclose(x + y, -2, atol=0.1)
    assert one.eer == pytest.approx(norm.cdf(-1), abs=0.005)


def test_angles_closed_forms() -> None:
    table = crossed(3, 3, 1)
    codes = [np.unique(table[name], return_inverse=True)[1] for name in ("speaker", "content")]
    eye = np.eye(8)
    apart = np.concatenate([eye[:3][codes[0]], eye[3:6][codes[1]]], axis=1)
    found = spaces.angles(apart, table["speaker"], table["content"])
    np.testing.assert_allclose(found.degrees, 90, atol=1e-4)
    assert found.sizes == (2, 2)
    same = spaces.angles(apart, table["speaker"], table["speaker"])
    np.testing.assert_allclose(same.degrees, 0, atol=1e-4)
    assert 0 < found.chance[0] < 90
    turned = spaces.angles(
        apart @ ortho_group.rvs(16, random_state=0), table["speaker"], table["content"]
    )
    np.testing.assert_allclose(turned.degrees, 90, atol=1e-4)


def test_overlaps_name_a_factor_that_is_missing() -> None:
    table = crossed()
    found = spaces.overlaps(known(table, noise=0.01))
    assert found["after"]["overlap"].value == pytest.approx(0, abs=0.02)
    with pytest.raises(spaces.SpacesError, match="mood"):
        spaces.overlaps(known(table), second="mood")


def test_alike_and_correlations_find_what_is_shared() -> None:
    found = known(crossed(6, 6, 3))
    alike = spaces.alike(found)
    assert alike["before", "speaker"]["cka"].value > 0.4
    assert alike["speaker", "content"]["cka"].value < 0.15
    x = found.x["speaker"]
    r = spaces.correlations(x, 2 * x @ ortho_group.rvs(8, random_state=0))
    np.testing.assert_allclose(np.abs(np.diag(r)), 1, atol=1e-6)  # components, not coordinates
    off = r - np.diag(np.diag(r))
    assert np.abs(off).max() < 1e-6


def test_importances_are_shares_of_what_there_is() -> None:
    def cell(bits: float, most: float) -> dict[str, Any]:
        return {"leakage_bits": {"value": bits, "range": [0.0, most]}}

    told = {
        "speaker": {"speaker": cell(2, 2), "content": cell(1, 4), "gender": cell(1, 1)},
        "content": {"speaker": cell(0, 2), "content": cell(4, 4)},
    }
    blocks, factors, shares = spaces.importances(told)
    assert (blocks, factors) == (["speaker", "content"], ["speaker", "content"])
    np.testing.assert_allclose(shares, [[1, 0.25], [0, 1]])


def test_spaces_of_a_pair_are_the_columns_of_its_tables(tmp_path: Path, tiny_encoder: Any) -> None:
    pair = split.measured(tmp_path, tiny_encoder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINE_CACHE", str(tmp_path / "cache"))
        before, after = (
            evaluate(pair[role], pair["corpus"], split="all") for role in ("before", "after")
        )
    found = spaces.spaces_of(before, after, peek(pair["after"]))
    assert found.names == ["speaker", "content"]
    whole = spaces.open_embeddings(after["embeddings"]).vectors("projected")
    np.testing.assert_allclose(found.x["content"], whole[:, 16:], atol=1e-6)
    assert len(found.table) == len(found.x["before"]) == 36
    with pytest.raises(spaces.SpacesError, match="no named subspaces"):
        spaces.spaces_of(before, before, peek(pair["before"]))
