"""What every test shares: folders of its own, recordings, tiny encoders, shapes checked."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import live_window
import pytest
import speech
from jaxtyping import install_import_hook

from refine import paths, runs
from refine.processes import identity

# before torch is imported by any test, and inherited by every process a test starts: one thread
# makes sums reproducible, and no test ever waits for a hub
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

install_import_hook(
    ["refine.losses", "refine.metrics", "refine.encoders", "refine.training"], "beartype.beartype"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "speech_folder" in getattr(item, "fixturenames", ()):
            item.add_marker("recorded")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and browser.chromium() is None:
        pytest.skip("no Chromium; apt-get install chromium")
    if item.get_closest_marker("recorded") and paths.speech() is None:
        told = os.environ.get("REFINE_SPEECH")
        looked = told or paths.ROOT.parent / "shared" / "data"
        pytest.skip(f"no recorded speech in {looked}; set REFINE_SPEECH to a folder of corpora")


@pytest.fixture(scope="session", autouse=True)
def _session_folders(tmp_path_factory: pytest.TempPathFactory):
    """Fixtures of a whole module or session write here, never into the checkout."""
    base = tmp_path_factory.mktemp("refine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINE_CACHE", str(base / "cache"))
        patch.setenv("REFINE_RUNS", str(base / "runs"))
        (base / "cache" / "corpora").mkdir(parents=True)
        yield base


@pytest.fixture(autouse=True)
def _own_folders(_session_folders: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own cache and runs; only the scans of recorded corpora are shared."""
    base = tmp_path_factory.mktemp("own")
    (base / "cache").mkdir()
    with contextlib.suppress(OSError):  # Windows without the right to link: each test scans
        (base / "cache" / "corpora").symlink_to(_session_folders / "cache" / "corpora")
    monkeypatch.setenv("REFINE_CACHE", str(base / "cache"))
    monkeypatch.setenv("REFINE_RUNS", str(base / "runs"))


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[runs.Run]:
    """Nothing is spawned: what would have been started is listed, and looks alive."""
    started: list[runs.Run] = []

    def pretend(run: runs.Run) -> None:
        started.append(run)
        run.write_status(**identity())

    monkeypatch.setattr("refine.jobs._spawn", pretend)
    return started


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A Chromium for the tests of one file: its loop would be in the way of other files' own."""
    pytest.importorskip("playwright.sync_api")
    with browser.browser() as running:
        yield running


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Iterator[Any]:
    """A window of 1280 x 1000; its last picture is left in the test's folder."""
    opened = browser.window(driver)
    yield opened
    opened.screenshot(path=tmp_path / "last.png")
    opened.context.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Server]:
    """The app with empty folders, for the tests of one file."""
    running = browser.Server(tmp_path_factory.mktemp("server") / "app").start()
    try:
        yield running
    finally:
        running.clean()


@pytest.fixture(scope="module")
def beeping() -> Iterator[Any]:
    """A Chromium whose microphone beeps, for the tests of one file."""
    with live_window.chromium_with() as running:
        yield running


@pytest.fixture(scope="session")
def speech_folder() -> Path:
    """Recorded speech, one corpus a folder; tests that ask for it are marked `recorded`."""
    folder = paths.speech()
    assert folder is not None  # pytest_runtest_setup skipped the test otherwise
    return folder


@pytest.fixture(scope="session")
def _tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech.make_corpus(tmp_path_factory.mktemp("tones") / "tones")


@pytest.fixture
def tone_corpus(_tones: Path, tmp_path: Path) -> Path:
    """The test's own folder: 6 speakers x 3 contents x 2 takes, `clips.csv` with their factors."""
    return Path(shutil.copytree(_tones, tmp_path / "tones"))


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_encoder(family)`: a `save_pretrained` folder, 2 x 32, random; hop 320 as the real."""
    made: dict[str, Path] = {}

    def make(family: str = "hubert") -> Path:
        if family not in made:
            made[family] = _save_tiny(family, tmp_path_factory.mktemp("encoders") / family)
        return made[family]

    return make


def _save_tiny(family: str, folder: Path) -> Path:
    import torch
    from transformers import (
        Data2VecAudioConfig,
        HubertConfig,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        WavLMConfig,
    )
    from transformers.models.auto import AutoModel

    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": (16,) * 7,
        "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
        "conv_stride": (5, 2, 2, 2, 2, 2, 2),
        "num_conv_pos_embeddings": 5 if family == "data2vec-audio" else 16,
        "num_conv_pos_embedding_groups": 4,
        "vocab_size": 32,
    }
    stable = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    configs = {
        "wav2vec2-group": lambda: Wav2Vec2Config(**shape),
        "wav2vec2-layer": lambda: Wav2Vec2Config(**shape, **stable),
        "hubert": lambda: HubertConfig(**shape),
        "wavlm": lambda: WavLMConfig(**shape),
        "data2vec-audio": lambda: Data2VecAudioConfig(**shape),
    }
    if family not in configs:
        raise ValueError(f"{family}: no tiny encoder of that family; there are {list(configs)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(configs[family]()).eval()
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=family != "wav2vec2-group"
    ).save_pretrained(folder)
    return folder
