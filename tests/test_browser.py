"""The whole story in a real browser: choose, rewire, watch, stop, resume, see, hear."""

import csv
import json
import re
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import map_points
import pytest
from browser import Server, click, download, settled, still, until, window, workers

from refine import paths
from refine.runs import Run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """One that may be ended."""
    running = Server(tmp_path / "app").start()
    try:
        yield running
    finally:
        running.clean()


@pytest.fixture
def mini(tiny_encoder: Callable[[str], Path]) -> str:
    """The shipped encoder; a tiny random one where it is not there."""
    return "mini" if (paths.MINI / "config.json").exists() else str(tiny_encoder("hubert"))


@pytest.fixture
def recordings(tone_corpus: Path, tmp_path: Path) -> str:
    """A few recorded words where they are at hand, else tones."""
    folder = paths.speech()
    real = folder / "arabic_commands" if folder else None
    return str(few(real, tmp_path / "words") if real and real.is_dir() else tone_corpus)


def few(corpus: Path, folder: Path, voices: int = 3, clips: int = 12) -> Path:
    """Some clips of some voices of each split."""
    with (corpus / "clips.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = []
    for split in ("train", "dev", "test"):
        there = [row for row in rows if row["split"] == split]
        for voice in sorted({row["speaker"] for row in there})[:voices]:
            kept += [row for row in there if row["speaker"] == voice][: clips * 5 : 5]
    for row in kept:
        (folder / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / row["path"], folder / row["path"])
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(kept)
    return folder


def test_from_choosing_to_hearing(
    server: Server, page: Any, mini: str, recordings: str, tmp_path: Path
) -> None:
    page.goto(server.url)
    settled(page)
    heading = page.get_by_role("heading", name="Refine an encoder")
    click(page.get_by_role("link", name="Refine your own"), heading)
    choose(page, "Encoder", mini)
    choose(page, "Corpus", recordings)
    page.get_by_text("clips to train on").wait_for()
    choose(page, "Preset", "mini")
    click(page.get_by_text("more options"), page.get_by_label("Probe clips", exact=True))
    options = {"Steps": 40, "Batch size": 4, "Max seconds": 0.8, "Warmup steps": 2}
    options |= {"Checkpoint every": 20, "Probe every": 10, "Probe clips": 24}
    for label, value in options.items():
        fill(page, label, str(value))

    start = page.get_by_role("button", name="Start", exact=True)
    click(start, "location.search.includes('run=')")
    with held(server):
        badge(page, "running").wait_for()
        page.get_by_text(re.compile(r"Step \d+ of 40")).first.wait_for()
        page.locator(".st-key-loss_curve .scatterlayer .trace").first.wait_for()
        ask_to_stop(page)
    badge(page, "stopped").wait_for()

    assert "run=" in page.url
    page.reload()
    settled(page)
    badge(page, "stopped").wait_for()
    click(page.get_by_role("button", name="Resume"), badge(page, "queued|running|finished"))
    badge(page, "finished").wait_for()
    page.get_by_text("Step 40 of 40").first.wait_for()
    page.locator(".st-key-space_curve .scatterlayer .trace").first.wait_for()

    ready = page.get_by_role("button", name=re.compile("^Download report-"))
    asked = page.get_by_text("refine report").or_(ready).first
    click(page.get_by_role("button", name="Report"), asked)
    ready.wait_for()
    name = re.search(r"report-\S+\.html", ready.inner_text())
    assert name is not None
    file = download(ready, tmp_path, name[0]).read_text("utf-8")
    assert "What rewire changed" in file

    see = page.get_by_role("button", name="See what changed")
    click(see, "location.pathname === '/isotropy'")
    rows = page.locator(".refine-rows")
    rows.wait_for()
    for word in ("before", "after", "IsoScore", "Mean cosine", "Effective rank"):
        assert word in rows.inner_text()
    assert hear(page, 0) != hear(page, -1)


def hear(page: Any, which: int) -> str:
    """Click the left- or rightmost point of the second map; returns the clip that sounds."""
    src = page.evaluate("document.querySelector('.st-key-card_chosen audio')?.src ?? null")
    row = map_points.outermost(page, "maps", 1, which)
    sounds = f"""(() => {{
        const audio = document.querySelector('.st-key-card_chosen audio');
        return audio && audio.src !== {json.dumps(src)} && audio.currentTime > 0;
    }})()"""
    until(page, lambda: map_points.click(page, "maps", 1, row), sounds, 15)
    page.locator(".st-key-map_sound .refine-plot img").first.wait_for()
    return str(page.locator(".st-key-card_chosen p").first.inner_text())


def test_a_run_outlives_page_and_server(
    own_server: Server, page: Any, tiny_encoder: Any, tone_corpus: Path
) -> None:
    server = own_server
    page.goto(f"{server.url}/train?encoder={tiny_encoder('hubert')}&corpus={tone_corpus}")
    settled(page)
    page.get_by_text("clips to train on").wait_for()
    click(page.get_by_text("more options"), page.get_by_label("Probe every", exact=True))
    for label, value in {"Steps": "5000", "Checkpoint every": "5", "Probe every": "0"}.items():
        fill(page, label, value)
    stepping = page.get_by_text(re.compile(r"Step [1-9]\d* of 5,000")).first
    click(page.get_by_role("button", name="Start", exact=True), badge(page, "running"))
    stepping.wait_for()
    address = page.url

    server.stop()
    (trainer,) = workers(server.folder)
    assert trainer.is_running()
    server.start()
    page.goto(address)
    settled(page)
    badge(page, "running").wait_for()
    stepping.wait_for()

    began = time.monotonic()
    trainer.kill()
    badge(page, "crashed").wait_for()
    assert time.monotonic() - began < 30
    page.get_by_text("is gone without a word").wait_for()

    click(page.get_by_role("button", name="Resume"), badge(page, "queued|running"))
    badge(page, "running").wait_for()
    stepping.wait_for()
    ask_to_stop(page)
    badge(page, "stopped").wait_for()


def test_uploaded_files_open_as_a_corpus(
    server: Server, page: Any, driver: Any, tone_corpus: Path
) -> None:
    page.goto(f"{server.url}/corpora?corpus={tone_corpus}")
    settled(page)
    button = page.get_by_role("button", name="Open these")
    click(page.get_by_role("button", name="Upload").first, button)
    files = [tone_corpus / "00" / "one_0.wav", tone_corpus / "01" / "two_0.wav"]
    (tone_corpus / "bad.wav").write_bytes(b"not a sound")
    page.locator("input[type=file]").set_input_files([*files, tone_corpus / "bad.wav"])
    page.get_by_text("bad.wav").first.wait_for()
    left_out = page.get_by_text("1 left out")
    click(button, left_out)
    assert page.get_by_text("one_0.wav").count() > 0
    page.keyboard.press("Escape")
    page.reload()
    settled(page)
    left_out.wait_for()
    guest = window(driver)
    guest.goto(page.url)
    settled(guest)
    guest.get_by_text("1 left out").wait_for()
    assert guest.get_by_text("one_0.wav").count() > 0
    guest.context.close()


def test_a_plot_is_a_file_in_two_formats(server: Server, page: Any, tmp_path: Path) -> None:
    page.goto(f"{server.url}/corpora?corpus=samples")
    settled(page)
    plot = page.locator(".st-key-durations .js-plotly-plot")
    click(page.get_by_role("radio", name="length"), plot)
    bar = plot.locator(".modebar")

    def over() -> None:
        still(plot)
        plot.hover(position={"x": 60, "y": 60}, timeout=10_000)

    for _ in range(2):  # the second time plotly has drawn its bar before
        until(page, over, bar.get_by_text("PNG"))
        drawn = download(bar.get_by_text("SVG"), tmp_path, "refine durations.svg").read_text(
            "utf-8"
        )
        assert drawn.startswith("<svg")
        assert "length (s)" in drawn
        image = download(bar.get_by_text("PNG"), tmp_path, "refine durations.png").read_bytes()
        assert image.startswith(b"\x89PNG")
        wide, high = struct.unpack(">II", image[16:24])
        box = plot.bounding_box()
        assert abs(wide - 2 * box["width"]) <= 4  # sharp on a projector
        assert abs(high - 2 * box["height"]) <= 4
        page.mouse.move(5, 5)
    assert bar.locator(".refine-download").count() == 2


def choose(page: Any, label: str, value: str) -> None:
    """Pick from a select box by typing, or type a new value into it."""
    box = page.locator('[data-testid="stSelectbox"]').filter(has_text=label).first
    field = box.locator("input").first

    def pick() -> None:
        field.click(timeout=10_000)
        field.fill(value)
        page.get_by_role("option").filter(has_text=value).first.wait_for(timeout=5_000)
        field.press("Enter")

    chosen = f"new URLSearchParams(location.search).get('{label.lower()}') === {json.dumps(value)}"
    field.wait_for()
    pick()  # once at least, even where it stands so already
    until(page, pick, chosen)


def fill(page: Any, label: str, value: str) -> None:
    """Type an option's value; the command line of the page shows it."""
    field = page.get_by_label(label, exact=True).first

    def write() -> None:
        field.fill(value)
        field.press("Enter")

    until(page, write, page.get_by_text(f"--{label.lower().replace(' ', '-')} {value}"))


@contextmanager
def held(server: Server, steps: int = 3) -> Iterator[None]:
    """The training stands still after some steps: a busy machine may show a page later."""
    for _ in range(6_000):
        logs = list((server.folder / "runs").glob("*/metrics.jsonl"))
        # the status is written less often than the log, and the page shows both
        if (
            logs
            and len(logs[0].read_text(encoding="utf-8").splitlines()) >= steps
            and Run(logs[0].parent).status().total
        ):
            break
        time.sleep(0.05)
    (trainer,) = workers(server.folder)
    trainer.suspend()
    try:
        yield
    finally:
        trainer.resume()


def ask_to_stop(page: Any) -> None:
    """Ask the run that is watched to stop."""
    asked = page.get_by_role("button", name="Stop at once").or_(badge(page, "stopped"))
    click(page.get_by_role("button", name="Stop", exact=True), asked)


def badge(page: Any, words: str) -> Any:
    """The state of the run that is watched; it stands behind the name of its icon."""
    return page.locator(".st-key-run_state").get_by_text(re.compile(rf"\b({words})$")).first


def test_a_picture_of_ours_answers_the_pointer(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/corpora?corpus=samples")
    settled(page)
    image = page.locator(".st-key-clip_sound .refine-plot img")
    tip = page.locator(".st-key-clip_sound .refine-reading")

    def read(right: float, down: float) -> None:
        still(image)
        box = image.bounding_box()
        page.mouse.move(box["x"] + right * box["width"], box["y"] + down * box["height"], steps=3)

    until(page, lambda: read(0.5, 0.6), tip)
    early = tip.inner_text()
    assert early.endswith(" Hz")
    read(0.8, 0.85)
    seconds, hertz = (
        float(part.split()[0].replace(",", "")) for part in tip.inner_text().split("·")
    )
    before, above = (float(part.split()[0].replace(",", "")) for part in early.split("·"))
    assert seconds > before
    assert hertz < above
    read(0.02, 0.6)  # left of the axis there is nothing to read
    assert not tip.is_visible()


def test_pictures_and_charts_follow_the_theme(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/corpora?corpus=samples")
    settled(page)
    chart = page.locator(".st-key-durations .js-plotly-plot")
    click(page.get_by_role("radio", name="length"), chart)
    drawn = "atob(document.querySelector('.st-key-clip_sound img')?.src.split(',')[1] ?? '')"
    bar = "document.querySelector('.st-key-durations .js-plotly-plot')?._fullData[0].marker.color"
    colours = {"light": "#0B6C94", "dark": "#62B9DD"}  # of "after"; see .streamlit/config.toml
    for scheme in ("dark", "light"):  # there and back
        page.emulate_media(color_scheme=scheme)
        colour = json.dumps(colours[scheme])
        page.wait_for_function(f"{drawn}.includes({colour})", timeout=30_000)
        page.wait_for_function(f"{bar} === {colour}", timeout=30_000)
        paper = page.locator(".refine-plot").first.evaluate(
            "one => getComputedStyle(one).getPropertyValue('--paper')"
        )
        assert paper == {"light": "#FDFCF9", "dark": "#11161D"}[scheme]
