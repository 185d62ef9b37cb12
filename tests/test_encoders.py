"""Encoders: every family, padding that never matters, one sentence for each broken checkpoint."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from refine.encoders import EncoderError, load, peek
from refine.encoders.collate import pad
from refine.encoders.pooling import mean_pool, stats_pool

FAMILIES = ["wav2vec2-group", "wav2vec2-layer", "hubert", "wavlm", "data2vec-audio"]


def speechlike(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=int(seconds * 16_000))).astype(np.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_plain_transformers(tiny_encoder, family):
    folder = tiny_encoder(family)
    waveform = speechlike(1.0)
    normalised = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    plain = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = plain(
            torch.from_numpy(normalised)[None], output_hidden_states=True
        ).hidden_states
        states = load(folder).encode(*pad([waveform])).states
    assert len(states) == len(expected) == 3
    for ours, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "stats"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_never_changes_a_result(tiny_encoder, family, pooling):
    encoder = load(tiny_encoder(family))
    waveforms = [speechlike(seconds, seed) for seed, seconds in enumerate([0.25, 1.0, 0.6])]
    with torch.inference_mode():
        together = encoder.embed(*pad(waveforms), layer="all", pooling=pooling)
        alone = [encoder.embed(*pad([w]), layer="all", pooling=pooling) for w in waveforms]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), atol=1e-5, rtol=0)


def test_gradient_reaches_the_front_end(tiny_encoder):
    encoder = load(tiny_encoder("hubert"))
    encoder.embed(*pad([speechlike(0.3), speechlike(0.5)])).square().sum().backward()
    first = encoder.model.feature_extractor.conv_layers[0].conv.weight
    assert first.grad is not None
    assert float(first.grad.abs().max()) > 0


def test_pooling_by_hand():
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]]])  # (batch, frames, dim)
    lengths = torch.tensor([2])
    assert mean_pool(states, lengths).tolist() == [[2.0, 4.0]]
    np.testing.assert_allclose(stats_pool(states, lengths), [[2.0, 4.0, 1.0, 2.0]], atol=1e-6)
    with pytest.raises(ValueError, match="without a frame"):
        mean_pool(states, torch.tensor([0]))


def test_peek_reads_what_load_builds(tiny_encoder):
    folder = tiny_encoder("wavlm")
    info, encoder = peek(folder), load(folder)
    assert (info.family, info.dim, info.n_layers) == ("WavLM", 32, 3)
    assert info.fingerprint == encoder.fingerprint
    assert info.parameters == sum(p.numel() for p in encoder.model.state_dict().values())


def test_saved_again_opens_in_plain_transformers(tiny_encoder, tmp_path):
    encoder = load(tiny_encoder("data2vec-audio"))
    encoder.save(tmp_path / "refined", {"recipe": "rewire", "layer": 1, "pooling": "stats"})
    AutoModel.from_pretrained(tmp_path / "refined", use_safetensors=True)
    again = load(tmp_path / "refined")
    assert (again.layer, again.pooling, again.info.recipe) == (1, "stats", "rewire")
    with torch.inference_mode():
        batch = pad([speechlike(0.5)])
        assert torch.equal(again.encode(*batch).states, encoder.encode(*batch).states)
    assert not list((tmp_path / "refined").glob("*.bin"))


def test_half_precision_weights_load_as_float32(tiny_encoder, tmp_path):
    model = AutoModel.from_pretrained(tiny_encoder("hubert")).half()
    model.save_pretrained(tmp_path / "half")
    assert next(load(tmp_path / "half").parameters()).dtype == torch.float32


def test_bf16_stays_close(tiny_encoder):
    folder = tiny_encoder("hubert")
    batch = pad([speechlike(1.0)])
    with torch.inference_mode():
        exact = load(folder, precision="fp32").embed(*batch)
        rough = load(folder, precision="bf16").embed(*batch)
    assert 0 < float((exact - rough).abs().max()) < 0.05


def test_a_clip_shorter_than_a_frame_is_refused(tiny_encoder):
    encoder = load(tiny_encoder("hubert"))
    assert encoder.min_samples == 400
    encoder.encode(*pad([speechlike(400 / 16_000)]))
    with pytest.raises(ValueError, match="399 samples is shorter"):
        encoder.encode(*pad([speechlike(399 / 16_000)]))


def broken(folder, tmp_path, damage):
    copy = tmp_path / "broken"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    damage(copy)
    return copy


def drop_a_tensor(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(key for key in weights if "attention" in key))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def poison(folder):
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def offer_a_pickle(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": [1.0]}))


def change_family(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not readable as JSON"),
        (change_family, "model_type is 'bert'; refine opens data2vec-audio, hubert"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (offer_a_pickle, "pickled .pytorch_model.bin."),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"junk"), "safetensors file"),
        (drop_a_tensor, "weights are missing"),
        (poison, "NaN or infinite"),
    ],
)
def test_a_broken_checkpoint_gives_one_sentence(tiny_encoder, tmp_path, damage, sentence):
    folder = broken(tiny_encoder("hubert"), tmp_path, damage)
    with pytest.raises(EncoderError, match=sentence) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_truncated_checkpoint_gives_one_sentence(tiny_encoder, tmp_path):
    def truncate(folder):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1_000])

    with pytest.raises(EncoderError, match="could not be loaded"):
        load(broken(tiny_encoder("hubert"), tmp_path, truncate))


def test_names_that_are_nowhere(monkeypatch, tmp_path):
    with pytest.raises(EncoderError, match="no such encoder folder"):
        load(tmp_path / "nowhere" / "at" / "all")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError, match="could not be fetched from the hub"):
        load("somebody/no-such-encoder")


def test_a_run_is_an_encoder(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("REFINE_RUNS", str(tmp_path))
    run = tmp_path / "a-run"
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(EncoderError, match="no checkpoint yet"):
        load("a-run")
    encoder = load(tiny_encoder("hubert"))
    for step in (9, 10):
        encoder.save(
            run / "checkpoints" / f"step-{step}" / "encoder",
            {"recipe": "rewire", "layer": step % 2},
        )
    assert peek("a-run").folder.parent.name == "step-10"
    encoder.save(run / "checkpoints" / "final", {"recipe": "rewire", "layer": 2})
    assert load("a-run").layer == 2
