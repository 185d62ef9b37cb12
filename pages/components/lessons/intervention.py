"""Lesson 5: change the voice, change the words, and see what moves."""

import streamlit as st

from pages.components import theme
from pages.components.lessons import frame, predict, svg
from pages.components.lessons.memory import Memory, finite
from pages.components.player import escape
from refine import paths
from refine.lessons import intervention, speech

READINGS = {"projected": "project on its axis", "unmixed": "undo the mixture"}
FACTORS = {"voice": "the voice", "words": "the words"}
START = (0.9, 0.5)  # words and voice of the clip that is drawn


def first(memory: Memory) -> None:
    done = memory.begin("guess", None, finite) is not None
    degrees, reading, factor = 60, "projected", "voice"
    picture = st.container()
    left, right = st.columns([3, 2], gap="large")
    with left:
        predict.number(
            memory,
            "A clip = words × one axis + voice × another, <b>60° apart</b>. We read the words by "
            "projecting on their axis. Now <b>only the voice</b> changes by 1. The words reading "
            "moves by …",
            0.0, 1.0, 0.0, 0.05, intervention.moved(60, "projected", voice=1).words,
            "cos 60°. The words did not change; the reading did, since the axes are not at right "
            "angles. Undo the mixture, and it stays.",
        )  # fmt: skip
    if done:
        with right:
            degrees = memory.slider("angle", "Angle between the axes, degrees", 15, 165, 60, 5)
            factor = memory.pills("change", "Change", FACTORS, "voice")
            reading = memory.pills("read", "Read by", READINGS, "projected")
    with picture:
        draw(degrees, reading, factor, done)


def draw(degrees: float, reading: str, factor: str, done: bool) -> None:
    ox, oy, unit = 250, 330, 150
    words_axis, voice_axis = intervention.axes(degrees)
    blue, orange = theme.after(), theme.before()

    def at(x) -> tuple[float, float]:
        return ox + unit * x[0], oy - unit * x[1]

    parts = [
        svg.line(*at(-1.4 * words_axis), *at(1.9 * words_axis), theme.rgba(blue, 0.45), 3),
        svg.line(*at(-0.3 * voice_axis), *at(2.1 * voice_axis), theme.rgba(orange, 0.45), 3),
        svg.text(
            at(1.9 * words_axis)[0] + 8, oy + 26, "words", 21, "end", fill=blue, font_weight=600
        ),
    ]
    vx, vy = at(2.1 * voice_axis)
    parts.append(
        svg.text(vx + 14, max(vy + 6, 24), "voice", 21, "start", fill=orange, font_weight=600)
    )
    step = {"voice": (0, 1), "words": (1, 0)}[factor]
    here = intervention.mixed(*START, degrees)
    there = intervention.mixed(START[0] + step[0], START[1] + step[1], degrees)
    if done and reading == "projected":
        for x in (here, there):
            parts.append(svg.line(*at(x), *at((x[0], 0)), theme.ink(0.5), 1.6, "4 5"))
            foot = voice_axis * float(x @ voice_axis)
            parts.append(svg.line(*at(x), *at(foot), theme.ink(0.3), 1.2, "2 6"))
    if done and reading == "unmixed":
        for x in (here, there):
            found = intervention.read(x, degrees, "unmixed")
            parts.append(svg.line(*at(x), *at((found.words, 0)), theme.ink(0.5), 1.6, "4 5"))
    parts.append(svg.arrow(*at(here), *at(there), orange if factor == "voice" else blue, 5))
    parts.append(svg.circle(*at(here), 10, theme.paper(), stroke=theme.ink(), stroke_width=3))
    parts.append(svg.circle(*at(there), 10, theme.ink()))
    moved = intervention.moved(degrees, reading, **{factor: 1.0})  # type: ignore[arg-type]
    parts += readings(moved, factor, done)
    parts.append(svg.text(600, 350, f"axes {degrees:g}° apart", 21, "start"))
    alt = f"Axes {degrees:g} degrees apart; changing {FACTORS[factor]} "
    alt += f"moves the words reading by {svg.signed(moved.words)}" if done else "moves the clip"
    svg.show(parts, "lesson-intervention", alt)


def readings(moved: intervention.Moved, factor: str, done: bool) -> list[str]:
    """By how much each reading moved, as bars; that of the words is hidden until it is guessed."""
    parts = [svg.text(600, 34, f"Change {FACTORS[factor]} by 1. The readings:", 21, "start",
                      opacity=0.85)]  # fmt: skip
    rows = (("words", moved.words, theme.after()), ("voice", moved.voice, theme.before()))
    for row, (name, value, colour) in enumerate(rows):
        y, zero = 110 + 110 * row, 780
        parts.append(svg.text(600, y + 30, name, 24, "start", fill=colour, font_weight=600))
        parts.append(svg.line(zero, y - 8, zero, y + 52, theme.ink(0.5), 1.5))
        if not done and name == "words":
            parts.append(svg.text(zero + 26, y + 36, "?", 44, fill=theme.ink(0.4)))
            continue
        length = 150 * value
        parts.append(svg.rect(min(zero, zero + length), y, abs(length), 44, colour, rx=4))
        side, anchor = (12, "start") if value >= 0 else (-12, "end")
        end = zero + length + side
        parts.append(svg.text(end, y + 30, svg.signed(value), 24, anchor, font_weight=600))
    return parts


def second(memory: Memory) -> None:
    clips = speech.load("samples")
    voices, words = list(dict.fromkeys(clips.voice)), list(dict.fromkeys(clips.words))
    names = {str(v): k for k, v in zip("ABC", voices, strict=False)}
    texts = {str(w): f"text {k + 1}" for k, w in enumerate(words)}
    picture = st.container()
    left, right = st.columns([5, 4], gap="large")
    chosen = []
    with right:
        for number, (side, default) in enumerate((("One", 0), ("Other", 1))):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown("voice", width="content")
                voice = memory.pills(
                    f"voice{number}", side, names, list(names)[default], on_change=memory.set,
                    args=("guess", None), label_visibility="collapsed",
                )  # fmt: skip
                text = memory.pills(
                    f"text{number}", side, texts, next(iter(texts)), on_change=memory.set,
                    args=("guess", None), label_visibility="collapsed",
                )  # fmt: skip
            at = int(((clips.voice == voice) & (clips.words == text)).argmax())
            chosen.append(at)
            st.audio(paths.ASSETS / "clips" / str(clips.clip[at]), alt=f"{side}: {clips.text[at]}")
        said = dict.fromkeys(f"“{clips.text[at]}”" for at in chosen)
        st.caption(escape(" / ".join(said)))
    changed = intervention.changed(*chosen)
    moved = intervention.distances(*chosen)
    with left:
        if not changed:
            st.info("Both are the same clip: change the voice or the sentence of one.")
            with picture:
                draw_tracks(None, changed)
            return
        what = " and ".join(FACTORS[f] for f in sorted(changed))
        done = memory.begin("guess", None, finite) is not None
        predict.number(
            memory,
            f"Listen. From one clip to the other <b>{what}</b> changed. The <b>content "
            "subspace</b> of the refined encoder moves by … (100 % is as far as between two clips "
            "that differ in both)",
            0.0, 150.0, 50.0, 5.0, 100 * moved["content"],
            told(changed, moved),
            " %", 0,
        )  # fmt: skip
    with picture:
        draw_tracks(moved if done else None, changed)


def told(changed: set, moved: dict[str, float]) -> str:
    if changed == {"voice"}:
        return (
            "The words are the same, and yet content moves: the split is real but not clean. "
            "Only an intervention shows it."
        )
    if changed == {"words"}:
        return "Content moves most and the speaker subspace little: here the split holds."
    return "Both changed, so this pair cannot say which subspace answers to which."


def draw_tracks(moved: dict[str, float] | None, changed: set) -> None:
    x0, width, top = 330, 600, 1.5
    parts = [
        svg.text(x0, 30, "How far it moves, % of two unrelated clips", 21, "start", opacity=0.85)
    ]
    labels = {
        "raw": "mini", "speaker": "speaker subspace", "content": "content subspace",
    }  # fmt: skip
    usual = intervention.average(next(iter(changed))) if len(changed) == 1 else None
    ticks = [(t / 100, f"{t}") for t in (0, 50, 100, 150)]
    for row, (space, name) in enumerate(labels.items()):
        y = 86 + 100 * row
        colour = theme.palette()[(2, 1, 0)[row]]
        parts.append(svg.text(24, y + 8, name, 24, "start", font_weight=600))
        parts += svg.scale(x0, y + 22, width, ticks, 0, top)
        if moved is None:
            parts.append(svg.text(x0 + width / 2, y + 14, "?", 48, fill=theme.ink(0.35)))
            continue
        long = width * min(moved[space], top) / top
        parts.append(svg.rect(x0, y - 22, long, 36, colour, rx=4))
        parts.append(
            svg.text(
                x0 + long + 12, y + 5, f"{100 * moved[space]:.0f} %", 23, "start", font_weight=600
            )
        )
        if usual:
            at = x0 + width * min(usual[space], top) / top
            parts.append(svg.line(at, y - 32, at, y + 22, theme.ink(0.9), 3, "4 4"))
    if usual and moved:
        what = " and ".join(sorted(changed))
        words = f"dashes: mean over 96 clips, the {what} alone changed"
        parts.append(svg.text(x0, 384, words, 17, "start", opacity=0.8))
    alt = "Three spaces; hidden until you predict"
    if moved:
        alt = "Moved: " + ", ".join(f"{labels[k]} {100 * v:.0f} %" for k, v in moved.items())
    svg.show(parts, "lesson-intervention-speech", alt)


LESSON = frame.Lesson(
    "Change the voice: what moves?",
    (first, second),
    (
        "<b>A subspace named content holds content.</b> The name says what it was trained for; "
        "only changing one factor at a time shows what it answers to.",
        "<b>It moved little, so nothing leaks.</b> A probe may still read what a distance hardly "
        "shows.",
        "<b>Two voices are all voices.</b> These are synthesised, three to hear and twelve in the "
        "dashes; a recorded voice changes more than a setting.",
    ),
    "An intervention changes one thing; what else moves is leakage.",
    "Why does undoing the mixture work here, and why can nobody undo it for an encoder?",
    "That a high probe accuracy for words shows a subspace to be about words alone.",
    "1 min predict · 1 min turn the angle to 90° · 1 min undo the mixture at 30° · 2 min listen, "
    "change the voice alone, then the sentence alone.",
)
