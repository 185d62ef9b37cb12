import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from refine import synthesis
from refine.audio import SAMPLE_RATE, Waveform, content_hash, find_problem
from refine.synthesis import SynthesisError, Voice, speak, speak_many, variants, voices

TEXT = "the small boat drifted past a yellow lighthouse"
BREATHY = Voice("en", "f3")  # its breath is noise, which espeak-ng seeds by the clock


def pitch_track(waveform: Waveform) -> np.ndarray:
    """F0 in Hz of the voiced frames, by autocorrelation: 40 ms frames, 70 to 400 Hz."""
    tracked = []
    for start in range(0, waveform.size - 640, 320):
        frame = waveform[start : start + 640] - waveform[start : start + 640].mean()
        if np.square(frame).mean() < 1e-4:
            continue
        correlation = np.correlate(frame, frame, "full")[639:]
        lag = 40 + int(np.argmax(correlation[40:230]))
        if correlation[lag] > 0.5 * correlation[0]:
            tracked.append(SAMPLE_RATE / lag)
    assert len(tracked) > 30
    return np.array(tracked)


def melody(voice: Voice) -> float:
    """How far the pitch moves: the middle 80 % of the track, in semitones."""
    low, high = np.quantile(pitch_track(speak(TEXT, voice)), [0.1, 0.9])
    return float(12 * np.log2(high / low))


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def worker_process() -> psutil.Process:
    process = synthesis._workers[os.getpid()].process
    assert process is not None
    return psutil.Process(process.pid)


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- the same request is the same samples ---


def test_a_waveform_is_what_the_house_takes():
    waveform = speak(TEXT)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert find_problem(waveform) is None
    assert np.abs(waveform).max() <= 1
    assert 1.5 < waveform.size / SAMPLE_RATE < 4


@pytest.mark.parametrize("voice", [Voice(), BREATHY, Voice("en", "whisper"), Voice("fr", "klatt4")])
def test_a_repeated_call_is_equal_bit_for_bit(voice):
    first = speak(TEXT, voice)
    speak("something else in between", Voice("de", "m2", rate=300))
    np.testing.assert_array_equal(speak(TEXT, voice), first)


def test_another_process_at_another_time_is_equal_bit_for_bit():
    code = (
        "from refine.audio import content_hash; from refine.synthesis import *;"
        f"print(content_hash(speak({TEXT!r}, Voice('en', 'f3')).tobytes()))"
    )
    assert run_python(code) == content_hash(speak(TEXT, BREATHY).tobytes())


def test_many_in_parallel_equal_one_at_a_time_in_any_order():
    items = [(f"{TEXT} {i}", Voice("en", name)) for i, name in enumerate(["f1", "f2", "m3"] * 4)]
    expected = [speak(*item) for item in items]
    parallel = list(speak_many(items, workers=2))
    backwards = list(speak_many(items[::-1], workers=1))[::-1]
    for one, two, three in zip(expected, parallel, backwards, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_without_fork_each_utterance_is_equal_too():
    worker = synthesis._Worker(fork=False)
    for _ in range(2):
        np.testing.assert_array_equal(worker.speak(TEXT, BREATHY), speak(TEXT, BREATHY))
        assert worker.process is None


def test_threads_get_their_own_text():
    texts = [f"{TEXT} {i}" for i in range(8)]
    expected = [speak(text, BREATHY) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        spoken = list(pool.map(lambda text: speak(text, BREATHY), texts))
    for one, two in zip(expected, spoken, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_first_call_may_come_from_a_thread(monkeypatch):
    monkeypatch.setattr(synthesis, "_workers", {})
    found: list[Waveform] = []
    thread = threading.Thread(target=lambda: found.append(speak(TEXT)))
    thread.start()
    thread.join(20)
    np.testing.assert_array_equal(found[0], speak(TEXT))


# --- the voice settings do what they are called ---


def test_pitch_range_zero_is_monotone():
    flat, lively = melody(Voice(pitch_range=0)), melody(Voice(pitch_range=99))
    assert flat < 2
    assert lively > flat + 3


def test_pitch_raises_the_fundamental_frequency():
    low, high = (np.median(pitch_track(speak(TEXT, Voice(pitch=pitch)))) for pitch in (20, 80))
    assert high > 1.3 * low


def test_a_higher_rate_is_shorter():
    sizes = [speak(TEXT, Voice(rate=rate)).size for rate in (80, 175, 300, 450)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 3 * sizes[-1]


def test_a_female_variant_sounds_higher_than_a_male_one():
    female, male = (
        np.median(pitch_track(speak(TEXT, Voice("en", variant)))) for variant in ("f2", "m3")
    )
    assert female > 1.5 * male


def test_resampling_keeps_the_level_and_nothing_above_8_khz_folds_back():
    time_s = np.arange(22_050) / 22_050
    kept, removed = (
        synthesis._resample((20_000 * np.sin(2 * np.pi * f * time_s)).astype(np.int16), 22_050)
        for f in (1_000, 10_000)
    )
    assert kept.size == SAMPLE_RATE
    inner = slice(1_000, -1_000)
    expected = 20_000 / 2**15 * np.sin(2 * np.pi * 1_000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    np.testing.assert_allclose(kept[inner], expected[inner], atol=2e-3)
    assert np.abs(removed[inner]).max() < 2e-3


def test_every_voice_has_a_dictionary_and_speaks():
    assert {"en", "en-us", "fr", "de", "cmn"} <= set(voices())
    assert not {"fo", "xex", "kaa"} & set(voices())  # listed by espeak-ng, but without a dictionary
    assert {"f1", "m1", "whisper", "Mr serious"} <= set(variants())
    assert voices() == sorted(voices())
    assert variants() == sorted(variants())
    for waveform in speak_many([("a 1", Voice(code)) for code in voices()]):
        assert find_problem(waveform) is None


def test_a_label_is_language_and_variant():
    assert Voice("en", "f3").label == "en+f3"
    assert Voice("fr").label == "fr"


# --- what cannot be spoken is refused in one sentence ---


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("rate", 79, "rate: 79; expected a whole number from 80 to 450"),
        ("rate", 451, "rate: 451; expected a whole number from 80 to 450"),
        ("rate", 175.5, "rate: 175.5; expected a whole number from 80 to 450"),
        ("rate", True, "rate: True; expected a whole number from 80 to 450"),
        ("pitch", -1, "pitch: -1; expected a whole number from 0 to 99"),
        ("pitch", 100, "pitch: 100; expected a whole number from 0 to 99"),
        ("pitch_range", -1, "pitch_range: -1; expected a whole number from 0 to 99"),
        ("pitch_range", 100, "pitch_range: 100; expected a whole number from 0 to 99"),
        ("language", "en-gb", "language: 'en-gb'; expected one of the .* en-gb-x-rp"),
        ("language", "", "language: ''; expected one of"),
        ("variant", "f33", "variant: 'f33'; expected one of the .* f3"),
        ("variant", "", "variant: ''; expected one of"),
    ],
)
def test_a_bad_setting_is_named_with_its_range(field, value, expected):
    with pytest.raises(ValueError, match=expected):
        Voice(**{field: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the text is empty; write"),
        (" \n ", "the text is empty; write"),
        ("...", "'...' has nothing to speak; write"),
        ("a\0b", "contains control characters; remove"),
        ("\ud800", "contains control characters; remove"),
        ("word " * 2_001, "10005 characters; the longest is 10000"),
    ],
)
def test_an_unspeakable_text_is_refused(text, expected):
    with pytest.raises(SynthesisError, match=expected):
        speak(text)
    assert speak("the next one").size


def test_many_look_at_every_text_before_the_first_is_spoken():
    with pytest.raises(SynthesisError, match="empty"):
        speak_many([(TEXT, Voice()), ("", Voice())])
    with pytest.raises(ValueError, match="workers: 0; expected at least 1"):
        speak_many([(TEXT, Voice())], workers=0)
    assert list(speak_many([])) == []


def test_longer_than_ten_minutes_is_refused():
    with pytest.raises(SynthesisError, match="longer than 10 minutes"):
        speak("seven hundred words " * 500, Voice(rate=80))


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(synthesis, "_workers", {})
    assert not synthesis.available()
    with pytest.raises(SynthesisError, match=r"pip install 'refine\[synthesis\]'"):
        speak(TEXT, Voice())


def test_a_library_that_does_not_load_says_so(monkeypatch):
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: "no-such-library.so")
    monkeypatch.setattr(synthesis, "_workers", {})
    with pytest.raises(SynthesisError, match=r"did not start: .*no-such-library.*pip install"):
        speak(TEXT)


# --- a crash stays where it happened ---

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows starts a process each time")


@forks
def test_a_crash_in_one_text_does_not_poison_the_next():
    expected = speak(TEXT, BREATHY)
    worker = worker_process()

    def crash() -> None:
        wait_until(worker.children)
        worker.children()[0].send_signal(signal.SIGSEGV)

    thread = threading.Thread(target=crash)
    thread.start()
    with pytest.raises(SynthesisError, match=r"was not spoken in en: .*crashed \(SIGSEGV\)"):
        speak("seven hundred words " * 300)
    thread.join()
    np.testing.assert_array_equal(speak(TEXT, BREATHY), expected)


@forks
def test_a_killed_worker_is_started_again():
    expected = speak(TEXT, BREATHY)
    killed = worker_process()
    killed.kill()
    wait_until(lambda: gone(killed))
    np.testing.assert_array_equal(speak(TEXT, BREATHY), expected)
    assert worker_process().pid != killed.pid


@forks
def test_an_utterance_that_hangs_is_ended():
    code = """
import mmap, time
from refine import _espeak
class Hanging:
    def speak(self, request, write): time.sleep(30)
_espeak.TIME_LIMIT = 1
try:
    _espeak.speak_in_fork(Hanging(), {}, mmap.mmap(-1, 4096))
except _espeak.SpeechError as error:
    print(error)
"""
    assert run_python(code) == "espeak-ng took longer than 1 s"


@forks
def test_the_worker_ends_when_its_parent_is_killed():
    code = """
import os, psutil, signal, refine.synthesis as s
s.speak("one")
worker = psutil.Process(s._workers[os.getpid()].process.pid)
print(worker.pid, worker.is_running(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    pid, running = done.stdout.split()
    assert running == "True"  # until its parent went

    def ended() -> bool:
        return not psutil.pid_exists(int(pid)) or gone(psutil.Process(int(pid)))

    wait_until(ended)
    assert ended()


def test_the_worker_is_small_and_nothing_heavy_is_imported_before_it_is_needed():
    loaded = run_python(
        "import sys, refine.synthesis;"
        "print([m for m in ('torch', 'scipy', 'streamlit') if m in sys.modules])"
    )
    assert loaded == "[]"
    speak(TEXT)
    # the library's voices and the interpreter: a fork has little to copy
    assert worker_process().memory_info().rss < 40e6
