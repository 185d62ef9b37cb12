"""A server of our own and a Chromium to look at it: shared by the browser tests and screenshots."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


def chromium() -> str | None:
    """The installed browser, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


class Server:
    """`streamlit run app.py` on a free loopback port, with folders of its own."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://localhost:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "REFINE_RUNS": str(self.folder / "runs"),
            "REFINE_CACHE": str(self.folder / "cache"),
        }

    def start(self) -> "Server":
        flags = ["--server.headless=true", f"--server.port={self.port}"]
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), *flags]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2):
                    return self
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"the server did not start: {(self.folder / 'server.log').read_text()}")

    def stop(self) -> None:
        """End the server only; what it started goes on, as it must."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def clean(self) -> None:
        """End the server and every job that was started in its folders."""
        self.stop()
        for process in workers(self.folder):
            process.kill()


def workers(folder: Path) -> list[psutil.Process]:
    """Processes of ours whose command line names a run below `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "refine" in words and any(str(folder) in word for word in words):
            found.append(process)
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return int(sock.getsockname()[1])


PATIENCE = 180_000  # ms; two cores may be busy with other tests


def window(driver: Any, width: int = 1280, height: int = 1000, scheme: str = "light") -> Any:
    """A page in a context of its own."""
    context = driver.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
    )  # fmt: skip
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    return page


@contextmanager
def browser() -> Iterator[Any]:
    """Playwright driving the installed Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        try:
            yield running
        finally:
            running.close()


def settled(page: Any, timeout_s: float = 60) -> None:
    """Wait until Streamlit has drawn the page and its charts."""
    page.wait_for_selector('[data-testid="stAppViewContainer"]', timeout=timeout_s * 1000)
    page.wait_for_selector(
        '[data-testid="stMainBlockContainer"] h1', state="attached", timeout=timeout_s * 1000
    )
    idle(page, timeout_s, quiet_ms=300)


# a script starts some time after the event that asked for it: Streamlit waits 200 ms for the next
# step of a slider, and the message has a way to go. A page that redraws itself each second may
# never rest so long on a busy machine; after some seconds any pause will do
REST = """([since, quiet]) => {
    const app = document.querySelector('[data-testid="stApp"]');
    const busy = !app || app.getAttribute('data-test-script-state') !== 'notRunning'
        || document.querySelector('[data-testid="stSkeleton"]');
    const rest = window.refineRest;
    const now = performance.now();
    if (!rest || rest.since !== since) {
        window.refineRest = {since, begun: now, from: now};
        return false;
    }
    if (busy) rest.from = now;
    return !busy && now - rest.from >= (now - rest.begun < 5000 ? quiet : 0);
}"""


def idle(page: Any, timeout_s: float = 60, quiet_ms: float = 250) -> None:
    """Wait until the script has run, and no other begins within `quiet_ms`."""
    asked = [str(time.monotonic_ns()), quiet_ms]
    page.wait_for_function(REST, arg=asked, polling=50, timeout=timeout_s * 1000)


def until(page: Any, act: Callable[[], Any], seen: Any, patience_s: float = 6) -> None:
    """Act on a page at rest, and look; act again, as a person would, if nothing came of it.

    An event that falls into a redraw is lost: the button it was meant for is not there any more,
    or not yet. Args: `seen`: a locator that shows, or a JavaScript expression that becomes true.
    """
    from playwright.sync_api import Error

    for _ in range(6):
        idle(page)
        if _there(page, seen):
            return
        with suppress(Error):  # what it was aimed at went away under its hands, or nothing came
            act()
            _look(page, seen, patience_s)
            return
    _look(page, seen, 60)


def click(target: Any, seen: Any, patience_s: float = 6) -> None:
    """Click something until something comes of it."""
    until(target.page, lambda: target.click(timeout=10_000), seen, patience_s)


def download(target: Any, folder: Path, name: str) -> Path:
    """Click what hands over a file of that name, and keep it."""
    from playwright.sync_api import TimeoutError as Nothing

    for patience_s in (10, 20, 60):
        idle(target.page)
        with suppress(Nothing):
            with target.page.expect_download(timeout=patience_s * 1000) as coming:
                target.click(timeout=10_000)
            assert coming.value.suggested_filename == name, coming.value.suggested_filename
            coming.value.save_as(folder / name)
            return folder / name
    raise AssertionError("nothing was downloaded")


def _there(page: Any, seen: Any) -> bool:
    return bool(page.evaluate(seen) if isinstance(seen, str) else seen.first.is_visible())


def _look(page: Any, seen: Any, timeout_s: float) -> None:
    if isinstance(seen, str):
        page.wait_for_function(seen, timeout=timeout_s * 1000)
    else:
        seen.first.wait_for(timeout=timeout_s * 1000)


def still(locator: Any) -> dict[str, float]:
    """The box of something in sight, once it no longer moves."""
    locator.wait_for()
    locator.scroll_into_view_if_needed()
    before = None
    while (box := locator.bounding_box()) is None or box != before:
        before = box
        locator.page.wait_for_timeout(200)
    return dict(box)


def point(page: Any, box: dict[str, float]) -> None:
    """Come from beside, rest, and click the middle: plotly clicks what is hovered."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 4, y - 4)
    page.mouse.move(x, y, steps=3)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
