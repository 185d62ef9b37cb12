"""The intervention bench: change the voice or the words, hear both, see which subspace moved."""

from dataclasses import asdict, replace
from typing import Any

import streamlit as st

from pages.components import bench_answer, commands, guard, pickers, picture
from pages.components.bench_answer import FIELDS, Bench, Moved, put
from pages.components.player import escape as md
from pages.components.sound import outline
from refine import interventions, listening
from refine.audio import SAMPLE_RATE, Waveform
from refine.demo import sentences
from refine.interventions import BEFORE, PRESETS, VOICES, Utterance
from refine.synthesis import RANGES

SPEAK, RECORDED = "Speak a sentence", "Two recordings"
SOURCES = {"speak": SPEAK, "recorded": RECORDED}
SIDES = {"first": "First", "second": "Second"}
SLIDERS = {"rate": ("Words a minute", 1), "pitch": ("Pitch", 1)}
LISTED = 1_000  # clips in a select box
WAIT_S = 1.2  # a warm answer comes in the same redraw
ICONS = {
    "voice": ":material/record_voice_over:",
    "words": ":material/notes:",
    "both": ":material/shuffle:",
    "rate": ":material/speed:",
    "pitch": ":material/music_note:",
    "nothing": ":material/equal:",
}
KIND_PRESETS = {  # of recordings: what the pair shares
    "other voice, same words": ("Same words, another voice", ICONS["voice"]),
    "same voice, other words": ("Same voice, other words", ICONS["words"]),
    "other voice, other words": ("Both", ICONS["both"]),
    "same voice, same words": ("The same said twice", ICONS["nothing"]),
}


@st.fragment
def draw(bench: Bench) -> None:
    """The whole bench; what is changed here redraws the bench alone."""
    with guard.sentences():
        listening.warm(list(bench.encoders.values()))
        begin(bench)
        source = st.segmented_control(
            "Source",
            list(SOURCES),
            key="bench_source",
            format_func=SOURCES.__getitem__,
            required=True,
            label_visibility="collapsed",
        )
        pickers.keep("bench", source)
        moved = spoken(bench) if source == "speak" else recorded(bench)
        if moved is not None:
            # until there is an answer the bench is drawn several times, and the sound goes on
            st.session_state["bench_play"] = False
            bench_answer.draw(bench, moved)
            command(bench, moved)


def begin(bench: Bench) -> None:
    """Fill the fields from the address, once."""
    state, asked = st.session_state, st.query_params
    if "bench_source" not in state:
        state["bench_source"] = asked.get("bench") if asked.get("bench") in SOURCES else "speak"
    first = Utterance(sentences()[0], VOICES[0])
    start = {"first": first, "second": replace(first, voice=VOICES[1])}
    for side, utterance in start.items():
        if f"bench_{side}_text" not in state:
            put(side, read(asked.get(side), utterance))
    if "bench_clip_first" not in state:
        known = set(bench.spaces.table["clip"])
        clips = [asked.get(f"clip_{side}", "") for side in SIDES]
        if not known.issuperset(clips):
            clips = a_pair(bench, next(iter(KIND_PRESETS)), 0) or list(
                bench.spaces.table["clip"].iloc[:2]
            )
        for side, clip in zip(SIDES, clips, strict=True):
            state[f"bench_clip_{side}"] = clip
    state.setdefault("bench_history", [])


def read(text: str | None, default: Utterance) -> Utterance:
    """An utterance out of the address; what cannot be read is as by default."""
    parts = (text or "").split("~", 3)
    if len(parts) != 4 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return default
    made = Utterance(parts[3], parts[0], int(parts[1]), int(parts[2]))
    inside = [RANGES[field][0] <= getattr(made, field) <= RANGES[field][1] for field in SLIDERS]
    return made if all(inside) else default


def write(utterance: Utterance) -> str:
    return f"{utterance.voice}~{utterance.rate}~{utterance.pitch}~{utterance.text}"


def taken(side: str) -> Utterance:
    return Utterance(**{field: st.session_state[f"bench_{side}_{field}"] for field in FIELDS})


def spoken(bench: Bench) -> Moved | None:
    """Two utterances of espeak-ng; None while their vectors are being made."""
    buttons(
        {name: (told, ICONS[name]) for name, told in PRESETS.items() if name != "nothing"},
        use_preset,
    )
    columns = st.columns(2, gap="large")
    sides: dict[str, Utterance] = {}
    waveforms: dict[str, Waveform] = {}
    for column, (side, title) in zip(columns, SIDES.items(), strict=True):
        with column, st.container(border=True, key=f"card_bench_{side}"):
            sides[side] = controls(side, title)
            pickers.keep(side, write(sides[side]))
            with guard.sentences():
                waveforms[side] = spoken_once(sides[side])
                sound(waveforms[side], side, f"{title} utterance")
    if len(waveforms) < len(sides):
        return None
    wait_s = WAIT_S if listening.state() == "ready" else 0.0  # a cold one takes many seconds
    vectors = {
        side: listening.embed(list(bench.encoders.values()), waveform, wait_s)
        for side, waveform in waveforms.items()
    }
    if vectors["first"] is None or vectors["second"] is None:
        st.fragment(run_every=0.5)(waiting)(bench, waveforms)
        return None
    (one, two), (other, another) = vectors["first"], vectors["second"]
    raw = interventions.distances(one, other, {BEFORE: slice(None)})
    raw |= interventions.distances(two, another, bench.blocks)
    changed = sides["first"].differs(sides["second"])
    far = interventions.relative(raw, bench.scale)
    return Moved("speak", asdict(sides["first"]), asdict(sides["second"]), changed, raw, far)


def controls(side: str, title: str) -> Utterance:
    """The fields of one utterance."""
    st.text_input(f"{title} sentence", key=f"bench_{side}_text", persist_state="session")
    left, middle, right = st.columns([5, 4, 4])
    with left:
        voice = st.session_state[f"bench_{side}_voice"]
        listed = list(VOICES) if voice in VOICES else [*VOICES, voice]
        st.selectbox(
            f"{title} voice",
            listed,
            key=f"bench_{side}_voice",
            accept_new_options=True,
            persist_state="session",
            help="A voice of espeak-ng: language, or language+variant, such as de+f2.",
        )
    for column, (field, (told, step)) in zip((middle, right), SLIDERS.items(), strict=True):
        low, high, _ = RANGES[field]
        with column:
            st.slider(
                told, low, high, step=step, key=f"bench_{side}_{field}", persist_state="session"
            )
    return taken(side)


def sound(waveform: Waveform, side: str, alt: str) -> None:
    """The outline of a waveform, and a player. A preset plays the second one."""
    picture.show(outline(waveform, picture.look()), f"bench_outline_{side}", alt)
    play = side == "second" and bool(st.session_state.get("bench_play"))
    st.audio(waveform, sample_rate=SAMPLE_RATE, autoplay=play, alt=alt)


@st.cache_data(max_entries=64, show_spinner=False)
def spoken_once(utterance: Utterance) -> Waveform:
    return utterance.waveform()


def buttons(named: dict[str, tuple[str, str]], act: Any) -> None:
    """The one-click interventions, and the way back."""
    with st.container(horizontal=True, key="bench_presets", vertical_alignment="center"):
        for name, (told, icon) in named.items():
            st.button(told, key=f"preset_{name}", icon=icon, on_click=act, args=(name,))
        st.button(
            "Undo",
            key="bench_undo",
            icon=":material/undo:",
            type="tertiary",
            on_click=bench_answer.undo,
            disabled=len(st.session_state["bench_history"]) < 2,
        )


def use_preset(name: str) -> None:
    texts = sentences()[:16]
    put("second", interventions.preset(name, taken("first"), taken("second"), texts))
    st.session_state["bench_play"] = True


def waiting(bench: Bench, waveforms: dict[str, Waveform]) -> None:
    """While the encoders are loaded; the bench is drawn anew with the answer."""
    with guard.sentences():
        names = list(bench.encoders.values())
        told = {"off": "starting", "ready": "listening"}.get(listening.state(), listening.state())
        st.progress(0.3, f"{told[:1].upper()}{told[1:]} … this takes some seconds the first time")
        if all(listening.embed(names, waveform) is not None for waveform in waveforms.values()):
            st.rerun()


def recorded(bench: Bench) -> Moved:
    """Two clips of the corpus, whose vectors are known."""
    kinds = [kind for kind in KIND_PRESETS if kind in bench.scale.clips]
    buttons(
        {kind: KIND_PRESETS[kind] for kind in kinds},
        lambda kind: use_pair(bench, kind),
    )
    table = bench.spaces.table
    clips = table["clip"].tolist()
    rows: dict[str, int] = {}
    for column, (side, title) in zip(st.columns(2, gap="large"), SIDES.items(), strict=True):
        with column, st.container(border=True, key=f"card_bench_{side}"):
            key = f"bench_clip_{side}"
            if st.session_state[key] not in clips:
                st.session_state[key] = clips[0 if side == "first" else 1]
            listed = sorted({*clips[:LISTED], st.session_state[key]})
            clip = st.selectbox(f"{title} clip", listed, key=key, persist_state="session")
            rows[side] = clips.index(clip)
            pickers.keep(f"clip_{side}", clip)
            about = table.iloc[rows[side]]
            known = [f for f in bench.corpus.factors if f in table and about[f]]
            st.markdown(" ".join(f":gray-badge[{md(f)}: {md(about[f])}]" for f in known))
            with guard.sentences():
                sound(bench.corpus.waveform(clip), side, f"Recording {clip}")
    raw = {
        name: interventions.distances(x[rows["first"]], x[rows["second"]], {name: slice(None)})[
            name
        ]
        for name, x in bench.spaces.x.items()
    }
    ends = [table.iloc[rows[side]] for side in SIDES]
    changed = [
        what
        for what, factor in (("voice", "speaker"), ("words", "content"))
        if ends[0][factor] != ends[1][factor]
    ]
    far = interventions.relative(raw, bench.scale)
    first, second = ({"clip": clips[rows[side]]} for side in SIDES)
    return Moved("recorded", first, second, changed, raw, far)


def use_pair(bench: Bench, kind: str) -> None:
    turn = st.session_state.get("_bench_turn", 0) + 1
    st.session_state["_bench_turn"] = turn
    for side, clip in zip(SIDES, a_pair(bench, kind, turn) or [], strict=False):
        st.session_state[f"bench_clip_{side}"] = clip
    st.session_state["bench_play"] = True


def a_pair(bench: Bench, kind: str, turn: int) -> list[str] | None:
    """The clips of one drawn pair of a kind; another one each turn."""
    pairs = bench.scale.clips.get(kind)
    if not pairs:
        return None
    rows = pairs[(turn * 7919) % len(pairs)]
    return [str(bench.spaces.table["clip"].iloc[row]) for row in rows]


def command(bench: Bench, moved: Moved) -> None:
    """The equal command line."""
    words = ["intervene"]
    for role, name in bench.encoders.items():
        words += [f"--{role}", name]
    one, two = moved.first, moved.second
    if moved.source == "recorded":
        words += ["--clips", one["clip"], two["clip"]]
    else:
        for field in FIELDS:
            words += [f"--{field}", str(one[field]), str(two[field])]
    words += ["--corpus", bench.source, "--split", bench.split]
    commands.show(words)
