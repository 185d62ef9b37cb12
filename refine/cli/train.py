"""`refine train`: refine an encoder with a recipe, here or in the background.

The flags of a recipe are read off its dataclass, so what the form of the dashboard shows is what
`python -m refine train rewire --help` shows.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, get_type_hints

import tyro

from refine import jobs, options, runs, worker
from refine.cli.console import print_json, say, span, training
from refine.runs import Run, RunError

Flag = tyro.conf.FlagCreatePairsOff[bool]
Parse = Callable[..., Any]


@dataclass(frozen=True)
class Train:
    """Refine an encoder: train RECIPE --help lists a recipe's options."""

    recipe: tyro.conf.Positional[str] = "rewire"
    """The method: rewire."""
    resume: str | None = None
    """Go on with this run (id or folder) from its last checkpoint; takes no recipe."""

    def run(self) -> int:
        """Never called: `run` below reads the flags of the recipe."""
        return 0


@dataclass(frozen=True)
class Start:
    """What to train, and how to run it."""

    encoder: str
    """Name on the hub, folder, run id, or mini."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    preset: str | None = None
    """Named settings to start from; single options go before it."""
    name: str | None = None
    """A name for the run; by default the recipe and the encoder."""
    background: Flag = False
    """Queue it, print its id and return; it outlives this terminal."""
    estimate: Flag = False
    """Only time a few real steps: minutes and memory, nothing is kept."""
    json: Flag = False
    """Print one JSON object at the end."""


@dataclass(frozen=True)
class Continue:
    """Go on with a run from its last checkpoint."""

    resume: str
    """Id of the run, or the start of it, or its folder."""
    background: Flag = False
    """Queue it and return."""
    json: Flag = False
    """Print one JSON object at the end."""


def run(arguments: list[str], parse: Parse, prog: str) -> int:
    """Read and execute the arguments after `train`. Returns the exit code."""
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        known = arguments[1:] if not arguments[0].startswith("-") else arguments
        return _continue(parse(Continue, known, prog))
    if arguments[0].startswith("-"):
        raise RunError(f"train: got {arguments[0]} first; name a recipe, as in: {prog} rewire")
    recipe, rest = arguments[0], arguments[1:]
    cls = worker.recipe_class(recipe)
    base = _base(recipe, cls, _preset_of(rest))
    command = _command(recipe, cls, base)
    start, values = parse(command, rest, f"{prog} {recipe}", _describe(recipe, cls))
    chosen: Any = options.from_dict(cls, values)
    config = {
        "command": "train",
        "recipe": recipe,
        "encoder": start.encoder,
        "corpus": start.corpus,
        "options": options.to_dict(chosen),
        **({"preset": start.preset} if start.preset else {}),
        **({"name": runs.check_name(start.name)} if start.name else {}),
    }
    if start.estimate:
        return _estimate(cls, chosen, start)
    if start.background:
        return _queued(jobs.submit(config), start.json)
    return _work(jobs.claim_here(config), start.json)


def _continue(flags: Continue) -> int:
    found = runs.find(flags.resume)
    if flags.background:
        return _queued(jobs.resume(found), flags.json)
    return _work(jobs.claim_here(found), flags.json)


def _work(run: Run, as_json: bool) -> int:
    """Be the worker of a run, with a progress bar. Returns the exit code."""
    interrupted = False

    def on_stop() -> None:
        nonlocal interrupted
        interrupted = True
        say("stopping after this step, with a checkpoint; Ctrl-C again stops at once")

    say(f"{run.id}: {run.path}")
    with training(run.name) as watch:
        run.watch = watch
        try:
            status = worker.execute(run, on_stop)
        finally:
            run.watch = None
    jobs.advance(run.path.parent)
    final = run.checkpoints / "final"
    if as_json:
        encoder = str(final) if final.is_dir() else None
        print_json(
            {
                "run": run.id,
                "path": str(run.path),
                "state": status.state,
                "message": status.message,
                "step": status.step,
                "total": status.total,
                "encoder": encoder,
            }
        )
    if status.state == "finished":
        if not as_json:
            print(f"finished: {final}")
        return 0
    say(f"{status.state}: {status.message}")
    if status.state == "failed":
        return 1 if status.message.endswith("see log.txt") else 2
    say(f"resume with: python -m refine train --resume {_reference(run)}")
    return 130 if interrupted else 0


def _reference(run: Run) -> str:
    """How to name a run so that it is found again: by its id, or elsewhere by its folder."""
    try:
        return run.id if runs.find(run.id) == run else os.path.relpath(run.path)
    except RunError:
        return os.path.relpath(run.path)


def _queued(run: Run, as_json: bool) -> int:
    state = run.status().state
    if as_json:
        print_json({"run": run.id, "path": str(run.path), "state": state})
    else:
        print(run.id)
        say(f"{state}; watch it with: python -m refine jobs show {run.id}")
    return 0


def _estimate(cls: type, chosen: Any, start: Start) -> int:
    found = importlib.import_module(cls.__module__).estimate(chosen, start.encoder, start.corpus)
    if start.json:
        print_json(found)
        return 0
    print(
        f"{found['seconds_per_step']:.2f} s a step, about {span(found['minutes'] * 60)} in all, "
        f"{found['peak_mb'] / 1000:.1f} GB of memory, on {found['device']} in {found['precision']}"
    )
    return 0


def _preset_of(arguments: list[str]) -> str | None:
    """The preset is needed before the rest is read: the options' defaults are its values."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--preset="):
            return argument.partition("=")[2]
        if argument == "--preset" and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def _base(recipe: str, cls: type, preset: str | None) -> Any:
    presets = getattr(importlib.import_module(cls.__module__), "PRESETS", {})
    if preset is None:
        return cls()
    if preset not in presets:
        known = ", ".join(presets) or "none"
        raise RunError(f"preset: got {preset!r}; {recipe} has: {known}")
    return presets[preset].config


def _describe(recipe: str, cls: type) -> str:
    presets = getattr(importlib.import_module(cls.__module__), "PRESETS", {})
    lines = [(cls.__doc__ or recipe).strip(), ""]
    lines += [f"--preset {name}: {preset.reason}." for name, preset in presets.items()]
    lines += ["", "An interrupted run goes on with: python -m refine train --resume RUN"]
    return "\n".join(lines)


def _command(recipe: str, cls: type, base: Any) -> Callable[..., Any]:
    """A function whose flags are `Start`'s and the recipe's, the latter unchecked as yet.

    tyro puts what a dataclass refuses into a box; read into a plain twin and checked afterwards,
    the refusal is the same sentence that a form shows.
    """
    known = {option.name: option for option in options.options(cls)}
    types = get_type_hints(cls, include_extras=True)
    twin = make_dataclass(
        f"{cls.__name__} options",
        [
            (
                name,
                Annotated[types[name], tyro.conf.arg(help=_help(option))],
                field(default=getattr(base, name)),
            )
            for name, option in known.items()
        ],
    )
    twin.__doc__ = f"Options of {recipe}."

    def command(start: Start, recipe: Any) -> tuple[Start, dict[str, Any]]:
        return start, {name: getattr(recipe, name) for name in known}

    command.__annotations__ = {"start": Start, "recipe": twin}
    command.__defaults__ = (twin(),)
    return command


def _help(option: options.Option) -> str:
    bounded = option.low is not None or option.high is not None
    return f"{option.help} [{option.expected}]" if bounded else option.help
