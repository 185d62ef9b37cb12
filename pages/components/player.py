"""One clip: hear it, see its waveform and log-mel spectrogram, read what is known of it."""

import numpy as np
import streamlit as st

from pages.components import guard, picture, sound
from pages.components.picture import Picture
from refine.audio import SAMPLE_RATE, AudioError
from refine.corpus import Corpus
from refine.drawing import Look


def play(
    corpus: Corpus, clip: str, key: str, *, autoplay: bool = False, wide: bool = False
) -> None:
    """Draw one clip of a corpus.

    Args:
        autoplay: when a click asked for it.
        wide: words beside the picture instead of around it.
    """
    row = corpus.table.loc[corpus.table["clip"] == clip].iloc[0]
    left, right = st.columns([2, 3], gap="large") if wide else (st.container(), st.container())
    with left:
        st.markdown(f"**{escape(clip)}** &ensp;:gray[{row['duration_s']:.2f} s · {row['split']}]")
        try:
            waveform = corpus.waveform(clip)
        except AudioError as error:
            st.error(guard.plain(str(error)), icon=":material/error:")
            return
        st.audio(waveform, sample_rate=SAMPLE_RATE, autoplay=autoplay, alt=f"Recording {clip}")
    with right:
        look = picture.look()
        alt = f"Waveform and log-mel spectrogram of {clip}"
        picture.show(_drawn(waveform, look, wide), key, alt, 840 if wide else 560)
    with left if wide else right:
        known = [(name, row[name]) for name in corpus.factors if row[name]]
        if known:
            st.markdown(" ".join(f":gray-badge[{escape(f)}: {escape(v)}]" for f, v in known))
        if row["text"]:
            st.markdown(f"> {escape(row['text'])}")


def escape(text: str) -> str:
    """A label from somebody's file, shown as text and never as markup."""
    special = "\\`*_{}[]()#+-.!|<>~$:&"
    return "".join(f"\\{c}" if c in special else c for c in str(text)).replace("\n", " ")


@st.cache_data(max_entries=64, show_spinner=False)
def _drawn(waveform: np.ndarray, look: Look, wide: bool) -> Picture:
    return sound.drawn(waveform, look, wide)
