"""`refine listen`: a file in the terminal, and what it says when it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from refine import cli, encoders, head_fitting, heads, paths
from refine.cli.listen import Board
from refine.cli.predict import PredictError
from refine.corpus import open_corpus
from refine.live import sources

SENTENCE = str(sorted((paths.ASSETS / "clips").glob("*.ogg"))[0])


@pytest.fixture
def taught(tiny_encoder: Any, tone_corpus: Path) -> str:
    name = str(tiny_encoder("hubert"))
    heads.save(head_fitting.fit(encoders.load(name), open_corpus(tone_corpus), "content"), name)
    return name


def test_a_file_is_answered_as_it_is_spoken(taught: str, capsys) -> None:
    assert cli.run(["listen", "--encoder", taught, "--file", SENTENCE, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    answers = [line for line in lines if line["type"] == "answer"]
    assert answers[-1]["final"]
    assert set(answers[-1]["answers"]["content"]) == {"before"}
    assert {"capture", "queue", "model", "place", "total"} == set(answers[-1]["latency"])
    assert len(answers) + answers[-1]["dropped"] >= 5


def test_the_board_draws_what_it_heard() -> None:
    from rich.console import Console

    board = Board({"before": "mini", "after": "mini-rewire"}, as_json=False)
    head = {"labels": ["yes", "no"], "threshold": 0.5}
    heads_ = {"word": {"before": head, "after": head}}
    board.take({"type": "state", "state": "ready", "heads": heads_})
    board.take({"type": "level", "peak": 0.5, "speech": True, "heard_s": 1.2})
    said = {"label": "yes", "probabilities": [0.9, 0.1], "unsure": False}
    unsure = {"label": "no", "probabilities": [0.45, 0.55], "unsure": True}
    answer = {"answers": {"word": {"before": said, "after": unsure}}, "dropped": 2}
    board.take({"type": "answer", **answer, "latency": {"total": 12.0}})
    board.take({"type": "refused", "reason": "nobody speaks", "kind": "silence"})
    console = Console(width=140, record=True)
    console.print(board._draw())
    text = console.export_text()
    for words in ("heard 1.2 s", "yes", "90%", "unsure", "2 windows dropped", "nobody speaks"):
        assert words in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "give one of them"),
        (["--run", "a", "--encoder", "b"], "give one of them"),
        (["--encoder", "mini", "--file", "a.wav", "--device", "1"], "file, device"),
    ],
)
def test_flags_that_cannot_be_meant(flags: list[str], words: str) -> None:
    with pytest.raises(PredictError, match=words):
        cli.run(["listen", *flags])


def test_microphones_are_listed(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    found = [sources.Device(0, "Built-in", True), sources.Device(3, "USB")]
    monkeypatch.setattr(sources, "devices", lambda: found)
    assert cli.run(["listen", "--devices"]) == 0
    assert capsys.readouterr().out.splitlines() == ["  0  Built-in  (default)", "  3  USB"]
