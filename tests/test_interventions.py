"""The bench: distances, scale and presets; slow references, closed forms, invariances, refusals."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import split
from scipy.spatial.distance import cosine
from scipy.stats import gaussian_kde, ortho_group
from test_spaces import crossed, known

from refine import interventions
from refine.__main__ import main
from refine.encoders import peek
from refine.evaluation import evaluate
from refine.interventions import (
    KINDS,
    OTHERS,
    PRESETS,
    VOICES,
    InterventionError,
    Utterance,
    density,
    distances,
    nearest,
    preset,
    references,
    relative,
    share_below,
    verdict,
)
from refine.spaces import Spaces, spaces_of

BLOCKS = {"speaker": slice(0, 3), "content": slice(3, 8)}


def test_distances_equal_scipy_by_block() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 8))
    found = distances(a, b, BLOCKS)
    for name, columns in BLOCKS.items():
        assert found[name] == pytest.approx(cosine(a[columns], b[columns]))


def test_distances_closed_forms_and_invariance() -> None:
    a = np.array([1.0, 0, 0, 0, 0, 0, 2, 0])
    b = np.array([0.0, 3, 0, 0, 0, 0, -1, 0])
    assert distances(a, b, BLOCKS) == pytest.approx({"speaker": 1, "content": 2})
    assert distances(a, 5 * a, BLOCKS) == pytest.approx({"speaker": 0, "content": 0})
    x, y = np.random.default_rng(1).normal(size=(2, 8))
    turn = ortho_group.rvs(3, random_state=0)
    turned = [np.concatenate([turn @ v[:3], v[3:]]) for v in (x, y)]
    assert distances(*turned, BLOCKS) == pytest.approx(distances(x, y, BLOCKS))
    assert distances(y, x, BLOCKS) == pytest.approx(distances(x, y, BLOCKS))


@pytest.mark.parametrize(
    ("second", "told"),
    [(np.ones(7), "shapes"), (np.zeros(8), "all zeros"), (np.full(8, np.nan), "not finite")],
)
def test_distances_refuse(second: np.ndarray, told: str) -> None:
    with pytest.raises(InterventionError, match=told):
        distances(np.ones(8), second, BLOCKS)


def test_references_are_the_pairs_of_each_kind() -> None:
    table = crossed(4, 3, 2)
    spaces = known(table)
    scale = references(spaces)
    assert scale.missing == ()
    for kind in KINDS:
        slow = []
        for i in range(len(table)):
            for j in range(i + 1, len(table)):
                voice = table["speaker"][i] == table["speaker"][j]
                words = table["content"][i] == table["content"][j]
                told = f"{'same' if voice else 'other'} voice, {'same' if words else 'other'} words"
                if told == kind:
                    slow.append(cosine(spaces.x["speaker"][i], spaces.x["speaker"][j]))
        np.testing.assert_allclose(np.sort(scale.spaces["speaker"].pairs[kind]), np.sort(slow))
        assert scale.spaces["speaker"].medians[kind].value == pytest.approx(np.median(slow))
        for row, (a, b) in enumerate(scale.clips[kind]):
            far = cosine(spaces.x["content"][a], spaces.x["content"][b])
            assert scale.spaces["content"].pairs[kind][row] == pytest.approx(far)


def test_one_is_a_stranger_who_says_something_else() -> None:
    scale = references(known(crossed(5, 5, 2)))
    moved = {name: one.medians[OTHERS].value for name, one in scale.spaces.items()}
    assert relative(moved, scale) == pytest.approx(dict.fromkeys(scale.spaces, 1.0))
    reference = scale.spaces["content"]
    assert nearest(moved["content"], reference).endswith("other words")
    small = reference.medians["other voice, same words"].value
    assert nearest(small, reference).endswith("same words")
    shares = share_below(moved["content"], reference)
    assert shares[OTHERS] == pytest.approx(0.5, abs=0.02)
    assert shares["same voice, same words"] == 1


def test_many_clips_are_drawn_with_a_seed() -> None:
    spaces = known(crossed(20, 12, 10), dim=20)
    first, again = references(spaces), references(spaces)
    assert len(first.spaces["speaker"].pairs[OTHERS]) == interventions.PAIRS
    assert first.clips == again.clips
    assert references(spaces, seed=1).clips != first.clips


def test_references_refuse_and_leave_out() -> None:
    table = crossed(3, 3, 1)
    assert references(known(table)).missing == ("same voice, same words",)
    alone = known(table)
    with pytest.raises(InterventionError, match="does not know mood"):
        references(alone, words="mood")
    one = table.assign(content="c0")
    with pytest.raises(InterventionError, match="differ in voice and words"):
        references(Spaces(one, alone.x))


def test_density_equals_scipy_and_integrates_to_one() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 700)
    grid = np.linspace(-0.5, 1.5, 400)
    found = density(values, grid)
    assert (found * np.diff(grid)[0]).sum() == pytest.approx(1, abs=0.01)
    spread = min(values.std(), np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.34)
    slow = gaussian_kde(values, 0.9 * spread * 700**-0.2 / values.std(ddof=1))(grid)
    np.testing.assert_allclose(found, slow, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(density(values + 1, grid + 1), found, atol=1e-9)
    with pytest.raises(InterventionError, match="needs two"):
        density(values[:1], grid)


def test_a_preset_changes_one_thing() -> None:
    texts = ["a fox", "a shed", "a canal"]
    first = Utterance("a fox")
    expected = {"voice": ["voice"], "words": ["words"], "both": ["voice", "words"]}
    expected |= {"rate": ["rate"], "pitch": ["pitch"], "nothing": []}
    for name in PRESETS:
        assert first.differs(preset(name, first, first, texts)) == expected[name]
    with pytest.raises(InterventionError, match="louder"):
        preset("louder", first, first, texts)


def test_a_preset_again_takes_the_next_one() -> None:
    texts = ["a fox", "a shed", "a canal"]
    first = Utterance("a fox", VOICES[0])
    second, seen = first, []
    for _ in range(4):
        second = preset("words", first, second, texts)
        seen.append(second.text)
    assert seen == ["a shed", "a canal", "a shed", "a canal"]
    voices = set()
    for _ in range(len(VOICES)):
        second = preset("voice", first, second, texts)
        voices.add(second.voice)
        assert second.voice != first.voice
    assert len(voices) >= 3
    top = replace(first, rate=440, pitch=90)
    assert preset("rate", top, top, texts).rate == 450
    assert preset("pitch", top, top, texts).pitch == 99


def test_the_verdict_says_what_was_changed_and_what_moved() -> None:
    moved = {"before": 0.5, "speaker": 0.91, "content": 0.12}
    told = verdict(["voice", "rate"], moved)
    assert told.startswith("You changed the voice and the pace. The speaker subspace moved 0.91")
    assert told.endswith("Before, the one vector moved 0.50.")
    assert verdict([], moved).startswith("You changed nothing.")
    told = verdict(["words"], moved, recorded=True)
    assert told.startswith("The two clips differ in the words.")


def test_an_utterance_is_spoken_as_synthesis_does() -> None:
    pytest.importorskip("espeakng_loader")
    from refine.synthesis import Voice, speak

    spoken = Utterance("a fox", "en+f2", 200, 60).waveform()
    np.testing.assert_array_equal(spoken, speak("a fox", Voice("en", "f2", 200, 60)))


def test_unknown_labels_make_no_pair() -> None:
    table = pd.concat([crossed(3, 3, 2), crossed(3, 3, 2).assign(speaker="")], ignore_index=True)
    scale = references(known(table))
    assert max(max(pair) for pairs in scale.clips.values() for pair in pairs) < 18


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Any) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("split")
    return split.measured(folder, tiny_encoder) | {"cache": str(folder / "cache")}


def test_the_command_measures_two_clips_as_their_table_says(
    pair: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFINE_CACHE", pair["cache"])
    clips = ["00/one_0.wav", "03/one_1.wav"]
    command = ["intervene", "--before", pair["before"], "--after", pair["after"]]
    command += ["--corpus", pair["corpus"], "--split", "all", "--json", "--clips"]
    assert main([*command, *clips]) == 0
    done = json.loads(capsys.readouterr().out)
    results = [evaluate(pair[role], pair["corpus"], split="all") for role in ("before", "after")]
    spaces = spaces_of(results[0], results[1], peek(pair["after"]))
    rows = [spaces.table["clip"].tolist().index(clip) for clip in clips]
    for name, x in spaces.x.items():
        assert done["distances"][name] == pytest.approx(cosine(*x[rows]), abs=1e-4)
    assert set(done["relative"]) == {"before", "speaker", "content"}
    assert "speaker" in done["changed"]
    assert main([*command, clips[0], "nowhere.wav"]) == 2
    assert "nowhere.wav is not in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "text: missing"),
        (["--text", "a", "b", "c"], "text: got 3 values"),
        (["--clips", "a.wav", "b.wav"], "no corpus"),
    ],
)
def test_the_command_refuses(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["intervene", *arguments]) == 2
    assert told in capsys.readouterr().err
