"""The first page in a real browser: read the marks, choose recordings, follow each way, go back."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Server, click, settled, until, window

from refine import paths

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
TIP = "getComputedStyle(document.querySelector('.refine-glance td:hover'), '::after')"
CELL = "document.querySelector('.refine-glance td:hover').getBoundingClientRect()"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _tones: Path) -> Iterator[Server]:
    """The app beside recordings of one name with those that the marks are of, but few."""
    if not (paths.MINI / "config.json").exists():
        pytest.skip("no encoder is shipped with this copy")
    from refine.evaluation import evaluate

    folder = tmp_path_factory.mktemp("first")
    corpus = shutil.copytree(_tones, folder / "speech" / "arabic_commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINE_SPEECH", str(folder / "speech"))
        patch.setenv("REFINE_CACHE", str(folder / "app" / "cache"))
        for name in ("mini", "mini-rewire"):
            evaluate(name, str(corpus), split="test")
        running = Server(folder / "app").start()
        try:
            yield running
        finally:
            running.clean()


def row(page: Any, name: str) -> Any:
    return page.locator(".refine-glance tbody tr", has=page.get_by_text(name, exact=True))


def test_marks_are_read_chosen_reloaded_and_shared(server: Server, page: Any, driver: Any) -> None:
    page.goto(server.url)
    settled(page)
    assert page.locator(".refine-glance tbody tr").count() == 5
    mark = row(page, "mini-rewire").locator("td").first
    until(page, mark.hover, "document.querySelector('.refine-glance td:hover') !== null")
    said = page.evaluate(f"{TIP}.content").replace("\\a ", "\n")
    before, after = re.findall(r"(?:before|after) (\S+), 95 % interval", said)
    assert f"{before} → {after}" in mark.inner_text()
    assert re.search(r"change \S+, 95 % interval \S+ to \S+, n = \d+", said)
    assert "IsoScore" in said
    left = page.evaluate(f"{CELL}.left + parseFloat({TIP}.left)")
    assert left >= page.locator('[data-testid="stSidebar"]').bounding_box()["width"]
    page.mouse.move(5, 5)
    page.wait_for_function("document.querySelector('.refine-glance td:hover') === null")
    mark.focus()
    page.keyboard.press("Tab")  # the next mark tells without a mouse
    reached = "getComputedStyle(document.activeElement, '::after').content"
    assert "95 % interval" in page.evaluate(reached)
    assert page.evaluate(reached) != said

    numbers = page.locator(".refine-glance tbody").inner_text()
    moods = page.locator(".st-key-glance [role=radio]", has_text="moods")
    click(moods, "location.search.includes('glance=')")
    page.get_by_text("clips of ravdess").wait_for()
    other = page.locator(".refine-glance tbody").inner_text()
    assert other != numbers
    page.reload()
    settled(page)
    assert page.locator(".refine-glance tbody").inner_text() == other
    guest = window(driver, 1920, 1000, "dark")
    guest.goto(page.url)
    settled(guest)
    assert guest.locator(".refine-glance tbody").inner_text() == other
    guest.context.close()


def test_each_way_on_leads_there_and_back(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/?glance=ravdess")
    settled(page)
    for way, path in (("Refine your own", "train"), ("Speak", "live"), ("Learn", "lessons")):
        click(page.get_by_role("link", name=way), f"location.pathname === '/{path}'")
        page.wait_for_function("!document.querySelector('.refine-glance')")
        settled(page)
        assert page.locator('[data-testid="stException"]').count() == 0
        page.go_back()
        page.get_by_text("clips of ravdess").wait_for()  # as it was left
        assert "glance=ravdess" in page.url


def test_a_row_opens_its_pair_and_recordings_open(server: Server, page: Any) -> None:
    page.goto(server.url)
    settled(page)
    link = row(page, "mini-rewire").get_by_role("link", name="isotropy")
    click(link, "location.pathname === '/isotropy'")
    page.locator(".refine-rows").wait_for()
    for key, value in (("before", "mini"), ("after", "mini-rewire"), ("split", "test")):
        assert f"{key}={value}" in page.url
    assert page.locator(".st-key-before input").input_value() == "mini"
    assert page.locator(".st-key-after input").input_value() == "mini-rewire"
    page.go_back()
    settled(page)
    link = row(page, "mini-interventional").get_by_role("link", name="subspaces")
    click(link, "location.pathname === '/subspaces'")
    settled(page)
    assert page.locator(".st-key-after input").input_value() == "mini-interventional"
    assert "arabic_commands" in page.url
    page.go_back()
    settled(page)
    here = page.locator(".st-key-overview_corpus [role=radio]", has_text="arabic_commands")
    click(here, "location.pathname === '/corpora'")
    page.get_by_role("heading", name="What is in these recordings?").wait_for()
    page.get_by_text("36 clips. Choose one to hear it.").wait_for()
