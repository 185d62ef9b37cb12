"""Tables for other viewers: the same vectors, clips and labels as in the house."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refined import Family, family

from refine import evaluation, maps
from refine.cli import run as command
from refine.corpus import open_corpus
from refine.embeddings import open_embeddings
from refine.export import ExportError, export
from refine.projection import joint_pca


@pytest.fixture(scope="module")
def kin(tmp_path_factory, _tones: Path, tiny_encoder) -> Iterator[Family]:
    with family(tmp_path_factory.mktemp("kin"), _tones, tiny_encoder, measured=False) as made:
        clips = made.corpus / "clips.csv"
        # in quotes, a cell may hold a tab and a line break
        clips.write_text(clips.read_text().replace("calm", '"ca\tlm\nly"'))
        yield made


@pytest.fixture(autouse=True)
def _folders(kin: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    kin.use(monkeypatch)


def vectors(kin: Family, name: str) -> np.ndarray:
    corpus = evaluation.choose_split(open_corpus(kin.corpus), "all")
    table = evaluation.Tables(name).of(corpus, "all")
    return open_embeddings(table.path).vectors("mean")


def test_parquet_holds_vectors_coordinates_factors_and_recordings(
    kin: Family, tmp_path: Path
) -> None:
    done = export(
        kin.first.id, str(kin.corpus), tmp_path / "out", against=kin.base, split="all"
    )  # fmt: skip
    table = pd.read_parquet(done.files[0])
    assert done.n == len(table) == 36
    assert all(Path(path).is_file() for path in table["audio"])
    assert set(table["speaker"]) == {f"s{i:02}" for i in range(6)}
    x, z = vectors(kin, kin.first.id), vectors(kin, kin.base)
    np.testing.assert_array_equal(np.stack(table["vector"].to_list()), x)
    np.testing.assert_array_equal(np.stack(table["against_vector"].to_list()), z)
    xy = joint_pca(x, z)
    np.testing.assert_allclose(table[["pca_x", "pca_y"]], xy.before, atol=1e-9)
    np.testing.assert_allclose(table[["against_pca_x", "against_pca_y"]], xy.after, atol=1e-9)
    assert not [name for name in table if "umap" in name]


def test_alone_it_has_its_own_plane(kin: Family, tmp_path: Path) -> None:
    done = export(kin.first.id, str(kin.corpus), tmp_path, split="all")
    table = pd.read_parquet(done.files[0])
    assert "pca_x" in table
    assert not [name for name in table if name.startswith("against")]


def test_a_umap_that_was_made_goes_along(kin: Family, tmp_path: Path, monkeypatch) -> None:
    clips = open_corpus(kin.corpus).table["clip"].tolist()[:-1]  # one was not drawn
    drawn = maps.Map(
        pd.DataFrame({"clip": clips}),
        {"before": np.zeros((35, 2)), "after": np.arange(70.0).reshape(35, 2)},
        *[None] * (len(maps.Map._fields) - 2),
    )
    monkeypatch.setattr(maps, "found", lambda *_: drawn)
    monkeypatch.setattr(evaluation, "cached", lambda *_, **__: {"any": 1})
    done = export(kin.first.id, str(kin.corpus), tmp_path, against=kin.base, split="all")
    table = pd.read_parquet(done.files[0]).set_index("clip")
    assert table.loc[clips[3], "umap_x"] == 6
    assert table.loc[clips[3], "against_umap_y"] == 0
    assert table["umap_x"].isna().sum() == 1


def test_the_projector_reads_what_was_written(kin: Family, tmp_path: Path) -> None:
    done = export(kin.first.id, str(kin.corpus), tmp_path, "projector", split="all")
    names = [path.name for path in done.files]
    assert names == ["vectors.tsv", "metadata.tsv", "projector_config.pbtxt"]
    read = np.loadtxt(done.files[0], delimiter="\t")
    np.testing.assert_allclose(read, vectors(kin, kin.first.id), rtol=1e-5, atol=1e-7)
    lines = done.files[1].read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    assert len(rows) == 1 + 36  # a head, since there is more than one column
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[0][:2] == ["clip", "audio"]
    assert "ca lm ly" in {row[rows[0].index("emotion")] for row in rows[1:]}
    config = done.files[2].read_text(encoding="utf-8")
    for name in names[:2]:
        assert f'"{name}"' in config


def test_the_clips_of_both_are_the_same_clips(kin: Family, tmp_path: Path) -> None:
    done = export(kin.first.id, str(kin.corpus), tmp_path, against=kin.base, split="test")
    table = pd.read_parquet(done.files[0])
    corpus = open_corpus(kin.corpus)
    assert set(table["clip"]) == set(corpus.subset(split="test").table["clip"])
    assert set(table["split"]) == {"test"}


def test_the_command_writes_and_says_so(kin: Family, tmp_path: Path, capsys) -> None:
    words = ["export", "--encoder", kin.first.id, "--corpus", str(kin.corpus), "--split", "all"]
    assert command([*words, "--format", "projector", "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n"] == 36
    assert all(Path(path).is_file() for path in told["files"])


def test_what_cannot_be_exported_is_a_sentence(kin: Family, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected one of: parquet, projector"):
        export(kin.base, str(kin.corpus), tmp_path, "csv")  # type: ignore[arg-type]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ExportError, match="choose another folder"):
        export(kin.base, str(kin.corpus), blocked, split="all")
    with pytest.raises(ValueError, match="a number, mean"):
        command(
            ["export", "--encoder", kin.base, "--corpus", str(kin.corpus), "--out", str(tmp_path),
             "--layer", "x"]
        )  # fmt: skip
