"""Multi-crop views: chunks, starts, surroundings of their own, a function of seed and step."""

import numpy as np
import pytest
import speech
import torch

from refine import surroundings
from refine.corpus import CorpusError, open_corpus
from refine.crops import CropSource
from refine.surroundings import Surroundings

QUIET = Surroundings({}, {}, 0.0, 0.0)


@pytest.fixture
def ramps(tmp_path):
    """Ten clips of 1 to 2 s whose samples rise: a sample tells its place, its clip the slope."""
    for number in range(10):
        seconds = 1 + number / 9
        wave = np.linspace(0.1, 0.8, round(seconds * 16_000), dtype=np.float32)
        speech.write(tmp_path / "ramps" / f"{number}.wav", wave)
    return open_corpus(tmp_path / "ramps")


def source_of(corpus, around=QUIET, **changes):
    return CropSource(corpus, around, **{"long_seconds": 0.5, "short_seconds": 0.25} | changes)


def starts(chunks, samples):
    """Where chunks of a ramp from 0.1 to 0.8 begin, in samples."""
    return (chunks[:, 0].numpy() - 0.1) / 0.7 * (samples - 1)


def test_two_long_and_four_short_chunks_view_by_view(ramps):
    crops = source_of(ramps).batch(1, 4)
    assert crops.long.shape == (2 * 4, 8000)
    assert crops.short.shape == (4 * 4, 4000)
    assert crops.audio_s == pytest.approx(4 * (2 * 0.5 + 4 * 0.25))
    assert len(crops.rows) == 4
    # row v * batch + i is view v of utterance i: the slope of a ramp tells its clip
    for chunks, views in ((crops.long, 2), (crops.short, 4)):
        slopes = (chunks[:, -1] - chunks[:, 0]) / chunks.shape[1]
        for row, clip in enumerate(np.tile(crops.rows, views)):
            whole = ramps.table["duration_s"][clip] * 16_000
            assert float(slopes[row]) == pytest.approx(0.7 / whole, rel=0.01)


def test_starts_are_independent_and_uniform(ramps):
    source = source_of(ramps, long_seconds=0.5, seed=1)
    found = []
    for step in range(1, 120):
        crops = source.views(np.array([9]), step)
        found.append([*starts(crops.long, 32_000), *starts(crops.short, 32_000)])
    found = np.array(found)  # (steps, views)
    long, short = found[:, :2] / 24_000, found[:, 2:] / 28_000
    for column in (*long.T, *short.T):
        assert abs(column.mean() - 0.5) < 4 / np.sqrt(12 * len(column))
        assert column.min() < 0.1
        assert column.max() > 0.9
    correlation = np.corrcoef(found.T) - np.eye(6)
    assert np.abs(correlation).max() < 0.4


def test_long_chunks_can_be_made_to_lie_apart(ramps):
    def gap(share):
        source = source_of(ramps, spread_share=share)
        crops = [source.views(np.array([9]), step) for step in range(1, 100)]
        return np.mean([abs(np.diff(starts(c.long, 32_000)))[0] for c in crops]) / 24_000

    assert gap(0.0) == pytest.approx(1 / 3, abs=0.08)  # of two uniform numbers
    assert gap(1.0) == pytest.approx(2 / 3, abs=0.08)  # of the ends of five


def test_a_clip_shorter_than_a_chunk_stays_whole(ramps):
    source = source_of(ramps, long_seconds=1.5, short_seconds=1.2)
    crops = source.views(np.array([0, 9]), 1)
    assert crops.long_lengths.tolist() == [16_000, 24_000] * 2
    assert crops.short_lengths.tolist() == [16_000, 19_200] * 4
    assert (crops.long[0, 16_000:] == 0).all()


def test_every_view_has_surroundings_of_its_own(ramps):
    noise = surroundings.of(ramps, "made", "made").sounds["noise"][::3]  # the white ones
    around = Surroundings({"noise": noise}, {}, 1.0, 0.0)
    plain, noisy = source_of(ramps), source_of(ramps, around)
    rows = np.array([0, 1])
    for name in ("long", "short"):
        clean, loud = (getattr(s.views(rows, 1), name) for s in (plain, noisy))
        added = loud - clean
        cosines = torch.nn.functional.cosine_similarity(added[:, None], added[None], dim=-1)
        assert float((cosines - torch.eye(len(cosines))).abs().max()) < 0.9


def test_a_batch_depends_on_seed_and_step_alone(ramps):
    around = surroundings.of(ramps, "made", "made")
    one, two = source_of(ramps, around), source_of(ramps, around)
    for step in (1, 2, 3, 4):
        one.batch(step, 3)
    ours, theirs = one.batch(5, 3), two.batch(5, 3)
    assert torch.equal(ours.long, theirs.long)
    assert torch.equal(ours.short, theirs.short)
    assert ours.rows.tolist() == theirs.rows.tolist()
    other = source_of(ramps, around, seed=1).batch(5, 3)
    assert not torch.equal(ours.long, other.long)
    back = one.batch(2, 3)  # not the one that was made ahead
    assert torch.equal(back.long, two.batch(2, 3).long)


def test_an_epoch_meets_every_clip_at_most_once(ramps):
    source = source_of(ramps)
    assert source.steps_per_epoch(3) == 3
    met = np.concatenate([source.rows(step, 3) for step in (1, 2, 3)])
    assert len(set(met)) == 9
    assert source.rows(4, 3).tolist() != source.rows(1, 3).tolist()
    assert sorted(source.rows(1, 99)) == list(range(10))
    assert source.steps_per_epoch(99) == 1


def test_processes_share_a_batch(ramps):
    whole = source_of(ramps).rows(2, 5)
    parts = [source_of(ramps, rank=rank, processes=2).batch(2, 5).rows for rank in (0, 1)]
    assert sorted(np.concatenate(parts)) == sorted(whole)
    assert [len(part) for part in parts] == [3, 2]


def test_one_long_chunk_serves_supervised_training(ramps):
    crops = source_of(ramps, long_views=1, short_views=0).batch(1, 4)
    assert crops.long.shape == (4, 8000)
    assert crops.short.shape == (0, 0)
    assert crops.audio_s == pytest.approx(2.0)


def test_what_stays_in_memory_changes_nothing(ramps, monkeypatch):
    monkeypatch.setattr("refine.crops.KEPT_SAMPLES", 0)
    forgetful = source_of(ramps)
    assert torch.equal(forgetful.batch(1, 4).long, source_of(ramps).batch(1, 4).long)
    assert not forgetful._kept


def test_chunks_longer_than_every_clip_are_refused(ramps):
    with pytest.raises(CorpusError, match=r"long_seconds is 3, but the longest clip has 2.0 s"):
        source_of(ramps, long_seconds=3.0)
