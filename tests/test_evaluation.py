"""Evaluation: the object of the design, cached, and read back without torch."""

import json
import subprocess
import sys

import pytest

from refine.corpus import CorpusError, open_corpus
from refine.encoders import pretrained
from refine.evaluation import cached, choose_split, evaluate

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
