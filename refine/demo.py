"""The demo corpus: every espeak-ng voice of the grid speaks every sentence of the grid.

Nothing is downloaded. Each clip differs from its neighbours by one intervention, the speaker or the
content, so what an encoder keeps of either can be read off without a confound.
"""

import csv
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from refine.audio import SAMPLE_RATE
from refine.synthesis import Voice, speak_many

ROOT = Path(__file__).parent.parent
CONTENTS = 16  # sentences in the grid
LAYOUT = 1  # raise it when the folder's layout changes, so that older caches are not opened
ENCODING: dict[str, dict[str, Any]] = {  # what soundfile is told
    "flac": {"subtype": "PCM_16"},
    "ogg": {"subtype": "OPUS", "compression_level": 0.92},  # about 4 kB a second
}
COLUMNS = ("path", "speaker", "content", "gender", "language", "text", "split", "duration_s")


@dataclass(frozen=True)
class Speaker:
    """A voice of the grid. `gender` is how the voice sounds, after espeak-ng's own label."""

    name: str
    gender: Literal["female", "male"]
    split: Literal["train", "dev", "test"]
    voice: Voice


def speakers() -> list[Speaker]:
    """The 12 speakers: both genders in every split, four accents, each its own pitch and pace."""
    rows: list[tuple[Literal["female", "male"], Literal["train", "dev", "test"], Voice]] = [
        ("male", "train", Voice("en", "m3", rate=165, pitch=45, pitch_range=50)),
        ("female", "train", Voice("en", "f2", rate=175, pitch=50, pitch_range=55)),
        ("male", "train", Voice("en-us", "m7", rate=180, pitch=55, pitch_range=60)),
        ("female", "train", Voice("en-us", "f4", rate=160, pitch=60, pitch_range=45)),
        ("male", "train", Voice("en-gb-scotland", "Lee", rate=170, pitch=40, pitch_range=40)),
        ("female", "train", Voice("en-gb-scotland", "linda", rate=185, pitch=42, pitch_range=50)),
        ("male", "train", Voice("en-gb-x-rp", "m1", rate=155, pitch=35, pitch_range=45)),
        ("female", "train", Voice("en-gb-x-rp", "f3", rate=165, pitch=55, pitch_range=60)),
        ("male", "dev", Voice("en-us", "david", rate=170, pitch=60, pitch_range=50)),
        ("female", "dev", Voice("en", "Annie", rate=180, pitch=45, pitch_range=50)),
        ("male", "test", Voice("en", "pablo", rate=175, pitch=50, pitch_range=55)),
        ("female", "test", Voice("en-us", "steph", rate=165, pitch=52, pitch_range=50)),
    ]
    return [Speaker(f"v{number:02d}", *row) for number, row in enumerate(rows, start=1)]


def sentences() -> list[str]:
    """The sentences of `assets/sentences.txt`."""
    return (ROOT / "assets/sentences.txt").read_text("utf-8").splitlines()


def demo_corpus(
    cache: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Path:
    """The folder of the demo corpus: 12 speakers × 16 sentences, 16 kHz FLAC and `clips.csv`.

    `cache`: where to keep it; None is `$REFINE_CACHE`, or `.cache/refine` in the repository.
    `progress`: called with (clips spoken, clips in all) while it is made, on first use only.
    Raises: `SynthesisError` without the extra `synthesis`.
    """
    cast, texts = speakers(), sentences()[:CONTENTS]
    settings = repr((LAYOUT, [asdict(speaker) for speaker in cast], texts))
    version = hashlib.sha256(settings.encode()).hexdigest()[:12]
    cache = cache or Path(os.environ.get("REFINE_CACHE") or ROOT / ".cache/refine")
    folder = cache / f"demo-{version}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".demo-", dir=cache))
    try:
        write_grid(unfinished, cast, texts, "flac", progress)
        unfinished.chmod(0o755)  # mkdtemp's folder is its owner's alone
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # another process was faster, which is as good
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def write_grid(
    folder: Path,
    cast: Sequence[Speaker],
    texts: Sequence[str],
    suffix: Literal["flac", "ogg"],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Speak every text by every speaker into `folder/*.<suffix>` and `folder/clips.csv`."""
    import soundfile

    grid = [(speaker, number, text) for speaker in cast for number, text in enumerate(texts, 1)]
    waveforms = speak_many([(text, speaker.voice) for speaker, _, text in grid])
    rows = []
    for done, ((speaker, number, text), waveform) in enumerate(
        zip(grid, waveforms, strict=True), start=1
    ):
        content = f"s{number:02d}"
        path = f"{speaker.name}_{content}.{suffix}"
        soundfile.write(folder / path, waveform, SAMPLE_RATE, **ENCODING[suffix])
        labels = (speaker.name, content, speaker.gender, speaker.voice.language)
        duration_s = f"{waveform.size / SAMPLE_RATE:.3f}"
        rows.append((path, *labels, text, speaker.split, duration_s))
        if progress:
            progress(done, len(grid))
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
