"""`refine heads` and `refine predict`: teach an encoder a factor, then ask it about recordings."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.table import Table
from rich.text import Text

from refine.cli.console import phases, print_json, say, tables
from refine.cli.measure import parse_layer

if TYPE_CHECKING:
    from refine.heads import HeadInfo, Prediction

Flag = tyro.conf.FlagCreatePairsOff[bool]
BAR = 30  # characters of a bar of probability 1


class PredictError(ValueError):
    """Flags that cannot be meant, or recordings of which none gets an answer."""


@dataclass(frozen=True)
class Heads:
    """Fit, list and delete the task heads of an encoder."""

    def run(self) -> int:
        """Never called: `heads` alone shows its help."""
        return 0


@dataclass(frozen=True)
class Fit:
    """Fit a calibrated head for a factor (mood, word, any column) on frozen embeddings.

    Train speakers fit it, dev speakers pick and calibrate it, test speakers measure it.
    """

    encoder: str
    """Name on the hub, folder, run id, or mini."""
    corpus: str
    """Folder of recordings, or demo, or samples."""
    factor: tuple[str, ...]
    """The columns to teach, a head each."""
    layer: str | None = None
    """A number, mean (of all hidden states), or best (the highest UAR on dev); by default the
    checkpoint's own."""
    pool: Literal["mean", "stats"] | None = None
    """Pooling over time; by default the checkpoint's own."""
    subspace: str | None = None
    """A named subspace of the encoder."""
    precision: float = 0.8
    """Share of answers that shall be right on dev; a less probable answer is unsure."""
    with_base: Flag = False
    """Fit the same heads for the encoder it was refined from too, to compare the two."""
    out: Path | None = None
    """Folder to write to instead of the run's own (or the cache, for an encoder that is no run)."""
    seed: int = 0
    """Seed of the split, where the corpus has none for this factor."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Fit, save and show."""
        if not self.factor:
            raise PredictError("factor: missing; name the columns to teach, as --factor emotion")
        layer = "best" if self.layer == "best" else parse_layer(self.layer)
        if layer == "all":
            raise PredictError(
                "layer: got all; a head reads one layer, give a number, mean or best"
            )
        if self.with_base and self.out is not None:
            raise PredictError(
                "out: got a folder for two encoders; leave out --with-base, or --out"
            )
        from refine.corpus import open_corpus
        from refine.encoders import load, peek
        from refine.head_fitting import fit
        from refine.heads import save

        fitted = []
        with phases() as report:
            corpus = open_corpus(self.corpus, progress=lambda *n: report("opening the corpus", *n))
            for name in self._names(peek):
                encoder = load(name)
                for factor in self.factor:
                    head = fit(
                        encoder,
                        corpus,
                        factor,
                        layer=layer,
                        pooling=self.pool,
                        subspace=self.subspace,
                        precision=self.precision,
                        seed=self.seed,
                        progress=lambda what, *n, at=f"{name}, {factor}": report(
                            f"{what} ({at})", *n
                        ),
                    )
                    fitted.append((name, head.info, save(head, name, self.out)))
        if self.json:
            print_json({"heads": [_as_dict(name, info, path) for name, info, path in fitted]})
        else:
            _print_heads([(name, info) for name, info, _ in fitted])
        return 0

    def _names(self, peek: Any) -> list[str]:
        if not self.with_base:
            return [self.encoder]
        base = peek(self.encoder).base
        if base is None:
            raise PredictError(
                f"with_base: {self.encoder} was not refined from another encoder; leave it out"
            )
        return [base, self.encoder]


@dataclass(frozen=True)
class List:
    """List the heads of an encoder: what they tell apart, how well, and when they are unsure."""

    encoder: str
    """Name on the hub, folder, run id, or mini."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Print a table of heads."""
        from refine.heads import find

        found = find(self.encoder)
        if self.json:
            print_json({"heads": [_as_dict(self.encoder, info, info.path) for info in found]})
        elif found:
            _print_heads([(self.encoder, info) for info in found])
        else:
            say(
                f"{self.encoder}: no head yet; fit one: python -m refine heads fit "
                f"--encoder {self.encoder} --corpus FOLDER --factor FACTOR"
            )
        return 0


@dataclass(frozen=True)
class Delete:
    """Delete a head of an encoder."""

    encoder: str
    """Name on the hub, folder, run id, or mini."""
    factor: str
    """The factor whose head is deleted."""

    def run(self) -> int:
        """Delete it."""
        from refine.heads import delete

        print(f"{delete(self.encoder, self.factor)}: deleted")
        return 0


@dataclass(frozen=True)
class Predict:
    """Ask the heads of an encoder about recordings: label, calibrated probability, or unsure."""

    clips: tyro.conf.Positional[tuple[str, ...]]
    """The recordings (wav, flac, ogg, mp3)."""
    encoder: str
    """Name on the hub, folder, run id, or mini; with a head (see heads fit)."""
    factor: tuple[str, ...] = ()
    """The factors to answer; by default every one it has a head for."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Predict and print."""
        if not self.clips:
            raise PredictError("clips: missing; name at least one recording")
        from refine import audio
        from refine.heads import Predictor, choose

        infos = choose(self.encoder, self.factor)  # refuses before torch is loaded
        predictor = Predictor.load(self.encoder, self.factor)
        answers: dict[str, dict[str, Prediction]] = {}
        refused: dict[str, str] = {}
        for clip in self.clips:
            try:
                waveform = audio.load(clip)
            except audio.AudioError as error:
                refused[clip] = error.reason
                continue
            reason = predictor.problem(waveform)
            if reason:
                refused[clip] = reason
            else:
                answers[clip] = predictor.predict([waveform])[0]
        if not answers:
            clip, reason = next(iter(refused.items()))
            more = f" (and {len(refused) - 1} more clips were refused)" if len(refused) > 1 else ""
            raise PredictError(f"{clip}: {reason}{more}")
        if self.json:
            print_json(_answers(self.encoder, infos, answers, refused))
            return 0
        for clip, found in answers.items():
            _print_answer(clip, found, infos)
        for clip, reason in refused.items():
            say(f"{clip}: {reason}")
        return 0


def _answers(
    encoder: str,
    infos: "list[HeadInfo]",
    answers: "dict[str, dict[str, Prediction]]",
    refused: dict[str, str],
) -> dict[str, Any]:
    heads = {info.factor: {"threshold": info.threshold, "says": info.statement} for info in infos}
    predictions = {
        clip: {factor: answer._asdict() for factor, answer in found.items()}
        for clip, found in answers.items()
    }
    return {"encoder": encoder, "heads": heads, "predictions": predictions, "refused": refused}


def _print_answer(clip: str, found: "dict[str, Prediction]", infos: "list[HeadInfo]") -> None:
    console = tables()
    for info in infos:
        answer = found[info.factor]
        console.print(Text.assemble((Path(clip).name, "bold"), f"  {info.factor}: ", _said(answer)))
        table = Table(box=None, show_header=False, pad_edge=False)
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
        for label, probability in ranked:
            bar = "█" * round(BAR * probability)
            style = "" if answer.unsure or label != answer.label else "green"
            table.add_row(f"  {label}", Text(bar.ljust(BAR, "·"), style), f"{probability:6.1%}")
        console.print(table)
        if answer.unsure:
            console.print(Text(f"  {info.statement}", "dim"))


def _said(answer: "Prediction") -> Text:
    if answer.unsure:
        return Text(f"unsure (perhaps {answer.label}, {answer.probability:.0%})", "yellow")
    return Text(f"{answer.label} ({answer.probability:.0%})", "bold green")


def _print_heads(heads: "list[tuple[str, HeadInfo]]") -> None:
    table = Table(
        "encoder", "factor", "classes", "UAR, test", "ECE before", "after", "layer", "corpus",
        box=None,
    )  # fmt: skip
    for name, info in heads:
        columns = [_show(info.measured.get(key)) for key in ("uar", "ece_before", "ece")]
        where = str(info.layer) if info.subspace is None else info.subspace
        table.add_row(
            name, info.factor, str(len(info.labels)), *columns, where, info.corpus["name"]
        )
    tables().print(table)
    for name, info in heads:
        if info.stale:
            say(f"{name}, {info.factor}: fitted for an earlier state of it; fit it again")
        say(f"{name}, {info.factor}: {info.statement}")
        for note in info.notes:
            say(f"{name}, {info.factor}: {note}")


def _as_dict(name: str, info: "HeadInfo", path: Path | None) -> dict[str, Any]:
    return {**vars(info), "for": name, "path": path, "says": info.statement, "met": info.met}


def _show(number: dict[str, Any] | None) -> str:
    if number is None:
        return ""
    return f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"
