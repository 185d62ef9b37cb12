"""What may happen to a live page in front of people: it goes on, or says so, within 3 s."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from browser import Server, chromium, settled
from live_window import HOLD, PAGE, PATIENCE, listen, stat, stop, window

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(chromium() is None, reason="no Chromium; apt-get install chromium"),
]
SOON_S = 3 + 2  # s; what is promised, and what a busy machine takes to look
# a tab in the background: no animation frames, and it is told so
HIDDEN = """
    window.inBackground = false;
    const frame = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (work) => window.inBackground ? 0 : frame(work);
    for (const [name, value] of [['hidden', () => window.inBackground],
        ['visibilityState', () => window.inBackground ? 'hidden' : 'visible']])
        Object.defineProperty(Document.prototype, name, { get: value });
    window.background = (on) => {
        window.inBackground = on;
        document.dispatchEvent(new Event('visibilitychange'));
    };"""
CONTEXTS = """
    window.contexts = [];
    window.AudioContext = class extends AudioContext {
        constructor(...a) { super(...a); window.contexts.push(this); }
    };"""


@contextmanager
def listening(server: Server, running: Any, *scripts: str) -> Iterator[Any]:
    """A page that listens."""
    with window(running, *scripts) as page:
        page.goto(server.url + PAGE)
        settled(page)
        listen(page)
        hears(page)
        yield page


def hears(page: Any, timeout: float = PATIENCE) -> None:
    """The server hears this page now."""
    heard = stat(page, "heard")
    seen = "heard => refineLive.heard > 0 && refineLive.heard !== heard"
    page.wait_for_function(seen, arg=heard, timeout=timeout, polling=50)


def watch(page: Any) -> None:
    """Write down what is told: some of it is over sooner than a test can look."""
    page.locator(".problem").evaluate("""(problem) => {
        window.told = [];
        const look = () => problem.hidden || window.told.push(problem.textContent);
        new MutationObserver(look).observe(problem, {attributes: true, childList: true});
    }""")


@contextmanager
def soon(what: str) -> Iterator[None]:
    """What happens here takes 3 s at most; `pytest -rP` shows how long."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    print(f"{what}: {took:.1f} s")
    assert took < SOON_S


def test_a_network_that_is_gone_for_five_seconds(server: Server, beeping: Any) -> None:
    with listening(server, beeping) as page:
        problem = page.locator(".problem")
        page.context.set_offline(True)
        with soon("network lost, said so"):
            problem.wait_for(state="visible")
        assert "network" in problem.inner_text()
        page.wait_for_timeout(5_000)
        assert problem.is_visible()
        page.context.set_offline(False)
        with soon("network back, hears"):
            problem.wait_for(state="hidden")
            hears(page)
        # what was said meanwhile is lost, and counted
        page.wait_for_function("refineLive.unsent + refineLive.lost > 200")


def test_a_server_that_says_nothing_for_five_seconds(server: Server, beeping: Any) -> None:
    with listening(server, beeping) as page:
        problem = page.locator(".problem")
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)  # packets still arrive, nobody reads them
        try:
            with soon("silent server, said so"):
                problem.wait_for(state="visible")
            assert "trying again" in problem.inner_text()
            page.wait_for_timeout(3_000)
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        problem.wait_for(state="hidden")
        hears(page)


def test_a_line_that_stands_still_for_a_moment_loses_nothing(server: Server, beeping: Any) -> None:
    with listening(server, beeping) as page:
        line = next(one for one in page.workers if one.evaluate("typeof line === 'object'"))
        # as on a machine that has no time for it; sound waits before it meanwhile
        line.evaluate("() => { const end = Date.now() + 1500; while (Date.now() < end); }")
        hears(page)
        page.wait_for_timeout(1_500)  # counts come with the next answers
        assert stat(page, "unsent") + stat(page, "lost") == 0
        # what waited has arrived: nothing of what was sent is missing at the server
        assert stat(page, "heard") > 0.02 * stat(page, "sent") - 1


def test_a_microphone_that_is_unplugged_or_falls_silent(server: Server, beeping: Any) -> None:
    with listening(server, beeping, HOLD, CONTEXTS) as page:
        problem = page.locator(".problem")
        sent = stat(page, "sent")
        watch(page)
        page.evaluate("heldStream.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        with soon("microphone unplugged, hears"):
            page.wait_for_function(f"refineLive.sent > {sent} + 25")  # another one was found
        page.wait_for_function("told.some((text) => text.includes('was unplugged'))")
        problem.wait_for(state="hidden")

        page.evaluate("contexts.at(-1).suspend()")  # as where a laptop has slept
        with soon("microphone still, said so"):
            page.wait_for_function("told.some((text) => text.includes('No sound comes from'))")
        problem.wait_for(state="hidden")
        hears(page)
        assert page.get_by_role("button", name="Stop").is_visible()


def test_a_tab_in_the_background_goes_on_listening(server: Server, beeping: Any) -> None:
    with listening(server, beeping, HIDDEN) as page:
        page.evaluate("background(true)")
        hears(page)
        sent = stat(page, "sent")
        page.wait_for_timeout(2_000)
        assert stat(page, "sent") > sent + 50
        hears(page)
        page.evaluate("background(false)")
        hears(page)
        freezer = page.context.new_cdp_session(page)  # a phone that was locked for a while
        freezer.send("Page.setWebLifecycleState", {"state": "frozen"})
        time.sleep(4)
        freezer.send("Page.setWebLifecycleState", {"state": "active"})
        with soon("thawed, hears"):
            hears(page)
        page.locator(".problem").wait_for(state="hidden")
        assert page.get_by_role("button", name="Stop").is_visible()


def test_a_page_that_is_loaded_again_says_that_it_stopped(server: Server, beeping: Any) -> None:
    with listening(server, beeping) as page:
        page.reload()
        settled(page)
        with soon("reloaded, said so"):
            page.locator(".notice").get_by_text("Press Listen to go on").wait_for()
        listen(page)
        hears(page)
        assert not page.locator(".notice").is_visible()
        stop(page)
        page.reload()
        settled(page)
        page.get_by_role("button", name="Listen").wait_for()
        assert not page.locator(".notice").is_visible()  # it had been stopped by hand


def test_encoders_and_a_server_that_end_in_mid_stream(server: Server, beeping: Any) -> None:
    with listening(server, beeping) as page:
        problem = page.locator(".problem")
        assert server.process is not None
        (worker,) = [
            child
            for child in psutil.Process(server.process.pid).children(recursive=True)
            if "refine.live.worker" in child.cmdline()
        ]
        watch(page)
        worker.kill()
        page.wait_for_function("told.some((text) => text.includes('encoders has ended'))")
        page.wait_for_function("refineLive.ready")
        hears(page)

        server.stop()
        with soon("server gone, said so"):
            problem.wait_for(state="visible")
        server.start()
        problem.wait_for(state="hidden")
        page.wait_for_function("refineLive.ready")
        hears(page)
        assert page.get_by_role("button", name="Stop").is_visible()  # it went on by itself
