"""Triplets: classes take turns, positives change the speaker, a step follows from its number."""

from collections import Counter

import numpy as np
import pytest

from refine.triplets import Sampler

LABELS = np.array(["joy"] * 12 + ["rage"] * 5 + ["calm"] * 3)
SPEAKERS = np.array([f"s{i % 3}" for i in range(20)])


def sampler(**changes):
    given = {"batch_size": 6, "seed": 1} | changes
    return Sampler(given.pop("labels", LABELS), given.pop("groups", SPEAKERS), **given)


@pytest.mark.parametrize("roles", ["apart", "shared"])
@pytest.mark.parametrize("negatives", ["any", "same"])
def test_a_positive_is_of_the_class_and_a_negative_of_another(roles, negatives):
    made = sampler(roles=roles, negatives=negatives)
    for step in range(1, 40):
        found = made.draw(step)
        a, p, n = (found.rows[role] for role in (found.anchor, found.positive, found.negative))
        assert (LABELS[a] == LABELS[p]).all()
        assert (LABELS[a] != LABELS[n]).all()
        assert (a != p).all()
        assert len(found.starts) == len(found.rows)
        assert ((found.starts >= 0) & (found.starts < 1)).all()


@pytest.mark.parametrize("roles", ["apart", "shared"])
def test_classes_take_turns_whatever_their_size(roles):
    made = sampler(roles=roles)
    anchors = np.concatenate([made.draw(s).rows[made.draw(s).anchor] for s in range(1, 31)])
    assert Counter(LABELS[anchors]) == {"joy": 60, "rage": 60, "calm": 60}
    for label in ("joy", "rage", "calm"):  # and within a class no clip is forgotten
        counts = Counter(anchors[LABELS[anchors] == label])
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_step_follows_from_seed_and_step_alone():
    one, two, other = sampler(), sampler(), sampler(seed=2)
    one.draw(1), one.draw(7)
    for left, right in zip(one.draw(3), two.draw(3), strict=True):
        assert left.tolist() == right.tolist()
    assert one.draw(3).rows.tolist() != other.draw(3).rows.tolist()
    assert one.draw(3).rows.tolist() != one.draw(4).rows.tolist()


def test_apart_has_three_clips_a_triplet_and_shared_about_one():
    apart, shared = sampler().draw(5), sampler(roles="shared").draw(5)
    assert len(apart.rows) == 18
    assert np.concatenate([apart.anchor, apart.positive, apart.negative]).tolist() == [*range(18)]
    assert len(shared.anchor) == 6
    assert 6 <= len(shared.rows) <= 8
    assert set(shared.positive) | set(shared.negative) <= set(range(len(shared.rows)))


def test_positives_change_the_speaker_where_they_can():
    made = sampler()
    for step in range(1, 30):
        found = made.draw(step)
        assert (SPEAKERS[found.rows[found.anchor]] != SPEAKERS[found.rows[found.positive]]).all()
    alone = sampler(groups=np.array(["one"] * 20)).draw(1)  # nobody else: the same speaker will do
    assert (alone.rows[alone.anchor] != alone.rows[alone.positive]).all()


def test_an_unknown_speaker_is_nobody_elses():
    made = sampler(groups=np.array([""] * 20))
    assert len(set(made.groups)) == 20


def test_negatives_of_the_same_speaker_where_they_can():
    made = sampler(negatives="same")
    found = made.draw(2)
    assert (SPEAKERS[found.rows[found.anchor]] == SPEAKERS[found.rows[found.negative]]).all()


def test_negatives_are_drawn_by_class_first():
    made = sampler(labels=np.array(["a"] * 2 + ["b"] * 2 + ["c"] * 16), batch_size=30)
    drawn = Counter()
    for step in range(1, 41):
        found = made.draw(step)
        anchors = made.labels[found.rows[found.anchor]]
        drawn.update(made.labels[found.rows[found.negative]][anchors == 0])
    assert drawn[0] == 0
    assert abs(drawn[1] / (drawn[1] + drawn[2]) - 0.5) < 4 * 0.5 / np.sqrt(drawn.total())


def test_two_clips_of_one_class_meet_in_a_shared_step_even_with_many_classes():
    labels = np.repeat([f"w{i:02}" for i in range(40)], 3)
    made = Sampler(labels, None, batch_size=8, seed=0, roles="shared")
    for step in range(1, 60):
        found = made.draw(step)
        assert len(found.rows) == len(set(found.rows)) == 8
        assert len(set(labels[found.rows])) >= 3


@pytest.mark.parametrize(
    ("labels", "changes", "told"),
    [
        (["a", "a", "a"], {}, "two classes or more; got"),
        (["a", "a", "b"], {}, "b: one clip, so it has no positive"),
        (["a", "a", "b", "b"], {"batch_size": 1}, "batch_size: got 1; a step needs two classes"),
        (["a", "a", "b", "b"], {"batch_size": 2, "roles": "shared"}, "batch_size: got 2"),
    ],
)
def test_what_has_no_triplets_is_refused(labels, changes, told):
    with pytest.raises(ValueError, match=told):
        Sampler(labels, None, **({"batch_size": 4} | changes))
