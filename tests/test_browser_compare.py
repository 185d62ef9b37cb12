"""Compare in a real browser: choose, reload, share, open a pair elsewhere, download its report."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import map_points
import pytest
from browser import Server, click, download, settled, still, until, window
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


def test_the_marks_of_a_picture_are_reached_by_keys(server: Server, page: Any, kin: Family) -> None:
    page.goto(address(server, kin, kin.first.id))
    settled(page)
    plot = page.locator(".st-key-forest .refine-plot")
    marks = plot.locator("[data-told]")
    assert marks.count() > 6
    assert plot.locator("[data-told][tabindex='0']").count() == 1  # one stop of Tab, not many
    held = "() => document.activeElement.dataset.told ?? ''"
    tip = plot.locator(".refine-tip")

    def reach() -> None:  # from the row of buttons above, as Tab goes
        page.locator(".st-key-group button").last.focus()
        page.keyboard.press("Tab")

    until(page, reach, tip)
    first = page.evaluate(held)
    assert tip.inner_text() == first == marks.first.get_attribute("data-told")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == first.replace(
        "\n", ", "
    )
    box = still(marks.first)
    for key, towards in (("ArrowDown", "y"), ("ArrowRight", "x"), ("ArrowUp", "y")):
        page.keyboard.press(key)
        there = page.evaluate(
            "() => { const b = document.activeElement.getBoundingClientRect();"
            " return {x: b.x + scrollX, y: b.y + scrollY}; }"
        )
        grown = there[towards] - box[towards]
        assert (grown < 0) if key == "ArrowUp" else (grown > 0), key
        across = "x" if towards == "y" else "y"
        assert abs(there[across] - box[across]) < 1, key  # straight ahead
        assert tip.inner_text() == page.evaluate(held)
        box = there
    page.keyboard.press("End")
    assert page.evaluate(held) == marks.last.get_attribute("data-told")
    assert plot.locator("[data-told][tabindex='0']").count() == 1
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.keyboard.press("ArrowRight")  # nothing lies further to the right
    assert page.evaluate(held) == marks.last.get_attribute("data-told")
    page.keyboard.press("Tab")  # on to the buttons, and not to the next mark
    assert page.evaluate("document.activeElement.dataset.save") == "svg"


def test_a_mark_says_its_number_and_the_forest_is_a_file(
    server: Server, page: Any, kin: Family, tmp_path: Path
) -> None:
    page.goto(address(server, kin, kin.first.id))
    settled(page)
    plot = page.locator(".st-key-forest .refine-plot")
    mark = plot.locator("span", has=page.locator("xpath=self::*[contains(@data-told,'first')]"))
    tip = plot.locator(".refine-tip")
    until(page, mark.first.hover, tip)
    told = tip.inner_text()
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


def checked(page: Any, key: str) -> str:
    """The pill that is chosen of those below a key."""
    one = page.locator(f'[class*="st-key-{key}"] [aria-checked="true"]')
    one.wait_for()
    return str(one.inner_text()).strip()


def choose(page: Any, key: str, name: str, address: str) -> None:
    """Choose a pill; it is in the address then."""
    words = page.get_by_text(name, exact=True)
    pill = page.locator(f'[class*="st-key-{key}"] [role="radio"]').filter(has=words)
    click(pill.first, f"location.search.includes({json.dumps(address)})")


def test_isotropy_is_reloaded_and_shared_as_it_was(
    server: Server, page: Any, driver: Any, kin: Family
) -> None:
    pair = f"before={quote(kin.base)}&after={kin.first.id}"
    page.goto(f"{server.url}/isotropy?{pair}&corpus={quote(str(kin.corpus))}&split=all")
    settled(page)
    page.locator(".refine-rows").wait_for()
    for key in ("layer", "metric", "colour", "clip"):
        assert f"{key}=" not in page.url
    choose(page, "layer", "1", "layer=1")
    choose(page, "colour_", "content", "colour=content")
    row = map_points.outermost(page, "maps", 1, 0)
    heard = "document.querySelector('.st-key-card_chosen audio')?.currentTime > 0"
    until(page, lambda: map_points.click(page, "maps", 1, row), heard, 15)
    page.wait_for_function("location.search.includes('clip=')")
    card = ".st-key-card_chosen p"
    clip, here = page.locator(card).first.inner_text(), page.url

    page.reload()
    settled(page)
    guest = window(driver, 1280, 1000, "dark")
    guest.goto(here)
    settled(guest)
    for one in (page, guest):
        assert checked(one, "layer") == "1"
        assert checked(one, "colour_") == "content"
        assert one.locator(card).first.inner_text() == clip
        assert map_points.shown(one, "maps")["chosen"] == row
        assert one.url == here
    guest.context.close()


def test_what_compare_draws_is_reloaded(server: Server, page: Any, kin: Family) -> None:
    page.goto(address(server, kin, kin.first.id, kin.second.id))
    settled(page)
    tags(page)
    choose(page, "curve", "isoscore", "curve=isoscore")
    choose(page, "take", "second", f"take={kin.second.id}")
    switch = page.locator(".st-key-every_option label").first
    click(switch, "location.search.includes('every_option=on')")
    page.reload()
    settled(page)
    tags(page)
    assert checked(page, "curve") == "isoscore"
    assert checked(page, "take") == "second"
    assert page.locator(".st-key-every_option input").is_checked()


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
