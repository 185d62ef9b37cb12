"""Evaluation: the object of the design, cached, and read back without torch."""

import json
import subprocess
import sys

import pytest

from refine import comparison
from refine.corpus import CorpusError, open_corpus
from refine.embeddings import open_embeddings
from refine.encoders import pretrained
from refine.evaluation import cached, choose_split, evaluate, table_of

METRICS = {"isoscore", "partition", "mean_cosine", "effective_rank", "uniformity"}


def test_the_object_of_the_design(tiny_encoder, tone_corpus):
    result = evaluate(tiny_encoder("hubert"), tone_corpus, split="all")
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert {"encoder", "corpus", "n_clips", "isotropy"} <= set(result)
    assert set(result["isotropy"]) >= METRICS
    assert result["n_clips"] == 36
    assert set(result["layers"]) == {"0", "1", "2", "mean"}
    for number in result["isotropy"].values():
        assert number["low"] <= number["value"] <= number["high"]
        assert {"n", "definition", "range", "direction", "null", "control"} <= set(number)


def test_every_factor_is_judged(tiny_encoder, tone_corpus):
    result = evaluate(tiny_encoder("hubert"), tone_corpus, split="all")
    assert {"speaker", "content"} <= set(result["classes"])
    assert "probe_uar" in result["classes"]["content"]
    assert {"eer", "min_dcf"} <= set(result["verification"]["speaker"])
    assert set(result["subspaces"]) == {"all"}
    cell = result["subspaces"]["all"]["content"]
    assert {"probe_accuracy", "chance", "leakage_bits", "eer"} <= set(cell)


def test_probes_of_test_clips_are_fitted_on_the_others(tiny_encoder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    result = evaluate(tiny_encoder("hubert"), corpus, split="test")
    tested = set(corpus.table["clip"][corpus.table["split"] == "test"])
    detail = result["probes"].get("content")
    assert result["n_clips"] == len(tested)
    if detail is None:
        assert "content" in result["left_out_factors"]
    else:
        assert set(detail["clips"]) <= set(corpus.table["clip"])
    # another rest of the corpus is another result
    part = [*sorted(tested), *corpus.table["clip"][corpus.table["split"] != "test"].tolist()[:-1]]
    assert cached(tiny_encoder("hubert"), corpus.subset(clips=part), split="test") is None


def test_of_a_projector_the_numbers_are_of_its_subspaces(tiny_encoder, tone_corpus, tmp_path):
    from refine.encoders import load
    from refine.encoders.projector import Projector, ProjectorConfig

    encoder = load(tiny_encoder("hubert"))
    config = ProjectorConfig(sizes=(32, 10), subspaces={"speaker": 4, "content": 6})
    encoder.projector = Projector(config)
    encoder.save(tmp_path / "projected", {"recipe": "interventional"})
    result = evaluate(tmp_path / "projected", tone_corpus, split="all")
    assert result["layer"] == "projected"
    assert set(result["layers"]) == {"0", "1", "2", "mean"}
    assert set(result["subspaces"]) == {"speaker", "content"}
    assert {"pairs", "dci"} <= set(result["disentanglement"])
    assert "probe_uar" in result["classes"]["content"]
    assert open_embeddings(table_of(result)).layers == ["projected"]
    assert "mean" in open_embeddings(table_of(result, "mean")).layers
    hidden = evaluate(tmp_path / "projected", tone_corpus, split="all", layer="mean")
    assert set(hidden["subspaces"]) == {"all"}
    plain = evaluate(tiny_encoder("hubert"), tone_corpus, split="all")
    found = comparison.changes(plain, result)  # of other widths, on the same clips
    assert "spread_ratio" in found["classes"]["content"]


def test_changes_between_two_results(tiny_encoder, tone_corpus):
    before, after = (
        evaluate(tiny_encoder(family), tone_corpus, split="all") for family in ("hubert", "wavlm")
    )
    found = comparison.changes(before, after)
    json.dumps(found, allow_nan=False)
    assert found["n_clips"] == 36
    for section in ("classes", "verification"):
        for factor, numbers in found[section].items():
            for name, number in numbers.items():
                expected = (
                    after[section][factor][name]["value"] - before[section][factor][name]["value"]
                )
                assert number["value"] == pytest.approx(expected, abs=1e-6), name
                assert number["low"] <= number["value"] <= number["high"]
    assert {"probe_uar", "spread_ratio"} <= set(found["classes"]["content"])
    assert "eer" in found["verification"]["speaker"]
    same = comparison.changes(before, before)
    for number in same["classes"]["content"].values():
        assert (number["value"], number["low"], number["high"]) == (0, 0, 0)
    with pytest.raises(comparison.ComparisonError, match="measure both on the same clips"):
        comparison.changes(before, after | {"corpus": "another"})


def test_the_test_split_is_the_default(tiny_encoder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    result = evaluate(tiny_encoder("hubert"), corpus)
    assert result["split"] == "test"
    assert result["n_clips"] == (corpus.table["split"] == "test").sum()


def test_cached_without_the_encoder(tiny_encoder, tone_corpus, monkeypatch):
    folder = tiny_encoder("hubert")
    assert cached(folder, tone_corpus, split="all") is None
    result = evaluate(folder, tone_corpus, split="all")
    monkeypatch.setattr(pretrained, "load", lambda _: pytest.fail("the encoder was loaded"))
    assert cached(folder, tone_corpus, split="all") == result
    assert evaluate(folder, tone_corpus, split="all") == result
    assert cached(folder, tone_corpus, split="all", layer=1) is None


def test_reading_a_result_loads_no_torch(tiny_encoder, tone_corpus):
    folder = tiny_encoder("hubert")
    evaluate(folder, tone_corpus, split="all")
    code = (
        "import sys; from refine.evaluation import cached; "
        f"found = cached({str(folder)!r}, {str(tone_corpus)!r}, split='all'); "
        "assert found is not None; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_split_that_is_not_there(tone_corpus):
    corpus = open_corpus(tone_corpus).subset(split="train")
    with pytest.raises(CorpusError, match="no clip in split 'test'; it has train or all"):
        choose_split(corpus, "test")
    assert choose_split(corpus, None) is corpus


@pytest.mark.recorded
def test_recorded_speech_with_the_shipped_encoder(speech_folder):
    result = evaluate("mini", speech_folder / "librispeech")
    assert result["n_clips"] == 60
    assert 0 < result["isotropy"]["isoscore"]["value"] < 1
