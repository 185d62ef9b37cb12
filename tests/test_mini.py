"""The embedded encoder, and the script that made it."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoFeatureExtractor, AutoModel, HubertConfig, HubertModel

from refine.audio import FRAME_RATE, SAMPLE_RATE
from refine.paths import MINI

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import evaluate_mini
import pretrain_mini
from pretrain import batches, corpora, network, rounds, targets
from pretrain.crew import Crew


@pytest.fixture(scope="module")
def mini():
    return AutoModel.from_pretrained(MINI).eval()


def hum(seconds: float, seed: int) -> np.ndarray:
    """A made-up voice: a gliding harmonic tone that comes and goes."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 120 + 60 * generator.random() + 20 * np.sin(3 * time)
    tone = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / SAMPLE_RATE) / k for k in range(1, 9))
    sound = tone * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)) + 0.05 * generator.normal(
        size=len(time)
    )
    return (0.2 * sound).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Eight recordings, a noise and a room, each corpus with its clips.csv."""
    root = tmp_path_factory.mktemp("corpora")
    for name, seconds in (
        ("talk", [4.0, 3.0, 5.0, 1.0, 0.6, 4.5, 3.5, 2.0]),
        ("noise", [2.0]),
        ("rir", [0.3]),
    ):
        (root / name).mkdir()
        with (root / name / "clips.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path", "split"])
            for i, length in enumerate(seconds):
                soundfile.write(root / name / f"{i}.wav", hum(length, i), SAMPLE_RATE)
                writer.writerow([f"{i}.wav", "train"])
            writer.writerow(["missing.wav", "test"])
    return root


def small(corpus: Path, out: Path, **changes) -> pretrain_mini.Settings:
    chosen = {
        "corpora": (corpus / "talk",),
        "noise": corpus / "noise",
        "rir": corpus / "rir",
        "out": out / "encoder",
        "work": out / "work",
        "steps": 10,
        "width": 64,
        "layers": 2,
        "warm_up": 2,
        "seconds": 8.0,
        "synthetic": 0,
        "processes": 1,
        "own_layer": 1,
        "voice_layer": 1,
        "words_layer": 2,
    }
    return pretrain_mini.Settings(**(chosen | changes))


@pytest.fixture
def few_clusters(monkeypatch):
    for module in (pretrain_mini, targets):
        monkeypatch.setattr(module, "CODEBOOKS", {"content": 8, "timbre": 8, "prosody": 4})
    for module in (pretrain_mini, rounds):
        monkeypatch.setattr(module, "OWN_CLUSTERS", 8)


def test_ten_steps_are_five_and_a_resume_and_five(corpus, tmp_path, few_clusters):
    """Bit for bit, across the start of the second round (step 4)."""
    straight = small(corpus, tmp_path / "straight")
    pretrain_mini.main(straight)
    broken = small(corpus, tmp_path / "broken")
    broken.work.mkdir(parents=True)
    run = pretrain_mini.start(broken)
    pretrain_mini.warm_up(run, broken)
    pretrain_mini.train(run, broken, stop_after=5)
    assert run.own
    pretrain_mini.main(small(corpus, tmp_path / "broken", resume=True))
    one, other = (
        torch.load(s.work / "checkpoint.pt", weights_only=True) for s in (straight, broken)
    )
    assert one["step"] == other["step"] == 10
    for key, value in one["model"].items():
        assert torch.equal(value, other["model"][key]), key
    assert one["sampler"] == other["sampler"]
    AutoModel.from_pretrained(straight.out)
    written = json.loads((straight.out / "training.json").read_text())
    assert written["complete"]
    assert written["data"]["talk"]["clips"] == 8


def test_another_seed_is_another_run(corpus, tmp_path, few_clusters):
    settings = small(corpus, tmp_path, second_round=1.0, steps=1)
    settings.work.mkdir(parents=True)
    one, other = (pretrain_mini.start(small(corpus, tmp_path, seed=s)) for s in (0, 1))
    same = pretrain_mini.start(small(corpus, tmp_path, seed=0))
    drawn = [r.sampler.draw(0.5).waveforms for r in (one, other, same)]
    assert drawn[0].shape != drawn[1].shape or not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_a_crew_of_two_has_the_gradients_of_one(corpus, tmp_path, few_clusters, monkeypatch):
    """Each member sees its own pairs; added up, losses and gradients are the whole batch's."""
    settings = small(corpus, tmp_path)
    run = pretrain_mini.start(settings)
    batch = run.sampler.draw(0.0)
    weights, layers = settings.weights(False), settings.reading_layers()

    def gradients(crew: Crew) -> tuple[torch.Tensor, list[torch.Tensor]]:
        run.optimiser.zero_grad()
        found = network.losses(run.model, run.heads, batch, weights, layers, crew)
        found.total.backward()
        grads = [p.grad.clone() for p in run.model.parameters() if p.grad is not None]
        return torch.stack([found.parts[name] for name in targets.CODEBOOKS]).detach(), grads

    pooled = []
    original = network.info_nce
    monkeypatch.setattr(
        network, "info_nce", lambda a, b, t: pooled.append(torch.cat([a, b])) or original(a, b, t)
    )
    whole, expected = gradients(Crew())
    everyone = pooled[0].detach()

    def gather(self, own, count):
        return everyone.index_copy(0, self.rows(count), own)

    monkeypatch.setattr(Crew, "gather", gather)
    members = [gradients(Crew(rank, 2)) for rank in (0, 1)]
    assert torch.allclose(sum(parts for parts, _ in members), whole, rtol=2e-2)
    for one, *both in zip(expected, *(grads for _, grads in members), strict=True):
        assert (
            torch.nn.functional.cosine_similarity(one.flatten(), sum(both).flatten(), dim=0) > 0.98
            or one.norm() < 1e-2
        )


def test_the_spectrum_error_asks_the_channels_themselves():
    """0 where the first 40 channels are the standardised energies, 1 where they are silent."""
    waveforms = torch.from_numpy(np.stack([hum(1.0, i) for i in range(4)])).float()
    frames = targets.frame_count(waveforms.shape[1])
    mask = torch.zeros(4, frames, dtype=torch.bool)
    mel = targets.log_mel(torch.nn.functional.pad(waveforms, (0, 400)))
    mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 14.0)[:, : 2 * frames]
    mel = (mel[:, ::2] + mel[:, 1::2]) / 2
    exact = (mel - mel.mean((0, 1))) / (mel.std((0, 1)) + 1e-3)
    hidden = torch.cat([exact, torch.randn(4, frames, 24)], -1)
    assert network.spectrum_error(hidden, waveforms, mask).abs().max() < 1e-9
    silent = network.spectrum_error(torch.zeros_like(hidden), waveforms, mask)
    assert float(silent.mean()) == pytest.approx(1.0, abs=0.02)
    mask[:, ::2] = True
    assert (network.spectrum_error(torch.zeros_like(hidden), waveforms, mask)[:, ::2] == 0).all()


def test_the_agreement_is_nt_xent():
    """Against a slow loop from the equation, its value for orthogonal pairs, and its refusal."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 7, generator=generator)
    rows = torch.cat([first, second]).double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    slow = 0.0
    for i in range(10):
        scores = np.exp(rows @ rows[i] / 0.1)
        slow -= np.log(scores[(i + 5) % 10] / (scores.sum() - scores[i])) / 10
    assert float(network.info_nce(first, second, 0.1)) == pytest.approx(slow, rel=1e-5)
    eye = torch.eye(4)
    closed = np.log(np.exp(10) + 6) - 10
    assert float(network.info_nce(eye, eye, 0.1)) == pytest.approx(closed, rel=1e-3)
    with pytest.raises(ValueError, match="at least 2 rows"):
        network.info_nce(eye[:1], eye[:1], 0.1)


@pytest.mark.parametrize("samples", [960, 2_288, 16_000, 16_319, 64_000])
def test_labels_and_network_have_the_same_frames(samples):
    model = HubertModel(network.configuration(64, 1)).eval()
    frames = int(model._get_feat_extract_output_lengths(torch.tensor(samples)))
    assert targets.frame_count(samples) == frames
    described = targets.describe(hum(samples / SAMPLE_RATE, 0)[:samples])
    assert {len(rows) for rows in described.values()} == {frames}


def test_prosody_follows_the_pitch():
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tracks = []
    for pitch in (110.0, 220.0):
        tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 6))
        tracks.append(targets.describe(tone.astype(np.float32))["prosody"][5:-5, 0].mean())
    octave = (tracks[1] - tracks[0]) / 2  # the track holds twice the natural logarithm
    assert octave == pytest.approx(np.log(2), abs=0.03)


def test_corpora_kept_for_evaluation_or_noise_are_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="non-commercial"):
        corpora.training_rows(tmp_path / "ravdess")
    with pytest.raises(ValueError, match="noise"):
        corpora.training_rows(corpus / "noise")
    assert len(corpora.training_rows(corpus / "talk")) == 8  # the test row is left out


def test_a_batch_is_normalised_and_half_hidden(corpus, tmp_path, few_clusters):
    sampler = pretrain_mini.start(small(corpus, tmp_path)).sampler
    drawn = [sampler.draw(share) for share in (0.0, 1.0)]
    assert [batch.kind for batch in drawn] == ["words", "voice"]
    for batch in drawn:
        assert torch.allclose(batch.waveforms.mean(1), torch.zeros(()), atol=1e-4)
        assert torch.allclose(batch.waveforms.var(1), torch.ones(()), atol=1e-2)
        first, second = batch.altered.chunk(2)
        if batch.kind == "voice":  # a pair of one voice keeps one pitch
            assert torch.equal(first, second)
    masks = batches.span_mask(400, 100, np.random.default_rng(0))
    assert 0.4 < masks.mean() < 0.55
    assert masks.any(1).all()
    assert not masks.all(1).any()


def test_a_bad_setting_is_named():
    with pytest.raises(ValueError, match="voice_layer: got 9, expected 0 to 6"):
        pretrain_mini.Settings((Path("a"),), Path("n"), Path("r"), Path("o"), voice_layer=9)


# The encoder that is shipped


def test_it_opens_in_plain_transformers(mini):
    assert isinstance(mini, HubertModel)
    assert mini.dtype == torch.float32
    assert 5e6 < sum(p.numel() for p in mini.parameters()) < 7e6
    assert sum(f.stat().st_size for f in MINI.iterdir()) <= 16e6
    extractor = AutoFeatureExtractor.from_pretrained(MINI)
    assert extractor.do_normalize
    assert extractor.return_attention_mask
    assert extractor.sampling_rate == SAMPLE_RATE


def test_it_gives_fifty_frames_a_second(mini):
    assert np.prod(mini.config.conv_stride) == SAMPLE_RATE // FRAME_RATE
    frames = mini(torch.randn(1, 10 * SAMPLE_RATE)).last_hidden_state.shape[1]
    assert 10 * FRAME_RATE - 3 <= frames <= 10 * FRAME_RATE


@torch.inference_mode()
def test_padding_changes_nothing(mini):
    short = torch.from_numpy(hum(1.0, 3))[None]
    padded = torch.nn.functional.pad(short, (0, 9_000))
    shown = torch.ones_like(padded, dtype=torch.long)
    shown[:, SAMPLE_RATE:] = 0
    alone = mini(short).last_hidden_state
    among = mini(padded, attention_mask=shown).last_hidden_state[:, : alone.shape[1]]
    assert torch.allclose(alone, among, atol=1e-4)


def test_the_card_says_what_it_is_and_is_not():
    card = (MINI / "README.md").read_text(encoding="utf-8")
    for said in (
        *("CC BY-SA", "CC BY 4.0", "Tofugu", "espeak-ng", "What it is not", "randomly initialised"),
        *("log-mel", "MFCC", "tools/pretrain_mini.py", "Apache-2.0", "kala Asi", "not in it"),
    ):
        assert said in card, said


def test_the_record_tells_settings_and_data():
    record = json.loads((MINI / "training.json").read_text(encoding="utf-8"))
    assert record["steps"] > 1000
    assert "ravdess" not in json.dumps(record)
    assert "/" not in "".join(record["phases"][0]["settings"]["corpora"])
    assert all(len(facts["sha256"]) == 64 for facts in record["data"].values())


def test_it_beats_its_random_self_on_words(mini, speech_folder):
    """A small probe: five words, one take, unseen speakers."""
    clips = evaluate_mini.read(speech_folder / "arabic_commands")
    chosen = np.flatnonzero(
        np.isin(clips.columns["content"], np.unique(clips.columns["content"])[:5])
    )[::2]
    few = evaluate_mini.Clips(
        [clips.waveforms[i] for i in chosen], {n: c[chosen] for n, c in clips.columns.items()}
    )
    words, test = few.columns["content"], few.where("test")
    torch.manual_seed(0)
    fresh = HubertModel(HubertConfig.from_pretrained(MINI)).eval()
    scores = []
    for model in (fresh, mini):
        rows = evaluate_mini.encode(model, few)["5"]
        rows = (rows - rows[~test].mean(0)) / (rows[~test].std(0) + 1e-6)
        probe = LogisticRegression(C=0.03, max_iter=200).fit(rows[~test], words[~test])
        scores.append(evaluate_mini.uar(words[test], probe.predict(rows[test])))
    assert scores[1] > scores[0] + 0.1, scores
