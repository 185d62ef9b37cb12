"""The live page in a Chromium with a fake microphone: shared by its browser tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM_FLAGS, chromium

PATIENCE = 300_000  # ms; two cores may be busy with other tests
HOLD = """
    const real = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = async function (...a) {
        return (window.heldStream = await real.apply(this, a));
    };"""
PAGE = "/live?before=mini&after=mini-rewire&corpus=samples&map=off"


@contextmanager
def chromium_with(tape: Path | None = None) -> Iterator[Any]:
    """A Chromium whose microphone plays a tape (or beeps)."""
    playwright = pytest.importorskip("playwright.sync_api")
    flags = [
        *CHROMIUM_FLAGS,
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
    ]
    if tape is not None:
        flags.append(f"--use-file-for-fake-audio-capture={tape}")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium(), args=flags)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def window(running: Any, *scripts: str, **options: Any) -> Iterator[Any]:
    """A page with scripts that run before its own."""
    context = running.new_context(permissions=["microphone"], accept_downloads=True, **options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    for script in scripts:
        page.add_init_script(script)
    try:
        yield page
    finally:
        context.close()


def stat(page: Any, name: str) -> Any:
    return page.evaluate(f"window.refineLive?.{name}")


def listen(page: Any) -> None:
    """Press Listen and wait until both encoders are there."""
    page.get_by_role("button", name="Listen").click()
    page.wait_for_function("window.refineLive.ready", timeout=PATIENCE)


def stop(page: Any) -> None:
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Listen").wait_for()
