"""The live stream: voice activity, ring, windows, and what is refused."""

import warnings
from itertools import pairwise

import numpy as np
import pytest

from refine import audio, paths
from refine.audio import SAMPLE_RATE
from refine.live.stream import Level, Options, Refusal, Ring, Stream, StreamError, Window
from refine.live.vad import CONTEXT, FRAME, Vad, _weights

SPEECH = sorted((paths.ASSETS / "clips").glob("*.ogg"))
QUIET = np.zeros(SAMPLE_RATE, np.float32)


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """A second of silence, a sentence, a second of silence."""
    return np.concatenate([QUIET, audio.load(SPEECH[0]), QUIET])


class Told:
    """Voice activity that was decided beforehand, frame by frame."""

    def __init__(self, *chances: float) -> None:
        self._chances = list(chances)

    def many(self, frames: np.ndarray) -> list[float]:
        return [self._chances.pop(0) if self._chances else 0.0 for _ in frames]


def noise(frames: int, peak: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (peak * rng.uniform(-1, 1, frames * FRAME)).astype(np.float32)


def test_voice_activity_is_the_network_of_silero(spoken: np.ndarray) -> None:
    # their own network as the oracle, with the weights of the file that we read
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from silero_vad import load_silero_vad

        oracle = load_silero_vad()
    names = {"stft_conv": "stft.forward_basis_buffer", "final_conv": "decoder.decoder.2"}
    names |= {f"conv{i + 1}": f"encoder.{i}.reparam_conv" for i in range(4)}
    state = oracle.state_dict()
    for name, value in _weights().items():
        ours, _, part = name.partition(".")
        if ours == "lstm_cell":
            theirs = f"_model.decoder.rnn.{part}"
        else:
            theirs = f"_model.{names[ours]}" + ("" if ours == "stft_conv" else f".{part}")
        state[theirs].copy_(torch.from_numpy(value))
    oracle.reset_states()
    vad = Vad()
    for start in range(0, len(spoken) - FRAME + 1, FRAME):
        frame = spoken[start : start + FRAME]
        with torch.no_grad():
            expected = oracle(torch.from_numpy(frame), SAMPLE_RATE).item()
        assert vad(frame) == pytest.approx(expected, abs=1e-4)


def test_voice_activity_of_many_frames_is_that_of_each(spoken: np.ndarray) -> None:
    frames = spoken[: len(spoken) // FRAME * FRAME].reshape(-1, FRAME)
    one, many = Vad(), Vad()
    singly = [one(frame) for frame in frames]
    together = np.concatenate([many.many(part) for part in np.split(frames, [1, 40])])
    np.testing.assert_allclose(together, singly, atol=1e-5)


def test_voice_activity_hears_speech_and_not_noise(spoken: np.ndarray) -> None:
    vad = Vad()
    heard = [vad(spoken[i : i + FRAME]) for i in range(0, len(spoken) - FRAME, FRAME)]
    assert np.mean(np.array(heard[35:-40]) > 0.5) > 0.7
    vad.reset()
    still = [vad(frame) for frame in noise(30, 0.01).reshape(-1, FRAME)]
    assert max(still[5:]) < 0.5
    with pytest.raises(ValueError, match="expected \\(512,\\)"):
        vad(QUIET[:CONTEXT])


def test_a_ring_keeps_the_last_samples() -> None:
    ring, everything = Ring(0.01), np.arange(1_000, dtype=np.float32)
    for start in range(0, 1_000, 37):
        ring.add(everything[start : start + 37])
        end = min(start + 37, 1_000)
        low = max(0, end - 160)
        np.testing.assert_array_equal(ring.cut(0, end), everything[low:end])
    assert ring.cut(900, 950).tolist() == everything[900:950].tolist()
    assert ring.cut(0, 500).size == 0
    ring.add(everything)  # more at once than it holds
    np.testing.assert_array_equal(ring.cut(ring.total - 160, ring.total), everything[-160:])


@pytest.mark.parametrize("size", [1, 320, 512, 4_000])
def test_chunks_of_any_size_give_the_same_windows(spoken: np.ndarray, size: int) -> None:
    whole = Stream().push(spoken)
    stream, pieces = Stream(), []
    for start in range(0, len(spoken), size) if size > 1 else ():
        pieces += stream.push(spoken[start : start + size])
    if size == 1:  # a sample at a time, for a part of it
        for sample in spoken[: 3 * FRAME]:
            pieces += stream.push(np.array([sample]))
        whole = Stream().push(spoken[: 3 * FRAME])
    assert len(whole) == len(pieces)
    for one, other in zip(whole, pieces, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Window) and isinstance(other, Window):
            np.testing.assert_array_equal(one.samples, other.samples)


def test_windows_of_a_sentence(spoken: np.ndarray) -> None:
    events = Stream().push(spoken, arrived=7.0)
    windows = [event for event in events if isinstance(event, Window)]
    *hops, last = windows
    assert last.final
    assert not any(window.final for window in hops)
    for window in windows:
        assert len(window.samples) == window.end - window.start
        np.testing.assert_array_equal(window.samples, spoken[window.start : window.end])
        assert window.speech_s >= 0.5
        assert window.arrived == 7.0
    *hops, early = hops
    assert all(len(window.samples) <= 1.5 * SAMPLE_RATE for window in hops)
    steps = [b.end - a.end for a, b in pairwise(hops)]
    assert all(abs(step - 0.25 * SAMPLE_RATE) <= FRAME for step in steps)
    # the utterance as a whole is asked about before it is sure that it is over
    assert [window.whole for window in windows] == [*[False] * len(hops), True, True]
    np.testing.assert_array_equal(early.samples, last.samples)


def test_no_word_is_lost_at_the_end_of_a_file() -> None:
    stream = Stream(vad=Told(*[0.9] * 40))  # type: ignore[arg-type]
    stream.push(noise(40))
    (event,) = stream.finish()
    assert isinstance(event, Window)
    assert event.final
    assert stream.finish() == []


@pytest.mark.parametrize(
    ("chances", "peak", "kind"),
    [
        ([0.9] * 6 + [0.0] * 20, 0.3, "short"),
        ([0.0] * 20, 0.3, "silence"),
        ([0.0] * 20, 0.0, "silence"),
        ([0.9] * 30, 30.0, "clipped"),
    ],
)
def test_what_is_refused(chances: list[float], peak: float, kind: str) -> None:
    stream = Stream(vad=Told(*chances))  # type: ignore[arg-type]
    events = stream.push(np.clip(noise(len(chances), peak), -1, 1))
    refused = [event for event in events if isinstance(event, Refusal)]
    assert kind in {event.kind for event in refused}
    assert not any(isinstance(event, Window) for event in events)
    words = {"short": "0.5 s are needed", "clipped": "are clipped"}
    words |= {"silence": "-60 dBFS" if peak == 0 else "nobody speaks"}
    assert any(words[kind] in event.reason for event in refused)


def test_the_level_says_what_was_heard() -> None:
    stream = Stream(vad=Told(*[0.9] * 10))  # type: ignore[arg-type]
    levels = [event for event in stream.push(noise(10)) if isinstance(event, Level)]
    assert len(levels) == 5
    last = levels[-1]
    assert last.speech
    assert last.heard_s == pytest.approx(10 * FRAME / SAMPLE_RATE + 0.2)
    assert 0.25 < last.peak <= 0.3
    assert last.rms == pytest.approx(0.3 / np.sqrt(3), rel=0.1)


def test_a_pause_begins_another_utterance() -> None:
    speech, pause = [0.9] * 20, [0.0] * 12
    stream = Stream(vad=Told(*speech, *pause, *speech, *pause))  # type: ignore[arg-type]
    events = stream.push(noise(64))
    finals = [event for event in events if isinstance(event, Window) and event.final]
    assert [window.utterance for window in finals] == [1, 2]
    assert finals[1].start > finals[0].end - 0.4 * SAMPLE_RATE


def test_a_breath_is_asked_about_once_and_ends_nothing() -> None:
    speech, breath, pause = [0.9] * 20, [0.0] * 8, [0.0] * 12
    stream = Stream(vad=Told(*speech, *breath, *speech, *pause))  # type: ignore[arg-type]
    windows = [event for event in stream.push(noise(60)) if isinstance(event, Window)]
    assert [window.utterance for window in windows] == [1] * len(windows)
    assert [(window.whole, window.final) for window in windows if window.whole] == [
        (True, False),  # perhaps it was over
        (True, False),
        (True, True),
    ]
    first, second, last = (window for window in windows if window.whole)
    assert (first.start, first.end) != (last.start, last.end)
    assert (second.start, second.end) == (last.start, last.end)


def test_an_hour_leaves_nothing_behind() -> None:
    stream = Stream(vad=Told(*([0.9] * 60 + [0.0] * 40) * 40))  # type: ignore[arg-type]
    for _ in range(40):
        stream.push(noise(100))
    assert len(stream._speech) <= 30 * SAMPLE_RATE // FRAME + 1
    assert len(stream._rest) < FRAME
    assert stream.ring._data.nbytes == 30 * SAMPLE_RATE * 4


@pytest.mark.parametrize("options", [{"hop_s": 0}, {"window_s": 99}, {"off": 0.6}, {"edge_s": 1}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(StreamError, match=next(iter(options))):
        Options(**options)


def test_samples_that_are_no_sound_are_refused() -> None:
    with pytest.raises(StreamError, match="one channel"):
        Stream().push(np.zeros((2, 100), np.float32))
    with pytest.raises(StreamError, match="not finite"):
        Stream().push(np.array([0.0, np.nan]))
