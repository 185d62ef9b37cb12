"""The run folder: what is written, what is derived, and what survives a crash."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from refine import faults, files, paths, runs
from refine.options import OptionError
from refine.processes import identity
from refine.runs import Run, RunError

CONFIG = {"command": "train", "recipe": "rewire", "encoder": "mini", "corpus": "demo"}


def test_a_new_run_is_whole_and_queued() -> None:
    run = runs.create({**CONFIG, "options": {"steps": 3}, "name": "First try"})
    assert run.path.parent == paths.runs()
    stamp, _, name = run.id.rpartition("-first-try")
    assert time.strptime(stamp, "%Y%m%d-%H%M%S")
    assert name == ""
    assert run.config["options"] == {"steps": 3}
    assert run.name == "First try"
    assert run.status().state == "queued"
    assert run.checkpoints.is_dir()
    environment = run.environment
    assert environment["python"].startswith("3.")
    assert environment["cpus"] == os.cpu_count()
    assert "torch" in environment["versions"]
    assert [child.name for child in paths.runs().iterdir()] == [run.id]


def test_runs_of_one_second_get_a_suffix_and_are_listed_newest_first() -> None:
    made = []
    for index in range(3):
        made.append(runs.create({**CONFIG}))
        os.utime(made[-1].path / "config.json", (index, index))
    assert len({run.id for run in made}) == 3
    assert all("-rewire-mini" in run.id for run in made)
    assert runs.all_runs() == made[::-1]
    assert runs.find(made[0].path) == made[0]
    assert runs.find(made[2].id) == made[2]


def test_find_and_names_say_what_is_wrong() -> None:
    with pytest.raises(RunError, match=r"nope: no such run in .*; there are no runs yet"):
        runs.find("nope")
    first, second = runs.create({**CONFIG, "name": "a"}), runs.create({**CONFIG, "name": "b"})
    with pytest.raises(RunError, match=f"no such run.*the newest are .*{second.id}"):
        runs.find("nope")
    with pytest.raises(RunError, match="several runs begin so"):
        runs.find(first.id[:4])
    for name in ("../up", "a/b", "", ".hidden", "x" * 81, "a\nb"):
        with pytest.raises(RunError, match="name"):
            runs.check_name(name)


def test_local_folders_become_absolute_and_reserved_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("speech", "mini"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    config = runs.create({**CONFIG, "corpus": "speech"}).config
    assert config["corpus"] == str(tmp_path / "speech")
    assert config["encoder"] == "mini"


def test_metrics_survive_a_torn_line_and_nan() -> None:
    run = runs.create(CONFIG)
    run.log({"step": 1, "total": 0.5, "isoscore": np.float32(0.25)})
    run.log({"step": 2, "total": float("nan")})
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "tot')
    frame = run.metrics()
    assert frame["step"].tolist() == [1, 2]
    assert frame["total"][0] == 0.5
    assert np.isnan(frame["total"][1])
    runs.find(run.id).log({"step": 3, "total": 0.25})  # the next worker
    frame = run.metrics()
    assert frame["step"].tolist() == [1, 2, 3]
    assert frame["total"].dtype == np.float64
    for line in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_no_metrics_no_log_no_result() -> None:
    run = runs.create(CONFIG)
    assert run.metrics().empty
    assert run.log_text() == ""
    assert run.result() is None


def test_the_log_shows_its_tail_and_the_last_picture_of_a_bar() -> None:
    run = runs.create(CONFIG)
    for index in range(500):
        run.write_log(f"line {index}")
    run.write_log("\x1b[32m10 %\r50 %\r100 %\x1b[0m")
    assert run.log_text(tail=2) == "line 499\n100 %"
    assert len(run.log_text(tail=None).splitlines()) == 501


def test_progress_is_cheap_and_nothing_of_it_is_lost() -> None:
    run = runs.create(CONFIG)
    started = time.perf_counter()
    for step in range(1, 2001):
        run.write_status(step=step, total=2000, eta_s=1.0)
    assert time.perf_counter() - started < 0.5
    run.write_status(message="done")
    status = run.status()
    assert (status.step, status.total, status.message) == (2000, 2000, "done")
    assert status.progress == 1.0
    with pytest.raises(TypeError, match="colour"):
        run.write_status(colour="red")


def test_status_is_never_torn_while_threads_write_it() -> None:
    run = runs.create(CONFIG)
    run.write_status(state="running", **identity())
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            run.write_status(**identity())

    threads = [threading.Thread(target=beat) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen = []
    for step in range(200):
        run.write_status(step=step, message=str(step))  # not progress alone: written each time
        status = run.status()
        seen.append((status.state, status.step, status.message))
    over.set()
    for thread in threads:
        thread.join()
    assert seen == [("running", step, str(step)) for step in range(200)]
    assert not list(run.path.glob("*.part"))
    assert not list(run.path.glob(".*.part"))


def _running(**changes: object) -> Run:
    run = runs.create(CONFIG)
    run.write_status(**{"state": "running", **identity(), **changes})
    return run


def test_the_state_is_derived_from_the_process() -> None:
    assert _running().status().state == "running"
    reused = _running(created=identity()["created"] - 60).status()
    assert reused.state == "crashed"
    assert "resume" in reused.message
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert _running(pid=child.pid).status().state == "crashed"
    assert _running(state="queued", pid=child.pid).status().state == "crashed"
    stopping = _running(pid=child.pid)
    stopping.request_stop()
    assert stopping.status().state == "stopped"
    ended = _running(pid=child.pid, state="finished")
    assert ended.status().state == "finished"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no zombies")
def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run = _running(**identity(child.pid))
    assert run.status().state == "running"
    child.kill()
    deadline = time.monotonic() + 5
    while run.status().state == "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run.status().state == "crashed"  # although nobody has waited for it
    child.communicate()


def test_a_worker_elsewhere_is_believed_as_long_as_it_beats() -> None:
    run = _running(host="another-machine", pid=1)
    assert run.status().state == "running"
    content = files.read_json(run.path / "status.json") or {}
    files.write_json(run.path / "status.json", {**content, "heartbeat": time.time() - 16})
    assert run.status().state == "crashed"


def test_a_silent_worker_that_lives_is_running_and_says_so() -> None:
    run = _running()
    content = files.read_json(run.path / "status.json") or {}
    files.write_json(run.path / "status.json", {**content, "heartbeat": time.time() - 40})
    status = run.status()
    assert status.state == "running"
    assert "no sign of life for 40 s" in status.message


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "flying"}', None])
def test_a_broken_status_is_a_crash_not_an_error(content: str | None) -> None:
    run = runs.create(CONFIG)
    path = run.path / "status.json"
    path.unlink() if content is None else path.write_text(content)
    assert run.status().state == "crashed"


def test_delete_refuses_a_running_run() -> None:
    run = _running()
    with pytest.raises(RunError, match="it is running; stop it"):
        runs.delete(run)
    run.write_status(state="stopped")
    runs.delete(run)
    assert runs.all_runs() == []
    assert [child.name for child in paths.runs().iterdir()] == [".lock"]


def test_a_full_disk_is_one_sentence_and_the_last_word_is_still_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = _running(step=3)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_replace", refuse)
    run.write_status(step=4, total=9)  # progress is not worth a failure
    with pytest.raises(RunError, match=r"the disk of .* is full .*free some space"):
        runs.create(CONFIG)
    run.write_status(state="failed", message="the disk is full")
    status = run.status()
    assert (status.state, status.message) == ("failed", "the disk is full")
    assert len(runs.all_runs()) == 1


def test_what_a_user_is_told_of_an_error(tmp_path: Path) -> None:
    assert faults.sentence(OptionError("x", "got 1"), tmp_path) == "x: got 1"
    assert faults.sentence(KeyError("x"), tmp_path) is None
    assert faults.sentence(ValueError("from somewhere else"), tmp_path) is None
    assert "not enough memory" in str(faults.sentence(MemoryError(), tmp_path))
    hidden = RuntimeError("I/O error: No space left on device (os error 28)")
    assert "is full" in str(faults.sentence(hidden, tmp_path))


def test_a_lock_excludes_threads_and_is_dropped_at_the_death_of_its_holder(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = f"""
import sys, time
from pathlib import Path
from refine.files import lock
with lock(Path({str(path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(files.FileLocked), files.lock(path, patience_s=0.1):
        pass
    holder.kill()
    holder.communicate()
    with files.lock(path, patience_s=1), pytest.raises(files.FileLocked):  # noqa: SIM117
        with files.lock(path, patience_s=0.1):
            pass
