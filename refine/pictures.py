"""What each method pulls together and pushes apart, drawn: for a class, and for the Methods page.

Blue arrows pull, amber arrows push. Places are chosen by hand; nothing here is measured.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from refine.drawing import Look, dot, rule, svg, text

WIDTH, HEIGHT = 640, 380


class Picture(NamedTuple):
    """A drawing and the three sentences that go with it."""

    draw: Callable[[Look], str]
    alt: str
    pulls: str
    pushes: str
    keeps: str


def arrow(
    x1: float, y1: float, x2: float, y2: float, colour: str, both: bool = False, dash: str = ""
) -> str:
    """An arrow, or one with two heads."""
    angle = math.atan2(y2 - y1, x2 - x1)
    parts = [rule(x1, y1, x2, y2, colour, width=2.6, dash=dash)]
    for x, y, turn in ((x2, y2, angle), *(((x1, y1, angle + math.pi),) if both else ())):
        wings = [(x - 10 * math.cos(turn + s * 0.5), y - 10 * math.sin(turn + s * 0.5))
                 for s in (-1, 1)]  # fmt: skip
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in [(x, y), *wings])
        parts.append(f'<polygon points="{points}" style="fill:{colour}"/>')
    return "".join(parts)


def between(
    first: tuple[float, float], second: tuple[float, float], colour: str, gap: float = 13
) -> str:
    """Two arrows that point at each other from two places: they are drawn together."""
    (x1, y1), (x2, y2) = first, second
    length = math.hypot(x2 - x1, y2 - y1)
    ux, uy = (x2 - x1) / length, (y2 - y1) / length
    middle, half = ((x1 + x2) / 2, (y1 + y2) / 2), max(6.0, length / 2 - gap)
    reach = max(6.0, 0.25 * half)
    one = arrow(middle[0] - half * ux, middle[1] - half * uy,
                middle[0] - reach * ux * 0.4, middle[1] - reach * uy * 0.4, colour)  # fmt: skip
    two = arrow(middle[0] + half * ux, middle[1] + half * uy,
                middle[0] + reach * ux * 0.4, middle[1] + reach * uy * 0.4, colour)  # fmt: skip
    return one + two


def legend(look: Look, y: float = HEIGHT - 14) -> str:
    """What the arrows mean."""
    return (
        arrow(20, y - 5, 52, y - 5, look.after) + text(60, y, "pulled together", look, 15)
        + arrow(210, y - 5, 242, y - 5, look.before) + text(250, y, "pushed apart", look, 15)
    )  # fmt: skip


def rewire(look: Look) -> str:
    """Clips and their copies on a sphere: each pair closes, all others open."""
    cx, cy, r = 250, 172, 148
    parts = [
        f'<circle cx="{cx}" cy="{cy}" r="{r}" style="fill:none;stroke:{look.ink};'
        'stroke-opacity:.25;stroke-width:1.5"/>'
    ]
    pairs = [(-152, -104), (-46, -2), (92, 140)]
    colours = [look.colour(0), look.colour(2), look.colour(3)]

    def at(degrees: float, far: float = r) -> tuple[float, float]:
        return cx + far * math.cos(math.radians(degrees)), cy + far * math.sin(
            math.radians(degrees)
        )

    for (a, b), _ in zip(pairs, colours, strict=True):
        parts.append(between(at(a), at(b), look.after, 16))
    for (_, b), (a, _) in ((pairs[0], pairs[1]), (pairs[1], pairs[2]), (pairs[2], pairs[0])):
        middle = (b + ((a - b) % 360) / 2) % 360
        spread = ((a - b) % 360) / 2 - 9
        for sign in (-1, 1):
            start, end = at(middle + sign * 4, r + 22), at(middle + sign * min(26, spread), r + 22)
            parts.append(arrow(*start, *end, look.before))
    for (a, b), colour in zip(pairs, colours, strict=True):
        parts.append(dot(*at(a), colour, look, False, 10))
        parts.append(dot(*at(b), colour, look, True, 10))
    parts += [
        dot(466, 96, look.ink, look, False, 8), text(484, 101, "a clip", look, 15),
        dot(466, 130, look.ink, look, True, 8), text(484, 135, "its copy: masked,", look, 15),
        text(484, 155, "or the same words", look, 15), 
        text(484, 175, "in a neutral voice", look, 15),
        text(466, 222, "length 1: only", look, 15, alpha=0.7),
        text(466, 242, "directions count", look, 15, alpha=0.7),
    ]  # fmt: skip
    return svg(WIDTH, HEIGHT, "".join(parts) + legend(look), PICTURES["rewire"].alt)


def dino(look: Look) -> str:
    """Crops of one clip; the student's answer follows the teacher's."""
    parts = []
    for i in range(60):
        h = 5 + 20 * abs(math.sin(0.7 * i) * math.sin(0.23 * i + 1))
        parts.append(
            rule(30 + 3.4 * i, 62 - h, 30 + 3.4 * i, 62 + h, look.ink, width=2, alpha=0.45)
        )
    for x, w, y, colour in (
        (34, 118, 104, look.before), (108, 118, 118, look.before),
        (34, 44, 148, look.after), (80, 44, 162, look.after), (128, 44, 148, look.after),
        (180, 44, 162, look.after),
    ):  # fmt: skip
        style = f"fill:{colour};opacity:.5"
        parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="9" rx="4" style="{style}"/>')
    parts += [text(30, 24, "one clip, cut six times", look, 15, weight=600),
              text(30, 196, "long and short crops", look, 15, alpha=0.7)]  # fmt: skip
    teacher, student = [4, 7, 92, 10, 6, 3], [16, 22, 58, 30, 18, 12]
    for top, name, bars, colour, note in (
        (44, "teacher: long crops", teacher, look.before, "centred, sharpened, not trained"),
        (204, "student: every crop", student, look.after, "trained to give the same answer"),
    ):
        parts += [text(310, top - 10, name, look, 15, weight=600)]
        for i, h in enumerate(bars):
            style = f"fill:{colour};opacity:.85"
            place = f'x="{310 + 28 * i}" y="{top + 100 - h}" width="19" height="{h}"'
            parts.append(f'<rect {place} rx="3" style="{style}"/>')
        parts += [rule(306, top + 101, 478, top + 101, look.ink, alpha=0.3),
                  text(310, top + 120, note, look, 15, alpha=0.75)]  # fmt: skip
    parts += [
        arrow(236, 100, 294, 94, look.ink, dash="2 5"),
        arrow(236, 162, 294, 252, look.ink, dash="2 5"),
        arrow(566, 262, 566, 100, look.after), text(574, 126, "pulled", look, 15),
        arrow(606, 262, 606, 150, look.quiet, dash="2 6"),
        text(626, 286, "slow average", look, 15, "end", alpha=0.7),
    ]  # fmt: skip
    legend_ = arrow(20, HEIGHT - 19, 52, HEIGHT - 19, look.after)
    legend_ += text(60, HEIGHT - 14, "pulled together; nothing is pushed apart", look, 15)
    return svg(WIDTH, HEIGHT, "".join(parts) + legend_, PICTURES["dino"].alt)


def two_step(look: Look) -> str:
    """Anchor, positive, negative; and the correlation of two views."""
    a, p, n = (120, 178), (62, 72), (262, 238)
    c0, c1 = look.colour(0), look.colour(3)
    parts = [
        text(20, 24, "contrastive: by class", look, 15, weight=600),
        between(a, p, look.after, 20),
        arrow(148, 190, 232, 226, look.before, both=True),
        dot(*a, c0, look, False, 12), dot(*p, c0, look, False, 12), dot(*n, c1, look, False, 12),
        text(140, 166, "angry, Ann", look, 15), text(82, 66, "angry, Ben", look, 15),
        text(226, 272, "calm, Ann", look, 15),
        text(20, 322, "the pair differs in the speaker, so the voice is no shortcut", look, 15,
             alpha=0.75),
        text(370, 24, "non-contrastive: by dimension", look, 15, weight=600),
    ]  # fmt: skip
    cell, left, top, k = 36, 386, 60, 6
    for i in range(k):
        for j in range(k):
            on = 0.85 if i == j else 0.07 + 0.16 * abs(math.sin(3.1 * i + 1.7 * j))
            colour = look.after if i == j else look.before
            place = f'x="{left + j * cell}" y="{top + i * cell}" width="{cell - 4}"'
            style = f"fill:{colour};opacity:{on:.2f}"
            parts.append(f'<rect {place} height="{cell - 4}" rx="5" style="{style}"/>')
    parts += [text(left, top - 10, "dimensions of one view", look, 15, alpha=0.75),
              text(left, top + k * cell + 18, "diagonal → 1, the rest → 0", look, 15)]  # fmt: skip
    return svg(WIDTH, HEIGHT, "".join(parts) + legend(look), PICTURES["two_step"].alt)


def interventional(look: Look) -> str:
    """A grid of voices and words, and two subspaces that each keep one of the two."""
    parts = [text(20, 24, "who × what", look, 15, weight=600)]
    marks = [look.colour(0), look.colour(2), look.colour(3)]

    def shape(x: float, y: float, who: int, what: int, size: float = 9) -> str:
        """Colour is the voice, form the word."""
        style = f"fill:{marks[who]}"
        if what == 0:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" style="{style}"/>'
        if what == 1:
            place = f'x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size}" height="{2 * size}"'
            return f'<rect {place} rx="2" style="{style}"/>'
        points = f"{x:.1f},{y - 1.2 * size:.1f} {x + 1.2 * size:.1f},{y + size:.1f} "
        return f'<polygon points="{points}{x - 1.2 * size:.1f},{y + size:.1f}" style="{style}"/>'

    for who in range(3):
        for what in range(3):
            parts.append(shape(50 + 52 * what, 70 + 52 * who, who, what))
    parts += [text(28, 230, "colour: the voice", look, 15, alpha=0.75),
              text(28, 250, "form: the word", look, 15, alpha=0.75)]  # fmt: skip
    for top, name, by in ((40, "speaker subspace", "who"), (206, "content subspace", "what")):
        style = f"fill:{look.ink};fill-opacity:.045;stroke:{look.ink};stroke-opacity:.25"
        parts.append(f'<rect x="276" y="{top}" width="344" height="124" rx="12" style="{style}"/>')
        parts.append(text(290, top - 8, name, look, 15, weight=600))
        for group in range(3):
            cx, cy = 336 + 112 * group, top + 62
            for item in range(3):
                turn = math.radians(120 * item - 90)
                x, y = cx + 27 * math.cos(turn), cy + 27 * math.sin(turn)
                who, what = (group, item) if by == "who" else (item, group)
                parts.append(shape(x, y, who, what))
                inner = (cx + 13 * math.cos(turn), cy + 13 * math.sin(turn))
                tip = (cx + 4 * math.cos(turn), cy + 4 * math.sin(turn))
                parts.append(rule(*inner, *tip, look.after, width=3))
            if group < 2:
                parts.append(arrow(cx + 44, cy, cx + 68, cy, look.before, both=True))
    parts += [arrow(196, 108, 262, 96, look.ink, dash="2 5"),
              arrow(196, 146, 262, 262, look.ink, dash="2 5"),
              text(600, 186, "⊥", look, 26, "middle")]  # fmt: skip
    return svg(WIDTH, HEIGHT, "".join(parts) + legend(look), PICTURES["interventional"].alt)


PICTURES: dict[str, Picture] = {
    "rewire": Picture(
        rewire,
        "Six points on a circle in three pairs; each pair is pulled together, the pairs apart",
        "a clip and its copy: the same clip with a block masked out, or the same words spoken by a "
        "neutral synthetic voice.",
        "every other clip of the batch, whatever it holds.",
        "because of the push. Its price: what the copy lacks (the voice, in a neutral copy) is "
        "forgotten.",
    ),
    "dino": Picture(
        dino,
        "Crops of one clip go to a teacher and a student; the student's answer is pulled to the "
        "teacher's",
        "the answers to different crops of one clip, each with noise and a room of its own.",
        "nothing.",
        "because the teacher's answers are centred (no output wins always) and sharpened (they "
        "never all agree on a shrug). Take one away and it collapses: see the lesson.",
    ),
    "two_step": Picture(
        two_step,
        "An angry clip is pulled to another speaker's angry clip and pushed from a calm one; the "
        "correlation of dimensions is pulled to the identity",
        "clips of one class, by other speakers where there are some.",
        "clips of other classes; and, in the non-contrastive half, the dimensions from each other, "
        "so that none repeats another.",
        "because of the push by class, and because a dimension that says nothing has no "
        "correlation of 1.",
    ),
    "interventional": Picture(
        interventional,
        "A grid of voices and words goes into two subspaces; in one the clips of a voice are "
        "together, in the other those of a word",
        "in the speaker subspace the clips of one voice, whatever it says; in the content subspace "
        "those of one sentence, whoever speaks.",
        "other voices, other sentences; and the two subspaces, towards a right angle.",
        "because of the push. The grid is the intervention: one factor is changed while the other "
        "stays.",
    ),
}
