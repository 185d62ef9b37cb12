"""Embeddings: right rows, cached, resumed, and honest about what was left out."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from refine import embeddings
from refine.corpus import open_corpus
from refine.embeddings import EmbeddingsError, buckets, extract, find, open_embeddings
from refine.encoders import load
from refine.encoders.collate import pad
from refine.encoders.projector import Projector, ProjectorConfig
from refine.encoders.speaker import build


@pytest.fixture
def encoder(tiny_encoder):
    return load(tiny_encoder("hubert"))


def test_each_row_is_its_clip(encoder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    table = extract(encoder, corpus, batch_seconds=3.0)
    assert table.table["clip"].tolist() == corpus.table["clip"].tolist()
    assert table.layers == ["0", "1", "2", "mean"]
    for row, clip in enumerate(corpus.table["clip"]):
        with torch.inference_mode():
            alone = encoder.embed(*pad([corpus.waveform(clip)]), layer="all", pooling="mean")[:, 0]
        for layer in range(3):
            np.testing.assert_allclose(table.vectors(layer)[row], alone[layer], atol=1e-5)
        np.testing.assert_allclose(table.vectors("mean")[row], alone.mean(0), atol=1e-5)


def test_statistics_of_the_mean_layer_are_not_the_mean_of_statistics(encoder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    table = extract(encoder, corpus, pooling="stats")
    clip = corpus.table["clip"][0]
    with torch.inference_mode():
        expected = encoder.embed(*pad([corpus.waveform(clip)]), layer="mean", pooling="stats")[0]
    np.testing.assert_allclose(table.vectors("mean")[0], expected, atol=1e-5)


def test_the_parquet_file_is_the_design(encoder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    table = extract(encoder, corpus)
    plain = pq.read_table(table.path)
    assert plain.column_names[:3] == ["clip", "layer", "vector"]
    assert set(corpus.factors) <= set(plain.column_names)
    assert plain.num_rows == len(corpus.table) * 4
    assert str(plain.schema.field("vector").type) == "fixed_size_list<element: float>[32]"
    assert table.metadata["encoder_fingerprint"] == encoder.fingerprint


def test_cached_by_fingerprint(encoder, tone_corpus, monkeypatch):
    corpus = open_corpus(tone_corpus)
    first = extract(encoder, corpus)
    assert find(encoder.fingerprint, corpus.fingerprint) == first.path
    monkeypatch.setattr(embeddings, "_fill", lambda *_: pytest.fail("extracted again"))
    assert extract(encoder, corpus).path == first.path
    assert find("another encoder", corpus.fingerprint) is None


def test_an_interrupted_extraction_goes_on(encoder, tone_corpus, monkeypatch):
    corpus = open_corpus(tone_corpus)
    whole = extract(encoder, corpus).vectors("mean").copy()
    extract(encoder, corpus).path.unlink()
    encode, calls = encoder.encode, []

    def stumbling(waveforms, lengths):
        calls.append(len(waveforms))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(waveforms, lengths)

    monkeypatch.setattr(encoder, "encode", stumbling)
    with pytest.raises(KeyboardInterrupt):
        extract(encoder, corpus, batch_seconds=2.0)
    done = calls[0]
    monkeypatch.setattr(encoder, "encode", lambda w, n: (calls.append(len(w)), encode(w, n))[1])
    calls.clear()
    resumed = extract(encoder, corpus, batch_seconds=2.0)
    assert sum(calls) == len(corpus.table) - done
    np.testing.assert_allclose(resumed.vectors("mean"), whole, atol=1e-5)


def test_a_clip_that_vanished_is_left_out_and_named(encoder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    gone = corpus.table["clip"][1]
    corpus.path(gone).unlink()
    table = extract(encoder, corpus)
    assert table.n == len(corpus.table) - 1
    assert gone not in set(table.table["clip"])
    assert "not found" in table.metadata["left_out"][gone]


def test_buckets_cover_every_clip_once_and_hold_the_budget():
    durations = np.random.default_rng(0).uniform(0.2, 9.0, 500)
    batches = buckets(durations, 30.0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(durations[rows].max() * len(rows) <= 30.0 for rows in batches)
    assert durations[batches[0]].max() == durations.max()


def test_refusals(encoder, tone_corpus, tmp_path):
    table = extract(encoder, open_corpus(tone_corpus))
    with pytest.raises(EmbeddingsError, match=r"layer 7: not in the table; it has 0, 1, 2, mean"):
        table.vectors(7)
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(EmbeddingsError, match="not a readable embedding table"):
        open_embeddings(tmp_path / "x.parquet")


def test_a_full_disk_keeps_what_was_computed(encoder, tone_corpus, monkeypatch):
    corpus = open_corpus(tone_corpus)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(embeddings.pq, "ParquetWriter", full)
        with pytest.raises(
            EmbeddingsError, match=r"No space left on device.*what was computed is kept"
        ):
            extract(encoder, corpus)
    monkeypatch.setattr(encoder, "encode", lambda *_: pytest.fail("computed again"))
    assert extract(encoder, corpus).n == len(corpus.table)


def test_a_projected_table_has_its_own_width_and_name(encoder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    encoder.projector = Projector(
        ProjectorConfig(
            (64, 8), subspaces={"a b": 3, "c/d": 5}, feature_layer=1, feature_pooling="stats"
        )
    )
    table = extract(encoder, corpus, layer="projected")
    assert (table.layers, table.metadata["pooling"]) == (["projected"], "stats")
    with torch.inference_mode():
        alone = encoder.embed(*pad([corpus.waveform(corpus.table["clip"][0])]))[0]
    np.testing.assert_allclose(table.vectors("projected")[0], alone, atol=1e-5)
    block = extract(encoder, corpus, layer=None, subspace="c/d")
    assert np.array_equal(block.vectors("projected"), table.vectors("projected")[:, 3:])
    assert block.path != table.path
    found = find(encoder.fingerprint, corpus.fingerprint, "projected", "stats", "c/d")
    assert found == block.path
    hidden = extract(encoder, corpus, layer="all", pooling="mean")
    assert hidden.layers == ["0", "1", "2", "mean"]
    assert hidden.vectors(1).shape == (36, 32)


def test_a_speaker_network_has_one_layer(tone_corpus):
    corpus, network = open_corpus(tone_corpus), build("ecapa_tdnn", channels=16, dim=12)
    table = extract(network, corpus, layer="all")
    assert table.layers == ["embedding"]
    with torch.inference_mode():
        alone = network.embed(*pad([corpus.waveform(corpus.table["clip"][5])]))[0]
    for name in ("embedding", "mean", 0):
        np.testing.assert_allclose(table.vectors(name)[5], alone, atol=1e-5)
        assert np.array_equal(extract(network, corpus, layer=name).vectors(name), table.vectors(0))
    with pytest.raises(ValueError, match="gives one vector a clip, leave pooling out"):
        extract(network, corpus, pooling="stats")
    with pytest.raises(ValueError, match="layer: got 3; ecapa_tdnn has one layer, embedding"):
        extract(network, corpus, layer=3)


def test_one_layer_is_saved_as_a_table_of_its_own(encoder, tone_corpus, tmp_path):
    table = extract(encoder, open_corpus(tone_corpus))
    alone = table.save_layer(1, tmp_path / "one.parquet", why="told")
    assert (alone.layers, alone.metadata["why"], alone.n) == (["1"], "told", 36)
    assert np.array_equal(alone.vectors(1), table.vectors(1))
    assert alone.table.equals(table.table)


def test_vectors_of_several_row_groups_are_the_rows_of_the_file(
    encoder, tone_corpus, tmp_path, monkeypatch
):
    corpus = open_corpus(tone_corpus)
    whole = extract(encoder, corpus, layer="all")
    monkeypatch.setattr(embeddings, "ROW_GROUP", 2)
    parts = extract(encoder, corpus, layer="all", out=tmp_path / "parts.parquet")
    assert parts._file.metadata.num_row_groups > len(parts.layers)
    for layer in parts.layers:
        np.testing.assert_array_equal(parts.vectors(layer), whole.vectors(layer))
