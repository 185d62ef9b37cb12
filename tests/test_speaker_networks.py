"""Speaker networks: Kaldi's filter banks, padding that never matters, one layer, safe folders."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from refine.encoders import EncoderError, load, peek
from refine.encoders import folder as folders
from refine.encoders.collate import pad
from refine.encoders.fbank import CONTEXT, FLOOR, features, frames_of, log_mel, normalise
from refine.encoders.masked import AttentivePool, BatchNorm, mask_of
from refine.encoders.projector import Projector, ProjectorConfig
from refine.encoders.speaker import build

# every network and pooling, small enough for a test
SMALL = [
    ("lresnet34", 2, "stats"),
    ("lresnet18", 4, "attentive"),
    ("ecapa_tdnn", 16, "attentive"),
    ("ecapa_tdnn", 16, "stats"),
]


def speechlike(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=int(seconds * 16_000))).astype(np.float32)


def small(network="ecapa_tdnn", channels=16, pooling=None, seed=0):
    """A network whose batch statistics have moved, as after a training."""
    encoder = build(network, channels=channels, dim=12, pooling=pooling, seed=seed)
    encoder.train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.5
    with torch.no_grad():
        for step in range(6):
            encoder.embed(*pad([speechlike(0.5, 10 * step + i) for i in range(4)]))
    return encoder.eval()


# -- filter banks ------------------------------------------------------------------------------


def test_filter_banks_are_kaldis():
    from torchaudio.compliance import kaldi

    waveform = torch.from_numpy(speechlike(1.3))[None]
    theirs = kaldi.fbank(
        waveform, num_mel_bins=80, dither=0.0, low_freq=20.0, high_freq=7600.0,
        sample_frequency=16_000.0, energy_floor=0.0,
    )  # fmt: skip
    torch.testing.assert_close(log_mel(waveform)[0], theirs, atol=1e-3, rtol=1e-4)
    assert frames_of(torch.tensor([400, 559, 560, len(waveform[0])])).tolist() == [
        1, 1, 2, len(theirs),
    ]  # fmt: skip


def test_a_tone_lands_in_its_band_and_silence_on_the_floor():
    time = torch.arange(16_000) / 16_000
    low, high = (log_mel(torch.sin(2 * np.pi * f * time)[None])[0].mean(0) for f in (200, 3000))
    assert int(low.argmax()) < 10
    assert 45 < int(high.argmax()) < 60
    np.testing.assert_allclose(log_mel(torch.zeros(1, 4000)), np.log(FLOOR), rtol=1e-6)


@pytest.mark.parametrize("frames", [1, 100, 301, 302, 700])
def test_normalisation_by_a_slow_loop(frames):
    x = torch.from_numpy(np.random.default_rng(0).normal(5, 2, (frames, 3)).astype(np.float32))
    padded = torch.cat([x, torch.full((40, 3), 99.0)])[None]
    found = normalise(padded, torch.tensor([frames]))[0]
    width = min(frames, 2 * CONTEXT + 1)
    for t in range(frames):
        start = min(max(t - CONTEXT, 0), frames - width)
        expected = x[t] - x[start : start + width].mean(0)
        np.testing.assert_allclose(found[t], expected, atol=1e-5)
    assert not found[frames:].any()


def test_loudness_does_not_matter():
    waveform = torch.from_numpy(speechlike(1.0))[None]
    quiet, loud = (features(gain * waveform, torch.tensor([16_000]))[0] for gain in (0.5, 2.0))
    torch.testing.assert_close(quiet, loud, atol=1e-3, rtol=1e-3)


# -- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "channels", "pooling"), SMALL)
def test_padding_never_changes_a_result(network, channels, pooling):
    encoder = small(network, channels, pooling)
    waveforms = [speechlike(seconds, seed) for seed, seconds in enumerate([0.025, 0.4, 1.0, 0.63])]
    with torch.inference_mode():
        together = encoder.embed(*pad(waveforms))
        alone = torch.cat([encoder.embed(*pad([waveform])) for waveform in waveforms])
    assert (
        float(together.std(0).mean()) > 0.05
    )  # the clips differ, so the comparison says something
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("network", "channels", "pooling"), SMALL[:3])
def test_padding_does_not_change_a_training_step(network, channels, pooling):
    """Statistics of a batch are those of its speech, however long the padding."""
    waveforms, lengths = pad([speechlike(s, i) for i, s in enumerate([0.3, 0.5, 0.42])])
    more = torch.nn.functional.pad(waveforms, (0, 4_000))
    results = []
    for batch in (waveforms, more):
        encoder = build(network, channels=channels, dim=12, pooling=pooling).train()
        z = encoder.embed(batch, lengths)
        z.square().sum().backward()
        results.append((z.detach(), [b for n, b in encoder.named_buffers() if "running" in n]))
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-3, rtol=1e-3)
    for one, two in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_masked_batch_norm_equals_torchs_on_the_valid_frames():
    x = torch.randn(3, 4, 10) * 2 + 1
    lengths = torch.tensor([10, 4, 7])
    ours, theirs = BatchNorm(4).train(), torch.nn.BatchNorm1d(4).train()
    found = ours(x, mask_of(lengths, 10, x.dtype))
    valid = torch.cat([row[:, :n].T for row, n in zip(x, lengths.tolist(), strict=True)])
    expected = theirs(valid)
    got = torch.cat([row[:, :n].T for row, n in zip(found, lengths.tolist(), strict=True)])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.running_var, theirs.running_var, atol=1e-6, rtol=1e-5)


def test_attention_that_looks_at_all_frames_alike_is_statistics():
    pool = AttentivePool(6).eval()
    torch.nn.init.zeros_(pool.expand.weight)
    x, lengths = torch.randn(2, 6, 9), torch.tensor([9, 5])
    pooled = pool(x, lengths)
    for row, n in enumerate([9, 5]):
        valid = x[row, :, :n]
        np.testing.assert_allclose(
            pooled[row].detach(), torch.cat([valid.mean(1), valid.std(1, correction=0)]), atol=1e-4
        )


def test_the_papers_network():
    encoder = build("lresnet34")
    network = encoder.model
    assert [len(stage) for stage in network.stages] == [3, 4, 6, 3]
    assert [stage[0].conv2.out_channels for stage in network.stages] == [16, 32, 64, 128]
    assert (network.stem.stride, network.stem.kernel_size) == ((1, 1), (3, 3))
    assert network.embedding.in_features == 2 * 128 * 10  # mean and deviation of 10 bands
    assert (encoder.dim, encoder.layer, encoder.pooling) == (256, "embedding", "mean")
    assert build("ecapa_tdnn").dim == 192


@pytest.mark.parametrize("network", ["lresnet34", "lresnet18", "ecapa_tdnn"])
def test_a_network_asked_for_by_name_is_always_the_same(network):
    encoder, info = load(network), peek(network)
    channels, dim, pooling, parameters = folders.FRESH[network]
    config = encoder.config
    assert (config.channels, config.dim, config.pooling) == (channels, dim, pooling)
    for told in (info, encoder.info):
        assert (told.dim, told.parameters) == (dim, parameters)
    assert sum(v.numel() for v in encoder.model.state_dict().values()) == parameters
    assert (info.n_layers, info.family) == (1, folders.NETWORKS[network])
    again = load(network)
    assert encoder.fingerprint == again.fingerprint == info.fingerprint
    for one, two in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert build(network, seed=1).fingerprint != encoder.fingerprint


def test_the_only_layer_has_several_names():
    encoder = small()
    with torch.inference_mode():
        batch = pad([speechlike(0.4), speechlike(0.5, 1)])
        z = encoder.embed(*batch)
        for layer in (0, -1, "mean", "embedding"):
            assert torch.equal(encoder.embed(*batch, layer=layer, pooling="mean"), z)
        assert encoder.embed(*batch, layer="all").shape == (1, 2, 12)
        hidden = encoder.encode(*batch)
    assert (hidden.states.shape, hidden.lengths.tolist()) == ((1, 2, 1, 12), [1, 1])
    assert encoder.subspaces == {"all": slice(0, 12)}


# -- folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
def test_saved_and_opened_again(tmp_path, half):
    encoder = small("lresnet18", 4)
    encoder.save(tmp_path / "net", {"recipe": "dino", "layer": "embedding"}, half=half)
    again, info = load(tmp_path / "net"), peek(tmp_path / "net")
    batch = pad([speechlike(0.4), speechlike(0.7, 1)])
    with torch.inference_mode():
        z, w = encoder.embed(*batch), again.embed(*batch)
    torch.testing.assert_close(z, w, atol=0.05 if half else 0.0, rtol=0.02 if half else 0.0)
    assert next(again.parameters()).dtype == torch.float32
    assert (info.family, info.dim, info.recipe) == ("LResNet18", 12, "dino")
    assert info.fingerprint == again.fingerprint
    assert {path.name for path in (tmp_path / "net").iterdir()} == {
        "config.json", "model.safetensors", "refine.json",
    }  # fmt: skip
    size = (tmp_path / "net" / "model.safetensors").stat().st_size
    assert size < info.parameters * (2.6 if half else 4.6)


def test_a_projector_on_a_speaker_network_is_a_small_folder(tmp_path):
    small().save(tmp_path / "net", {"recipe": "dino"})
    encoder = load(tmp_path / "net")
    encoder.projector = Projector(ProjectorConfig((12, 6), subspaces={"speaker": 4, "rest": 2}))
    encoder.save(tmp_path / "small", {"recipe": "interventional"}, small=True)
    opened = load(tmp_path / "small")
    batch = pad([speechlike(0.4), speechlike(0.7, 1)])
    with torch.inference_mode():
        assert torch.equal(opened.embed(*batch), encoder.embed(*batch))
        assert opened.embed(*batch, subspace="speaker").shape == (2, 4)
    assert peek(tmp_path / "small").subspaces == {"speaker": 4, "rest": 2}
    fresh = build("ecapa_tdnn", channels=16, dim=12)
    fresh.projector = encoder.projector
    with pytest.raises(ValueError, match="ecapa_tdnn is on no disk to refer to"):
        fresh.save(tmp_path / "other", {}, small=True)


def edit(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def pickled(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.pt").write_bytes(pickle.dumps({}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: edit(folder, network="xvector"), "network is 'xvector'; refine has lres"),
        (lambda folder: edit(folder, dim=13), r"is \[12.*and \[13.* is expected"),
        (lambda folder: edit(folder, channels=12), "channels: got 12; expected a multiple of 8"),
        (lambda folder: edit(folder, pooling="max"), "pooling: got 'max'; expected stats or att"),
        (lambda folder: rewrite(folder, lambda w: w.pop("embedding.weight")), "is missing"),
        (lambda folder: rewrite(folder, lambda w: w["join.bias"].fill_(np.inf)), "NaN or infinite"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "safetensors file"),
        (pickled, "pickled .model.pt."),
    ],
)
def test_a_broken_folder_gives_one_sentence(tmp_path, damage, sentence):
    folder = tmp_path / "net"
    build("ecapa_tdnn", channels=16, dim=12).save(folder, {"recipe": "dino"})
    damage(folder)
    with pytest.raises(EncoderError, match=sentence) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_refusals():
    encoder = small()
    with pytest.raises(ValueError, match="399 samples is shorter than one frame of ecapa_tdnn"):
        encoder.embed(*pad([speechlike(399 / 16_000)]))
    with pytest.raises(ValueError, match="network: got 'resnet'; expected lresnet34, lresnet18"):
        build("resnet")
    with pytest.raises(ValueError, match="channels, dim, mels: got"):
        build("lresnet18", channels=-1)
