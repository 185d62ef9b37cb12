"""The report: whole, self-contained, honest about itself, and safe with what stands in labels."""

import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refined import Family, family

from refine import drawing, lineage, lineup, report, runs
from refine.cli import run as command
from refine.drawing import Line, Look
from refine.report_html import page

VOID = {"meta", "br", "hr", "img", "link", "input"}


@pytest.fixture(scope="module")
def kin(tmp_path_factory, _tones: Path, tiny_encoder) -> Iterator[Family]:
    with family(tmp_path_factory.mktemp("kin"), _tones, tiny_encoder, measured=False) as made:
        # a label that would be markup, and one that is long
        clips = made.corpus / "clips.csv"
        text = clips.read_text().replace("calm", "<script>alert(1)</script>")
        clips.write_text(text.replace("glad", "a mood with & quite a long name in words"))
        yield made


@pytest.fixture(autouse=True)
def _folders(kin: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    kin.use(monkeypatch)


@pytest.fixture(scope="module")
def made(kin: Family) -> report.Report:
    with pytest.MonkeyPatch.context() as patch:
        kin.use(patch)
        return report.gather(kin.base, kin.first.id, str(kin.corpus), "all")


class Balance(HTMLParser):
    """Every element that opens closes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_file_is_whole_and_fetches_nothing(made: report.Report) -> None:
    text = page(made)
    reader = Balance()
    reader.feed(text)
    assert reader.open == []
    assert not reader.seen & {"script", "link", "iframe", "object", "embed", "img"}
    outside = re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(https?:[^\"')\s]+)", text)
    assert not outside
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)


def test_every_number_stands_in_it(made: report.Report) -> None:
    from refine.names import name, short

    text = page(made)
    found = lineup.of_pair(made.results, made.changes)
    rows = lineup.table(found)
    assert len(rows) > 60
    for row in rows[rows["group"] != "subspaces"].to_dict("records"):
        assert name(row["metric"]) in text
        assert short(row["value"]) in text
    for needed in ("null", "control", "95 %", "paired", "@media print", "prefers-color-scheme"):
        assert needed in text


def test_labels_are_shown_as_text(made: report.Report) -> None:
    text = page(made)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_training_environment_options_and_commands_are_there(made: report.Report) -> None:
    text = page(made)
    assert "IsoScore over steps" in text
    assert "batch_size" in text
    assert made.after.run is not None
    assert made.after.run.environment["versions"]["torch"] in text
    assert made.after.run.environment["host"] not in re.sub(r"<style.*?</style>", "", text)
    lines = dict(made.commands)
    assert lines["Train it again"].startswith("python -m refine train rewire --encoder")
    assert "report --before" in lines["This report"]


def test_maps_hold_the_same_clips_in_one_plane(made: report.Report) -> None:
    assert {xy.shape for xy in made.maps.xy.values()} == {(36, 2)}
    assert len(made.maps.table) == 36
    assert 1 <= len(made.maps.factors) <= 3
    both = np.concatenate(list(made.maps.xy.values()))
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-9)


def test_caveats_say_what_is_wrong_with_the_pair(kin: Family, made: report.Report) -> None:
    told = " ".join(made.caveats)
    assert "by chance" in told
    assert "Another seed" in told
    assert "not refined from" not in told
    # the second was refined from the first, and on clips of this corpus
    other = report.gather(kin.base, kin.second.id, str(kin.corpus), "all")
    told = " ".join(other.caveats)
    assert "was not refined from this very" in told
    assert "include those it was trained on" in told


def test_a_run_has_its_report_in_its_folder(kin: Family, capsys) -> None:
    assert report.of_run(kin.first) == (kin.base, kin.first.id, str(kin.corpus))
    assert command(["report", kin.first.id, "--split", "all"]) == 0
    out = kin.first.path / "report.html"
    assert capsys.readouterr().out.strip() == str(out)
    assert "first" in out.read_text(encoding="utf-8")
    assert not list(kin.first.path.glob(".report*"))


def test_what_cannot_be_reported_is_a_sentence(kin: Family, tmp_path: Path) -> None:
    with pytest.raises(report.ReportError, match="same encoder"):
        report.gather(kin.base, kin.base, str(kin.corpus))
    (kin.root / "runs").mkdir(exist_ok=True)
    bad = runs.create({"command": "train", "recipe": "rewire", "name": "bad"})
    with pytest.raises(report.ReportError, match="no encoder and corpus"):
        report.of_run(bad)
    (bad.path / "config.json").write_text('{"comm')
    with pytest.raises(report.ReportError, match=r"config\.json"):
        report.of_run(bad)
    runs.delete(bad)
    for flags in ([], ["--before", kin.base], [kin.first.id, "--after", "x"]):
        with pytest.raises(ValueError, match=r"report: give|not both"):
            command(["report", *flags])
    if os.geteuid():
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(report.ReportError, match="cannot be written"):
            report.write(kin.base, kin.first.id, str(kin.corpus), closed / "r.html", "all")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(report.ReportError, match="choose another place"):
        report.write(kin.base, kin.first.id, str(kin.corpus), blocked / "r.html", "all")


def test_curves_worth_a_picture() -> None:
    rows = pd.DataFrame(
        {"step": [1, 2, 3, 4], "lr": [1, 2, 3, 4], "total": [4.0, 3, 2, 1], "flat": [1.0] * 4,
         "isoscore": [0.1, None, None, 0.2], "floor_x": [1.0, 2, 3, 4], "part": [1.0, 2, 3, 4]}
    )  # fmt: skip
    assert report.curves_of(rows) == ["total", "isoscore", "part"]
    assert report.curves_of(pd.DataFrame()) == []


# -- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 7), (0.0012, 0.0019), (1e5, 4e6), (2, 2)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    found = drawing.ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    steps = np.diff(found)
    assert not len(steps) or np.allclose(steps, steps[0])


def test_a_strip_puts_equal_numbers_at_equal_places() -> None:
    one = {"value": 0.5, "low": 0.4, "high": 0.6, "null": 0.0, "control": 1.0}
    svg = drawing.strip({"before": one, "after": one}, Look())
    places = re.findall(r'<circle cx="([\d.]+)"', svg)
    assert len(places) == 2
    assert places[0] == places[1] == "150.0"  # halfway between null and control


def test_a_map_keeps_its_shape_whatever_its_window() -> None:
    xy = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    for shift, scale in ((0, 1), (100, 1), (0, 7)):
        moved = xy * scale + shift
        window = ((moved[:, 0].min(), moved[:, 0].max()), (moved[:, 1].min(), moved[:, 1].max()))
        svg = drawing.scatter(moved, [("all", np.arange(3), "red")], Look(), window, "a map")
        path = re.search(r'<path d="([^"]+)"', svg)
        assert path
        assert path[1] == "M109.0 412.0h0M311.0 412.0h0M109.0 8.0h0"


def test_curves_skip_what_is_not_finite() -> None:
    line = Line("a", [1, 2, 3], [1.0, float("nan"), 3.0], "red", [0, 0, 0], [4, 4, 4])
    svg = drawing.curves([line], Look(), "x", "y", "a curve")
    assert "nan" not in svg
    assert drawing.curves([], Look(), "x", "y", "none") == ""


def test_a_confusion_shows_shares_of_rows() -> None:
    svg = drawing.confusion([[3, 1], [0, 4]], ["<a>", "b"], Look(), "red", "who")
    assert re.findall(r">(\d+)</text>", svg) == ["75", "25", "100"]
    assert "&lt;a&gt;" in svg


def test_moving_a_folder_moves_no_lineage(kin: Family, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(kin.first.checkpoints / "final", tmp_path / "elsewhere"))
    moved, here = lineage.origin(copy), lineage.origin(kin.first.id)
    assert moved.fingerprint == here.fingerprint
    assert len(lineage.tree([moved, here])) == 2  # the base and one encoder
