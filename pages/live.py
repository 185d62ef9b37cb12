"""Live: talk, and both encoders answer side by side."""

import io
from typing import Any

import numpy as np
import streamlit as st

from pages.components import commands, guard, live_panel, measuring, pair, pickers, player
from refine import audio, heads, jobs
from refine.corpus import Corpus
from refine.corpus_sources import store_uploads
from refine.live import cloud, hub, recording, route, sources

BARE = 40  # clips
SOURCES = {
    "browser": ":material/mic: this browser",
    "clip": ":material/audio_file: a clip",
    "record": ":material/radio_button_checked: record, then ask",
    "device": ":material/computer: the server's microphone",
}


def draw() -> None:
    st.title("Say something.")
    before, after = pair.encoders()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        source = choose_source()
        with st.popover("Map", icon=":material/scatter_plot:"):
            corpus, split = choose_map()
    settings: dict[str, Any] = {"before": before, "after": after}
    offer_heads(before, after)
    drawn = measured(before, after, corpus, split) if corpus else None
    if drawn:
        settings["cloud"] = drawn
    listen(settings, source, corpus)
    commands.show(
        ["listen", "--encoder", after or before]
        + (["--file", str(st.session_state.get("live_clip"))] if source == "clip" else []),
        "The same in the terminal",
    )


def choose_source() -> str:
    """Where the sound comes from."""
    asked = st.query_params.get("source")
    chosen = st.segmented_control(
        "Sound from",
        list(SOURCES),
        default=asked if asked in SOURCES else "browser",
        key="live_source",
        format_func=lambda name: SOURCES[name],
        required=True,
    )
    pickers.keep("source", chosen if chosen != "browser" else None)
    return str(chosen)


def offer_heads(before: str, after: str | None) -> None:
    """One click to teach the heads that are missing."""
    missing = [name for name in (before, after) if name and not usable(name)]
    if not missing:
        return
    named = player.escape(" and ".join(map(pickers.encoder_label, missing)))
    st.info(
        f"{named} has not been taught to answer yet: choose recordings and a factor, and its head "
        "is fitted in the background.",
        icon=":material/school:",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        listed = pickers.found_corpora()
        source = st.selectbox("Recordings", listed, len(listed) - 1, pickers.corpus_label)
        factors = pickers.opened(source).factors if source else []
        factor = st.selectbox("Factor", factors)
        asked = [{"encoder": name, "corpus": source, "factor": factor} for name in missing]
        st.button(
            "Teach it",
            key="live_teach_it",
            icon=":material/school:",
            disabled=not factor,
            on_click=st.session_state.update,
            args=({"live_teach": asked},),
        )
    if factor:
        commands.several(
            [
                ["heads", "fit", "--encoder", name, "--corpus", source, "--factor", factor]
                for name in missing
            ],
            "Teach it from the command line",
        )
    questions = st.session_state.get("live_teach") or []
    tasks = {one["encoder"]: jobs.task("heads", one) for one in questions}
    if tasks:
        measuring.watch(tasks, {name: name for name in tasks})


def usable(name: str) -> bool:
    """Whether an encoder has a head for its present state."""
    if isinstance(pickers.described(name), str):
        return True  # the panel says what is wrong with it
    return any(not head.stale for head in heads.find(name))


def choose_map() -> tuple[Corpus | None, str]:
    """The corpus that stands still on the map."""
    asked = st.query_params.get("map") != "off"
    shown = st.toggle("Show the voice on a map of", key="live_map", value=asked)
    pickers.keep("map", None if shown else "off")
    if not shown:
        return None, "all"
    corpus = pickers.opened(pickers.choose_corpus())
    split = pair.choose_split(corpus)
    if len(corpus.table) < BARE:
        st.caption(
            f"{len(corpus.table)} clips make a bare map; one of some hundreds, as of *demo*, has "
            "more to stand beside."
        )
    return corpus, split


def measured(
    before: str, after: str | None, corpus: Corpus, split: str
) -> dict[str, dict[str, Any]] | None:
    """The tables of the map, or None while they are being made."""
    names = {"before": before} | ({"after": after} if after else {})
    with guard.sentences():
        results = measuring.results(names, str(st.session_state["corpus"]), corpus, split)
        if results:
            return {role: recording.table(names[role], one) for role, one in results.items()}
    return None


def listen(settings: dict[str, Any], source: str, corpus: Corpus | None) -> None:
    """The panel, and what was heard."""
    shared = hub.shared()
    session = shared.session(st.session_state.get("live_token"), **settings)
    if st.session_state.get("live_token") != session.token:
        st.session_state["live_token"] = session.token
    shared.warm(settings)
    replay: dict[str, Any] = {}
    if source == "clip":
        session.clip = choose_clip()
    elif source == "device":
        session.device = choose_device()
    elif source == "record":
        replay = recorded(shared, session, settings)
    names = {"before": settings["before"], "after": settings["after"]}
    said = live_panel.draw(
        "live_panel",
        {
            "token": session.token,
            "path": route.PATH,
            "pair": f"{settings['before']}|{settings['after']}",
            "source": source,
            "roles": ["before", *(["after"] if settings["after"] else [])],
            "names": {
                role: f"{role} · {pickers.encoder_label(name)}"
                for role, name in names.items()
                if name
            },
            "cloud": points(settings.get("cloud")),
            **replay,
        },
    )
    if said.renew and said.renew != st.session_state.get("live_renewed"):
        st.session_state["live_renewed"] = said.renew
        st.rerun()
    if said.chosen is not None and corpus is not None and settings.get("cloud"):
        clip = str(cloud.load(settings["cloud"]).table["clip"].iloc[int(said.chosen)])
        with st.container(border=True, key="card_nearest"):
            player.play(corpus, clip, "live_nearest", autoplay=True, wide=True)
    with guard.sentences():
        heard(session)


def choose_clip() -> np.ndarray | None:
    """A shipped clip, a file of the chosen corpus, or a path."""
    listed = recording.clips()
    chosen = pickers.choose(
        "live_clip", "Clip, played as if it were live", listed, listed[0], recording.label
    )
    with guard.sentences():
        return audio.load(chosen) if chosen else None
    return None


def choose_device() -> int | None:
    """A microphone of the computer that serves this page."""
    with guard.sentences():
        found = sources.devices()
        chosen = st.selectbox(
            "Microphone of the computer that serves this page",
            found,
            next((i for i, one in enumerate(found) if one.default), 0),
            lambda one: one.name,
        )
        return chosen.index if chosen else None
    return None


def recorded(shared: hub.Hub, session: hub.Session, settings: dict[str, Any]) -> dict[str, Any]:
    """Record, then ask: for networks and browsers where streaming does not pass."""
    clip = st.audio_input("Record, then both encoders answer", sample_rate=audio.SAMPLE_RATE)
    if clip is None:
        return {}
    with guard.sentences():
        data = clip.getvalue()
        known = st.session_state.get("live_recorded")
        digest = f"{audio.content_hash(data)}{settings}"
        if known is None or known[0] != digest:
            waveform = audio.load(io.BytesIO(data))
            with st.spinner("Asking both encoders …"):
                messages = shared.answer(settings, waveform)
            session.clear()
            session.keep(hub.to_pcm(waveform))
            st.session_state["live_recorded"] = known = (digest, messages)
        return {"replay": known[1], "replay_id": digest[:32]}
    return {}


def points(spec: dict[str, Any] | None) -> dict[str, Any] | None:
    """The still points of the map, as the panel draws them."""
    if not spec:
        return None
    with guard.sentences():
        return recording.points(cloud.load(spec))
    return None


def heard(session: hub.Session) -> None:
    """Play back, save or pass on what was heard. It is in memory until somebody asks."""
    waveform = session.captured()
    if session.listener is not None or len(waveform) < audio.MIN_SAMPLES:
        return
    st.subheader("What was heard")
    wav = recording.wav(waveform)
    st.audio(wav, format="audio/wav")
    with st.container(horizontal=True):
        st.download_button("Save", wav, "live.wav", "audio/wav", icon=":material/download:")
        st.button(
            "Use as a corpus clip", icon=":material/library_music:", on_click=send, args=(wav,)
        )
        st.button("Forget it", icon=":material/delete:", on_click=session.clear)
    st.caption("It is in the memory of this server only, and gone with it, unless you save it.")
    if st.session_state.pop("live_sent", False):
        st.switch_page("pages/corpora.py")


def send(wav: bytes) -> None:
    """Make what was heard a corpus, which the other pages find."""
    file = io.BytesIO(wav)
    file.name = "live.wav"
    st.session_state["corpus"] = str(store_uploads([file]))
    st.session_state["live_sent"] = True


guard.page(draw)
