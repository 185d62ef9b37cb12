"""A challenge for classes: one word, the word in another voice, another word; which dot stays?"""

from typing import Any

import numpy as np

STEPS = (
    "Say one word, in your usual voice.",
    "Say the same word in another voice, much higher or lower.",
    "Say another word, in your usual voice again.",
)
STAYS = {"content": "word", "speaker": "voice"}  # what each subspace is meant to hold


class Challenge:
    """Three utterances, compared in every space."""

    def __init__(self) -> None:
        self._heard: list[dict[str, np.ndarray]] = []

    def hear(self, spaces: dict[str, np.ndarray]) -> None:
        """The vectors of one utterance, by space; after the third, the next game begins."""
        if len(self._heard) == len(STEPS):
            self._heard = []
        self._heard.append(spaces)

    def news(self) -> dict[str, Any]:
        """What is asked next, or how far each space moved and the score.

        A space scores where what it is meant to hold moved it more than the other: 1 point each.
        """
        done = len(self._heard) == len(STEPS)
        news: dict[str, Any] = {"step": len(self._heard), "steps": len(STEPS)}
        if not done:
            return news | {"ask": STEPS[len(self._heard)]}
        moved = {}
        for name, first in self._heard[0].items():
            voice, word = (distance(first, heard[name]) for heard in self._heard[1:])
            moved[name] = {"voice": round(voice, 4), "word": round(word, 4)}
        meant = {name: STAYS[name] for name in moved if name in STAYS}
        points = sum(
            moved[name][holds] > moved[name]["voice" if holds == "word" else "word"]
            for name, holds in meant.items()
        )
        return news | {"moved": moved, "points": points, "of": len(meant), "ask": "Once more?"}


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """1 - cosine: 0 for the same direction, 2 for the opposite one."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return 1 - float(one @ other) / lengths if lengths else 1.0
