"""Predict, then reveal: a question, a committed answer, the answer beside the truth."""

import streamlit as st

from pages.components import picture, theme
from pages.components.lessons import svg
from pages.components.lessons.memory import Memory, finite

LETTERS = "ASDF"  # keys of the answers; Streamlit keeps C and R for itself


def question(words: str, answered: bool = False) -> None:
    """Large; once it is answered it makes room."""
    st.html(f'<p class="refine-question{" refine-asked" if answered else ""}">{words}</p>')


def choice(
    memory: Memory, words: str, options: dict[str, str], truth: str, told: str
) -> str | None:
    """One of a few answers. Returns the answer once it is given."""
    guess = memory.begin("guess", None, lambda asked: asked if asked in options else None)
    question(words, guess is not None)
    if guess is None:
        answers(memory, options)
    else:
        cards(options, guess, truth)
        st.html(f'<p class="refine-told">{told}</p>')
        again(memory)
    memory.keep("guess", None)
    return guess


def answers(memory: Memory, options: dict[str, str], before: str = "") -> None:
    """The buttons; `before` are answers given to earlier questions of the screen."""
    for column, (code, label), letter in zip(
        st.columns(len(options)), options.items(), LETTERS, strict=False
    ):
        column.button(
            label,
            key=memory.key(f"answer_{code}"),
            on_click=memory.set,
            args=("guess", before + code),
            shortcut=letter,
            width="stretch",
            wrap=True,
        )


def cards(options: dict[str, str], guess: str, truth: str) -> None:
    """Every answer, the given one and the true one marked by shape and word."""
    drawn = []
    for code, label in options.items():
        said = f"<i>{_icon('guess')} your prediction</i>" if code == guess else ""
        held = f"<i>{_icon('truth')} what happens</i>" if code == truth else ""
        kind = "truth" if code == truth else "guess" if code == guess else "other"
        drawn.append(f'<div class="refine-card-{kind}"><b>{label}</b>{said}{held}</div>')
    st.html(f'<div class="refine-cards">{"".join(drawn)}</div>')


def number(
    memory: Memory,
    words: str,
    low: float,
    high: float,
    first: float,
    step: float,
    truth: float,
    told: str,
    unit: str = "",
    digits: int = 2,
) -> float | None:
    """A value on a scale. Returns the guess once it is committed."""

    def parse(asked: str) -> float:
        return min(high, max(low, finite(asked)))

    guess = memory.begin("guess", None, parse)
    question(words, guess is not None)
    if guess is None:
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        key = memory.key("slide")
        if key not in st.session_state:
            st.session_state[key] = first
        with left:
            st.slider(
                "Your prediction", low, high, step=step, key=key, persist_state="session",
                format=f"%.{digits}f{unit.replace('%', '%%')}",
            )  # fmt: skip
        right.button(
            "Predict", key=memory.key("commit"), type="primary", width="stretch",
            on_click=commit, args=(memory,), shortcut="Ctrl+Enter",
        )  # fmt: skip
    else:
        ruler(low, high, guess, truth, unit, digits)
        st.html(f'<p class="refine-told">{told}</p>')
        again(memory)
    memory.keep("guess", None)
    return guess


def commit(memory: Memory) -> None:
    """A callback: the slider as it stands, not as it stood when the button was drawn."""
    memory.set("guess", memory.get("slide"))


def ruler(low: float, high: float, guess: float, truth: float, unit: str, digits: int) -> None:
    """Prediction and truth on one scale."""
    width, height, y = 620, 84, 42

    def x(value: float) -> float:
        return 30 + (min(high, max(low, value)) - low) / (high - low) * (width - 60)

    parts = [
        svg.line(30, y, width - 30, y, theme.ink(0.35), 3),
        svg.line(x(guess), y, x(truth), y, theme.ink(0.6), 6),
        svg.text(30, y + 32, f"{low:g}{unit}", 18, "start", opacity=0.7),
        svg.text(width - 30, y + 32, f"{high:g}{unit}", 18, "end", opacity=0.7),
        svg.guessed(x(guess), y),
        svg.true(x(truth), y),
    ]
    g, t = (f"{value:.{digits}f}{unit}".replace("-", "−") for value in (guess, truth))
    apart = abs(x(guess) - x(truth)) > 210

    def label(value: float, words: str, above: bool, colour: str) -> str:
        at = min(max(x(value), 110), width - 110)
        return svg.text(at, y - 22 if above else y + 36, words, 20, fill=colour, font_weight=600)

    parts.append(label(guess, f"you: {g}", True, theme.before()))
    parts.append(label(truth, f"it is: {t}", apart, theme.after()))
    alt = f"You predicted {g}; it is {t}."
    picture.place(svg.canvas("".join(parts), width, height), "prediction", alt, "44rem")


def again(memory: Memory) -> None:
    st.button(
        "Try again", key=memory.key("again"), on_click=memory.set, args=("guess", None),
        icon=":material/replay:", shortcut="T",
    )  # fmt: skip


def _icon(kind: str) -> str:
    shape = svg.guessed(12, 12, 8) if kind == "guess" else svg.true(12, 12, 8)
    return theme.image(f'<svg viewBox="0 0 24 24">{shape}</svg>', "", "height:1.1em")
