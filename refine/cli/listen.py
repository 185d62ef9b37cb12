"""`refine listen`: the live page in a terminal."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from refine.cli.console import say
from refine.cli.predict import BAR, Flag, PredictError

METER = 40  # characters at full scale
TOP = 4  # classes of a head that are shown
PATIENCE_S = 30.0  # s for the last answers of a file


@dataclass(frozen=True)
class Listen:
    """Listen to a microphone of this computer, or a file: the encoder and its original answer."""

    of: Annotated[str | None, tyro.conf.arg(name="run")] = None
    """A run; its encoder and the one it was refined from answer side by side."""
    encoder: str | None = None
    """Any encoder instead of a run: mini, mini-rewire, a folder."""
    file: Path | None = None
    """A recording, paced as if it were spoken now."""
    device: str | None = None
    """Number or part of the name of a microphone; by default the system's own."""
    devices: Flag = False
    """List the microphones and end."""
    alone: Flag = False
    """Ask this encoder alone, not the one it was refined from."""
    json: Flag = False
    """Print each answer as a line of JSON instead of drawing."""

    def run(self) -> int:
        """Listen until the file ends or Ctrl-C."""
        from refine.live import sources

        if self.devices:
            for one in sources.devices():
                print(f"{one.index:3}  {one.name}{'  (default)' if one.default else ''}")
            return 0
        if (self.of is None) == (self.encoder is None):
            raise PredictError("run, encoder: give one of them, as --encoder mini-rewire")
        if self.file is not None and self.device is not None:
            raise PredictError("file, device: give one of them")
        before, after = self._pair(str(self.of or self.encoder))
        source = sources.file(self.file) if self.file else sources.microphone(self._device())
        return _follow(before, after, source, self.json)

    def _pair(self, name: str) -> tuple[str, str | None]:
        from refine.encoders import EncoderError, locate, peek

        base = None if self.alone else peek(name).base
        try:
            if base is not None and locate(base) is not None:
                return base, name
        except EncoderError:
            say(f"{name}: its original {base} is not here; {name} answers alone")
        return name, None

    def _device(self) -> int | str | None:
        return int(self.device) if self.device and self.device.isdecimal() else self.device


def _follow(before: str, after: str | None, source: Iterator[Any], as_json: bool) -> int:
    """Feed the source to an engine and show what it says."""
    import torch

    from refine.live.engine import Engine, Settings

    torch.set_num_threads(1)  # both encoders run side by side
    board = Board({"before": before, "after": after}, as_json)
    engine = Engine(lambda _, message: board.take(message))
    engine.open("terminal", Settings(before, after))
    while not board.ready:
        if board.failed:
            raise PredictError(board.failed)
        time.sleep(0.05)
    try:
        with board:
            for samples, stamp in source:
                if samples is None:
                    board.note(str(stamp))
                else:
                    engine.push("terminal", samples, stamp)
            engine.finish("terminal")
            until = time.monotonic() + PATIENCE_S
            while engine.waiting("terminal") and time.monotonic() < until:
                time.sleep(0.02)
    except KeyboardInterrupt:
        pass
    finally:
        engine.end()
    return 0


class Board:
    """What the terminal shows."""

    def __init__(self, names: dict[str, str | None], as_json: bool) -> None:
        self.names, self.as_json = names, as_json
        self.ready, self.failed = False, ""
        self._answer: dict[str, Any] | None = None
        self._heads: dict[str, Any] = {}
        self._level: dict[str, Any] = {"peak": 0.0, "speech": False, "heard_s": 0.0}
        self._word = ""
        self._live = Live(console=Console(), refresh_per_second=12, get_renderable=self._draw)

    def __enter__(self) -> "Board":
        if not self.as_json:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.as_json:
            self._live.stop()

    def take(self, message: dict[str, Any]) -> None:
        """A message of the engine."""
        kind = message["type"]
        if kind == "level":
            self._level = message
        elif kind == "refused":
            self._word = message["reason"]
        elif kind == "answer":
            self._answer, self._word = message, ""
        elif kind == "error":
            self.note(message["text"])
        elif kind == "state":
            self._heads = message.get("heads", self._heads)
            self.ready = message["state"] == "ready"
            self.failed = message["text"] if message["state"] == "failed" else ""
        told = kind == "answer" or (kind == "refused" and message["kind"] != "silence")
        if self.as_json and told:
            print_line(message)

    def note(self, text: str) -> None:
        """Something a person must know."""
        self._word = text
        if self.as_json:
            say(text)

    def _draw(self) -> Group:
        filled = round(METER * min(1.0, self._level["peak"] ** 0.5))
        light = Text("● ", "bold cyan" if self._level["speech"] else "dim")
        meter = Text("█" * filled + "·" * (METER - filled), "cyan")
        heard = Text(f"  heard {self._level['heard_s']:.1f} s of speech  ")
        lines: list[Any] = [Text.assemble(light, meter, heard, (self._word, "yellow"))]
        if self._answer is not None:
            for factor, said in self._answer["answers"].items():
                lines.append(Columns([self._panel(factor, role, said[role]) for role in said]))
            latency = self._answer["latency"]
            parts = ", ".join(f"{name} {value:.0f} ms" for name, value in latency.items())
            dropped = self._answer["dropped"]
            windows = "window" if dropped == 1 else "windows"
            lines.append(Text(f"{parts}; {dropped} {windows} dropped", "dim"))
        if not self._heads:
            lines.append(Text("no head is fitted yet; see: python -m refine heads fit --help"))
        return Group(*lines)

    def _panel(self, factor: str, role: str, answer: dict[str, Any]) -> Panel:
        table = Table(box=None, show_header=False, pad_edge=False)
        labels = self._heads[factor][role]["labels"]
        ranked = sorted(zip(answer["probabilities"], labels, strict=True), reverse=True)
        for chance, label in ranked[:TOP]:
            bar = "█" * round(BAR * chance)
            table.add_row(label, Text(bar.ljust(BAR, "·"), COLOURS[role]), f"{chance:4.0%}")
        said = "unsure" if answer["unsure"] else answer["label"]
        title = f"{factor} · {role} · {self.names[role]}: [bold]{said}[/bold]"
        return Panel(table, title=title, title_align="left", width=62)


COLOURS = {"before": "yellow", "after": "cyan"}


def print_line(message: dict[str, Any]) -> None:
    """One JSON object on one line."""
    import json
    import sys

    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
