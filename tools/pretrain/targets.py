"""What the masked frames must name: k-means codes of features of the clean recording.

Three codebooks, one label a 20 ms frame each:

* `content`: MFCC with deltas, mean-normalised over the recording: what is said;
* `timbre`: MFCC without that normalisation: who says it, through which channel;
* `prosody`: log F0, voicing and energy with their slopes: how it is said.

A later round replaces `content` by k-means over the network's own hidden states.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torchaudio.functional as F
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from refine.audio import HOP, SAMPLE_RATE

FFT = 512  # samples
WINDOW = 400  # samples, 25 ms, of the spectral features
MELS = 40  # bands
CEPSTRA = 16  # coefficients kept
PITCH_WINDOW = 640  # samples, 40 ms, of the autocorrelation
PITCH_FFT = 2048  # samples
PITCH_RANGE = (60.0, 420.0)  # Hz
FIRST_CENTRE = 480  # samples from a clip's start to the centre of the network's first frame
IGNORE = 65535  # label of a frame that has no target

CODEBOOKS = {"content": 128, "timbre": 100, "prosody": 32}

Labels = NDArray[np.uint16]
Features = NDArray[np.float32]


def frame_count(samples: int) -> int:
    """Frames of the network for a clip: kernels (640, 1, 3), strides (160, 1, 2)."""
    fine = (samples - 640) // 160 + 1
    return max((fine - 3) // 2 + 1, 0)


def log_mel(waveforms: torch.Tensor) -> torch.Tensor:
    """Natural-log mel energies at 10 ms, aligned so that odd rows sit on the network's frames.

    waveforms (batch, samples) → (batch, rows, 40).
    """
    start = FIRST_CENTRE - 160 - WINDOW // 2
    frames = waveforms[:, start:].unfold(1, WINDOW, 160)  # (batch, rows, window)
    spectrum = torch.fft.rfft(frames * torch.hann_window(WINDOW), FFT).abs().square()
    bank = F.melscale_fbanks(FFT // 2 + 1, 20.0, 7600.0, MELS, SAMPLE_RATE, norm="slaney")
    return torch.log(spectrum @ bank + 1e-6)


def describe(waveform: Features) -> dict[str, Features]:
    """The feature rows of one clean recording, one a network frame, for each codebook."""
    sound = torch.from_numpy(waveform)
    sound = (sound - sound.mean()) / (sound.std() + 1e-4)
    n = frame_count(len(waveform))
    mel = log_mel(torch.nn.functional.pad(sound, (0, 400))[None])[0]
    mel = torch.maximum(mel, mel.max() - 14.0)  # a floor 60 dB under the loudest band
    basis = F.create_dct(CEPSTRA, MELS, "ortho")
    mfcc = mel @ basis
    slope = F.compute_deltas(mfcc.T, 5).T
    bend = F.compute_deltas(slope.T, 5).T
    centred = mfcc - mfcc.mean(0)
    content = torch.cat([centred[:, :13], 2.0 * slope[:, :13], 2.0 * bend[:, :13]], 1)
    energy = mel.exp().sum(1).log()
    prosody = _prosody(sound, energy[1::2][:n], n)
    rows = slice(1, 2 * n, 2)
    return {
        "content": content[rows].numpy(),
        "timbre": mfcc[rows].numpy(),
        "prosody": prosody.numpy(),
    }


def _prosody(sound: torch.Tensor, energy: torch.Tensor, n: int) -> torch.Tensor:
    """[log F0, voicing, energy] and their slopes over 100 ms, (n, 6)."""
    start = FIRST_CENTRE - PITCH_WINDOW // 2
    frames = torch.nn.functional.pad(sound, (0, PITCH_WINDOW))[start:]
    frames = frames.unfold(0, PITCH_WINDOW, HOP)[:n] * torch.hann_window(PITCH_WINDOW)
    power = torch.fft.rfft(frames, PITCH_FFT).abs().square()
    lags = torch.fft.irfft(power)[:, : PITCH_WINDOW // 2]
    window = torch.fft.irfft(
        torch.fft.rfft(torch.hann_window(PITCH_WINDOW), PITCH_FFT).abs().square()
    )
    lags = lags / (lags[:, :1] + 1e-3) / (window[: PITCH_WINDOW // 2] / window[0])
    low, high = (int(SAMPLE_RATE / f) for f in reversed(PITCH_RANGE))
    high = min(high, PITCH_WINDOW // 2 - 1)
    penalty = 0.1 * torch.linspace(0, 1, high - low)  # prefer the shorter of two equal periods
    voicing, at = (lags[:, low:high] - penalty).max(1)
    voicing = voicing.clamp(0, 1)
    pitch = torch.log(SAMPLE_RATE / (at + low).float() / 150.0)
    pitch = torch.where(voicing > 0.45, pitch, torch.zeros(()))
    loud = (energy - energy.max()).clamp(min=-12.0) / 4.0
    track = torch.stack([2.0 * pitch, 1.5 * voicing, loud], 1)
    return torch.cat([track, F.compute_deltas(track.T, 5).T * 4.0], 1)


def fit_codebook(rows: Features, clusters: int, seed: int) -> MiniBatchKMeans:
    """k-means over (a sample of) standardised feature rows."""
    generator = np.random.default_rng(seed)
    sample = rows[generator.choice(len(rows), min(len(rows), 120_000), replace=False)]
    model = MiniBatchKMeans(
        clusters, batch_size=8192, n_init=1, max_iter=25, random_state=seed, init="k-means++"
    )
    return model.fit(sample.astype(np.float32))


def quantise(features: Iterable[Features], clusters: int, seed: int) -> list[Labels]:
    """Labels of each recording's rows under one codebook fitted on all of them."""
    features = list(features)
    rows = np.concatenate(features)
    rows = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    model = fit_codebook(rows, clusters, seed)
    labels = np.concatenate(
        [model.predict(rows[i : i + 65536]) for i in range(0, len(rows), 65536)]
    ).astype(np.uint16)
    return np.split(labels, np.cumsum([len(f) for f in features])[:-1])
