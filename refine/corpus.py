"""Corpora: clips and what is known of them, split so that no voice is on both sides.

    corpus = open_corpus("../shared/data/arabic_commands")
    corpus.factors, corpus.counts("content"), corpus.waveform(corpus.table["clip"][0])

Every clip is decoded once when a corpus is opened; the bad ones are in `problems`, each with its
reason, and the others go on.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from refine import audio, paths
from refine.corpus_scan import Progress, scan
from refine.corpus_sources import (
    MANIFESTS,
    SPLITS,
    CorpusError,
    Listing,
    Problem,
    read,
    store_uploads,
)

__all__ = ["Corpus", "CorpusError", "Problem", "open_corpus"]

COLUMNS = ("clip", "split", "duration_s", "text")  # the others are factors
DEV_PERCENT, TEST_PERCENT = 15, 15  # of the speakers; the rest is train


@dataclass(frozen=True, eq=False)
class Corpus:
    """Usable clips of one source. A value "" in the table means unknown."""

    name: str
    root: Path
    table: pd.DataFrame  # clip, split, duration_s, text, then one string column a factor
    problems: tuple[Problem, ...]
    fingerprint: str  # of clips, contents and table; not of the folder's name or the row order
    contents: Mapping[str, str] = field(repr=False)  # clip -> SHA-256 of its file

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """Factors with a known value, in file order; constants, then ids, come last."""

        def rank(name: str) -> int:
            counts = self.counts(name)
            return 1 if len(counts) == 1 else 2 if counts.max() == 1 else 0

        names = [name for name in self.table.columns if name not in COLUMNS]
        return tuple(sorted((n for n in names if (self.table[n] != "").any()), key=rank))

    @property
    def speakers(self) -> np.ndarray | None:
        """The speaker of each clip ("" = unknown), or None where no speaker is known."""
        if "speaker" not in self.factors:
            return None
        return self.table["speaker"].to_numpy(dtype=object)

    @property
    def groups(self) -> np.ndarray:
        """What to resample by: the speaker, or the clip itself where the speaker is unknown."""
        clips = self.table["clip"].to_numpy(dtype=object)
        speakers = self.speakers
        return clips if speakers is None else np.where(speakers == "", "clip " + clips, speakers)

    @property
    def total_duration_s(self) -> float:
        return float(self.table["duration_s"].sum())

    def counts(self, factor: str) -> pd.Series:
        """Clips per known value of a factor (or of `split`), the most frequent first."""
        if factor not in self.table.columns:
            raise CorpusError(
                f"{self.name} has no factor {factor}; it has {', '.join(self.factors) or 'none'}"
            )
        values = self.table[factor]
        # sorted by name first, so that ties stand in a fixed order
        counts = values[values != ""].value_counts().sort_index()
        return counts.sort_values(ascending=False, kind="stable")

    def path(self, clip: str) -> Path:
        self._check_clips([clip])
        return self.root / clip

    def waveform(self, clip: str) -> audio.Waveform:
        """Decode one clip: 16 kHz mono, shape (n,). `AudioError` when it changed since opening."""
        path = self.path(clip)
        try:
            changed = audio.content_hash(path) != self.contents[clip]
        except OSError as error:
            raise audio.AudioError(
                "file not found; put it back, or open the corpus again without it", clip
            ) from error
        if changed:
            raise audio.AudioError(
                "changed since the corpus was opened; open the corpus again", clip
            )
        return audio.load(path)

    def subset(self, split: str | None = None, clips: Sequence[str] | None = None) -> "Corpus":
        """The clips of a split, of a list, or both; in the order of the table."""
        keep = pd.Series(True, index=self.table.index)
        if split is not None:
            keep &= self.table["split"] == split
        if clips is not None:
            self._check_clips(clips)
            keep &= self.table["clip"].isin(list(clips))
        if not keep.any():
            there = ", ".join(f"{s} {n}" for s, n in self.counts("split").items())
            chosen = f"split {split}" if split else "the clips asked for"
            raise CorpusError(f"{self.name}: no clip in {chosen}; clips there are: {there}")
        table = self.table[keep].reset_index(drop=True)
        inside = set(table["clip"])
        problems = tuple(p for p in self.problems if p.clip in inside)
        contents = {clip: self.contents[clip] for clip in table["clip"]}
        return Corpus(self.name, self.root, table, problems, fingerprint(table, contents), contents)

    def _check_clips(self, clips: Sequence[str]) -> None:
        unknown = [clip for clip in clips if clip not in self.contents]
        if unknown:
            raise CorpusError(f"{self.name}: no usable clip named {', '.join(unknown[:3])}")


def open_corpus(
    source: Path | str | Sequence[BinaryIO], *, seed: int = 0, progress: Progress | None = None
) -> Corpus:
    """Open a folder, "demo", "samples", or uploaded files.

    `seed` chooses the split of speakers where the source brings none; `progress(done, total)`
    is called while clips are decoded for the first time.
    Raises: `CorpusError` when there is no usable clip at all or the list of clips is wrong.
    """
    shipped = source if isinstance(source, str) and source in ("demo", "samples") else ""
    root = _shipped(shipped, progress) if shipped else _folder(source)
    uploaded = root.parent == paths.cache() / "uploads"
    name = shipped or (f"uploads {root.name[:6]}" if uploaded else root.name)
    try:
        listing = read(root)
    except OSError as error:
        raise CorpusError(f"{root}: cannot be read ({error.strerror}); check it") from error
    return _build(name, root, listing, seed, progress)


def _shipped(name: str, progress: Progress | None) -> Path:
    if name == "samples":
        return _folder(paths.ASSETS / "clips")
    from refine.demo import demo_corpus  # speaks the corpus on first use

    try:
        return demo_corpus(progress=progress).resolve()
    except ValueError as error:
        raise CorpusError(str(error)) from error


def _folder(source: Path | str | Sequence[BinaryIO]) -> Path:
    if not isinstance(source, str | Path):
        return store_uploads(source)
    if not str(source).strip():
        raise CorpusError("no corpus was named; give a folder, or demo for the shipped one")
    folder = Path(source).expanduser()
    if folder.name in MANIFESTS and folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        found = "a file, not a folder" if folder.exists() else "no such folder"
        raise CorpusError(
            f"{source}: {found}; give a folder with clips.csv, metadata.csv or folders of clips"
        )
    return folder.resolve()


def _build(name: str, root: Path, listing: Listing, seed: int, progress: Progress | None) -> Corpus:
    """Scan the listed clips, drop the bad ones, assign splits."""
    scans = scan(root, [row["clip"] for row in listing.rows], progress)
    problems = list(listing.problems)
    rows, contents = [], {}
    for row, found in zip(listing.rows, scans, strict=True):
        reason = found.problem or found.warning
        if reason:
            problems.append(Problem(row["clip"], reason, dropped=bool(found.problem)))
        if not found.problem:
            rows.append({**row, "duration_s": found.duration_s})
            contents[row["clip"]] = found.content
    if not rows:
        dropped = [p for p in problems if p.dropped]
        first = " ".join("; ".join(f"{p.clip}: {p.reason}" for p in dropped[:3]).split())
        raise CorpusError(f"{name}: none of its {len(dropped)} clips can be used. {first}")
    table = pd.DataFrame(rows, columns=[*COLUMNS, *listing.factors])
    table[listing.factors] = table[listing.factors].fillna("")
    table["split"], notes = _assign_splits(table, contents, seed)
    problems += [Problem("", note, dropped=False) for note in notes]
    return Corpus(name, root, table, tuple(problems), fingerprint(table, contents), contents)


def fingerprint(table: pd.DataFrame, contents: Mapping[str, str]) -> str:
    """SHA-256 over clips, their contents and the table; 64 hexadecimal digits."""
    columns = sorted(set(table.columns) - {"duration_s"})  # the length follows from the content
    rows = table[columns].to_numpy(dtype=object).tolist()
    lines = sorted([contents[clip], *row] for clip, row in zip(table["clip"], rows, strict=True))
    return hashlib.sha256(json.dumps([columns, lines]).encode()).hexdigest()


def _assign_splits(
    table: pd.DataFrame, contents: Mapping[str, str], seed: int
) -> tuple[pd.Series, list[str]]:
    """The split of each clip, and what a reader of the results must know about it."""
    speaker = table["speaker"] if "speaker" in table else pd.Series("", index=table.index)
    given = table["split"]
    if (given != "").any():
        split = given.where(given != "", speaker.map(_split_of_speakers(speaker, given)))
        blank = int((given == "").sum())
        notes = [f"{blank} clips have no split; each goes with its speaker, or to train"]
        return split, (notes if blank else []) + _notes(split, speaker)
    known = speaker[speaker != ""]
    chosen = _seeded(set(known), seed)
    # clips without a speaker are split by content: copies of one recording stay together
    loose = table["clip"][speaker == ""].map(contents)
    chosen_loose = _seeded(set(loose), seed)
    split = pd.concat([known.map(chosen), loose.map(chosen_loose)]).reindex(table.index)
    return split, _notes(split, speaker)


def _split_of_speakers(speaker: pd.Series, given: pd.Series) -> dict[str, str]:
    """Where the clips of each speaker that bring a split all agree, that split; else train."""
    splits: dict[str, set[str]] = {name: set() for name in speaker}
    for name, split in zip(speaker, given, strict=True):
        splits[name].add(split)
    agreed = {name: found - {""} for name, found in splits.items()}
    return {
        name: next(iter(found)) if name and len(found) == 1 else "train"
        for name, found in agreed.items()
    }


def _seeded(units: set[str], seed: int) -> dict[str, str]:
    """70/15/15 of the units (speakers or clips), by hash: the same on every machine."""
    order = sorted(units, key=lambda unit: hashlib.sha256(f"{seed}:{unit}".encode()).digest())
    n = len(order)
    test = max((n * TEST_PERCENT + 50) // 100, int(n >= 2))
    dev = max(n * DEV_PERCENT // 100, int(n >= 3))
    names = ["test"] * test + ["dev"] * dev + ["train"] * (n - test - dev)
    return dict(zip(order, names, strict=True))


def _notes(split: pd.Series, speaker: pd.Series) -> list[str]:
    """What this split makes impossible or doubtful, a sentence each."""
    notes = []
    speakers = set(speaker) - {""}
    sides = pd.DataFrame({"speaker": speaker, "split": split})[speaker != ""]
    splits = sides.groupby("speaker")["split"].nunique()
    shared = sorted(splits[splits > 1].index)
    if len(split) == 1:
        notes.append("one clip only: nothing can be compared, trained or tested; add recordings")
    elif len(speakers) == 1 and (speaker != "").all():
        notes.append(
            "one speaker only: nothing can be tested on an unseen voice and speakers cannot be "
            "told apart; add recordings of others"
        )
    if len(split) > 1 and not (split == "test").any():
        there = " and ".join(s for s in SPLITS if (split == s).any())
        notes.append(f"no clip is in test, all are in {there}: results are on clips trained on")
    if not speakers and len(split) > 1:
        notes.append("no speakers are known: the same voice may be in train and in test")
    if shared:
        notes.append(
            f"{len(shared)} speakers are in more than one split ({', '.join(shared[:3])}): "
            "results on test clips flatter"
        )
    return notes
