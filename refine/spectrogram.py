"""Pictures of a waveform: log-mel spectrogram and envelope, in numpy, for pages that open fast.

For looking only. No encoder and no metric sees these numbers.
"""

import numpy as np
from jaxtyping import Float

from refine.audio import SAMPLE_RATE, Waveform

WINDOW = SAMPLE_RATE // 40  # samples, 25 ms
HOP = SAMPLE_RATE // 100  # samples, 10 ms
FFT = 512  # the next power of two
FLOOR = -80.0  # dB below the loudest cell; what is quieter is drawn as silence


def log_mel(
    waveform: Waveform, mels: int = 80, columns: int = 1_000
) -> tuple[
    Float[np.ndarray, "mels frames"], Float[np.ndarray, " frames"], Float[np.ndarray, " mels"]
]:
    """Log-mel spectrogram in dB below its loudest cell.

    Args:
        waveform: 16 kHz samples, shape (n,), n >= 1.
        mels: triangular filters from 0 to 8 kHz, evenly spaced in mel.
        columns: at most so many frames; a longer clip shows the loudest frame of each stretch.
    Returns: dB in [-80, 0] of shape (mels, frames), the frame times in s, the mel centres in Hz.
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise ValueError(f"a waveform of shape {waveform.shape}; expected (samples,), not empty")
    padded = np.pad(waveform.astype(np.float32), (WINDOW // 2, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    frames = frames[: 1 + waveform.size // HOP]
    stretch = -(-len(frames) // columns)  # frames a drawn column
    power = np.empty((-(-len(frames) // stretch), mels), dtype=np.float32)
    weights = _filters(mels)
    window = np.hanning(WINDOW).astype(np.float32)
    block = 4_096 * stretch  # a ten-minute clip would be 240 MB of frames at once
    for start in range(0, len(frames), block):
        spectrum = np.fft.rfft(frames[start : start + block] * window, FFT)
        mel = (spectrum.real**2 + spectrum.imag**2) @ weights
        edges = np.arange(0, len(mel), stretch)
        power[start // stretch : start // stretch + len(edges)] = np.maximum.reduceat(mel, edges)
    decibel = 10 * np.log10(np.maximum(power, 1e-20))
    decibel = np.maximum(decibel - decibel.max(), FLOOR)
    times = np.arange(len(power)) * stretch * HOP / SAMPLE_RATE
    return decibel.T, times, _centres(mels)[1:-1]


def envelope(
    waveform: Waveform, points: int = 900
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Lowest and highest sample of each stretch of a waveform: its outline at any length.

    Returns: times in s, lows, highs, each of shape (p,) with p <= points.
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise ValueError(f"a waveform of shape {waveform.shape}; expected (samples,), not empty")
    edges = np.unique(np.linspace(0, waveform.size, points, endpoint=False).astype(int))
    lows, highs = np.minimum.reduceat(waveform, edges), np.maximum.reduceat(waveform, edges)
    return edges / SAMPLE_RATE, lows, highs


def _centres(mels: int) -> Float[np.ndarray, " mels+2"]:
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    return 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)


def _filters(mels: int) -> Float[np.ndarray, "bins mels"]:
    """Triangles on the mel scale, each of unit area."""
    centres = _centres(mels)
    bins = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    rising = (bins[:, None] - centres[:-2]) / (centres[1:-1] - centres[:-2])
    falling = (centres[2:] - bins[:, None]) / (centres[2:] - centres[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (centres[2:] - centres[:-2]))).astype(np.float32)
