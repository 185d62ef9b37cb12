"""What fewer bits cost in accuracy and give in time: fp32, bf16 and int8 (linear layers).

    python benchmarks/precision.py              # 4 minutes on two cores

Accuracy on a real task: the words of arabic_commands' test speakers, named by the head that ships
with mini and with mini-rewire, which was fitted in fp32; the change is paired by clip and resampled
by speaker. Time: processor milliseconds of one window of 1.5 s through a network of base size with
random weights, one thread. int8 is torch's dynamic quantisation, which refine does not use by
itself; what it would cost stands beside what it would give.
"""

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent))
from live_pages import machine, processor_ms

from refine import encoders, heads, paths
from refine.audio import SAMPLE_RATE
from refine.corpus import open_corpus
from refine.heads import Predictor
from refine.metrics.intervals import from_values

FORMATS = ("fp32", "bf16", "int8")
AT_ONCE = 16  # clips


@dataclass(frozen=True)
class Options:
    """What is measured."""

    encoders: tuple[str, ...] = ("mini", "mini-rewire")
    """Encoders with a head for the words."""
    corpus: Path = paths.ROOT.parent / "shared" / "data" / "arabic_commands"
    """Words, with a split test."""
    out: Path = paths.ROOT / "docs" / "measured" / "precision.json"
    """Where the numbers are written."""


def main(options: Options) -> None:
    """Measure, print and write."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    found = {name: accuracy(name, options.corpus) for name in options.encoders}
    result = {"machine": machine(), "accuracy": found, "base_size_ms": milliseconds()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def accuracy(name: str, source: Path) -> dict[str, Any]:
    """Share of the test words that the head names right in each format, and its paired change."""
    clips = open_corpus(source).subset("test")
    waveforms = [clips.waveform(clip) for clip in clips.table["clip"]]
    truth, speakers = clips.table["content"].tolist(), clips.table["speaker"].to_numpy()
    place = next(one.path for one in heads.find(name) if one.factor == "content")
    assert place is not None
    head = heads.read(place)
    said = {}
    for kind in FORMATS:
        encoder = encoders.load(name, precision="bf16" if kind == "bf16" else "fp32")
        if kind == "int8":
            encoder.model = quantised(encoder.model)
        predictor = Predictor(encoder, [head])
        parts = [waveforms[at : at + AT_ONCE] for at in range(0, len(waveforms), AT_ONCE)]
        said[kind] = [one["content"].label for part in parts for one in predictor.predict(part)]
    right = {kind: np.array([a == b for a, b in zip(labels, truth, strict=True)], float)
             for kind, labels in said.items()}  # fmt: skip
    return {
        kind: {
            "accuracy": number(right[kind], speakers),
            "change": number(right[kind] - right["fp32"], speakers),
            "same_label": float(np.mean([a == b for a, b in zip(said[kind], said["fp32"],
                                                                strict=True)])),
        }
        for kind in FORMATS
    }  # fmt: skip


def number(values: np.ndarray, speakers: np.ndarray) -> dict[str, Any]:
    """A mean with its 95 % interval by speaker."""
    one = from_values(values, "Share of the test words that were named right.", groups=speakers)
    return {key: round(float(getattr(one, key)), 4) for key in ("value", "low", "high")} | {
        "n": len(values)
    }


def milliseconds() -> dict[str, float]:
    """Processor time of one window through a network of base size."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Wav2Vec2Model(Wav2Vec2Config()).eval()
    waveform = torch.randn(1, round(1.5 * SAMPLE_RATE)) * 0.1
    found = {}
    for kind in FORMATS:
        model = quantised(network) if kind == "int8" else network
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            found[kind] = processor_ms(lambda: model(waveform))  # noqa: B023
    return found


def quantised(model: Any) -> Any:
    """A copy whose linear layers hold and multiply 8-bit integers."""
    import torch

    return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def table(result: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    names = list(result["accuracy"])
    lines = ["| format | " + " | ".join(f"{n}: words, change | same label" for n in names)
             + " | base size, ms |", "| --- " * (2 + 2 * len(names)) + "|"]  # fmt: skip
    for kind in FORMATS:
        cells = []
        for name in names:
            one = result["accuracy"][name][kind]
            change = "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**one["change"])
            cells += [f"{one['accuracy']['value']:.3f}, {change}", f"{one['same_label']:.1%}"]
        lines.append(f"| {kind} | {' | '.join(cells)} | {result['base_size_ms'][kind]:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Options))
