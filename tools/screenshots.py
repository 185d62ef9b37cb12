"""Pictures of every page, in both themes and at two widths, to look at and for the README.

    .venv/bin/python tools/screenshots.py tests/screenshots [--pages train isotropy] [--url URL]

Without --url a server is started on the present runs and cache.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from refine import paths  # noqa: E402
from tests.browser import Server, browser, settled  # noqa: E402

PAGES = (
    "overview",
    "corpora",
    "train",
    "isotropy",
    "classes",
    "subspaces",
    "lessons?lesson=3&guess=ouun",
    "compare",
    "live",
    "methods?method=interventional",
)
SIZES = {"1280": (1280, 800), "1920": (1920, 1080)}


class Present(Server):
    """A server on the folders that are in use."""

    @property
    def environment(self) -> dict[str, str]:
        return dict(os.environ)


def shoot(url: str, out: Path, pages: list[str], sizes: list[str], themes: list[str]) -> None:
    """Write <page>-<theme>-<width>.png of the whole page."""
    out.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for theme in themes:
            for name in sizes:
                width, height = SIZES[name]
                context = chromium.new_context(
                    viewport={"width": width, "height": height}, color_scheme=theme
                )
                page = context.new_page()
                for target in pages:
                    place, _, query = target.partition("?")
                    path = "" if place == "overview" else place
                    page.set_viewport_size({"width": width, "height": height})
                    page.goto(f"{url}/{path}?{query}")
                    settled(page)
                    page.wait_for_timeout(1200)
                    # Streamlit scrolls inside the page: make the window as high as its content
                    page.mouse.move(5, 5)
                    content = page.evaluate(
                        "document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight"
                    )
                    page.set_viewport_size({"width": width, "height": max(height, content + 40)})
                    page.wait_for_timeout(800)
                    page.screenshot(path=out / f"{place}-{theme}-{name}.png")
                context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", nargs="+", default=list(PAGES), help="page or page?query")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--themes", nargs="+", default=["light", "dark"])
    parser.add_argument("--url", help="a server that is running")
    options = parser.parse_args()
    if options.url:
        shoot(options.url, options.out, options.pages, options.sizes, options.themes)
        return
    server = Present(paths.cache() / "screenshots").start()
    try:
        shoot(server.url, options.out, options.pages, options.sizes, options.themes)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
