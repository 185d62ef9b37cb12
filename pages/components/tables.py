"""Tables that stand folded below a picture, and are drawn once somebody opens them."""

import pandas as pd
import streamlit as st


def folded(title: str, key: str, table: pd.DataFrame, height: int | None = None) -> None:
    """A table behind a line; downloads as CSV."""
    box = st.expander(title, icon=":material/table:", key=key, on_change="rerun")
    if box.open:
        box.dataframe(table, hide_index=True, key=f"{key}_rows", height=height or "auto")
