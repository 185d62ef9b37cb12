"""The frame: navigation and name. `streamlit run app.py`, or `python -m refine app`."""

from pathlib import Path

import streamlit as st

THEME = Path(__file__).parent / "assets" / "theme"

st.set_page_config(
    page_title="refine",
    page_icon=str(THEME / "mark.svg"),
    layout="wide",
    initial_sidebar_state=250,  # px
)
st.html(THEME / "style.css")
dark = st.context.theme.type == "dark"
st.logo(
    THEME / f"logo-{'dark' if dark else 'light'}.svg", size="large", icon_image=THEME / "mark.svg"
)

pages = {
    "": [st.Page("pages/overview.py", title="Overview", icon=":material/home:", default=True)],
    "Refine": [
        st.Page("pages/corpora.py", title="Corpora", icon=":material/library_music:"),
        st.Page("pages/train.py", title="Train", icon=":material/model_training:"),
    ],
    "See what changed": [
        st.Page("pages/isotropy.py", title="Isotropy", icon=":material/blur_on:"),
    ],
}
st.navigation(pages).run()
