"""Embedding tables that are not what they seem: vectors that are not finite, another corpus."""

import json
import shutil
from pathlib import Path

import frame
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import speech
import split
import twins
from streamlit.testing.v1 import AppTest

from refine import comparison, embeddings, encoders, evaluation, maps, spaces
from refine.__main__ import main
from refine.corpus import open_corpus
from refine.embeddings import EmbeddingsError, extract, open_embeddings

CLIP = "02/two_1.wav"


def spoil(path: str | Path, clips: list[str], layer: str, value: float = np.nan) -> Path:
    """Overwrite a number in the vectors of some clips, as an edited table would have it."""
    table = pq.read_table(path)
    dim = table.schema.field("vector").type.list_size
    x = np.stack(table["vector"].to_pylist()).astype(np.float32)
    rows = [
        (clip in clips) and (name == layer)
        for clip, name in zip(table["clip"].to_pylist(), table["layer"].to_pylist(), strict=True)
    ]
    x[rows, 3] = value
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), dim)
    place = table.schema.get_field_index("vector")
    field = table.schema.field("vector")
    edited = table.set_column(place, field, pa.array(vectors, type=field.type))
    layers = json.loads(table.schema.metadata[b"refine"])["layers"]
    pq.write_table(edited, path, row_group_size=table.num_rows // len(layers))
    return Path(path)


def forget() -> None:
    """Results are measured anew, of the tables there are."""
    shutil.rmtree(evaluation.paths.cache() / "evaluations")


# -- vectors that are not finite -------------------------------------------------------------------


def test_a_clip_that_an_encoder_turns_into_nan_is_left_out_and_named(
    tiny_encoder, tone_corpus, monkeypatch
):
    corpus, encoder = open_corpus(tone_corpus), encoders.load(tiny_encoder("hubert"))
    whole = extract(encoder, corpus, out=tone_corpus / "whole.parquet")
    decode = embeddings._decode

    def spoilt(corpus, clip, encoder):
        return decode(corpus, clip, encoder) * (np.nan if clip == CLIP else 1)

    monkeypatch.setattr(embeddings, "_decode", spoilt)
    table = extract(encoder, corpus)
    assert list(table.left_out) == [CLIP]
    assert table.left_out[CLIP].startswith("its vector of layers 0, 1, 2, mean holds NaN")
    kept = (whole.table["clip"] != CLIP).to_numpy()
    assert table.table["clip"].tolist() == whole.table["clip"][kept].tolist()
    for layer in table.layers:  # those that were encoded beside it are as they were
        np.testing.assert_allclose(table.vectors(layer), whole.vectors(layer)[kept], atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_edited_table_gives_only_finite_vectors(tiny_encoder, tone_corpus, value):
    corpus = open_corpus(tone_corpus)
    table = extract(encoders.load(tiny_encoder("hubert")), corpus)
    whole = {layer: table.vectors(layer) for layer in table.layers}
    clips = table.table["clip"].tolist()
    edited = open_embeddings(spoil(table.path, [CLIP, "00/one_0.wav"], "1", value))
    kept = [row for row, clip in enumerate(clips) if clip not in (CLIP, "00/one_0.wav")]
    assert edited.n == 34
    assert edited.table["clip"].tolist() == [clips[row] for row in kept]
    assert edited.table.index.tolist() == list(range(34))
    for layer, x in whole.items():
        np.testing.assert_array_equal(edited.vectors(layer), x[kept])
    reason = "its vector of layer 1 holds NaN or infinity; listen to it, and try another encoder"
    assert edited.left_out == {CLIP: reason, "00/one_0.wav": reason}
    # a large vector is not an infinite one, though its sum is
    again = spoil(table.path, clips, "1", 3e38)
    assert open_embeddings(again).n == 36


def test_a_table_without_a_finite_vector_or_without_layers_of_its_own_is_refused(
    tiny_encoder, tone_corpus
):
    table = extract(encoders.load(tiny_encoder("hubert")), open_corpus(tone_corpus))
    clips = table.table["clip"].tolist()
    pq.write_table(pq.read_table(table.path), table.path)
    with pytest.raises(EmbeddingsError, match=r"1 row groups for 4 layers.*row_group_size=36"):
        _ = open_embeddings(table.path).table
    path = spoil(table.path, clips, "2")
    with pytest.raises(EmbeddingsError, match="every vector holds NaN or infinity; remove"):
        _ = open_embeddings(path).n


def test_evaluate_and_classes_name_what_they_left_out(
    tiny_encoder, tone_corpus, capsys: pytest.CaptureFixture[str]
):
    encoder = str(tiny_encoder("hubert"))
    result = evaluation.evaluate(encoder, str(tone_corpus), split="all")
    spoil(result["embeddings"], [CLIP], "mean")
    assert list(evaluation.left_out(result)) == [CLIP]  # though it was measured before
    forget()
    ask = ["--corpus", str(tone_corpus), "--split", "all"]
    assert main(["evaluate", "--encoder", encoder, *ask, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_clips"] == 35
    assert told["isotropy"]["isoscore"]["n"] == 35
    assert list(told["left_out"]) == [CLIP]
    assert main(["evaluate", "--encoder", encoder, *ask]) == 0
    said = capsys.readouterr().err
    assert "1 clip left out of every number:" in said
    assert f"{CLIP}: its vector of layer mean holds NaN or infinity" in said
    assert main(["classes", "--before", encoder, *ask, "--factor", "content"]) == 0
    shown = capsys.readouterr()
    assert "35 clips" in shown.err
    assert CLIP in shown.err


def test_an_encoder_that_only_says_nan_is_one_sentence(
    tiny_encoder, tone_corpus, tmp_path, capsys: pytest.CaptureFixture[str]
):
    import torch

    broken = encoders.load(tiny_encoder("hubert"))
    with torch.no_grad():  # weights that are not finite are refused before
        broken.model.encoder.layers[1].feed_forward.output_dense.weight.mul_(3e38)
    broken.save(tmp_path / "broken")
    ask = ["--encoder", str(tmp_path / "broken"), "--corpus", str(tone_corpus)]
    assert main(["evaluate", *ask]) != 0
    said = capsys.readouterr().err
    assert "no clip could be encoded; the first: " in said
    assert "its vector of layers 2, mean holds NaN or infinity" in said
    assert "Traceback" not in said


def opened(page: str, address: dict[str, str], **more: str) -> AppTest:
    return frame.opened(page, **address, **more)


@pytest.mark.parametrize("page", ["isotropy", "classes", "subspaces"])
def test_a_page_goes_on_without_the_clip_and_says_so(
    page: str, tmp_path: Path, tiny_encoder, monkeypatch, spawned: list
) -> None:
    address = split.measured(tmp_path, tiny_encoder)
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path / "cache"))
    result = evaluation.cached(address["after"], address["corpus"], split="all")
    assert result is not None
    spoil(result["embeddings"], [CLIP], "projected")
    app = opened(page, address)
    assert not app.error
    assert not spawned
    (told,) = [box for box in app.expander if "left out" in box.label]
    assert told.label.endswith("1 clip left out of every number, for a reason each")
    (row,) = told.dataframe[0].value.to_dict("records")
    assert row["clip"] == CLIP
    assert row["encoder"] == "after"
    assert row["reason"].startswith("its vector of layer projected holds NaN or infinity")


# -- another corpus --------------------------------------------------------------------------------


@pytest.fixture
def others(tone_corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two corpora of one name, with clips of the same names that sound different."""
    other = Path(shutil.copytree(tone_corpus, tmp_path / "elsewhere" / "tones"))
    for number, path in enumerate(sorted(other.rglob("*.wav"))):
        speech.write(path, speech.tone(0.5, 150 + 7 * number))
    return tone_corpus, other


def test_two_corpora_of_one_name_are_not_compared(others, tiny_encoder):
    names = [str(tiny_encoder(family)) for family in ("hubert", "wavlm")]
    first, second = (
        evaluation.evaluate(name, str(corpus), split="all")
        for name, corpus in zip(names, others, strict=True)
    )
    sentence = r"36 of 36 clips of one name are different recordings, the first is 00/one_0\.wav"
    with pytest.raises(EmbeddingsError, match=sentence):
        comparison.changes(first, second)
    with pytest.raises(EmbeddingsError, match="measure both on the same corpus"):
        maps.clips({"before": first, "after": second}, 100)
    with pytest.raises(EmbeddingsError, match=sentence):
        spaces.spaces_of(first, second, encoders.peek(names[1]))
    # parts of one corpus are not two corpora
    some = evaluation.evaluate(names[1], str(others[0]), split="test")
    assert comparison.changes(first, some)["n_clips"] == some["n_clips"]


def exchange(address: dict[str, str], role: str, other: Path) -> Path:
    """Put the table of another corpus where that of this one is kept."""
    result = evaluation.cached(address[role], address["corpus"], split="all")
    assert result is not None
    strange = evaluation.evaluate(address[role], str(other), split="all")
    shutil.copy(strange["embeddings"], result["embeddings"])
    return Path(result["embeddings"])


def test_a_table_of_another_corpus_is_refused_by_the_commands(
    others, tiny_encoder, capsys: pytest.CaptureFixture[str]
):
    encoder = str(tiny_encoder("hubert"))
    address = {"before": encoder, "corpus": str(others[0])}
    evaluation.evaluate(encoder, address["corpus"], split="all")
    path = exchange(address, "before", others[1])
    for command in (["evaluate", "--encoder"], ["classes", "--before"]):
        arguments = [*command, encoder, "--corpus", address["corpus"], "--split", "all"]
        assert main(arguments) != 0
        said = capsys.readouterr().err
        assert path.name in said.replace("\n", "")
        assert "holds vectors of another corpus (tones, fingerprint" in " ".join(said.split())
        assert "remove the file and measure again" in " ".join(said.split())
    path.unlink()
    assert main(["evaluate", "--encoder", encoder, "--corpus", address["corpus"]]) == 0


@pytest.mark.parametrize("page", ["isotropy", "classes", "subspaces"])
def test_a_table_of_another_corpus_is_refused_by_a_page(
    page: str, tmp_path: Path, tiny_encoder, monkeypatch, spawned: list
) -> None:
    made = twins.measured if page == "classes" else split.measured
    address = made(tmp_path, tiny_encoder)
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path / "cache"))
    other = Path(shutil.copytree(address["corpus"], tmp_path / "elsewhere" / "tones"))
    for number, path in enumerate(sorted(other.rglob("*.wav"))):
        speech.write(path, speech.tone(0.5, 150 + 7 * number))
    exchange(address, "after", other)
    app = opened(page, address)
    assert "holds vectors of another corpus (tones, fingerprint" in frame.said(app)
    assert "remove the file and measure again" in frame.said(app)
