"""Where the clips of an intervention grid come from: espeak-ng, pseudo-speakers, your own engine.

    folder = espeak(voices=16, sentences=32)              # a corpus like any other
    folder = cloned(corpus, texts, speak, out)            # speak(reference, text) -> waveform

A folder made elsewhere is a recorded grid when its `clips.csv` has path, speaker, content, split;
for files named `<speaker>/<content>.wav`, `listed(folder)` writes it.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from refine import paths
from refine.audio import AUDIO_SUFFIXES, SAMPLE_RATE, Waveform
from refine.grids import FACTORS, Grid, GridError, recorded, sheets
from refine.pseudo_speakers import cast, make

if TYPE_CHECKING:
    from refine.corpus import Corpus
    from refine.corpus_scan import Progress
    from refine.recipes.interventional import Interventional

LAYOUT = 1  # raise it when clips or columns change, so that older caches are not opened
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029")
# whispers, robots and effects of espeak-ng, which are no voices
EFFECTS = re.compile(r"whisper|robo|demonic|croak|klatt|anika|fast|half|caleb|universal")
REFERENCE_S = (3.0, 10.0)  # of a voice to clone, as Cox & Barker 2026 take them
REFERENCE_SEED = 42  # theirs
# seconds of speech made in a second on one core, and how long a sentence is: for estimates alone
PSEUDO_PACE, ESPEAK_PACE, SENTENCE_S = 60.0, 100.0, 2.5

Speak = Callable[[Waveform, str], Waveform]


@dataclass(frozen=True)
class Source:
    """Clips of one grid: where they are, and how the grid lies over them."""

    name: str
    corpus: "Corpus"
    grid: Grid
    family: str  # sources of one family mean the same by the same value: zero is zero


@dataclass(frozen=True)
class Supply:
    """Recordings, and the engines that make grids of them: recorded, pseudo."""

    corpus: "Corpus"
    engines: tuple[str, ...]


def sources(
    config: "Interventional",
    supplies: Sequence[Supply],
    tell: Callable[..., None] | None = None,
    note: Callable[[str], None] | None = None,
) -> list[Source]:
    """The grids of all engines and corpora of a training; what has to be spoken is spoken now.

    `tell(what, done, total)` hears of progress, `note` of a corpus that has no recorded grid.
    Raises: `GridError` naming the corpus.
    """

    def progress(what: str) -> "Progress":
        return lambda done, total: tell(what, done, total) if tell else None

    found = []
    for supply in supplies:
        corpus = supply.corpus
        if "recorded" in supply.engines:
            try:
                found.append(of_recordings(corpus, config.axes, config.holes))
            except GridError as error:
                # where pseudo-speakers help, a corpus without a recorded grid is left to them
                if "pseudo" not in supply.engines or config.holes == "refuse":
                    raise
                if note:
                    note(f"{error}; its pseudo-speakers are a grid all the same")
        if "pseudo" in supply.engines:
            found.append(
                of_pseudo_speakers(
                    corpus, config.pseudo_speakers, config.pseudo_recordings, config.axes,
                    progress=progress(f"pseudo-speakers of {corpus.name}"),
                    piece_s=config.pseudo_seconds,
                )
            )  # fmt: skip
    if "espeak" in config.engines:
        found.append(
            of_espeak(
                config.espeak_voices, config.espeak_sentences, config.axes,
                progress=progress("speaking the grid"),
            )
        )  # fmt: skip
    return found


def expected(config: "Interventional", supplies: Sequence[Supply]) -> tuple[float, float]:
    """(seconds of audio that need features, seconds it takes to make what is not recorded)."""
    audio_s = making_s = 0.0
    for supply in supplies:
        table = _train(supply.corpus).table
        seconds = float(table["duration_s"].sum())
        if "recorded" in supply.engines:
            audio_s += seconds
        if "pseudo" in supply.engines:
            share = min(1.0, config.pseudo_recordings / len(table))
            audio_s += seconds * share * config.pseudo_speakers
            making_s += seconds * share * config.pseudo_speakers / PSEUDO_PACE
    if "espeak" in config.engines:
        spoken = config.espeak_voices * config.espeak_sentences * SENTENCE_S
        audio_s += spoken
        making_s += spoken / ESPEAK_PACE
    return audio_s, making_s


def of_recordings(
    corpus: "Corpus",
    factors: Sequence[str] = FACTORS,
    holes: Literal["leave out", "refuse"] = "leave out",
) -> Source:
    """The train clips of a corpus in which speakers say the same things. Raises: `GridError`."""
    train = _train(corpus)
    try:
        grid = recorded(train.table, factors, complete=holes == "refuse")
    except GridError as error:
        raise GridError(f"{corpus.name}: {error}") from error
    return Source(corpus.name, train, grid, corpus.name)


def of_pseudo_speakers(
    corpus: "Corpus",
    number: int,
    recordings: int,
    factors: Sequence[str] = FACTORS,
    seed: int = 0,
    progress: "Progress | None" = None,
    piece_s: float = 0.0,
) -> Source:
    """The train clips of a corpus, each in `number` voices; made once and kept in the cache.

    Every changed voice is a speaker of its own: speaker A as pseudo-speaker 3 is neither A nor
    B as pseudo-speaker 3. Where speakers say the same things the grid is all voices × contents;
    else each original speaker has a sheet, its voices × its recordings.

    Args:
        recordings: most clips taken, spread over the speakers (and contents) with the seed.
        piece_s: where speakers do not say the same things, cut recordings into pieces of so many
            seconds, each a content of its own; 0 leaves them whole.
    Raises: `GridError`, `PseudoSpeakerError`.
    """
    from refine.corpus import open_corpus

    train = _train(corpus)
    known = (*factors, "speaker") if "speaker" in train.table else tuple(factors)
    shared = _is_grid(train.table, factors)
    chosen = _spread(train.table, [f for f in known if f in train.table], recordings, seed)
    train = train.subset(clips=chosen)
    piece_s = 0.0 if shared else piece_s
    made = open_corpus(make(train, cast(number, seed), progress=progress, piece_s=piece_s))
    table = made.table
    if shared:
        grid = recorded(table, factors)
    else:
        table["content"] = table["recording"]
        grid = sheets(table, "original", factors)
    return Source(f"{corpus.name} as pseudo-speakers", made, grid, corpus.name)


def of_espeak(
    voices: int, sentences: int, factors: Sequence[str] = FACTORS, seed: int = 0,
    progress: "Progress | None" = None,
) -> Source:  # fmt: skip
    """espeak-ng voices × sentences (× rates × pitches where these are factors)."""
    from refine.corpus import open_corpus

    rates = (140, 175, 220) if "rate" in factors else (175,)
    pitches = (30, 50, 70) if "pitch" in factors else (50,)
    corpus = open_corpus(espeak(voices, sentences, rates, pitches, seed, progress=progress))
    return Source("espeak", corpus, recorded(corpus.table, factors, complete=True), "espeak")


def espeak(
    voices: int = 32,
    sentences: int = 64,
    rates: Sequence[int] = (175,),
    pitches: Sequence[int] = (50,),
    seed: int = 0,
    cache: Path | None = None,
    progress: "Progress | None" = None,
) -> Path:
    """A corpus of espeak-ng voices that each speak every sentence at every rate and pitch.

    Columns speaker, content, rate, pitch, text. Voices are drawn with the seed; rate (words a
    minute) and pitch (0 to 99) are around those of the voice where they are no factor.
    Raises: `GridError` for more voices or sentences than there are; `SynthesisError`.
    """
    from refine.demo import sentences as texts
    from refine.synthesis import Voice, variants

    tracts = [name for name in variants() if not EFFECTS.search(name.lower())]
    choices = list(product(ACCENTS, tracts))
    for what, asked, there in (
        ("voices", voices, len(choices)),
        ("sentences", sentences, len(texts())),
    ):
        if not 2 <= asked <= there:
            raise GridError(f"{what}: got {asked}; espeak-ng has 2 to {there} of them here")
    key = repr((LAYOUT, voices, texts()[:sentences], tuple(rates), tuple(pitches), seed))
    draw = np.random.default_rng(seed)
    own = draw.integers((-20, -12, 30), (21, 13, 71), (voices, 3)).tolist()
    chosen = draw.choice(len(choices), voices, replace=False).tolist()
    items = []
    for number, (which, (pace, height, liveliness)) in enumerate(zip(chosen, own, strict=True)):
        language, variant = choices[which]
        for content, text in enumerate(texts()[:sentences]):
            for rate, pitch in product(rates, pitches):
                # a factor has the same values in every voice; else each voice has its own
                voice = Voice(
                    language,
                    variant,
                    rate=rate + (0 if len(rates) > 1 else pace),
                    pitch=pitch + (0 if len(pitches) > 1 else height),
                    pitch_range=liveliness,
                )
                labels = (f"v{number:03d}", f"s{content:03d}", str(rate), str(pitch), text)
                items.append((voice, labels))
    folder = (cache or paths.cache()) / f"espeak-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not folder.exists():
        with _unfinished(folder) as part:
            _speak(part, items, progress)
    return folder


def cloned(
    corpus: "Corpus",
    texts: Sequence[str],
    speak: Speak,
    out: Path,
    seed: int = REFERENCE_SEED,
    progress: "Progress | None" = None,
) -> Path:
    """A corpus in which a voice-cloning engine of yours lets every speaker say every text.

    Args:
        corpus: reference recordings; its train speakers are cloned, each utterance after a clip
            of the speaker (3 to 10 s where there is one) drawn with the seed.
        speak: called as speak(reference, text); both waveforms are 16 kHz mono float32.
        out: folder to write; goes on where it stopped when called again.
    Raises: `GridError` for fewer than two speakers or texts, for what `speak` returned.
    """
    import soundfile

    train = _train(corpus)
    if "speaker" not in train.factors:
        raise GridError(f"{corpus.name}: no speaker is known, so there is no voice to clone")
    people = sorted(set(train.table["speaker"]) - {""})
    if len(people) < 2 or len(set(texts)) < 2:
        raise GridError(
            f"{len(people)} speakers and {len(set(texts))} texts; a grid needs two or more of each"
        )
    draw = np.random.default_rng(seed)
    rows = []
    for speaker in people:
        clips = train.table[train.table["speaker"] == speaker]
        fitting = clips[clips["duration_s"].between(*REFERENCE_S)]
        pool = (fitting if len(fitting) else clips)["clip"].tolist()
        for number, text in enumerate(texts):
            reference = pool[int(draw.integers(len(pool)))]
            path = Path(_plain(speaker)) / f"s{number:04d}.flac"
            if not (out / path).exists():
                waveform = np.asarray(speak(train.waveform(reference), text), dtype=np.float32)
                _refuse_unspoken(waveform, speaker, text)
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                part = (out / path).with_suffix(".part")
                soundfile.write(part, waveform, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
                part.replace(out / path)  # so that a torn file never counts as spoken
            rows.append(
                {
                    "path": path.as_posix(),
                    "speaker": speaker,
                    "content": f"s{number:04d}",
                    "text": text,
                    "reference": reference,
                    "split": "train",
                }
            )
            if progress:
                progress(len(rows), len(people) * len(texts))
    pd.DataFrame(rows).to_csv(out / "clips.csv", index=False)
    return out


def listed(folder: Path) -> int:
    """Write `clips.csv` of a folder of `<speaker>/<content>.wav` (.flac, .ogg …), all train.

    Returns: how many clips there are. Raises: `GridError` where there is such a file, or no clip.
    """
    if (folder / "clips.csv").exists():
        raise GridError(f"{folder}: has clips.csv already; edit it, or remove it first")
    clips = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not clips:
        raise GridError(f"{folder}: no recordings as <speaker>/<content>.wav; name them so")
    rows = [(f"{p.parent.name}/{p.name}", p.parent.name, p.stem, "train") for p in clips]
    table = pd.DataFrame(rows, columns=["path", "speaker", "content", "split"])
    table.to_csv(folder / "clips.csv", index=False)
    return len(rows)


def _train(corpus: "Corpus") -> "Corpus":
    return corpus.subset("train")


def _is_grid(table: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Whether speakers say the same things, so that contents need not be told by recording."""
    try:
        grid = recorded(table, factors)
    except GridError:
        return False
    return len(grid.rows) >= 0.5 * len(table)


def _spread(table: pd.DataFrame, factors: Sequence[str], number: int, seed: int) -> list[str]:
    """At most so many clips, as many of each combination of factors as can be."""
    shuffled = table.sample(frac=1, random_state=seed)
    turn = shuffled.groupby(list(factors)).cumcount() if factors else None
    order = (
        shuffled
        if turn is None
        else shuffled.assign(_turn=turn).sort_values("_turn", kind="stable")
    )
    chosen = set(order["clip"].iloc[:number])
    return [clip for clip in table["clip"] if clip in chosen]


def _speak(folder: Path, items: list, progress: "Progress | None") -> None:
    import soundfile

    from refine.synthesis import speak_many

    rows = []
    spoken = speak_many([(labels[-1], voice) for voice, labels in items])
    for (voice, labels), waveform in zip(items, spoken, strict=True):
        speaker, content, rate, pitch, text = labels
        path = f"{speaker}/{content}_{rate}_{pitch}.flac"
        (folder / speaker).mkdir(exist_ok=True)
        soundfile.write(folder / path, waveform, SAMPLE_RATE, subtype="PCM_16")
        rows.append((path, speaker, content, rate, pitch, voice.label, text, "train"))
        if progress:
            progress(len(rows), len(items))
    columns = ["path", "speaker", "content", "rate", "pitch", "voice", "text", "split"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "clips.csv", index=False)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when all went well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp's folder is its owner's alone
        part.rename(folder)
    except OSError as error:
        if not folder.exists():  # else another process was faster, which is as good
            raise GridError(
                f"{folder}: could not be written ({error.strerror or error}); free some space and "
                "try again"
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_unspoken(waveform: np.ndarray, speaker: str, text: str) -> None:
    told = f"the engine, asked for {speaker} to say {text[:40]!r}, returned"
    if waveform.ndim != 1 or not len(waveform):
        raise GridError(f"{told} shape {waveform.shape}; expected 16 kHz mono (samples,)")
    if not np.isfinite(waveform).all() or np.abs(waveform).max() < 1e-4:
        raise GridError(f"{told} silence or samples that are not finite; check the engine")


def _plain(name: str) -> str:
    """A name as a folder may have it on every system."""
    return re.sub(r"[^\w.-]", "_", name).strip(".") or "_"
