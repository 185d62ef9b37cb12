"""Markup in a label is text on every page: nothing is fetched, set as a sum, bold or coloured."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import refined
import speech
import split
from browser import Server, settled, window

from refine import lineup

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
BAD = "<img src=x onerror=alert(1)> $x$ **b** :red[x]"
# elements that only a label read as markup can have made, and tags that a chart swallowed
READ_AS_MARKUP = """() => {
    const found = [...document.querySelectorAll('img[src="x"], .katex, .MathJax')];
    for (const one of document.querySelectorAll('strong, b, .stMarkdownColoredText')) {
        const bold = ['STRONG', 'B'].includes(one.tagName) && one.textContent === 'b';
        if (bold || one.textContent === 'x') found.push(one);
    }
    return found.map((one) => one.outerHTML.slice(0, 80) + ' in '
        + (one.closest('[class*="st-key"]') ?? one.parentElement).outerHTML.slice(0, 200));
}"""
# words of a chart that hold a part of a label must hold its tag too
SWALLOWED = """() => {
    const words = document.querySelectorAll('.js-plotly-plot text, .maps button, .maps .tip');
    return [...words].map((one) => one.textContent)
        .filter((text) => text.includes('$x') && !text.includes('<img'));
}"""
FEW = ("live",)  # which shows labels in fields, and what is heard
PAGES = {
    "overview": ("",),
    "corpora": ("", "factor=content", f"factor={quote(f'mood {BAD}')}"),
    "train": ("", "run"),
    "isotropy": ("", "view=pairs", "view=directions", "view=layers"),
    "classes": tuple(
        f"factor={factor}&view={view}"
        for factor in ("content", quote(f"mood {BAD}"))
        for view in ("map", "numbers", "confusions", "pairs")
    ),
    "subspaces": ("", "view=tells", "view=cosines", "view=errors", "view=geometry"),
    "compare": ("", f"group={quote(f'mood {BAD}')}"),
    "live": ("source=clip",),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: Any, tiny_encoder: Any) -> dict[str, str]:
    """A corpus and a run whose every name is markup, measured before the browser comes."""
    root = tmp_path_factory.mktemp("bad")
    corpus = marked(speech.make_corpus(root / "tones"))
    base = tiny_encoder("hubert")
    after = split.encoder(base, root / "split")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINE_RUNS", str(root / "app" / "runs"))
        patch.setenv("REFINE_CACHE", str(root / "app" / "cache"))
        run = refined.a_run(after, str(base), corpus, "named", steps=60)
        config = json.loads((run.path / "config.json").read_text("utf-8"))
        config["name"] = f"run {BAD}"  # refine gives no such name; a folder from elsewhere may
        (run.path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        own = json.loads((run.checkpoints / "final" / "refine.json").read_text("utf-8"))
        kept = json.loads((after / "refine.json").read_text("utf-8"))
        (run.checkpoints / "final" / "refine.json").write_text(
            json.dumps(kept | {"base": own["base"]}), encoding="utf-8"
        )
        lineup.lineup([run.id], str(base), str(corpus), "all")
    return {"root": str(root), "corpus": str(corpus), "before": str(base), "after": run.id}


def marked(corpus: Path) -> Path:
    """Every clip, speaker, content and a factor renamed; one clip is broken besides."""
    with (corpus / "clips.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    header[header.index("emotion")] = f"mood {BAD}"
    for row in rows:
        name = row[0].replace(".wav", f" {BAD}.wav")
        shutil.move(corpus / row[0], corpus / name)
        row[:] = [name, *(f"{value} {BAD}" for value in row[1:])]
    (corpus / f"broken {BAD}.wav").write_bytes(b"no sound")
    rows.append([f"broken {BAD}.wav", *rows[0][1:]])
    speech.write_csv(corpus / "clips.csv", [header, *rows])
    return corpus


@pytest.fixture(scope="module")
def server(bad: dict[str, str]) -> Iterator[Server]:
    running = Server(Path(bad["root"]) / "app").start()
    try:
        yield running
    finally:
        running.clean()


@pytest.mark.parametrize("place", PAGES)
def test_labels_are_text(server: Server, driver: Any, bad: dict[str, str], place: str) -> None:
    opened = window(driver)
    spoken: list[str] = []
    opened.on("dialog", lambda dialog: (spoken.append(dialog.message), dialog.dismiss()))
    faults, words = [], ""
    for more in PAGES[place]:
        query = {key: bad[key] for key in ("corpus", "before", "after")} | {"split": "all"}
        query |= {"encoders": bad["after"], "against": bad["before"], "encoder": bad["before"]}
        if more == "run":
            query, more = {"run": bad["after"]}, ""
        told = "&".join(f"{key}={quote(value)}" for key, value in query.items())
        opened.goto(f"{server.url}/{'' if place == 'overview' else place}?{told}&{more}")
        settled(opened, 180)
        for box in opened.get_by_test_id("stExpander").locator("summary").all():
            box.click()
        opened.wait_for_timeout(1500)
        faults += [f"{more}: {one}" for one in opened.evaluate(READ_AS_MARKUP)]
        faults += [f"{more}: swallowed: {one}" for one in opened.evaluate(SWALLOWED)]
        words += opened.locator('[data-testid="stMain"]').inner_text()
        assert opened.locator('[data-testid="stException"]').count() == 0
    opened.context.close()
    assert "Traceback" not in words
    assert place in FEW or BAD in words
    assert not spoken
    assert not faults, "\n".join(faults)
