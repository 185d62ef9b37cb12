"""Every picture is an SVG and a PNG, every table a CSV; words of pictures can be read."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import refined
from browser import Server, click, download, idle, settled, until
from PIL import Image

from refine import paths

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

REWIRED = "before=mini&after=mini-rewire&corpus=demo"
SPLIT = "before=mini&after=mini-interventional&corpus=demo"
PLOT, PLOTLY = ".refine-plot", ".js-plotly-plot"
# page -> its addresses, each with what is there once it is drawn
PLACES = {
    "overview": {"": ".refine-glance"},
    "corpora": {"corpora?corpus=demo": ".st-key-clip_sound img"},
    "train": {"train?run={run}": ".st-key-space_curve .main-svg"},
    "isotropy": {
        f"isotropy?{REWIRED}": ".refine-rows",
        f"isotropy?{REWIRED}&view=directions": ".st-key-dimensions .main-svg",
        f"isotropy?{REWIRED}&view=layers": PLOTLY,
    },
    "classes": {
        f"classes?{REWIRED}": ".st-key-class_moved",
        f"classes?{REWIRED}&view=numbers": ".st-key-class_numbers",
        f"classes?{REWIRED}&view=confusions": ".st-key-class_confusion .main-svg",
        f"classes?{REWIRED}&view=pairs": ".st-key-class_each .main-svg",
    },
    "subspaces": {
        f"subspaces?{SPLIT}": ".st-key-bench_plane img",
        f"subspaces?{SPLIT}&view=tells": ".st-key-matrix_eer .main-svg",
        f"subspaces?{SPLIT}&view=cosines": ".st-key-cosine_maps .main-svg",
        f"subspaces?{SPLIT}&view=errors": ".st-key-eer_numbers",
        f"subspaces?{SPLIT}&view=geometry": ".st-key-geometry_numbers",
    },
    "compare": {"compare?corpus=demo": ".st-key-forest img"},
    "live": {"live?corpus=samples": ".stMain canvas"},
    "lessons": {
        f"lessons?lesson={lesson}&screen={screen}&guess=1": '[class*="st-key-lesson-"] img'
        for lesson in range(1, 6)
        for screen in (1, 2)
    },
    "methods": {
        "methods?method=interventional": "[class*=st-key-forces] img",
        "methods?method=isotropy": ".stMain table",
    },
}
# what is higher than 80 px and offers no file, and numbers without a CSV
WITHOUT = """() => {
    const all = (of) => [...document.querySelectorAll(`[data-testid=stMainBlockContainer] ${of}`)];
    const high = (one) => one.getBoundingClientRect().height > 80;
    const files = (one) => ['svg', 'png'].every((form) =>
        one.closest('.refine-plot')?.querySelector(`[data-save=${form}]`));
    const rows = all(':is(.refine-rows, .refine-numbers, .refine-glance)');
    const images = all(':is(img, svg)').filter(
        (one) => high(one) && !one.closest('.js-plotly-plot, button, [data-testid=stDataFrame]'));
    const charts = all('.js-plotly-plot').filter(
        (one) => !one.querySelector('.modebar-btn[data-title="Download plot"], .refine-file'));
    const prose = all('[data-testid=stMarkdownContainer] table').length;
    const saved = all('[class*="st-key-csv_"] button').length;
    const folded = all('[class*="_numbers"]').length;
    return [
        ...[...images, ...rows].filter((one) => !files(one)).map((one) => one.outerHTML),
        ...charts.map((one) => one.closest('[class*=st-key-]').className),
        ...(prose === saved ? [] : [`${prose} tables of text, ${saved} of them as CSV`]),
        ...(rows.length && !folded ? ['rows of numbers without a table'] : []),
    ].map((one) => one.slice(0, 300));
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run to look at, in folders that the server shares."""
    folder = tmp_path_factory.mktemp("server") / "app"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINE_RUNS", str(folder / "runs"))
        return refined.a_run(paths.MINI, "mini", Path("demo"), "looked at")


@pytest.fixture(scope="module")
def server(run: Any) -> Iterator[Server]:
    running = Server(run.path.parent.parent).start()
    try:
        yield running
    finally:
        running.clean()


def there(page: Any, server: Server, place: str, seen: str) -> None:
    """Open an address and wait for what it shows; measuring takes a while the first time."""
    page.goto(f"{server.url}/{place}")
    settled(page)
    page.locator(seen).first.wait_for(timeout=400_000)
    idle(page)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_everything_is_a_file(server: Server, page: Any, run: Any, places: dict[str, str]) -> None:
    for place, seen in places.items():
        there(page, server, place.format(run=run.id), seen)
        assert page.locator("[data-testid=stException]").count() == 0
        assert page.evaluate(WITHOUT) == [], place


def as_svg(plot: Any, folder: Path, name: str) -> ElementTree.Element:
    plot.scroll_into_view_if_needed()
    plot.hover(position={"x": 5, "y": 5})
    button = plot.get_by_role("button", name="as SVG")
    return ElementTree.fromstring(download(button, folder, f"{name}.svg").read_bytes())


def as_png(plot: Any, folder: Path, name: str) -> np.ndarray:
    plot.hover(position={"x": 5, "y": 5})
    file = download(plot.get_by_role("button", name="as PNG"), folder, f"{name}.png")
    return np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB"))


def words(svg: ElementTree.Element) -> str:
    return " ".join("".join(one.itertext()) for one in svg.iter("{http://www.w3.org/2000/svg}text"))


def inked(pixels: np.ndarray) -> float:
    """The share of the pixels that is not paper."""
    return float((pixels != pixels[0, 0]).any(axis=2).mean())


def test_rows_are_a_file_as_they_stand(server: Server, page: Any, tmp_path: Path) -> None:
    there(page, server, "", ".refine-glance")
    plot = page.locator(PLOT, has=page.locator(".refine-glance"))
    svg = as_svg(plot, tmp_path, "refine glance")
    told = words(svg)
    for word in ("mini-rewire", "Isotropy", "Voice EER", "▲ sure", "→"):
        assert word in told
    assert "subspaces" not in told  # a link leads nowhere from a file
    strips = [one for one in svg if one.tag.endswith("svg")]
    assert len(strips) == plot.locator("img").count() >= 20
    box = plot.bounding_box()
    for strip in strips:  # inside the file, where they stand on the page
        assert 0 <= float(strip.get("x", "")) <= box["width"]
        assert 0 < float(strip.get("y", "")) < box["height"]
    assert "var(" not in ElementTree.tostring(svg, "unicode")
    pixels = as_png(plot, tmp_path, "refine glance")
    assert pixels.shape[:2] == tuple(2 * int(svg.get(k, "")) for k in ("height", "width"))
    assert 0.02 < inked(pixels) < 0.5
    amber = np.abs(pixels.astype(int) - [0xD9, 0x80, 0x1F]).sum(axis=2) < 12
    assert amber.sum() > 500  # the marks of "before" are in it, not only the words


def test_what_is_folded_is_left_out(server: Server, page: Any, tmp_path: Path) -> None:
    there(page, server, f"isotropy?{REWIRED}", ".refine-rows")
    plot = page.locator(PLOT, has=page.locator(".refine-rows")).first
    definition = "neither end is better by itself"
    assert definition not in words(as_svg(plot, tmp_path, "refine isotropy"))
    opened = page.locator(".refine-rows details[open]")
    until(page, lambda: page.locator(".refine-rows summary").first.click(timeout=9_000), opened)
    assert definition in words(as_svg(plot, tmp_path, "refine isotropy"))


def test_a_lesson_is_a_file_with_its_paper(server: Server, page: Any, tmp_path: Path) -> None:
    there(page, server, "lessons?lesson=1&guess=1", ".st-key-prediction img")
    plot = page.locator(".st-key-lesson-anisotropy .refine-plot")
    svg = as_svg(plot, tmp_path, "refine lesson-anisotropy")
    assert "Cosine of every two vectors" in words(svg)
    assert svg.get("width") == "1000"
    assert svg[0].get("fill") == "#FDFCF9"
    pixels = as_png(plot, tmp_path, "refine lesson-anisotropy")
    assert pixels.shape[1] >= 2000
    assert 0.02 < inked(pixels) < 0.9


def test_the_first_pages_numbers_are_a_table(server: Server, page: Any) -> None:
    there(page, server, "", ".refine-glance")
    rows = page.locator(".st-key-glance_numbers [data-testid=stDataFrame]")
    assert rows.count() == 0  # folded, and not drawn
    click(page.locator(".st-key-glance_numbers summary"), rows)
    assert rows.count() == 1


# of each picture with words: how high its smallest are on the page, and whether it has to scroll
SIZES = """() => [...document.querySelectorAll('.refine-sheet')].flatMap((sheet) => {
    const image = sheet.querySelector('img');
    const drawn = atob(image.src.split(',')[1]);
    const sizes = [...drawn.matchAll(/font-size="([\\d.]+)"/g)].map((size) => +size[1]);
    const scale = image.clientWidth / +drawn.match(/viewBox="\\S+ \\S+ ([\\d.]+)/)[1];
    const scrolls = sheet.parentElement.scrollWidth > sheet.parentElement.clientWidth + 1;
    const name = image.closest('[class*="st-key-"]').className.match(/st-key-(\\S+)/)[1];
    return sizes.length ? [[name, scale * Math.min(...sizes), scrolls]] : [];
})"""


def test_words_of_pictures_stay_readable(server: Server, page: Any) -> None:
    places = {
        "corpora?corpus=demo": ".st-key-clip_sound img",
        f"subspaces?{SPLIT}": ".st-key-bench_plane img",
        "compare?corpus=demo": ".st-key-forest img",
        "lessons?lesson=3&guess=ouun": ".st-key-lesson-collapse img",
        "methods?method=dino": "[class*=st-key-forces] img",
    }
    for place, seen in places.items():
        there(page, server, place, seen)
        for width in (900, 1280, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            idle(page)
            found = page.evaluate(SIZES)
            assert found
            assert [one for one in found if one[1] < 11.9] == [], (place, width)
            assert width < 1440 or not [name for name, _, scrolls in found if scrolls], place
            inside = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert page.evaluate(inside), (place, width)
