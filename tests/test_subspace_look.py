"""What the page on subspaces draws, as numbers: taken from where they say, parts left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import speech
import split

from refine import spaces, subspace_look
from refine.__main__ import main
from refine.encoders import peek
from refine.evaluation import evaluate


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Any) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("look")
    return split.measured(folder, tiny_encoder) | {"cache": str(folder / "cache")}


@pytest.fixture(autouse=True)
def _cache(pair: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFINE_CACHE", pair["cache"])


def read(pair: dict[str, str], corpus: str) -> tuple[dict[str, Any], spaces.Spaces]:
    results = {role: evaluate(pair[role], corpus, split="all") for role in ("before", "after")}
    return results, spaces.spaces_of(results["before"], results["after"], peek(pair["after"]))


def test_each_part_is_that_of_its_function(pair: dict[str, str]) -> None:
    results, found = read(pair, pair["corpus"])
    told = subspace_look.look(results, found, "content")
    assert told["left_out"] == {}
    block = spaces.choose_block(found.table)
    square = spaces.cosines(found.x["content"][block.rows])
    np.testing.assert_array_equal(told["cosines"]["spaces"]["content"]["square"], square)
    error = spaces.errors(found, "content")["speaker"]
    one = told["errors"]["spaces"]["speaker"]
    np.testing.assert_array_equal(one["det"]["miss"], error.det.miss)
    assert one["eer"] == results["after"]["subspaces"]["speaker"]["content"]["eer"]
    assert one["eer"]["value"] == pytest.approx(error.eer, abs=1e-6)
    before = told["errors"]["spaces"]["before"]["eer"]
    assert before == results["before"]["subspaces"]["all"]["content"]["eer"]
    angles = spaces.overlaps(found)["after"]["angles"]
    np.testing.assert_array_equal(told["geometry"]["angles"]["after"]["degrees"], angles.degrees)
    assert told["geometry"]["dci"] == results["after"]["disentanglement"]["dci"]


def test_the_first_factor_with_pairs_is_the_default(pair: dict[str, str]) -> None:
    results, found = read(pair, pair["corpus"])
    assert subspace_look.compared(results, found)[0] == "speaker"
    assert subspace_look.look(results, found)["errors"]["factor"] == "speaker"
    with pytest.raises(spaces.SpacesError, match=r"factor: got 'mood'; compared are speaker, c"):
        subspace_look.look(results, found, "mood")


def test_what_a_corpus_cannot_give_is_left_out_with_its_reason(
    pair: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = speech.make_corpus(tmp_path / "voices", columns=("path", "speaker", "emotion"))
    command = ["subspaces", "--before", pair["before"], "--after", pair["after"]]
    command += ["--corpus", str(corpus), "--split", "all"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cosines"] is None
    assert "content" in told["left_out"]["cosines"]
    assert "content" in told["geometry"]["angles"]  # the sentence why there are none
    assert told["geometry"]["alike"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "EER of speaker" in printed.out
    assert "left out: cosines: " in printed.err


def test_an_encoder_without_subspaces_is_a_sentence(
    pair: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["subspaces", "--before", pair["before"], "--after", pair["before"]]
    assert main([*command, "--corpus", pair["corpus"], "--split", "all"]) == 2
    assert "has no named subspaces" in capsys.readouterr().err
