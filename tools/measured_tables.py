"""Copy tables of docs/measured into the pages that show them, so that no figure is typed.

    python tools/measured_tables.py            # README.md, docs/measured.md

A place begins with `<!-- table: FILE -->` or `<!-- table: FILE after TEXT -->` and ends with
`<!-- /table -->`; what stands between becomes the first table of docs/measured/FILE, below the
first line that begins with TEXT. A test asks that nothing is left to copy.
"""

import re
from pathlib import Path

import tyro

from refine import paths

PLACE = re.compile(r"(<!-- table: (\S+?)(?: after (.+?))? -->\n)(.*?)(<!-- /table -->)", re.DOTALL)
PAGES = (paths.ROOT / "README.md", paths.ROOT / "docs" / "measured.md")


def filled(text: str, folder: Path) -> str:
    """The page with every place filled from the files of a folder.

    Raises: `ValueError` naming the file and the text that is not there.
    """

    def table(found: re.Match[str]) -> str:
        opening, name, after, _, closing = found.groups()
        return f"{opening}\n{_table(folder / name, after)}\n\n{closing}"

    return PLACE.sub(table, text)


def _table(path: Path, after: str | None) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(after or "")]
    if not starts:
        raise ValueError(f"{path.name}: no line begins with {after!r}")
    rest = lines[starts[0] :]
    first = next((i for i, line in enumerate(rest) if line.startswith("|")), None)
    if first is None:
        raise ValueError(f"{path.name}: no table below {after!r}")
    last = next((i for i, line in enumerate(rest) if i > first and not line.startswith("|")), None)
    return "\n".join(rest[first:last])


def main(pages: tuple[Path, ...] = PAGES) -> None:
    """Fill the places of some pages from docs/measured."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text, paths.ROOT / "docs" / "measured"), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
