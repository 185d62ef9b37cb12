"""Noise and rooms: shares, ratios, what is made and what is recorded, refusals."""

import numpy as np
import pytest
import speech
import torch

from refine import paths, surroundings
from refine.corpus import CorpusError, open_corpus
from refine.surroundings import Surroundings

MADE = {"noise": "made", "rooms": "made"}


@pytest.fixture
def corpus(tone_corpus):
    return open_corpus(tone_corpus)


def clips(n=200, samples=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, samples, generator=generator) * 0.1, torch.full((n,), samples)


def test_made_surroundings_need_no_recordings_and_repeat(corpus):
    one, two = (surroundings.of(corpus, **MADE, seed=3) for _ in range(2))
    assert set(one.sounds) == {"noise", "babble"}
    assert set(one.rooms) == {"small", "medium"}
    for kind in one.sounds:
        assert torch.equal(one.sounds[kind], two.sounds[kind])
    other = surroundings.of(corpus, **MADE, seed=4)
    assert not torch.equal(one.rooms["small"], other.rooms["small"])


def test_a_room_dies_away_and_keeps_the_direct_path_first(corpus):
    rooms = surroundings.of(corpus, **MADE).rooms
    for room in (*rooms["small"], *rooms["medium"]):
        assert float(room[0]) == 1 == float(room.abs().max())
        energy = room[1:].square()
        early, late = (float(part.sum()) for part in (energy[: len(room) // 2], energy[-800:]))
        assert late < 0.1 * early
    length = [float(rooms[size].square()[:, 2000:].sum()) for size in ("small", "medium")]
    assert length[1] > length[0]


def test_shares_are_kept_and_each_clip_has_its_own(corpus):
    waveforms, lengths = clips()
    around = surroundings.of(corpus, **MADE, noise_share=0.7, room_share=0.0)
    changed = around.add(waveforms, lengths, 0)
    share = float((changed != waveforms).any(1).float().mean())
    assert abs(share - 0.7) < 4 * np.sqrt(0.7 * 0.3 / len(waveforms))
    added = (changed - waveforms)[(changed != waveforms).any(1)]
    cosine = torch.nn.functional.cosine_similarity(added[0], added[1:])
    assert float(cosine.abs().max()) < 0.9


def test_ratios_lie_in_the_ranges_of_the_paper(corpus):
    waveforms, lengths = clips()
    around = surroundings.of(corpus, **MADE, noise_share=1.0, room_share=0.0)
    added = around.add(waveforms, lengths, 0) - waveforms
    ratio = 10 * torch.log10(waveforms.square().sum(1) / added.square().sum(1))
    assert float(ratio.min()) > -0.1
    assert float(ratio.max()) < 18.1
    assert surroundings.SNR_DB == {"noise": (0, 18), "music": (3, 18), "babble": (3, 18)}
    assert (surroundings.NOISE_SHARE, surroundings.ROOM_SHARE) == (0.7, 0.45)


def test_padding_stays_silent_and_the_input_is_not_touched(corpus):
    waveforms, lengths = clips(8)
    lengths = torch.tensor([4000, 3000, 2000, 1000] * 2)
    waveforms = waveforms * (torch.arange(4000)[None] < lengths[:, None])
    kept = waveforms.clone()
    around = surroundings.of(corpus, **MADE, noise_share=1.0, room_share=1.0)
    changed = around.add(waveforms, lengths, 0)
    assert torch.equal(waveforms, kept)
    assert torch.isfinite(changed).all()
    for row, length in zip(changed, lengths.tolist(), strict=True):
        assert (row[length:] == 0).all()


def test_none_at_all_changes_nothing(corpus):
    waveforms, lengths = clips(4)
    around = surroundings.of(corpus, noise_share=0.0, room_share=0.0)
    assert torch.equal(around.add(waveforms, lengths, 0), waveforms)
    assert around == Surroundings({}, {}, 0.0, 0.0)


def test_recorded_sounds_come_from_the_train_split(corpus, tmp_path):
    rows = [("path", "split")]
    for number, split in enumerate(("train", "train", "test")):
        speech.write(tmp_path / "hum" / f"{number}.wav", speech.tone(0.5, 300 + 100 * number))
        rows.append((f"{number}.wav", split))
    speech.write_csv(tmp_path / "hum" / "clips.csv", rows)
    around = surroundings.of(corpus, noise=str(tmp_path / "hum"), rooms="made")
    assert around.sounds["noise"].shape == (2, 80_000)  # repeated to 5 s


def test_music_beside_the_noise_is_a_kind_of_its_own(corpus, tmp_path):
    for kind in ("noise", "music"):
        speech.clips(tmp_path / kind, "a.wav", "b.wav")
    around = surroundings.of(corpus, noise=str(tmp_path / "noise"), rooms="made")
    assert set(around.sounds) == {"noise", "music", "babble"}


def test_a_folder_without_sound_is_refused(corpus, tmp_path):
    with pytest.raises(CorpusError, match="no such folder"):
        surroundings.of(corpus, noise=str(tmp_path / "nowhere"))


@pytest.mark.recorded
def test_the_recorded_speech_brings_noise_and_rooms(corpus):
    around = surroundings.of(corpus)
    assert (paths.speech() / "noise").is_dir()
    assert len(around.sounds["noise"]) > 30
    assert len(around.rooms["real"]) == 6
