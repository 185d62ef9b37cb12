"""The fundamental frequency of speech, by autocorrelation and the cheapest path (Boersma 1993)."""

import numpy as np
from numpy.typing import NDArray

from refine.audio import SAMPLE_RATE, Waveform

HOP_S = 0.005
WINDOW_S = 0.04  # three periods of 75 Hz
LOWEST, HIGHEST = 60.0, 500.0  # Hz
CANDIDATES = 5
VOICING, SILENCE = 0.45, 0.03  # Boersma's thresholds
OCTAVE, JUMP, SWITCH = 0.01, 0.35, 0.14  # and costs; of a step of 10 ms


def fundamental(waveform: Waveform) -> NDArray[np.float64]:
    """Fundamental frequency in Hz, one value each 5 ms (frame k at k · 5 ms), 0 where unvoiced.

    `waveform`: 16 kHz mono, shape (n,). Range 60 to 500 Hz. Returns: shape (ceil(n / 80),).
    """
    hop, width = int(HOP_S * SAMPLE_RATE), int(WINDOW_S * SAMPLE_RATE)
    count = -(-len(waveform) // hop)
    if len(waveform) < 2:
        return np.zeros(count)
    padded = np.pad(_without_hum(waveform), (width // 2, width))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop][:count]
    peak = np.abs(frames - frames.mean(1, keepdims=True)).max(1)
    if peak.max(initial=0) == 0:
        return np.zeros(count)
    hertz, strength = _candidates(frames)
    loudness = peak / peak.max()
    silent = VOICING + np.maximum(0, 2 - loudness / (SILENCE / (1 + VOICING)))
    hertz = np.column_stack([np.zeros(count), hertz])  # candidate 0: no pitch
    strength = np.column_stack([silent, strength])
    return hertz[np.arange(count), _path(hertz, strength)]


def _without_hum(waveform: Waveform) -> NDArray[np.float64]:
    """Little below 95 Hz: mains hum has a period too; a low voice still has its harmonics."""
    spectrum = np.fft.rfft(waveform.astype(np.float64))
    hertz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    spectrum *= np.clip((hertz - 65) / 30, 0, 1)
    return np.fft.irfft(spectrum, len(waveform))


def _candidates(
    frames: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best few periods of each frame: Hz and strength, (frames, CANDIDATES)."""
    width = frames.shape[1]
    window = np.hanning(width + 1)[:-1]
    size = 1 << (2 * width - 1).bit_length()

    def autocorrelation(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.fft.irfft(np.abs(np.fft.rfft(x, size)) ** 2)[..., :width]

    r = autocorrelation((frames - frames.mean(1, keepdims=True)) * window)
    shape = autocorrelation(window)
    short, long = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST) + 1
    lags = np.arange(short, long + 1)
    norm = (r[:, :1] + 1e-12) * (shape / shape[0])[None, short - 1 : long + 2]
    r = r[:, short - 1 : long + 2] / norm  # one lag more at either end, to see a peak
    before, here, after = r[:, :-2], r[:, 1:-1], r[:, 2:]
    bend = before - 2 * here + after
    offset = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0)
    height = np.minimum(here - 0.25 * (before - after) * offset, 1.0)
    strength = height - OCTAVE * np.log2(LOWEST * lags / SAMPLE_RATE)
    strength = np.where((here > before) & (here >= after), strength, -np.inf)
    best = np.argsort(-strength, axis=1)[:, :CANDIDATES]
    rows = np.arange(len(r))[:, None]
    return SAMPLE_RATE / (lags[best] + offset[rows, best]), strength[rows, best]


def _path(hertz: NDArray[np.float64], strength: NDArray[np.float64]) -> NDArray[np.int64]:
    """The candidates with the highest sum of strengths less the costs of jumps (Viterbi)."""
    scale = 0.01 / HOP_S  # the costs are for steps of 10 ms
    octaves = np.where(hertz > 0, np.log2(np.maximum(hertz, 1)), 0)
    voiced = hertz > 0
    total = strength[0]
    back = np.zeros(hertz.shape, dtype=np.int64)
    rows = np.arange(hertz.shape[1])
    for index in range(1, len(hertz)):
        apart = np.abs(octaves[index - 1][:, None] - octaves[index][None])
        both = voiced[index - 1][:, None] & voiced[index][None]
        differ = voiced[index - 1][:, None] != voiced[index][None]
        reached = total[:, None] - scale * (JUMP * apart * both + SWITCH * differ)
        back[index] = reached.argmax(0)
        total = reached[back[index], rows] + strength[index]
    chosen = np.zeros(len(hertz), dtype=np.int64)
    chosen[-1] = int(total.argmax())
    for index in range(len(hertz) - 1, 0, -1):
        chosen[index - 1] = back[index, chosen[index]]
    return chosen
