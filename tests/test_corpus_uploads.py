"""Uploads: stored once by content, never outside their folder."""

import io
import types

import pytest
import soundfile
from speech import tone

from refine import paths
from refine.corpus import CorpusError, open_corpus


class Upload(io.BytesIO):
    """What Streamlit hands over: bytes with a name."""

    def __init__(self, name, data):
        super().__init__(data)
        self.name = name


def wav(seconds=0.3, hz=300.0):
    stream = io.BytesIO()
    stream.name = "x.wav"
    soundfile.write(stream, tone(seconds, hz), 16_000, format="WAV")
    return stream.getvalue()


def test_uploads_are_stored_once(tmp_path):
    files = [Upload("a.wav", wav(0.3)), Upload("b.wav", wav(0.4))]
    corpus = open_corpus(files)
    assert corpus.root.parent == paths.cache() / "uploads"
    assert corpus.table["duration_s"].tolist() == pytest.approx([0.3, 0.4])
    again = open_corpus(files[::-1])  # read to their ends by now, and in another order
    assert (again.root, again.fingerprint) == (corpus.root, corpus.fingerprint)
    assert [p.name for p in corpus.root.parent.iterdir()] == [corpus.root.name]
    assert open_corpus(corpus.root).fingerprint == corpus.fingerprint


def test_two_uploads_of_one_name_are_both_kept():
    files = [Upload("a.wav", wav(0.3)), Upload("A.wav", wav(0.4)), Upload("a.wav", wav(0.3))]
    corpus = open_corpus(files)
    assert corpus.table["clip"].tolist() == ["A-2.wav", "a.wav"]


def test_uploads_stay_in_their_folder():
    names = ["../../evil.wav", "/etc/evil2.wav", "C:\\x\\evil3.wav", "..", "happy/a.wav", "\0?.wav"]
    corpus = open_corpus([Upload(name, wav(0.3 + i / 10)) for i, name in enumerate(names)])
    assert all(corpus.path(c).resolve().is_relative_to(corpus.root) for c in corpus.table["clip"])
    stored = {p.relative_to(paths.cache()).parts[0] for p in paths.cache().rglob("*.wav")}
    assert stored == {"uploads"}
    assert {"evil.wav", "etc/evil2.wav", "C_/x/evil3.wav"} <= set(corpus.table["clip"])


def test_an_uploaded_list_is_the_manifest():
    rows = b"path,mood\na.wav,calm\nb.wav,glad\n"
    files = [Upload("a.wav", wav()), Upload("b.wav", wav(0.5)), Upload("clips.csv", rows)]
    assert open_corpus(files).table["mood"].tolist() == ["calm", "glad"]


def test_uploads_without_seek_and_without_files():
    data = [wav()]
    once = types.SimpleNamespace(name="a.wav", read=lambda: data.pop())
    assert len(open_corpus([once])) == 1
    with pytest.raises(CorpusError, match="no file was given; choose"):
        open_corpus([])


def test_a_full_disk_while_storing_uploads(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(CorpusError, match=r"cannot be stored .*No space left on device"):
        open_corpus([Upload("a.wav", wav())])
    assert list((paths.cache() / "uploads").iterdir()) == []
