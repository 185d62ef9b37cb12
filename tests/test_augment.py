"""Augmentations against slow loops, closed forms, and their refusals."""

import math

import numpy as np
import pytest
import torch

from refine import augment
from refine.audio import SAMPLE_RATE


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([1600, 1000, 37])
    waveforms = torch.randn(3, 1600, generator=generator) * 0.1
    waveforms *= torch.arange(1600) < lengths[:, None]
    return waveforms, lengths


def snr(speech, mixed):
    return 10 * math.log10(float(speech.square().sum() / (mixed - speech).square().sum()))


def test_mask_span_hides_one_block_of_a_fifth_of_the_valid_samples(batch):
    waveforms, lengths = batch
    for seed in range(20):
        masked = augment.mask_span(waveforms, lengths, seed)
        for row, original, length in zip(masked, waveforms, lengths.tolist(), strict=True):
            changed = torch.nonzero(row != original).flatten()
            assert len(changed) == int(length * 0.2)
            assert int(changed[-1] - changed[0]) == len(changed) - 1  # contiguous
            assert int(changed[-1]) < length
            assert (row[changed] == 0).all()


def test_mask_start_is_uniform_over_the_first_four_fifths():
    waveforms, lengths = torch.ones(4000, 100), torch.full((4000,), 100)
    start = (augment.mask_span(waveforms, lengths, 0) == 0).int().argmax(-1)
    assert (int(start.min()), int(start.max())) == (0, 80)
    counts = np.bincount(start.numpy(), minlength=81)
    assert ((counts - 4000 / 81) ** 2 / (4000 / 81)).sum() < 125  # chi-square, 80 df, p = 0.001


def test_crop_keeps_a_stretch_and_leaves_a_short_clip_whole(batch):
    waveforms, lengths = batch
    cropped, kept = augment.crop(waveforms, lengths, 500, 3)
    assert kept.tolist() == [500, 500, 37]
    assert cropped.shape == (3, 500)
    windows = waveforms[0].unfold(0, 500, 1)
    assert (windows == cropped[0]).all(-1).sum() == 1
    assert torch.equal(cropped[2, :37], waveforms[2, :37])
    assert (cropped[2, 37:] == 0).all()


def test_crop_reaches_both_ends():
    waveforms = torch.arange(10.0).repeat(500, 1)
    cropped, _ = augment.crop(waveforms, torch.full((500,), 10), 8, 0)
    assert set(cropped[:, 0].tolist()) == {0.0, 1.0, 2.0}


def test_noise_is_mixed_at_the_asked_ratio_over_the_valid_samples(batch):
    waveforms, lengths = batch
    noise = torch.randn(2, 700, generator=torch.Generator().manual_seed(2))
    mixed = augment.add_noise(waveforms, lengths, noise, (7.0, 7.0), 4)
    for row, speech, length in zip(mixed, waveforms, lengths.tolist(), strict=True):
        assert snr(speech[:length], row[:length]) == pytest.approx(7.0, abs=1e-3)
        assert (row[length:] == 0).all()


def test_a_pause_in_the_noise_gives_no_infinite_sample(batch):
    waveforms, lengths = batch
    noise = torch.zeros(1, 5000)
    noise[0, -1] = 1.0
    mixed = augment.add_noise(waveforms, lengths, noise, (0.0, 20.0), 4)
    assert torch.isfinite(mixed).all()


def test_reverberation_equals_a_slow_convolution_and_keeps_the_direct_path(batch):
    waveforms, lengths = batch
    room = torch.tensor([[0.1, -0.5, 0.25, 0.05]])  # direct path at tap 1, inverted
    wet = augment.reverberate(waveforms, lengths, room, 0)
    for row, speech, length in zip(wet, waveforms, lengths.tolist(), strict=True):
        slow = np.convolve(speech[:length].numpy(), room[0].numpy() / -0.5)[1 : length + 1]
        np.testing.assert_allclose(row[:length].numpy(), slow, atol=1e-6)
        assert (row[length:] == 0).all()


def test_an_anechoic_room_changes_nothing(batch):
    waveforms, lengths = batch
    dry = augment.reverberate(waveforms, lengths, torch.tensor([[0.0, 0.3, 0.0]]), 0)
    torch.testing.assert_close(dry, waveforms, atol=1e-6, rtol=0)


def test_speed_moves_a_tone_and_shortens_the_clip():
    seconds = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = torch.sin(2 * math.pi * 1000 * seconds)[None]
    fast, lengths = augment.speed(tone, torch.tensor([SAMPLE_RATE]), [1.25], 0)
    assert lengths.tolist() == [SAMPLE_RATE * 4 // 5]
    spectrum = torch.fft.rfft(fast[0]).abs()
    assert int(spectrum.argmax()) * SAMPLE_RATE / lengths.item() == pytest.approx(1250, abs=2)


def test_the_same_seed_gives_the_same_change_and_the_input_stays(batch):
    waveforms, lengths = batch
    before = waveforms.clone()
    noise, rooms = torch.randn(3, 900), torch.randn(3, 50)
    changes = {
        "mask": lambda seed: augment.mask_span(waveforms, lengths, seed),
        "crop": lambda seed: augment.crop(waveforms, lengths, 500, seed)[0],
        "noise": lambda seed: augment.add_noise(waveforms, lengths, noise, (0.0, 20.0), seed),
        "room": lambda seed: augment.reverberate(waveforms, lengths, rooms, seed),
        "speed": lambda seed: augment.speed(waveforms, lengths, [0.9, 1.0, 1.1], seed)[0],
    }
    for name, change in changes.items():
        assert torch.equal(change(5), change(5)), name
        assert torch.equal(change(5), change(torch.Generator().manual_seed(5))), name
        others = [change(seed) for seed in range(6, 12)]
        assert any(o.shape != change(5).shape or not torch.equal(o, change(5)) for o in others)
    assert torch.equal(waveforms, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, n: augment.mask_span(w, n, 0, share=1.0), "share"),
        (lambda w, n: augment.mask_span(w, n * 0, 0), "lengths"),
        (lambda w, n: augment.mask_span(w, n + 9999, 0), "lengths"),
        (lambda w, n: augment.crop(w, n, 0, 0), "samples"),
        (lambda w, n: augment.add_noise(w, n, torch.zeros(1, 5), (0.0, 1.0), 0), "silent"),
        (lambda w, n: augment.add_noise(w, n, torch.ones(1, 5), (2.0, 1.0), 0), "snr_db"),
        (lambda w, n: augment.reverberate(w, n, torch.zeros(1, 5), 0), "direct path"),
        (lambda w, n: augment.speed(w, n, [9.0], 0), "factors"),
    ],
)
def test_senseless_input_is_refused_by_name(batch, change, message):
    with pytest.raises(ValueError, match=message):
        change(*batch)


def test_noise_that_is_all_but_silent_somewhere_stays_finite():
    sound = torch.full((1, 4000), 1e-30)
    clips, lengths = torch.randn(3, 2000), torch.tensor([2000, 1500, 1000])
    mixed = augment.add_noise(clips, lengths, sound, (5.0, 5.0), seed=0)
    assert torch.isfinite(mixed).all()
    assert (mixed[2, 1000:] == clips[2, 1000:]).all()
