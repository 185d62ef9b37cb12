"""Speech made for pretraining: many languages, voices, speeds and pitches of espeak-ng."""

import hashlib
from pathlib import Path

import numpy as np

from pretrain.batches import SYNTHETIC
from pretrain.corpora import Store, pack, to_int16
from refine.audio import SAMPLE_RATE
from refine.paths import ASSETS

LANGUAGES = [
    *("en", "en-us", "en-gb-x-rp", "en-gb-scotland", "de", "fr", "es", "es-419", "it", "pt"),
    *("pt-br", "nl", "sv", "da", "nb", "fi", "pl", "cs", "sk", "hu", "ro", "bg", "hr", "sr", "sl"),
    *("ru", "uk", "el", "tr", "ar", "fa", "hi", "bn", "ta", "te", "ml", "ur", "id", "ms", "vi"),
    *("sw", "am", "ka", "hy", "et", "lt", "lv", "is", "ga", "cy", "eu", "ca", "cmn", "ja", "ko"),
]
ENGLISH = LANGUAGES[:4]
ONSETS = [
    *("p", "b", "t", "d", "k", "g", "m", "n", "f", "v", "s", "z", "sh", "ch", "h", "l", "r"),
    *("w", "y", "br", "tr", "kl", "st", "sp"),
]
NUCLEI = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "u", "ai", "au", "ei", "oi", "ea"]
CODAS = ["", "", "", "n", "m", "s", "t", "k", "l", "r", "st", "nd"]
SHARES = {"number": 0.25, "word": 0.35, "phrase": 0.25, "sentence": 0.15}


def make_text(kind: str, generator: np.random.Generator, sentences: list[str]) -> str:
    """One text: a number, one invented word, a phrase of them, or a sentence of the product."""
    if kind == "number":
        return str(int(10 ** generator.uniform(0.5, 3.6)))
    if kind == "sentence" and sentences:
        return str(generator.choice(sentences))
    count = 1 if kind == "word" else int(generator.integers(3, 9))
    return " ".join(_invent(generator, 2 if count == 1 else 1) for _ in range(count))


def _invent(generator: np.random.Generator, low: int) -> str:
    pick = generator.choice
    syllables = int(generator.integers(low, 4))
    return "".join(f"{pick(ONSETS)}{pick(NUCLEI)}{pick(CODAS)}" for _ in range(syllables))


def synthesise(texts: int, seed: int, sentences: Path = ASSETS / "sentences.txt") -> Store:
    """Each text in two voices of one language; the two are each other's twin."""
    from refine.synthesis import SynthesisError, Voice, speak, variants, voices

    generator = np.random.default_rng(seed)
    written = sentences.read_text(encoding="utf-8").splitlines() if sentences.exists() else []
    written = [line.strip() for line in written if line.strip() and not line.startswith("#")]
    languages = [name for name in LANGUAGES if name in set(voices())]
    kinds = sorted(variants())

    def any_voice(language: str) -> Voice:
        return Voice(
            language,
            str(generator.choice(kinds)),
            int(generator.integers(110, 260)),
            int(generator.integers(10, 91)),
            int(generator.integers(10, 100)),
        )

    pieces = []
    for kind in generator.choice(list(SHARES), texts, p=list(SHARES.values())):
        text = make_text(str(kind), generator, written)
        english = kind == "sentence" and bool(written)
        language = str(generator.choice(ENGLISH if english else languages))
        chosen = any_voice(language), any_voice(language)
        try:
            pieces += [_trim(to_int16(speak(text, voice))) for voice in chosen]
        except SynthesisError:  # some languages crash some variants of espeak-ng: leave both out
            continue
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.tobytes())
    hours = sum(map(len, pieces)) / SAMPLE_RATE / 3600
    facts = {"clips": len(pieces), "hours": round(hours, 3), "sha256": digest.hexdigest()}
    twins = [i ^ 1 for i in range(len(pieces))]
    singles = [True] * len(pieces)
    return pack(pieces, [SYNTHETIC] * len(pieces), singles, twins, {SYNTHETIC: facts})


def _trim(sound: np.ndarray, longest: int = 12 * SAMPLE_RATE) -> np.ndarray:
    """Without the silence at both ends, save 50 ms."""
    loud = np.flatnonzero(np.abs(sound) > 300)
    if len(loud) == 0:
        return sound[:longest]
    keep = SAMPLE_RATE // 20
    return sound[max(loud[0] - keep, 0) : loud[-1] + keep][:longest]
