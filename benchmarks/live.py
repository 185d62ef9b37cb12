"""The live page through its real path: Chromium, a fake microphone, WebSocket, both encoders.

    python benchmarks/live.py                      # about 6 minutes on two cores
    python benchmarks/live.py --words 12 --streams 0 --soak 0
    python benchmarks/live.py --words 0 --no-cost --streams 0 --soak 60
    python benchmarks/live.py --words 0 --no-cost --streams 0 --soak 0 --browsers 10

Words: recorded test clips, played as the microphone of a Chromium; what the page names is compared
with what was said, beside the accuracy of the head itself on test clips, and chance. Streams: so
many at once on one server, without their browsers; browsers: with them, on the same cores. Soak:
minutes of one page, in real time: memory, lost sound, clocks. Cost: processor time of an answer.

Latencies run from the newest sample of a window: seen (on the screen), and its parts transport,
capture (the window's own age), queue, model, place (heads, map, voices), draw. Confirmed: answers
that only say that an utterance is over, 0.3 s after its end. Speech to answer, whose goal is a hop
and 150 ms: from a hop before the newest sample for the first, from the last speech for the second.
The load of the machine is written beside them: on a busy one they are the machine's and not ours.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import live_words
from browser import Server
from live_pages import (
    PARTS,
    Window,
    base_size,
    clear,
    crowd,
    listen,
    machine,
    processor_ms,
    share,
    soak,
    stop,
    streams,
)

from refine import heads, paths
from refine.audio import SAMPLE_RATE
from refine.corpus import Corpus, open_corpus
from refine.live.stream import Options as StreamOptions
from refine.metrics.intervals import from_values

HOP_MS, MARGIN_MS = 1_000 * StreamOptions().hop_s, 1_000 * StreamOptions().margin_s


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
    """Streams into one server at once, without their browsers; 0 leaves this part out."""
    browsers: int = 0
    """Pages of a Chromium at once on one server; on two cores ten take minutes to open."""
    soak: float = 1.0
    """Minutes of one page, in real time; 0 leaves this part out."""
    cost: bool = True
    """Processor time of one answer, which other programs do not lengthen."""
    base: bool = True
    """Two encoders of base size, a window a second."""
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
        if options.base:
            known["base_size"] = base_size()
            print(json.dumps(known["base_size"], indent=1))
        if options.streams:
            known["streams"] = streams(options.before, options.after, options.streams)
            print(json.dumps(known["streams"], indent=1))
        if options.browsers:
            known["browsers"] = crowd(
                options.before, options.after, where / "crowd", options.browsers
            )
            print(json.dumps(known["browsers"], indent=1))
        if options.soak:
            known["soak"] = soak(options.before, options.after, where / "soak", options.soak)
            print(json.dumps(known["soak"], indent=1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(known, indent=1) + "\n")
    print(f"written to {options.out}")


def spoken(options: Options, folder: Path) -> dict[str, Any]:
    """Latency, loss and accuracy of one page."""
    corpus = open_corpus(options.corpus)
    words, source = live_words.tape(corpus, options.words, folder / "tape.wav")
    server = Server(folder / "app").start()
    try:
        window = Window(server, options.before, options.after, folder / "tape.wav")
        page = window.page()
        listen(page)  # loads the encoders
        page.wait_for_timeout(4_000)
        stop(page)
        page.get_by_text("What was heard").wait_for()
        heard_before = live_words.recording(page)
        clear(page)
        listen(page)
        page.wait_for_timeout(1_000 * words[-1].end / 2)
        busy = machine()  # in the middle
        page.wait_for_timeout(1_000 * (words[-1].end / 2 + 1.5))
        stats = page.evaluate("window.refineLive")
        stop(page)
        received = live_words.saved(page, heard_before)
        window.close()
    finally:
        server.clean()
    pieces = live_words.word_by_word(received, source, words)
    delays = [piece.delay for piece in pieces]
    return {
        "pair": [options.before, options.after],
        "machine": busy,
        "words": len(words),
        "answers": stats["answers"],
        "windows_dropped": stats["dropped"],
        "chunks_lost": stats["lost"] + stats["unsent"],
        "latency_ms": {name: share(stats[name]) for name in PARTS},
        # from a hop before a window's newest sample; where an utterance is over, from its last
        # speech, a margin of silence before the end of the window
        "speech_to_answer_ms": share(
            [value + HOP_MS for value in stats["seen"]]
            + [value + MARGIN_MS for value in stats["confirmed"]]
        ),
        "newest_sample_to_any_answer_ms": share(stats["seen"] + stats["confirmed"]),
        # by word: the device that plays the tape may skip or repeat a buffer of its own
        "pcm": {
            "words_kept": len(pieces),
            "relative_error": share([piece.error for piece in pieces], 5),
            "words_beyond_5_percent": sum(piece.error > 0.05 for piece in pieces),
            "steps_of_the_delay": np.diff(delays)[np.diff(delays) != 0].tolist(),
        },
        "accuracy": accuracy(options, corpus, words, stats["labels"]),
    }


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


if __name__ == "__main__":
    main(tyro.cli(Options))
