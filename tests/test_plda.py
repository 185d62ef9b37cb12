"""PLDA: scores against the two Gaussians of SciPy, recovery of a known model, refusals."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, ortho_group
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from refine.metrics import plda, verification


def voices(speakers=60, each=8, d=6, seed=0, noise=None):
    """Speakers along few directions, clips disturbed along the others."""
    rng = np.random.default_rng(seed)
    spread = np.array([2.0, 1.5, 1, 0.1, 0.1, 0.1])[:d]
    noise = np.array([0.5, 0.5, 1, 2, 3, 4])[:d] if noise is None else noise
    who = np.repeat(np.arange(speakers), each)
    x = (rng.normal(size=(speakers, d)) * spread)[who] + rng.normal(size=(len(who), d)) * noise
    return x + 5, who.astype(str)


def test_scores_are_the_log_likelihood_ratio():
    x, who = voices()
    model = plda.fit(x, who, dim=4)
    trials = verification.trials_from_factor(who, limit=40)
    z = model.transform(x)
    b, k = np.diag(model.between), 4
    joint = np.block([[np.eye(k) + b, b], [b, np.eye(k) + b]])
    slow = [
        multivariate_normal(np.zeros(2 * k), joint).logpdf(np.concatenate([z[i], z[j]]))
        - multivariate_normal(np.zeros(k), np.eye(k) + b).logpdf(z[[i, j]]).sum()
        for i, j in zip(trials.left, trials.right, strict=True)
    ]
    np.testing.assert_allclose(model.scores(x, trials), slow, rtol=1e-8)


def test_in_its_own_coordinates_clips_have_unit_spread():
    x, who = voices(400)
    model = plda.fit(x, who, dim=3)
    within, between = plda._covariances(model.transform(x), np.unique(who, return_inverse=True)[1])
    np.testing.assert_allclose(within, np.eye(3), atol=0.02)
    np.testing.assert_allclose(between, np.diag(model.between), atol=0.02)
    assert (np.diff(model.between) <= 0).all()


def test_covariances_of_unequal_speakers_are_recovered():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(3000), rng.integers(2, 8, size=3000))
    b, w = np.diag([4.0, 1]), np.array([[2.0, 0.5], [0.5, 1]])
    x = rng.multivariate_normal([0, 0], b, size=3000)[who]
    x = x + rng.multivariate_normal([0, 0], w, size=len(who))
    within, between = plda._covariances(x, who)
    np.testing.assert_allclose(within, w, atol=0.1)
    np.testing.assert_allclose(between, b, atol=0.3)


def test_lda_spans_scikit_learns_directions():
    x, who = voices(30, 20)
    model = plda.fit(x, who, dim=2)
    theirs = LinearDiscriminantAnalysis("eigen", shrinkage=None).fit(x, who).scalings_[:, :2]
    ours, theirs = (np.linalg.qr(basis)[0] for basis in (model.lda, theirs))
    assert np.linalg.svd(ours.T @ theirs)[1] == pytest.approx([1, 1], abs=0.02)


def test_beats_cosine_where_noise_is_louder_than_voices():
    x, who = voices(seed=1)
    test, names = voices(30, seed=2)
    trials = verification.trials_from_factor(names)
    model = plda.fit(x, who, dim=4)
    cosine = verification.eer(verification.cosine_scores(test - 5, trials), trials.target)
    assert verification.eer(model.scores(test, trials), trials.target) < cosine - 0.05


def test_rotation_scale_and_shift_do_not_matter():
    x, who = voices()
    trials = verification.trials_from_factor(who, limit=200)
    expected = plda.fit(x, who, dim=4).scores(x, trials)
    # the shrinkage is a share of the mean variance, which a rotation and a scale keep
    changed = 3 * x @ ortho_group.rvs(6, random_state=0) + 1
    np.testing.assert_allclose(
        plda.fit(changed, who, dim=4).scores(changed, trials), expected, atol=1e-6
    )
    named = [f"voice {name}" for name in who]
    np.testing.assert_allclose(plda.fit(x, named, dim=4).scores(x, trials), expected, atol=1e-9)


def test_more_dimensions_than_clips():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(10), 3)
    x = rng.normal(size=(10, 100))[who] + 0.5 * rng.normal(size=(30, 100))
    trials = verification.trials_from_factor(who)
    assert np.isfinite(plda.fit(x, who).scores(x, trials)).all()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x, who: plda.fit(x, ["a"] * len(x)), "two speakers or more"),
        (lambda x, who: plda.fit(x, np.arange(len(x)).astype(str)), "got 0 of 480 speakers"),
        (lambda x, who: plda.fit(x, who, dim=7), "dim: got 7; 60 speakers in 6 dimensions"),
        (lambda x, who: plda.fit(x[1:], who), "for 480 speakers"),
        (lambda x, who: plda.fit(np.where(x > 9, np.nan, x), who), "finite vectors"),
        (lambda x, who: plda.fit(x, who).transform(x[:, 1:]), "vectors of 6 dimensions"),
    ],
)
def test_refuses(call, told):
    with pytest.raises(verification.VerificationError, match=told):
        call(*voices())
