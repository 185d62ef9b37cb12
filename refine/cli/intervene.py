"""`refine intervene`: change the voice or the words of an utterance, see which subspace moves."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.table import Table

from refine.cli.console import phases, print_json, tables

if TYPE_CHECKING:
    from refine.audio import Waveform

Flag = tyro.conf.FlagCreatePairsOff[bool]


class InterveneError(ValueError):
    """Flags that do not say two utterances."""


@dataclass(frozen=True)
class Intervene:
    """Speak two utterances and measure how far each space moved from the first to the second.

    A value given once holds for both; given twice, for the first and the second.
    """

    text: tuple[str, ...] = ()
    """What is said: one text, or two."""
    clips: tuple[str, ...] = ()
    """Two recordings of --corpus instead, by their paths in it."""
    before: str = "mini"
    """The encoder as it was: name on the hub, folder, run id, or mini."""
    after: str = "mini-interventional"
    """The refined encoder, with named subspaces."""
    voice: tuple[str, ...] = ("en+m3",)
    """Voices of espeak-ng, as language or language+variant: en+m3 en+f2."""
    rate: tuple[int, ...] = (175,)
    """Words per minute, 80 to 450."""
    pitch: tuple[int, ...] = (50,)
    """Base pitch, 0 to 99; 50 is the voice's own."""
    corpus: str | None = None
    """Pairs of this corpus give the distances a scale; without it they are plain."""
    split: Literal["train", "dev", "test", "all"] | None = None
    """Part of the corpus; by default test, or everything where there is no split."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Speak, embed, compare."""
        from refine.encoders import load, peek
        from refine.interventions import BEFORE, distances, references, relative
        from refine.listening import vector_of
        from refine.spaces import spaces_of

        done, waveforms = self._clips() if self.clips else self._spoken()
        encoders = {name: load(name).eval() for name in (self.before, self.after)}
        blocks = encoders[self.after].subspaces
        raw: dict[str, float] = {}
        for name, parts in ((self.before, {BEFORE: slice(None)}), (self.after, blocks)):
            first, second = (vector_of(encoders[name], wave) for wave in waveforms)
            raw |= distances(first, second, parts)
        done["distances"] = raw
        if self.corpus is not None:
            before, after = self._results(self.corpus)
            spaces = spaces_of(before, after, peek(self.after))
            scale = references(spaces)
            done["relative"] = relative(raw, scale)
            done["medians"] = {name: one.medians for name, one in scale.spaces.items()}
        if self.json:
            print_json(done)
        else:
            self._print(done)
        return 0

    def _spoken(self) -> "tuple[dict[str, Any], list[Waveform]]":
        from refine.interventions import Utterance

        if not self.text:
            raise InterveneError("text: missing; give one or two texts, or two --clips")
        one, two = (
            Utterance(*(self._of(name, side) for name in ("text", "voice", "rate", "pitch")))
            for side in (0, 1)
        )
        told = {"first": asdict(one), "second": asdict(two), "changed": one.differs(two)}
        return told, [one.waveform(), two.waveform()]

    def _clips(self) -> "tuple[dict[str, Any], list[Waveform]]":
        from refine.corpus import open_corpus

        if self.text or self.corpus is None or len(self.clips) != 2:
            raise InterveneError(
                "clips: give two clips of --corpus and no --text; "
                f"got {len(self.clips)}{'' if self.corpus else ' and no corpus'}"
            )
        corpus = open_corpus(self.corpus)
        table = corpus.table.set_index("clip")
        if missing := [clip for clip in self.clips if clip not in table.index]:
            raise InterveneError(f"clips: {missing[0]} is not in {self.corpus}; check its path")
        first, second = (table.loc[clip] for clip in self.clips)
        changed = [name for name in corpus.factors if first[name] != second[name]]
        told = {"first": self.clips[0], "second": self.clips[1], "changed": changed}
        return told, [corpus.waveform(clip) for clip in self.clips]

    def _of(self, name: str, side: int) -> Any:
        values = getattr(self, name)
        if not 1 <= len(values) <= 2:
            raise InterveneError(f"{name}: got {len(values)} values; give one or two")
        return values[min(side, len(values) - 1)]

    def _results(self, source: str) -> list[dict[str, Any]]:
        from refine.corpus import open_corpus
        from refine.evaluation import evaluate

        with phases() as report:
            corpus = open_corpus(source, progress=lambda *n: report("opening the corpus", *n))
            return [
                evaluate(name, corpus, split=self.split, progress=report)
                for name in (self.before, self.after)
            ]

    def _print(self, done: dict[str, Any]) -> None:
        changed = ", ".join(done["changed"]) or "nothing"
        table = Table("space", "cosine distance", "in strangers", title=f"changed: {changed}",
                      box=None)  # fmt: skip
        for name, far in done["distances"].items():
            told = f"{done['relative'][name]:.2f}" if "relative" in done else "give --corpus"
            table.add_row(name, f"{far:.4f}", told)
        tables().print(table)
