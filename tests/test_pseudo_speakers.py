"""Pseudo-speakers: pitch, melody, formants and tilt as asked; words, timing and loudness stay."""

import numpy as np
import pandas as pd
import pytest
import speech
from test_pitch import pulses

from refine import audio
from refine.corpus import open_corpus
from refine.options import OptionError
from refine.pitch import fundamental
from refine.pseudo_speakers import (
    SPREAD,
    PseudoSpeaker,
    PseudoSpeakerError,
    cast,
    change,
    make,
)


def level_db(waveform):
    return 10 * np.log10(np.mean(waveform.astype(float) ** 2))


def spectrum(waveform, hertz):
    """Level in dB about some frequencies, mean over the recording, smoothed over a formant."""
    power = np.abs(np.fft.rfft(waveform.astype(float) * np.hanning(len(waveform)))) ** 2
    at = np.fft.rfftfreq(len(waveform), 1 / speech.RATE)
    return np.array([10 * np.log10(power[np.abs(at - f) < 120].mean()) for f in hertz])


def mel_shape(waveform):
    """13 cepstra of 24 mel bands a frame of 25 ms, the level left out: what is said."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 7600 / 700), 26) / 2595) - 1)
    at = np.fft.rfftfreq(512, 1 / speech.RATE)
    rising = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    bands = np.log(power @ np.clip(np.minimum(rising, falling), 0, None).T + 1e-8)
    k = np.arange(1, 13)[:, None] * (np.arange(24) + 0.5) / 24
    cepstra = bands @ np.cos(np.pi * k).T
    return (cepstra - cepstra.mean(0)) / (cepstra.std(0) + 1e-6)


def warped_distance(a, b):
    """Dynamic time warping over the cepstra, a step's mean distance."""
    cost = np.linalg.norm(a[:, None] - b[None], axis=-1)
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0
    for i in range(len(a)):
        for j in range(len(b)):
            best = min(total[i, j + 1], total[i + 1, j], total[i, j])
            total[i + 1, j + 1] = cost[i, j] + best
    return total[-1, -1] / (len(a) + len(b))


@pytest.fixture(scope="module")
def spoken():
    """Sentences by espeak-ng: real syllables, pauses and consonants."""
    from refine.synthesis import Voice, speak

    voice = Voice("en", "m3")
    return [speak(text, voice) for text in ("the kettle is warm", "open seven windows today")]


# -- one recording ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pitch", [0.75, 0.9, 1.2, 1.4])
def test_the_pitch_changes_as_asked_and_nothing_else_in_time(spoken, pitch):
    before = fundamental(spoken[0])
    changed = change(spoken[0], PseudoSpeaker("a", pitch=pitch))
    after = fundamental(changed)
    both = (before > 0) & (after > 0)
    assert both.sum() > 0.8 * (before > 0).sum()
    assert np.median(after[both] / before[both]) == pytest.approx(pitch, rel=0.02)
    assert changed.shape == spoken[0].shape
    assert changed.dtype == np.float32


def test_formants_stay_when_the_pitch_changes(spoken):
    hertz = np.arange(250, 7000, 125)
    before = spectrum(spoken[0], hertz)
    after = spectrum(change(spoken[0], PseudoSpeaker("a", pitch=1.25)), hertz)
    assert np.corrcoef(before, after)[0, 1] > 0.95


@pytest.mark.parametrize(("melody", "low", "high"), [(0.0, 0.0, 0.35), (1.6, 1.3, 1.9)])
def test_the_melody_is_flattened_or_livelier(melody, low, high):
    hz = 150 * 2 ** (0.35 * np.sin(np.linspace(0, 4 * np.pi, 16_000)))
    wave = pulses(hz, 1.0)
    before = fundamental(wave)
    after = fundamental(change(wave, PseudoSpeaker("a", melody=melody)))
    both = (before > 0) & (after > 0)
    ratio = np.std(np.log2(after[both])) / np.std(np.log2(before[both]))
    assert low <= ratio <= high
    assert np.median(after[both]) == pytest.approx(np.median(before[both]), rel=0.05)


@pytest.mark.parametrize("formants", [0.87, 1.15])
def test_resonances_move_by_the_factor(formants):
    t = np.arange(800) / speech.RATE
    ring = np.exp(-t * 500) * np.sin(2 * np.pi * 1200 * t)
    wave = (0.1 * np.convolve(speech.noise(2.0), ring)[:32_000]).astype(np.float32)
    hertz = np.arange(800, 1700, 10)
    before = hertz[spectrum(wave, hertz).argmax()]
    after = hertz[spectrum(change(wave, PseudoSpeaker("a", formants=formants)), hertz).argmax()]
    assert after / before == pytest.approx(formants, rel=0.05)
    voiced = change(pulses(120, 1.0), PseudoSpeaker("a", formants=formants))
    assert np.median(fundamental(voiced)[20:-20]) == pytest.approx(120, rel=0.02)


def test_tilt_is_in_decibels_an_octave():
    wave = speech.noise(2.0)
    hertz = np.array([500, 1000, 2000, 4000])
    gain = spectrum(change(wave, PseudoSpeaker("a", tilt=-3.0)), hertz) - spectrum(wave, hertz)
    np.testing.assert_allclose(np.diff(gain), -3.0, atol=0.6)


def test_loudness_stays_and_nothing_clips(spoken):
    for speaker in cast(8)[1:]:
        changed = change(spoken[1], speaker)
        # a little softer where a peak would not fit
        assert -1.5 < level_db(changed) - level_db(spoken[1]) < 0.01
        assert np.abs(changed).max() <= 0.999
    loud = np.clip(spoken[1] * 100, -1, 1)
    assert np.abs(change(loud, cast(2)[1])).max() <= 0.999


def test_the_words_stay(spoken):
    """Every changed voice is closer to its own sentence than to the other, by warped cepstra."""
    shapes = [mel_shape(wave) for wave in spoken]
    between = warped_distance(*shapes)
    for speaker in cast(6)[1:]:
        for number, wave in enumerate(spoken):
            own = warped_distance(mel_shape(change(wave, speaker)), shapes[number])
            other = warped_distance(mel_shape(change(wave, speaker)), shapes[1 - number])
            assert own < 0.6 * other
            assert own < 0.6 * between


def test_who_changes_nothing_returns_the_recording(spoken):
    assert change(spoken[0], PseudoSpeaker("p")) is spoken[0]


def test_overlap_and_add_alone_is_transparent(spoken):
    from refine.voice_change import with_envelope, with_pitch

    wave = spoken[0].astype(np.float64)
    for rebuilt in (
        with_pitch(wave, fundamental(spoken[0]), 1.0, 1.0),
        with_envelope(wave, 1.0, 0.0),
    ):
        assert level_db(rebuilt - wave) < level_db(wave) - 25


def test_unvoiced_recordings_keep_their_samples_but_for_the_envelope():
    hiss = speech.noise(0.5)
    changed = change(hiss, PseudoSpeaker("a", pitch=1.3))
    assert np.corrcoef(hiss, changed)[0, 1] > 0.9


@pytest.mark.parametrize("length", [1, 7, 100, 479])
def test_recordings_shorter_than_a_period_survive(length):
    for speaker in cast(3):
        changed = change(speech.noise(0.5)[:length], speaker)
        assert changed.shape == (length,)
        assert np.isfinite(changed).all()


def test_silence_stays_silence():
    assert not change(np.zeros(4000, np.float32), PseudoSpeaker("a", pitch=1.2, tilt=2.0)).any()


def test_what_is_no_recording_is_refused():
    with pytest.raises(PseudoSpeakerError, match=r"got shape \(0,\)"):
        change(np.zeros(0, np.float32), PseudoSpeaker("a"))
    with pytest.raises(OptionError, match="pitch: got 9"):
        PseudoSpeaker("a", pitch=9.0)


# -- a cast ----------------------------------------------------------------------------------------


def test_a_cast_is_spread_evenly_repeats_and_only_grows():
    people = cast(32, seed=3)
    assert people[:8] == cast(8, seed=3)
    assert people != cast(32, seed=4)
    assert people[0] == PseudoSpeaker("p00")
    assert len({speaker.name for speaker in people}) == 32
    for field, (low, high) in SPREAD.items():
        values = np.array([getattr(speaker, field) for speaker in people[1:]])
        assert low <= values.min() < values.max() <= high
        thirds = np.histogram(values, bins=3, range=(low, high))[0]
        assert thirds.min() >= 6
    with pytest.raises(PseudoSpeakerError, match="number: got 0"):
        cast(0)


# -- a corpus --------------------------------------------------------------------------------------


def test_a_corpus_is_every_clip_in_every_voice_once(tone_corpus, tmp_path):
    source = open_corpus(tone_corpus).subset("train")
    told = []
    folder = make(source, cast(3), tmp_path / "cache", lambda *n: told.append(n))
    assert told[-1] == (3 * len(source), 3 * len(source))
    made = open_corpus(folder)
    assert len(made) == 3 * len(source)
    table = made.table
    assert set(table["pseudo"]) == {"p00", "p01", "p02"}
    assert set(table["split"]) == {"train"}
    assert (table.groupby("recording")["pseudo"].nunique() == 3).all()
    own = table[table["pseudo"] == "p00"]
    assert (own["speaker"] == own["original"]).all()
    others = table[table["pseudo"] != "p00"]
    assert (others["speaker"] == others["original"] + " as " + others["pseudo"]).all()
    first = own.iloc[0]
    np.testing.assert_allclose(
        audio.load(folder / first["clip"]), source.waveform(first["recording"]), atol=2**-14
    )
    durations = table.groupby("recording")["duration_s"].nunique()
    assert (durations == 1).all()


def test_a_second_call_makes_nothing_and_another_cast_is_another_folder(tone_corpus, tmp_path):
    source = open_corpus(tone_corpus).subset("test")
    folder = make(source, cast(2), tmp_path)
    stamp = (folder / "clips.csv").stat().st_mtime_ns
    assert make(source, cast(2), tmp_path) == folder
    assert (folder / "clips.csv").stat().st_mtime_ns == stamp
    assert make(source, cast(2, seed=1), tmp_path) != folder


def test_pieces_are_cut_at_the_same_places_in_every_voice(tone_corpus, tmp_path):
    source = open_corpus(tone_corpus).subset("test")
    whole = open_corpus(make(source, cast(2), tmp_path))
    cut = open_corpus(make(source, cast(2), tmp_path, piece_s=0.3))
    assert len(cut) > len(whole)
    table = cut.table
    assert (table.groupby("recording")["pseudo"].nunique() == 2).all()
    for clip in source.table["clip"]:
        parts = table[
            (table["recording"].str.split("#").str[0] == clip) & (table["pseudo"] == "p01")
        ]
        joined = np.concatenate([cut.waveform(part) for part in parts["clip"]])
        path = whole.table[(whole.table["recording"] == clip) & (whole.table["pseudo"] == "p01")]
        np.testing.assert_array_equal(joined, whole.waveform(path["clip"].iloc[0]))
    assert set(table["text"][table["recording"].str.contains("#")]) == {""}


def test_an_interrupted_corpus_leaves_nothing_behind(tone_corpus, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(open_corpus(tone_corpus), cast(2), tmp_path / "cache", stop)
    assert list((tmp_path / "cache").iterdir()) == []


def test_corpora_without_speakers_have_pseudo_speakers_alone(tone_corpus, tmp_path):
    table = pd.read_csv(tone_corpus / "clips.csv").drop(columns="speaker")
    table.to_csv(tone_corpus / "clips.csv", index=False)
    made = open_corpus(make(open_corpus(tone_corpus).subset("test"), cast(2), tmp_path / "c"))
    assert set(made.table["speaker"]) == {"p00", "p01"}


def test_one_voice_is_no_cast_for_a_corpus(tone_corpus, tmp_path):
    with pytest.raises(PseudoSpeakerError, match=r"1 pseudo-speakers, 1 names; give two or more"):
        make(open_corpus(tone_corpus), cast(1), tmp_path)


@pytest.mark.recorded
def test_recorded_voices_change_as_asked_and_keep_their_length(speech_folder):
    corpus = open_corpus(speech_folder / "ravdess")
    for clip in corpus.table["clip"].iloc[[0, 150, 400]]:
        wave = corpus.waveform(clip)
        before = fundamental(wave)
        changed = change(wave, PseudoSpeaker("a", pitch=1.2, formants=1.1))
        after = fundamental(changed)
        both = (before > 0) & (after > 0)
        assert np.median(after[both] / before[both]) == pytest.approx(1.2, rel=0.03)
        assert len(changed) == len(wave)


def test_the_command_line_writes_them_as_a_corpus(tone_corpus, tmp_path, capsys):
    import json

    from refine.__main__ import main

    out = tmp_path / "voices"
    asked = ["synthesise", "--corpus", str(tone_corpus), "--pseudo", "2", "--out", str(out)]
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_clips"] == 72
    assert set(open_corpus(out).table["pseudo"]) == {"p00", "p01"}
    assert main(asked) == 2
    assert "holds a corpus already" in capsys.readouterr().err
    assert main(["synthesise", "hello", "--pseudo", "2", "--out", "x.wav"]) == 2
    assert "pseudo: needs --corpus" in capsys.readouterr().err
