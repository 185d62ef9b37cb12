"""Where clips come from: `clips.csv`, a Hugging Face audiofolder, a tree of folders, uploads.

Each reader answers a `Listing`: one row of strings a clip, as written, nothing decoded yet.
"""

import csv
import hashlib
import io
import json
import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from refine import audio, paths

MANIFESTS = ("clips.csv", "metadata.csv", "metadata.jsonl")
MAX_CLIPS = 200_000  # beyond it somebody opened a whole disk
SPLITS = ("train", "dev", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# columns the corpus and the embedding table own; a factor of that name gets `_factor` behind it
RESERVED = frozenset({"clip", "split", "duration_s", "text", "layer", "vector"})
ALIASES = {"speaker": ("speaker_id",), "text": ("transcription", "transcript")}
FOREIGN_SUFFIXES = frozenset({".m4a", ".aac", ".wma", ".mp4", ".webm", ".amr", ".aif", ".aiff"})


class CorpusError(ValueError):
    """A corpus that cannot be opened. The message names what was found and what to do."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one clip; with `clip` "" a note on the whole corpus."""

    clip: str
    reason: str
    dropped: bool  # False: a warning, the clip is in the corpus


@dataclass
class Listing:
    """Clips as their source lists them: rows of strings with `clip`, `split`, `text`, factors."""

    rows: list[dict[str, str]]
    factors: list[str]
    problems: list[Problem]


def read(root: Path) -> Listing:
    """List the clips of a folder by its manifest, or by its folders where it has none."""
    manifests = _find_manifests(root)
    if not manifests:
        inner = sorted(child.parent.name for child in root.glob("*/clips.csv"))
        if inner:
            raise CorpusError(
                f"{root}: this folder holds {len(inner)} corpora; open one: {', '.join(inner)}"
            )
        listing = _read_tree(root)
    else:
        listing = Listing([], [], [])
        for manifest in manifests:
            _read_manifest(manifest, root, listing)
    _drop_duplicates(listing)
    _drop_durations(listing)
    if not any(row["split"] for row in listing.rows):
        _splits_from_folders(listing.rows)
    if not listing.rows and not listing.problems:
        raise CorpusError(f"{manifests[0].name if manifests else root}: no clips in it")
    return listing


def _find_manifests(root: Path) -> list[Path]:
    for name in MANIFESTS:
        if (root / name).is_file():
            return [root / name]
    # the audiofolder layout has one metadata file a split: train/metadata.csv, data/test/…
    for pattern in ("*/metadata.*", "data/*/metadata.*"):
        found = sorted(path for path in root.glob(pattern) if path.name in MANIFESTS)
        if found:
            return found
    return []


def _read_manifest(manifest: Path, root: Path, listing: Listing) -> None:
    """Append the rows of one manifest to the listing."""
    where = manifest.relative_to(root).as_posix()
    folder = posixpath.dirname(where)
    records = _jsonl_records if manifest.suffix == ".jsonl" else _csv_records
    header, rows = records(manifest, where)
    names = _column_names(header, where, clips=manifest.name == "clips.csv")
    for name in names.values():
        if name not in ("clip", "split", "text") and name not in listing.factors:
            listing.factors.append(name)
    for i, name in names.items():
        if name == f"{header[i]}_factor":
            reason = f"column {header[i]} of {where} is called {name}: the name has another use"
            listing.problems.append(Problem("", reason, dropped=False))
    for number, values in rows:
        if len(values) > len(header) and any(values[len(header) :]):
            reason = (
                f"row {number} of {where} has {len(values)} fields, the header {len(header)}; "
                "put quotes around fields that hold the separator"
            )
            listing.problems.append(Problem(values[0] if values else "", reason, dropped=True))
            continue
        row = {"split": "", "text": ""}
        for i, name in names.items():
            value = values[i].strip() if i < len(values) else ""
            row[name] = "" if value in ("nan", "NaN") else value
        raw = row["clip"].replace("\0", "?")  # no disk holds such a name, no page shows it
        clip = _relative(raw, root, folder)
        if clip is None:
            reason = f"row {number} of {where}: "
            reason += (
                f"{raw} lies outside the corpus; copy it into {root.name}"
                if raw
                else ("the path is empty; fill it in or remove the row")
            )
            listing.problems.append(Problem(raw, reason, dropped=True))
            continue
        listing.rows.append({**row, "clip": clip, "split": _split(row["split"], where, number)})


def _column_names(header: list[str], where: str, clips: bool) -> dict[int, str]:
    """The name in the table of each column, by its position."""
    lower = [column.lower() for column in header]
    keys = ("path", "file_name") if clips else ("file_name", "path")
    key = next((key for key in keys if key in lower), None)
    if key is None:
        raise CorpusError(
            f"{where}: no column named {keys[0]}; found: {', '.join(header) or 'none'}. "
            f"Name the column that holds the file names {keys[0]}"
        )
    names = {lower.index(key): "clip"}
    for name in ("speaker", "split", "text"):
        found = next((c for c in (name, *ALIASES.get(name, ())) if c in lower), None)
        if found:
            names[lower.index(found)] = name
    for i, column in enumerate(header):
        if column and i not in names:  # pandas writes its index as a column without a name
            name = f"{column}_factor" if lower[i] in RESERVED - {"duration_s"} else column
            while name in names.values():
                name += "_2"
            names[i] = name
    return dict(sorted(names.items()))


def _relative(raw: str, root: Path, folder: str) -> str | None:
    """A path as written → posix path below the root, or None when it leaves the corpus."""
    text = raw.replace("\\", "/")
    if not text:
        return None
    if PureWindowsPath(text).is_absolute() or text.startswith("/"):
        prefix = root.as_posix().rstrip("/") + "/"
        inside = posixpath.normpath(text)
        return inside[len(prefix) :] if inside.startswith(prefix) else None
    clip = posixpath.normpath(posixpath.join(folder, text))
    outside = clip in (".", "..") or clip.startswith("../") or PureWindowsPath(clip).drive
    return None if outside else clip


def _split(value: str, where: str, number: int) -> str:
    if not value:
        return ""
    split = SPLIT_NAMES.get(value.lower())
    if split is None:
        raise CorpusError(
            f"{where} row {number}: split is {value!r}; expected train, dev or test "
            "(val, valid and validation mean dev)"
        )
    return split


def _csv_records(path: Path, where: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and numbered rows of a CSV as any spreadsheet writes it."""
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CorpusError(
            f"{where}: not UTF-8 (byte 0x{data[error.start]:02x} in line {line}); "
            "save it again as 'CSV UTF-8'"
        ) from None
    told = re.match(r"sep=(.)\r?\n", text)  # Excel's own hint
    text = text[told.end() :] if told else text
    first = text.split("\n", 1)[0]
    separators = told[1] if told else ",;\t|"
    separator = max(separators, key=lambda s: len(next(csv.reader([first], delimiter=s), [])))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        rows = [(reader.line_num + bool(told), row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise CorpusError(f"{where} row {reader.line_num}: {error}; correct the row") from None
    if not rows:
        raise CorpusError(f"{where}: the file is empty; expected a header and one row a clip")
    return [column.strip() for column in rows[0][1]], rows[1:]


def _jsonl_records(path: Path, where: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header (the union of the keys) and numbered rows of a file with one JSON object a line."""
    records: list[tuple[int, dict]] = []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise CorpusError(f"{where}: not UTF-8; save it again as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise CorpusError(f"{where} line {number}: no JSON ({error.msg})") from None
            if not isinstance(record, dict):
                raise CorpusError(f"{where} line {number}: expected one JSON object a line")
            records.append((number, record))
    header = list(dict.fromkeys(key for _, record in records for key in record))
    rows = [(number, [_string(record.get(key)) for key in header]) for number, record in records]
    return header, rows


def _string(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_tree(root: Path) -> Listing:
    """<label>/<clip>, nested: `label` is the first folder, `label_2` the one in it, and so on."""
    rows: list[dict[str, str]] = []
    problems: list[Problem] = []
    foreign = 0
    for clip in _walk(root, problems):
        suffix = posixpath.splitext(clip)[1].lower()
        if suffix in FOREIGN_SUFFIXES:
            reason = f"{suffix[1:]} cannot be read; convert it to wav or flac"
            problems.append(Problem(clip, reason, dropped=True))
            foreign += 1
        elif suffix in audio.AUDIO_SUFFIXES:
            rows.append({"clip": clip, "split": "", "text": ""})
            if len(rows) > MAX_CLIPS:
                raise CorpusError(f"{root}: more than {MAX_CLIPS} clips; open a smaller folder")
    if not rows:
        found = f"; found {foreign} recordings in other formats, convert them" if foreign else ""
        raise CorpusError(f"{root}: no wav, flac, ogg or mp3 and no clips.csv in it{found}")
    folders = [row["clip"].split("/")[:-1] for row in rows]
    level = _split_level(folders)
    if level is not None:  # the folders below those of the splits are the labels
        folders = [parts[level + 1 :] for parts in folders]
    depth = max(map(len, folders))
    factors = ["label", *(f"label_{level}" for level in range(2, depth + 1))][:depth]
    for row, parts in zip(rows, folders, strict=True):
        row.update(zip(factors, parts + [""] * depth, strict=False))
    return Listing(rows, factors, problems)


def _walk(root: Path, problems: list[Problem]) -> Iterator[str]:
    """Files below the root and folders named like clips, as posix paths, in a fixed order."""

    def note(error: OSError) -> None:
        reason = f"the folder cannot be read ({error.strerror}); check its permissions"
        name = Path(error.filename).relative_to(root).as_posix()
        problems.append(Problem(name, reason, dropped=True))

    for folder, children, files in os.walk(root, onerror=note):
        # hidden files, and the shadow files macOS puts into archives, are no clips
        children[:] = sorted(c for c in children if c[0] != "." and c != "__MACOSX")
        base = Path(folder).relative_to(root)
        disguised = [c for c in children if Path(c).suffix.lower() in audio.AUDIO_SUFFIXES]
        for name in sorted(files + disguised):
            if name[0] != ".":
                yield (base / name).as_posix()


def _drop_duplicates(listing: Listing) -> None:
    seen: set[str] = set()
    kept = []
    for row in listing.rows:
        if row["clip"] in seen:
            reason = "listed twice; the first row counts, remove the other"
            listing.problems.append(Problem(row["clip"], reason, dropped=True))
        else:
            kept.append(row)
        seen.add(row["clip"])
    listing.rows = kept


def _drop_durations(listing: Listing) -> None:
    """Numeric durations are no factors: the real ones are measured from the samples."""
    for name in [n for n in listing.factors if n.lower().startswith("duration")]:
        if _all_numbers(row.get(name, "") for row in listing.rows):
            listing.factors.remove(name)
        elif name.lower() == "duration_s":
            listing.factors[listing.factors.index(name)] = f"{name}_factor"
            for row in listing.rows:
                row[f"{name}_factor"] = row.get(name, "")


def _all_numbers(values: Iterable[str]) -> bool:
    try:
        return all(float(value.replace(",", ".")) >= 0 for value in values if value)
    except ValueError:
        return False


def _splits_from_folders(rows: list[dict[str, str]]) -> None:
    """train/…, test/… folders are the splits when every clip lies in one."""
    folders = [row["clip"].split("/")[:-1] for row in rows]
    level = _split_level(folders)
    if level is not None:
        for row, parts in zip(rows, folders, strict=True):
            row["split"] = SPLIT_NAMES[parts[level].lower()]


def _split_level(folders: list[list[str]]) -> int | None:
    """How deep the folders of the splits are: 0, or 1 below one folder around everything."""
    for level in (0, 1):
        names = {parts[level].lower() if len(parts) > level else "" for parts in folders}
        if names and names <= set(SPLIT_NAMES):
            return level
        if len(names) > 1:
            return None
    return None


def store_uploads(files: Sequence[BinaryIO]) -> Path:
    """Write uploads below the cache, in a folder named by their content; the same files, the same
    folder. A `clips.csv` among them becomes the manifest.
    """
    if not files:
        raise CorpusError("no file was given; choose at least one recording")
    base = paths.cache() / "uploads"
    staging = base / f".{uuid.uuid4().hex}"
    taken: dict[str, str] = {}  # lower-case name -> content
    try:
        staging.mkdir(parents=True)
        for file in files:
            if hasattr(file, "seek"):  # a page reads the same upload on every rerun
                file.seek(0)
            data = file.read()
            content = audio.content_hash(data)
            name = _free_name(_safe_name(getattr(file, "name", "") or "clip.wav"), content, taken)
            taken[name.lower()] = content
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        listing = json.dumps(sorted(taken.items())).encode()
        folder = base / hashlib.sha256(listing).hexdigest()[:16]
        if not folder.exists():
            staging.replace(folder)
    except OSError as error:
        raise CorpusError(
            f"the uploads cannot be stored in {base} ({error.strerror}); check the disk"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _safe_name(name: str) -> str:
    """A browser's file name without anything that could leave the folder or upset a disk."""
    parts = [re.sub(r'[\x00-\x1f<>:"|?*]', "_", part) for part in re.split(r"[/\\]", name)]
    parts = [part.lstrip(".") or "_" for part in parts if part not in ("", ".", "..")]
    return "/".join(part[-120:] for part in parts) or "clip.wav"


def _free_name(name: str, content: str, taken: dict[str, str]) -> str:
    """The name, numbered when another recording has it already (disks may ignore case)."""
    stem, suffix = posixpath.splitext(name)
    number = 1
    while taken.get(name.lower(), content) != content:
        number += 1
        name = f"{stem}-{number}{suffix}"
    return name
