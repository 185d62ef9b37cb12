"""How fast the pages answer a hand, in Chromium: overview, page switch, sound, linked selection.

    python benchmarks/browser.py [--rounds 5] [--points 20000]

Goals: the overview in a new browser under 2 s once the server is warm, a warm page switch under
300 ms, a click on a map to the first sound under 500 ms, a selection among 20 000 points in both
maps under 700 ms (the component of the Classes page with made-up places, and neighbours that the
server sends). Pages are switched on a corpus of 81 tones. Each is a median over rounds beside
the slowest one; the load of the machine stands below, since other work makes all of them slower.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import speech  # noqa: E402

from refine import lineup  # noqa: E402
from tests.browser import Server, browser, chromium, settled  # noqa: E402

GOALS = {
    "overview": 2_000,
    "page switch": 300,
    "click to sound": 500,
    "linked selection": 700,
}  # ms
SWITCHED = (
    "Classes", "Compare", "Methods", "Corpora", "Overview", "Isotropy", "Subspaces", "Train",
    "Live", "Lessons",
)  # fmt: skip
PAIR = ("mini", "mini-interventional")  # with subspaces, so that no page is empty
DONE = """([place, before]) => {
    const app = document.querySelector('[data-testid="stApp"]');
    const head = document.querySelector('[data-testid="stMainBlockContainer"] h1');
    return location.pathname !== before && app && head
        && app.getAttribute('data-test-script-state') !== 'running';
}"""
# the script has ended, and the last row of the overview stands there
DRAWN = """() => {
    const app = document.querySelector('[data-testid="stApp"]');
    return app && app.getAttribute('data-test-script-state') === 'notRunning'
        && document.body.innerText.includes('mini-interventional')
        && document.body.innerText.includes('mini-two-step');
}"""
# nothing is measured or drawn in the background any more
MEASURED = "() => !document.querySelector('[data-testid=\"stProgress\"]')"
# a map of many points drawn by the component of the Classes page, and what was chosen in it
LINKED = """
import numpy as np, pandas as pd, streamlit as st
from pages.components import class_map
from refine.maps import Map
from refine.metrics.intervals import Number

@st.cache_resource
def drawn():
    random = np.random.default_rng(0)
    xy = random.normal(size=({points}, 2))
    table = pd.DataFrame({{"clip": [f"clip {{i}}" for i in range(len(xy))],
                          "word": random.integers(0, 6, len(xy)).astype(str)}})
    trust = {{name: Number(0.9, 0.8, 1.0, len(xy), "") for name in
             ("trustworthiness", "neighbours_kept")}}
    values = dict(table=table, xy={{"before": xy, "after": xy[:, ::-1] * 1.2}},
                  quality={{"before": trust, "after": trust}}, note="made up",
                  shown={{"before": 0.5, "after": 0.5}})
    return Map(**{{name: values.get(name) for name in Map._fields}})

chosen = st.session_state.get("chosen")
st.title(f"chosen {{chosen}}")
near = {{role: (np.arange(1, 11) * 7 + chosen) % {points} for role in ("before", "after")}} \\
    if chosen is not None else {{}}
class_map.show(drawn(), "word", class_map.Marked(chosen, near, None), False, False,
               lambda rows, group: st.session_state.update(chosen=rows[0]))
"""


@dataclass(frozen=True)
class Options:
    """What is measured."""

    rounds: int = 5
    """Times each is done; the median is printed."""
    points: int = 20_000
    """Clips on each of the linked maps."""


def main(options: Options) -> None:
    """Prepare an evaluated pair, then measure the three in one browser."""
    if chromium() is None:
        print("no Chromium here: nothing is measured (apt-get install chromium)")
        return
    with tempfile.TemporaryDirectory() as name, browser() as driver:
        folder = Path(name)
        server = Server(folder / "app")
        os.environ |= {k: server.environment[k] for k in ("REFINE_RUNS", "REFINE_CACHE")}
        corpus = speech.make_corpus(folder / "tones", speakers=9, takes=3)
        lineup.lineup([PAIR[1]], PAIR[0], str(corpus), "all")
        page = driver.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(300_000)
        try:
            server.start()
            address = f"corpus={corpus}&before={PAIR[0]}&after={PAIR[1]}&split=all"
            address += f"&encoders={PAIR[1]}&against={PAIR[0]}"
            show("overview", overviews(driver, server.url, options.rounds), GOALS["overview"])
            every = switches(page, server.url, address, options.rounds)
            for title, times in every.items():
                show(f"page switch to {title}", times, GOALS["page switch"])
            together = [took for times in every.values() for took in times]
            show("page switch", together, GOALS["page switch"])
            heard = sounds(page, f"{server.url}/isotropy?{address}", options)
            show("click to sound", heard, GOALS["click to sound"])
        finally:
            server.clean()
        show("linked selection", selections(page, folder, options), GOALS["linked selection"])
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def show(what: str, times: list[float], goal: float) -> None:
    """A line of the table."""
    middle = median(times)
    met = "met" if middle < goal else "MISSED"
    slowest = max(times)
    print(
        f"{what:26} median {middle:5.0f} ms, slowest {slowest:5.0f} ms (goal {goal}): {met}",
        flush=True,
    )


def overviews(driver: Any, url: str, rounds: int) -> list[float]:
    """From the address typed into a new browser to every encoder's row; the first warms it up."""
    times = []
    for turn in range(rounds + 1):
        context = driver.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.set_default_timeout(300_000)
        page.goto(url, wait_until="commit")
        page.wait_for_function(DRAWN, polling="raf")
        if turn:
            times.append(page.evaluate("performance.now()"))
        context.close()
    return times


def switches(page: Any, url: str, address: str, rounds: int) -> dict[str, list[float]]:
    """From a click in the navigation to the whole page, after each was seen once."""
    # one session: the pair goes from page to page in it
    page.goto(f"{url}/compare?{address}")
    settled(page)
    card = page.locator('[class*="st-key-beside_"]').first
    card.get_by_role("link", name="Isotropy").click()
    settled(page, 300)
    found: dict[str, list[float]] = {title: [] for title in SWITCHED}
    for turn in range(rounds + 1):
        for title in SWITCHED:
            before = page.evaluate("location.pathname")
            link = page.locator('[data-testid="stSidebarNav"]').get_by_role("link", name=title)
            handle = link.first.element_handle()
            page.evaluate("link => { window.began = performance.now(); link.click(); }", handle)
            page.wait_for_function(DONE, arg=[title, before], polling="raf")
            took = page.evaluate("performance.now() - window.began")
            settled(page, 300)
            page.wait_for_timeout(400)
            if turn:  # the first is the warm-up
                found[title].append(took)
            else:
                page.wait_for_function(MEASURED)
                page.wait_for_timeout(2_000)
                page.wait_for_function(MEASURED)
    return found


def sounds(page: Any, url: str, options: Options) -> list[float]:
    """From the mouse on a point to the first playing sound."""
    page.goto(url)
    settled(page)
    maps = page.locator(".st-key-maps .maps")
    maps.wait_for()
    maps.scroll_into_view_if_needed()
    page.wait_for_timeout(1_500)
    page.evaluate(
        """() => {
            document.addEventListener(
                'mousedown', () => { window.began = performance.now(); }, true);
            document.addEventListener('playing', () => {
                window.sounded = performance.now() - window.began; }, true);
        }"""
    )
    times = []
    for turn in range(options.rounds + 1):
        at = maps.evaluate("(maps, row) => maps.place(0, row % maps.rows())", 37 * turn)
        page.evaluate("window.sounded = null")
        press(page, at["x"], at["y"])
        page.wait_for_function("window.sounded !== null", polling="raf")
        if turn:
            times.append(page.evaluate("window.sounded"))
        page.wait_for_timeout(600)
    return times


def selections(page: Any, folder: Path, options: Options) -> list[float]:
    """From the mouse on one of many points to both maps drawn with what it is linked to."""
    script = folder / "linked.py"
    script.write_text(LINKED.format(points=options.points), encoding="utf-8")
    server = Server(folder / "linked")
    start(server, script)
    times = []
    try:
        page.goto(server.url)
        settled(page)
        maps = page.locator(".maps")
        maps.wait_for()
        page.wait_for_timeout(3_000)
        page.evaluate("document.addEventListener('mousedown', () => "
                      "{ window.began = performance.now(); }, true)")  # fmt: skip
        for turn in range(options.rounds + 1):
            before = page.locator("h1").inner_text()
            at = maps.evaluate("(maps, row) => maps.place(0, row % maps.rows())", 1_000 * turn)
            press(page, at["x"], at["y"])
            page.wait_for_function(
                """before => {
                    const head = document.querySelector('h1');
                    const app = document.querySelector('[data-testid="stApp"]');
                    return head.innerText !== before
                        && app.getAttribute('data-test-script-state') !== 'running';
                }""",
                arg=before,
                polling="raf",
            )
            # two frames: the new picture is on the screen
            took = page.evaluate(
                """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(
                    () => done(performance.now() - window.began))))"""
            )
            if turn:
                times.append(took)
            page.wait_for_timeout(1_500)
    finally:
        server.clean()
    return times


def start(server: Server, script: Path) -> None:
    """Start the server on another script."""
    server.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.headless=true"]
    command.append(f"--server.port={server.port}")
    environment = server.environment | {"PYTHONPATH": str(ROOT)}
    with (server.folder / "server.log").open("ab") as log:
        server.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {(server.folder / 'server.log').read_text()}")


def press(page: Any, x: float, y: float) -> None:
    """Move there as a hand does, let the point light up, and click."""
    page.mouse.move(x - 4, y - 4)
    page.mouse.move(x, y, steps=3)
    page.wait_for_timeout(250)
    page.mouse.click(x, y)


if __name__ == "__main__":
    main(tyro.cli(Options))
