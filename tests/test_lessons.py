"""The lessons' claims, each checked in numbers: against the house's torch losses, closed forms, and
several random starts of the toys."""

import numpy as np
import pytest
import torch

from refine.lessons import (
    anisotropy,
    collapse,
    intervention,
    invariance,
    negatives,
    speech,
    toy,
)
from refine.losses.barlow_twins import barlow_twins
from refine.losses.dino import CENTRE_MOMENTUM, STUDENT_TEMPERATURE, TEACHER_TEMPERATURE, dino
from refine.losses.info_nce import info_nce
from refine.losses.triplet import triplet

RNG = np.random.default_rng(7)


def unit_rows(n: int, dim: int) -> np.ndarray:
    return anisotropy.unit(RNG.standard_normal((n, dim)))


def leaves(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]


def tangent(u: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The part of a slope along the sphere: the house's losses scale rows to length one."""
    return slope - u * (slope * u).sum(axis=1, keepdims=True)


# --- the toys' losses are the house's ---------------------------------------------------------


def test_nt_xent_is_the_houses_with_its_gradient() -> None:
    a, b = unit_rows(6, 3), unit_rows(6, 3)
    left, right = leaves(a, b)
    theirs = info_nce(left, right, 0.2).total
    theirs.backward()
    total, first, second = negatives.nt_xent(a, b, 0.2)
    assert total == pytest.approx(theirs.item(), abs=1e-12)
    np.testing.assert_allclose(tangent(a, first), left.grad, atol=1e-12)
    np.testing.assert_allclose(tangent(b, second), right.grad, atol=1e-12)


def test_triplet_is_the_houses_with_its_gradient() -> None:
    a, p, n = unit_rows(9, 2), unit_rows(9, 2), unit_rows(9, 2)
    tensors = leaves(a, p, n)
    theirs = triplet(*tensors, invariance.MARGIN).total
    theirs.backward()
    total, *slopes = invariance.triplet(a, p, n)
    assert total == pytest.approx(theirs.item(), abs=1e-12)
    for u, slope, tensor in zip((a, p, n), slopes, tensors, strict=True):
        np.testing.assert_allclose(tangent(u, slope), tensor.grad, atol=1e-12)


def test_barlow_twins_is_the_houses_with_its_gradient() -> None:
    a, b = RNG.standard_normal((11, 2)), RNG.standard_normal((11, 2))
    left, right = leaves(a, b)
    theirs = barlow_twins(left, right, invariance.OFFDIAGONAL).total
    theirs.backward()
    total, first, second = invariance.barlow(a, b)
    assert total == pytest.approx(theirs.item(), abs=1e-12)
    np.testing.assert_allclose(first, left.grad, atol=1e-10)
    np.testing.assert_allclose(second, right.grad, atol=1e-10)


def test_pull_is_the_positive_distance_of_the_triplet() -> None:
    a, p = unit_rows(9, 2), unit_rows(9, 2)
    theirs = triplet(*leaves(a, p, p)).positive_distance.item()
    assert invariance.pull(a, p)[0] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("temperature", [collapse.TEACHER, collapse.STUDENT])
def test_dino_is_the_houses_with_its_gradient(temperature: float) -> None:
    student, teacher = RNG.standard_normal((2, 2, 5, collapse.OUTPUTS))
    centre = RNG.standard_normal(collapse.OUTPUTS)
    (logits,) = leaves(student)
    theirs = dino(
        logits, torch.tensor(teacher), torch.tensor(centre), collapse.STUDENT, temperature
    )
    theirs.total.backward()
    ours, slope = collapse.parts(student, teacher, centre, temperature)
    told = [theirs.total.item(), theirs.entropy.item(), theirs.kl.item()]
    np.testing.assert_allclose(ours, told, atol=1e-10)
    np.testing.assert_allclose(slope, logits.grad, atol=1e-12)


def test_the_toy_of_dino_has_the_houses_constants() -> None:
    assert (collapse.STUDENT, collapse.TEACHER) == (STUDENT_TEMPERATURE, TEACHER_TEMPERATURE)
    assert collapse.CENTRE == CENTRE_MOMENTUM


def test_the_network_has_the_gradient_of_torch() -> None:
    weights = toy.start(np.random.default_rng(0), (3, 5, 2), spread=1.0)
    x, slope = RNG.standard_normal((7, 3)), RNG.standard_normal((7, 2))
    tensors = leaves(*weights)
    hidden = torch.tanh(torch.tensor(x) @ tensors[0] + tensors[1])
    z = hidden @ tensors[2] + tensors[3]
    u = z / z.norm(dim=1, keepdim=True)
    (u * torch.tensor(slope)).sum().backward()
    ours, active = toy.forward(weights, x)
    rows, length = toy.unit(ours)
    found = toy.backward(weights, x, active, toy.unit_slope(rows, length, slope))
    for mine, tensor in zip(found, tensors, strict=True):
        np.testing.assert_allclose(mine, tensor.grad, atol=1e-12)


# --- 1: anisotropy ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0, 2.0, 3.0])
def test_a_common_vector_raises_the_mean_cosine_as_the_closed_form_says(length: float) -> None:
    own = anisotropy.directions(6_000, seed=3)
    mean = anisotropy.summary(anisotropy.crowd(own, length))[1]
    assert mean == pytest.approx(anisotropy.expected(length), abs=0.01)
    many = anisotropy.directions(1_000, dim=256, seed=3)
    mean = anisotropy.summary(anisotropy.crowd(many, length))[1]
    assert mean == pytest.approx(anisotropy.expected(length, None), abs=0.01)


def test_the_shown_cloud_is_near_its_closed_form() -> None:
    x = anisotropy.crowd(anisotropy.directions(), 1.0)
    assert anisotropy.expected(1.0) == pytest.approx(4 / 9)
    assert anisotropy.summary(x)[1] == pytest.approx(4 / 9, abs=0.02)


def test_the_two_closed_forms_meet_and_run_from_0_to_1() -> None:
    assert anisotropy.expected(1 - 1e-9) == pytest.approx(anisotropy.expected(1 + 1e-9))
    for dim in (3, None):
        assert anisotropy.expected(0, dim) == 0
        assert anisotropy.expected(1e4, dim) == pytest.approx(1, abs=1e-6)


def test_taking_the_mean_away_undoes_a_common_vector_and_not_a_loud_direction() -> None:
    own = anisotropy.directions()
    back = anisotropy.remedied(anisotropy.crowd(own, 2.0), "centred")
    np.testing.assert_allclose(back, own, atol=1e-12)
    loud = anisotropy.crowd(own, 3.0, "loud")
    _, mean, size = anisotropy.summary(loud)
    assert abs(mean) < 0.01
    assert size > anisotropy.summary(own)[2] + 0.1
    centred = anisotropy.remedied(loud, "centred")
    assert anisotropy.summary(centred)[2] == pytest.approx(size, abs=1e-9)
    flat = anisotropy.remedied(loud, "top")
    assert np.linalg.matrix_rank(flat, tol=1e-9) == 2  # what was removed is gone


def test_cosine_and_picture_do_not_turn_with_the_own_directions() -> None:
    own = anisotropy.directions()
    turned = own @ np.linalg.qr(RNG.standard_normal((3, 3)))[0]
    means = [anisotropy.summary(anisotropy.crowd(x, 1.0))[1] for x in (own, turned)]
    assert means[0] == pytest.approx(means[1], abs=0.03)


# --- 2: negatives -----------------------------------------------------------------------------


def test_the_pushes_are_the_gradient_and_sum_to_the_pull() -> None:
    cosines = torch.tensor(
        [0.9, *np.cos(negatives.angles(8))], dtype=torch.float64, requires_grad=True
    )
    loss = -(cosines / 0.2).log_softmax(dim=0)[0]
    loss.backward()
    found = negatives.push(0.2, cosines.detach().numpy()[1:])
    assert found.loss == pytest.approx(loss.item())
    gradient = cosines.grad.numpy()
    np.testing.assert_allclose(found.shares, gradient[1:] / gradient[1:].sum(), atol=1e-12)
    assert found.missing / 0.2 == pytest.approx(-gradient[0]) == pytest.approx(gradient[1:].sum())


def test_a_low_temperature_pushes_the_nearest_alone_and_a_high_one_all_alike() -> None:
    cosines = np.cos(negatives.angles(8))
    assert cosines[:2] == pytest.approx([0.8, 0.6])
    assert negatives.push(1.0, cosines).shares[0] == pytest.approx(0.273, abs=0.001)
    assert negatives.push(0.05, cosines).shares[0] == pytest.approx(0.982, abs=0.001)
    np.testing.assert_allclose(negatives.push(1e4, cosines).shares, 1 / 8, atol=1e-4)
    ratio = negatives.push(0.05, cosines).shares
    assert ratio[0] / ratio[1] == pytest.approx(np.exp(0.2 / 0.05))


def test_all_alike_costs_the_log_of_their_number() -> None:
    for count in (1, 8, 64):
        found = negatives.push(0.1, np.full(count, negatives.POSITIVE))
        assert found.loss == pytest.approx(found.chance) == pytest.approx(np.log(1 + count))


@pytest.mark.parametrize("seed", range(4))
def test_a_high_temperature_keeps_classes_and_loses_evenness(seed: int) -> None:
    sharp, soft = (negatives.train(tau, seed) for tau in (0.1, 1.0))
    assert soft.tolerance > sharp.tolerance + 0.1
    assert soft.uniformity > sharp.uniformity + 0.1  # lower is more even


def test_the_caution_holds_that_the_lowest_temperature_is_not_the_most_even() -> None:
    found = {tau: negatives.train(tau).uniformity for tau in negatives.TEMPERATURES}
    assert found[0.05] > found[0.1]
    assert min(found, key=found.get) in (0.1, 0.2)


def test_the_evenest_sphere_is_that_of_drawn_points() -> None:
    points = anisotropy.directions(4_000, seed=5)
    kernel = np.exp(2 * 2 * (points @ points.T - 1))
    drawn = np.log(kernel[~np.eye(len(points), dtype=bool)].mean())
    assert negatives.evenest() == pytest.approx(drawn, abs=0.01)


# --- 3: collapse ------------------------------------------------------------------------------

TOP = np.log(collapse.OUTPUTS)


@pytest.mark.parametrize("seed", range(5))
def test_without_centring_one_output_takes_all(seed: int) -> None:
    run = collapse.train(False, True, seed)
    total, entropy, kl = run.parts[-25:].mean(axis=0)
    assert entropy < 0.01
    assert kl < 0.01
    assert total < 0.01
    assert run.used[-1].max() > 0.99
    assert collapse.ended(run) == "one"
    assert run.told < 0.35  # one cloud of four, and its share of the points


@pytest.mark.parametrize("centring", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_without_sharpening_all_outputs_are_alike(centring: bool, seed: int) -> None:
    run = collapse.train(centring, False, seed)
    _, entropy, kl = run.parts[-25:].mean(axis=0)
    assert entropy > 0.99 * TOP
    assert kl < 0.005
    assert collapse.ended(run) == "uniform"


@pytest.mark.parametrize("seed", range(5))
def test_with_both_neither_happens(seed: int) -> None:
    run = collapse.train(True, True, seed)
    _, entropy, kl = run.parts[-25:].mean(axis=0)
    assert 0.1 < entropy < 0.5 * TOP
    assert kl > 0.3
    assert collapse.ended(run) == "neither"
    if seed == 3:  # what the page says of random start 4
        assert run.used[-1].min() < 0.01
        assert run.told < 0.8
    else:
        assert run.used[-1].min() > 0.15
        assert run.told > 0.95


def test_all_begin_near_the_uniform_teacher_and_a_picture_is_kept_every_25_steps() -> None:
    for arm in collapse.ARMS:
        run = collapse.train(*arm, 0)
        assert run.parts[0, 1] > 0.8 * TOP
        assert run.plane.shape == (21, collapse.GRID**2, collapse.OUTPUTS)
        np.testing.assert_allclose(run.plane.sum(axis=2), 1)
        np.testing.assert_allclose(run.parts[:, 0], run.parts[:, 1] + run.parts[:, 2])


def test_the_lowest_loss_is_that_of_the_collapse() -> None:
    losses = [collapse.train(*arm, 0).parts[-25:, 0].mean() for arm in collapse.ARMS]
    assert collapse.ARMS[int(np.argmin(losses))] == (False, True)


# --- 4: invariance ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_pull_alone_collapses_and_the_others_do_not(seed: int) -> None:
    for loss in invariance.LOSSES:
        run = invariance.train(loss, invariance.STEPS, seed)
        if loss == "pull":
            assert run.within[-1] < 0.05
            assert run.between[-1] < 0.1
        else:
            assert run.between[-1] > 1.5 > 3 * run.within[-1]
            assert run.word[-1] > 0.95
    ends = [
        invariance.train(loss, invariance.STEPS, seed).between[-1] for loss in ("barlow", "triplet")
    ]
    assert ends[0] == pytest.approx(ends[1], abs=0.08)  # without a negative as far as with


@pytest.mark.parametrize("seed", range(3))
def test_who_learns_the_word_forgets_the_voice(seed: int) -> None:
    run = invariance.train("both", invariance.STEPS, seed)
    assert run.voice[0] > 0.55
    assert run.voice[-1] < 0.46
    assert run.word[0] < 0.75 < 0.95 < run.word[-1]


def test_nearest_mean_is_at_chance_for_noise_and_right_for_corners() -> None:
    labels = np.arange(180) % 3
    assert invariance.nearest_mean(toy.corners(3)[labels], labels) == 1
    drawn = [
        invariance.nearest_mean(np.random.default_rng(k).standard_normal((180, 2)), labels)
        for k in range(20)
    ]
    assert np.mean(drawn) == pytest.approx(1 / 3, abs=0.05)


def test_one_start_is_one_start() -> None:
    first, again = (invariance.train("both", 50), invariance.train.__wrapped__("both", 50))
    np.testing.assert_array_equal(first.points, again.points)
    run = collapse.train.__wrapped__(True, True, 0)
    np.testing.assert_array_equal(run.parts, collapse.train(True, True, 0).parts)


# --- 5: intervention --------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [15, 60, 90, 150])
def test_a_projection_moves_by_the_cosine_and_the_unmixed_reading_does_not(degrees: int) -> None:
    cosine = np.cos(np.deg2rad(degrees))
    assert intervention.moved(degrees, "projected", voice=1) == pytest.approx((cosine, 1))
    assert intervention.moved(degrees, "projected", words=2) == pytest.approx((2, 2 * cosine))
    assert intervention.moved(degrees, "unmixed", voice=1) == pytest.approx((0, 1), abs=1e-9)
    x = intervention.mixed(0.7, -0.3, degrees)
    assert intervention.read(x, degrees, "unmixed") == pytest.approx((0.7, -0.3))


def test_two_sample_clips_move_spaces_as_their_vectors_say() -> None:
    clips = speech.load("samples")
    assert len(clips.clip) == 6
    x = anisotropy.unit(clips.vectors["content"])
    far = [
        1 - x[i] @ x[j]
        for i in range(6)
        for j in range(i)
        if clips.voice[i] != clips.voice[j] and clips.words[i] != clips.words[j]
    ]
    assert len(far) == 6
    found = intervention.distances(0, 2)["content"]
    assert found == pytest.approx((1 - x[0] @ x[2]) / np.mean(far))
    assert intervention.distances(0, 0) == pytest.approx(dict.fromkeys(speech.SPACES, 0), abs=1e-9)
    assert intervention.changed(0, 1) == {"words"}
    assert intervention.changed(0, 2) == {"voice"}
    assert intervention.changed(1, 1) == set()


def test_what_the_page_says_of_speech_is_so() -> None:
    grid = speech.load()
    pairs = speech.pairs(grid)
    sizes = {kind: len(found) for kind, found in pairs.items()}
    assert sizes == {"same words": 8 * 66, "same voice": 12 * 28, "unrelated": 66 * 56}
    raw = {kind: speech.cosines(grid.vectors["raw"], of).mean() for kind, of in pairs.items()}
    assert raw["same voice"] > 0.9 > 0.7 > raw["unrelated"] > 0.6
    centred = anisotropy.remedied(grid.vectors["raw"], "centred")
    assert abs(speech.cosines(centred, pairs["unrelated"]).mean()) < 0.1
    voice, words = intervention.average("voice"), intervention.average("words")
    assert voice["speaker"] > voice["content"] > 0.3  # it leaks, and less than the speaker's
    assert words["content"] > 3 * words["speaker"]
    told = speech.told()
    assert told["content"]["words"] > told["raw"]["words"]
    assert told["content"]["voice"] < told["raw"]["voice"]


def test_the_shipped_vectors_are_those_of_the_shipped_encoders() -> None:
    from refine.encoders import peek

    for space, fingerprint in speech.fingerprints().items():
        name = "mini" if space == "raw" else "mini-interventional"
        assert peek(name).fingerprint == fingerprint, (
            f"{name} has changed: run tools/make_lesson_speech.py"
        )


def test_the_shipped_vectors_can_be_made_again() -> None:
    from refine.corpus import open_corpus
    from tools.make_lesson_speech import vectors

    clips = speech.load("samples")
    made = vectors(open_corpus("samples"), list(clips.clip))
    for space in speech.SPACES:
        scale = np.abs(clips.vectors[space]).max()
        np.testing.assert_allclose(made[space], clips.vectors[space], atol=2e-3 * scale)


# --- refusals ---------------------------------------------------------------------------------


def test_what_has_no_answer_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    with pytest.raises(ValueError, match="length: got -1"):
        anisotropy.expected(-1)
    with pytest.raises(ValueError, match="dim: got 4"):
        anisotropy.expected(1, 4)
    with pytest.raises(ValueError, match="temperature: got 0"):
        negatives.push(0, np.zeros(3))
    with pytest.raises(ValueError, match="negatives: got 0"):
        negatives.angles(0)
    with pytest.raises(ValueError, match="angle: got 180"):
        intervention.axes(180)
    monkeypatch.setattr(speech, "FILE", tmp_path / "speech.npz")
    speech.load.cache_clear()
    with pytest.raises(ValueError, match="make them again with tools/make_lesson_speech"):
        speech.load()
