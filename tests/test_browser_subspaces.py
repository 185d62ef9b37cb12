"""The Subspaces page in a real browser: intervene, hear, go back, see, reload, share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import split
from browser import Server, browser, chromium, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(chromium() is None, reason="no Chromium; apt-get install chromium"),
]
PATIENCE = 180_000  # ms


@pytest.fixture(scope="module")
def measured(tmp_path_factory: Any, tiny_encoder: Any) -> tuple[Path, dict[str, str]]:
    """Both sides of a tiny pair, measured before the browser comes."""
    folder = tmp_path_factory.mktemp("split")
    return folder, split.measured(folder, tiny_encoder)


@pytest.fixture
def server(tmp_path: Path, measured: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    shutil.copytree(measured[0] / "cache", tmp_path / "app" / "cache")
    running = Server(tmp_path / "app").start()
    try:
        yield running
    finally:
        running.clean()


def test_intervene_hear_undo_see_and_share(server: Server, measured: Any) -> None:
    pytest.importorskip("playwright.sync_api")
    pytest.importorskip("espeakng_loader")
    query = "&".join(f"{key}={value}" for key, value in measured[1].items())
    with browser() as driver:
        context = driver.new_context(viewport={"width": 1280, "height": 1000})
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{server.url}/subspaces?{query}")
        settled(page)
        page.locator(".refine-moved").wait_for()
        page.get_by_text("You changed the voice.").wait_for()
        page.locator(".st-key-bench_plane .scatterlayer .trace").first.wait_for()

        page.get_by_role("button", name="Same voice, other words").click()
        page.get_by_text("You changed the words.").wait_for()
        audio = ".st-key-card_bench_second audio"
        page.wait_for_function(f"document.querySelector('{audio}')?.currentTime > 0")
        page.get_by_role("button", name="Faster").click()
        page.get_by_text("You changed the pace.").wait_for()
        page.locator(".st-key-bench_strip img").nth(1).wait_for()
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("You changed the words.").wait_for()

        said = page.get_by_label("Second sentence")
        said.fill("seven boats came home")
        said.press("Enter")
        page.wait_for_function("location.search.includes('seven')")
        page.get_by_text("You changed the words.").wait_for()
        shared = page.url
        page.reload()
        settled(page)
        page.get_by_text("You changed the words.").wait_for()
        assert page.get_by_label("Second sentence").input_value() == "seven boats came home"

        page.locator(".st-key-bench_source").get_by_text("Two recordings").click()
        page.locator(".st-key-bench_clip_first").wait_for()
        page.get_by_role("button", name="Same words, another voice").click()
        page.get_by_text("The two clips differ in the voice.").wait_for()

        for view, chart in (
            ("What each tells", "matrix_accuracy"),
            ("Cosines", "cosine_maps"),
            ("Errors", "det"),
            ("Geometry", "cka"),
        ):
            page.locator(".st-key-subspaces_view").get_by_text(view).click()
            page.locator(f".st-key-{chart} .main-svg").first.wait_for()
            assert page.locator('[data-testid="stException"]').count() == 0
        page.wait_for_function("location.search.includes('view=geometry')")

        other = context.new_page()
        other.set_default_timeout(PATIENCE)
        other.goto(shared)
        settled(other)
        other.get_by_text("You changed the words.").wait_for()
        context.close()
