"""Features: what is computed once equals what is computed each time, in value and in gradient."""

import pytest
import torch

from refine import encoders
from refine.corpus import open_corpus
from refine.encoders.pooling import POOLINGS
from refine.encoders.pretrained import select_layer
from refine.features import FeatureError, Features, first_trained

ROWS = [0, 5, 3, 11]


@pytest.fixture
def corpus(tone_corpus):
    return open_corpus(tone_corpus)


def direct(encoder, corpus, rows, layer, pooling):
    """One clip at a time, from the waveform."""
    found = []
    for row in rows:
        waveform = torch.from_numpy(corpus.waveform(corpus.table["clip"][row]))[None]
        hidden = encoder.encode(waveform, torch.tensor([waveform.shape[1]]))
        found.append(POOLINGS[pooling](select_layer(hidden.states, layer), hidden.lengths))
    return torch.cat(found)


@pytest.mark.parametrize("family", ["wav2vec2-group", "wav2vec2-layer", "hubert", "data2vec-audio"])
@pytest.mark.parametrize(("layer", "pooling"), [(2, "mean"), ("mean", "stats")])
@pytest.mark.parametrize("top_layers", [None, 0, 1, 2])
def test_each_way_gives_the_feature_of_the_encoder(
    tiny_encoder, corpus, family, layer, pooling, top_layers
):
    encoder = encoders.load(tiny_encoder(family), precision="fp32")
    features = Features(encoder, corpus, layer, pooling, top_layers=top_layers)
    with torch.no_grad():
        expected = direct(encoder, corpus, ROWS, layer, pooling)
        found = features(features.gather(ROWS))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(features.whole(ROWS), expected, atol=2e-5, rtol=1e-4)


def test_the_gradient_of_the_last_layer_is_that_of_the_whole_encoder(tiny_encoder, corpus):
    gradients = []
    for top_layers in (None, 1):
        encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
        features = Features(encoder, corpus, 2, "mean", top_layers=top_layers)
        weight = encoder.model.encoder.layers[1].attention.q_proj.weight
        features(features.gather(ROWS)).square().sum().backward()
        gradients.append(weight.grad.clone())
        below = encoder.model.encoder.layers[0].attention.q_proj.weight
        assert (below.grad is None) == (top_layers == 1)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_what_is_kept_does_not_depend_on_who_came_with_it(tiny_encoder, corpus):
    encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
    one = Features(encoder, corpus, 2, "mean", top_layers=1)
    two = Features(encoder, corpus, 2, "mean", top_layers=1)
    one.gather([0, 1, 2]), two.gather([0]), two.gather([2, 1])
    assert one.kept.keys() == two.kept.keys()
    assert all(torch.equal(one.kept[clip], two.kept[clip]) for clip in one.kept)


def test_without_room_it_is_computed_again_and_the_same(tiny_encoder, corpus, monkeypatch):
    encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
    roomy = Features(encoder, corpus, 2, "mean", top_layers=1)
    monkeypatch.setattr("refine.features.KEPT_BYTES", 0)
    tight = Features(encoder, corpus, 2, "mean", top_layers=1)
    assert torch.equal(roomy.gather(ROWS).inputs, tight.gather(ROWS).inputs)
    assert roomy.kept
    assert not tight.kept


def test_kept_states_know_no_dropout_and_leave_the_mode_as_it_was(tiny_encoder, corpus):
    encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
    quiet = Features(encoder, corpus, 2, "mean", top_layers=0).gather(ROWS).inputs
    encoder.train()
    assert torch.equal(
        Features(encoder, corpus, 2, "mean", top_layers=0).gather(ROWS).inputs, quiet
    )
    features = Features(encoder, corpus, 2, "mean")
    features.whole(ROWS)
    assert encoder.model.training


@pytest.mark.parametrize("top_layers", [None, 1])
def test_a_long_clip_is_cut_where_it_is_told(tiny_encoder, corpus, top_layers):
    encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
    features = Features(encoder, corpus, 2, "mean", top_layers=top_layers, max_seconds=0.3)
    start, end = features.gather([3], [0.0]), features.gather([3], [1 - 1e-9])
    assert start.lengths.tolist() == end.lengths.tolist()
    assert 0.25 < start.audio_s <= 0.3
    uncut = Features(encoder, corpus, 2, "mean", top_layers=top_layers).gather([3])
    assert torch.equal(start.inputs[0], uncut.inputs[0, : start.inputs.shape[1]])
    assert torch.equal(end.inputs[0], uncut.inputs[0, -end.inputs.shape[1] :])
    assert features.whole([3]).shape == (1, 32)  # and a whole clip is whole
    torch.testing.assert_close(
        features.whole([3]), direct(encoder, corpus, [3], 2, "mean").detach(), atol=2e-5, rtol=1e-4
    )


def test_clips_of_a_corpus_in_any_order(tiny_encoder, corpus):
    encoder = encoders.load(tiny_encoder("hubert"), precision="fp32")
    features = Features(encoder, corpus, 1, "mean", top_layers=0)
    rows = [7, 2, 30, 1]
    together = features.whole(rows)
    for row, vector in zip(rows, together, strict=True):
        torch.testing.assert_close(features.whole([row])[0], vector)


def test_layers_that_cannot_be_trained_alone_are_refused(tiny_encoder, corpus):
    hubert, wavlm = (encoders.load(tiny_encoder(name)) for name in ("hubert", "wavlm"))
    with pytest.raises(FeatureError, match="top_layers: got 3; expected 0 to 2"):
        first_trained(hubert, 2, 3)
    with pytest.raises(FeatureError, match=r"got 1, which begin above hidden state 1 .* use 2"):
        first_trained(hubert, 1, 1)
    with pytest.raises(FeatureError, match="cannot be cut below its last layers"):
        Features(wavlm, corpus, 2, "mean", top_layers=1)
    Features(wavlm, corpus, 2, "mean").gather([0])  # as a whole it can


def test_only_the_last_layers_stay_free(tiny_encoder):
    encoder = encoders.load(tiny_encoder("hubert"))
    first_trained(encoder, "mean", 1)
    free = {name for name, p in encoder.model.named_parameters() if p.requires_grad}
    assert free
    assert all(name.startswith("encoder.layers.1.") for name in free)
