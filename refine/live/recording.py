"""What a live page needs around the stream: clips to play, maps to draw, sound as a file."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from refine import paths
from refine.audio import SAMPLE_RATE, Waveform
from refine.embeddings import open_embeddings
from refine.encoders import peek
from refine.evaluation import table_of
from refine.live.cloud import Cloud

FEW = 12  # values of a factor that colours can still tell apart


def clips() -> list[str]:
    """Clips that are always there: the shipped ones, then some recorded words and moods."""
    found = sorted((paths.ASSETS / "clips").glob("*.ogg"))
    speech = paths.speech()
    if speech:
        for corpus in ("arabic_commands", "emodb"):
            found += sorted((speech / corpus).glob("*/*.flac"))[-6:]
    return [str(path) for path in found]


def label(path: str) -> str:
    """How a clip reads in a list."""
    place = Path(path)
    shipped = place.parent == paths.ASSETS / "clips"
    return f"{'shipped' if shipped else place.parent.parent.name} · {place.stem}"


def table(encoder: str, result: dict[str, Any]) -> dict[str, Any]:
    """Where the vectors of an evaluation lie, and the blocks that an encoder names in them."""
    info, layer = peek(encoder), result["layer"]
    path = table_of(result, None)
    blocks, start = {}, 0
    for name, width in info.subspaces.items():
        blocks[name] = [start, start + width]
        start += width
    width = open_embeddings(path).vectors(layer).shape[1]
    return {
        "path": str(path),
        "layer": layer,
        "subspaces": {name: ends for name, ends in blocks.items() if ends[1] <= width},
    }


def points(drawn: Cloud) -> dict[str, Any]:
    """The map as a component draws it: coordinates a space, names, a group a clip."""
    rooms = {role: room.xy.round(4).tolist() for role, room in drawn.rooms.items()}
    subspaces = {name: room.xy.round(4).tolist() for name, room in drawn.subspaces.items()}
    groups: list[int] = []
    for factor in drawn.table.columns.drop("clip"):
        codes, values = drawn.table[factor].replace("", None).factorize()
        if 2 <= len(values) <= FEW:
            groups = [int(code) for code in codes]
            break
    names = [Path(clip).stem for clip in drawn.table["clip"]]
    return {"points": rooms, "subspaces": subspaces, "clips": names, "groups": groups}


def wav(waveform: Waveform) -> bytes:
    """A waveform as a 16-bit WAV file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
