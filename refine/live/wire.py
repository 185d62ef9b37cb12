"""Frames between the server and its worker: two lengths, a JSON header, bytes."""

import json
import struct
from typing import Any, BinaryIO

SIZES = struct.Struct("<II")
MOST = 64 << 20  # bytes of a frame; more is a broken stream


class WireError(ValueError):
    """A frame that cannot be read: the other side is not what it should be."""


def write(stream: BinaryIO, header: dict[str, Any], payload: bytes = b"") -> None:
    """One frame, in one call, so that threads with a lock around it never mix."""
    text = json.dumps(header, separators=(",", ":")).encode()
    stream.write(SIZES.pack(len(text), len(payload)) + text + payload)
    stream.flush()


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None where the stream has ended. Raises: `WireError`."""
    start = stream.read(SIZES.size)
    if len(start) < SIZES.size:
        return None
    text_size, size = SIZES.unpack(start)
    if text_size + size > MOST:
        raise WireError(f"a frame of {text_size + size} bytes; at most {MOST} are expected")
    text, payload = stream.read(text_size), stream.read(size)
    if len(text) < text_size or len(payload) < size:
        return None
    return json.loads(text), payload
