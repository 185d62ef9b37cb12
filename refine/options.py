"""Options read off a recipe's frozen dataclass: the form, the command line and the checks share it.

A field is a `bool`, `int`, `float` or `str`, a `Literal`, any of these `| None`, and a range is
written into the type: `learning_rate: Annotated[float, Range(1e-8, 1.0)] = 1e-5`. The docstring
under the field is its help.
"""

import ast
import dataclasses
import inspect
import itertools
import math
import re
import textwrap
import types
import typing
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

T = TypeVar("T")


class OptionError(ValueError):
    """A value that cannot be used. `field` is the option's name, for a form to mark it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True)
class Range:
    """The values a number may take, both ends included. Written inside `Annotated`."""

    low: float
    high: float


@dataclass(frozen=True)
class Option:
    """One field of a recipe: what a form or a table of options needs to show it."""

    name: str
    type: type  # bool, int, float or str; of a Literal, the type of its values
    default: Any  # None where `required`
    help: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    optional: bool = False  # None is allowed
    required: bool = False  # there is no default

    @property
    def expected(self) -> str:
        """What the field accepts, as a piece of a sentence: "1e-8 to 1", "one of: a, b"."""
        if self.choices:
            text = "one of: " + ", ".join(map(str, self.choices))
        elif self.low is not None and self.high is not None:
            whole = "a whole number from " if self.type is int else ""
            text = f"{whole}{show(self.low)} to {show(self.high)}"
        else:
            names = {bool: "true or false", int: "a whole number", float: "a finite number"}
            text = names.get(self.type, "a text")
        return f"{text}, or none" if self.optional else text


def options(cls: type) -> tuple[Option, ...]:
    """The options of a frozen dataclass, in the order of its fields, inherited ones included."""
    return _options(cls)


@cache
def _options(cls: Hashable) -> tuple[Option, ...]:
    assert isinstance(cls, type)
    hints = typing.get_type_hints(cls, include_extras=True)
    helps = _docstrings(cls)
    return tuple(
        _option(field, hints[field.name], helps.get(field.name, ""))
        for field in dataclasses.fields(cls)
        if field.init
    )


def check(instance: Any) -> None:
    """Refuse a field outside its type, range or choices. Call it in `__post_init__`.

    Raises: `OptionError` naming the field, what it got, what it accepts and what to do.
    """
    for option in options(type(instance)):
        value = getattr(instance, option.name)
        if not _accepts(option, value):
            advice = _advice(option, value)
            raise OptionError(
                option.name, f"got {show(value)}; expected {option.expected}; {advice}"
            )


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """An instance from a form's or a file's values; fields that are absent keep their default.

    Raises: `OptionError` for an unknown key (naming the known ones), a missing or a bad value.
    """
    known = {option.name: option for option in options(cls)}
    for name in values:
        if name not in known:
            raise OptionError(name, f"no such option; {cls.__name__} knows: {', '.join(known)}")
    for name, option in known.items():
        if option.required and name not in values:
            raise OptionError(name, f"missing; expected {option.expected}; give it a value")
    return cls(**{name: _coerce(known[name], value) for name, value in values.items()})


def to_dict(instance: Any) -> dict[str, Any]:
    """The values of an instance, by name, as `from_dict` reads them."""
    return {option.name: getattr(instance, option.name) for option in options(type(instance))}


def to_arguments(instance: Any, cls: type | None = None, base: Any = None) -> list[str]:
    """Command-line flags for the values that differ from the defaults, or from `base`."""
    arguments = []
    for option in options(cls or type(instance)):
        value = getattr(instance, option.name)
        default = option.default if base is None else getattr(base, option.name)
        unchanged = value == default and isinstance(value, bool) == isinstance(default, bool)
        if unchanged and not (option.required and base is None):
            continue
        flag = option.name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        elif str(value).startswith("-"):  # else it reads as a flag of its own
            arguments.append(f"--{flag}={value}")
        else:
            arguments += [f"--{flag}", str(value)]
    return arguments


def show(value: Any) -> str:
    """A value as it reads in a sentence: 1e9, 1e-8, 0.04, 'twin', none."""
    if value is None:
        return "none"
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, float):
        return re.sub(r"e([+-])0*(\d+)", lambda m: "e" + m[1].strip("+") + m[2], f"{value:.6g}")
    return repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."


def _option(field: dataclasses.Field, hint: Any, text: str) -> Option:
    kind, choices, bounds, optional = _unwrap(hint)
    if kind not in (bool, int, float, str):
        raise TypeError(f"{field.name}: {hint} is no option; see the top of refine/options.py")
    default, required = field.default, False
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif default is dataclasses.MISSING:
        default, required = None, True
    low, high = (bounds.low, bounds.high) if bounds else (None, None)
    return Option(field.name, kind, default, text, choices, low, high, optional, required)


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...], Range | None, bool]:
    """Type, choices, range and whether None is allowed, through Annotated, Union and Literal."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind, choices, bounds, optional = _unwrap(arguments[0])
        ranges = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        return kind, choices, ranges[0] if ranges else bounds, optional
    if origin in (typing.Union, types.UnionType):
        kept = [argument for argument in arguments if argument is not type(None)]
        if len(kept) == 1:
            kind, choices, bounds, _ = _unwrap(kept[0])
            return kind, choices, bounds, True
    if origin is Literal:
        values = tuple(choice for choice in arguments if choice is not None)
        if len({type(choice) for choice in values}) == 1:
            return type(values[0]), values, None, None in arguments
    return hint, (), None, False


def _accepts(option: Option, value: Any) -> bool:
    if value is None:
        return option.optional
    if option.choices:
        return any(value == choice and type(value) is type(choice) for choice in option.choices)
    if option.type in (bool, str):
        return isinstance(value, option.type)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if option.type is int and not isinstance(value, int):
        return False
    if not math.isfinite(value):
        return False
    return (option.low is None or value >= option.low) and (
        option.high is None or value <= option.high
    )


def _advice(option: Option, value: Any) -> str:
    if option.choices:
        return "choose one of these"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and option.low is not None and option.high is not None:
        if value > option.high:
            return f"lower it to at most {show(option.high)}"
        if value < option.low:
            return f"raise it to at least {show(option.low)}"
    if option.required or option.default is None:
        return "give such a value"
    return f"the default is {show(option.default)}"


def _coerce(option: Option, value: Any) -> Any:
    """JSON and forms do not keep int and float apart: 1 is a float, 10.0 a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if option.type is float and not option.choices:
        return float(value)
    if option.type is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _docstrings(cls: type) -> dict[str, str]:
    """The strings under the fields of a class and its bases; a subclass has the last word."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        except (OSError, TypeError, SyntaxError):  # built in a session: there is no source
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for node, below in itertools.pairwise(body):
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                text = below.value.value
                if isinstance(text, str):
                    found[node.target.id] = " ".join(inspect.cleandoc(text).split())
    return found
