"""Work of the benchmarks spread over processes: its order, its results, what it costs."""

import sys
import time

import pytest

from refine import paths

sys.path.insert(0, str(paths.ROOT / "benchmarks"))
import processes


def timed(name: str) -> tuple[str, float, float]:
    began = time.time()
    time.sleep(0.05)
    return name, began, time.time()


@pytest.mark.parametrize("jobs", [1, 2])
def test_work_waits_for_what_it_needs(jobs):
    work = {name: (timed, name) for name in "abcdef"}
    needs = {"a": ["c", "kept already"], "c": ["e"], "f": ["a"]}
    with processes.workers(jobs) as turns:
        found = dict(turns(work, needs))
    assert set(found) == set(work)
    assert all(found[name][0] == name for name in work)
    for before, after in ("ca", "ec", "af"):
        assert found[before][2] <= found[after][1]


def fails() -> None:
    raise ValueError("no clip")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_told(jobs):
    with pytest.raises(ValueError, match="no clip"), processes.workers(jobs) as turns:
        dict(turns({"a": (fails,)}))


def burn() -> None:
    end = time.process_time() + 1.2
    while time.process_time() < end:
        pass


def test_the_time_of_other_processes_counts():
    before = processes.processor_minutes()
    with processes.workers(2) as turns:
        dict(turns({"a": (burn,)}))
    assert processes.processor_minutes() - before >= 1.2 / 60
