"""`refine heads` and `refine predict`: one object, one sentence, bars."""

import json
import shutil
from pathlib import Path

import pytest
import speech

from refine import encoders, heads, paths
from refine.__main__ import main
from refine.cli import HEADS
from refine.cli.predict import Fit

EMOTIONS = {"calm", "glad"}


@pytest.fixture
def fitted(tiny_encoder, tone_corpus: Path, tmp_path: Path, capsys) -> tuple[str, Path]:
    """An encoder with heads for content and emotion, and its corpus."""
    encoder = str(shutil.copytree(tiny_encoder("hubert"), tmp_path / "tiny"))
    common = ["--encoder", encoder, "--corpus", str(tone_corpus)]
    assert main(["heads", "fit", *common, "--factor", "content", "emotion", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["heads"]
    assert [head["factor"] for head in printed] == ["content", "emotion"]
    assert all(Path(head["path"]).is_file() for head in printed)
    assert {"uar", "nll_before", "nll", "ece_before", "ece"} <= set(printed[0]["measured"])
    return encoder, tone_corpus


def clip(folder: Path) -> str:
    return str(speech.write(folder / "clip.wav", speech.voice(150, "two", 0.9)))


def test_predict_prints_one_object(fitted, tmp_path, capsys):
    encoder, _ = fitted
    good, silent = clip(tmp_path), str(speech.write(tmp_path / "s.wav", speech.tone(1, level=0)))
    short, gone = str(speech.write(tmp_path / "x.wav", speech.tone(0.3))), str(tmp_path / "no.wav")
    assert main(["predict", "--encoder", encoder, good, silent, short, gone, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"encoder", "heads", "predictions", "refused"}
    answer = printed["predictions"][good]["emotion"]
    assert set(answer) == {"label", "probability", "probabilities", "unsure"}
    assert set(answer["probabilities"]) == EMOTIONS
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["probability"] == max(answer["probabilities"].values())
    threshold = printed["heads"]["emotion"]["threshold"]
    assert answer["unsure"] == (answer["probability"] < threshold)
    assert f"unsure below {threshold:.2f}" in printed["heads"]["emotion"]["says"]
    assert "silent" in printed["refused"][silent]
    assert "at least 0.5 s" in printed["refused"][short]
    assert "not found" in printed["refused"][gone]


def test_predict_draws_bars_and_says_unsure(fitted, tmp_path, capsys):
    encoder, _ = fitted
    (info,) = heads.choose(encoder, ["emotion"])
    for threshold, said in ((0.0, " ("), (1.0, "unsure (perhaps ")):
        head = heads.read(info.path)
        object.__setattr__(head.info, "threshold", threshold)
        heads.save(head, encoder)
        assert main(["predict", clip(tmp_path), "--encoder", encoder, "--factor", "emotion"]) == 0
        text = capsys.readouterr().out
        assert f"emotion: {said}".rstrip(" (") in text
        assert all(name in text for name in EMOTIONS)
        assert "█" in text
        assert "content" not in text
        assert ("unsure below" in text) == (threshold == 1.0)


def test_heads_are_listed_and_deleted(fitted, capsys):
    encoder, _ = fitted
    assert main(["heads", "list", "--encoder", encoder]) == 0
    printed = capsys.readouterr()
    assert "emotion" in printed.out
    assert "unsure below" in printed.err
    assert main(["heads", "delete", "--encoder", encoder, "--factor", "emotion"]) == 0
    assert main(["heads", "list", "--encoder", encoder, "--json"]) == 0
    out = capsys.readouterr().out
    (left,) = json.loads(out[out.index("{") :])["heads"]
    assert left["factor"] == "content"
    assert main(["heads", "delete", "--encoder", encoder, "--factor", "emotion"]) == 2
    assert main(["heads", "delete", "--encoder", encoder, "--factor", "content"]) == 0
    capsys.readouterr()
    assert main(["heads", "list", "--encoder", encoder]) == 0
    assert "no head yet; fit one: python -m refine heads fit" in capsys.readouterr().err


def test_a_run_and_its_base_are_fitted_together(tiny_encoder, tone_corpus, tmp_path, capsys):
    base = str(shutil.copytree(tiny_encoder("hubert"), tmp_path / "base"))
    final = paths.runs() / "a-run" / "checkpoints" / "final"
    final.parent.mkdir(parents=True)
    shutil.copytree(base, final)
    refinement = {"recipe": "rewire", "base": {"name": base, "fingerprint": "x"}}
    (final / "refine.json").write_text(json.dumps(refinement))
    common = ["--corpus", str(tone_corpus), "--factor", "content", "--with-base"]
    assert main(["heads", "fit", "--encoder", "a-run", *common, "--layer", "best", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["heads"]
    assert [head["for"] for head in printed] == [base, "a-run"]
    assert (paths.runs() / "a-run" / "heads" / "content.safetensors").is_file()
    assert len(heads.find(base)) == len(heads.find("a-run")) == 1
    assert encoders.peek("a-run").heads == ("content",)
    assert main(["heads", "fit", "--encoder", base, *common]) == 2
    assert "was not refined from another encoder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("predict --encoder mini", "clips: missing; name at least one recording"),
        ("predict --encoder lresnet18 x.wav", "lresnet18: no head yet; fit one: python -m refine"),
        ("predict --encoder mini x.wav --factor mood", "--factor mood"),
        ("predict --encoder /nowhere x.wav", "/nowhere: no such encoder folder"),
        ("heads fit --encoder mini --corpus demo --factor", "factor: missing"),
        ("heads fit --encoder mini --corpus demo --factor a --layer all", "layer: got all"),
        ("heads fit --encoder mini --corpus demo --factor a --layer x", "layer: got 'x'"),
        ("heads fit --encoder mini --corpus /nowhere --factor a", "/nowhere: no such folder"),
        ("heads fit --encoder mini --corpus d --factor a --out o --with-base", "out: got a folder"),
        (
            "heads delete --encoder mini --factor mood",
            "mini: no head for mood; it has content, emotion",
        ),
        ("heads bogus", "bogus"),
    ],
)
def test_a_users_error_is_one_sentence(arguments, sentence, capsys):
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = [line for line in printed.err.splitlines() if line.strip()]
    assert sentence in line


def test_clips_without_any_answer_are_one_sentence(fitted, tmp_path, capsys):
    encoder, _ = fitted
    short = str(speech.write(tmp_path / "short.wav", speech.tone(0.3)))
    assert main(["predict", short, str(tmp_path / "gone.wav"), "--encoder", encoder]) == 2
    printed = capsys.readouterr()
    assert "short.wav: 0.30 s; at least 0.5 s are needed, record more" in printed.err
    assert "(and 1 more clips were refused)" in printed.err


def test_help_names_the_verbs_and_the_default_is_the_librarys(capsys):
    with pytest.raises(SystemExit):
        main(["heads"])
    text = capsys.readouterr().out
    assert all(f"• {verb} " in text for verb in HEADS)
    assert Fit.precision == heads.PRECISION
