"""docs/methods.md in pieces: sections, their tables row by row, equations. The one source.

for section in sections():
    section.title, section.lead, [part.rows for part in section.parts]
"""

import re
from dataclasses import dataclass
from pathlib import Path

from refine import paths

DOCUMENT = paths.ROOT / "docs" / "methods.md"
DEVIATION = ("deviation", "choice")  # in the head of a table: where we differ from the paper
NONE = ("none", "—", "–", "-", "")  # how a cell says that there is no deviation


class MethodsError(ValueError):
    """A document that is not there or has no sections. The message says which."""


@dataclass(frozen=True)
class Part:
    """A stretch of a section: text, an equation, or a table. `title` stands before it."""

    title: str = ""
    text: str = ""
    latex: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def deviation(self) -> int | None:
        """The column that says where we deviate, or None."""
        words = [name.lower() for name in self.head]
        found = [i for i, name in enumerate(words) if any(word in name for word in DEVIATION)]
        return found[-1] if found else None

    @property
    def has_deviations(self) -> bool:
        """Whether some rows say that we deviate and some that we do not."""
        return bool(self.rows) and len(deviating(self)) not in (0, len(self.rows))


@dataclass(frozen=True)
class Section:
    """A heading of the second level and what stands below it."""

    key: str  # for the address
    title: str
    short: str  # for the contents
    lead: str  # the first paragraph: paper and links
    parts: tuple[Part, ...]


def sections(document: Path = DOCUMENT) -> list[Section]:
    """Every section in order. Raises `MethodsError` without a readable document."""
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise MethodsError(f"{document}: cannot be read; copy docs/methods.md again") from error
    chunks = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    if not chunks:
        raise MethodsError(f"{document}: no section in it; copy docs/methods.md again")
    return [_section(chunk) for chunk in chunks]


def deviating(part: Part) -> tuple[tuple[str, ...], ...]:
    """The rows that deviate."""
    column = part.deviation
    if column is None:
        return part.rows
    return tuple(row for row in part.rows if not _is_none(row[column]))


def table(part: Part, only_deviating: bool = False) -> str:
    """A table as markdown again, its first column bold."""
    rows = deviating(part) if only_deviating else part.rows
    if not rows:
        return "*No row of this table deviates.*"
    lines = [part.head, ["---"] * len(part.head)]
    lines += [[_bold(row[0]), *row[1:]] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _section(chunk: str) -> Section:
    title, _, body = chunk.partition("\n")
    title = title.strip()
    plain = re.sub(r"[`*]", "", title)
    short = plain.split(":")[0].strip()
    key = re.sub(r"[^a-z0-9_]+", "-", short.lower()).strip("-")
    parts = _parts(body)
    lead = ""
    if parts and parts[0].text and not parts[0].title:
        lead, parts = parts[0].text, parts[1:]
    heading = plain[:1].upper() + plain[1:] if "`" not in title else plain
    return Section(key, heading, short, lead, tuple(parts))


def _parts(body: str) -> list[Part]:
    """Blocks between blank lines; fences and tables stay whole."""
    parts: list[Part] = []
    title = ""
    for block in _blocks(body):
        if block.startswith("### "):
            title = block[4:].strip()
            continue
        if block.startswith("```math"):
            part = Part(title, latex="\n".join(block.splitlines()[1:-1]).strip())
        elif block.startswith("|"):
            part = _table(title, block)
        else:
            part = Part(title, text=_unlink(block))
        # the first paragraph and those that follow it until a table belong together
        if parts and part.text and parts[-1].text and not part.title:
            last = parts.pop()
            part = Part(last.title, text=f"{last.text}\n\n{part.text}")
        parts.append(part)
        title = ""
    return parts


def _blocks(body: str) -> list[str]:
    blocks: list[list[str]] = [[]]
    fenced = False
    for line in body.splitlines():
        opens = line.startswith("```")
        heading = line.startswith("### ") and not fenced
        starts = (opens and not fenced) or heading
        if (not line.strip() and not fenced) or (starts and blocks[-1]):
            blocks.append([])
        if line.strip() or fenced:
            blocks[-1].append(line)
        if heading or (opens and fenced):
            blocks.append([])
        fenced ^= opens
    return ["\n".join(block) for block in blocks if block]


def _table(title: str, block: str) -> Part:
    rows = [_cells(line) for line in block.splitlines() if line.startswith("|")]
    head, body = rows[0], rows[2:]
    width = len(head)
    filled = tuple(tuple([*row, *[""] * width][:width]) for row in body)
    return Part(title, head=tuple(head), rows=filled)


def _cells(line: str) -> list[str]:
    """The cells of a row; an escaped bar does not end one."""
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", inner)]


def _bold(cell: str) -> str:
    return f"**{cell}**" if cell and "*" not in cell and "`" not in cell else cell


def _is_none(cell: str) -> bool:
    """ "none", "none; tested against …": what follows is no deviation."""
    first = re.split(r"[;.,]", cell)[0].strip().lower()
    return first in NONE


def _unlink(text: str) -> str:
    """Links within the document lead nowhere on a page: their words stay."""
    return re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", text)
