"""The live panel: a component that listens, draws the answers, and asks for no rerun to do so."""

import json
from functools import cache
from typing import Any

import streamlit as st

from pages.components import theme
from refine import paths

SCRIPTS = ("../element.js", "sound.js", "draw.js", "view.js")  # the last one holds the export
HINTS = {
    "arabic_commands": "the words are spoken in Arabic (zero is “sifr”, one “wahid”)",
    "emodb": "played by ten German actors",
}


@cache
def _assets() -> tuple[str, str]:
    folder = paths.ASSETS / "live"
    scripts = [(folder / name).read_text(encoding="utf-8") for name in SCRIPTS]
    thread = json.dumps((folder / "line.js").read_text(encoding="utf-8"))
    style = (folder / "live.css").read_text(encoding="utf-8")
    return "\n".join([f"const LINE = {thread};", *scripts]), style


def draw(key: str, data: dict[str, Any]) -> Any:
    """Mount the panel. Returns its triggers: stopped, chosen, renew.

    Args:
        data: token, path, source, roles, names, cloud, replay: see `assets/live/view.js`.
    """
    script, style = _assets()
    panel = st.components.v2.component("refine_live", html="<div></div>", css=style, js=script)
    return panel(
        key=key,
        data=data | {"colors": colors(), "hints": HINTS},
        on_stopped_change=lambda: None,
        on_chosen_change=lambda: None,
        on_renew_change=lambda: None,
    )


def colors() -> dict[str, Any]:
    """The colours of the charts, for a canvas that knows no style sheet."""
    # amber is too light for words on paper; the theme's own orange text is not
    words = "#F0A552" if theme.dark() else "#9A560C"
    return {
        "before": theme.before(),
        "beforeText": words,
        "after": theme.after(),
        "ink": theme.ink(),
        "quiet": theme.quiet(),
        "paper": theme.paper(),
        "palette": theme.palette(),
    }
