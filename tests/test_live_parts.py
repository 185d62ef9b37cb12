"""The parts of a live scene: smoothing, the open map, voices by name, the challenge, the frames."""

import io
from pathlib import Path

import live_words
import numpy as np
import pytest

from refine.audio import SAMPLE_RATE
from refine.live import challenge, place, voices, wire
from refine.live.predict import FLOOR, Smoother
from refine.live.voices import VoiceError, Voices, equal_point
from refine.projection import joint_pca

RNG = np.random.default_rng(0)


def chances(*values: float) -> np.ndarray:
    return np.array(values) / sum(values)


def test_smoothing_is_the_geometric_mean_of_the_utterance() -> None:
    smoother, rows = Smoother(0.6), [chances(5, 3, 2), chances(1, 8, 1), chances(2, 2, 6)]
    logs = np.log(rows[0])  # slowly, from the definition
    for row in rows[1:]:
        logs = 0.6 * np.log(row) + 0.4 * logs
    for row in rows:
        smooth = smoother.add("emotion", row, 1, False)
    np.testing.assert_allclose(smooth, np.exp(logs) / np.exp(logs).sum())


def test_smoothing_of_one_window_a_new_utterance_and_the_end() -> None:
    smoother, first, second = Smoother(), chances(9, 1), chances(2, 8)
    np.testing.assert_allclose(smoother.add("a", first, 1, False), first)
    np.testing.assert_allclose(smoother.add("b", second, 1, False), second)  # another series
    np.testing.assert_allclose(smoother.add("a", second, 2, False), second)
    np.testing.assert_allclose(smoother.add("a", first, 2, True), first)


def test_smoothing_forbids_no_class_and_refuses_a_share_of_nothing() -> None:
    smooth = Smoother().add("a", chances(1, 0), 1, False)
    assert smooth[1] == pytest.approx(FLOOR, rel=0.01)
    with pytest.raises(ValueError, match="share"):
        Smoother(0)


@pytest.mark.parametrize(("first", "second"), [(12, 12), (6, 20), (20, 6)])
def test_clips_of_the_map_fall_where_the_map_has_them(first: int, second: int) -> None:
    before, after = RNG.normal(size=(40, first)) + 1, RNG.normal(size=(40, second))
    joint = joint_pca(before, after)
    rooms = place.rooms(before, after)
    for room, vectors, xy in zip(rooms, (before, after), (joint.before, joint.after), strict=True):
        for row in (0, 7, 39):
            spot = room.place(3.0 * vectors[row])  # the length of a vector says nothing
            np.testing.assert_allclose((spot.x, spot.y), xy[row], atol=1e-9)
            assert spot.near[0] == row


def test_a_vector_of_another_width_is_refused() -> None:
    room = place.alone(RNG.normal(size=(10, 4)))
    with pytest.raises(ValueError, match="4 numbers"):
        room.place(np.ones(5))
    with pytest.raises(ValueError, match="not all zero"):
        room.place(np.zeros(4))


def crowd(centre: float = 5.0) -> tuple[Voices, dict[str, np.ndarray]]:
    """Speakers around a common direction, as encoders leave them."""
    dim = 16
    cone = np.full(dim, centre)
    people = {name: cone + 2 * RNG.normal(size=dim) for name in ("Ada", "Bo")}
    background = cone + 2 * RNG.normal(size=(60, dim))
    return Voices(background), people


def spoken(person: np.ndarray, n: int) -> list[np.ndarray]:
    return list(person + 0.3 * RNG.normal(size=(n, len(person))))


def test_enrolled_voices_are_told_apart_and_strangers_are_nobody() -> None:
    known, people = crowd()
    for name, person in people.items():
        known.enrol(name, spoken(person, 6))
    for name, person in people.items():
        for piece in spoken(person, 20):
            assert known.identify(piece).name == name
    strangers = [known.identify(row).name for row in 5.0 + 2 * RNG.normal(size=(40, 16))]
    assert strangers.count(None) >= 36
    threshold = known.threshold
    assert threshold.own == 12
    assert threshold.other == 2 * 60 + 2 * 6
    assert -1 < threshold.value < 1


def test_voices_are_deleted_and_forgotten() -> None:
    known, people = crowd()
    assert known.identify(people["Ada"]).name is None
    for name, person in people.items():
        known.enrol(f"  {name} ", spoken(person, 6))
    known.delete("Ada")
    assert list(known.pieces) == ["Bo"]
    assert known.identify(people["Ada"]).name is None
    with pytest.raises(VoiceError, match="Ada: not enrolled; there is Bo"):
        known.delete("Ada")
    known.forget()
    assert known.pieces == {}


@pytest.mark.parametrize("name", ["", "   ", "x" * 41])
def test_a_voice_needs_a_name_and_sound(name: str) -> None:
    known, people = crowd()
    with pytest.raises(VoiceError, match="letters"):
        known.enrol(name, spoken(people["Ada"], 3))
    with pytest.raises(VoiceError, match="no speech"):
        known.enrol("Ada", [])


def test_the_threshold_has_the_fewest_errors() -> None:
    own, other = np.array([0.5, 0.7, 0.9]), np.array([-0.2, 0.1, 0.6])
    value, errors = equal_point(own, other)
    slow = min(
        ((own < cut).mean() + (other >= cut).mean()) / 2 for cut in np.linspace(-1, 1, 2_001)
    )
    assert errors == pytest.approx(slow)
    assert ((own < value).mean() + (other >= value).mean()) / 2 == pytest.approx(errors)
    assert equal_point(np.array([1.0]), np.array([0.0])) == (0.5, 0.0)  # half-way


def test_voices_are_saved_only_as_numbers_and_for_one_encoder() -> None:
    known, people = crowd()
    known.enrol("Ada", spoken(people["Ada"], 2))
    path = voices.save(known, "f" * 64)
    assert isinstance(path, Path)
    back = voices.load("f" * 64)
    np.testing.assert_allclose(back["Ada"], known.pieces["Ada"])
    assert voices.load("0" * 64) == {}
    path.write_text("{")
    with pytest.raises(VoiceError, match="delete it and enrol again"):
        voices.load("f" * 64)


def test_the_challenge_scores_what_stays() -> None:
    game = challenge.Challenge()
    assert game.news()["ask"] == challenge.STEPS[0]
    word, other = np.array([1.0, 0.1]), np.array([0.1, 1.0])
    game.hear({"content": word, "speaker": word})
    game.hear({"content": word, "speaker": other})  # the same word in another voice
    assert game.news()["ask"] == challenge.STEPS[2]
    game.hear({"content": other, "speaker": word})  # another word in the same voice
    news = game.news()
    assert (news["points"], news["of"]) == (2, 2)
    assert news["moved"]["content"]["word"] > news["moved"]["content"]["voice"]
    game.hear({"content": word, "speaker": word})  # the next game
    assert game.news()["step"] == 1
    assert challenge.distance(word, -word) == pytest.approx(2)
    assert challenge.distance(word, np.zeros(2)) == 1


def test_frames_come_back_as_they_went() -> None:
    pipe = io.BytesIO()
    wire.write(pipe, {"do": "push", "name": "ş"}, b"\x00\x01")
    wire.write(pipe, {"do": "close"})
    whole = pipe.getvalue()
    pipe.seek(0)
    assert wire.read(pipe) == ({"do": "push", "name": "ş"}, b"\x00\x01")
    assert wire.read(pipe) == ({"do": "close"}, b"")
    assert wire.read(pipe) is None
    assert wire.read(io.BytesIO(whole[:-3])) is not None
    assert wire.read(io.BytesIO(whole[:10])) is None  # torn
    with pytest.raises(wire.WireError, match="at most"):
        wire.read(io.BytesIO(b"\xff" * 8))


def test_a_tape_that_lost_a_buffer_is_whole_word_by_word() -> None:
    source = np.random.default_rng(0).normal(size=5 * SAMPLE_RATE).astype(np.float32)
    words = [live_words.Spoken(s, s + 0.6, "") for s in (0.5, 2.0, 4.0)]
    torn = np.concatenate([np.zeros(300, np.float32), source[:24_000], source[24_160:]])
    error, _ = live_words.alike(torn, source)
    assert error > 0.5
    pieces = live_words.word_by_word(torn, source, words)
    assert [piece.delay for piece in pieces] == [300, 140, 140]
    assert max(piece.error for piece in pieces) < 1e-3
