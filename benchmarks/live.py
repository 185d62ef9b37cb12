"""The live page through its real path: Chromium, a fake microphone, WebSocket, both encoders.

    python benchmarks/live.py                      # 60 words; about 4 minutes on two cores
    python benchmarks/live.py --words 12 --streams 0 --soak 0

Words: recorded test clips, played as the microphone of a Chromium; what the page names is compared
with what was said, beside the accuracy of the head itself on test clips, and chance. Streams: so
many sessions at once on one worker. Soak: minutes of sound through hub and worker, faster than
spoken, to see whether memory stays flat. The load of the machine is written beside every latency:
on a busy one they are the machine's and not ours.
"""

import io
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import live_words
from browser import CHROMIUM_FLAGS, Server, chromium, settled

from refine import audio, heads, paths
from refine.audio import SAMPLE_RATE
from refine.corpus import Corpus, open_corpus
from refine.live.hub import Hub, to_pcm
from refine.live.stream import Options as StreamOptions
from refine.metrics.intervals import from_values

CROWD_S = 20  # s
HOP_MS = 1_000 * StreamOptions().hop_s


@dataclass(frozen=True)
class Options:
    """What is measured."""

    before: str = "mini"
    """The original encoder."""
    after: str = "mini-rewire"
    """The refined encoder."""
    corpus: Path = paths.ROOT.parent / "shared" / "data" / "arabic_commands"
    """Recorded words, with a split test."""
    words: int = 60
    """Words on the tape; 0 leaves this part out."""
    streams: int = 10
    """Sessions that are spoken to at once; 0 leaves this part out."""
    soak: float = 60.0
    """Minutes of sound."""
    speed: float = 30.0
    """Times as fast as spoken, in the soak."""
    cost: bool = True
    """Processor time of one answer, which other programs do not lengthen."""
    out: Path = paths.ROOT / "docs" / "measured" / "live.json"
    """Where the result is written."""


def main(options: Options) -> None:
    """Measure and write."""
    known = json.loads(options.out.read_text()) if options.out.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        if options.words:
            known["words"] = spoken(options, where)
            print(json.dumps(known["words"], indent=1))
        if options.cost:
            known["cost"] = cost(options)
            print(json.dumps(known["cost"], indent=1))
        if options.streams:
            known["streams"] = crowd(options)
            print(json.dumps(known["streams"], indent=1))
        if options.soak:
            known["soak"] = soak(options)
            print(json.dumps(known["soak"], indent=1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(known, indent=1) + "\n")
    print(f"written to {options.out}")


def machine() -> dict[str, Any]:
    """What the latencies were measured on, and how busy it was."""
    return {"cpus": os.cpu_count(), "load": [round(value, 1) for value in os.getloadavg()]}


class Window:
    """A Chromium that plays a tape into the live page."""

    def __init__(self, server: Server, options: Options, tape: Path) -> None:
        from playwright.sync_api import sync_playwright

        flags = [*CHROMIUM_FLAGS, "--use-fake-ui-for-media-stream"]
        flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={tape}"]
        self._driver = sync_playwright().start()
        self._browser = self._driver.chromium.launch(executable_path=chromium(), args=flags)
        query = f"before={options.before}&after={options.after}&corpus=samples&map=off"
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


def spoken(options: Options, folder: Path) -> dict[str, Any]:
    """Latency, loss and accuracy of one page."""
    corpus = open_corpus(options.corpus)
    words, source = live_words.tape(corpus, options.words, folder / "tape.wav")
    server = Server(folder / "app").start()
    try:
        window = Window(server, options, folder / "tape.wav")
        page = window.page()
        listen(page)  # loads the encoders
        page.wait_for_timeout(4_000)
        stop(page)
        clear(page)
        listen(page)
        page.wait_for_timeout(1_000 * words[-1].end / 2)
        busy = machine()  # in the middle
        page.wait_for_timeout(1_000 * (words[-1].end / 2 + 1.5))
        stats = page.evaluate("window.refineLive")
        stop(page)
        page.get_by_text("What was heard").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save").click()
        received = audio.load(io.BytesIO(Path(download.value.path()).read_bytes()))
        window.close()
    finally:
        server.clean()
    kept = source[-len(received) :] if len(received) < len(source) else source
    error, _ = live_words.alike(received, kept)
    return {
        "pair": [options.before, options.after],
        "machine": busy,
        "words": len(words),
        "answers": stats["answers"],
        "windows_dropped": stats["dropped"],
        "chunks_lost": stats["lost"],
        "latency_ms": {name: share(stats[name]) for name in PARTS},
        "speech_to_answer_ms": {
            key: round(value + HOP_MS, 1)
            for key, value in share(stats["seen"]).items()
            if key != "n"
        },
        "pcm_relative_error": round(error, 5),
        "accuracy": accuracy(options, corpus, words, stats["labels"]),
    }


PARTS = ("seen", "transport", "queue", "model", "total")


def share(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    if not values:
        return {"n": 0}
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "n": len(values)}


def accuracy(
    options: Options,
    corpus: Corpus,
    words: list[live_words.Spoken],
    labels: list[dict[str, Any]],
) -> dict[str, Any]:
    """Named right, of all words: one that was refused counts as wrong."""
    table: dict[str, Any] = {"chance": 1 / corpus.table["content"].nunique()}
    for role, name in (("before", options.before), ("after", options.after)):
        said = live_words.heard(words, labels, role)
        right = np.array([a == spoken.word for a, spoken in zip(said, words, strict=True)])
        number = from_values(right.astype(float), "Share of the spoken words that the page named.")
        head = next(one for one in heads.find(name) if one.factor == "content")
        table[role] = {
            **{key: round(getattr(number, key), 3) for key in ("value", "low", "high")},
            "n": len(words),
            "no_answer": said.count(None),
            "head_on_test_clips": round(head.measured["accuracy"]["value"], 3),
        }
    return table


def cost(options: Options) -> dict[str, Any]:
    """Milliseconds of processor time an answer of both encoders takes, and a base-size network."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    from refine.live.predict import Pair

    torch.set_num_threads(1)
    pair, rng = Pair.load(options.before, options.after), np.random.default_rng(0)
    window = rng.normal(0, 0.1, round(1.5 * SAMPLE_RATE)).astype(np.float32)
    found = {"pair_fp32": processor_ms(lambda: pair.ask([window]))}
    network = Wav2Vec2Model(Wav2Vec2Config()).eval()  # random weights take the same time
    waveform = torch.from_numpy(window)[None]
    for name, on in (("base_size_fp32", False), ("base_size_bf16", True)):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=on):
            found[name] = processor_ms(lambda: network(waveform))
    return {"window_s": 1.5, "machine": machine(), "processor_ms": found}


def processor_ms(work: Any, times: int = 8) -> float:
    """Processor time of all threads, a call."""
    work()
    began = time.process_time()
    for _ in range(times):
        work()
    return round(1_000 * (time.process_time() - began) / times, 1)


def crowd(options: Options) -> dict[str, Any]:
    """Ten sessions of one hub, spoken to at once. Their browsers would run on other computers."""
    sound = sentences()
    pcm, hub = to_pcm(sound), Hub()
    heard: dict[int, list[dict[str, Any]]] = {i: [] for i in range(options.streams)}
    found = [
        hub.session(None, before=options.before, after=options.after)
        for _ in range(options.streams)
    ]
    for i, session in enumerate(found):
        hub.claim(session.token, heard[i].append)
    while not all(any(m.get("state") == "ready" for m in list(told)) for told in heard.values()):
        time.sleep(0.1)
    chunk, began = 2 * SAMPLE_RATE // 50, time.monotonic()
    for at in range(0, CROWD_S * SAMPLE_RATE * 2, chunk):
        time.sleep(max(0.0, began + at / 2 / SAMPLE_RATE - time.monotonic()))
        for i, session in enumerate(found):
            start = (at + i * 4 * chunk) % (len(pcm) - chunk)
            hub.push(session, pcm[start : start + chunk], 1_000 * time.monotonic())
    busy = machine()
    time.sleep(2)
    assert hub._process is not None
    memory = psutil.Process(hub._process.pid).memory_info().rss / 1e6
    hub.stop()
    answers = [[m for m in told if m["type"] == "answer"] for told in heard.values()]
    counts = [len(one) for one in answers]
    totals = [one["latency"]["total"] for each in answers for one in each]
    return {
        "streams": options.streams,
        "seconds": CROWD_S,
        "machine": busy,
        "answers_each": counts,
        "fewest_to_most": round(min(counts) / max(1, *counts), 2),
        "windows_dropped": [one[-1]["dropped"] if one else None for one in answers],
        "chunks_lost": [session.lost for session in found],
        "total_ms": share(totals),
        "processes_with_encoders": 1,
        "its_memory_mb": round(memory),
    }


def sentences() -> np.ndarray:
    """The shipped clips, with pauses."""
    clips = [audio.load(path) for path in sorted((paths.ASSETS / "clips").glob("*.ogg"))]
    pause = np.zeros(12_000, np.float32)
    return np.concatenate([part for clip in clips for part in (clip, pause)])


def soak(options: Options) -> dict[str, Any]:
    """Minutes of sound through hub and worker; memory each minute of sound."""
    pcm, hub = to_pcm(sentences()), Hub()
    heard = {"answer": 0, "level": 0, "ready": 0}

    def listener(message: dict[str, Any]) -> None:
        kind = "ready" if message.get("state") == "ready" else message["type"]
        heard[kind] = heard.get(kind, 0) + 1

    found = hub.session(None, before=options.before, after=options.after)
    hub.claim(found.token, listener)
    while not heard["ready"]:
        time.sleep(0.1)
    assert hub._process is not None
    worker, own = psutil.Process(hub._process.pid), psutil.Process()
    chunk, memory, mine = 2 * SAMPLE_RATE // 10, [], []
    began, total = time.monotonic(), round(options.soak * 60 * SAMPLE_RATE * 2)
    for at in range(0, total, chunk):
        due = began + at / 2 / SAMPLE_RATE / options.speed
        time.sleep(max(0.0, due - time.monotonic()))
        start = at % (len(pcm) - chunk)
        hub.push(found, pcm[start - start % 2 :][:chunk], at / 32)
        if at % (60 * SAMPLE_RATE * 2) < chunk:
            memory.append(worker.memory_info().rss / 1e6)
            mine.append(own.memory_info().rss / 1e6)
    took, lost = time.monotonic() - began, found.lost
    levels = total / 2 / 1_024
    until = time.monotonic() + 60
    while heard["level"] < levels - 2 and time.monotonic() < until:
        time.sleep(0.1)
    hub.stop()
    settled_ = memory[len(memory) // 6 :]
    return {
        "minutes_of_sound": options.soak,
        "seconds_taken": round(took),
        "machine": machine(),
        "worker_mb": {
            "start": round(settled_[0]),
            "end": round(settled_[-1]),
            "highest": round(max(settled_)),
            "change": round(statistics.mean(settled_[-3:]) / statistics.mean(settled_[:3]) - 1, 4),
        },
        "hub_mb": {"start": round(mine[0]), "end": round(mine[-1])},
        "chunks_lost": lost,
        "share_of_sound_taken": round(heard["level"] / levels, 4),  # the rest: no processor time
        "answers": heard["answer"],
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
