"""Where things live: shipped assets, runs, cache. Each is overridden by an environment variable."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
MINI = ASSETS / "encoders" / "mini"


def runs() -> Path:
    """The folder of run folders: $REFINE_RUNS, or `runs/` beside the code."""
    return Path(os.environ.get("REFINE_RUNS", ROOT / "runs")).resolve()


def cache() -> Path:
    """Recomputable things (embeddings, synthesised speech): $REFINE_CACHE, or `.cache/refine/`."""
    return Path(os.environ.get("REFINE_CACHE", ROOT / ".cache" / "refine")).resolve()


def speech() -> Path | None:
    """Recorded speech: $REFINE_SPEECH, or `../shared/data` where it exists."""
    folder = Path(os.environ.get("REFINE_SPEECH", ROOT.parent / "shared" / "data"))
    return folder.resolve() if folder.is_dir() else None
