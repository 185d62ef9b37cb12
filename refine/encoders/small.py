"""Small folders without torch: only what differs from a base encoder, which is found and checked.

    mini-rewire/
      refine.json                the base (name, fingerprint) and the parts there are
      adapter_model.safetensors  a LoRA, with adapter_config.json; or changed.safetensors (norms)
      projector.safetensors

The base is looked for by name: beside the folder, among runs, shipped encoders and hub copies. It
is the right one when its fingerprint is the one of then.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refine import paths
from refine.encoders import folder as folders
from refine.encoders.folder import EncoderError, EncoderInfo

SHORT = 8  # digits of a fingerprint that a sentence shows


class NotDownloaded(EncoderError):
    """A base that is on the hub and not here yet; `hub` is its name there."""

    def __init__(self, sentence: str, hub: str):
        super().__init__(sentence)
        self.hub = hub


def reference(info: EncoderInfo, folder: Path) -> dict[str, str]:
    """Name and fingerprint of a base, to be written into `folder`/refine.json.

    A run is named by its id and a shipped encoder by its name, so that both can be moved; any other
    folder by its path and, beside it, the way from `folder` to it.
    """
    base, name = info.folder.resolve(), str(info.name)
    for place in (paths.runs(), paths.ASSETS / "encoders"):
        if base.is_relative_to(place):
            name = base.relative_to(place).parts[0]
    found = {"name": name, "fingerprint": info.fingerprint}
    named = [folders.hub_mirror(name), _place(paths.runs() / name), _place(_shipped(name))]
    if Path(name).is_absolute() or base not in named:  # joined to a folder it is itself again
        way = Path(os.path.relpath(base, folder)).as_posix()
        return {**found, "name": str(base), "folder": way}
    return found


def base_of(folder: Path, refinement: dict[str, Any]) -> dict[str, str]:
    """Name and fingerprint of the base of a small folder. Raises `EncoderError`."""
    base = refinement.get("base")
    fields = ("name", "fingerprint")
    if not isinstance(base, dict) or not all(isinstance(base.get(f), str) for f in fields):
        raise EncoderError(
            f"{folder}: no config.json, and {folders.REFINEMENT} names no base with its "
            "fingerprint; copy the folder again, or give one written by save_pretrained"
        )
    return base


def find_base(
    folder: Path, refinement: dict[str, Any], peek: Callable[[Path], EncoderInfo]
) -> EncoderInfo:
    """The base of a small folder, as it was then.

    Raises: `EncoderError` where it is gone, not downloaded yet, has changed since, or is the folder
    itself.
    """
    base = base_of(folder, refinement)
    places, why = _candidates(folder, base)
    now: list[str] = []
    for place in places:
        if place.resolve() == folder.resolve():
            continue
        try:
            info = peek(place)
        except NotDownloaded:
            raise
        except EncoderError as error:
            why = why or str(error)
            continue
        if info.fingerprint == base["fingerprint"]:
            return info
        now.append(info.fingerprint)
    if now:
        raise EncoderError(
            f"{folder}: its base {base['name']} has changed since (fingerprint "
            f"{base['fingerprint'][:SHORT]}… then, {now[0][:SHORT]}… now); give the base of then, "
            "or train again"
        )
    if why:
        raise EncoderError(f"{folder}: its base cannot be opened: {why}")
    if _on_the_hub(base["name"]):
        raise NotDownloaded(
            f"{folder}: its base {base['name']} is not downloaded yet; it is fetched from the hub "
            "when the encoder is first loaded",
            base["name"],
        )
    raise EncoderError(
        f"{folder}: its base {base['name']} is gone: no run, shipped encoder, folder or hub copy "
        "of that name; put it back, or train again"
    )


def files(folder: Path, refinement: dict[str, Any]) -> list[Path]:
    """The part files of a small folder, checked to be there. Pickled ones are never opened."""
    listed = refinement.get("parts")
    wanted = listed if isinstance(listed, list) else []
    if not wanted or not set(wanted) <= set(folders.PARTS):
        raise EncoderError(
            f"{folder}: no config.json, and {folders.REFINEMENT} lists no parts that refine knows "
            f"({', '.join(folders.PARTS)}); copy the folder again"
        )
    for name in wanted:
        if (folder / name).exists():
            continue
        stem = name.partition(".")[0]
        pickles = [f"{stem}.{kind[2:]}" for kind in folders.PICKLES]
        if pickled := [file for file in pickles if (folder / file).exists()]:
            raise EncoderError(
                f"{folder}: {pickled[0]} is a pickle, which can run any code, so it is not opened; "
                "save the part again as safetensors"
            )
        raise EncoderError(f"{folder}: {name} is missing; copy the folder again")
    return [folder / name for name in folders.PARTS if name in wanted]


def projection(folder: Path, refinement: dict[str, Any]) -> tuple[int | None, dict[str, int]]:
    """Width of the projected vector (None without a projector) and its named blocks."""
    content = refinement.get("projector")
    if not content:
        return None, {}
    try:
        blocks = {str(name): int(width) for name, width in (content["subspaces"] or {}).items()}
        dim = int(content["sizes"][-1])
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise EncoderError(
            f"{folder / folders.REFINEMENT}: projector is broken ({error!r}); copy it again"
        ) from error
    if not (folder / folders.PROJECTOR).exists():
        raise EncoderError(f"{folder}: {folders.PROJECTOR} is missing; copy the folder again")
    return dim, blocks


def _candidates(folder: Path, base: dict[str, str]) -> tuple[list[Path], str | None]:
    """Places where the base may be, best first, and why its name leads nowhere."""
    name, way = base["name"], base.get("folder")
    places = [(folder / way).resolve()] if way else []
    if not Path(name).is_absolute():
        places += [paths.runs() / name, _shipped(name), folder.parent / name]
    found = [place for place in map(_place, places) if place]
    why = None
    try:
        found += [place] if (place := folders.locate(name)) else []
    except EncoderError as error:
        why = str(error) if "no checkpoint yet" in str(error) else None
    return list(dict.fromkeys(found)), why


def _shipped(name: str) -> Path:
    return paths.ASSETS / "encoders" / name


def _on_the_hub(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _place(name: str | Path) -> Path | None:
    """The encoder folder that a name or path points to, or None."""
    try:
        place = folders.locate(name)
    except EncoderError:
        return None
    return place.resolve() if place else None
