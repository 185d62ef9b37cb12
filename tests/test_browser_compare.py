"""Compare in a real browser: choose, reload, share, open a pair elsewhere, download its report."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browser import Server, click, download, settled, until, window
from refined import Family, family

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
TAGS = ".st-key-compared .react-aria-ComboBox [data-tag]"  # React keeps a template beside it


@pytest.fixture(scope="module")
def kin(tmp_path_factory, _tones: Path, tiny_encoder) -> Iterator[Family]:
    with family(tmp_path_factory.mktemp("app"), _tones, tiny_encoder) as made:
        yield made


@pytest.fixture(scope="module")
def server(kin: Family) -> Iterator[Server]:
    running = Server(kin.root).start()
    try:
        yield running
    finally:
        running.clean()


def address(server: Server, kin: Family, *encoders: str) -> str:
    chosen = "".join(f"&encoders={quote(name)}" for name in encoders)
    corpus, base = quote(str(kin.corpus)), quote(kin.base)
    return f"{server.url}/compare?corpus={corpus}&against={base}&split=all{chosen}"


def tags(page: Any) -> list[str]:
    """The encoders in the field."""
    page.locator(".st-key-forest .refine-plot span").first.wait_for()
    found = page.locator(TAGS)
    return [str(tag.get_attribute("aria-label")).split(" · ")[0] for tag in found.all()]


def test_choose_reload_and_share(server: Server, page: Any, driver: Any, kin: Family) -> None:
    page.goto(address(server, kin, kin.first.id))
    settled(page)
    assert tags(page) == ["first"]
    field = page.locator(".st-key-compared input")

    def add() -> None:
        field.click(timeout=10_000)
        field.fill("second")
        page.get_by_role("option").filter(has_text="second").first.wait_for(timeout=5_000)
        field.press("Enter")

    until(page, add, page.locator(TAGS).nth(1))
    page.wait_for_function(f"location.search.includes('{kin.second.id}')")
    speaker = page.locator(".st-key-group button", has_text="Speaker")
    click(speaker, "location.search.includes('group=speaker')")
    here = page.url

    page.reload()
    settled(page)
    assert tags(page) == ["first", "second"]
    assert "speaker: metrics of 3 encoders" in str(
        page.locator(".st-key-forest img").get_attribute("alt")
    )
    rows = page.locator(".st-key-numbers [data-testid=stDataFrame]")
    assert not rows.count()
    click(page.locator(".st-key-numbers summary"), rows)  # drawn once it is unfolded
    guest = window(driver, 1920, 1000, "dark")
    guest.goto(here)
    settled(guest)
    assert tags(guest) == ["first", "second"]
    assert guest.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    guest.context.close()


def test_a_mark_says_its_number_and_the_forest_is_a_file(
    server: Server, page: Any, kin: Family, tmp_path: Path
) -> None:
    page.goto(address(server, kin, kin.first.id))
    settled(page)
    plot = page.locator(".st-key-forest .refine-plot")
    mark = plot.locator("span", has=page.locator("xpath=self::*[contains(@data-told,'first')]"))
    until(page, mark.first.hover, "document.querySelector('.refine-plot span:hover') !== null")
    told = page.evaluate(
        "getComputedStyle(document.querySelector('.refine-plot span:hover'), '::after').content"
    )
    assert "first" in told
    assert " to " in told
    for form, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        plot.hover()
        button = plot.get_by_role("button", name=form)
        file = download(button, tmp_path, f"refine forest.{form.lower()}")
        assert file.read_bytes().startswith(begins)


def test_a_pair_opens_on_another_page(server: Server, page: Any, kin: Family) -> None:
    page.goto(address(server, kin, kin.first.id))
    settled(page)
    tags(page)
    card = page.locator('[class*="st-key-beside_"]').first
    click(card.get_by_role("link", name="Isotropy"), "location.pathname === '/isotropy'")
    page.locator(".refine-rows").wait_for()
    assert f"after={kin.first.id}" in page.url
    assert quote(kin.base, safe="") in page.url
    assert "IsoScore" in page.locator(".refine-rows").inner_text()


def test_the_report_is_downloaded_and_opens_anywhere(
    server: Server, page: Any, driver: Any, kin: Family, tmp_path: Path
) -> None:
    page.goto(address(server, kin, kin.first.id))
    settled(page)
    tags(page)
    ready = page.get_by_role("button", name="Download report-first.html")
    click(page.get_by_role("button", name="Report"), page.get_by_text("report --before").or_(ready))
    ready.wait_for()
    file = download(ready, tmp_path, "report-first.html")
    assert (kin.first.path / "report.html").exists()

    for theme, width in (("light", 1280), ("dark", 700)):
        reader = window(driver, width, 900, theme)
        asked: list[str] = []
        faults: list[str] = []
        reader.on("request", lambda request, asked=asked: asked.append(request.url))
        reader.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
        reader.goto(file.as_uri())
        assert "What rewire changed" in reader.locator("h1").inner_text()
        assert reader.locator("svg").count() > 20
        assert reader.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        assert asked == [file.as_uri()]
        assert not faults
        if theme == "light":
            printed = reader.pdf(prefer_css_page_size=True)
            assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") > 2
        reader.context.close()


def test_methods_by_address_and_by_hand(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/methods?method=interventional")
    settled(page)
    page.get_by_role("heading", name="interventional").wait_for()
    page.locator(".st-key-methods_loss .katex").first.wait_for()
    click(page.get_by_text("dino", exact=True).first, page.get_by_role("heading", name="dino"))
    page.wait_for_function("location.search.includes('method=dino')")
    page.reload()
    settled(page)
    page.get_by_role("heading", name="dino").wait_for()
    assert page.locator(".katex-error").count() == 0
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
