"""The picture of a sound: a tone sits where it should, a long clip stays small."""

import numpy as np
import pytest

from refine.audio import SAMPLE_RATE
from refine.spectrogram import FLOOR, envelope, log_mel


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


@pytest.mark.parametrize("hertz", [200, 440, 1_000, 4_000])
def test_a_tone_is_brightest_at_its_frequency(hertz):
    decibel, times, centres = log_mel(tone(hertz))
    loudest = centres[decibel[:, 10:-10].mean(axis=1).argmax()]
    assert abs(loudest - hertz) < 0.06 * hertz + 25
    assert times[1] == pytest.approx(0.01)


def test_gain_changes_nothing_and_the_range_is_stated():
    quiet, _, _ = log_mel(tone(500) * 0.01)
    loud, _, _ = log_mel(tone(500))
    np.testing.assert_allclose(quiet, loud, atol=1e-2)
    assert loud.max() == 0
    assert loud.min() >= FLOOR


def test_silence_after_a_click_is_at_the_right_time():
    waveform = np.zeros(SAMPLE_RATE, np.float32)
    waveform[8_000] = 1.0
    decibel, times, _ = log_mel(waveform)
    assert times[decibel.mean(axis=0).argmax()] == pytest.approx(0.5, abs=0.015)


def test_ten_minutes_fit_into_the_columns():
    decibel, times, _ = log_mel(np.tile(tone(300), 600), columns=700)
    assert decibel.shape[1] == len(times) <= 700
    assert times[-1] == pytest.approx(600, abs=2)


def test_envelope_encloses_the_waveform():
    waveform = tone(3, 2.0)
    times, lows, highs = envelope(waveform, points=100)
    assert len(times) == len(lows) == len(highs) == 100
    assert lows.min() == waveform.min()
    assert highs.max() == waveform.max()
    assert len(envelope(waveform[:7], points=100)[0]) == 7


@pytest.mark.parametrize("draw", [log_mel, envelope])
@pytest.mark.parametrize("shape", [(0,), (2, 100)])
def test_no_waveform_is_refused(draw, shape):
    with pytest.raises(ValueError, match="shape"):
        draw(np.zeros(shape, np.float32))
