"""The command line, one dataclass a subcommand; its fields are the flags, their docstrings help."""

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Protocol, Union

import tyro

from refine.cli import (
    app,
    classes,
    corpus,
    intervene,
    jobs,
    listen,
    measure,
    predict,
    sharing,
    speech,
    subspaces,
    train,
)


class CommandError(ValueError):
    """A command line that cannot be read."""


class Command(Protocol):
    """What every subcommand can do."""

    def run(self) -> int:
        """Do it. Returns the exit code."""


COMMANDS: dict[str, type] = {
    "corpus": corpus.Corpus,
    "train": train.Train,
    "embed": measure.Embed,
    "evaluate": measure.Evaluate,
    "compare": sharing.Compare,
    "curves": sharing.Curves,
    "report": sharing.Report,
    "export": sharing.Export,
    "classes": classes.Classes,
    "subspaces": subspaces.Subspaces,
    "heads": predict.Heads,
    "predict": predict.Predict,
    "synthesise": speech.Synthesise,
    "intervene": intervene.Intervene,
    "listen": listen.Listen,
    "jobs": jobs.Jobs,
    "app": app.App,
}
JOBS: dict[str, type] = {
    "list": jobs.List,
    "show": jobs.Show,
    "stop": jobs.Stop,
    "resume": jobs.Resume,
    "run": jobs.Execute,
}
HEADS: dict[str, type] = {"fit": predict.Fit, "list": predict.List, "delete": predict.Delete}


def run(arguments: list[str]) -> int:
    """Read a command line and do what it says. Returns the exit code."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if verb == "train" and not _asks_for_help(rest):
        return train.run(rest, parse, f"{program()} train")
    if verb == "jobs":
        return _choose(JOBS, rest or ["--help"], f"{program()} jobs", jobs.Jobs.__doc__).run()
    if verb == "heads":
        about = predict.Heads.__doc__
        return _choose(HEADS, rest or ["--help"], f"{program()} heads", about).run()
    if verb == "train":
        arguments = ["train", "--help"]
    return _choose(COMMANDS, arguments or ["--help"], program(), _DESCRIPTION).run()


_DESCRIPTION = "Refine a pretrained speech encoder after pretraining, and see what changed."


def program() -> str:
    """How this program was called."""
    return "refine" if Path(sys.argv[0]).stem == "refine" else "python -m refine"


def parse(kind: Any, arguments: list[str], prog: str, description: str | None = None) -> Any:
    """Read `arguments` as a `kind`. Raises `CommandError` with one sentence instead of a box."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(
                kind,
                args=arguments,
                prog=prog,
                description=description,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
            )
    except SystemExit as ending:
        if not ending.code:
            raise
        raise CommandError(_condense(stderr.getvalue(), prog)) from None


def _choose(commands: dict[str, type], arguments: list[str], prog: str, about: str | None) -> Any:
    kinds = tuple(
        Annotated[kind, tyro.conf.subcommand(name=name)] for name, kind in commands.items()
    )
    return parse(Union[kinds], arguments, prog, about)  # noqa: UP007 - made from a dict


def _asks_for_help(arguments: list[str]) -> bool:
    return not arguments or arguments[0] in ("-h", "--help")


def _condense(box: str, prog: str) -> str:
    """The first box of tyro's as one sentence: its title and its text up to the first rule.

    Where the terminal knows no lines, tyro draws rules of hyphens, and no sides.
    """
    title, lines = "", list[str]()
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        content = line.strip(" │╭╮╰╯|+")
        words = content.strip("─- ")
        is_rule = re.search(r"[─-]{4,}$", content) is not None
        if is_rule and title:
            break
        if is_rule:  # the title stands in the first rule, or on the line above it
            title = words or " ".join(lines)
            lines.clear()
        elif words:
            lines.append(content)
    body = " ".join(lines).rstrip(".") or box.strip()
    head = "" if not title or title.lower() in body.lower() else f"{title}: "
    return f"{head}{body}; see {prog} --help"
