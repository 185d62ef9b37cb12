"""Decoding: physics checked by hand, an outside resampler, invariances, one sentence a fault."""

import io

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly
from speech import noise, sparse_wav, tone, write

from refine import audio
from refine.audio import SAMPLE_RATE, AudioError, inspect, load


def peak_hz(waveform):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)[spectrum.argmax()])


def test_constants_follow_from_each_other():
    assert (audio.SAMPLE_RATE, audio.HOP, audio.FRAME_RATE) == (16_000, 320, 50)
    assert audio.MIN_SAMPLES == 1_600
    assert audio.MAX_SAMPLES == 9_600_000


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 192_000])
def test_a_tone_stays_the_same_tone(tmp_path, rate):
    waveform = load(write(tmp_path / "a.wav", tone(1.0, 440, rate), rate))
    assert waveform.dtype == np.float32
    assert len(waveform) == SAMPLE_RATE
    assert peak_hz(waveform) == pytest.approx(440, abs=1)
    assert np.abs(waveform[1000:-1000]).max() == pytest.approx(0.3, abs=0.003)


@pytest.mark.parametrize(("name", "tolerance"), [("a.wav", 1e-4), ("a.flac", 1e-4)])
def test_lossless_formats_return_the_samples(tmp_path, name, tolerance):
    samples = noise(0.5)
    np.testing.assert_allclose(load(write(tmp_path / name, samples)), samples, atol=tolerance)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3", "a.opus"])
def test_lossy_formats_return_the_sound(tmp_path, name):
    options = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    waveform = load(write(tmp_path / name, tone(1.0, 440), **options))
    assert peak_hz(waveform) == pytest.approx(440, abs=2)
    assert len(waveform) == pytest.approx(SAMPLE_RATE, abs=2500)  # codecs pad to whole frames


def test_resampling_agrees_with_scipy():
    wave = np.convolve(noise(1.0, seed=3), np.ones(32) / 32, "same")  # well below the band's edge
    ours, theirs = audio.resample(wave.astype("f4"), 48_000), resample_poly(wave, 1, 3)
    assert np.corrcoef(ours[50:-50], theirs[50 : len(ours) - 50])[0, 1] > 0.9999


def test_nothing_above_8_khz_folds_down():
    folded = audio.resample(tone(1.0, 12_000, 48_000), 48_000)  # would appear at 4 kHz
    assert np.abs(folded[100:-100]).max() < 0.003


def test_an_odd_rate_takes_no_gigabytes():
    # 44 101 and 16 000 share no divisor: the exact kernel would hold 700 million numbers
    waveform = audio.resample(tone(1.0, 440, 44_101), 44_101)
    assert len(waveform) == pytest.approx(SAMPLE_RATE, abs=2)
    assert peak_hz(waveform) == pytest.approx(440, abs=1)


def test_eight_channels_are_averaged(tmp_path):
    channels = np.stack([tone(0.5, 440) * k / 4.5 for k in range(1, 9)], axis=1)  # mean gain 1
    path = write(tmp_path / "a.wav", channels, subtype="FLOAT")
    np.testing.assert_allclose(load(path), tone(0.5, 440), atol=1e-6)


def test_eight_channels_at_192_khz(tmp_path):
    channels = np.repeat(tone(0.5, 440, 192_000)[:, None], 8, axis=1)
    waveform = load(write(tmp_path / "a.wav", channels, 192_000))
    assert len(waveform) == SAMPLE_RATE // 2
    assert peak_hz(waveform) == pytest.approx(440, abs=2)


def test_blocks_and_file_objects_change_nothing(tmp_path, monkeypatch):
    path = write(tmp_path / "a.flac", noise(1.0))
    whole = load(path)
    stream = io.BytesIO(path.read_bytes())
    stream.seek(100)  # somebody read in it
    np.testing.assert_array_equal(load(stream), whole)
    np.testing.assert_array_equal(load(str(path)), whole)
    monkeypatch.setattr(audio, "BLOCK", 777)
    np.testing.assert_array_equal(load(path), whole)


def test_inspect_says_what_load_does(tmp_path):
    found = inspect(write(tmp_path / "a.wav", tone(0.75)))
    assert (found.duration_s, found.problem, found.warning) == (0.75, None, None)
    with pytest.raises(AudioError) as caught:
        load(tmp_path / "none.wav")
    assert str(caught.value) == f"none.wav: {inspect(tmp_path / 'none.wav').problem}"


def test_warnings(tmp_path):
    clipped = np.clip(tone(0.5, level=3.0), -1, 1)
    assert "clipped: " in inspect(write(tmp_path / "a.wav", clipped)).warning
    telephone = inspect(write(tmp_path / "b.wav", tone(0.5, rate=8_000), 8_000))
    assert telephone.problem is None
    assert "recorded at 8000 Hz: it holds nothing above 4 kHz" in telephone.warning


def test_content_hash_of_bytes_and_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert audio.content_hash(b"abc") == audio.content_hash(tmp_path / "a") == known


def damaged(folder, kind):
    path = folder / "a.wav"
    samples = tone(0.5)
    if kind == "empty file":
        path.touch()
    elif kind == "text":
        path.write_text("this is no recording\n" * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "nothing in it":
        write(path, samples[:0])
    elif kind == "3 samples":
        write(path, samples[:3])
    elif kind == "silence":
        write(path, samples * 0)
    elif kind == "below -60 dBFS":
        write(path, samples / samples.max() * 0.0009, subtype="FLOAT")
    elif kind == "channels cancel":
        write(path, np.stack([samples, -samples], axis=1))
    elif kind in ("nan", "inf"):
        samples[[7, 9]] = float(kind)
        write(path, samples, subtype="FLOAT")
    elif kind == "two hours":
        sparse_wav(path, 2 * 3600)
    elif kind == "rate of 12 Hz":
        write(path, samples, 12)
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "file not found; check"),
        ("empty file", r"empty \(0 bytes\); record or export"),
        ("text", r"not readable as wav, flac, ogg or mp3 \(Format not recognised\); convert"),
        ("folder", "this is a folder, not a recording; rename or remove"),
        ("nothing in it", "no samples; record or export"),
        ("3 samples", r"3 samples \(0\.0002 s\) at 16 kHz; at least 0\.1 s are needed"),
        ("silence", r"silent \(nothing above -60 dBFS\); check"),
        ("below -60 dBFS", "silent"),
        ("channels cancel", "silent"),
        ("nan", "2 samples are NaN or infinite; export"),
        ("inf", "2 samples are NaN or infinite; export"),
        ("two hours", "120 minutes long; the longest clip is 10 minutes, cut"),
        ("rate of 12 Hz", "a sample rate of 12 Hz is not audio; expected"),
    ],
)
def test_a_bad_file_gets_one_sentence(tmp_path, kind, sentence):
    path = damaged(tmp_path, kind)
    with pytest.raises(AudioError, match=sentence) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert inspect(path).problem == caught.value.reason


def test_two_hours_are_refused_by_the_header_alone(tmp_path, monkeypatch):
    path = sparse_wav(tmp_path / "a.wav", 2 * 3600)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    found = inspect(path)
    assert found.duration_s == 7200
    assert "120 minutes long" in found.problem


def test_a_long_ogg_is_refused_by_the_header_alone(tmp_path, monkeypatch):
    path = write(tmp_path / "a.ogg", tone(3.0))
    monkeypatch.setattr(audio, "MAX_SAMPLES", 2 * SAMPLE_RATE)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    assert "longest clip" in inspect(path).problem


def test_a_header_that_hides_the_length_is_not_believed(tmp_path, monkeypatch):
    """A FLAC stream whose header gives no number of samples (0) may be of any length."""
    data = bytearray(write(tmp_path / "a.flac", noise(3.0)).read_bytes())
    data[8 + 13] &= 0xF0  # the low 36 bits of STREAMINFO's last word before the MD5
    data[8 + 14 : 8 + 18] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    assert len(load(tmp_path / "a.flac")) == 3 * SAMPLE_RATE
    monkeypatch.setattr(audio, "MAX_SAMPLES", 2 * SAMPLE_RATE)
    with pytest.raises(AudioError, match="longest clip"):
        load(tmp_path / "a.flac")


def test_a_cut_off_file_gives_what_it_holds_or_a_sentence(tmp_path):
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3"):
        path = write(tmp_path / name, noise(2.0))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        found = inspect(path)
        assert found.problem is not None or 0.5 < found.duration_s < 1.6, name


def test_a_recorded_word_is_a_word(speech_folder):
    waveform = load(next((speech_folder / "fsdd" / "jackson").glob("7_*.flac")))
    assert 0.2 < len(waveform) / SAMPLE_RATE < 1.5
    assert 0.01 < np.abs(waveform).max() <= 1
    assert 80 < peak_hz(waveform) < 1000  # a man's voice: pitch or first formant
