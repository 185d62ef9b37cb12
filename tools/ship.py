"""Put the encoder of a finished run beside mini: `python tools/ship.py runs/ID mini-rewire`.

Refuses what may not ship: more than 6 MB beside its base, a corpus that is not for everyone.
The card (README.md) of the folder is written by hand and kept.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from refine import encoders, paths
from refine.encoders.folder import locate, read_refinement

MOST_BYTES = 6_000_000
NON_COMMERCIAL = ("ravdess",)


@dataclass(frozen=True)
class Options:
    """What is shipped, and under which name."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the finished run, or of its encoder."""
    name: Annotated[str, tyro.conf.Positional]
    """Name below assets/encoders."""


def main(options: Options) -> None:
    """Copy the parts, keep the card, and open the result once."""
    folder = locate(options.run)
    if folder is None:
        sys.exit(f"{options.run}: no such run")
    told = str(read_refinement(folder).get("provenance"))
    if any(name in told for name in NON_COMMERCIAL):
        sys.exit(f"{options.run}: trained on a non-commercial corpus; not shipped")
    # with the heads: the adapter of `two_step` is one
    files = [path for path in folder.iterdir() if path.is_file() and path.name != "README.md"]
    files += sorted((folder / "heads").glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    if size > MOST_BYTES:
        sys.exit(f"{options.run}: {size / 1e6:.1f} MB; at most {MOST_BYTES / 1e6:.0f} MB ship")
    target = paths.ASSETS / "encoders" / options.name
    target.mkdir(parents=True, exist_ok=True)
    for old in [*target.glob("*"), *target.glob("heads/*")]:
        if old.is_file() and old.name != "README.md":
            old.unlink()
    for path in files:
        place = target / path.relative_to(folder)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    encoder = encoders.load(target)
    print(f"{options.name}: {size / 1e6:.2f} MB, {encoder.info.family}, layer {encoder.layer}")


if __name__ == "__main__":
    main(tyro.cli(Options))
