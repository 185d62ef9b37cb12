"""Pictures of the lessons as SVG: one wide canvas, large type, a shape beside every colour."""

from collections.abc import Iterable, Sequence

import numpy as np

from pages.components import picture, theme

WIDTH, HEIGHT = 1000, 390
TALLEST = 58  # per cent of the window's height
FONT = "'Source Sans 3','Source Sans Pro','Segoe UI','Helvetica Neue',Arial,sans-serif"
SHAPES = ("circle", "square", "triangle", "diamond")


def show(parts: Iterable[str], name: str, alt: str) -> None:
    """Draw the parts on the canvas, which leaves room for the words below."""
    most = f"{TALLEST * WIDTH / HEIGHT:.0f}vh"
    picture.place(canvas("".join(parts), WIDTH, HEIGHT), name, alt, most)


def canvas(body: str, width: int, height: int) -> str:
    """Parts in a picture of that size."""
    box = f'viewBox="0 0 {width} {height}" font-family="{FONT}" font-size="19"'
    return f'<svg {box} fill="{theme.ink()}">{body}</svg>'


def text(
    x: float, y: float, words: str, size: float = 19, anchor: str = "middle", **more: object
) -> str:
    """A line of text; `more` are SVG attributes, with _ for -."""
    given = _attributes(more)
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f"<text {place}{given}>{words}</text>"


def signed(value: float) -> str:
    """Two digits, with a real minus and no minus before 0."""
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 2, dash: str = ""
) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" stroke-linecap="round"{dashes}/>'
    )


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 4) -> str:
    """A line with a head at its end."""
    angle = np.arctan2(y2 - y1, x2 - x1)
    head = 4 + 2.6 * width
    wings = [(x2 - head * np.cos(angle + w), y2 - head * np.sin(angle + w)) for w in (0.45, -0.45)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(x2, y2), *wings])
    back = 0.8 * head
    shaft = line(
        x1, y1, x2 - back * np.cos(angle), y2 - back * np.sin(angle), colour, width
    )  # fmt: skip
    return shaft + f'<polygon points="{points}" fill="{colour}"/>'


def circle(x: float, y: float, r: float, fill: str = "none", **more: object) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{fill}"{_attributes(more)}/>'


def rect(x: float, y: float, width: float, height: float, fill: str, **more: object) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" '
        f'height="{max(0.0, height):.1f}" fill="{fill}"{_attributes(more)}/>'
    )


def path(points: Sequence[tuple[float, float]] | np.ndarray, colour: str, **more: object) -> str:
    """A polyline."""
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    given = _attributes({"fill": "none", "stroke_width": 3, "stroke_linejoin": "round"} | more)
    return f'<polyline points="{drawn}" stroke="{colour}"{given}/>'


def mark(x: float, y: float, r: float, number: int, colour: str, opacity: float = 1.0) -> str:
    """A class as shape and colour."""
    shape = SHAPES[number % len(SHAPES)]
    given = f'fill="{colour}"' + (f' opacity="{opacity:.2f}"' if opacity < 1 else "")
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" {given}/>'
    if shape == "square":
        s = 0.9 * r
        return (
            f'<rect x="{x - s:.1f}" y="{y - s:.1f}" width="{2 * s:.1f}" height="{2 * s:.1f}" '
            f"{given}/>"
        )
    s = 1.2 * r
    corners = (
        [(0, -s), (s, 0.8 * s), (-s, 0.8 * s)] if shape == "triangle"
        else [(0, -s), (s, 0), (0, s), (-s, 0)]
    )  # fmt: skip
    drawn = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)
    return f'<polygon points="{drawn}" {given}/>'


def guessed(x: float, y: float, r: float = 10) -> str:
    """What was predicted: an open diamond, in the colour of before."""
    return (
        f'<path d="M{x:.1f} {y - r}L{x + r:.1f} {y}L{x:.1f} {y + r}L{x - r:.1f} {y}Z" '
        f'fill="{theme.paper()}" stroke="{theme.before()}" stroke-width="4"/>'
    )


def true(x: float, y: float, r: float = 9) -> str:
    """What it is: a full circle, in the colour of after."""
    return circle(x, y, r, theme.after())


def sphere(
    points: np.ndarray,
    x: float,
    y: float,
    r: float,
    classes: np.ndarray | None = None,
    tilt: float = 0.45,
) -> list[str]:
    """Unit vectors (n, 3) on a ball seen slightly from above; those behind are small and pale."""
    turn = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1.0]])
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    view = turn @ lean  # rows of points times this: right, depth (away from the eye), up

    def seen(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        turned = z @ view
        return x + r * turned[:, 0], y - r * turned[:, 2], -turned[:, 1]

    parts = [circle(x, y, r, theme.ink(0.035), stroke=theme.ink(0.3), stroke_width=1.5)]
    around = np.linspace(0, 2 * np.pi, 73)
    for height in (-0.6, 0.0, 0.6):
        ring = np.sqrt(1 - height**2)
        a, b, depth = seen(
            np.column_stack([ring * np.cos(around), ring * np.sin(around), 0 * around + height])
        )
        for k in range(72):
            alpha = 0.22 if depth[k] > 0 else 0.07
            parts.append(line(a[k], b[k], a[k + 1], b[k + 1], theme.ink(alpha), 1.2))
    a, b, depth = seen(points)
    palette = theme.palette()
    for k in np.argsort(depth):
        number = 0 if classes is None else int(classes[k])
        size, alpha = (6.2, 0.95) if depth[k] > 0 else (3.4, 0.4)
        parts.append(mark(a[k], b[k], size, number, palette[number], alpha))
    return parts


def histogram(
    values: np.ndarray,
    x: float,
    y: float,
    width: float,
    height: float,
    colour: str,
    bins: int = 40,
    least: float = 1e-9,
) -> list[str]:
    """Bars over -1 to 1, standing on y; the height is the largest density, or `least`."""
    density, edges = np.histogram(values, bins=bins, range=(-1, 1), density=True)
    top = max(float(density.max()), least)
    step = width / bins
    return [
        rect(
            x + (edge + 1) / 2 * width + 0.6,
            y - height * d / top,
            step - 1.2,
            height * d / top,
            colour,
        )
        for edge, d in zip(edges[:-1], density, strict=True)
        if d > 0
    ]


def scale(
    x: float, y: float, width: float, ticks: Sequence[tuple[float, str]], low: float, high: float
) -> list[str]:
    """A horizontal axis with its labels."""
    parts = [line(x, y, x + width, y, theme.ink(0.45), 1.5)]
    for at, label in ticks:
        px = x + (at - low) / (high - low) * width
        parts += [
            line(px, y, px, y + 6, theme.ink(0.45), 1.5),
            text(px, y + 25, label, 17, opacity=0.8),
        ]
    return parts


def _attributes(given: dict[str, object]) -> str:
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in given.items())
