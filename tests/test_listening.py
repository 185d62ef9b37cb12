"""The process that keeps encoders loaded: the encoder's own vectors, cached, and how it fails."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import speech
import split

from refine import listening
from refine.listening import ListeningError, embed, place

PATIENCE = 120.0  # s


@pytest.fixture(scope="module")
def _running() -> Iterator[listening.Service]:
    own = listening.Service()
    yield own
    own.close()


@pytest.fixture
def service(_running: listening.Service, monkeypatch: pytest.MonkeyPatch) -> listening.Service:
    monkeypatch.setattr(listening, "_service", lambda: _running)
    return _running


def test_it_gives_the_vectors_of_the_encoder_and_keeps_them(
    service: listening.Service,
    tiny_encoder: Any,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = tiny_encoder("hubert")
    names = [str(base), str(split.encoder(base, tmp_path / "split"))]
    sound = speech.voice(120, "one", 0.6)
    assert embed(names, sound) is None  # no waiting: it is being made
    found = embed(names, sound, PATIENCE)
    assert found is not None
    assert service.state == "ready"

    from refine.encoders import load

    for name, vector in zip(names, found, strict=True):
        np.testing.assert_allclose(
            vector, listening.vector_of(load(name).eval(), sound), rtol=1e-5, atol=1e-6
        )
    assert service.process is not None
    running = service.process.pid
    service.loaded.clear()
    listening.warm(names)
    other = embed(names, speech.voice(200, "two", 0.5), PATIENCE)
    assert other is not None
    assert service.process.pid == running
    asked = []
    monkeypatch.setattr(service, "ask", lambda *given: asked.append(given))
    assert embed(names, sound) is not None  # from the cache, without a question
    assert not asked


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
def test_what_goes_wrong_is_a_sentence_and_may_be_tried_again(
    service: listening.Service, tiny_encoder: Any
) -> None:
    name = str(tiny_encoder("hubert"))
    with pytest.raises(ListeningError, match="shorter than one frame"):
        embed([name], np.zeros(100, np.float32), PATIENCE)
    assert service.process is not None
    service.process.send_signal(signal.SIGSTOP)  # busy, as far as anyone can see
    sound = speech.tone(0.4)
    assert embed([name], sound) is None
    service.process.kill()
    with pytest.raises(ListeningError, match="has ended; try again"):
        embed([name], sound, PATIENCE)
    assert service.state == "off"
    assert embed([name], sound, PATIENCE) is not None


def test_another_sound_has_another_place(tiny_encoder: Any) -> None:
    name = str(tiny_encoder("hubert"))
    first = place(name, speech.tone(0.3))
    assert first == place(name, speech.tone(0.3))
    assert first != place(name, speech.tone(0.3, 221.0))
    assert first != place(str(tiny_encoder("wavlm")), speech.tone(0.3))
    with pytest.raises(ValueError, match="nowhere"):
        place("./nowhere", speech.tone(0.3))


def test_old_sounds_are_removed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MOST_FILES", 2)
    for number in range(4):
        (tmp_path / f"{number}.npy").write_bytes(b"")
        time.sleep(0.01)
    listening._prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.npy", "3.npy"]
