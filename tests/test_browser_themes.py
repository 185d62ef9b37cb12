"""Every page in both themes: whole, quiet, within the window, fetched from here, and readable."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import split
from browser import Server, settled, window

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
PAGES = (
    "overview", "corpora", "train", "isotropy", "classes", "subspaces", "compare", "live",
    "lessons", "methods",
)  # fmt: skip
# every visible text whose contrast with what lies behind it is too small (WCAG 2.2, 1.4.3): below
# 4.5:1, of large text and icons 3:1; what is disabled is exempt
UNREADABLE = """() => {
    const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = (colour) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below, alpha) => below.map((v, i) => alpha * top[i] + (1 - alpha) * v);
    const light = (colour) => {
        const [r, g, b] = colour.map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const up = [];
        // the value of a slider stands above the thumb that it belongs to
        const value = element.closest('[data-testid="stSliderThumbValue"]');
        const first = value ? value.closest('[data-testid="stSlider"]') : element;
        for (let one = first; one; one = one.parentElement) up.push(one);
        return up.reverse().reduce((below, one) => {
            const colour = rgba(getComputedStyle(one).backgroundColor);
            return over(colour, below, colour[3]);
        }, [255, 255, 255]);
    };
    const seen = [];
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
        const element = words.currentNode.parentElement;
        const text = words.currentNode.data.trim().slice(0, 60);
        if (!text || element.closest('script, style, noscript, canvas')) continue;
        if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
        if (element.closest(':disabled, [aria-disabled="true"], [hidden]')) continue;
        const box = element.getBoundingClientRect();
        if (box.width < 2 || box.height < 2) continue;  // for screen readers
        const style = getComputedStyle(element);
        const ground = behind(element);
        const colour = rgba(element.closest('svg') ? style.fill : style.color);
        let alpha = colour[3];
        for (let one = element; one; one = one.parentElement) {
            alpha *= getComputedStyle(one).opacity;
        }
        const [ink, paper] = [light(over(colour, ground, alpha)), light(ground)];
        const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        const icon = element.closest('[data-testid="stIconMaterial"]');
        seen.push({ratio, least: large || icon ? 3 : 4.5, text});
    }
    return {
        n: seen.length,
        bad: seen.filter((one) => one.ratio < one.least)
            .map((one) => `${one.text}: ${one.ratio.toFixed(2)} < ${one.least}`),
    };
}"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: Any, tiny_encoder: Any) -> tuple[Path, dict[str, str]]:
    """A tiny encoder, and it with two subspaces, measured before the browser comes."""
    folder = tmp_path_factory.mktemp("split")
    return folder, split.measured(folder, tiny_encoder)


@pytest.fixture(scope="module")
def server(pair: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    running = Server(pair[0]).start()  # whose cache it is
    try:
        yield running
    finally:
        running.clean()


def wrong(said: Any) -> list[str]:
    """An error of the console. Streamlit looks for its server below the page's address first."""
    if said.type != "error" or "/_stcore/" in said.location["url"]:
        return []
    return [f"{said.text} ({said.location['url']})"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", PAGES)
def test_a_page_is_whole_and_readable(
    server: Server, driver: Any, pair: Any, place: str, theme: str
) -> None:
    opened = window(driver, 1280, 900, theme)
    faults: list[str] = []
    outside: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.extend(wrong(said)))
    opened.on("request", lambda request: outside.append(request.url))
    query = pair[1] | {"encoder": pair[1]["before"], "encoders": pair[1]["after"]}
    query |= {"against": pair[1]["before"]}
    opened.goto(f"{server.url}/{'' if place == 'overview' else place}?{urlencode(query)}")
    settled(opened, 180)
    assert opened.locator('[data-testid="stException"]').count() == 0
    assert opened.locator("body").inner_text().count("Traceback") == 0
    nav = opened.locator('[data-testid="stSidebarNav"]')
    assert nav.get_by_role("link").count() == len(PAGES)
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert opened.evaluate(wide)
    told = opened.evaluate(UNREADABLE)
    opened.context.close()
    assert told["n"] > 30
    assert not told["bad"]
    assert not faults
    # data: and blob: are the page's own; nothing is fetched from anywhere else
    assert not [url for url in outside if url.startswith("http") and server.url not in url]
