"""Heads: what a file holds, where it lies, what is refused, and what a predictor answers."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import speech
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from refine import encoders, heads, paths
from refine.corpus import CorpusError, open_corpus
from refine.head_fitting import fit
from refine.heads import Head, HeadError, HeadInfo, Predictor, View
from refine.metrics.calibration import softmax
from refine.probes import ProbeError

LABELS = ("one", "two", "three")


def made(info, dim=32, **changes):
    """A head of random weights for an encoder."""
    random = np.random.default_rng(0)
    about = HeadInfo(
        factor="content", labels=LABELS, threshold=0.5, precision=0.8, dev_precision=0.9,
        dev_coverage=0.7, temperature=2.0, strength=0.1, layer="mean", pooling="mean",
        subspace=None, encoder={"name": "x", "fingerprint": info.fingerprint},
        corpus={"name": "tones", "fingerprint": "c"}, clips={"train": 1, "dev": 1, "test": 1},
        measured={}, notes=("speakers apart",),
    )  # fmt: skip
    arrays = [random.normal(size=shape) for shape in ((3, dim), (3,), (dim,))]
    return Head(replace(about, **changes), *arrays, np.abs(random.normal(size=dim)) + 0.5)


@pytest.fixture
def folder(tiny_encoder, tmp_path):
    """An encoder of the test's own."""
    return shutil.copytree(tiny_encoder("hubert"), tmp_path / "hubert")


@pytest.fixture
def run(folder):
    """A run that has finished with that encoder."""
    place = paths.runs() / "a-run"
    (place / "checkpoints").mkdir(parents=True)
    shutil.copytree(folder, place / "checkpoints" / "final")
    return place


# -- the file ----------------------------------------------------------------------------------


def test_a_head_comes_back_as_it_was(folder):
    info = encoders.peek(folder)
    head = made(info)
    path = heads.save(head, folder)
    back = heads.read(path)
    assert replace(back.info, path=None) == head.info
    x = np.random.default_rng(1).normal(size=(5, 32))
    np.testing.assert_allclose(back.logits(x), head.logits(x), atol=1e-4)
    by_hand = ((x - head.mean) / head.scale) @ head.weights.T + head.bias
    np.testing.assert_allclose(head.probabilities(x), softmax(by_hand / 2.0), rtol=1e-12)
    with safe_open(path, framework="numpy") as file:  # names are JSON, weights safetensors
        assert json.loads(file.metadata()["refine"])["labels"] == list(LABELS)
    assert [p.name for p in path.parent.iterdir()] == ["content.safetensors"]  # nothing half done


def test_the_threshold_decides_and_the_label_stays(folder):
    head = made(encoders.peek(folder), threshold=0.9)
    x = np.random.default_rng(1).normal(size=(50, 32))
    for answer, row in zip(head.predict(x), head.probabilities(x), strict=True):
        assert answer.label == LABELS[row.argmax()]
        assert answer.probability == pytest.approx(row.max())
        assert list(answer.probabilities) == list(LABELS)
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.unsure == (row.max() < 0.9)
    assert {answer.unsure for answer in head.predict(x)} == {True, False}


def test_a_description_needs_no_torch(folder):
    path = heads.save(made(encoders.peek(folder)), folder)
    code = f"""
import json, sys
from refine import heads
(info,) = heads.find({str(folder)!r})
heavy = [name for name in ("torch", "scipy") if name in sys.modules]
print(json.dumps([info.labels, info.threshold, info.stale, str(info.path), heavy]))
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(said.stdout) == [list(LABELS), 0.5, False, str(path), []]


@pytest.mark.parametrize("spoil", ["torn", "empty", "other", "shape", "nan", "version"])
def test_a_broken_file_is_a_sentence(folder, spoil):
    path = heads.save(made(encoders.peek(folder)), folder)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in heads.ARRAYS}
    if spoil == "torn":
        path.write_bytes(path.read_bytes()[:200])
    elif spoil == "empty":
        path.write_bytes(b"")
    elif spoil == "other":
        save_file(arrays, path)
    elif spoil == "shape":
        save_file(arrays | {"bias": arrays["bias"][:2]}, path, metadata)
    elif spoil == "nan":
        save_file(arrays | {"weights": arrays["weights"] * np.nan}, path, metadata)
    else:
        content = json.loads(metadata["refine"]) | {"format": 99}
        save_file(arrays, path, {"refine": json.dumps(content)})
    with pytest.raises(HeadError, match=r"content\.safetensors.*again"):
        heads.read(path)


def test_vectors_of_another_width_are_refused(folder):
    with pytest.raises(HeadError, match="reads 32 numbers a clip"):
        made(encoders.peek(folder)).predict(np.zeros((1, 16)))


# -- where it lies -----------------------------------------------------------------------------


def test_a_run_holds_its_heads_and_any_other_encoder_has_them_in_the_cache(folder, run):
    same = encoders.peek(folder).fingerprint
    assert encoders.peek("a-run").fingerprint == same
    in_run = heads.save(made(encoders.peek("a-run")), "a-run")
    in_cache = heads.save(made(encoders.peek(folder)), folder)
    assert in_run == run / "heads" / "content.safetensors"
    assert in_cache == paths.cache() / "heads" / same[:16] / "content.safetensors"
    assert not (folder / "heads").exists()
    # original and refined carry heads of the same factor side by side
    assert [h.path for h in heads.find("a-run")] == [in_run]
    assert [h.path for h in heads.find(folder)] == [in_cache]
    assert "content" in encoders.peek("a-run").heads


def test_a_read_only_run_has_them_in_the_cache(run, monkeypatch):
    monkeypatch.setattr(heads.os, "access", lambda *_: False)
    path = heads.save(made(encoders.peek("a-run")), "a-run")
    assert path.is_relative_to(paths.cache())
    assert [h.path for h in heads.find("a-run")] == [path]


def test_shipped_heads_are_found_and_ones_own_come_first(folder):
    info = encoders.peek(folder)
    shipped = heads.save(made(info), folder, folder / "heads")
    heads.save(made(info, factor="mood / tone"), folder, folder / "heads")
    assert [h.factor for h in heads.find(folder)] == ["content", "mood / tone"]
    with pytest.raises(HeadError, match="shipped with the encoder"):
        heads.delete(folder, "content")
    own = heads.save(made(info, threshold=0.9), folder)
    assert next(iter(heads.find(folder))).path == own
    assert heads.delete(folder, "content") == own
    assert next(iter(heads.find(folder))).path == shipped
    with pytest.raises(HeadError, match="no head for nothing; it has content, mood"):
        heads.delete(folder, "nothing")


def test_a_head_of_an_earlier_state_is_stale(folder, run):
    heads.save(made(encoders.peek("a-run")), "a-run")
    config = run / "checkpoints" / "final" / "config.json"
    config.write_text(config.read_text().replace("{", '{"note": 1,', 1))
    (found,) = heads.find("a-run")
    assert found.stale
    with pytest.raises(HeadError, match="earlier state of it; fit one: python -m refine heads fit"):
        heads.choose("a-run")
    with pytest.raises(HeadError, match="--factor content"):
        heads.choose("a-run", ["content"])


def test_no_head_names_the_command(folder):
    with pytest.raises(HeadError, match="no head yet; fit one: python -m refine heads fit --enc"):
        Predictor.load(folder)
    heads.save(made(encoders.peek(folder)), folder)
    with pytest.raises(HeadError, match="no head for emotion yet; it has content; fit one"):
        Predictor.load(folder, ["emotion"])


# -- fitting -----------------------------------------------------------------------------------


def test_fitting_calibrates_on_dev_and_measures_on_test(folder, tone_corpus):
    corpus = open_corpus(tone_corpus)
    encoder = encoders.load(folder)
    head = fit(encoder, corpus, "content")
    info = head.info
    assert info.labels == tuple(sorted(LABELS))
    assert info.clips == {"train": 24, "dev": 6, "test": 6}
    assert info.view == View("mean", "mean", None)
    names = {"accuracy", "uar", "macro_f1", "nll", "nll_before", "ece", "ece_before", "coverage"}
    assert names <= set(info.measured)
    for number in info.measured.values():
        assert {"value", "low", "high", "n", "definition"} <= set(number)
        assert number["low"] <= number["high"]
    assert 0.05 <= info.temperature <= 20
    assert 0 <= info.threshold <= 1
    assert f"unsure below {info.threshold:.2f}" in info.statement
    assert "speakers apart" in " ".join(info.notes)
    # the scores are the probe's own: fitted on train, never on dev or test
    from refine import probes
    from refine.embeddings import extract

    table = extract(encoder, corpus, layer="mean")
    split = probes.split_of(corpus.table, "content")
    truth = corpus.table["content"].to_numpy()
    x = table.vectors("mean")
    plain = probes.fit(x[split.train], truth[split.train], info.strength)
    np.testing.assert_allclose(head.logits(x), plain.logits(x), atol=1e-8)


def test_the_best_layer_is_the_one_of_dev(folder, tone_corpus):
    encoder, corpus = encoders.load(folder), open_corpus(tone_corpus)
    head = fit(encoder, corpus, "content", layer="best", pooling="stats")
    assert head.info.layer in (0, 1, 2, "mean")
    assert head.info.pooling == "stats"
    assert head.mean.shape == (64,)


@pytest.mark.parametrize(
    ("factor", "changes", "error", "match"),
    [
        ("mood", {}, ProbeError, "mood: no such factor"),
        ("content", {"precision": 1.2}, HeadError, "precision: got 1.2"),
        ("content", {"layer": 9}, ValueError, "9"),
        ("content", {"subspace": "voice"}, ValueError, "has no voice"),
        ("content", {"subspace": "voice", "layer": "best"}, HeadError, "best with subspace"),
    ],
)
def test_what_cannot_be_fitted_is_a_sentence(folder, tone_corpus, factor, changes, error, match):
    with pytest.raises(error, match=match):
        fit(encoders.load(folder), open_corpus(tone_corpus), factor, **changes)


def test_one_class_and_no_speakers_are_refused_before_embedding(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("refine.head_fitting.extract", lambda *a, **k: pytest.fail("embedded"))
    place = speech.make_corpus(tmp_path / "c", columns=("path", "content"))
    with pytest.raises(ProbeError, match="no speaker"):
        fit(encoders.load(folder), open_corpus(place), "content")
    with pytest.raises((ProbeError, CorpusError)):
        fit(encoders.load(folder), open_corpus(place), "speaker")


# -- asking ------------------------------------------------------------------------------------


@pytest.fixture
def predictor(folder):
    """Two heads that read different vectors."""
    encoder = encoders.load(folder)
    info = encoders.peek(folder)
    return Predictor(
        encoder,
        [made(info), made(info, dim=64, factor="emotion", layer=1, pooling="stats")],
    )


def clips(*seconds):
    return [speech.voice(100 + 40 * i, "one", s, seed=i) for i, s in enumerate(seconds)]


def test_one_forward_pass_answers_all_heads_as_each_alone(predictor, monkeypatch):
    calls = []
    encode = predictor.encoder.encode
    monkeypatch.setattr(
        predictor.encoder, "encode", lambda *a: calls.append(1) or encode(*a), raising=False
    )
    waves = clips(0.6, 1.1, 0.8)
    together = predictor.predict(waves)
    assert calls == [1]
    for wave, found in zip(waves, together, strict=True):
        assert list(found) == ["content", "emotion"]
        (alone,) = predictor.predict([wave])
        for head in predictor.heads:
            single = Predictor(predictor.encoder, [head]).predict([wave])[0][head.info.factor]
            for other in (found[head.info.factor], alone[head.info.factor]):
                assert other.label == single.label
                assert other.probability == pytest.approx(single.probability, abs=1e-4)


def test_the_predictor_reads_what_the_table_holds(predictor, folder, tone_corpus):
    from refine.embeddings import extract

    corpus = open_corpus(tone_corpus)
    encoder = encoders.load(folder)
    table = extract(encoder, corpus, layer="all", pooling="stats")
    wave = corpus.waveform(corpus.table["clip"][3])
    vectors = predictor.vectors([wave])
    np.testing.assert_allclose(
        vectors[View(1, "stats")][0], table.vectors("1")[3], rtol=1e-3, atol=1e-4
    )
    assert set(vectors) == {View("mean", "mean"), View(1, "stats")}
    assert predictor.own == View("mean", "mean")


def test_a_subspace_is_read_from_the_projected_vector(folder):
    from refine.encoders.projector import Projector, ProjectorConfig

    encoder = encoders.load(folder)
    blocks = {"content": 3, "speaker": 5}
    encoder.projector = Projector(ProjectorConfig((32, 8), subspaces=blocks)).eval()
    about = {"layer": "projected", "subspace": "speaker"}
    info = encoders.peek(folder)
    head = made(info, dim=5, **about)
    predictor = Predictor(encoder, [head, made(info, factor="emotion")])
    waves = clips(0.7, 0.9)
    vectors = predictor.vectors(waves)
    batch = torch.zeros(2, len(waves[1]))
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    lengths = torch.tensor([len(wave) for wave in waves])
    with torch.inference_mode():
        expected = encoder.embed(batch, lengths, "projected", subspace="speaker").numpy()
    np.testing.assert_allclose(vectors[head.info.view], expected, atol=1e-6)
    assert predictor.own == View("projected", "mean")


@pytest.mark.parametrize(
    ("waveform", "match"),
    [
        (np.zeros(16_000, "f4"), "silent"),
        (speech.tone(0.3), "0.30 s; at least 0.5 s are needed"),
        (np.zeros(0, "f4"), "no samples"),
        (np.full(16_000, np.nan, "f4"), "NaN"),
    ],
)
def test_clips_without_an_answer_say_why(predictor, waveform, match):
    assert match in predictor.problem(waveform)
    with pytest.raises(HeadError, match=f"clip 1: .*{match}"):
        predictor.predict([speech.tone(1.0), waveform])


def test_a_clip_below_the_encoders_own_least_is_refused(predictor):
    predictor.min_samples = 24_000
    assert "at least 1.5 s are needed" in predictor.problem(speech.tone(1.0))
