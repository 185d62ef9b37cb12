"""Recorded words for a fake microphone, and what a page made of them."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from browser import idle

from refine import audio
from refine.audio import SAMPLE_RATE
from refine.corpus import Corpus

LEAD_S, PAUSE_S = 1.0, 0.8
DEVICE_RATE = 48_000  # Hz, as a sound card has it; the browser brings it to 16 kHz


class Spoken(NamedTuple):
    """One word on the tape."""

    start: float  # s
    end: float
    word: str


def tape(corpus: Corpus, n: int, path: Path, seed: int = 0) -> tuple[list[Spoken], np.ndarray]:
    """Write n test clips of a corpus as a 48 kHz tape; returns what is on it, and it at 16 kHz."""
    import soundfile
    from scipy.signal import resample_poly

    rows = corpus.table[corpus.table["split"] == "test"].sample(n, random_state=seed)
    pieces, words = [np.zeros(round(LEAD_S * SAMPLE_RATE), np.float32)], []
    at = len(pieces[0])
    for clip, word in zip(rows["clip"], rows["content"], strict=True):
        waveform = audio.load(corpus.path(clip))
        words.append(Spoken(at / SAMPLE_RATE, (at + len(waveform)) / SAMPLE_RATE, str(word)))
        pause = np.zeros(round(PAUSE_S * SAMPLE_RATE), np.float32)
        pieces += [waveform, pause]
        at += len(waveform) + len(pause)
    whole = np.concatenate(pieces)
    up = np.clip(resample_poly(whole, DEVICE_RATE // SAMPLE_RATE, 1), -1, 1)
    soundfile.write(path, up, DEVICE_RATE, subtype="PCM_16")
    return words, whole


def heard(words: list[Spoken], labels: list[dict[str, Any]], role: str) -> list[str | None]:
    """The page's last word about each word on the tape; None where it gave no answer."""
    found: list[str | None] = []
    for spoken in words:
        about = [
            one
            for one in labels
            if one["final"]
            and spoken.start - 0.3 < (one["start"] + one["at"]) / 2 < spoken.end + 0.3
        ]
        found.append(about[-1]["said"]["content"][role] if about else None)
    return found


def alike(received: np.ndarray, source: np.ndarray) -> tuple[float, int]:
    """Relative error (RMS) of what was received against its source, and its delay in samples.

    The delay is found by correlation, to a sixteenth of a sample (a device adds any delay).
    """
    size = 1 << (len(received) + len(source) - 1).bit_length()
    spectrum = np.fft.rfft(received, size) * np.conj(np.fft.rfft(source, size))
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    lag = lag - size if lag > size // 2 else lag
    start, end = max(0, -lag), min(len(source), len(received) - lag)
    want, got = source[start:end], received[start + lag : end + lag]
    whole = np.fft.rfft(want)
    turn = -2j * np.pi * np.arange(len(whole)) / len(want)
    errors = [
        np.sqrt(np.mean((got - np.fft.irfft(whole * np.exp(turn * shift), len(want))) ** 2))
        for shift in np.linspace(-1, 1, 33)
    ]
    return float(min(errors) / np.sqrt(np.mean(want**2))), lag


class Piece(NamedTuple):
    """One word of the tape as it arrived."""

    error: float  # relative, RMS, at its own delay
    delay: int  # samples, against the tape


def word_by_word(
    received: np.ndarray, source: np.ndarray, words: list[Spoken], reach_s: float = 4.0
) -> list[Piece]:
    """Each word that was received, at a delay of its own: where a device loses or repeats some
    samples the delay steps there, and the words between are whole.

    Words that lie outside of what was received are left out.
    """
    _, whole = alike(received, source)
    reach, found = round(reach_s * SAMPLE_RATE), []
    for word in words:
        start, end = round(word.start * SAMPLE_RATE), round(word.end * SAMPLE_RATE)
        left, right = start + whole - reach, end + whole + reach
        if start + whole < 0 or end + whole > len(received):
            continue
        left, right = max(left, 0), min(right, len(received))
        error, delay = alike(received[left:right], source[start:end])
        found.append(Piece(error, delay + left - start))
    return found


def recording(page: Any) -> str | None:
    """Address of what a page shows as heard, if it shows any."""
    player = page.locator("audio")
    return str(player.first.get_attribute("src")) if player.count() else None


def saved(page: Any, before: str | None) -> np.ndarray:
    """What was heard, saved from the page once it shows another recording than `before`."""
    page.wait_for_function(
        """before => {
            const player = document.querySelector('audio');
            return player && player.getAttribute('src') !== before;
        }""",
        arg=before,
    )
    idle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    return audio.load(io.BytesIO(Path(download.value.path()).read_bytes()))
