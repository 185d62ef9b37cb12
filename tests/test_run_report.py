"""The report button of a finished run: asked for, made in the background, handed over."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import frame
import pytest
from refined import Family, family
from streamlit.testing.v1 import AppTest

from refine import runs


@pytest.fixture(scope="module")
def kin(tmp_path_factory, _tones: Path, tiny_encoder) -> Iterator[Family]:
    root = tmp_path_factory.mktemp("kin")
    with family(root, _tones, tiny_encoder, measured=False) as made:
        yield made


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, kin: Family, spawned: list) -> None:
    kin.use(monkeypatch)
    shutil.rmtree(kin.root / "runs" / runs.TASKS, ignore_errors=True)  # of the test before


def opened(run: runs.Run) -> AppTest:
    return frame.opened("train", run=run.id)


def test_a_run_makes_its_report(kin: Family, spawned: list) -> None:
    app = opened(kin.first)
    assert not spawned  # nothing is measured before it is asked for
    app.button(key="run_report").click().run()
    assert not app.exception
    (task,) = spawned
    options = task.config["options"]
    assert task.config["command"] == "report"
    assert (options["before"], options["after"]) == (kin.base, kin.first.id)
    assert task.config["corpus"] == str(kin.corpus)
    assert f"python -m refine report {kin.first.id}" in [code.value for code in app.code]
    assert not app.get("download_button")

    out = Path(options["out"])
    assert out == kin.first.path / "report.html"
    out.write_text("<!doctype html>")
    task.write_result({"path": str(out)})
    task.write_status(state="finished", ended=time.time())
    app.run()
    (button,) = app.get("download_button")
    assert button.proto.label.startswith("Download report-first.html")
    assert len(spawned) == 1


def test_a_report_belongs_to_the_run_that_asked(kin: Family, spawned: list) -> None:
    app = opened(kin.first)
    app.button(key="run_report").click().run()
    app.button(key=f"open_{kin.second.id}").click().run()
    assert app.query_params["run"] == kin.second.id
    assert len(spawned) == 1
    assert f"python -m refine report {kin.first.id}" not in [code.value for code in app.code]


def test_a_report_that_failed_says_why(kin: Family, spawned: list) -> None:
    app = opened(kin.first)
    app.button(key="run_report").click().run()
    spawned[0].write_status(state="failed", message="corpus: it is gone", ended=time.time())
    app.run()
    assert "corpus: it is gone" in [error.value for error in app.error]
    assert not app.get("download_button")


def test_no_report_without_an_encoder(kin: Family, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REFINE_RUNS", str(tmp_path / "runs"))
    config = {"command": "train", "recipe": "rewire", "encoder": kin.base, "options": {}}
    run = runs.create(config | {"corpus": str(kin.corpus), "name": "young"})
    run.write_status(state="stopped", step=1, total=10)
    assert "run_report" not in [button.key for button in opened(run).button]
