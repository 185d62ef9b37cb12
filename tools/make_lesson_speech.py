"""Make `assets/lessons/speech.npz`: vectors of synthesised speech, for lessons that load no torch.

    python tools/make_lesson_speech.py

Takes half a minute. Expected: one file under 250 kB, with what mini and mini-interventional make of
the six sample clips and of 12 voices × 8 sentences of the demo corpus. Run it again whenever either
encoder changes; a test says when.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from refine import paths
from refine.corpus import Corpus, open_corpus
from refine.lessons.speech import FILE

ENCODERS = {"raw": ("mini", None), "speaker": ("mini-interventional", "speaker")}
ENCODERS["content"] = ("mini-interventional", "content")
SENTENCES = 8  # of the demo corpus


def vectors(corpus: Corpus, clips: list[str]) -> dict[str, np.ndarray]:
    """What each space makes of the clips, float16, in their order."""
    from refine.embeddings import extract
    from refine.encoders import load

    loaded = {encoder: load(encoder) for encoder in dict(ENCODERS.values())}
    found = {}
    for name, (encoder, subspace) in ENCODERS.items():
        table = extract(loaded[encoder], corpus, layer=None, subspace=subspace)
        rows = dict(zip(table.table["clip"], table.vectors(table.layers[0]), strict=True))
        found[name] = np.stack([rows[clip] for clip in clips]).astype(np.float16)
    return found


def fingerprints() -> dict[str, str]:
    from refine.encoders import peek

    return {name: peek(encoder).fingerprint for name, (encoder, _) in ENCODERS.items()}


def main() -> None:
    kept: dict[str, np.ndarray] = {}
    for part, source in (("samples", "samples"), ("grid", "demo")):
        corpus = open_corpus(source)
        table = corpus.table
        if part == "grid":
            table = table[table["content"].isin(sorted(set(table["content"]))[:SENTENCES])]
        kept |= {f"{part}_{k}": v for k, v in vectors(corpus, list(table["clip"])).items()}
        columns = {"clip": "clip", "voice": "speaker", "words": "content", "text": "text"}
        for name, column in columns.items():
            kept[f"{part}_{name}"] = table[column].to_numpy(str)
    for name, fingerprint in fingerprints().items():
        kept[f"encoder_{name}"] = np.array(fingerprint)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(FILE, allow_pickle=False, **kept)
    print(f"{FILE.stat().st_size / 1000:.0f} kB in {FILE.relative_to(paths.ROOT)}")


if __name__ == "__main__":
    main()
