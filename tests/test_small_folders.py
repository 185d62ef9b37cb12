"""Small folders: LoRA, norms, projector; their base found, checked, and named when it is gone."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from refine.encoders import EncoderError, is_encoder, load, peek
from refine.encoders.collate import pad
from refine.encoders.folder import hub_mirror
from refine.encoders.projector import Projector, ProjectorConfig
from refine.encoders.trainable import choose


def speechlike(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=int(seconds * 16_000))).astype(np.float32)


def vectors(encoder, seed=0, **asked):
    with torch.inference_mode():
        return encoder.embed(*pad([speechlike(0.5, seed), speechlike(0.8, seed + 1)]), **asked)


def nudged(folder, train, seed=0):
    """An encoder of which something was trained, as far as a save can tell."""
    encoder = load(folder)
    with torch.no_grad():
        for parameter in choose(encoder, train, lora_rank=2, seed=seed):
            generator = torch.Generator().manual_seed(seed)
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return encoder


def projecting(folder, **changes):
    encoder = load(folder)
    given = {"sizes": (64, 8), "subspaces": {"speaker": 3, "content": 5}}
    given |= {"feature_layer": 1, "feature_pooling": "stats", "standardise": True} | changes
    encoder.projector = Projector(ProjectorConfig(**given))
    return encoder


@pytest.fixture
def base(tiny_encoder, tmp_path):
    """A base of the test's own, which it may change."""
    return Path(shutil.copytree(tiny_encoder("hubert"), tmp_path / "base"))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("train", ["norms", "lora"])
def test_a_small_folder_is_the_trained_encoder(base, tmp_path, train, half):
    trained = nudged(base, train)
    trained.save(tmp_path / "small", {"recipe": "rewire", "layer": 1}, small=True, half=half)
    trained.save(tmp_path / "whole", {"recipe": "rewire", "layer": 1})
    small, whole = load(tmp_path / "small"), load(tmp_path / "whole")
    exact = train == "norms" or not half
    tolerance = {"atol": 1e-5 if exact else 1e-2, "rtol": 1e-4 if exact else 1e-2}
    expected = vectors(trained, layer=1)
    torch.testing.assert_close(vectors(small), expected, **tolerance)
    torch.testing.assert_close(vectors(whole), expected, atol=1e-5, rtol=1e-4)
    assert float((vectors(small) - vectors(load(base), layer=1)).abs().max()) > 1e-3
    info = peek(tmp_path / "small")
    assert is_encoder(tmp_path / "small")
    assert not is_encoder(tmp_path)
    assert (info.small, info.recipe, info.layer) == (True, "rewire", 1)
    assert info.fingerprint == small.fingerprint != peek(base).fingerprint
    assert info.parameters == peek(base).parameters == peek(tmp_path / "whole").parameters
    size = sum(path.stat().st_size for path in (tmp_path / "small").iterdir())
    assert size < 0.5 * (base / "model.safetensors").stat().st_size
    assert {path.suffix for path in (tmp_path / "small").iterdir()} == {".json", ".safetensors"}
    AutoModel.from_pretrained(tmp_path / "whole", use_safetensors=True)


def test_a_lora_opens_in_plain_peft(base, tmp_path):
    from peft import PeftModel

    trained = nudged(base, "lora")
    trained.save(tmp_path / "small", {"recipe": "rewire"}, small=True)
    plain = PeftModel.from_pretrained(AutoModel.from_pretrained(base), tmp_path / "small").eval()
    waveform = speechlike(0.5)
    normalised = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    with torch.inference_mode():
        theirs = plain(torch.from_numpy(normalised)[None]).last_hidden_state
        ours = load(tmp_path / "small").encode(*pad([waveform])).states[-1]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_runs_on_runs(base, tmp_path, monkeypatch):
    """A LoRA on a run, a LoRA on that, a projector on that; moved together they still open."""
    monkeypatch.setenv("REFINE_RUNS", str(tmp_path / "runs"))

    def save(encoder, run, recipe):
        encoder.save(tmp_path / "runs" / run / "checkpoints" / "final", {"recipe": recipe}, True)

    save(nudged(base, "lora"), "first", "rewire")
    save(nudged("first", "lora", seed=5), "second", "rewire")
    last = projecting(tmp_path / "runs" / "second")
    save(last, "third", "interventional")
    told = json.loads((peek("third").folder / "refine.json").read_text())
    assert told["base"] == {"name": "second", "fingerprint": peek("second").fingerprint}
    assert told["parts"] == ["projector.safetensors"]
    assert peek("second").refinement["parts"] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    info = peek("third")
    assert [folder.parent.parent.name for folder in info.chain[1:]] == ["first", "second", "third"]
    torch.testing.assert_close(vectors(load("third")), vectors(last), atol=1e-5, rtol=1e-4)
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere" / "runs")
    monkeypatch.setenv("REFINE_RUNS", str(tmp_path / "elsewhere" / "runs"))
    torch.testing.assert_close(vectors(load("third")), vectors(last), atol=1e-5, rtol=1e-4)


def test_a_base_that_moves_along_is_found(base, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.move(base, tmp_path / "one" / "base")
    nudged(tmp_path / "one" / "base", "norms").save(tmp_path / "one" / "small", {}, small=True)
    shutil.move(tmp_path / "one", tmp_path / "two")
    assert peek(tmp_path / "two" / "small").chain[0] == tmp_path / "two" / "base"


def test_a_projector_gives_named_blocks(base, tmp_path):
    encoder = projecting(base)
    assert (encoder.layer, encoder.pooling) == ("projected", "stats")
    encoder.save(tmp_path / "small", {"recipe": "interventional", "layer": 1}, small=True)
    opened, info = load(tmp_path / "small"), peek(tmp_path / "small")
    z = vectors(opened)
    assert torch.equal(z, vectors(encoder, layer="projected", subspace="all"))
    with torch.inference_mode():
        feature = vectors(encoder, layer=1, pooling="stats")
        assert torch.equal(z, encoder.projector(feature))
    assert torch.equal(vectors(opened, subspace="speaker"), z[:, :3])
    assert torch.equal(vectors(opened, subspace="content"), z[:, 3:])
    assert opened.subspaces == {"speaker": slice(0, 3), "content": slice(3, 8)}
    assert (info.subspaces, info.projected) == ({"speaker": 3, "content": 5}, 8)
    assert (info.layer, info.pooling) == ("projected", "stats")
    assert info.shape == "2 layers of 32, projected to 8"
    assert info.parameters == peek(base).parameters + sum(
        value.numel() for value in encoder.projector.state_dict().values()
    )
    hidden = vectors(opened, layer="all", pooling="mean")
    assert hidden.shape == (3, 2, 32)
    assert torch.equal(hidden, vectors(load(base), layer="all"))
    assert [opened.width(), opened.width(subspace="speaker"), opened.width("all", "mean")] == [
        8, 3, 32,
    ]  # fmt: skip


def test_a_full_encoder_with_a_projector_opens_in_plain_transformers(base, tmp_path):
    encoder = nudged(base, "all")
    encoder.projector = projecting(base).projector
    encoder.save(tmp_path / "whole", {"recipe": "two_step"})
    AutoModel.from_pretrained(tmp_path / "whole", use_safetensors=True)
    opened = load(tmp_path / "whole")
    assert torch.equal(vectors(opened), vectors(encoder))
    assert peek(tmp_path / "whole").projected == 8
    # another description of the same weights is another encoder
    told = json.loads((tmp_path / "whole" / "refine.json").read_text())
    told["projector"]["feature_layer"] = 2
    (tmp_path / "whole" / "refine.json").write_text(json.dumps(told))
    assert peek(tmp_path / "whole").fingerprint != opened.fingerprint


def test_a_projector_is_padding_invariant_too(base):
    encoder = projecting(base)
    waveforms = [speechlike(seconds, seed) for seed, seconds in enumerate([0.25, 1.0, 0.6])]
    with torch.inference_mode():
        together = encoder.embed(*pad(waveforms))
        alone = torch.cat([encoder.embed(*pad([waveform])) for waveform in waveforms])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_questions_an_encoder_cannot_answer(base):
    plain, projected = load(base), projecting(base)
    with pytest.raises(ValueError, match="has no projector; expected 0 to 2, mean or all"):
        vectors(plain, layer="projected")
    with pytest.raises(ValueError, match="has no mood at layer projected; there are speaker, con"):
        vectors(projected, subspace="mood")
    with pytest.raises(ValueError, match="has no speaker at layer mean; there is all"):
        vectors(plain, subspace="speaker")
    with pytest.raises(ValueError, match=r"has no speaker at layer 1; .* of layer projected"):
        vectors(projected, layer=1, subspace="speaker")
    with pytest.raises(ValueError, match=r"got mean; the projector of .* was made for stats"):
        vectors(projected, pooling="mean")
    assert vectors(plain, subspace="all").shape == (2, 32)


def test_what_cannot_be_saved_small(base, tmp_path):
    for train in ("all", "transformer"):
        with pytest.raises(ValueError, match=f"{train} of .* was trained, .*save it in full"):
            nudged(base, train).save(tmp_path / "small", {}, small=True)
    with pytest.raises(ValueError, match=r"nothing of .* differs"):
        load(base).save(tmp_path / "small", {}, small=True)
    with pytest.raises(ValueError, match="is the encoder itself"):
        nudged(base, "lora").save(base, {}, small=True)
    assert not (tmp_path / "small").exists()
    assert not list(tmp_path.glob(".*tmp*"))


def other_weights(small, base):
    weights = load_file(base / "model.safetensors")
    next(iter(weights.values())).add_(0.5)
    save_file(weights, base / "model.safetensors", {"format": "pt"})


def pickled_adapter(small, base):
    (small / "adapter_model.safetensors").unlink()
    (small / "adapter_model.bin").write_bytes(pickle.dumps({"weight": [1.0]}))


def other_rank(small, base):
    config = json.loads((small / "adapter_config.json").read_text())
    (small / "adapter_config.json").write_text(json.dumps(config | {"r": 3}))


def edit(small, **changes):
    told = json.loads((small / "refine.json").read_text())
    (small / "refine.json").write_text(json.dumps({**told, **changes}))


def no_numbers(name):
    def damage(small, base):
        weights = load_file(small / name)
        next(iter(weights.values())).fill_(float("nan"))
        save_file(weights, small / name)

    return damage


def truncated(name):
    return lambda small, base: (small / name).write_bytes((small / name).read_bytes()[:-8])


def gone(name):
    return lambda small, base: (small / name).unlink()


ADAPTER = "adapter_model.safetensors"
SIZES = {"sizes": [64, 7], "subspaces": {}, "feature_layer": 1, "feature_pooling": "stats",
         "standardise": True, "norm": "none", "bias": True}  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (other_weights, r"its base .* has changed since \(fingerprint \w{8}… then, \w{8}… now\)"),
        (lambda small, base: shutil.rmtree(base), "its base .* is gone: no run, shipped encoder"),
        (
            lambda small, base: (base / "config.json").unlink(),
            "its base cannot be opened: .*no con",
        ),
        (gone(ADAPTER), "adapter_model.safetensors is missing"),
        (gone("adapter_config.json"), "adapter_config.json is missing"),
        (gone("projector.safetensors"), "projector.safetensors is missing"),
        (truncated(ADAPTER), "not a whole safetensors file"),
        (truncated("projector.safetensors"), "not a whole safetensors file"),
        (no_numbers(ADAPTER), "NaN or infinite"),
        (no_numbers("projector.safetensors"), "NaN or infinite"),
        (pickled_adapter, "adapter_model.bin is a pickle, which can run any code"),
        (other_rank, r"the LoRA does not fit its base \(.* is \(2, 32\), not \(3, 32\)\)"),
        (lambda small, base: edit(small, projector=SIZES), r"layers.0.* is \[8.*\[7.* is expected"),
        (lambda small, base: edit(small, projector={"sizes": []}), "projector is broken"),
        (lambda small, base: edit(small, projector={**SIZES, "depth": 1}), "depth is unknown"),
        (lambda small, base: edit(small, parts=[]), "lists no parts that refine knows"),
        (lambda small, base: edit(small, base={"name": "mini"}), "names no base with its finger"),
        (lambda small, base: edit(small, base={"name": "a/b/c", "fingerprint": "0"}), "is gone"),
        (
            lambda small, base: edit(small, base={"name": str(small), "fingerprint": "0"}),
            "its base .* is gone",
        ),
    ],
)
def test_a_broken_small_folder_gives_one_sentence(base, tmp_path, damage, sentence):
    encoder, small = nudged(base, "lora"), tmp_path / "small"
    encoder.projector = projecting(base).projector
    encoder.save(small, {"recipe": "two_step"}, small=True)
    assert load(small).projector is not None
    damage(small, base)
    with pytest.raises(EncoderError, match=sentence) as caught:
        load(small)
    assert "\n" not in str(caught.value)
    assert str(small) in str(caught.value)


def test_a_base_on_the_hub_is_fetched_or_named(base, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    nudged(base, "norms").save(tmp_path / "small", {}, small=True)
    fingerprint = peek(base).fingerprint
    edit(tmp_path / "small", base={"name": "somebody/speech", "fingerprint": fingerprint})
    with pytest.raises(EncoderError, match=r"its base somebody/speech: .*not be fetched"):
        load(tmp_path / "small")
    with pytest.raises(EncoderError, match="its base somebody/speech is not downloaded yet"):
        peek(tmp_path / "small")
    shutil.copytree(base, hub_mirror("somebody/speech"))
    assert load(tmp_path / "small").info.chain[0] == hub_mirror("somebody/speech")


def test_a_circle_of_bases_is_named(base, tmp_path):
    for name in ("one", "two"):
        nudged(base, "norms").save(tmp_path / name, {}, small=True)
    for name, other in (("one", "two"), ("two", "one")):
        edit(tmp_path / name, base={"name": str(tmp_path / other), "fingerprint": "0"})
    with pytest.raises(EncoderError, match="it is its own base"):
        peek(tmp_path / "one")
