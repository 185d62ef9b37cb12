"""Other ways for sound to come in: recorded first, and over https as a phone in the room has it."""

import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import live_words
import pytest
from browser import ROOT, Server, chromium, free_port, settled
from live_window import PAGE, chromium_with, listen, stat, stop, window

from refine.corpus import open_corpus

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(chromium() is None, reason="no Chromium; apt-get install chromium"),
]
WORDS = 3


class Secure(Server):
    """The dashboard as `make app TLS=1` starts it."""

    def start(self) -> "Secure":
        self.url = f"https://localhost:{self.port}"
        command = [sys.executable, "-m", "refine", "app", "--host", "localhost", "--no-browser"]
        command += ["--port", str(self.port), "--tls"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        trusting = ssl._create_unverified_context()
        until = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", context=trusting):
                    return self
            except OSError:
                time.sleep(0.1)
        raise RuntimeError((self.folder / "server.log").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not shutil.which("openssl"):
        pytest.skip("no openssl here")
    running = Secure(tmp_path_factory.mktemp("live") / "app", free_port())
    os.makedirs(running.folder, exist_ok=True)
    try:
        yield running.start()
    finally:
        running.clean()


def test_both_ways_over_https(server: Server, speech_folder: Path, tmp_path: Path) -> None:
    tape = tmp_path / "tape.wav"
    words, _ = live_words.tape(open_corpus(speech_folder / "arabic_commands"), WORDS, tape)
    with chromium_with(tape) as running, window(running, ignore_https_errors=True) as page:
        page.goto(server.url + PAGE)
        settled(page)
        assert page.evaluate("isSecureContext && location.protocol") == "https:"
        listen(page)  # over wss
        page.wait_for_function("refineLive.answers >= 2")
        stop(page)
        assert stat(page, "lost") == 0

        page.get_by_role("radio", name="record, then ask").click()
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(1_000 * (words[0].end + 1.0))
        page.get_by_role("button", name="Stop recording").click()
        page.locator("[data-factor=content] .after .label").get_by_text("–", exact=True).wait_for(
            state="detached"
        )
        for role in ("before", "after"):
            label = page.locator(f"[data-factor=content] .{role} .label").inner_text()
            assert label in {*live_labels(page)} | {"unsure"}
        page.get_by_text("What was heard").wait_for()


def live_labels(page) -> list[str]:  # type: ignore[no-untyped-def]
    """The names on the bars."""
    return page.locator("[data-factor=content] .bar .name").all_inner_texts()
