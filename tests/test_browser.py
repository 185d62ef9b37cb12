"""The whole story in a real browser: choose, rewire, watch, stop, resume, see, hear."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Server, browser, chromium, settled, workers

from refine import paths

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(chromium() is None, reason="no Chromium; apt-get install chromium"),
]
PATIENCE = 300_000  # ms; two cores may be busy with other tests


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api")
    with browser() as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "app").start()
    try:
        yield running
    finally:
        running.clean()


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Iterator[Any]:
    """A window; its last picture is left in the test's folder."""
    context = driver.new_context(viewport={"width": 1280, "height": 1000})
    window = context.new_page()
    window.set_default_timeout(PATIENCE)
    yield window
    window.screenshot(path=tmp_path / "last.png")
    context.close()


@pytest.fixture
def mini(tiny_encoder: Callable[[str], Path]) -> str:
    """The shipped encoder; a tiny random one where it is not there."""
    return "mini" if (paths.MINI / "config.json").exists() else str(tiny_encoder("hubert"))


@pytest.fixture
def recordings(tone_corpus: Path) -> str:
    """Recorded words where they are at hand, else tones."""
    folder = paths.speech()
    real = folder / "arabic_commands" if folder else None
    return str(real if real is not None and real.is_dir() else tone_corpus)


def test_from_choosing_to_hearing(server: Server, page: Any, mini: str, recordings: str) -> None:
    page.goto(server.url)
    settled(page)
    page.get_by_role("link", name="Refine your own").click()
    page.get_by_role("heading", name="Refine an encoder").wait_for()
    choose(page, "Encoder", mini)
    choose(page, "Corpus", recordings)
    page.get_by_text("clips to train on").wait_for()
    choose(page, "Preset", "mini")
    page.get_by_text("more options").click()
    options = {"Steps": 40, "Batch size": 4, "Max seconds": 1, "Warmup steps": 2}
    options |= {"Checkpoint every": 20, "Probe every": 10, "Probe clips": 24}
    for label, value in options.items():
        fill(page, label, str(value))
    page.get_by_text("--steps 40").wait_for()

    page.get_by_role("button", name="Start", exact=True).click()
    state(page, "running")
    step = re.compile(r"Step [3-9]|Step \d\d")
    page.get_by_text(step).wait_for()
    page.locator(".st-key-loss_curve .scatterlayer .trace").first.wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    state(page, "stopped")

    assert "run=" in page.url
    page.reload()
    settled(page)
    state(page, "stopped")
    page.get_by_role("button", name="Resume").click()
    state(page, "finished")
    page.get_by_text("Step 40 of 40").first.wait_for()
    page.locator(".st-key-space_curve .scatterlayer .trace").first.wait_for()

    page.get_by_role("button", name="See what changed").click()
    rows = page.locator(".refine-rows")
    rows.wait_for()
    for word in ("before", "after", "IsoScore", "Mean cosine", "Effective rank"):
        assert word in rows.inner_text()
    first = hear(page, 0)
    second = hear(page, -1)
    assert first != second


def hear(page: Any, which: int) -> str:
    """Click the left- or rightmost point of the second map; returns the clip that sounds."""
    points = page.locator(".st-key-maps .subplot.x2y2 .points path.point")
    points.first.wait_for()
    page.locator(".st-key-maps").scroll_into_view_if_needed()
    page.wait_for_timeout(1_000)
    boxes = [box for box in (p.bounding_box() for p in points.all()[:200]) if box]
    boxes = sorted(boxes, key=lambda box: box["x"])
    x, y = (boxes[which][a] + boxes[which][b] / 2 for a, b in (("x", "width"), ("y", "height")))
    before = page.evaluate("document.querySelector('.st-key-card_chosen audio')?.src")
    page.mouse.move(x - 4, y - 4)
    page.mouse.move(x, y, steps=3)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
    page.wait_for_function(
        """before => {
            const audio = document.querySelector('.st-key-card_chosen audio');
            return audio && audio.src !== before && audio.currentTime > 0;
        }""",
        arg=before,
    )
    page.locator(".st-key-map_sound .heatmaplayer image").first.wait_for()
    return str(page.locator(".st-key-card_chosen p").first.inner_text())


def test_a_run_outlives_page_and_server(
    server: Server, page: Any, tiny_encoder: Any, tone_corpus: Path
) -> None:
    page.goto(f"{server.url}/train?encoder={tiny_encoder('hubert')}&corpus={tone_corpus}")
    settled(page)
    page.get_by_text("clips to train on").wait_for()
    page.get_by_text("more options").click()
    for label, value in {"Steps": "5000", "Checkpoint every": "5", "Probe every": "0"}.items():
        fill(page, label, value)
    page.get_by_text("--steps 5000").wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    state(page, "running")
    page.get_by_text(re.compile(r"Step [1-9]\d* of 5,000")).first.wait_for()
    address = page.url

    server.stop()
    (trainer,) = workers(server.folder)
    assert trainer.is_running()
    server.start()
    page.goto(address)
    settled(page)
    state(page, "running")

    page.wait_for_timeout(2_000)
    began = time.monotonic()
    trainer.kill()
    state(page, "crashed")
    assert time.monotonic() - began < 15
    page.get_by_text("is gone without a word").wait_for()

    page.get_by_role("button", name="Resume").click()
    state(page, "running")
    page.get_by_text(re.compile(r"Step [1-9]\d* of 5,000")).first.wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    state(page, "stopped")


def test_uploaded_files_open_as_a_corpus(server: Server, page: Any, tone_corpus: Path) -> None:
    page.goto(f"{server.url}/corpora?corpus={tone_corpus}")
    settled(page)
    page.get_by_role("button", name="Upload").first.click()
    files = [tone_corpus / "00" / "one_0.wav", tone_corpus / "01" / "two_0.wav"]
    (tone_corpus / "bad.wav").write_bytes(b"not a sound")
    page.locator("input[type=file]").set_input_files([*files, tone_corpus / "bad.wav"])
    page.get_by_role("button", name="Open these").click()
    page.get_by_text("1 left out").wait_for()
    assert page.get_by_text("one_0.wav").count() > 0
    page.keyboard.press("Escape")
    page.reload()
    settled(page)
    page.get_by_text("1 left out").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_in_every_theme_is_whole(
    server: Server, driver: Any, theme: str, tiny_encoder: Any, tone_corpus: Path
) -> None:
    context = driver.new_context(viewport={"width": 1280, "height": 900}, color_scheme=theme)
    window = context.new_page()
    faults: list[str] = []
    outside: list[str] = []
    window.on("pageerror", lambda error: faults.append(str(error)))
    window.on("request", lambda request: outside.append(request.url))
    query = f"corpus={tone_corpus}&encoder={tiny_encoder('hubert')}"
    for place in ("", "corpora", "train"):
        window.goto(f"{server.url}/{place}?{query}")
        settled(window)
        assert window.locator('[data-testid="stException"]').count() == 0
        assert window.locator("body").inner_text().count("Traceback") == 0
        assert window.locator('[data-testid="stSidebarNav"]').get_by_text("Isotropy").count() == 1
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert window.evaluate(wide)
    context.close()
    assert not faults
    # data: and blob: are the page's own; nothing is fetched from anywhere else
    assert not [url for url in outside if url.startswith("http") and server.url not in url]


def choose(page: Any, label: str, value: str) -> None:
    """Pick from a select box by typing, or type a new value into it."""
    box = page.locator('[data-testid="stSelectbox"]').filter(has_text=label).first
    field = box.locator("input").first
    field.click()
    field.fill(value)
    page.wait_for_timeout(300)
    field.press("Enter")
    idle(page)


def fill(page: Any, label: str, value: str) -> None:
    field = page.get_by_label(label, exact=True).first
    field.fill(value)
    field.press("Enter")
    idle(page)


def idle(page: Any) -> None:
    """Until the script has run."""
    page.wait_for_timeout(150)
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]')"
        ".getAttribute('data-test-script-state') !== 'running'"
    )


def state(page: Any, word: str) -> None:
    """Until the run that is watched is in a state."""
    # the word stands behind the name of its icon
    badge = page.locator(".st-key-run_state").get_by_text(re.compile(rf"\b{word}$")).first
    badge.wait_for()
