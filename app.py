"""The frame, and the server beside it. `streamlit run app.py`, or `python -m refine app`.

Streamlit reads this file twice: once to find `app`, which adds the WebSocket of the live page to
its own routes, and then as the script of every visit, which draws the frame.
"""

from pathlib import Path

import streamlit as st
from starlette.routing import WebSocketRoute
from streamlit.runtime.scriptrunner import get_script_run_ctx

from refine import sockets
from refine.live import route

THEME = Path(__file__).parent / "assets" / "theme"
SCRIPTS = "\n".join(
    (THEME / name).read_text(encoding="utf-8")
    for name in ("back.js", "downloads.js", "pointing.js", "follow.js")
)


@st.cache_resource(show_spinner=False)
def prompt() -> int:
    """Once a server: what it says to a browser leaves at once."""
    return sockets.send_at_once()


def frame() -> None:
    """Navigation and name."""
    st.set_page_config(
        page_title="refine",
        page_icon=str(THEME / "mark.svg"),
        layout="wide",
        initial_sidebar_state=250,  # px
    )
    prompt()
    st.html(THEME / "style.css")
    with st.container(key="scripts"):  # not displayed
        st.html(f"<script>{SCRIPTS}</script>", unsafe_allow_javascript=True)
        st.button("Draw in the present theme", key="theme_changed")  # pressed by follow.js
    dark = st.context.theme.type == "dark"
    st.logo(
        THEME / f"logo-{'dark' if dark else 'light'}.svg",
        size="large",
        icon_image=THEME / "mark.svg",
    )

    pages = {
        "": [st.Page("pages/overview.py", title="Overview", icon=":material/home:", default=True)],
        "Refine": [
            st.Page("pages/corpora.py", title="Corpora", icon=":material/library_music:"),
            st.Page("pages/train.py", title="Train", icon=":material/model_training:"),
        ],
        "See what changed": [
            st.Page("pages/isotropy.py", title="Isotropy", icon=":material/blur_on:"),
            st.Page("pages/classes.py", title="Classes", icon=":material/category:"),
            st.Page("pages/subspaces.py", title="Subspaces", icon=":material/join_inner:"),
            st.Page("pages/compare.py", title="Compare", icon=":material/compare_arrows:"),
        ],
        "Live": [
            st.Page("pages/live.py", title="Live", icon=":material/mic:"),
        ],
        "Learn": [
            st.Page("pages/lessons.py", title="Lessons", icon=":material/school:"),
            st.Page("pages/methods.py", title="Methods", icon=":material/menu_book:"),
        ],
    }
    st.navigation(pages).run()


if get_script_run_ctx(suppress_warning=True) is None:
    app = st.App(__file__, routes=[WebSocketRoute(route.PATH, route.live)])
else:
    frame()
