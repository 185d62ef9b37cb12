"""Audio in and out: constants with their units, decoding, resampling, validation.

Everything in `refine` sees 16 kHz mono float32 in [-1, 1]; only this module knows other formats.
"""

import hashlib
import math
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz
HOP = 320  # samples between encoder frames
FRAME_RATE = SAMPLE_RATE // HOP  # frames per second of wav2vec 2.0, HuBERT, WavLM
MIN_SAMPLES = SAMPLE_RATE // 10  # 0.1 s, the shortest clip that is speech at all
MAX_SAMPLES = 10 * 60 * SAMPLE_RATE  # 10 min, the longest clip read into memory
SILENCE_PEAK = 10 ** (-60 / 20)  # -60 dBFS: nothing above it is silence
CLIPPED_SHARE = 0.01  # share of samples at full scale from which a clip is called clipped
RATES = (1_000, 768_000)  # Hz, lowest and highest sample rate that is audio
UNKNOWN_FRAMES = 1 << 62  # libsndfile's answer for a stream of unknown length is beyond this
BLOCK = 1 << 18  # frames decoded at a time

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".opus"})

Waveform = NDArray[np.float32]
Source = Path | str | BinaryIO


class AudioError(ValueError):
    """A clip that cannot be used: what was found and what to do, `reason` without the name."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason = reason


@dataclass(frozen=True)
class ClipInfo:
    """What a header says of a file, before it is decoded."""

    sample_rate: int  # Hz
    channels: int
    duration_s: float  # infinite where the header of a stream does not tell


@dataclass(frozen=True)
class Inspection:
    """What decoding a file showed: its length, why it cannot be used, what is doubtful."""

    duration_s: float
    problem: str | None = None
    warning: str | None = None


def info(path: Source) -> ClipInfo:
    """Read a file's header. Raises `AudioError` when it is no audio file that soundfile reads."""
    import soundfile

    _check_file(path)
    try:
        header = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise _unreadable(path, error) from error
    known = header.frames < UNKNOWN_FRAMES
    duration_s = header.frames / header.samplerate if known else math.inf
    return ClipInfo(header.samplerate, header.channels, duration_s)


def load(path: Source) -> Waveform:
    """Decode a file (wav, flac, ogg, mp3) to 16 kHz mono float32, validated.

    Returns: samples, shape (n,), in [-1, 1].
    Raises: `AudioError` for an unreadable, empty, too short, too long, silent or non-finite clip.
    """
    mono, rate = _read_mono(path)
    waveform = resample(mono, rate)
    problem = find_problem(waveform)
    if problem:
        raise AudioError(problem, _name(path))
    return waveform


def inspect(path: Source) -> Inspection:
    """Decode a file to learn whether it can be used; never raises `AudioError`."""
    duration_s = 0.0
    try:
        header = info(path)
        duration_s = header.duration_s
        waveform = load(path)
    except AudioError as error:
        return Inspection(duration_s, problem=error.reason)
    warning = find_warning(waveform)
    if warning is None and header.sample_rate < SAMPLE_RATE:
        warning = (
            f"recorded at {header.sample_rate} Hz: it holds nothing above "
            f"{header.sample_rate / 2000:g} kHz, while encoders expect 16 kHz recordings"
        )
    return Inspection(waveform.size / SAMPLE_RATE, warning=warning)


def resample(waveform: Waveform, rate: int) -> Waveform:
    """Band-limited resampling to 16 kHz. `rate` in Hz; shape (n,) in, (m,) out."""
    _check_rate(rate)
    if rate == SAMPLE_RATE or waveform.size == 0:
        return np.ascontiguousarray(waveform, dtype=np.float32)
    import torch
    import torchaudio.functional as F

    # torchaudio's kernel grows with the product of the reduced rates: 44 101 Hz would take
    # gigabytes. A ratio of small numbers is off by less than a millionth, and exact for real rates.
    ratio = Fraction(SAMPLE_RATE, rate).limit_denominator(1000)
    samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    return F.resample(samples, ratio.denominator, ratio.numerator).numpy()


def find_problem(waveform: Waveform) -> str | None:
    """Why a waveform cannot be used, as half a sentence with what to do, or None when it can."""
    if waveform.size == 0:
        return "no samples; record or export it again"
    if not np.isfinite(waveform).all():
        bad = int((~np.isfinite(waveform)).sum())
        return f"{bad} samples are NaN or infinite; export it again"
    if waveform.size < MIN_SAMPLES:
        return (
            f"{waveform.size} samples ({waveform.size / SAMPLE_RATE:.4f} s) at 16 kHz; "
            f"at least {MIN_SAMPLES / SAMPLE_RATE:.1f} s are needed, join or leave out such clips"
        )
    if np.abs(waveform).max() < SILENCE_PEAK:
        return "silent (nothing above -60 dBFS); check the microphone or the export"
    if waveform.size > MAX_SAMPLES:
        return _too_long(waveform.size / SAMPLE_RATE)
    return None


def find_warning(waveform: Waveform) -> str | None:
    """What is doubtful about a usable waveform (clipping), or None."""
    share = float((np.abs(waveform) >= 0.999).mean())
    if share >= CLIPPED_SHARE:
        return f"clipped: {share:.0%} of the samples are at full scale; record at a lower level"
    return None


def content_hash(data: bytes | Path) -> str:
    """SHA-256 of the bytes (or of a file's bytes), in hexadecimal."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_mono(path: Source) -> tuple[Waveform, int]:
    """Decode block by block, so that 8 channels at 192 kHz never stand in memory at once."""
    import soundfile

    _check_file(path)
    blocks: list[Waveform] = []
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            _check_rate(rate, _name(path))
            # soundfile seeks after each read, which fails in a stream of unknown length
            file.seekable = lambda: False
            limit = rate * (MAX_SAMPLES // SAMPLE_RATE)
            if limit < file.frames < UNKNOWN_FRAMES:
                raise AudioError(_too_long(file.frames / rate), _name(path))
            total = 0
            while (block := file.read(BLOCK, dtype="float32", always_2d=True)).size:
                total += len(block)
                if total > limit:  # the header promised less
                    raise AudioError(_too_long(total / rate), _name(path))
                with np.errstate(invalid="ignore", over="ignore"):
                    blocks.append(block.mean(axis=1))
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise _unreadable(path, error) from error
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate


def _check_file(path: Source) -> None:
    if not isinstance(path, Path | str):
        path.seek(0)
        return
    file = Path(path)
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError("file not found; check its name and folder", file.name) from None
    except (OSError, ValueError) as error:  # no permission, a name no disk can hold
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"cannot be read ({reason}); check its name", file.name) from None
    if stat.S_ISDIR(found.st_mode):
        raise AudioError("this is a folder, not a recording; rename or remove it", file.name)
    if not stat.S_ISREG(found.st_mode):
        raise AudioError("this is no regular file; remove it", file.name)
    if found.st_size == 0:
        raise AudioError("the file is empty (0 bytes); record or export it again", file.name)


def _check_rate(rate: int, name: str = "") -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"a sample rate of {rate} Hz is not audio; expected {RATES[0]} to {RATES[1]} Hz", name
        )


def _too_long(duration_s: float) -> str:
    return (
        f"{duration_s / 60:.0f} minutes long; "
        f"the longest clip is {MAX_SAMPLES // SAMPLE_RATE // 60} minutes, cut it into pieces"
    )


def _name(path: Source) -> str:
    return Path(path).name if isinstance(path, str | Path) else getattr(path, "name", "upload")


def _unreadable(path: Source, error: Exception) -> AudioError:
    reason = str(error).split(":")[-1].strip().rstrip(".")
    what = f"not readable as wav, flac, ogg or mp3 ({reason}); convert it to wav"
    return AudioError(what, str(_name(path)))
