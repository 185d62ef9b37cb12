"""Judge a frozen encoder by what a linear probe finds in it, layer by layer.

    python tools/evaluate_mini.py --encoder assets/encoders/mini --data DATA --json out.json

Some minutes on two cores for one encoder. Prints a Markdown table; chance and baselines beside it.

* words: arabic_commands, 20 words, UAR on test speakers;
* mood: ravdess, 8 emotions, UAR on test speakers;
* speaker: arabic_commands, 24 speakers, fitted on ten words, UAR on the ten others;
* EER arabic: all pairs of different words among the test clips; target = same speaker;
* EER libri: all pairs of librispeech dev and test clips; target = same speaker.

Probe: logistic regression on features standardised over its training clips; C is chosen on the
dev speakers (for `speaker`: on two of the ten words), then fitted on train and dev together. EER:
cosine after subtracting the mean of the compared clips (no label is used), ROC interpolated.
"""

import csv
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchaudio.functional as F
import tyro
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score, roc_curve
from transformers import AutoModel, HubertConfig, HubertModel

from refine import audio

STRENGTHS = (0.003, 0.03, 0.3)  # C of the logistic regression
Vectors = NDArray[np.float32]


@dataclass
class Clips:
    """The clips of one corpus and their columns."""

    waveforms: list[NDArray[np.float32]]
    columns: dict[str, NDArray[np.str_]]

    def where(self, *splits: str) -> NDArray[np.bool_]:
        return np.isin(self.columns["split"], splits)


@dataclass(frozen=True)
class Options:
    """What to evaluate."""

    data: Path
    """Folder that holds arabic_commands, ravdess and librispeech."""
    encoder: Path = Path("assets/encoders/mini")
    baselines: bool = False
    """Also log-mel, MFCC and the same network randomly initialised."""
    mean_only: bool = False
    """Mean pooling alone: half the time."""
    json: Path | None = None
    """Write every number here."""
    threads: int = 2


def read(folder: Path) -> Clips:
    """Every clip of a corpus, in the order of clips.csv."""
    with (folder / "clips.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return Clips([audio.load(folder / row["path"]) for row in rows], columns)


@torch.inference_mode()
def encode(model: HubertModel, clips: Clips) -> dict[str, Vectors]:
    """`layer` → mean over time and `layer+std` → mean and deviation, a row a clip."""
    found: list[Vectors | None] = [None] * len(clips.waveforms)
    lengths = np.array([len(w) for w in clips.waveforms])
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        for part in np.array_split(same, -(-len(same) * length // (60 * audio.SAMPLE_RATE))):
            sound = torch.from_numpy(np.stack([clips.waveforms[i] for i in part]))
            sound = sound - sound.mean(1, keepdim=True)
            sound = sound / torch.sqrt(sound.var(1, keepdim=True, unbiased=False) + 1e-7)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                states = model(sound, output_hidden_states=True).hidden_states
            hidden = torch.stack(states).float()  # (layers + 1, batch, frames, dim)
            both = torch.cat([hidden.mean(2), hidden.std(2, correction=0)], -1).numpy()
            for row, i in enumerate(part):
                found[i] = both[:, row]
    stacked = np.stack([f for f in found if f is not None], 1)  # (layers + 1, clips, 2 dim)
    half = stacked.shape[-1] // 2
    features = {f"{layer}": stacked[layer, :, :half] for layer in range(len(stacked))}
    return features | {f"{layer}+std": stacked[layer] for layer in range(len(stacked))}


def log_mel(sound: torch.Tensor) -> torch.Tensor:
    """Log mel energies at 10 ms of a waveform at unit power, (frames, 40)."""
    sound = (sound - sound.mean()) / (sound.std() + 1e-4)
    power = torch.stft(sound, 512, 160, 400, torch.hann_window(400), return_complex=True).abs() ** 2
    bank = F.melscale_fbanks(257, 20.0, 7600.0, 40, audio.SAMPLE_RATE)
    return torch.log(power.T @ bank + 1e-6)


def mfcc(sound: torch.Tensor) -> torch.Tensor:
    """20 cepstra with both deltas, (frames, 60)."""
    cepstra = (log_mel(sound) @ F.create_dct(20, 40, "ortho")).T
    slope = F.compute_deltas(cepstra)
    return torch.cat([cepstra, slope, F.compute_deltas(slope)]).T


def statistics(frames: Callable[[torch.Tensor], torch.Tensor], clips: Clips) -> Vectors:
    """Mean and deviation over time of a classic feature, a row a clip."""
    rows = [frames(torch.from_numpy(w)) for w in clips.waveforms]
    return torch.stack([torch.cat([r.mean(0), r.std(0)]) for r in rows]).numpy()


def fit_probe(rows: Vectors, names: NDArray, strength: float) -> Callable[[Vectors], NDArray]:
    """A logistic probe on standardised rows; returns its prediction."""
    mean, spread = rows.mean(0), rows.std(0) + 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopped before convergence: part of the protocol
        probe = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
        probe.fit((rows - mean) / spread, names)
    return lambda x: probe.predict((x - mean) / spread)


def uar(truth: NDArray, guess: NDArray) -> float:
    """Mean recall over the classes: 1 = perfect, 1 / classes = chance."""
    return float(recall_score(truth, guess, average="macro", zero_division=0))


def probe_uar(
    rows: Vectors,
    names: NDArray,
    train: NDArray[np.bool_],
    dev: NDArray[np.bool_],
    test: NDArray[np.bool_],
) -> float:
    """UAR on test of a probe whose C was chosen on dev and which was fitted on train and dev."""
    scores = [
        uar(names[dev], fit_probe(rows[train], names[train], c)(rows[dev])) for c in STRENGTHS
    ]
    best = STRENGTHS[int(np.argmax(scores))]
    both = train | dev
    return uar(names[test], fit_probe(rows[both], names[both], best)(rows[test]))


def error_rate(rows: Vectors, speakers: NDArray, words: NDArray | None = None) -> float:
    """EER of centred cosine over all pairs (of different words); 0 = perfect, 0.5 = chance."""
    centred = rows - rows.mean(0)
    centred = centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9)
    left, right = np.triu_indices(len(rows), 1)
    if words is not None:
        different = words[left] != words[right]
        left, right = left[different], right[different]
    scores = (centred @ centred.T)[left, right]
    false_alarms, hits, _ = roc_curve(speakers[left] == speakers[right], scores)
    gap = false_alarms - (1 - hits)  # rises from -1 to 1
    at = int(np.argmax(gap >= 0))
    share = -gap[at - 1] / (gap[at] - gap[at - 1])
    return float(false_alarms[at - 1] + share * (false_alarms[at] - false_alarms[at - 1]))


def judge(rows: dict[str, Vectors], corpora: dict[str, Clips]) -> dict[str, float]:
    """The five numbers of one feature. `rows`: corpus → a row a clip."""
    arabic = rows["arabic_commands"]
    words = corpora["arabic_commands"]
    moods, books = corpora["ravdess"], corpora["librispeech"]
    content, speaker = words.columns["content"], words.columns["speaker"]
    known = np.unique(content)[::2]
    fit = np.isin(content, known)
    hold = np.isin(content, known[:2])
    test, heard = words.where("test"), books.where("dev", "test")
    return {
        "words": probe_uar(arabic, content, words.where("train"), words.where("dev"), test),
        "mood": probe_uar(
            rows["ravdess"],
            moods.columns["emotion"],
            moods.where("train"),
            moods.where("dev"),
            moods.where("test"),
        ),
        "speaker": probe_uar(arabic, speaker, fit & ~hold, hold, ~fit),
        "EER arabic": error_rate(arabic[test], speaker[test], content[test]),
        "EER libri": error_rate(rows["librispeech"][heard], books.columns["speaker"][heard]),
    }


def judge_features(
    features: dict[str, dict[str, Vectors]], corpora: dict[str, Clips]
) -> dict[str, dict[str, float]]:
    """`judge` for every layer and pooling. `features`: corpus → feature → a row a clip."""
    return {
        name: judge({corpus: rows[name] for corpus, rows in features.items()}, corpora)
        for name in features["arabic_commands"]
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """Markdown, a row a feature."""
    columns = list(next(iter(results.values())))
    lines = ["| features | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in results.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[c]:.3f}" for c in columns) + " |")
    return "\n".join(lines)


def best(results: dict[str, dict[str, float]]) -> dict[str, tuple[str, float]]:
    """For each number the feature where it is best."""
    found = {}
    for column in next(iter(results.values())):
        values = {name: row[column] for name, row in results.items()}
        chosen = min if column.startswith("EER") else max
        value = chosen(values.values())
        found[column] = (next(name for name, v in values.items() if v == value), value)
    return found


def encoder_results(model: HubertModel, corpora: dict[str, Clips], mean_only: bool) -> dict:
    features = {name: encode(model.eval(), clips) for name, clips in corpora.items()}
    if mean_only:
        features = {c: {n: v for n, v in f.items() if "+" not in n} for c, f in features.items()}
    return judge_features(features, corpora)


def main(options: Options) -> None:
    """Evaluate, print, write."""
    torch.set_num_threads(options.threads)
    corpora = {n: read(options.data / n) for n in ("arabic_commands", "ravdess", "librispeech")}
    found: dict[str, dict] = {}
    if options.baselines:
        found["classic"] = {}
        for name, frames in {"log-mel, mean+std": log_mel, "MFCC, mean+std": mfcc}.items():
            features = {c: {name: statistics(frames, clips)} for c, clips in corpora.items()}
            found["classic"] |= judge_features(features, corpora)
        print(table(found["classic"]), flush=True)
        torch.manual_seed(0)
        fresh = HubertModel(HubertConfig.from_pretrained(options.encoder))
        found["random"] = encoder_results(fresh, corpora, options.mean_only)
        print("\nrandomly initialised\n" + table(found["random"]), flush=True)
    model = AutoModel.from_pretrained(options.encoder, dtype=torch.float32)
    found["encoder"] = encoder_results(model, corpora, options.mean_only)
    print(f"\n{options.encoder}\n" + table(found["encoder"]))
    for column, (name, value) in best(found["encoder"]).items():
        print(f"{column}: {value:.3f} at {name}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
