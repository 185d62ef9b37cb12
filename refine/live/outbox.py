"""What waits for the worker: orders in their turn, sound joined, so that none of it is lost.

A worker that is behind finds all that a stream said meanwhile in one frame. It hears every sample,
and gives up windows instead, which `engine` counts.
"""

import threading
from collections import deque
from typing import Any

from refine.audio import SAMPLE_RATE

MOST_S = 60  # s of sound of a stream that may wait; a worker that is further behind has stopped
MOST_ORDERS = 1_500

Frame = tuple[dict[str, Any], bytes]


class _Waiting:
    """One frame, and the sound that came in since."""

    def __init__(self, header: dict[str, Any], payload: bytes) -> None:
        self.header, self.parts, self.size = header, [payload], len(payload)


class Outbox:
    """A queue between threads."""

    def __init__(self) -> None:
        self._frames: deque[_Waiting] = deque()
        self._last: dict[str, _Waiting] = {}  # the newest frame of a stream, if it is sound
        self._sound: dict[str, int] = {}  # bytes that wait, by stream
        self._changed = threading.Condition()

    def put(self, header: dict[str, Any], payload: bytes = b"") -> bool:
        """Append a frame. False: too much waits already, and it was not taken."""
        stream = str(header.get("stream", ""))
        with self._changed:
            if header.get("do") != "push":
                if len(self._frames) >= MOST_ORDERS:
                    return False
                self._last.pop(stream, None)  # sound that comes later stays behind this order
                self._frames.append(_Waiting(header, payload))
            else:
                waits = self._sound.get(stream, 0) + len(payload)
                if waits > MOST_S * SAMPLE_RATE * 2:
                    return False
                self._sound[stream] = waits
                last = self._last.get(stream)
                if last is None:
                    self._last[stream] = last = _Waiting(header, payload)
                    self._frames.append(last)
                else:  # the stamp is that of the newest sample
                    last.header = header
                    last.parts.append(payload)
                    last.size += len(payload)
            self._changed.notify()
        return True

    def get(self, timeout: float) -> Frame | None:
        """The oldest frame, or None where none came in time (seconds)."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._frames, timeout):
                return None
            one = self._frames.popleft()
            if one.header.get("do") == "push":
                stream = str(one.header.get("stream", ""))
                self._sound[stream] -= one.size
                if not self._sound[stream]:
                    del self._sound[stream]
                if self._last.get(stream) is one:
                    del self._last[stream]
        return one.header, b"".join(one.parts)
