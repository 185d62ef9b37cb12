"""The Classes page in a real browser: choose, click, listen, lasso, confuse, reload, share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import twins
from browser import Server, browser, chromium, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(chromium() is None, reason="no Chromium; apt-get install chromium"),
]
PATIENCE = 180_000  # ms
HEARD = ".st-key-card_chosen audio"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: Any, tiny_encoder: Any) -> tuple[Path, dict[str, str]]:
    """Both sides, measured before the browser comes."""
    folder = tmp_path_factory.mktemp("twins")
    return folder, twins.measured(folder, tiny_encoder)


@pytest.fixture
def server(tmp_path: Path, measured: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    shutil.copytree(measured[0] / "cache", tmp_path / "app" / "cache")
    running = Server(tmp_path / "app").start()
    try:
        yield running
    finally:
        running.clean()


def test_click_hear_lasso_confuse_reload_and_share(server: Server, measured: Any) -> None:
    pytest.importorskip("playwright.sync_api")
    query = "&".join(f"{key}={value}" for key, value in measured[1].items())
    with browser() as driver:
        context = driver.new_context(viewport={"width": 1280, "height": 1000})
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{server.url}/classes?{query}&factor=content")
        settled(page, 180)
        page.locator(".refine-tiles").get_by_text("a linear probe reads content").wait_for()

        # a click in the right map is heard, and found in the left one
        clip = click(page, "x2y2")
        stars = ".st-key-class_map .js-line"
        page.wait_for_function(f"document.querySelectorAll('{stars}').length >= 2")
        page.wait_for_function("location.search.includes('clip=')")
        page.get_by_text("Of its 10 nearest clips before").wait_for()
        shared = page.url
        page.reload()
        settled(page, 180)
        assert page.locator(HEARD).count() == 1
        assert page.locator(".st-key-card_chosen p").first.inner_text() == clip

        # a row of those that moved most is marked as well
        page.locator(".st-key-class_moved canvas").first.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        box = page.locator(".st-key-class_moved canvas").first.bounding_box()
        page.mouse.click(box["x"] + 17, box["y"] + 35 + 35 * 2.5)
        page.wait_for_function(
            "clip => !document.querySelector('.st-key-card_chosen p').innerText.includes(clip)",
            arg=clip.split()[0],
        )

        option(page, "a group")
        lasso(page)
        page.get_by_text("clips chosen").wait_for()
        page.get_by_role("button", name="Show all again").click()
        page.get_by_text("clips chosen").wait_for(state="detached")

        option(page, "Confusions")
        cell(page)
        page.get_by_text("read as", exact=False).first.wait_for()
        page.get_by_role("button", name="Show the most confused instead").wait_for()
        for view, there in (
            ("Numbers", ".refine-rows"),
            ("Pairs", ".st-key-class_pairs .main-svg"),
        ):
            option(page, view)
            page.locator(there).first.wait_for()
        option(page, "speaker")
        page.wait_for_function("location.search.includes('factor=speaker')")
        assert page.locator('[data-testid="stException"]').count() == 0

        other = context.new_page()
        other.set_default_timeout(PATIENCE)
        other.goto(shared)
        settled(other, 180)
        other.locator(HEARD).wait_for()
        assert other.locator(".st-key-card_chosen p").first.inner_text() == clip
        context.close()


def option(page: Any, name: str) -> None:
    """Choose one of a row of pills or segments; their icons are words before the name."""
    page.locator('[data-testid="stButtonGroup"]').get_by_text(name, exact=True).first.click()


def click(page: Any, panel: str) -> str:
    """Click the leftmost point of a panel; returns what the card says once it sounds."""
    points = page.locator(f".st-key-class_map .subplot.{panel} .points path.point")
    points.first.wait_for()
    page.locator(".st-key-class_map").scroll_into_view_if_needed()
    page.wait_for_timeout(1_000)
    box = min((p.bounding_box() for p in points.all()), key=lambda found: found["x"])
    press(page, box)
    page.wait_for_function(f"document.querySelector('{HEARD}')?.currentTime > 0")
    page.locator(".st-key-class_sound .heatmaplayer image").first.wait_for()
    return str(page.locator(".st-key-card_chosen p").first.inner_text())


def press(page: Any, box: dict[str, float]) -> None:
    """Come from beside, rest, and click: plotly clicks what is hovered."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 4, y - 4)
    page.mouse.move(x, y, steps=3)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)


def lasso(page: Any) -> None:
    """Around nearly all of the left map."""
    area = page.locator(".st-key-class_map_lasso .nsewdrag").first
    area.wait_for()
    area.scroll_into_view_if_needed()
    page.wait_for_timeout(1_000)
    box = area.bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.02, 0.02))
    page.mouse.down()
    for corner in ((0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.04)):
        page.mouse.move(*at(*corner), steps=6)
    page.mouse.up()


def cell(page: Any) -> None:
    """The first cell of the matrix after."""
    area = page.locator(".st-key-class_confusion .nsewdrag").nth(1)
    area.wait_for()
    area.scroll_into_view_if_needed()
    page.wait_for_timeout(1_000)
    box = area.bounding_box()
    third = {"width": box["width"] / 3, "height": box["height"] / 3}
    press(page, {"x": box["x"], "y": box["y"]} | third)
