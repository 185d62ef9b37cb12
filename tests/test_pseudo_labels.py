"""Pseudo labels: clusters of known groups, their quality, rounds of training on them."""

import numpy as np
import pytest

from refine import encoders, pseudo_labels
from refine.corpus import open_corpus
from refine.encoders import speaker
from refine.pseudo_labels import ClusterError, Clustering, Rounds, cluster, nmi, purity, rounds

LOOSE = Clustering(threshold=0.5, smallest=4, largest=100, per_precluster=4.0)


def groups(n=8, size=20, dim=16, noise=0.1, seed=0):
    """`n` directions with `size` vectors around each, and which direction each is of."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.standard_normal((dim, dim)))[0][:n]
    truth = np.repeat(np.arange(n), size)
    return centres[truth] + noise * random.standard_normal((n * size, dim)), truth.astype(str)


def test_the_defaults_are_the_public_recipes():
    assert (Clustering().variance, Clustering().threshold) == (0.99, 0.8)
    assert (Clustering().smallest, Clustering().largest) == (8, 50)
    paper = Rounds()
    assert paper.later_threshold == 0.6
    assert (paper.last_rate, paper.last_epochs, paper.all_rate, paper.all_epochs) == (
        0.1, 30, 0.01, 70,
    )  # fmt: skip
    assert (paper.margin, paper.margin_epochs, paper.inter_margin, paper.subcentres) == (
        0.2, 10, 0.1, 2,
    )  # fmt: skip
    assert (paper.batch_size, paper.weight_decay, paper.seconds) == (256, 2e-5, 4)


def test_clear_groups_are_found_whatever_the_order():
    x, truth = groups()
    labels = cluster(x, LOOSE)
    assert len(set(labels)) == 8
    assert purity(labels, truth) == nmi(labels, truth) == 1.0
    order = np.random.default_rng(1).permutation(len(x))
    assert nmi(cluster(x[order], LOOSE), truth[order]) == pytest.approx(1.0)


def test_lengths_do_not_count_and_a_seed_repeats():
    x, truth = groups()
    scaled = x * np.random.default_rng(0).uniform(1, 1.1, (len(x), 1))
    assert nmi(cluster(scaled, LOOSE), truth) == pytest.approx(1.0)
    assert cluster(x, LOOSE).tolist() == cluster(x, LOOSE).tolist()


def test_small_and_large_clusters_are_left_out():
    x, truth = groups()
    kept = np.concatenate([np.flatnonzero(truth == "0")[:3], np.flatnonzero(truth != "0")])
    labels = cluster(x[kept], LOOSE)
    assert (labels[:3] == -1).all()
    assert set(labels[3:]) == set(range(7))
    both = np.concatenate([x, x[truth == "1"] * 1.01])
    labels = cluster(both, Clustering(threshold=0.5, smallest=4, largest=30))
    assert (labels[np.append(truth, ["1"] * 20) == "1"] == -1).all()


def test_a_lower_threshold_joins_more():
    x, _ = groups(noise=0.25)
    counts = [
        cluster(x, Clustering(threshold=t, smallest=1, largest=10**6)).max() for t in (0.9, 0.5)
    ]
    assert counts[0] > counts[1]


def test_purity_and_nmi_by_hand():
    labels, truth = [0, 0, 0, 1, 1, -1, 1], ["a", "a", "b", "b", "b", "a", ""]
    assert purity(labels, truth) == pytest.approx(4 / 5)
    assert nmi([0, 0, 1, 1], ["a", "b", "a", "b"]) == pytest.approx(0.0, abs=1e-9)
    joint = np.array([[2, 1], [0, 2]]) / 5  # clusters x classes
    p, q = joint.sum(1), joint.sum(0)
    mutual = sum(
        joint[i, j] * np.log(joint[i, j] / p[i] / q[j])
        for i in range(2) for j in range(2) if joint[i, j]
    )  # fmt: skip
    entropy = -(p @ np.log(p)) - (q @ np.log(q))
    assert nmi(labels, truth) == pytest.approx(2 * mutual / entropy)


@pytest.mark.parametrize(
    ("x", "how", "message"),
    [
        (np.ones((1, 3)), LOOSE, "at least 2 finite vectors; got 1"),
        (np.full((9, 3), np.nan), LOOSE, "finite"),
        (np.random.default_rng(0).standard_normal((40, 16)), Clustering(threshold=0.99),
         r"0 of \d+ clusters have 8 to 50 clips"),
    ],
)  # fmt: skip
def test_nothing_to_cluster_is_refused(x, how, message):
    with pytest.raises(ClusterError, match=message):
        cluster(x, how)


def test_quality_without_truth_is_refused():
    with pytest.raises(ClusterError, match="no clip has both"):
        purity([-1, 0], ["a", ""])
    with pytest.raises(ClusterError, match="got 1 labels for 2 clips"):
        nmi([0], ["a", "b"])


def test_rounds_train_the_encoder_on_its_own_clusters(tone_corpus, tmp_path):
    clips = open_corpus(tone_corpus).subset("train")
    encoder = speaker.build("ecapa_tdnn", channels=8, dim=12, pooling="stats")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    settings = Rounds(
        first=Clustering(threshold=0.0, smallest=2, largest=20), later_threshold=0.0,
        last_epochs=1, all_epochs=1, margin_epochs=1, seconds=0.3, batch_size=8,
    )  # fmt: skip
    history = rounds(encoder, clips, settings, tmp_path / "runs", truth=clips.speakers)
    assert [row["round"] for row in history] == [1, 2]
    for row in history:
        assert row["clusters"] >= 2
        assert row["kept"] <= row["of"] == len(clips.table)
        assert 0 < row["purity"] <= 1
        assert 0 <= row["nmi"] <= 1
    assert any(not torch_equal(before[n], v) for n, v in encoder.state_dict().items())
    told = encoders.peek(history[-1]["encoder"]).refinement
    assert told["recipe"] == "pseudo_labels"
    assert told["round"]["clusters"] == history[-1]["clusters"]
    names = sorted(path.name.split("-", 2)[2] for path in (tmp_path / "runs").iterdir())
    assert names == ["round-1-all", "round-1-last", "round-2-all", "round-2-last"]


def test_the_first_stage_moves_the_last_layers_alone(tone_corpus, tmp_path):
    clips = open_corpus(tone_corpus).subset("train")
    encoder = speaker.build("ecapa_tdnn", channels=8, dim=12, pooling="stats")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    from refine import runs, supervised

    stage = pseudo_labels._stage(Rounds(last_epochs=1, seconds=0.3, batch_size=8), "last")
    run = runs.create({"command": "train", "recipe": "x"}, tmp_path)
    supervised.train(encoder, clips, clips.speakers, stage, run)
    moved = {n for n, v in encoder.state_dict().items() if not torch_equal(before[n], v)}
    assert moved
    assert all(name.startswith(("model.embedding", "model.output")) for name in moved)


def torch_equal(one, two):
    import torch

    return torch.equal(one, two)
