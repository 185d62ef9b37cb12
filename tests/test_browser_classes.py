"""The Classes page in a real browser: choose, click, listen, lasso, confuse, reload, share."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import map_points
import pytest
import twins
from browser import PATIENCE, Server, click, download, point, settled, still, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
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


def test_click_hear_lasso_confuse_reload_and_share(
    server: Server, page: Any, measured: Any, tmp_path: Path
) -> None:
    query = "&".join(f"{key}={value}" for key, value in measured[1].items())
    page.goto(f"{server.url}/classes?{query}&factor=content")
    settled(page, 180)
    page.locator(".refine-tiles").get_by_text("a linear probe reads content").wait_for()

    # a click in the right map is heard, and found in the left one
    clip = strike(page, 1)
    page.wait_for_function("location.search.includes('clip=')")
    page.get_by_text("Of its 10 nearest clips before").wait_for()
    found = map_points.shown(page, "class_map")
    assert found["stars"] == [10, 10]
    assert 11 <= found["bright"] <= 21
    shared = page.url
    keys_and_files(page, tmp_path)
    page.reload()
    settled(page, 180)
    assert page.locator(HEARD).count() == 1
    assert page.locator(".st-key-card_chosen p").first.inner_text() == clip

    # a row of those that moved most is marked as well
    table = page.locator(".st-key-class_moved canvas").first

    def mark() -> None:
        box = still(table)
        page.mouse.click(box["x"] + 17, box["y"] + 35 + 35 * 2.5)

    card = "document.querySelector('.st-key-card_chosen p')"
    until(page, mark, f"{card} && !{card}.innerText.includes({json.dumps(clip.split()[0])})")

    chosen = page.get_by_text("clips chosen")
    option(page, "a group")
    until(page, lambda: map_points.lasso(page, "class_map", 0), chosen)
    gone = "!document.querySelector('.stMain').innerText.includes('clips chosen')"
    click(page.get_by_role("button", name="Show all again"), gone)

    option(page, "Confusions")
    instead = page.get_by_role("button", name="Show the most confused instead")
    until(page, lambda: point(page, cell(page)), instead, 10)
    page.get_by_text("read as", exact=False).first.wait_for()
    for view, there in (
        ("Numbers", ".refine-rows"),
        ("Pairs", ".st-key-class_pairs .main-svg"),
    ):
        option(page, view)
        page.locator(there).first.wait_for()
    option(page, "speaker")
    page.wait_for_function("location.search.includes('factor=speaker')")
    assert page.locator('[data-testid="stException"]').count() == 0

    other = page.context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(shared)
    settled(other, 180)
    other.locator(HEARD).wait_for()
    assert other.locator(".st-key-card_chosen p").first.inner_text() == clip


def option(page: Any, name: str) -> None:
    """Choose one of a row of pills or segments; their icons are words before the name."""
    words = page.get_by_text(name, exact=True)
    one = page.locator('[data-testid="stButtonGroup"] [role="radio"]').filter(has=words)
    click(one.first, one.and_(page.locator('[aria-checked="true"]')))


def strike(page: Any, panel: int) -> str:
    """Click the leftmost point of a panel; returns what the card says once it sounds."""
    row = map_points.outermost(page, "class_map", panel, 0)

    def hit() -> None:
        map_points.click(page, "class_map", panel, row)
        assert map_points.shown(page, "class_map")["chosen"] == row  # at once, in both panels

    until(page, hit, f"document.querySelector('{HEARD}')?.currentTime > 0", 15)
    page.locator(".st-key-class_sound .refine-plot img").first.wait_for()
    return str(page.locator(".st-key-card_chosen p").first.inner_text())


def keys_and_files(page: Any, folder: Path) -> None:
    """Arrow keys go from point to point, a class can be hidden, the maps become files."""
    page.locator(".st-key-class_map .over").first.focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator(".st-key-class_map .tip").first
    tip.wait_for()
    first = tip.inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert tip.inner_text() != first
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")
    key = page.locator(".st-key-class_map .legend button").first
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    key.click()
    for name, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        button = page.locator(".st-key-class_map").get_by_role("button", name=name)
        file = download(button, folder, f"refine class_map.{name.lower()}")
        assert file.read_bytes().startswith(begins)


def cell(page: Any) -> dict[str, float]:
    """The first cell of the matrix after."""
    box = still(page.locator(".st-key-class_confusion .nsewdrag").nth(1))
    return box | {"width": box["width"] / 3, "height": box["height"] / 3}
