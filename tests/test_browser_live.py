"""The live page in a real browser with a fake microphone: words, recovery, what is in the way."""

import warnings
from pathlib import Path
from typing import Any

import live_words
import numpy as np
import pytest
from browser import Server, chromium, settled
from live_window import HOLD, PAGE, PATIENCE, chromium_with, listen, stat, stop, window

from pages.components import live_panel
from refine.corpus import open_corpus

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(chromium() is None, reason="no Chromium; apt-get install chromium"),
]
TAKES = 3  # of the tape; one must arrive whole at the worklet
CHUNK = 320  # samples
UNDER_WAY = 5  # chunks
WORDS = 8


def test_recorded_words_are_named(server: Server, speech_folder: Path, tmp_path: Path) -> None:
    corpus = open_corpus(speech_folder / "arabic_commands")
    words, source = live_words.tape(corpus, WORDS, tmp_path / "tape.wav")
    tape = tmp_path / "tape.wav"
    with chromium_with(tape) as running, window(running, HOLD) as page:
        page.goto(server.url + PAGE)
        settled(page)
        listen(page)  # the first time loads the encoders
        stop(page)
        page.get_by_text("What was heard").wait_for()
        # a machine that stands still may tear the tape before our worklet sees it: once more
        for _ in range(TAKES):
            before_take, heard_before = stat(page, "lost"), live_words.recording(page)
            page.evaluate("window.refineLive.labels.length = 0")
            listen(page)  # the tape begins again
            page.wait_for_timeout(1_000 * (words[-1].end + 1.5))
            answers, lost = stat(page, "labels"), stat(page, "lost") - before_take
            assert page.locator(".heard").inner_text().endswith("s of speech")
            assert page.locator("[data-factor=content] .bar").count() == 10  # five a side
            stop(page)
            # the microphone's light goes out with the last track
            assert page.evaluate("heldStream.getTracks().every(t => t.readyState === 'ended')")
            received = live_words.saved(page, heard_before)
            lost += stat(page, "unsent")
            missing = CHUNK * stat(page, "passed") - len(received)
            pieces = live_words.word_by_word(received, source, words)
            whole = sum(piece.error < 0.05 for piece in pieces)
            if lost == 0 and whole >= WORDS - 1 and missing <= UNDER_WAY * CHUNK:
                break
            told = f"{lost} chunks lost, {missing} samples not in at the end, {whole} words whole"
            warnings.warn(f"a torn take: {told}", stacklevel=1)
    # every chunk that the worklet made is kept; the last ones may have been on their way at the end
    assert lost == 0
    assert 0 <= missing <= UNDER_WAY * CHUNK
    assert whole >= WORDS - 1, pieces
    chance = 1 / corpus.table["content"].nunique()
    for role in ("before", "after"):
        said = live_words.heard(words, answers, role)
        right = np.mean([one == spoken.word for one, spoken in zip(said, words, strict=True)])
        assert right > 4 * chance, (role, said, words)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("Object.defineProperty(window, 'isSecureContext', {value: false})", "TLS=1"),
        ("MediaDevices.prototype.enumerateDevices = async () => []", "no microphone"),
        (
            "Permissions.prototype.query = async () => ({state: 'denied'})",
            "The microphone is blocked for this page",
        ),
        ("delete window.AudioWorkletNode", "cannot stream sound"),
    ],
    ids=["insecure", "no device", "denied", "old browser"],
)
def test_what_is_in_the_way_is_said_before_the_click(
    server: Server, beeping: Any, script: str, words: str
) -> None:
    with window(beeping, script) as page:
        page.goto(server.url + PAGE)
        settled(page)
        page.locator(".problem").get_by_text(words).wait_for()
        assert page.get_by_role("button", name="Listen").is_disabled()


def test_a_refusal_after_the_click_is_said(server: Server, beeping: Any) -> None:
    script = """MediaDevices.prototype.getUserMedia = async () => {
        throw new DOMException('', 'NotReadableError'); };"""
    with window(beeping, script) as page:
        page.goto(server.url + PAGE)
        settled(page)
        page.get_by_role("button", name="Listen").click()
        page.locator(".problem").get_by_text("Another program holds the microphone").wait_for()
        assert page.get_by_role("button", name="Listen").is_enabled()


ASKS = """
    const given = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = async function (...a) {
        await new Promise((answer) => { window.allow = answer; });
        return (window.heldStream = await given.apply(this, a));
    };"""


def test_a_microphone_allowed_after_stop_is_let_go(server: Server, beeping: Any) -> None:
    with window(beeping, ASKS) as page:
        page.goto(server.url + PAGE)
        settled(page)
        page.get_by_role("button", name="Listen").click()
        page.wait_for_function("!!window.allow")
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Listen").wait_for()
        page.evaluate("allow()")
        ended = "window.heldStream?.getTracks().every((track) => track.readyState === 'ended')"
        page.wait_for_function(ended)
        page.wait_for_timeout(500)
        assert stat(page, "sent") == 0
        assert page.get_by_role("button", name="Listen").is_visible()


def test_a_clip_is_played_as_if_it_were_live(server: Server, beeping: Any) -> None:
    with window(beeping) as page:
        page.goto(server.url + PAGE + "&source=clip")
        settled(page)
        listen(page)
        page.wait_for_function("window.refineLive.answers > 3", timeout=PATIENCE)
        page.get_by_text("What was heard").wait_for()
        page.get_by_role("button", name="Listen").wait_for()  # it stopped by itself
        assert stat(page, "lost") == 0
        assert page.locator("[data-factor=emotion] .after .label").inner_text() != "–"


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (("demo", "a", "b"), "2 answers, learned from demo"),
        (
            ("emodb", "a", "b", "c"),
            "before: 2 answers, learned from demo. after: 3 answers, learned from emodb: played by "
            "ten German actors. They know different answers: compare each with the truth, not with "
            "the other.",
        ),
    ],
)
def test_heads_of_one_factor_may_know_different_answers(
    beeping: Any, after: tuple[str, ...], said: str
) -> None:
    script = live_panel._assets()[0].replace("export default function", "function opened")
    heads = {
        role: {"corpus": corpus, "labels": labels}
        for role, (corpus, *labels) in {"before": ("demo", "a", "b"), "after": after}.items()
    }
    with window(beeping) as page:
        page.add_script_tag(content=script + "\nwindow.Panel = Panel;")
        told = page.evaluate(
            "([heads, hints]) => Panel.prototype.hint.call({data: {hints}}, 'content', heads)",
            [heads, live_panel.HINTS],
        )
    assert told == said
