"""A recording as a picture: the tone stands at its pitch, time and frequency can be read."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pages.components import picture, sound
from refine import drawing
from refine.audio import SAMPLE_RATE
from refine.drawing import Look
from refine.spectrogram import log_mel

LOOK = Look("#000001", "#fffffe", "#aa0000", "#0000aa", "#888888", ("#00aa00",) * 8)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.components.theme.dark", lambda: False)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def test_a_tone_is_the_darkest_row_at_its_pitch() -> None:
    decibel, _, centres = log_mel(tone(1_000))
    pixels = np.asarray(Image.open(io.BytesIO(sound.heat(decibel))).convert("L"), dtype=float)
    assert pixels.shape == decibel.shape
    row = int(pixels.mean(axis=1).argmin())
    assert centres[len(centres) - 1 - row] == pytest.approx(1_000, rel=0.05)
    names = sound.drawn(tone(1_000), LOOK).reading.rows
    assert float(names[row].split()[0].replace(",", "")) == pytest.approx(1_000, rel=0.05)


@pytest.mark.parametrize("samples", [1, 400, 16_000, 160_000])
@pytest.mark.parametrize("wide", [False, True])
def test_any_length_is_drawn_inside_its_picture(samples: int, wide: bool) -> None:
    made = sound.drawn(np.full(samples, 0.1, dtype=np.float32), LOOK, wide)
    svg = drawing.svg(made.width, made.height, "".join(made.parts))
    tree = ElementTree.fromstring(svg)
    assert "nan" not in svg
    (heat,) = tree.iter(f"{SVG}image")
    assert float(heat.get("x", "")) + float(heat.get("width", "")) <= made.width
    assert float(heat.get("y", "")) + float(heat.get("height", "")) <= made.height
    assert made.reading is not None
    assert made.reading.seconds == samples / SAMPLE_RATE


def test_the_page_is_told_where_the_axes_are() -> None:
    made = sound.drawn(tone(440), LOOK)
    told = picture._reading(made)
    assert "&quot;seconds&quot;: 1.0" in told
    assert f"&quot;left&quot;: {sound.LEFT / made.width}" in told
    assert picture._reading(made._replace(reading=None)) == ""


@pytest.mark.parametrize("samples", [1, 160_000])
def test_an_outline_is_as_high_as_the_loudest(samples: int) -> None:
    made = sound.outline(np.full(samples, 0.1, dtype=np.float32), LOOK)
    (path,) = ElementTree.fromstring(drawing.svg(made.width, made.height, *made.parts))
    ys = [float(point.split(",")[1]) for point in path.get("d", "").strip("MZ").split("L")]
    assert min(ys) == pytest.approx(3)
    assert max(ys) <= made.height
