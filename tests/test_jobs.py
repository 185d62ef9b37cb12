"""Jobs as real processes: started, killed, stopped, resumed and queued."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import job_worker
import psutil
import pytest

from refine import files, jobs, paths, runs, worker
from refine.processes import identity
from refine.runs import Run, RunError

PATIENCE_S = 15.0


@pytest.fixture(autouse=True)
def _test_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jobs, "WORKER", job_worker.WORKER)
    yield
    for child in jobs._children:
        child.kill()
        child.wait()
    jobs._reap()


def _config(command: str = "count", **options: object) -> dict:
    return {"command": command, "options": {"steps": 5, **options}, "name": command}


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.05)


def _until_state(run: Run, *states: str) -> None:
    _until(lambda: run.status().state in states, f"{states}, is {run.status()}\n{run.log_text()}")


def _until_step(run: Run, step: int) -> None:
    _until(lambda: len(run.metrics()) >= step, f"step {step} of {run.status()}")


def _kill(run: Run) -> None:
    pid = run.status().pid
    assert pid is not None
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def test_a_run_finishes_and_says_who_did_it() -> None:
    run = jobs.submit(_config())
    assert run.status().state == "running"  # starting, before the worker has said a word
    assert run.status().pid not in (None, os.getpid())
    _until_state(run, "finished")
    status = run.status()
    assert (status.step, status.total) == (5, 5)
    assert status.started is not None
    assert status.ended is not None
    assert run.metrics()["step"].tolist() == [1, 2, 3, 4, 5]
    assert "start count" in run.log_text()
    assert jobs.start(runs.create(_config())) is True
    with pytest.raises(RunError, match="it is finished"):
        jobs.start(run)


def test_a_killed_worker_is_crashed_at_once_and_resumes_where_it_was() -> None:
    run = jobs.submit(_config(steps=30, each_s=0.05))
    _until_step(run, 3)
    _kill(run)
    _until_state(run, "crashed")
    assert "resume it" in run.status().message
    done = len(run.metrics())
    assert done < 30
    jobs.resume(run)
    _until_state(run, "finished")
    assert run.metrics()["step"].tolist() == list(range(1, 31))
    assert "resume count" in run.log_text()
    with pytest.raises(RunError, match="finished"):
        jobs.resume(run)


def test_stop_is_cooperative_and_resumable() -> None:
    run = jobs.submit(_config(steps=1000, each_s=0.01))
    _until_step(run, 2)
    with pytest.raises(RunError, match="running already"):
        jobs.resume(run)
    jobs.stop(run)
    status = run.status()
    assert status.state == "stopped"
    assert "resume" in status.message
    assert 2 <= len(run.metrics()) < 1000
    jobs.resume(run)
    assert not run.stop_requested
    _until_step(run, len(run.metrics()) + 1)
    jobs.stop(run)


def test_a_deaf_worker_is_ended() -> None:
    run = jobs.submit(_config("deaf"))
    _until_step(run, 1)
    started = time.monotonic()
    jobs.stop(run, grace_s=0.2)
    assert time.monotonic() - started < 10
    assert run.status().state == "stopped"
    assert "interrupted" in run.status().message


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGSTOP")
def test_a_frozen_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TERMINATE_S", 0.3)
    run = jobs.submit(_config("deaf"))
    _until_step(run, 1)
    pid = run.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    jobs.stop(run, grace_s=0.1)
    assert run.status().state == "stopped"
    assert (files.read_json(run.path / "status.json") or {})["state"] == "stopped"


def test_a_users_error_is_its_sentence_and_the_traceback_is_in_the_log() -> None:
    run = jobs.submit(_config("refuse"))
    _until_state(run, "failed")
    assert run.status().message == "learning_rate: got 1e9; expected 1e-8 to 1; lower it"
    assert "Traceback" in run.log_text()


@pytest.mark.parametrize(
    ("command", "state", "message"),
    [
        ("fault", "failed", "KeyError: 'surprise'; see log.txt"),
        ("full", "failed", "is full"),
        ("killed", "crashed", "killed, out of memory or a restart"),
        ("nothing", "failed", "command: got 'nothing'; expected one of: train, estimate, embed"),
    ],
)
def test_every_ending_is_told(command: str, state: str, message: str) -> None:
    if command == "killed" and os.name == "nt":
        pytest.skip("os.kill(9) ends differently on Windows")
    run = jobs.submit(_config(command))
    _until_state(run, "failed", "crashed", "finished")
    assert run.status().state == state
    assert message in run.status().message
    assert "Traceback" not in run.status().message


def test_a_second_run_waits_and_is_started_by_the_first() -> None:
    first = jobs.submit(_config(steps=10, each_s=0.03))
    second = jobs.submit(_config())
    third = jobs.submit(_config())
    assert second.status().state == "queued"
    jobs.stop(second)  # it leaves the queue
    assert second.status().state == "stopped"
    _until_state(third, "running")
    assert first.status().state == "finished"
    _until_state(third, "finished")
    assert second.status().state == "stopped"


def test_a_run_whose_starter_died_is_advanced_by_anyone_and_only_once() -> None:
    waiting = [runs.create(_config()) for _ in range(2)]
    started: list[Run] = []

    def look() -> None:
        if run := jobs.advance(paths.runs()):
            started.append(run)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1
    assert sum(run.status().state == "running" for run in waiting) == 1
    for run in waiting:
        _until_state(run, "finished")
        assert run.metrics()["step"].tolist() == [1, 2, 3, 4, 5]


def test_two_workers_of_one_run_do_its_work_once() -> None:
    run = runs.create(_config(each_s=0.05))
    command = [*job_worker.WORKER, str(run.path)]
    workers = [subprocess.Popen(command) for _ in range(2)]
    assert [each.wait(PATIENCE_S) for each in workers] == [0, 0]
    late = subprocess.run(command, capture_output=True, text=True, check=False)
    assert late.returncode == 0
    assert "it is finished" in late.stderr
    assert "Traceback" not in late.stderr
    assert run.metrics()["step"].tolist() == [1, 2, 3, 4, 5]


def test_a_run_outlives_the_process_that_started_it() -> None:
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
import job_worker
from refine import jobs
job_worker.install()
config = {"command": "count", "options": {"steps": 20, "each_s": 0.03}, "name": "count"}
print(jobs.submit(config).path, flush=True)
os.kill(os.getpid(), 9)
"""
    starter = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    run = Run(starter.stdout.strip())
    assert run.status().state == "running", starter.stderr
    _until_state(run, "finished")


def test_the_heart_beats_while_the_work_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEAT_S", 0.05)
    beats = set()

    def silent(run: Run, resume: bool) -> None:
        for _ in range(20):
            time.sleep(0.03)
            beats.add(run.status().heartbeat)

    monkeypatch.setattr(worker, "_command", lambda config: silent)
    run = jobs.claim_here(_config())
    status = worker.execute(run)
    assert status.state == "finished"
    assert len(beats) > 4


def test_a_run_here_waits_for_no_one_but_says_who_is_in_the_way() -> None:
    other = jobs.submit(_config(steps=200))
    with pytest.raises(RunError, match=f"{other.id} is running; wait for it, stop it"):
        jobs.claim_here(_config())
    assert runs.all_runs() == [other]
    jobs.stop(other)
    run = jobs.claim_here(other)  # resumed in this process
    assert run.status().pid == identity()["pid"]
    assert jobs.advance(paths.runs()) is None


def test_a_task_is_found_again_by_its_options(tmp_path: Path) -> None:
    options = {"encoder": "mini", "corpus": str(tmp_path), "of": 1}
    run = jobs.task("answer", options)
    assert jobs.task("answer", dict(reversed(options.items()))) == run
    _until_state(run, "finished")
    assert run.result() == {"value": None, "of": 1}
    again = jobs.task("answer", options)
    assert again == run
    assert again.status().state == "finished"
    assert len(run.metrics()) == 1
    assert runs.all_runs() == []  # tasks are not trainings
    assert runs.find(run.id) == run
    other = jobs.task("answer", {**options, "of": 2})
    assert other != run
    _until_state(other, "finished")
    (tmp_path / "new.wav").touch()  # the corpus has changed
    assert jobs.task("answer", options) != run


def test_a_failed_task_is_shown_and_only_started_again_when_asked() -> None:
    run = jobs.task("refuse", {"encoder": "mini", "corpus": "demo"})
    _until_state(run, "failed")
    assert jobs.task("refuse", {"encoder": "mini", "corpus": "demo"}).status().state == "failed"
    jobs.task("refuse", {"encoder": "mini", "corpus": "demo"}, again=True)
    _until(lambda: run.log_text().count("Traceback") == 2, "the second try")


def test_a_task_and_a_training_run_side_by_side() -> None:
    training = jobs.submit(_config(steps=500))
    task = jobs.task("answer", {"of": 1})
    _until_state(task, "finished")
    assert training.status().state == "running"
    jobs.stop(training)


def test_no_worker_is_left_behind_as_a_zombie() -> None:
    run = jobs.submit(_config())
    pid = run.status().pid
    assert pid is not None
    _until_state(run, "finished")
    _until(lambda: jobs.advance() is None and not psutil.pid_exists(pid), "the child to be reaped")
