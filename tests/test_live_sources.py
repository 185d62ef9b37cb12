"""Sources: a paced clip, a microphone of this computer, and what is said when there is none."""

import builtins
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import speech

from refine import audio
from refine.audio import SAMPLE_RATE
from refine.live import sources
from refine.live.sources import Device, SourceError


def test_a_clip_keeps_its_time_and_its_samples() -> None:
    clip, began = speech.tone(0.5), time.perf_counter()
    chunks = list(sources.clip(clip))
    took = time.perf_counter() - began
    assert 1.5 <= took < 3
    whole = np.concatenate([samples for samples, _ in chunks])  # type: ignore[misc]
    np.testing.assert_array_equal(whole[: len(clip)], clip)
    assert not whole[len(clip) :].any()
    stamps = np.array([stamp for _, stamp in chunks])
    assert (np.diff(stamps) >= 0).all()


def test_a_file_goes_as_fast_as_asked(tmp_path: Any) -> None:
    path, began = speech.write(tmp_path / "a.wav", speech.tone(1.0)), time.perf_counter()
    n = sum(len(samples) for samples, _ in sources.file(path, speed=50))  # type: ignore[arg-type]
    assert time.perf_counter() - began < 1
    assert n == 2 * SAMPLE_RATE
    with pytest.raises(audio.AudioError, match="file not found"):
        sources.file(tmp_path / "b.wav")
    with pytest.raises(SourceError, match="no samples"):
        list(sources.clip(np.zeros(0, np.float32)))


def test_a_missing_library_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SourceError, match="apt-get install libportaudio2"):
        sources.devices()
    with pytest.raises(SourceError, match="PortAudio library is not installed"):
        next(sources.microphone())


class Board:
    """A stand-in for sounddevice: which devices there are, and when one falls silent."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *names: str, blocks: int = 3, works: bool = True) -> None:
        self.names, self.blocks, self.works, self.opened = names, blocks, works, 0
        self.default = type("Default", (), {"device": (0, 0)})

    def query_devices(self, device: Any = None, kind: Any = None) -> Any:
        if kind:
            return {"default_samplerate": 48_000.0}
        return [{"name": name, "max_input_channels": 1} for name in self.names]

    def check_input_settings(self, **settings: Any) -> None:
        if not self.works:
            raise self.PortAudioError("Invalid sample rate")

    def _initialize(self) -> None: ...

    def _terminate(self) -> None: ...

    def InputStream(self, callback: Any, samplerate: int, blocksize: int, **rest: Any) -> Any:
        if not self.names:
            raise self.PortAudioError("Error querying device -1")
        board = self

        class Stream:
            def __enter__(self) -> None:
                board.opened += 1
                for _ in range(board.blocks):
                    callback(np.full((blocksize, 1), 0.25, np.float32), blocksize, None, None)

            def __exit__(self, *_: object) -> None: ...

        return Stream()


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*names: str, **more: Any) -> Board:
        one = Board(*names, **more)
        monkeypatch.setattr(sources, "_sounddevice", lambda: one)
        monkeypatch.setattr(sources, "QUIET_S", 0.05)
        monkeypatch.setattr(sources, "RETRY_S", 0.01)
        return one

    return use


def test_no_device_is_a_sentence(board: Any) -> None:
    board()
    with pytest.raises(SourceError, match="no microphone was found; plug one in"):
        sources.devices()
    with pytest.raises(SourceError, match="no microphone was found"):
        next(sources.microphone())


def test_devices_are_listed(board: Any) -> None:
    board("Built-in", "USB")
    assert sources.devices() == [Device(0, "Built-in", True), Device(1, "USB", False)]


def test_an_unplugged_microphone_is_waited_for(board: Any) -> None:
    one = board("USB")
    heard = sources.microphone()
    said = [next(heard) for _ in range(8)]
    words = [stamp for samples, stamp in said if samples is None]
    assert words == ["the microphone was unplugged; waiting for it", "the microphone is back"]
    assert sum(samples is not None for samples, _ in said) == 6
    assert one.opened == 2


def test_a_microphone_of_another_rate_is_resampled(board: Any) -> None:
    board("USB", works=False)
    samples, _ = next(sources.microphone())
    assert samples is not None
    assert len(samples) == 320
    assert samples[100:200].mean() == pytest.approx(0.25, abs=0.01)


@pytest.fixture
def virtual(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A PulseAudio of our own with a null sink, whose monitor is the default microphone."""
    if not shutil.which("pulseaudio") or not shutil.which("pacat"):
        pytest.skip("no PulseAudio here; tools/system_packages.sh installs it for this test")
    pytest.importorskip("sounddevice", exc_type=OSError)
    socket = tmp_path / "pulse"
    monkeypatch.setenv("PULSE_SERVER", f"unix:{socket}")
    monkeypatch.setenv("HOME", str(tmp_path))
    modules = [
        f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        "module-null-sink sink_name=refine rate=16000 channels=1",
    ]
    flags = ["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-n"]
    flags += [f"--load={module}" for module in modules]
    server = subprocess.Popen(["pulseaudio", *flags], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while not socket.exists() and time.monotonic() < until:
            time.sleep(0.1)
        chosen = subprocess.run(
            ["pactl", "set-default-source", "refine.monitor"], capture_output=True, check=False
        )
        if chosen.returncode:
            pytest.skip(f"PulseAudio does not answer here: {chosen.stderr.decode().strip()}")
        yield "refine.monitor"
    finally:
        server.terminate()
        server.wait(10)


def test_the_server_microphone_hears_what_is_played(virtual: str, tmp_path: Any) -> None:
    import sounddevice

    sources._look_again(sounddevice)
    try:
        names = [one.name for one in sources.devices()]
    except SourceError as error:
        pytest.skip(f"PortAudio sees no PulseAudio here ({error})")
    clip = speech.voice(120, "one", 2.0)
    path = speech.write(tmp_path / "played.wav", clip)
    name = next((n for n in names if n in ("pulse", "default")), names[0])
    heard: list[np.ndarray] = []
    source = sources.microphone(name)
    next(source)
    playing = subprocess.Popen(["paplay", str(path)])
    for samples, _ in source:
        heard.append(samples)
        if sum(map(len, heard)) > 4 * SAMPLE_RATE:
            break
    playing.wait(10)
    source.close()
    whole = np.concatenate(heard)
    lag = int(np.argmax(np.correlate(whole, clip, "valid")))
    got = whole[lag : lag + len(clip)]
    inside = slice(2_000, 20_000)
    assert np.corrcoef(got[inside], clip[inside])[0, 1] > 0.999
