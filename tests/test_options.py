"""Options read off a dataclass: one source for the form, the command line and the checks."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from refine import options
from refine.options import Option, OptionError, Range


@dataclass(frozen=True)
class Shared:
    learning_rate: Annotated[float, Range(1e-8, 1.0)] = 1e-5
    """Step size of AdamW,
    as in the paper."""
    seed: int = 0


@dataclass(frozen=True)
class Recipe(Shared):
    positives: Literal["twin", "mixed"] = "twin"
    """What is pulled together."""

    warmup: bool = True
    """Rise slowly."""
    layer: Annotated[int, Range(0, 24)] | None = None
    """Hidden state; none is the mean."""
    note: str = ""

    def __post_init__(self) -> None:
        options.check(self)


@dataclass(frozen=True)
class Needy:
    steps: Annotated[int, Range(1, 10)]

    def __post_init__(self) -> None:
        options.check(self)


def test_options_carry_type_help_choices_and_range() -> None:
    by_name = {option.name: option for option in options.options(Recipe)}
    assert list(by_name) == ["learning_rate", "seed", "positives", "warmup", "layer", "note"]
    assert by_name["learning_rate"] == Option(
        "learning_rate", float, 1e-5, "Step size of AdamW, as in the paper.", (), 1e-8, 1.0
    )
    assert by_name["positives"].choices == ("twin", "mixed")
    assert by_name["positives"].type is str
    layer = by_name["layer"]
    assert (layer.type, layer.optional, layer.low, layer.high) == (int, True, 0, 24)
    assert by_name["seed"].help == ""
    assert options.options(Needy)[0].required


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"learning_rate": 1e9},
            "learning_rate: got 1e9; expected 1e-8 to 1; lower it to at most 1",
        ),
        (
            {"learning_rate": 0.0},
            "learning_rate: got 0; expected 1e-8 to 1; raise it to at least 1e-8",
        ),
        (
            {"learning_rate": math.nan},
            "learning_rate: got nan; expected 1e-8 to 1; the default is 1e-5",
        ),
        (
            {"learning_rate": "fast"},
            "learning_rate: got 'fast'; expected 1e-8 to 1; the default is 1e-5",
        ),
        (
            {"positives": "all"},
            "positives: got 'all'; expected one of: twin, mixed; choose one of these",
        ),
        ({"warmup": 1}, "warmup: got 1; expected true or false; the default is true"),
        ({"seed": 0.5}, "seed: got 0.5; expected a whole number; the default is 0"),
        ({"seed": True}, "seed: got true; expected a whole number; the default is 0"),
        (
            {"layer": 25},
            "layer: got 25; expected a whole number from 0 to 24, or none; lower it to at most 24",
        ),
        ({"note": None}, "note: got none; expected a text; the default is ''"),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence(values: dict, sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        options.from_dict(Recipe, values)
    assert str(caught.value) == sentence
    assert caught.value.field == next(iter(values))


def test_unknown_and_missing_options_are_named() -> None:
    with pytest.raises(OptionError, match=r"lr: no such option; Recipe knows: learning_rate, seed"):
        options.from_dict(Recipe, {"lr": 1})
    with pytest.raises(OptionError, match=r"steps: missing; expected a whole number from 1 to 10"):
        options.from_dict(Needy, {})


def test_a_dict_through_json_is_the_same_instance() -> None:
    recipe = options.from_dict(Recipe, {"learning_rate": 1, "layer": 6.0, "seed": 3})
    assert type(recipe.learning_rate) is float
    assert type(recipe.layer) is int
    assert options.from_dict(Recipe, options.to_dict(recipe)) == recipe


def test_arguments_are_the_values_that_differ() -> None:
    assert options.to_arguments(Recipe(), Recipe) == []
    recipe = Recipe(learning_rate=3e-5, warmup=False, layer=2, note="-x")
    arguments = ["--learning-rate", "3e-05", "--no-warmup", "--layer", "2", "--note=-x"]
    assert options.to_arguments(recipe, Recipe) == arguments
    assert options.to_arguments(recipe, Recipe, base=recipe) == []
    assert options.to_arguments(Needy(3)) == ["--steps", "3"]


def test_the_arguments_are_read_back_by_the_command_line() -> None:
    from refine import cli
    from refine.cli import train

    recipe = Recipe(learning_rate=3e-5, warmup=False, layer=2, note="-x", positives="mixed")
    command = train._command("recipe", Recipe, Recipe())
    flags = ["--encoder", "mini", "--corpus", "demo", *options.to_arguments(recipe)]
    start, values = cli.parse(command, flags, "test")
    assert start.encoder == "mini"
    assert options.from_dict(Recipe, values) == recipe


def test_a_type_that_no_form_can_show_is_a_programming_error() -> None:
    @dataclass(frozen=True)
    class Odd:
        values: list[int]

    with pytest.raises(TypeError, match="values"):
        options.options(Odd)
