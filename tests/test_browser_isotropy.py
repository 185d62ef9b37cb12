"""The Isotropy page in a real browser: choose, hover, click, hear, reload, share."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import map_points
import pytest
import twins
from browser import Server, click, settled, until, window

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


def type_in(page: Any, key: str, value: str) -> None:
    """Give a select box a path of its own."""
    field = page.locator(f".st-key-{key} input")

    def write() -> None:
        field.click(timeout=10_000)
        field.fill(value)
        field.press("Enter")

    until(page, write, f"new URLSearchParams(location.search).get('{key}') === {json.dumps(value)}")


def option(page: Any, name: str) -> None:
    """Choose one of a row of pills or segments; their icons are words before the name."""
    words = page.get_by_text(name, exact=True)
    one = page.locator('[data-testid="stButtonGroup"] [role="radio"]').filter(has=words)
    click(one.first, one.and_(page.locator('[aria-checked="true"]')))


def numbers(page: Any) -> str:
    rows = page.locator(".refine-rows")
    rows.wait_for()
    return str(rows.inner_text())


def test_choose_hover_hear_reload_and_share(
    server: Server, page: Any, driver: Any, measured: Any
) -> None:
    pair = measured[1]
    start = {"before": pair["before"], "after": "none", "corpus": pair["corpus"]}
    page.goto(f"{server.url}/isotropy?" + "&".join(f"{k}={quote(v)}" for k, v in start.items()))
    settled(page)
    numbers(page)
    assert page.locator(".refine-rows").get_by_text("after", exact=True).count() == 0
    type_in(page, "after", pair["after"])
    page.locator(".refine-rows").get_by_text("after", exact=True).wait_for()

    # one layer for both, then each its own again
    own = numbers(page)
    option(page, "1")
    page.wait_for_function(
        "own => document.querySelector('.refine-rows').innerText !== own", arg=own
    )
    assert page.locator(".st-key-maps .maps").count() == 1
    names = page.locator('[data-testid="stButtonGroup"] [role="radio"]')
    click(
        names.filter(has_text="own ("),
        f"document.querySelector('.refine-rows').innerText === {own!r}",
    )

    # a number unfolds its definition, the pointer names a clip, a click sounds
    definition = page.locator(".refine-rows details p").first
    click(page.locator(".refine-rows summary").first, definition)
    assert "n = 36 clips" in definition.inner_text()
    row = map_points.outermost(page, "maps", 1, 0)
    map_points.hover(page, "maps", 1, row)
    tip = page.locator(".st-key-maps .tip").nth(1)
    tip.wait_for()
    named = tip.inner_text()
    sounds = f"document.querySelector('{HEARD}')?.currentTime > 0"
    until(page, lambda: map_points.click(page, "maps", 1, row), sounds, 15)
    clip = page.locator(".st-key-card_chosen p").first.inner_text()
    assert clip.split()[0] in named
    assert map_points.shown(page, "maps")["chosen"] == row

    option(page, "Layers")
    curve = page.locator(".st-key-layer_curve")
    curve.locator(".main-svg").first.wait_for()
    assert "IsoScore" in curve.inner_text()
    option(page, "Mean cosine")
    curve.get_by_text("Mean cosine").first.wait_for()
    for view, chart in (("Pairs", "cosines"), ("Directions", "spectrum")):
        option(page, view)
        page.locator(f"[class*=st-key-{chart}] .main-svg").first.wait_for()
    page.wait_for_function("location.search.includes('view=directions')")
    assert page.locator('[data-testid="stException"]').count() == 0

    option(page, "Before and after")
    page.wait_for_function("!location.search.includes('view=')")
    here = page.url
    page.reload()
    settled(page)
    assert numbers(page).splitlines()[0] == own.splitlines()[0]
    guest = window(driver, 1920, 1000, "dark")
    guest.goto(here)
    settled(guest)
    assert numbers(guest).split() == numbers(page).split()
    assert map_points.outermost(guest, "maps", 1, 0) == row  # the same maps
    guest.context.close()
