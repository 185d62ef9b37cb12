"""Memory and time of a step at the size of the real checkpoints, with random weights.

    python benchmarks/base_size.py                  # 12 minutes on two cores
    python benchmarks/base_size.py --recipes rewire --models hubert-base-ls960

The configurations of wav2vec2-base, hubert-base-ls960 and wavlm-base-plus (12 layers, 768 wide,
95 M parameters) are built without their weights, which changes neither memory nor time. Each recipe
runs with its preset `paper` by `estimate`, in a process of its own so that peaks are its own; the
batch is cut to what a laptop holds, and the table says to what. bf16 where the hardware has it.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from refine import paths

MODELS = {
    "wav2vec2-base": "Wav2Vec2Config",
    "hubert-base-ls960": "HubertConfig",
    "wavlm-base-plus": "WavLMConfig",
}
# recipe -> corpus, and what differs from its preset `paper` so that a laptop holds it
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "rewire": ("pretrain", {}),
    "two_step": ("emodb", {"batch_size": 4, "max_seconds": 3.0}),
    "dino": ("pretrain", {"batch_size": 4}),
    "interventional": ("arabic_commands", {}),
}


@dataclass(frozen=True)
class Options:
    """What is measured."""

    data: Path = paths.ROOT.parent / "shared" / "data"
    """Folder of corpora."""
    models: tuple[str, ...] = tuple(MODELS)
    """Configurations."""
    recipes: tuple[str, ...] = tuple(RECIPES)
    """Recipes."""
    out: Path = paths.ROOT / "docs" / "measured" / "base_size.json"
    """Where the numbers are written; the table stands beside it as Markdown."""
    one: tuple[str, ...] = ()
    """Internal: measure this recipe on this folder and print it."""


def main(options: Options) -> None:
    if options.one:
        print(json.dumps(_estimate(options.data, *options.one)))
        return
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            _build(model, Path(folder))
            found[model] = _shapes(Path(folder))
            for recipe in options.recipes:
                command = [sys.executable, __file__, "--data", str(options.data)]
                done = subprocess.run(
                    [*command, "--one", recipe, folder], capture_output=True, text=True
                )
                if done.returncode:
                    told = done.stderr.strip().splitlines()[-1:]
                    sys.exit(f"{model} {recipe}: {''.join(told)}")
                found[f"{model}/{recipe}"] = json.loads(done.stdout.splitlines()[-1])
                options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                print(model, recipe, found[f"{model}/{recipe}"], flush=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = table(found)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def table(found: dict[str, Any]) -> str:
    """Markdown, a row a model and recipe."""
    lines = [
        "| model | recipe (preset paper) | differs | audio a step | step | peak memory | trained | "
        "number format |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, one in found.items():
        model, _, recipe = key.partition("/")
        if not recipe:
            continue
        differs = ", ".join(f"{name} {value}" for name, value in one["differs"].items()) or "–"
        lines.append(
            f"| {model} | {recipe} | {differs} | {one['audio_s']:.0f} s | "
            f"{one['seconds_per_step']:.2f} s | {one['peak_mb'] / 1000:.1f} GB | "
            f"{one['trained_parameters'] / 1e6:.1f} M | {one['precision']}, {one['device']} |"
        )
    lines += [
        "",
        "| model | parameters | hidden states of one second | vector |",
        "| --- " * 4 + "|",
    ]
    for model, one in found.items():
        if "/" not in model:
            states, vector = (" × ".join(map(str, one[key])) for key in ("states", "vector"))
            row = f"| {model} | {one['parameters'] / 1e6:.1f} M | {states} | {vector} |"
            lines.append(row)
    return "\n".join(lines) + "\n"


def _shapes(folder: Path) -> dict[str, Any]:
    """What the encoder returns for one second: (layer, clip, frame, width) and (clip, width)."""
    import torch

    from refine import encoders

    encoder = encoders.load(folder)
    wave, lengths = torch.randn(1, 16_000), torch.tensor([16_000])
    with torch.inference_mode():
        states, vector = encoder.encode(wave, lengths).states, encoder.embed(wave, lengths)
    parameters = sum(one.numel() for one in encoder.model.parameters())
    return {"parameters": parameters, "states": list(states.shape), "vector": list(vector.shape)}


def _build(model: str, folder: Path) -> None:
    """A folder as `save_pretrained` writes it, with random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, MODELS[model])()
    transformers.AutoModel.from_config(config).save_pretrained(folder)


def _estimate(data: Path, recipe: str, folder: str) -> dict[str, Any]:
    import dataclasses
    import importlib

    module = importlib.import_module(f"refine.recipes.{recipe}")
    corpus, differs = RECIPES[recipe]
    config = dataclasses.replace(module.PRESETS["paper"].config, **differs)
    told = module.estimate(config, folder, str(data / corpus))
    return {**told, "differs": differs}


if __name__ == "__main__":
    main(tyro.cli(Options))
