"""Tables that stand folded below a picture, and are drawn once somebody opens them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

PARTS = ("value", "low", "high", "n", "null", "control", "direction", "definition")


def folded(title: str, key: str, table: pd.DataFrame, height: int | None = None) -> None:
    """A table behind a line; downloads as CSV."""
    box = st.expander(title, icon=":material/table:", key=key, on_change="rerun")
    if box.open:
        box.dataframe(table, hide_index=True, key=f"{key}_rows", height=height or "auto")


def as_csv(table: pd.DataFrame, name: str) -> None:
    """A button that saves what stands above it as text."""
    st.download_button(
        "CSV",
        table.to_csv(index=False),
        f"refine {name}.csv",
        "text/csv",
        key=f"csv_{name}",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
    )


def of_numbers(rows: Iterable[tuple[Mapping[str, str], Mapping[str, Any]]]) -> pd.DataFrame:
    """A row a Number. rows: (what it is of, as columns; the Number as a dict)."""
    return pd.DataFrame([{**of} | {part: one.get(part) for part in PARTS} for of, one in rows])
