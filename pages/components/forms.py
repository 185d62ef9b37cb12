"""A form read off a recipe's dataclass. The recipe checks the values; its sentence stands here."""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import streamlit as st

from pages.components.player import escape
from refine.options import Option, OptionError, from_dict, options, show

T = TypeVar("T")
COLUMNS = 3


def fill(cls: type[T], start: T, basic: Sequence[str], key: str) -> T | None:
    """Draw the options of `cls`, the `basic` ones open, the others once they are unfolded.

    Args:
        start: where the fields begin (a preset).
        key: the fields keep their values for the session, one set a key.
    Returns: a checked instance, or None while a value is refused (its sentence is shown).
    """
    known = {option.name: option for option in options(cls)}
    first = [known[name] for name in basic if name in known]
    rest = [option for option in known.values() if option not in first]
    values: dict[str, Any] = {}
    refused: list[OptionError] = []
    _grid(cls, first, start, key, values, refused)
    if rest:
        typed = _typed(rest, key)
        changed = [o for o in rest if _changed(o, typed, start)]
        if any(_refusal(cls, option, typed[option.name]) for option in changed):
            st.session_state[f"{key}/more"] = True  # what is refused is seen at its field
        box = st.expander(
            f"{len(rest)} more options", icon=":material/tune:", key=f"{key}/more",
            on_change="rerun",
        )  # fmt: skip
        if box.open:
            with box:
                _grid(cls, rest, start, key, values, refused)
        else:
            values |= {o.name: getattr(start, o.name) for o in rest}
            values |= {o.name: _value(o, typed[o.name]) for o in changed}
    differ = [o for o in known.values() if _changed(o, _typed(known.values(), key), start)]
    if differ:
        st.button(
            f"Back to the preset: {len(differ)} changed", key=f"{key}/back",
            icon=":material/undo:", type="tertiary", on_click=_forget,
            args=([f"{key}/{name}" for name in known],),
        )  # fmt: skip
    if refused:
        return None
    try:
        return from_dict(cls, values)
    except OptionError as error:  # two values that do not go together
        st.error(escape(str(error)), icon=":material/error:")
        return None


def presets(cls: type) -> dict[str, Any]:
    """The named presets of a recipe: each a configuration and its reason."""
    return dict(getattr(importlib.import_module(cls.__module__), "PRESETS", {}))


def _grid(
    cls: type,
    some: Sequence[Option],
    start: Any,
    key: str,
    values: dict[str, Any],
    refused: list[OptionError],
) -> None:
    for row in range(0, len(some), COLUMNS):
        for column, option in zip(st.columns(COLUMNS), some[row : row + COLUMNS], strict=False):
            with column:
                raw = _field(option, getattr(start, option.name), f"{key}/{option.name}")
                error = _refusal(cls, option, raw)
                if error:
                    st.markdown(f":red[{escape(str(error))}]")
                    refused.append(error)
                else:
                    values[option.name] = _value(option, raw)


def _field(option: Option, value: Any, key: str) -> Any:
    """The widget of one option. Ranges are checked by the recipe, which says why."""
    label = option.name.replace("_", " ").capitalize()
    text = f"{option.help} Accepts {option.expected}." if option.help else option.expected
    if option.type is bool:
        return st.toggle(label, value, key=key, help=text, persist_state="session")
    if option.choices:
        names: list[Any] = [*([None] if option.optional else []), *option.choices]
        draw: Any = st.segmented_control if _short(names) else st.selectbox
        where: dict[str, Any] = (
            {"default": value, "required": True} if _short(names) else {"index": names.index(value)}
        )
        where["persist_state"] = "session"  # while it is folded, or another page is read
        return draw(label, names, key=key, help=text, format_func=show_plain, **where)
    return st.text_input(label, show_plain(value), key=key, help=text, persist_state="session")


def _typed(some: Iterable[Option], key: str) -> dict[str, Any]:
    """What the fields say, of those that were drawn before."""
    state = st.session_state
    return {o.name: state[f"{key}/{o.name}"] for o in some if f"{key}/{o.name}" in state}


def _changed(option: Option, typed: dict[str, Any], start: Any) -> bool:
    """Whether a field says something else than the preset."""
    if option.name not in typed:
        return False
    return bool(_value(option, typed[option.name]) != getattr(start, option.name))


def _forget(keys: Sequence[str]) -> None:
    for key in keys:
        st.session_state.pop(key, None)


def _refusal(cls: type, option: Option, raw: Any) -> OptionError | None:
    """Why the recipe does not take this value, or None."""
    try:
        from_dict(cls, {option.name: _value(option, raw)})
    except OptionError as error:
        return error if error.field == option.name else None
    return None


def _value(option: Option, raw: Any) -> Any:
    """A typed text as the option's type; what cannot be read stays a text, to be refused."""
    if not isinstance(raw, str) or option.choices:
        return raw
    text = raw.strip()
    if option.optional and text.lower() in ("", "none"):
        return None
    if option.type is str:
        return text
    try:
        number = float(text.replace(" ", "").replace(",", "."))
    except ValueError:
        return text
    return int(number) if option.type is int and number.is_integer() else number


def show_plain(value: Any) -> str:
    """A value as one would type it."""
    return value if isinstance(value, str) else show(value)


def _short(names: Sequence[Any]) -> bool:
    return len(names) <= 3 and sum(len(str(name)) for name in names) <= 14
