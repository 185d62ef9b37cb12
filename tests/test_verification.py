"""Verification: scikit-learn's ROC with brentq, closed forms, invariances, refusals, lists."""

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from refine.metrics import verification as v
from refine.metrics.influence import units


def scored(n=400, gap=1.2, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    target = rng.random(n) < 0.3
    scores = rng.normal(size=n) + gap * target
    return np.round(scores, 1) if ties else scores, target


def voices(speakers=10, words=6, d=8, seed=0, strength=1.0):
    rng = np.random.default_rng(seed)
    who, word = np.repeat(np.arange(speakers), words), np.tile(np.arange(words), speakers)
    x = strength * rng.normal(size=(speakers, d))[who] + rng.normal(size=(words, d))[word]
    return x + 0.5 * rng.normal(size=x.shape), who.astype(str), word.astype(str)


def s3prl_eer(scores, target):
    fpr, tpr, _ = roc_curve(target, scores)
    return brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0.0, 1.0)


def slow_min_dcf(scores, target, p):
    costs = []
    for t in [-np.inf, *scores, np.inf]:
        miss, false = np.mean(scores[target] < t), np.mean(scores[~target] >= t)
        costs.append(p * miss + (1 - p) * false)
    return min(costs) / min(p, 1 - p)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "gap"), [(400, 1.2), (50, 0.0), (300, 4.0), (60, -1.0)])
def test_equals_s3prl_and_the_definition(n, gap, ties):
    scores, target = scored(n, gap, n, ties)
    assert v.eer(scores, target) == pytest.approx(s3prl_eer(scores, target), abs=1e-9)
    for p in (0.5, 0.05, 0.01):
        assert v.min_dcf(scores, target, p) == pytest.approx(slow_min_dcf(scores, target, p))


def test_closed_forms():
    target = np.array([True, True, False, False])
    assert v.eer(np.array([4.0, 3, 2, 1]), target) == 0
    assert v.eer(np.array([1.0, 2, 3, 4]), target) == 1
    assert v.eer(np.zeros(4), target) == 0.5
    assert v.eer(np.array([4.0, 2, 3, 1]), target) == 0.5
    assert v.min_dcf(np.array([4.0, 3, 2, 1]), target, 0.01) == 0
    assert v.min_dcf(np.zeros(4), target, 0.01) == 1
    assert v.min_dcf(np.array([4.0, 2, 3, 1]), target, 0.05) == 0.5  # one missed, none let in


def test_the_det_curve_runs_from_nothing_to_everything():
    scores, target = scored(2000)
    curve = v.det(scores, target)
    assert (curve.false_alarm[0], curve.miss[0], curve.threshold[0]) == (0, 1, np.inf)
    assert (curve.false_alarm[-1], curve.miss[-1]) == (1, 0)
    for place in (1, 500, 1500):
        t = curve.threshold[place]
        assert curve.false_alarm[place] == np.mean(scores[~target] >= t)
        assert curve.miss[place] == pytest.approx(np.mean(scores[target] < t))
    few = v.det(scores, target, points=50)
    assert len(few.miss) <= 53
    assert few.false_alarm[[0, -1]].tolist() == [0, 1]


def test_order_scale_and_rising_maps_do_not_matter():
    scores, target = scored()
    order = np.random.default_rng(0).permutation(len(scores))
    for changed, marks in (
        (3 * scores - 8, target),
        (np.exp(scores), target),
        (scores[order], target[order]),
    ):
        assert v.eer(changed, marks) == pytest.approx(v.eer(scores, target))
        assert v.min_dcf(changed, marks) == pytest.approx(v.min_dcf(scores, target))
    assert v.eer(-scores, ~target) == pytest.approx(v.eer(scores, target))


def test_trials_are_all_pairs_apart_in_the_word():
    _, who, word = voices(4, 3)
    trials = v.trials_from_factor(who, word)
    expected = {(i, j) for i in range(12) for j in range(i + 1, 12) if word[i] != word[j]}
    assert set(zip(trials.left.tolist(), trials.right.tolist(), strict=True)) == expected
    assert (trials.target == (who[trials.left] == who[trials.right])).all()
    assert len(v.trials_from_factor(who).left) == 66


def test_an_unknown_label_is_in_no_trial():
    trials = v.trials_from_factor(["a", "", "a", "b", None, "b"], ["x", "x", "y", "", "y", "z"])
    assert trials.left.tolist() == [0, 0, 2]
    assert trials.right.tolist() == [2, 5, 5]


@pytest.mark.parametrize("enumerated", [3_000, 10])
def test_drawn_trials_are_different_seeded_and_half_of_each(monkeypatch, enumerated):
    monkeypatch.setattr("refine.metrics.trials.ENUMERATED", enumerated)
    _, who, word = voices(20, 10)
    trials = v.trials_from_factor(who, word, limit=600, seed=1)
    pairs = set(zip(trials.left.tolist(), trials.right.tolist(), strict=True))
    assert len(pairs) == len(trials.left) == 600
    assert trials.target.sum() == 300
    assert (word[trials.left] != word[trials.right]).all()
    assert (trials.target == (who[trials.left] == who[trials.right])).all()
    again = v.trials_from_factor(who, word, limit=600, seed=1)
    assert (again.left == trials.left).all()
    assert (v.trials_from_factor(who, word, 600, 2).left != trials.left).any()


def test_drawn_trials_have_the_same_error_rate():
    x, who, _ = voices(30, 20)
    rates = []
    for limit in (200_000, 8_000):
        trials = v.trials_from_factor(who, limit=limit)
        rates.append(v.eer(v.cosine_scores(x, trials), trials.target))
    assert rates[0] == pytest.approx(rates[1], abs=0.02)


def test_a_trial_list_is_read(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1 a.wav b.wav\n\n0 a.wav c.wav\n")
    trials = v.trials_from_list(path, ["c.wav", "a.wav", "b.wav"])
    assert (trials.left.tolist(), trials.right.tolist()) == ([1, 1], [2, 0])
    path.write_text("a.wav b.wav target\na.wav c.wav nontarget\n")
    assert v.trials_from_list(path, ["c.wav", "a.wav", "b.wav"]).target.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 a.wav b.wav\nmaybe a.wav c.wav\n", "line 2 is 'maybe a.wav c.wav'"),
        ("1 a.wav b.wav\n0 a.wav z.wav\n", "1 of its clips are not in the corpus.*z.wav"),
        ("1 a.wav b.wav\n", "1 target and 0 other trials"),
    ],
)
def test_a_wrong_trial_list_is_refused(tmp_path, text, told):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(v.VerificationError, match=told):
        v.trials_from_list(path, ["a.wav", "b.wav", "c.wav"])
    with pytest.raises(v.VerificationError, match="not a readable trial list"):
        v.trials_from_list(tmp_path / "none.txt", ["a.wav", "b.wav"])


def test_cosine_scores():
    x, who, _ = voices(4, 3)
    trials = v.trials_from_factor(who)
    for centre in (None, x.mean(0)):
        y = x if centre is None else x - centre
        slow = [
            y[i] @ y[j] / (np.linalg.norm(y[i]) * np.linalg.norm(y[j]))
            for i, j in zip(trials.left, trials.right, strict=True)
        ]
        np.testing.assert_allclose(v.cosine_scores(x, trials, centre), slow)


def test_as_norm_equals_the_equation_and_undoes_a_shift_of_a_side():
    x, who, _ = voices(5, 4)
    cohort = voices(8, 3, seed=1)[0]
    trials = v.trials_from_factor(who)
    scores = v.cosine_scores(x, trials)
    unit = [row / np.linalg.norm(row) for row in x]
    to = [sorted((row @ c / np.linalg.norm(c) for c in cohort), reverse=True)[:5] for row in unit]
    slow = [
        ((s - np.mean(to[i])) / np.std(to[i]) + (s - np.mean(to[j])) / np.std(to[j])) / 2
        for s, i, j in zip(scores, trials.left, trials.right, strict=True)
    ]
    np.testing.assert_allclose(v.as_norm(scores, trials, x, cohort, top=5), slow)
    with pytest.raises(v.VerificationError, match="cohort: got shape"):
        v.as_norm(scores, trials, x, cohort[:, :3])


def test_measure_reports_numbers():
    x, who, word = voices()
    numbers = v.measure(x, who, who, apart=word)
    assert set(numbers) == {"eer", "min_dcf_05", "min_dcf_01"}
    trials = v.trials_from_factor(who, word)
    eer = numbers["eer"]
    assert eer.value == v.eer(v.cosine_scores(x, trials), trials.target)
    assert eer.low < eer.value < eer.high
    assert (eer.n, eer.groups, eer.null, eer.direction) == (len(trials.left), 10, 0.5, "lower")
    assert eer.control == pytest.approx(0.5, abs=0.1)
    assert numbers["min_dcf_01"].value == v.min_dcf(v.cosine_scores(x, trials), trials.target, 0.01)


def test_the_interval_is_as_wide_as_drawing_speakers_by_hand():
    x, who, _ = voices(30, 6, strength=0.8)
    numbers = v.measure(x, who, who, resamples=400)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(200):  # speakers anew, each copy a speaker of its own, none against itself
        names = rng.choice(np.unique(who), 30)
        rows = np.concatenate([np.flatnonzero(who == name) for name in names])
        copy, origin = np.repeat(np.arange(30), 6), who[rows]
        left, right = np.triu_indices(len(rows), 1)
        fair = (copy[left] == copy[right]) | (origin[left] != origin[right])
        trials = v.Trials(rows[left[fair]], rows[right[fair]], (copy[left] == copy[right])[fair])
        drawn.append(v.eer(v.cosine_scores(x, trials), trials.target))
    width = (numbers["eer"].high - numbers["eer"].low) / (2 * 1.96)
    assert width / np.std(drawn) == pytest.approx(1, abs=0.25)


def test_of_two_speakers_clips_are_drawn():
    x, who, word = voices(2, 20)
    number = v.measure(x, word, who, apart=who)["eer"]
    assert number.low < number.value < number.high
    assert number.groups is None
    assert "2 speakers are too few to draw" in number.definition


def test_a_coarse_curve_does_not_change_the_interval(monkeypatch):
    x, who, _ = voices(20, 8, strength=0.8)
    fine = v.measure(x, who, who)
    monkeypatch.setattr(v, "POINTS", 100)
    for name, number in v.measure(x, who, who).items():
        assert number.low == pytest.approx(fine[name].low, abs=0.02)
        assert number.high == pytest.approx(fine[name].high, abs=0.02)


def test_a_change_is_paired():
    x, who, _ = voices(12, 6, strength=0.8)
    trials, of = v.trials_from_factor(who), units(len(who), who)
    before = v.cosine_scores(x, trials)
    same = v.change(before, before, trials, of)
    assert all((c.value, c.low, c.high) == (0, 0, 0) for c in same.values())
    better = v.change(before, before + 0.2 * trials.target, trials, of)["eer"]
    assert better.high < 0
    alone = v.measure(x, who, who)["eer"]
    assert better.high - better.low < alone.high - alone.low
    with pytest.raises(v.VerificationError, match="same trials"):
        v.change(before, before[1:], trials, of)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: v.eer(np.ones(3), np.ones(3, bool)), "3 target and 0 other"),
        (lambda: v.eer(np.array([1.0, np.nan]), np.array([True, False])), "1 scores are not"),
        (lambda: v.min_dcf(np.ones(2), np.array([True, False]), 1.0), "p_target: got 1.0"),
        (lambda: v.trials_from_factor(["a", "b", "c"]), "no pair of clips of one class"),
        (lambda: v.trials_from_factor(["a", "a"]), "no pair of clips of two classes"),
        (lambda: v.trials_from_factor(["a", "a", "b"], ["x", "x", "y"]), "that differ"),
        (lambda: v.trials_from_factor(["a", "a", "b"], ["x", "y"]), "got 2 labels for 3 clips"),
        (lambda: v.measure(np.zeros((4, 2)), list("aabb")), "row 0 is all zeros"),
        (lambda: v.measure(np.full((4, 2), np.nan), list("aabb")), "row 0 holds NaN"),
    ],
)
def test_refuses(call, told):
    with pytest.raises(ValueError, match=told):
        call()
