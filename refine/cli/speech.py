"""`refine synthesise`: spoken text in chosen voices, copies of a corpus, or its pseudo-speakers."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from refine.cli.console import phases, print_json

if TYPE_CHECKING:
    from refine.synthesis import Voice

Flag = tyro.conf.FlagCreatePairsOff[bool]


class SpeechError(ValueError):
    """A combination of flags that says nothing to speak."""


@dataclass(frozen=True)
class Synthesise:
    """Speak a text into a wav file, or make neutral copies (or other voices) of a corpus."""

    text: tyro.conf.Positional[str | None] = None
    """What to say."""
    out: Path | None = None
    """The wav file (of several voices, each adds its name), or the folder of the copies."""
    voice: tuple[str, ...] = ("en",)
    """Voices, as language or language+variant: en en+f3 de+m1."""
    rate: int = 175
    """Words per minute, 80 to 450."""
    pitch: int = 50
    """Base pitch, 0 to 99; 50 is the voice's own."""
    pitch_range: int | None = None
    """Liveliness of the melody, 0 (monotone) to 99; by default 50, for copies of a corpus 0."""
    corpus: str | None = None
    """Speak the text of every clip of this corpus instead, into a folder with clips.csv."""
    pseudo: int | None = None
    """With --corpus, speak nothing: change every recording into so many voices (its own is the
    first), by pitch, melody, formants and tilt, so that each says everything."""
    seed: int = 0
    """Draws the voices of --pseudo; the same seed repeats them."""
    json: Flag = False
    """Print one JSON object."""

    def run(self) -> int:
        """Speak and write."""
        if self.out is None:
            raise SpeechError("out: missing; give a wav file, or with --corpus a folder")
        if (self.text is None) == (self.corpus is None):
            raise SpeechError("text: give either a text in quotes or --corpus, not both or neither")
        if self.pseudo is not None and self.corpus is None:
            raise SpeechError("pseudo: needs --corpus, whose recordings it changes")
        if self.corpus and self.pseudo is not None:
            return self._pseudo(self.corpus, self.pseudo)
        return self._copies(self.corpus) if self.corpus else self._speak(self.text or "")

    def _voices(self, pitch_range: int) -> "list[Voice]":
        from refine.synthesis import Voice

        named = [name.partition("+") for name in self.voice]
        return [
            Voice(language, variant or None, self.rate, self.pitch, pitch_range)
            for language, _, variant in named
        ]

    def _speak(self, text: str) -> int:
        from refine.audio import SAMPLE_RATE
        from refine.synthesis import speak

        assert self.out is not None
        if self.out.suffix.lower() != ".wav":
            raise SpeechError(f"out: got {self.out.name}; give a name that ends in .wav")
        written = []
        for voice in self._voices(50 if self.pitch_range is None else self.pitch_range):
            path = self.out
            if len(self.voice) > 1:
                path = path.with_stem(f"{path.stem}-{voice.label}")
            waveform = speak(text, voice)
            _write(path, waveform)
            written.append({"path": str(path), "seconds": len(waveform) / SAMPLE_RATE})
        if self.json:
            print_json({"files": written})
        else:
            print("\n".join(f"{item['path']}: {item['seconds']:.2f} s" for item in written))
        return 0

    def _pseudo(self, source: str, number: int) -> int:
        from refine.corpus import open_corpus
        from refine.pseudo_speakers import cast, write

        assert self.out is not None
        _refuse_corpus(self.out)
        speakers = cast(number, self.seed)
        with phases() as report:
            corpus = open_corpus(source, progress=lambda *n: report("opening the corpus", *n))
            self.out.mkdir(parents=True, exist_ok=True)
            write(self.out, corpus, speakers, lambda *n: report("changing voices", *n))
        done = {"out": str(self.out), "n_clips": len(corpus) * number, "voices": number}
        if self.json:
            print_json(done)
        else:
            print(f"{self.out}: {len(corpus)} clips in {number} voices")
        return 0

    def _copies(self, source: str) -> int:
        import pandas as pd

        from refine.corpus import open_corpus
        from refine.synthesis import speak_many

        assert self.out is not None
        _refuse_corpus(self.out)
        voices = self._voices(self.pitch_range or 0)
        rows = []
        with phases() as report:
            corpus = open_corpus(source, progress=lambda *n: report("opening the corpus", *n))
            known = corpus.table[corpus.table["text"] != ""].to_dict("records")
            if not known:
                raise SpeechError(f"{source}: no clip has a text; add a column text to clips.csv")
            pairs = [(clip, voice) for voice in voices for clip in known]
            spoken = speak_many([(clip["text"], voice) for clip, voice in pairs])
            for (clip, voice), waveform in zip(pairs, spoken, strict=True):
                path = f"{voice.label}/{re.sub(r'[.][^./]*$', '', clip['clip'])}.wav"
                _write(self.out / path, waveform)
                kept = {key: value for key, value in clip.items() if key not in _REPLACED}
                rows.append({"path": path, **kept, "voice": voice.label, "source": clip["clip"]})
                report("speaking", len(rows), len(pairs))
        pd.DataFrame(rows).to_csv(self.out / "clips.csv", index=False)
        done = {
            "out": str(self.out),
            "n_clips": len(rows),
            "without_text": len(corpus) - len(known),
        }
        if self.json:
            print_json(done)
        else:
            print(f"{self.out}: {len(rows)} clips, {done['without_text']} had no text")
        return 0


_REPLACED = ("clip", "path", "duration_s", "speaker", "voice", "source")  # no longer true of a copy


def _refuse_corpus(folder: Path) -> None:
    if (folder / "clips.csv").exists():
        raise SpeechError(f"{folder}: holds a corpus already; give a new folder")


def _write(path: Path, waveform: object) -> None:
    import soundfile

    from refine.audio import SAMPLE_RATE

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
