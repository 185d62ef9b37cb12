"""Change the voice of a recording and nothing else: pitch and melody, resonances and tilt.

Pitch-synchronous overlap-add (Moulines & Charpentier 1990) sets grains of two periods closer or
farther apart; a gain on the short-time spectrum moves its envelope (Röbel & Rodet 2005).
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from refine.audio import SAMPLE_RATE
from refine.pitch import HOP_S

UNVOICED_S = 0.005  # spacing of the grains where there is no pitch
FRAME, STEP = 512, 128  # samples of the short-time spectrum
LIFTER = 40  # cepstral coefficients of an envelope: 200 Hz, about a formant
MOST_GAIN = 20.0  # dB either way
LOWEST, PIVOT = 100.0, 1000.0  # Hz, between which and above the tilt is applied, and its hinge


# -- pitch -----------------------------------------------------------------------------------------


def with_pitch(
    samples: NDArray[np.float64], f0: NDArray[np.float64], pitch: float, melody: float
) -> NDArray[np.float64]:
    """Pitch times `pitch`, its intervals about the median times `melody`; timing stays.

    `f0`: Hz each 5 ms, 0 where unvoiced (`pitch.fundamental`). Shape (n,) in and out.
    """
    voiced = f0 > 0
    if not voiced.any():
        return samples
    median = np.median(f0[voiced])
    ratio = np.where(voiced, pitch * np.where(voiced, f0 / median, 1.0) ** (melody - 1), 1.0)
    marks, sounding = _marks(samples, f0)
    at = np.clip(np.rint(marks / (HOP_S * SAMPLE_RATE)).astype(int), 0, len(f0) - 1)
    ratio = np.where(sounding, ratio[at], 1.0)
    gaps = np.diff(marks)
    left, right = np.append(gaps[:1], gaps), np.append(gaps, gaps[-1:])
    out, weight = np.zeros(len(samples)), np.zeros(len(samples))
    windows = {}
    for place, mark in _placed(marks, right, ratio, sounding, len(samples)):
        lower, upper = int(left[mark]), int(right[mark])
        lower = min(lower, place, int(marks[mark]))
        upper = min(upper, len(samples) - max(place, int(marks[mark])))
        if (lower, upper) not in windows:
            windows[lower, upper] = _window(lower, upper)
        window = windows[lower, upper]
        grain = samples[marks[mark] - lower : marks[mark] + upper]
        out[place - lower : place + upper] += window * grain
        weight[place - lower : place + upper] += window
    # between distant grains there is air: a small sum of windows must not be blown up
    return out / np.maximum(weight, 0.4)


def _placed(
    marks: NDArray[np.int64],
    gaps: NDArray[np.int64],
    ratio: NDArray[np.float64],
    sounding: NDArray[np.bool_],
    length: int,
) -> Iterator[tuple[int, int]]:
    """(where in the output, which grain): the grain nearest in time, so that timing stays."""
    place, mark, last = float(marks[0]), 0, len(marks) - 1
    while place < length:
        while mark < last and abs(marks[mark + 1] - place) <= abs(marks[mark] - place):
            mark += 1
        if not sounding[mark]:
            place = float(marks[mark])  # without a pitch grains stay where they were
        yield int(place), mark
        if mark == last and not sounding[mark]:
            return
        step = max(8.0, gaps[mark] / ratio[mark])
        # a change from voiced to unvoiced starts on the grid of the unvoiced grains
        if mark < last and sounding[mark] != sounding[mark + 1]:
            step = max(8.0, marks[mark + 1] - place)
        place += step


def _marks(
    samples: NDArray[np.float64], f0: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Centres of the grains, and which of them stand on a period; ascending, first at 0."""
    hop = HOP_S * SAMPLE_RATE
    signal = samples * (1.0 if np.mean(samples**3) >= 0 else -1.0)  # pulses point upwards
    found: list[int] = []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (f0 > 0).astype(int), [0]])))
    for first, end in edges.reshape(-1, 2):
        start, stop = int(max(0, (first - 0.5) * hop)), int(min(len(samples), (end - 0.5) * hop))
        period = SAMPLE_RATE / np.repeat(f0[first:end], math.ceil(hop))[: max(1, stop - start)]
        if stop - start > 2 * period[0]:
            found += _epochs(signal, start, stop, np.resize(period, stop - start))
    voiced = np.array(sorted(set(found)), dtype=np.int64)
    grid = np.arange(0, len(samples), int(UNVOICED_S * SAMPLE_RATE), dtype=np.int64)
    if len(voiced):
        after = np.searchsorted(voiced, grid)
        near = np.minimum(
            np.abs(grid - voiced[np.minimum(after, len(voiced) - 1)]),
            np.abs(grid - voiced[np.maximum(after - 1, 0)]),
        )
        at = np.clip(np.rint(grid / hop).astype(int), 0, len(f0) - 1)
        grid = grid[(f0[at] == 0) & (near > int(UNVOICED_S * SAMPLE_RATE) // 2)]
    if not len(grid) or (grid[0] > 0 and (not len(voiced) or voiced[0] > 0)):
        grid = np.concatenate([[0], grid])
    marks = np.concatenate([voiced, grid])
    order = np.argsort(marks, kind="stable")
    return marks[order], np.isin(order, np.arange(len(voiced)))


def _epochs(
    signal: NDArray[np.float64], start: int, stop: int, period: NDArray[np.float64]
) -> list[int]:
    """One place in each period of a voiced stretch, where the waveform is highest."""
    loudest = start + int(np.argmax(signal[start:stop]))
    found = [loudest]
    for direction in (1, -1):
        place = loudest
        while True:
            step = period[min(max(place - start, 0), len(period) - 1)]
            centre = place + direction * step
            low, high = int(centre - 0.2 * step), int(centre + 0.2 * step) + 1
            if low < start or high > stop:
                break
            # near the expected place rather than far from it, at equal height
            nearness = 1 - 0.5 * np.abs(np.arange(low, high) - centre) / (0.2 * step)
            height = signal[low:high] - signal[low:high].min()
            place = low + int(np.argmax(height * nearness))
            found.append(place)
    return found


def _window(left: int, right: int) -> NDArray[np.float64]:
    """A Hann window, each side of its own length; neighbours on one grid add up to 1."""
    up = 0.5 - 0.5 * np.cos(np.pi * np.arange(left) / max(1, left))
    down = 0.5 + 0.5 * np.cos(np.pi * np.arange(right) / max(1, right))
    return np.concatenate([up, down])


# -- envelope --------------------------------------------------------------------------------------


def with_envelope(
    samples: NDArray[np.float64], formants: float, tilt: float
) -> NDArray[np.float64]:
    """Resonances at `formants` times their frequency, and `tilt` dB an octave about 1 kHz."""
    window = np.hanning(FRAME + 1)[:-1]
    padded = np.pad(samples, (FRAME, FRAME + (-len(samples)) % STEP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::STEP] * window
    spectra = np.fft.rfft(frames)  # (frames, FRAME / 2 + 1)
    gain = np.zeros(spectra.shape)
    if formants != 1:
        gain += _moved(_envelope(spectra), formants)
    hertz = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    gain += tilt * np.log2(np.maximum(hertz, LOWEST) / PIVOT) / 8.686
    spectra = spectra * np.exp(np.clip(gain, -MOST_GAIN / 8.686, MOST_GAIN / 8.686))
    changed = np.fft.irfft(spectra, FRAME) * window
    out, weight = np.zeros(len(padded)), np.zeros(len(padded))
    for index, frame in enumerate(changed):
        out[index * STEP : index * STEP + FRAME] += frame
        weight[index * STEP : index * STEP + FRAME] += window**2
    return (out / np.maximum(weight, 1e-3))[FRAME : FRAME + len(samples)]


def _envelope(spectra: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Log magnitude without its harmonics (true envelope, Röbel & Rodet 2005, 8 rounds)."""
    level = np.log(np.abs(spectra) + 1e-5)
    target = smooth = level
    for _ in range(8):
        cepstra = np.fft.irfft(target, FRAME)
        cepstra[:, LIFTER : FRAME - LIFTER + 1] = 0
        smooth = np.fft.rfft(cepstra).real
        target = np.maximum(level, smooth)  # harmonics pull it up, the gaps do not pull it down
    return smooth


def _moved(envelope: NDArray[np.float64], formants: float) -> NDArray[np.float64]:
    """Log gain that puts what was at f to f · formants; beyond the band its edge is held."""
    top = envelope.shape[1] - 1
    source = np.minimum(np.arange(top + 1) / formants, top)
    below = np.minimum(source.astype(int), top - 1)
    part = source - below
    return envelope[:, below] * (1 - part) + envelope[:, below + 1] * part - envelope
