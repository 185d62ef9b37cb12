"""The command line: help from the dataclasses, one JSON object, one sentence for an error."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refine import cli, files, jobs, paths, runs, synthesis, worker
from refine.__main__ import main
from refine.recipes import RECIPES

COUNT = {"command": "train", "recipe": "rewire", "encoder": "mini", "corpus": "demo", "options": {}}
TRAIN = ["train", "rewire", "--encoder", "mini", "--corpus", "demo"]


def _help(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ending:
        main([*arguments])
    assert not ending.value.code
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        text = _help(*arguments, capsys=capsys)
        assert all(f"• {verb} " in text for verb in cli.COMMANDS)
    text = _help("jobs", capsys=capsys)
    assert all(f"• {verb} " in text for verb in cli.JOBS)
    assert "--resume" in _help("train", capsys=capsys)
    for verb in ("embed", "evaluate", "synthesise", "app"):
        assert "--help" in _help(verb, "--help", capsys=capsys)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipes_help_is_its_docstrings(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    from refine.options import options

    text = " ".join(_help("train", recipe, "--help", capsys=capsys).replace("│", " ").split())
    for option in options(worker.recipe_class(recipe)):
        assert f"--{option.name.replace('_', '-')}" in text
        assert option.help[:40] in text
    assert "--preset" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("bogus", "Unrecognized options: bogus"),
        ("evaluate --encoder mini", "Required options: Missing from"),
        ("corpus", "FOLDER"),
        ("corpus /nowhere", "/nowhere: no such folder"),
        ("evaluate --encoder mini --corpus demo --layer last", "layer: got 'last'; expected"),
        ("evaluate --encoder mini --corpus /nowhere", "/nowhere: no such folder"),
        ("embed --encoder mini --corpus demo --out x.csv", "out: got x.csv; give a name that ends"),
        ("embed --encoder mini --corpus demo --out x.parquet --layer best", "factor: --layer best"),
        ("train nope --encoder mini", "recipe: got 'nope'; expected one of: rewire"),
        ("train --encoder mini", "name a recipe, as in"),
        ("train --resume nope", "nope: no such run in"),
        ("train rewire --encoder mini", "--corpus"),
        ("train rewire --encoder mini --corpus demo --steps few", "--steps"),
        (
            "train rewire --encoder mini --corpus demo --learning-rate 1e9",
            "learning_rate: got 1e9; expected 1e-8 to 1; lower it to at most 1",
        ),
        (
            "train rewire --encoder mini --corpus demo --preset huge",
            "preset: got 'huge'; rewire has:",
        ),
        ("train rewire --encoder mini --corpus demo --name a/b", "name: got '/'"),
        ("jobs show nope", "nope: no such run in"),
        ("jobs stop nope", "nope: no such run in"),
        ("jobs bogus", "bogus"),
        ("synthesise hello", "out: missing"),
        ("synthesise hello --out x.mp3", "out: got x.mp3"),
        ("synthesise --out x.wav", "text: give either"),
    ],
)
def test_a_users_error_is_one_sentence_and_exit_code_2(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert sentence in lines[0]
    assert runs.all_runs() == []


def test_a_fault_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "all_runs", lambda *_: 1 / 0)
    assert main(["jobs", "list"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_jobs_list_and_show_print_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": []}
    run = runs.create(COUNT)
    run.log({"step": 1, "total": float("nan")})
    run.write_status(state="stopped", step=1, total=4)
    assert main(["jobs", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["runs"]
    assert (listed["id"], listed["state"], listed["step"]) == (run.id, "stopped", 1)
    assert main(["jobs", "show", run.id, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["last"] == {"step": 1, "total": None}
    assert shown["config"]["recipe"] == "rewire"
    assert main(["jobs", "list"]) == 0
    assert run.id in capsys.readouterr().out
    assert main(["jobs", "show", run.id]) == 0
    assert "rewire" in capsys.readouterr().out


def test_jobs_stop_takes_a_run_out_of_the_queue(capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.create(COUNT)
    assert main(["jobs", "stop", run.id]) == 0
    assert run.status().state == "stopped"
    assert f"{run.id}: stopped" in capsys.readouterr().out


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Training counts to three instead; what it was asked for is kept."""
    asked: list[dict] = []

    def count(run: runs.Run, resume: bool) -> None:
        asked.append({**run.config, "resume": resume})
        for step in range(1, 4):
            if run.stop_requested:
                return
            run.log({"step": step, "total": 1 / step})
            run.write_status(step=step, total=3, eta_s=0.0)
            if "interrupt" in run.name and not resume:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(worker, "_command", lambda config: count)
    monkeypatch.setattr(jobs, "advance", lambda lane=None: None)
    return asked


def test_training_here_is_a_run_like_any_other(
    counting: list[dict], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "train",
        "rewire",
        "--encoder",
        "mini",
        "--corpus",
        "demo",
        "--preset",
        "mini",
        "--steps",
        "7",
        "--json",
    ]
    assert main(flags) == 0
    printed = json.loads(capsys.readouterr().out)
    run = runs.find(printed["run"])
    assert (printed["state"], printed["step"], printed["total"]) == ("finished", 3, 3)
    assert run.status().state == "finished"
    (asked,) = counting
    assert asked["options"]["steps"] == 7
    assert asked["options"]["batch_size"] == 48  # the preset's
    assert asked["preset"] == "mini"
    assert main(["train", "--resume", run.id]) == 2
    assert "it has finished" in capsys.readouterr().err


def test_ctrl_c_stops_with_a_checkpoint_and_says_how_to_go_on(
    counting: list[dict], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["train", "rewire", "--encoder", "mini", "--corpus", "demo", "--name", "interrupt"])
        == 130
    )
    (run,) = runs.all_runs()
    assert run.status().state == "stopped"
    told = capsys.readouterr().err
    assert "stopping after this step" in told
    assert f"python -m refine train --resume {run.id}" in told
    assert main(["train", "rewire", "--resume", run.id]) == 0
    assert [asked["resume"] for asked in counting] == [False, True]
    assert run.status().state == "finished"


def test_a_failed_training_is_its_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "advance", lambda lane=None: None)
    assert main(["train", "rewire", "--encoder", "/nowhere", "--corpus", "/nowhere"]) == 2
    (run,) = runs.all_runs()
    assert run.status().state == "failed"
    assert "/nowhere: no such folder" in capsys.readouterr().err
    assert "Traceback" in run.log_text()


def test_the_worker_process_of_the_product(tmp_path: Path) -> None:
    """`python -m refine jobs run`, with an error that comes before anything is trained."""
    config = {**COUNT, "corpus": str(tmp_path / "gone"), "options": {"learning_rate": 1e9}}
    run = runs.create(config)
    done = subprocess.run(
        [sys.executable, "-m", "refine", "jobs", "run", str(run.path)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert run.status().state == "failed"
    assert run.status().message.startswith("learning_rate: got 1e9")


@pytest.mark.skipif(not synthesis.available(), reason="needs the extra synthesis")
def test_synthesise_writes_16_khz(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from refine import audio

    out = tmp_path / "kettle.wav"
    assert main(["synthesise", "the kettle", "--out", str(out), "--voice", "en", "en+f3"]) == 0
    capsys.readouterr()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kettle-en+f3.wav", "kettle-en.wav"]
    assert audio.info(tmp_path / "kettle-en.wav").sample_rate == audio.SAMPLE_RATE
    assert main(["synthesise", "hi", "--out", str(out), "--voice", "en+nobody"]) == 2
    assert "variant: 'nobody'" in capsys.readouterr().err
    assert main(["synthesise", "the kettle", "--out", str(out), "--json"]) == 0
    (written,) = json.loads(capsys.readouterr().out)["files"]
    assert written["path"] == str(out)


@pytest.mark.skipif(not synthesis.available(), reason="needs the extra synthesis")
def test_synthesise_copies_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd
    import soundfile

    from refine.corpus import open_corpus

    source, out = tmp_path / "source", tmp_path / "copies"
    source.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        soundfile.write(source / f"{index}.wav", rng.normal(0, 0.1, 16_000), 16_000)
    table = pd.DataFrame(
        {"path": [f"{index}.wav" for index in range(4)], "text": ["one", "two", "three", ""]}
    )
    table.assign(content=table.text, speaker=list("aabb")).to_csv(source / "clips.csv", index=False)
    assert main(["synthesise", "--corpus", str(source), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["n_clips"], printed["without_text"]) == (3, 1)
    copies = open_corpus(out)
    assert sorted(copies.table["content"]) == ["one", "three", "two"]
    assert set(copies.table["voice"]) == {"en"}
    assert copies.speakers is None
    assert main(["synthesise", "--corpus", str(source), "--out", str(out)]) == 2


def test_corpus_counts_and_names_what_is_wrong(
    tone_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tone_corpus / "00" / "one_0.wav").write_bytes(b"")
    manifest = tone_corpus / "clips.csv"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("two", "[red]"), "utf-8")
    for path in tone_corpus.rglob("two_*"):
        path.rename(path.with_name(path.name.replace("two", "[red]")))
    assert main(["corpus", str(tone_corpus), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["n_clips"], told["left_out"]) == (35, 1)
    assert sum(told["split"].values()) == 35
    assert told["factors"]["content"] == {"[red]": 12, "three": 12, "one": 11}
    assert len(told["factors"]["speaker"]) == 6
    (problem,) = told["problems"]
    assert problem["clip"] == "00/one_0.wav"
    assert "0 bytes" in problem["reason"]
    lengths = told["duration_s"]
    assert lengths["shortest"] <= lengths["median"] <= lengths["longest"] < lengths["total"]
    assert main(["corpus", str(tone_corpus)]) == 0
    printed = capsys.readouterr()
    assert "[red] 12, three 12, one 11" in printed.out
    assert "00/one_0.wav (left out): " in printed.err


def test_embed_and_evaluate_print_one_object(
    tiny_encoder, tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from refine.embeddings import open_embeddings

    encoder, out = str(tiny_encoder("hubert")), tmp_path / "x.parquet"
    common = ["--encoder", encoder, "--corpus", str(tone_corpus), "--json"]
    assert main(["embed", *common, "--out", str(out), "--layer", "1", "--pool", "mean"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["layers"] == ["1"]
    assert open_embeddings(out).vectors("1").shape == (printed["n_clips"], 32)
    assert main(["evaluate", *common]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"encoder", "corpus", "n_clips", "isotropy"} <= set(result)
    assert {"value", "low", "high", "n", "null"} <= set(result["isotropy"]["isoscore"])
    assert main(["evaluate", *common[:-1]]) == 0
    assert "isoscore" in capsys.readouterr().out


def test_embed_takes_the_best_layer_for_a_factor(
    tiny_encoder, tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from refine.embeddings import open_embeddings

    out = tmp_path / "best.parquet"
    command = ["embed", "--encoder", str(tiny_encoder("hubert")), "--corpus", str(tone_corpus)]
    command += ["--out", str(out), "--layer", "best"]
    assert main(command) == 2
    assert "--layer best and --factor NAME go together" in capsys.readouterr().err
    assert main([*command, "--factor", "content"]) == 0
    assert "best for content, dev UAR" in capsys.readouterr().out
    table = open_embeddings(out)
    scores = table.metadata["best"]["dev_uar"]
    assert set(scores) == {"0", "1", "2", "mean"}
    assert scores[table.layers[0]] == max(scores.values())
    whole = tmp_path / "all.parquet"
    main([*command[:-4], "--out", str(whole), "--layer", "all", "--json"])
    expected = open_embeddings(whole).vectors(table.layers[0])
    np.testing.assert_allclose(table.vectors(table.layers[0]), expected, atol=1e-6)
    capsys.readouterr()
    assert main([*command, "--factor", "mood"]) == 2
    assert "mood: no such factor" in capsys.readouterr().err


def test_embed_writes_a_named_subspace(
    tiny_encoder, tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from refine import encoders
    from refine.embeddings import open_embeddings
    from refine.encoders.projector import Projector, ProjectorConfig

    encoder = encoders.load(tiny_encoder("hubert"))
    config = ProjectorConfig((32, 8), subspaces={"speaker": 3, "content": 5}, feature_layer=1)
    encoder.projector = Projector(config)
    encoder.save(tmp_path / "projected", {"recipe": "interventional"}, small=True)
    out = tmp_path / "x.parquet"
    command = ["embed", "--encoder", str(tmp_path / "projected"), "--corpus", str(tone_corpus)]
    command += ["--out", str(out), "--json"]
    assert main([*command, "--subspace", "speaker"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["layers"], printed["subspace"], printed["dim"]) == (["projected"], "speaker", 3)
    speaker = open_embeddings(out).vectors("projected")
    assert main([*command, "--layer", "projected"]) == 0
    assert np.array_equal(open_embeddings(out).vectors("projected")[:, :3], speaker)
    for more, sentence in (
        (["--subspace", "mood"], "has no mood at layer projected; there are speaker, content"),
        (["--layer", "1", "--subspace", "speaker"], "has no speaker at layer 1"),
        (["--pool", "stats"], "got stats; the projector of"),
    ):
        capsys.readouterr()
        assert main([*command, *more]) == 2
        assert sentence in capsys.readouterr().err


def test_app_becomes_streamlit_in_the_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: list = []
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["app"]) == 2  # no app.py here
    (tmp_path / "app.py").touch()
    monkeypatch.setattr(os, "execv", lambda *arguments: called.append(arguments))
    monkeypatch.setattr(subprocess, "call", lambda command: called.append((command[0], command)))
    main(["app", "--port", "9000", "--no-browser"])
    program, command = called[0]
    assert program == sys.executable
    assert command[1:5] == ["-m", "streamlit", "run", str(tmp_path / "app.py")]
    assert command[-6:] == [
        "--server.address", "localhost", "--server.port", "9000", "--server.headless", "true",
    ]  # fmt: skip


def test_the_first_words_come_quickly() -> None:
    """`jobs list` reads a few small files; it must not wait for pandas or torch."""
    code = "import sys, refine.__main__; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'pandas'" not in done.stdout
    assert "'torch'" not in done.stdout
    code = (
        "import sys; from refine.__main__ import main; main(['corpus', 'samples', '--json'])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_json_is_strict() -> None:
    text = files.to_json({"a": float("inf"), "b": np.float32(0.5), "c": (1, None), "d": Path("x")})
    assert json.loads(text) == {"a": None, "b": 0.5, "c": [1, None], "d": "x"}
