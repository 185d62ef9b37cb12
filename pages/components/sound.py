"""A recording as a picture: its outline above its log-mel spectrogram, on one time axis."""

import base64
import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from PIL import Image

from pages.components import theme
from pages.components.picture import Picture, Reading
from refine import drawing
from refine.audio import SAMPLE_RATE, Waveform
from refine.drawing import Look
from refine.spectrogram import FLOOR, envelope, log_mel

LEFT, RIGHT = 66, 10  # margins, in units of the picture
OUTLINE = 66  # height of the outline
GAP = 8
HERTZ = {250: "250 Hz", 1_000: "1 kHz", 4_000: "4 kHz"}
SHADES = 81  # one a decibel


def drawn(waveform: Waveform, look: Look, wide: bool = False) -> Picture:
    """The picture of 16 kHz samples, shape (n,), n >= 1. wide: half as high as it is long."""
    width, tall = (600, 150) if wide else (400, 170)
    seconds = len(waveform) / SAMPLE_RATE
    decibel, _, centres = log_mel(waveform)
    left, right, top = LEFT, width - RIGHT, OUTLINE + GAP
    place = f'x="{left}" y="{top}" width="{right - left}" height="{tall}"'
    data = base64.b64encode(heat(decibel)).decode()
    parts = [
        _shape(waveform, left, right, look),
        f'<image {place} preserveAspectRatio="none" href="data:image/png;base64,{data}"/>',
        *_hertz(centres, left, top, tall, look),
        *_seconds(seconds, left, right, top + tall, look),
    ]
    names = tuple(f"{hertz:,.0f} Hz" for hertz in centres[::-1])
    reading = Reading(left, right, top, top + tall, seconds, names)
    return Picture(width, top + tall + 32, parts, [], reading)


def heat(decibel: Float[np.ndarray, "mels frames"]) -> bytes:
    """A PNG, a pixel a cell, low frequencies at the bottom, in the theme's colours."""
    stops, colours = zip(*theme.heat(), strict=True)
    rgb = np.array([[int(str(c)[i : i + 2], 16) for i in (1, 3, 5)] for c in colours])
    ramp = np.linspace(0, 1, SHADES)
    at = np.array(stops, dtype=float)
    palette = np.stack([np.interp(ramp, at, rgb[:, i]) for i in range(3)], axis=1)
    shades = np.rint((decibel - FLOOR) / -FLOOR * (SHADES - 1)).clip(0, SHADES - 1)
    image = Image.fromarray(np.ascontiguousarray(shades[::-1]).astype(np.uint8), mode="P")
    image.putpalette(np.rint(palette).astype(np.uint8).tobytes())
    out = io.BytesIO()
    image.save(out, format="PNG", compress_level=3)
    return out.getvalue()


def outline(waveform: Waveform, look: Look) -> Picture:
    """Its outline alone."""
    return Picture(560, OUTLINE, [_shape(waveform, 2, 558, look)], [])


def _shape(waveform: Waveform, left: float, right: float, look: Look) -> str:
    """Highest and lowest sample of every stretch, as one closed line."""
    _, lows, highs = envelope(waveform, points=450)
    most = max(float(highs.max()), float(-lows.min()), 1e-3)
    middle, half = OUTLINE / 2, OUTLINE / 2 - 3
    x = np.linspace(left, right, len(highs))
    ys = np.concatenate([highs, lows[::-1]]) * -half / most + middle
    points = zip(np.concatenate([x, x[::-1]]), ys, strict=True)
    path = "L".join(f"{a:.1f},{b:.1f}" for a, b in points)
    style = f"fill:{look.after};stroke:{look.after};stroke-width:.7;stroke-linejoin:round"
    return f'<path d="M{path}Z" style="{style}"/>'


def _hertz(
    centres: Float[np.ndarray, " mels"], left: float, top: float, tall: float, look: Look
) -> Iterator[str]:
    for hertz, words in HERTZ.items():
        row = float(np.interp(hertz, centres, np.arange(len(centres)))) + 0.5
        y = top + tall * (1 - row / len(centres))
        yield drawing.text(left - 8, y + 5, words, look, 14.5, "end", alpha=0.75)
        yield drawing.rule(left - 5, y, left, y, look.ink, alpha=0.4)


def _seconds(seconds: float, left: float, right: float, y: float, look: Look) -> Iterator[str]:
    for value in drawing.ticks(0, seconds, most=5):
        x = left + (right - left) * value / seconds
        anchor = "end" if x > right - 20 else "middle"
        yield drawing.text(x, y + 22, f"{value:g} s", look, 14.5, anchor, alpha=0.75)
        yield drawing.rule(x, y, x, y + 5, look.ink, alpha=0.4)
