"""What one person sees beside the bars: the map, the voices by name, the challenge."""

from typing import Any

import numpy as np
from jaxtyping import Float

from refine import audio, paths
from refine.audio import SAMPLE_RATE, Waveform
from refine.live import challenge, voices
from refine.live.cloud import Cloud, Spec
from refine.live.cloud import load as load_cloud
from refine.live.predict import Pair, Said
from refine.live.stream import Window
from refine.live.voices import PIECE_S, PIECES, VoiceError, Voices

WINDOW = round(1.5 * SAMPLE_RATE)  # samples; a voice is enrolled from windows as long as live ones


class SceneError(ValueError):
    """An order that cannot be followed, in one sentence."""


class Scene:
    """State that outlives a lost connection, but not the worker: voices are in memory only."""

    def __init__(self, key: tuple[str, str | None], pair: Pair) -> None:
        self.key, self.pair = key, pair
        self.cloud: Cloud | None = None
        self.known: dict[str, Voices] = {}
        self.game: challenge.Challenge | None = None
        self.saved = False
        self._name: str | None = None  # being enrolled
        self._heard: list[Waveform] = []
        self._pieces: list[Waveform] = []

    def show(self, spec: Spec | None) -> None:
        """Lay the map of a corpus below the live point."""
        self.cloud = load_cloud(spec) if spec else None

    def listen(self, samples: Waveform, speaking: bool) -> None:
        """Gather speech for the voice that is being enrolled."""
        if self._name is None or not speaking or self.due:
            return
        self._heard.append(np.asarray(samples, np.float32))
        if sum(map(len, self._heard)) >= PIECE_S * SAMPLE_RATE:
            self._pieces.append(np.concatenate(self._heard))
            self._heard = []

    @property
    def due(self) -> bool:
        """Whether all pieces of a new voice have been heard."""
        return self._name is not None and len(self._pieces) >= PIECES

    def enrol_due(self) -> dict[str, Any]:
        """Turn what was heard into a voice; the sound is let go."""
        name, pieces = self._name, self._pieces
        self._name, self._pieces, self._heard = None, [], []
        cuts = [
            piece[start : start + WINDOW]
            for piece in pieces
            for start in range(0, len(piece) - WINDOW + 1, WINDOW)
        ]
        said = self.pair.ask(cuts)
        for role in self.pair.predictors:
            self._voices(role).enrol(str(name), [self._voice(role, one[role]) for one in said])
        if self.saved:
            self._save()
        return self.news()

    def see(self, window: Window, said: dict[str, Said]) -> dict[str, Any]:
        """Place a window on the map and among the voices."""
        seen: dict[str, Any] = {}
        if self.cloud is not None:
            rooms = self.cloud.rooms
            seen["place"] = {
                role: rooms[role].place(one.vector)._asdict()
                for role, one in said.items()
                if role in rooms and one.vector.shape == (rooms[role].unit.shape[1],)
            }
            seen["subspaces"] = {
                name: room.place(self._block(said["after"].vector, name))._asdict()
                for name, room in self.cloud.subspaces.items()
            }
        if self._name is not None:
            seen["enrolling"] = self._progress()
        elif any(found.pieces for found in self.known.values()):
            seen["voices"] = {
                role: self.known[role].identify(self._voice(role, one))._asdict()
                for role, one in said.items()
            }
        if self.game is not None and window.final:
            self.game.hear(self._spaces(said))
            seen["challenge"] = self.game.news()
        return seen

    def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """Follow an order of the page; returns the news to show.

        `type` is enrol (name), cancel, delete (name), forget, save (keep), challenge (on).
        Raises: `VoiceError` or `SceneError`, one sentence.
        """
        kind, name = order.get("type"), str(order.get("name", ""))
        if kind == "enrol":
            self._name, self._heard, self._pieces = voices.check_name(name), [], []
        elif kind == "cancel":
            self._name, self._heard, self._pieces = None, [], []
        elif kind == "delete":
            for role in self.pair.predictors:
                self._voices(role).delete(name)
        elif kind == "forget":
            self.known.clear()
            self._name, self._heard, self._pieces = None, [], []
            self._unsave()
        elif kind == "save":
            self._keep(bool(order.get("keep")))
        elif kind == "challenge":
            self.game = challenge.Challenge() if order.get("on") else None
        else:
            raise SceneError(f"type: got {kind!r}; expected enrol, cancel, delete, forget or save")
        if kind == "delete" and self.saved:
            self._save()
        return self.news()

    def news(self) -> dict[str, Any]:
        """Who is enrolled, with which threshold; what is being enrolled; the challenge."""
        roles = {}
        for role, found in self.known.items():
            if found.pieces:
                roles[role] = found.threshold._asdict()
        names = list(next(iter(self.known.values())).pieces) if self.known else []
        return {
            "type": "voices",
            "names": names,
            "threshold": roles,
            "enrolling": self._progress(),
            "saved": self.saved,
            "challenge": self.game.news() if self.game else None,
        }

    def _progress(self) -> dict[str, Any] | None:
        if self._name is None:
            return None
        heard = sum(map(len, self._heard)) / SAMPLE_RATE
        return {
            "name": self._name,
            "piece": min(len(self._pieces) + 1, PIECES),
            "pieces": PIECES,
            "heard": round(heard, 1),
            "needed": PIECE_S,
        }

    def _voices(self, role: str) -> Voices:
        if role not in self.known:
            if not self.known:
                self._background = self._strangers()
            self.known[role] = Voices(self._background[role])
        return self.known[role]

    def _strangers(self) -> dict[str, Float[np.ndarray, "n dim"]]:
        """The shipped clips, cut as live windows are, and the clips of the map."""
        cuts = []
        for path in sorted((paths.ASSETS / "clips").glob("*.ogg")):
            waveform = audio.load(path)
            cuts += [
                waveform[start : start + WINDOW]
                for start in range(0, len(waveform) - WINDOW + 1, WINDOW)
            ]
        if not cuts:
            raise VoiceError("assets/clips is empty, and voices need a background; copy it again")
        said = self.pair.ask(cuts)
        found = {}
        for role in self.pair.predictors:
            rows = [self._voice(role, one[role]) for one in said]
            if self.cloud is not None and role in self.cloud.vectors:
                rows += [self._named(role, vector) for vector in self.cloud.vectors[role][:200]]
            found[role] = np.stack(rows)
        return found

    def _voice(self, role: str, said: Said) -> Float[np.ndarray, " dim"]:
        return self._named(role, said.vector)

    def _named(self, role: str, vector: np.ndarray) -> np.ndarray:
        """The part of a vector that knows the speaker, where one is named so."""
        blocks = self.pair.predictors[role].encoder.subspaces
        return vector[blocks["speaker"]] if "speaker" in blocks else vector

    def _block(self, vector: np.ndarray, name: str) -> np.ndarray:
        return vector[self.pair.predictors["after"].encoder.subspaces[name]]

    def _spaces(self, said: dict[str, Said]) -> dict[str, np.ndarray]:
        """The vectors a challenge compares: named subspaces of after, else both whole spaces."""
        after = self.pair.predictors.get("after")
        names = [name for name in after.encoder.subspaces if name != "all"] if after else []
        if names:
            return {name: self._block(said["after"].vector, name) for name in names}
        return {role: one.vector for role, one in said.items()}

    def _fingerprint(self, role: str) -> str:
        return self.pair.predictors[role].encoder.fingerprint

    def _keep(self, keep: bool) -> None:
        if not keep:
            self._unsave()
            return
        self.saved = True
        for role in self.pair.predictors:
            found = self._voices(role)
            for name, pieces in voices.load(self._fingerprint(role)).items():
                if name not in found.pieces:
                    found.enrol(name, pieces)
        self._save()

    def _save(self) -> None:
        for role, found in self.known.items():
            voices.save(found, self._fingerprint(role))

    def _unsave(self) -> None:
        """What was saved is deleted from the disk."""
        if self.saved:
            for role in self.pair.predictors:
                voices.stored(self._fingerprint(role)).unlink(missing_ok=True)
        self.saved = False
