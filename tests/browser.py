"""A server of our own and a Chromium to look at it: shared by the browser tests and screenshots."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
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
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2):
                    return self
            except OSError:
                time.sleep(0.1)
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
    page.wait_for_function(
        """() => {
            const app = document.querySelector('[data-testid="stApp"]');
            return app && app.getAttribute('data-test-script-state') !== 'running'
                && document.querySelector('[data-testid="stMainBlockContainer"] h1')
                && !document.querySelector('[data-testid="stSkeleton"]');
        }""",
        timeout=timeout_s * 1000,
    )
    page.wait_for_timeout(300)
