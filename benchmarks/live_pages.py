"""Pages of the live microphone in Chromium: one, ten at once, or one for an hour. See `live.py`."""

import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import live_words
from browser import CHROMIUM_FLAGS, Server, chromium, settled

from refine import audio, paths
from refine.audio import SAMPLE_RATE
from refine.corpus import open_corpus
from refine.live.hub import Hub, to_pcm
from refine.live.stream import Options as StreamOptions

CROWD_S = 30  # s
TAPE_WORDS = 30  # of the tape that is spoken again and again
CHUNK = 320  # samples a browser sends at once
PARTS = ["seen", "confirmed", "transport", "capture", "queue", "model", "place", "draw", "total"]


def machine() -> dict[str, Any]:
    """What the latencies were measured on, and how busy it was."""
    return {"cpus": os.cpu_count(), "load": [round(value, 1) for value in os.getloadavg()]}


def share(values: list[float], digits: int = 1) -> dict[str, float]:
    """Median and 95th percentile."""
    if not values:
        return {"n": 0}
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), digits), "p95": round(float(p95), digits), "n": len(values)}


def processor_ms(work: Any, times: int = 8) -> float:
    """Processor time of all threads, a call."""
    work()
    began = time.process_time()
    for _ in range(times):
        work()
    return round(1_000 * (time.process_time() - began) / times, 1)


class Window:
    """A Chromium that plays a tape into the live page."""

    def __init__(self, server: Server, before: str, after: str, tape: Path) -> None:
        from playwright.sync_api import sync_playwright

        flags = [*CHROMIUM_FLAGS, "--use-fake-ui-for-media-stream"]
        flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={tape}"]
        self._driver = sync_playwright().start()
        self._browser = self._driver.chromium.launch(executable_path=chromium(), args=flags)
        query = f"before={before}&after={after}&corpus=samples&map=off"
        self.url = f"{server.url}/live?{query}"

    def page(self) -> Any:
        context = self._browser.new_context(permissions=["microphone"], accept_downloads=True)
        page = context.new_page()
        page.set_default_timeout(300_000)
        page.goto(self.url)
        settled(page, 300)
        return page

    def close(self) -> None:
        self._browser.close()
        self._driver.stop()


def listen(page: Any) -> None:
    page.get_by_role("button", name="Listen").click()
    page.wait_for_function("window.refineLive.ready")


def stop(page: Any) -> None:
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Listen").wait_for()


def clear(page: Any) -> None:
    page.evaluate(
        "for (const v of Object.values(window.refineLive)) if (Array.isArray(v)) v.length = 0;"
        "window.refineLive.answers = window.refineLive.dropped = window.refineLive.sent = 0"
    )


def open_pages(server: Server, before: str, after: str, folder: Path, n: int) -> tuple[Any, list]:
    """A Chromium with n pages that listen to the same tape, each as if it were alone."""
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "arabic_commands"
    live_words.tape(open_corpus(data), TAPE_WORDS, folder / "tape.wav")
    window = Window(server, before, after, folder / "tape.wav")
    pages = [window.page() for _ in range(n)]
    for page in pages:  # pressed everywhere first: those that wait for the encoders wait together
        page.get_by_role("button", name="Listen").click()
    for page in pages:
        page.wait_for_function("window.refineLive.ready")
    return window, pages


def worker_of(server: Server) -> list[psutil.Process]:
    """The processes with encoders that a server has started."""
    assert server.process is not None
    own = psutil.Process(server.process.pid).children(recursive=True)
    return [one for one in own if "refine.live.worker" in one.cmdline()]


def base_size() -> dict[str, Any]:
    """Two encoders of base size with random weights, a window a second: do they keep up?"""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    with tempfile.TemporaryDirectory() as folder:
        names = [str(Path(folder) / name) for name in ("before", "after")]
        for seed, name in enumerate(names):
            torch.manual_seed(seed)
            Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(name)
        return {"hop_s": 1.0, **streams(names[0], names[1], 1, hop_s=1.0)}


def streams(before: str, after: str, n: int, **options: float) -> dict[str, Any]:
    """n streams into one hub, as if their browsers ran on other computers."""
    clips = [audio.load(path) for path in sorted((paths.ASSETS / "clips").glob("*.ogg"))]
    pause = np.zeros(12_000, np.float32)
    pcm = to_pcm(np.concatenate([part for clip in clips for part in (clip, pause)]))
    asked = StreamOptions(**options)
    hub, heard = Hub(), [[] for _ in range(n)]  # type: ignore[var-annotated]
    found = [hub.session(None, before=before, after=after, options=asked) for _ in range(n)]
    for session, told in zip(found, heard, strict=True):
        hub.claim(session.token, told.append)
    while not all(any(m.get("state") == "ready" for m in list(told)) for told in heard):
        time.sleep(0.1)
    size, began = 2 * CHUNK, time.monotonic()
    for at in range(0, CROWD_S * SAMPLE_RATE * 2, size):
        time.sleep(max(0.0, began + at / 2 / SAMPLE_RATE - time.monotonic()))
        for i, session in enumerate(found):
            start = (at + i * 4 * size) % (len(pcm) - size)
            hub.push(session, pcm[start : start + size], 1_000 * time.monotonic())
    busy = machine()
    time.sleep(3)
    hub.stop()
    answers = [[m for m in told if m["type"] == "answer"] for told in heard]
    counts = [len(one) for one in answers]
    return {
        "streams": n,
        "seconds": CROWD_S,
        "machine": busy,
        "answers_each": counts,
        "fewest_to_most": round(min(counts) / max(1, *counts), 2),
        "windows_dropped": [one[-1]["dropped"] if one else None for one in answers],
        "chunks_lost": [session.lost for session in found],
        "sound_heard_s": [round(0.064 * sum(m["type"] == "level" for m in t), 1) for t in heard],
        "total_ms": share([one["latency"]["total"] for each in answers for one in each]),
    }


def crowd(before: str, after: str, folder: Path, n: int) -> dict[str, Any]:
    """n browsers at once on one server. Here they share its processor, as they would not in a room.

    Fair: each page is answered about as often as the others; the hop that each gets is told.
    """
    server = Server(folder / "app").start()
    try:
        window, pages = open_pages(server, before, after, folder, n)
        pages[0].wait_for_timeout(3_000)
        for page in pages:
            clear(page)
        before_s = time.monotonic()
        pages[0].wait_for_timeout(1_000 * CROWD_S / 2)
        busy, workers = machine(), worker_of(server)
        memory = sum(one.memory_info().rss for one in workers) / 1e6
        pages[0].wait_for_timeout(1_000 * CROWD_S / 2)
        stats = [page.evaluate("window.refineLive") for page in pages]
        took = time.monotonic() - before_s
        window.close()
    finally:
        server.clean()
    answers = [one["answers"] for one in stats]
    silent = [longest_wait(one["labels"]) for one in stats]
    return {
        "browsers": n,
        "seconds": round(took, 1),
        "machine": busy,
        "answers_each": answers,
        "fewest_to_most": round(min(answers) / max(1, *answers), 2),
        "hop_s": round(float(np.median(np.concatenate([hops(one["labels"]) for one in stats]))), 2),
        "longest_wait_while_speaking_s": max(silent),
        "chunks_sent": [one["sent"] for one in stats],
        "chunks_lost": [one["lost"] + one["unsent"] for one in stats],
        "windows_dropped": [one["dropped"] for one in stats],
        "latency_ms": {name: share([v for one in stats for v in one[name]]) for name in PARTS},
        "processes_with_encoders": len(workers),
        "its_memory_mb": round(memory),
    }


def hops(labels: list[dict[str, Any]]) -> np.ndarray:
    """Seconds of sound from one answer to the next, inside utterances."""
    ends = [(one["at"], one["final"]) for one in labels]
    pairs = pairwise(ends)
    return np.array([b - a for (a, over), (b, _) in pairs if not over and b > a] or [np.nan])


def longest_wait(labels: list[dict[str, Any]]) -> float:
    """The longest stretch of sound without an answer; the tape never pauses for 2 s."""
    ends = [one["at"] for one in labels]
    return round(float(max(np.diff(ends), default=np.inf)), 2)


def soak(before: str, after: str, folder: Path, minutes: float) -> dict[str, Any]:
    """A page that listens for so long, in real time: memory, loss and clocks.

    Delays are those of the newest 2 000 answers, which is what a page keeps.
    """
    server = Server(folder / "app").start()
    rows: list[dict[str, float]] = []
    try:
        window, (page,) = open_pages(server, before, after, folder, 1)
        page.wait_for_timeout(5_000)
        clear(page)
        start = page.evaluate(CLOCKS)
        until, loads = time.monotonic() + 60 * minutes, []
        while time.monotonic() < until:
            page.wait_for_timeout(1_000 * min(15.0, 15 * minutes))
            rows.append(memory_of(server, page))
            loads.append(os.getloadavg()[0])
            told_now = page.evaluate(PROGRESS)
            print(json.dumps({**told_now, **rows[-1], "load": loads[-1]}), flush=True)
        end, stats = page.evaluate(CLOCKS), page.evaluate("window.refineLive")
        told = page.locator(".problem").inner_text()
        listens = page.get_by_role("button", name="Stop").is_visible()
        window.close()
    finally:
        server.clean()
    passed = (end["wall"] - start["wall"]) / 1_000
    heard = end["heard"] - start["heard"]
    sent = (end["sent"] - start["sent"]) * CHUNK / SAMPLE_RATE
    return {
        "minutes": round(passed / 60, 1),
        "machine": {"cpus": os.cpu_count(), "load_mean": round(float(np.mean(loads)), 1)},
        "listens_at_the_end": listens,
        "told": told,
        "memory_mb": {name: drift([row[name] for row in rows]) for name in rows[0]},
        "chunks_sent": stats["sent"],
        "chunks_lost": stats["lost"] + stats["unsent"],
        "seconds_sent_heard_passed": [round(sent, 2), round(heard, 2), round(passed, 2)],
        "clock_drift_ppm": round(1e6 * (sent / passed - 1)),  # of the sound card and the wall
        "answers": stats["answers"],
        "windows_dropped": stats["dropped"],
        "latency_ms": {name: share(stats[name]) for name in PARTS},
        "latency_ms_last_tenth": {
            name: share(stats[name][-max(1, len(stats[name]) // 10) :]) for name in PARTS
        },
    }


# the server's clock (samples it has heard) beside the browser's and what it has sent
PROGRESS = """({answers: refineLive.answers, dropped: refineLive.dropped, sent: refineLive.sent,
  lost: refineLive.lost + refineLive.unsent, heard: refineLive.heard,
  told: document.querySelector('.problem')?.textContent})"""
CLOCKS = "({wall: Date.now(), sent: refineLive.sent, heard: refineLive.heard})"


def memory_of(server: Server, page: Any) -> dict[str, float]:
    """Resident megabytes of the server and the worker, and the page's own heap after a sweep."""
    assert server.process is not None
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    session.detach()
    server_mb = psutil.Process(server.process.pid).memory_info().rss / 1e6
    worker_mb = sum(one.memory_info().rss for one in worker_of(server)) / 1e6
    return {"server": server_mb, "worker": worker_mb, "page": heap}


def drift(values: list[float]) -> dict[str, float]:
    """How a memory went, from its tenth part on: what comes before is loading."""
    kept = values[len(values) // 10 :]
    edge = max(1, len(kept) // 10)
    first, last = float(np.mean(kept[:edge])), float(np.mean(kept[-edge:]))
    figures = {"start": first, "end": last, "highest": max(kept)}
    return {k: round(v, 1) for k, v in figures.items()} | {"change": round(last / first - 1, 4)}
