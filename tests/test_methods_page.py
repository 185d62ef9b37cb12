"""docs/methods.md on a page: every table, equation and link of it, and the drawn forces."""

import re
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import frame
import pytest
from streamlit.testing.v1 import AppTest

from refine import methods, pictures
from refine.drawing import Look
from refine.recipes import RECIPES

TEXT = methods.DOCUMENT.read_text(encoding="utf-8")
SECTIONS = methods.sections()


opened = partial(frame.opened, "methods")


def words(app: AppTest) -> str:
    return " | ".join(
        str(e.value) for e in [*app.title, *app.header, *app.markdown, *app.subheader]
    )


def test_every_row_of_every_table_is_there() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("|")]
    rules = [line for line in lines if set(line) <= set("| -")]
    rows = sum(len(part.rows) for section in SECTIONS for part in section.parts)
    assert rows == len(lines) - 2 * len(rules)
    for section in SECTIONS:
        for part in section.parts:
            assert all(len(row) == len(part.head) for row in part.rows)


def test_nothing_of_the_document_is_lost() -> None:
    pieces = []
    for section in SECTIONS:
        pieces += [section.title, section.lead]
        for part in section.parts:
            pieces += [part.title, part.text, part.latex, *part.head]
            pieces += [cell for row in part.rows for cell in row]
    kept = set(re.findall(r"\w{4,}", " ".join(pieces)))
    # fences and the targets of links inside the document are no words of it
    text = re.sub(r"\]\(#[^)]*\)|^```\w*", " ", TEXT.partition("\n## ")[2], flags=re.MULTILINE)
    assert set(re.findall(r"\w{4,}", text)) <= kept


def test_sections_have_keys_of_their_own() -> None:
    keys = [section.key for section in SECTIONS]
    assert len(set(keys)) == len(keys)
    assert set(RECIPES) <= set(keys)
    for key in keys:
        assert re.fullmatch(r"[a-z0-9_-]+", key)


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_method_has_its_paper_its_equation_and_its_drawing(recipe: str) -> None:
    section = next(section for section in SECTIONS if section.key == recipe)
    assert "](https://arxiv.org/abs/" in section.lead
    assert any(part.latex for part in section.parts)
    assert any(part.deviation is not None for part in section.parts)
    picture = pictures.PICTURES[recipe]
    for look in (Look(), Look("#000", "#fff", "#b60", "#06b", "#888", ("#111", "#222"))):
        root = ET.fromstring(picture.draw(look))
        assert root.tag.endswith("svg")
        assert picture.alt in "".join(root.itertext())


def test_a_table_is_read_and_written_again() -> None:
    part = methods._table("", "| a | b \\| c | our deviation |\n| - | - | - |\n| x | y | none; z |")
    assert part.head == ("a", "b \\| c", "our deviation")
    assert part.rows == (("x", "y", "none; z"),)
    assert part.deviation == 2
    assert methods.table(part) == (
        "| a | b \\| c | our deviation |\n| --- | --- | --- |\n| **x** | y | none; z |"
    )
    assert methods.deviating(part) == ()
    assert "No row" in methods.table(part, only_deviating=True)


@pytest.mark.parametrize(
    ("cell", "none"),
    [("none", True), ("none; tested against x", True), ("—", True), ("none. But", True),
     ("ours: x", False), ("nonetheless", False), ("**gradients** are zeroed", False)],
)  # fmt: skip
def test_what_counts_as_no_deviation(cell: str, none: bool) -> None:
    assert methods._is_none(cell) is none


def test_a_fence_and_a_heading_end_a_paragraph(tmp_path: Path) -> None:
    document = tmp_path / "m.md"
    document.write_text(
        "# M\n\n## `x`: long\n\nlead\n```math\na\n\n= b\n```\ntext\n### Sub\nmore\n", "utf-8"
    )
    (section,) = methods.sections(document)
    assert section.lead == "lead"
    assert [part.latex for part in section.parts] == ["a\n\n= b", "", ""]
    assert [part.title for part in section.parts] == ["", "", "Sub"]


def test_a_document_without_sections_is_refused(tmp_path: Path) -> None:
    for content in (None, "# only a title\n"):
        path = tmp_path / "m.md"
        if content:
            path.write_text(content)
        with pytest.raises(methods.MethodsError, match="copy docs"):
            methods.sections(path)


@pytest.mark.parametrize("key", [section.key for section in SECTIONS])
def test_each_section_opens_by_its_address(key: str) -> None:
    section = next(section for section in SECTIONS if section.key == key)
    app = opened(method=key)
    assert not app.error
    assert app.query_params["method"] in (key, [key])
    page = words(app)
    assert section.title in page
    for part in section.parts:
        for row in part.rows:
            assert row[-1] in page
    shown = [element.value for element in app.latex]
    for part in section.parts:
        assert not part.latex or any(part.latex in value for value in shown)


def test_only_deviations_are_shown_on_request() -> None:
    app = opened(method="rewire")
    assert "| none |" in words(app) or "| none;" in words(app)
    app.toggle(key="deviations").set_value(True).run()
    assert not app.exception
    assert "| none |" not in words(app)
    assert "gradients are zeroed" in words(app)


def test_an_unknown_section_is_the_first() -> None:
    app = opened(method="no-such")
    assert not app.error
    assert "rewire" in words(app)
