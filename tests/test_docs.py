"""The documentation is held against the code: the tree, the commands, the options, the methods."""

import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys

import pytest

import refine
from refine import paths

sys.path += [str(paths.ROOT / "tools"), str(paths.ROOT / "benchmarks")]

import measured_tables
import rewire_curves
import rewire_downstream
import rewire_tables
import two_step_tables

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")
MEASURED = paths.ROOT / "docs" / "measured"
METHODS = (paths.ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=paths.ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout, so what belongs to it is not known")
    return listed.stdout.split()


FOLDER = re.compile(rb"[\"' ](/(?:work|tmp|home|root|Users)/[^\"' ]+)")


def test_nothing_that_ships_names_a_folder_of_the_machine_it_was_made_on():
    shipped = [name for name in tracked() if name.startswith(("assets/", "docs/measured/"))]
    assert len(shipped) > 40
    assert FOLDER.search(b'{"name": "/tmp/runs/x"}')
    for name in shipped:
        found = FOLDER.search((paths.ROOT / name).read_bytes())
        assert found is None, f"{name} names {found[1].decode()}"


def test_the_tree_in_the_readme_is_the_tree_on_disk():
    block = re.search(r"## Layout\n+```\n(.*?)```", README, re.DOTALL)
    assert block
    names = [re.match(r"( *)(\S+)", line).groups() for line in block[1].strip().splitlines()]
    parent = ""
    for indent, name in names:
        place = paths.ROOT / (parent if indent else "") / name
        assert place.exists(), f"README names {place.relative_to(paths.ROOT)}, which is not there"
        parent = parent if indent else name
    folders = {name.split("/")[0] for name in tracked() if "/" in name and name[0] != "."}
    told = {name.rstrip("/") for indent, name in names if not indent and name.endswith("/")}
    assert folders == told


@pytest.mark.parametrize("page", measured_tables.PAGES, ids=lambda page: page.name)
def test_a_table_that_a_page_shows_is_the_one_that_was_measured(page):
    text = page.read_text(encoding="utf-8")
    places = measured_tables.PLACE.findall(text)
    assert len(places) == text.count("<!-- table:") == text.count("<!-- /table -->") > 4
    message = f"run python tools/measured_tables.py: a table of {page.name} is not docs/measured's"
    assert measured_tables.filled(text, paths.ROOT / "docs" / "measured") == text, message


@pytest.mark.parametrize(
    ("place", "told"),
    [("none.md after **b**", "no line begins with"), ("none.md after text", "no table below")],
)
def test_a_table_that_is_not_there_is_named(tmp_path, place, told):
    (tmp_path / "none.md").write_text("| a |\ntext\n")
    with pytest.raises(ValueError, match=f"none.md: {told}"):
        measured_tables.filled(f"<!-- table: {place} -->\n<!-- /table -->", tmp_path)


def test_the_tables_of_two_step_are_those_of_its_numbers():
    content = json.loads((MEASURED / "two_step.json").read_text(encoding="utf-8"))
    seeds = len({key.split("/")[2] for key in content["cells"]})
    written = (MEASURED / "two_step.md").read_text(encoding="utf-8")
    told = re.search(r"spread; (.+)\.\n", written)
    assert told
    assert written == two_step_tables.tables(content["numbers"], "mini", seeds, told[1])


def test_the_tables_and_curves_of_the_downstream_study_are_those_of_its_cells():
    content = json.loads((MEASURED / "rewire_downstream.json").read_text(encoding="utf-8"))
    options = rewire_downstream.Options()
    written = (MEASURED / "rewire_downstream.md").read_text(encoding="utf-8")
    assert written == rewire_tables.table(content, options) + "\n"
    drawn = (MEASURED / "rewire_downstream.svg").read_text(encoding="utf-8")
    assert drawn == rewire_curves.picture(content["cells"]) + "\n"


def test_each_subcommand_is_in_the_readme():
    from refine.cli import COMMANDS

    for command in COMMANDS:
        assert f"refine {command}" in README, f"README does not show: refine {command}"


def test_each_recipe_metric_and_default_is_in_the_methods():
    from refine.metrics import isotropy
    from refine.options import options
    from refine.recipes import RECIPES

    for name, place in RECIPES.items():
        module, cls = place.split(":")
        assert f"`{name}`" in METHODS
        for option in options(getattr(importlib.import_module(module), cls)):
            assert f"`{option.name}`" in METHODS, f"docs/methods.md does not name {option.name}"
    for metric in ("isoscore", "partition_isotropy", "mean_cosine", "effective_rank", "rankme"):
        assert hasattr(isotropy, metric)
        assert f"{metric}" in METHODS


@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.walk_packages(refine.__path__, "refine.")]
)
def test_doctests_hold(name):
    if name == "refine.__main__":
        return
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


def test_links_inside_the_checkout_lead_somewhere():
    for page in [paths.ROOT / "README.md", *paths.ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
