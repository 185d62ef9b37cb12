"""Probes: scikit-learn as oracle, splits that keep voices apart, closed forms, refusals."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from refine import probes
from refine.metrics import accuracy
from refine.metrics.influence import units
from refine.softmax import fit, temperature


def corpus(speakers=12, words=5, takes=2, d=10, seed=0, strength=1.5):
    """Every speaker says every word; a vector is voice + word + noise."""
    rng = np.random.default_rng(seed)
    n = speakers * words * takes
    who, word = np.arange(n) // (words * takes), np.arange(n) // takes % words
    x = strength * rng.normal(size=(words, d))[word] + rng.normal(size=(speakers, d))[who]
    table = pd.DataFrame(
        {
            "clip": [f"{i}.wav" for i in range(n)],
            "split": "",
            "speaker": [f"s{i:02}" for i in who],
            "content": [f"w{i}" for i in word],
            "gender": np.where(who % 2 == 0, "f", "m"),
        }
    )
    return x + rng.normal(size=x.shape), table


def sides(split):
    return {name: set(getattr(split, name).tolist()) for name in ("train", "dev", "test")}


# splits


@pytest.mark.parametrize("factor", ["content", "gender"])
@pytest.mark.parametrize("seed", range(3))
def test_no_speaker_is_on_two_sides(factor, seed):
    _, table = corpus()
    split = probes.split_of(table, factor, seed)
    voices = [set(table["speaker"].iloc[getattr(split, name)]) for name in sides(split)]
    assert not any(one & two for one, two in itertools.combinations(voices, 2))
    assert sum(map(len, sides(split).values())) == len(table)
    for name in sides(split):
        assert set(table[factor].iloc[getattr(split, name)]) == set(table[factor])
    again = probes.split_of(table, factor, seed)
    assert sides(again) == sides(split)


def test_the_corpus_own_split_is_taken_where_it_holds():
    _, table = corpus()
    who = table["speaker"].str[1:].astype(int)
    table["split"] = np.where(who < 6, "train", np.where(who < 9, "dev", "test"))
    split = probes.split_of(table, "content")
    assert "own split" in split.how
    assert sides(split)["dev"] == set(np.flatnonzero((who >= 6) & (who < 9)))
    table.loc[table.index[0], "split"] = "test"  # one voice in two parts
    assert "dealt" in probes.split_of(table, "content").how


def test_a_speaker_probe_is_tested_on_other_words():
    _, table = corpus()
    split = probes.split_of(table, "speaker")
    words = [set(table["content"].iloc[getattr(split, name)]) for name in sides(split)]
    assert not any(one & two for one, two in itertools.combinations(words, 2))
    assert set(table["speaker"].iloc[split.train]) == set(table["speaker"])


def test_without_shared_words_each_speakers_clips_are_dealt():
    _, table = corpus()
    table["content"] = table["clip"]
    split = probes.split_of(table, "speaker")
    for name in sides(split):
        assert set(table["speaker"].iloc[getattr(split, name)]) == set(table["speaker"])
    table = table.drop(columns="content")
    assert sum(map(len, sides(probes.split_of(table, "speaker")).values())) == len(table)


def test_unknown_values_are_left_out_and_untrained_classes_named():
    _, table = corpus()
    table.loc[:9, "content"] = ""
    split = probes.split_of(table, "content")
    assert not set(range(10)) & set.union(*sides(split).values())
    who = table["speaker"].str[1:].astype(int)
    table["split"] = np.where(who < 6, "train", np.where(who < 9, "dev", "test"))
    table.loc[table["split"] == "test", "gender"] = ["x", "x", "f", "m", "f"] * 6
    split = probes.split_of(table, "gender")
    assert split.left_out == {"x": "no clip in train"}
    assert "x" not in set(table["gender"].iloc[split.test])


def test_leave_one_out_tests_every_clip_once():
    _, table = corpus(speakers=5)
    splits = probes.leave_one_out(table, "content")
    assert len(splits) == 5
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested.tolist()) == list(range(len(table)))
    for split in splits:
        assert len(set(table["speaker"].iloc[split.test])) == 1
        assert not set(table["speaker"].iloc[split.test]) & set(table["speaker"].iloc[split.fitted])


@pytest.mark.parametrize(
    ("change", "factor", "told"),
    [
        (lambda t: t, "emotion", "emotion: no such factor; there is split, speaker, content"),
        (lambda t: t.assign(gender="f"), "gender", r"gender: got one class \(f\)"),
        (lambda t: t.assign(gender=""), "gender", "gender: got no known value"),
        (
            lambda t: t.assign(content=["z", *t["content"][1:]]),
            "content",
            r"content: 1 class with one clip \(z\)",
        ),
        (lambda t: t.drop(columns="speaker"), "content", "no speaker column is known"),
        (lambda t: t.assign(speaker=""), "content", "no speaker column is known"),
        (
            lambda t: t.assign(speaker=np.where(t.index < 50, "a", "b")),
            "content",
            "content: 2 speakers; train, dev and test need one each",
        ),
    ],
)
def test_a_factor_that_cannot_be_probed_is_refused(change, factor, told):
    with pytest.raises(probes.ProbeError, match=told):
        probes.split_of(change(corpus()[1]), factor)


def test_without_speakers_clips_can_be_dealt_when_asked():
    _, table = corpus()
    split = probes.split_of(table.drop(columns="speaker"), "content", apart=None)
    assert "clips dealt" in split.how


# the probe itself


@pytest.mark.parametrize(("n", "d", "k"), [(200, 10, 4), (30, 60, 3), (80, 8, 2)])
@pytest.mark.parametrize("strength", [1e-3, 1.0])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_equals_scikit_learns_logistic_regression(n, d, k, strength, class_weight):
    rng = np.random.default_rng(n)
    y = rng.integers(k, size=n) * (rng.random(n) < 0.8)
    x = 5 + (rng.normal(size=(k, d))[y] + rng.normal(size=(n, d))) * np.linspace(0.1, 4, d)
    ours = fit(x, y, strength, class_weight)
    z = (x - x.mean(0)) / x.std(0)
    # one vector for two classes, where ours has plus and minus half of it: half the penalty
    c = (2 if k == 2 else 1) / (n * strength)
    theirs = LogisticRegression(C=c, class_weight=class_weight, tol=1e-9, max_iter=10_000)
    np.testing.assert_allclose(ours.probabilities(x), theirs.fit(z, y).predict_proba(z), atol=2e-3)
    assert (ours.predict(x) == theirs.predict(z)).mean() > 0.99


def test_the_solution_is_where_the_gradient_is_zero():
    x, table = corpus()
    y = table["content"].to_numpy()
    probe = fit(x, y, 0.01)
    z = (x - probe.mean) / probe.scale
    error = probe.probabilities(x) - (y[:, None] == probe.classes)
    np.testing.assert_allclose(error.T @ z / len(x) + 0.01 * probe.weights, 0, atol=1e-4)
    np.testing.assert_allclose(error.sum(axis=0), 0, atol=1e-2)


def test_scale_shift_rotation_of_labels_do_not_matter():
    x, table = corpus()
    y = table["content"].to_numpy()
    expected = fit(x, y, 0.1).probabilities(x)
    np.testing.assert_allclose(
        fit(100 * x - 7, y, 0.1).probabilities(100 * x - 7), expected, atol=1e-3
    )
    renamed = np.char.add("z", y.astype(str))
    np.testing.assert_allclose(fit(x, renamed, 0.1).probabilities(x), expected, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(x))
    shuffled = fit(x[order], y[order], 0.1).probabilities(x)
    np.testing.assert_allclose(shuffled, expected, atol=1e-3)


def test_a_constant_dimension_gets_no_weight():
    x, table = corpus()
    probe = fit(np.concatenate([x, np.full((len(x), 1), 3.0)], 1), table["content"], 0.1)
    assert (probe.weights[:, -1] == 0).all()
    assert np.isfinite(probe.logits(np.zeros((2, 11)))).all()


def test_temperature_calibrates():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    codes = np.array([rng.choice(3, p=row) for row in p])
    assert temperature(logits, codes) == pytest.approx(1, rel=0.1)
    assert temperature(3 * logits, codes) == pytest.approx(3, rel=0.1)


def test_probe_reports_what_scikit_learn_would():
    x, table = corpus()
    split = probes.split_of(table, "content")
    result = probes.probe(x, table["content"], split, table["speaker"])
    truth = table["content"].to_numpy()[split.test]
    assert result.strength in probes.GRID
    assert result.accuracy.value == accuracy_score(truth, result.predictions)
    assert result.uar.value == pytest.approx(
        recall_score(truth, result.predictions, average="macro")
    )
    assert result.macro_f1.value == pytest.approx(
        f1_score(truth, result.predictions, average="macro")
    )
    np.testing.assert_array_equal(
        result.confusion, confusion_matrix(truth, result.predictions, labels=result.classes)
    )
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)
    assert result.uar.value > 0.8
    assert result.uar.null == pytest.approx(1 / 5)
    assert result.uar.control < 0.45
    assert result.uar.groups == table["speaker"].iloc[split.test].nunique()
    assert result.uar.low <= result.uar.value <= result.uar.high
    assert "own split" in result.uar.definition or "speakers dealt" in result.uar.definition
    np.testing.assert_array_equal(result.model.predict(x[split.test]), result.predictions)


def test_the_strength_is_picked_on_dev_and_no_test_clip_is_touched():
    x, table = corpus()
    split = probes.split_of(table, "content")
    y = table["content"].to_numpy()
    spoilt = x.copy()
    spoilt[split.test] = np.nan
    with pytest.raises(probes.ProbeError, match="hold NaN"):
        probes.best(spoilt, y, split)
    spoilt[split.test] = 1e6
    assert probes.best(spoilt, y, split) == probes.best(x, y, split)
    scores = {}
    for strength in probes.GRID:
        model = fit(x[split.train], y[split.train], strength)
        scores[strength] = recall_score(y[split.dev], model.predict(x[split.dev]), average="macro")
    picked = probes.best(x, y, split)
    assert picked.uar == pytest.approx(max(scores.values()))
    assert picked.strength == max(s for s in scores if scores[s] == max(scores.values()))


def test_nothing_to_find_is_found():
    rng = np.random.default_rng(0)
    _, table = corpus(speakers=30)
    x = rng.normal(size=(len(table), 10))
    split = probes.split_of(table, "content")
    result = probes.probe(x, table["content"], split, table["speaker"])
    assert result.uar.low <= 0.2 <= result.uar.high


def test_changes_are_paired():
    x, table = corpus(strength=0.6)
    split = probes.split_of(table, "content")
    before = probes.probe(x, table["content"], split, table["speaker"], control=False)
    clean = np.array([x[table["content"] == w].mean(0) for w in table["content"]])
    after = probes.probe(clean, table["content"], split, table["speaker"], control=False)
    change = probes.changes(before, after, table["speaker"])["uar"]
    assert change.value == pytest.approx(after.uar.value - before.uar.value)
    assert change.low > 0
    nothing = probes.changes(before, before, table["speaker"])["accuracy"]
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    other = probes.split_of(table, "content", seed=1)
    with pytest.raises(probes.ProbeError, match="same clips"):
        probes.changes(before, probes.probe(x, table["content"], other, control=False))


# companions


def test_knn_equals_scikit_learns():
    x, table = corpus(strength=0.7)
    split = probes.split_of(table, "content")
    y = table["content"].to_numpy(dtype=str)
    for k in (1, 5):
        result = probes.knn(x, y, split, k, table["speaker"])
        theirs = KNeighborsClassifier(k, metric="cosine").fit(x[split.fitted], y[split.fitted])
        ties = np.sort(theirs.predict_proba(x[split.test]), axis=1)
        clear = ties[:, -1] > ties[:, -2]
        same = result.predictions[clear] == theirs.predict(x[split.test])[clear]
        assert same.all()
        assert result.accuracy.value == np.mean(result.predictions == y[split.test])
    with pytest.raises(probes.ProbeError, match="k: got 0"):
        probes.knn(x, y, split, 0)


def test_neighbours_of_shuffled_labels_are_the_control_and_change_no_value():
    x, table = corpus(strength=1.5, speakers=30)
    split = probes.split_of(table, "content")
    y = table["content"].to_numpy(dtype=str)
    found = probes.knn(x, y, split, 3, table["speaker"], seed=5)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    names = np.unique(y)
    stored = [y[split.fitted], np.random.default_rng(5).permutation(y[split.fitted])]
    right = [0, 0]
    for row in split.test:
        cosines = unit[split.fitted] @ unit[row]
        near = np.argsort(-cosines)[:3]
        for kind, labels in enumerate(stored):
            votes = {
                name: sum(1 + cosines[i] / 12 for i in near if labels[i] == name) for name in names
            }
            right[kind] += max(votes, key=votes.get) == y[row]
    assert found.accuracy.value == right[0] / len(split.test)
    assert found.accuracy.control == right[1] / len(split.test)
    assert found.uar.control < 0.4 < 0.5 < found.uar.value
    assert "Control: labels shuffled" in found.uar.definition


def test_shots_of_shuffled_labels_are_the_control_and_change_no_draw():
    x, table = corpus(strength=0.8, speakers=24)
    split = probes.split_of(table, "content")
    y = table["content"].to_numpy(dtype=str)
    found = probes.k_shot(x, y, split, (1, 5), draws=20, seed=3, speakers=table["speaker"])
    rng, names = np.random.default_rng(3), np.unique(y)
    unit = x[split.test] / np.linalg.norm(x[split.test], axis=1, keepdims=True)
    for shots in (1, 5):
        scores = []
        for _ in range(20):  # nothing but the draws of the values moves the generator
            means = np.stack([
                x[rng.choice(split.fitted[y[split.fitted] == name], shots, replace=False)].mean(0)
                for name in names
            ])  # fmt: skip
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            scores.append((names[(unit @ means.T).argmax(axis=1)] == y[split.test]).mean())
        assert found[shots].value == pytest.approx(np.mean(scores), abs=1e-12)
        assert abs(found[shots].control - 1 / 5) < 0.15 < found[shots].value - found[shots].control
        assert "Control: labels shuffled before drawing, 10 draws" in found[shots].definition
    assert probes.k_shot(x, y, split, (1,), draws=4)[1].definition.count("4 draws") == 2


def test_a_fit_on_shuffled_labels_is_the_control_at_every_share():
    x, table = corpus(speakers=40, strength=0.5)
    split = probes.split_of(table, "content")
    y = table["content"].to_numpy(dtype=str)
    points = probes.label_efficiency(x, y, split, (0.1, 1.0), 2, table["speaker"])
    for point in points:
        scores = []
        for seed in range(len(point.seeds)):
            rows = probes._share(y, split.train, point.fraction, seed)
            part = probes.Split(rows, split.dev, split.test)
            strength = probes.best(x, y, part).strength
            said = fit(x[rows], y[rows], strength).predict(x[split.test])
            scores.append(accuracy.uar(y[split.test], said))
            if seed == 0:
                shuffled = np.random.default_rng(0).permutation(y[rows])
                blind = fit(x[rows], shuffled, strength).predict(x[split.test])
        assert point.seeds == tuple(scores)
        assert point.uar.control == accuracy.uar(y[split.test], blind)
        assert point.accuracy.control == accuracy.accuracy(y[split.test], blind)
        assert point.uar.null == 1 / 5
        assert point.accuracy.null == pytest.approx(1 / 5, abs=0.05)
    assert points[1].uar.control < 0.4 < points[1].uar.value


def test_k_shot_equals_the_authors_way_and_rises_with_k():
    x, table = corpus(strength=0.8, speakers=24)
    split = probes.split_of(table, "content")
    y = table["content"].to_numpy(dtype=str)
    numbers = probes.k_shot(x, y, split, (1, 5, 10), draws=300, speakers=table["speaker"])
    assert numbers[1].value < numbers[5].value < numbers[10].value + 0.02
    assert numbers[1].low < numbers[1].value < numbers[1].high
    rng = np.random.default_rng(1)
    right = []
    for row in split.test:  # drawn anew for each test clip and class
        for _ in range(20):
            cosines = {}
            for name in np.unique(y):
                rows = split.fitted[y[split.fitted] == name]
                mean = x[rng.choice(rows, 5, replace=False)].mean(0)
                cosines[name] = mean @ x[row] / np.linalg.norm(mean)
            right.append(max(cosines, key=cosines.get) == y[row])
    assert numbers[5].value == pytest.approx(np.mean(right), abs=0.03)
    with pytest.raises(probes.ProbeError, match="the smallest class has"):
        probes.k_shot(x, y, split, (1000,))


def test_label_efficiency_draws_shares_of_each_class():
    x, table = corpus(speakers=40, strength=0.5)
    split = probes.split_of(table, "content")
    points = probes.label_efficiency(
        x, table["content"], split, (0.01, 0.1, 1.0), 3, table["speaker"]
    )
    assert [point.fraction for point in points] == [0.01, 0.1, 1.0]
    assert points[0].clips == 5  # one a class at least
    assert points[2].clips == len(split.train)
    assert [len(point.seeds) for point in points] == [3, 3, 1]
    assert points[0].uar.value < points[1].uar.value < points[2].uar.value
    for point in points:
        assert point.uar.value == pytest.approx(np.mean(point.seeds))
        assert point.uar.low < point.uar.value < point.uar.high
    with pytest.raises(probes.ProbeError, match="fraction: got 2"):
        probes.label_efficiency(x, table["content"], split, (2,))


# the scores


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(4, size=50), rng.integers(5, size=50)
    assert accuracy.accuracy(truth, predicted) == accuracy_score(truth, predicted)
    assert accuracy.macro_f1(truth, predicted) == pytest.approx(
        f1_score(truth, predicted, average="macro", zero_division=0)
    )
    slow = np.mean([np.mean(predicted[truth == c] == c) for c in set(truth.tolist())])
    assert accuracy.uar(truth, predicted) == pytest.approx(slow)


def test_influences_are_derivatives_in_the_weight_of_a_speaker():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(3, size=60), rng.integers(3, size=60)
    of = units(60, rng.integers(7, size=60))
    found = accuracy.statistics(truth, predicted, [0, 1, 2], of)

    def weighted(name, w):
        options = {"sample_weight": w}
        if name == "accuracy":
            return accuracy_score(truth, predicted, **options)
        score = recall_score if name == "uar" else f1_score
        return score(truth, predicted, average="macro", **options)

    for unit in range(of.count):
        for name, smooth in found.items():
            ends = [weighted(name, 1 + sign * 1e-5 * (of.of == unit)) for sign in (1, -1)]
            assert smooth.influence[unit] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-7)


def test_uar_of_speakers_draws_speakers_as_classes():
    truth = np.repeat(np.arange(20), 10)
    predicted = truth.copy()
    predicted[:100:2] = 19  # half of the first ten speakers are wrong
    number = accuracy.measure(truth, predicted, range(20), truth)["uar"]
    assert number.value == pytest.approx(0.75)
    width = (number.high - number.low) / 2
    assert width == pytest.approx(2.09 * 0.25 / np.sqrt(19), rel=0.25)


def test_many_speakers_are_binned_and_few_clips_refused():
    of = units(1000, np.arange(1000) // 2, most=50)
    assert (of.count, of.groups) == (50, 500)
    assert (of.of[::2] == of.of[1::2]).all()
    assert units(30, ["a"] * 30).groups is None
    assert units(4, ["a", "a", "", ""]).groups == 3
    with pytest.raises(ValueError, match="at least 2 clips"):
        units(1)
    with pytest.raises(ValueError, match="got 2 labels for 3 clips"):
        units(3, ["a", "b"])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x, y: fit(x, y, 0.0), "strength: got 0.0"),
        (lambda x, y: fit(x, ["a"] * len(x), 0.1), "two classes or more"),
        (lambda x, y: fit(x[1:], y, 0.1), "for 120 labels"),
        (lambda x, y: fit(x, y, 0.1).logits(x[:, 1:]), "reads 10 dimensions"),
        (lambda x, y: fit(x, y, 0.1).codes(np.array(["nobody"])), "'nobody' is no class"),
        (lambda x, y: fit(x, y, 0.1, "heavy"), "class_weight"),
        (lambda x, y: accuracy.confusion(["a"], ["b"], ["a"]), "predicted: 'b' is none"),
        (lambda x, y: accuracy.measure(["a", "b"], ["a"]), "got 2 true labels and 1"),
    ],
)
def test_refuses(call, told):
    x, table = corpus()
    with pytest.raises(ValueError, match=told):
        call(x, table["content"].to_numpy())


def test_fits_at_once_leave_the_threads_as_they_were():
    x, table = corpus()
    labels = table["content"].to_numpy()
    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: fit(x, labels, 0.1).weights, range(6)))
        threads = {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}
    assert threads == {2}
    assert all(np.array_equal(weights, found[0]) for weights in found)


# a random projection, the control of a subspace


def test_a_random_projection_is_a_product_with_orthonormal_directions():
    x = np.random.default_rng(0).normal(size=(50, 12))
    for width in (1, 5, 12):
        drawn = probes.random_projection(np.eye(12), width, seed=3)  # the directions themselves
        np.testing.assert_allclose(drawn.T @ drawn, np.eye(width), atol=1e-12)
        found = probes.random_projection(x, width, seed=3)
        np.testing.assert_allclose(found, [[row @ column for column in drawn.T] for row in x])


def test_a_projection_to_the_full_width_is_a_rotation():
    x = np.random.default_rng(0).normal(size=(50, 12))
    turned = probes.random_projection(x, 12)
    np.testing.assert_allclose(turned @ turned.T, x @ x.T, atol=1e-10)


def test_no_direction_is_preferred():
    energy = [probes.random_projection(np.eye(8), 2, seed) ** 2 for seed in range(400)]
    np.testing.assert_allclose(np.mean(energy, axis=0), 1 / 8, atol=0.03)
    signs = [probes.random_projection(np.eye(8), 2, seed) for seed in range(400)]
    np.testing.assert_allclose(np.mean(signs, axis=0), 0, atol=0.06)


@pytest.mark.parametrize("width", [0, 13])
def test_a_projection_is_no_wider_than_its_vectors(width):
    with pytest.raises(ValueError, match=f"width: got {width}; expected 1 to 12"):
        probes.random_projection(np.zeros((3, 12)), width)
