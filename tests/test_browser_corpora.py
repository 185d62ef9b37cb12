"""Corpora in a real browser: open by path, see bars and problems, filter, listen, upload, share."""

from pathlib import Path
from typing import Any

import pytest
from browser import Server, click, settled, still, until, window

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
CELLS = "document.querySelector('[data-testid=stExpander] [role=gridcell]') !== null"
SOUNDS = "document.querySelector('.st-key-listen audio')?.currentTime > 0"


def row(page: Any, number: int) -> None:
    """Tick a row of the table of clips."""
    box = still(page.locator('[class*="st-key-clips_"] canvas').first)
    page.mouse.click(box["x"] + 17, box["y"] + 35 + 35 * (number + 0.5))


def heard(page: Any) -> str:
    """The clip beside the table."""
    return str(page.locator(".st-key-listen p strong").first.inner_text())


def test_open_by_path_see_filter_hear_reload_and_share(
    server: Server, page: Any, driver: Any, tone_corpus: Path
) -> None:
    (tone_corpus / "00" / "one_0.wav").write_bytes(b"not a sound")
    page.goto(f"{server.url}/corpora")
    settled(page)
    field = page.locator(".st-key-corpus input")

    def type_in() -> None:
        field.click(timeout=10_000)
        field.fill(str(tone_corpus))
        field.press("Enter")

    until(page, type_in, page.get_by_text("35 clips. Choose one to hear it."), 15)

    # the clip that cannot be used, and why
    cells = page.get_by_test_id("stExpander").locator('[role="gridcell"]')
    folded = page.get_by_text("1 clip with a problem: 1 left out, 0 kept")
    until(page, folded.click, CELLS, 15)
    told = cells.all_text_contents()
    assert told[:2] == ["00/one_0.wav", "left out"]
    assert told[2].startswith("not readable as wav, flac, ogg or mp3")

    content = page.locator('[data-testid="stButtonGroup"] [role="radio"]', has_text="content")
    click(content, "location.search.includes('factor=content')")
    bars = page.locator(".st-key-counts .refine-plot")
    until(
        page,
        bars.locator("span").first.hover,
        "document.querySelector('.st-key-counts span:hover') !== null",
    )
    assert "clips" in str(bars.locator("span").first.get_attribute("data-told"))
    assert bars.locator("span").count() == 3

    find = page.get_by_label("Find")

    def search() -> None:
        find.fill("s03 two")
        find.press("Enter")

    until(page, search, page.get_by_text("2 of 35 clips match."))
    until(page, lambda: row(page, 1), SOUNDS, 15)
    assert heard(page) == "03/two_1.wav"
    here = page.url
    assert "clip=" in here

    page.reload()
    settled(page)
    assert heard(page) == "03/two_1.wav"
    assert content.first.get_attribute("aria-checked") == "true"
    assert not page.evaluate(SOUNDS)  # nobody asked for it now
    page.locator(".st-key-listen audio").evaluate("audio => audio.play()")
    page.wait_for_function(SOUNDS)
    guest = window(driver, 1920, 1000, "dark")
    guest.goto(here)
    settled(guest)
    assert heard(guest) == "03/two_1.wav"
    assert guest.locator(".st-key-counts .refine-plot span").count() == 3
    guest.context.close()
