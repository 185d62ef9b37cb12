"""Decode every clip of a corpus once: its length, its content, what is wrong with it.

The answers are kept below the cache by path, size and modification time, so that opening the
same corpus again reads no audio.
"""

import contextlib
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from refine import audio, paths

# a changed rule makes old answers worthless
RULES = (1, audio.MIN_SAMPLES, audio.MAX_SAMPLES, audio.SILENCE_PEAK, audio.CLIPPED_SHARE)
THREADS = min(8, os.cpu_count() or 1)  # soundfile decodes without the interpreter's lock
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scanned:
    """What decoding one clip showed. `content` is the SHA-256 of the file, "" for a bad clip."""

    duration_s: float
    content: str = ""
    problem: str | None = None
    warning: str | None = None


def scan(root: Path, clips: Sequence[str], progress: Progress | None = None) -> list[Scanned]:
    """Inspect the clips (posix paths below root), in order. `progress(done, total)` is called."""
    store = _store(root)
    known = _read(store)
    stamps = [_stamp(root / clip) for clip in clips]
    answers: dict[str, Scanned] = {}
    for clip, stamp in zip(clips, stamps, strict=True):
        if stamp and clip in known and known[clip][0] == stamp:
            answers[clip] = Scanned(**known[clip][1])
    missing = [clip for clip in clips if clip not in answers]
    if missing:
        pool = ThreadPoolExecutor(THREADS)
        try:
            results = pool.map(lambda clip: _inspect(root / clip), missing)
            for clip, result in zip(missing, results, strict=True):
                answers[clip] = result
                if progress:
                    progress(len(answers), len(clips))
        finally:  # somebody who stops half-way keeps what was scanned
            pool.shutdown(cancel_futures=True)
            new = {
                clip: (stamp, asdict(answers[clip]))
                for clip, stamp in zip(clips, stamps, strict=True)
                if stamp and clip in answers
            }
            _write(store, {**known, **new})
    elif progress:
        progress(len(clips), len(clips))
    return [answers[clip] for clip in clips]


def _inspect(path: Path) -> Scanned:
    found = audio.inspect(path)
    if found.problem:
        return Scanned(found.duration_s, problem=found.problem)
    try:
        content = audio.content_hash(path)
    except OSError as error:
        return Scanned(0.0, problem=f"cannot be read ({error.strerror}); check the disk")
    return Scanned(found.duration_s, content, warning=found.warning)


def _stamp(path: Path) -> list[int] | None:
    """Size and modification time, None for what is no regular file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns] if stat.S_ISREG(found.st_mode) else None


def _store(root: Path) -> Path:
    key = hashlib.sha256(json.dumps([root.as_posix(), RULES]).encode()).hexdigest()[:16]
    return paths.cache() / "corpora" / f"{key}.json"


def _read(store: Path) -> dict[str, list]:
    try:
        known = json.loads(store.read_bytes())
    except (OSError, ValueError):
        return {}  # no cache, or half of one: decode again
    return known if isinstance(known, dict) else {}


def _write(store: Path, known: dict) -> None:
    """Best effort: a full disk costs the next opening its speed, nothing else."""
    part = store.with_suffix(f".{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known))
        part.replace(store)
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)
