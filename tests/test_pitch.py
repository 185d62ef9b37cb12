"""The fundamental: of known signals, of nothing, and beside mains hum."""

import numpy as np
import pytest
import speech

from refine.pitch import HOP_S, fundamental


def pulses(hz, seconds=0.6):
    """A train of pulses through one resonance, as a throat makes them."""
    t = np.arange(round(seconds * speech.RATE)) / speech.RATE
    phase = np.cumsum(np.broadcast_to(hz, t.shape)) / speech.RATE
    train = np.diff(np.floor(phase), prepend=0.0)
    ring = np.exp(-t * 400) * np.sin(2 * np.pi * 600 * t)
    return (0.3 * np.convolve(train, ring)[: len(t)]).astype(np.float32)


@pytest.mark.parametrize("hz", [70, 110, 200, 330, 480])
def test_the_pitch_of_a_pulse_train_is_found(hz):
    found = fundamental(pulses(hz))[10:-10]
    assert (found > 0).mean() > 0.95
    assert np.median(found[found > 0]) == pytest.approx(hz, rel=0.01)


def test_a_glide_is_followed_frame_by_frame():
    hz = np.geomspace(120, 240, round(speech.RATE))
    found = fundamental(pulses(hz, 1.0))
    middle = np.arange(20, len(found) - 20)
    truth = hz[np.rint(middle * HOP_S * speech.RATE).astype(int)]
    assert np.abs(np.log2(found[middle] / truth)).max() < 0.03


def test_noise_and_silence_have_none():
    assert (fundamental(speech.noise(0.5)) > 0).mean() < 0.1
    assert not fundamental(np.zeros(8000, np.float32)).any()
    assert fundamental(np.zeros(1, np.float32)).shape == (1,)


def test_hum_is_not_taken_for_a_voice():
    spoken = pulses(210)
    hum = speech.tone(0.6, hz=60, level=0.2)
    found = fundamental(spoken + hum)[10:-10]
    assert np.median(found[found > 0]) == pytest.approx(210, rel=0.02)


def test_level_does_not_matter():
    spoken = pulses(150)
    np.testing.assert_allclose(fundamental(spoken), fundamental(0.01 * spoken), rtol=1e-4)


def test_one_value_each_5_ms():
    assert fundamental(np.zeros(801, np.float32)).shape == (11,)
