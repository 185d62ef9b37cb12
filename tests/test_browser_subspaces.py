"""The Subspaces page in a real browser: intervene, hear, go back, see, reload, share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import split
from browser import PATIENCE, Server, click, settled, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


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


def test_intervene_hear_undo_see_and_share(server: Server, page: Any, measured: Any) -> None:
    pytest.importorskip("espeakng_loader")
    query = "&".join(f"{key}={value}" for key, value in measured[1].items())
    page.goto(f"{server.url}/subspaces?{query}")
    settled(page)
    page.locator(".refine-moved").wait_for()
    page.get_by_text("You changed the voice.").wait_for()
    page.locator(".st-key-bench_plane .refine-plot span").first.wait_for()

    words = page.get_by_text("You changed the words.")
    click(page.get_by_role("button", name="Same voice, other words"), words)
    audio = ".st-key-card_bench_second audio"
    page.wait_for_function(f"document.querySelector('{audio}')?.currentTime > 0")
    click(page.get_by_role("button", name="Faster"), page.get_by_text("You changed the pace."))
    page.locator(".st-key-bench_strip img").nth(1).wait_for()
    click(page.get_by_role("button", name="Undo"), words)

    said = page.get_by_label("Second sentence")

    def say() -> None:
        said.fill("seven boats came home")
        said.press("Enter")

    until(page, say, "location.search.includes('seven')")
    words.wait_for()
    shared = page.url
    page.reload()
    settled(page)
    words.wait_for()
    assert page.get_by_label("Second sentence").input_value() == "seven boats came home"

    source = page.locator(".st-key-bench_source")
    click(source.get_by_text("Two recordings"), page.locator(".st-key-bench_clip_first"))
    differ = page.get_by_text("The two clips differ in the voice.")
    click(page.get_by_role("button", name="Same words, another voice"), differ)

    for view, chart in (
        ("What each tells", "matrix_accuracy"),
        ("Cosines", "cosine_maps"),
        ("Errors", "det"),
        ("Geometry", "cka"),
    ):
        tab = page.locator(".st-key-subspaces_view").get_by_text(view)
        click(tab, page.locator(f".st-key-{chart} .main-svg"), 15)
        assert page.locator('[data-testid="stException"]').count() == 0
    page.wait_for_function("location.search.includes('view=geometry')")

    other = page.context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(shared)
    settled(other)
    other.get_by_text("You changed the words.").wait_for()
