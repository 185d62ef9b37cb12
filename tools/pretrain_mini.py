"""Pretrain the embedded encoder: self-supervised, no label is read.

    python tools/pretrain_mini.py --corpora DATA/pretrain DATA/arabic_commands DATA/librispeech \\
        DATA/accents DATA/emodb DATA/fsdd --noise DATA/noise --rir DATA/rir \\
        --out assets/encoders/mini --minutes 60

Two idle cores take about 0.9 s for a step of 80 s of audio, and 5 GiB. The same command with
`--resume` continues an interrupted run. `--steps` in place of `--minutes` makes a run that repeats
bit for bit.
"""

import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from pretrain import network, targets
from pretrain.batches import Sampler
from pretrain.corpora import Store, merge, read_corpora, read_noises, read_rooms
from pretrain.crew import Crew, join
from pretrain.rounds import OWN_CLUSTERS, own_labels, read_labels, write_labels
from pretrain.settings import Settings
from pretrain.targets import CODEBOOKS, Labels
from torch import nn
from transformers import HubertModel


@dataclass
class Run:
    """Everything a checkpoint holds."""

    model: HubertModel
    heads: network.Heads
    optimiser: torch.optim.Optimizer
    sampler: Sampler
    crew: Crew = field(default_factory=Crew)
    step: int = 0
    elapsed: float = 0.0  # seconds of training
    own: bool = False  # the second round has begun
    history: list[dict] = field(default_factory=list)
    phases: list[dict] = field(default_factory=list)  # settings, and the step they began at

    def save(self, path: Path) -> None:
        if not self.crew.leads:
            return
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "sampler": self.sampler.generator.bit_generator.state,
            "torch": torch.get_rng_state(),
            "step": self.step,
            "elapsed": self.elapsed,
            "own": self.own,
            "history": self.history,
            "phases": self.phases,
        }
        torch.save(state, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.sampler.generator.bit_generator.state = state["sampler"]
        torch.set_rng_state(state["torch"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.own, self.history, self.phases = state["own"], state["history"], state["phases"]


def prepare(settings: Settings) -> tuple[Store, dict[str, list[Labels]]]:
    """Decode, synthesise and label everything once; later calls read it back."""
    folder = settings.work
    if not (folder / "labels.npz").exists():
        say("decoding the corpora")
        store = read_corpora(settings.corpora)
        if settings.synthetic:
            from pretrain.spoken import synthesise

            say("speaking")
            store = merge(store, synthesise(settings.synthetic, settings.seed))
        say(f"{len(store)} recordings, {len(store.samples) / 16000 / 3600:.2f} h; labelling")
        store.save(folder)
        described = [
            targets.describe(store.waveform(i).astype(np.float32)) for i in range(len(store))
        ]
        tracks = {
            name: targets.quantise([d[name] for d in described], clusters, settings.seed)
            for name, clusters in CODEBOOKS.items()
        }
        write_labels(folder / "labels.npz", tracks)
    return Store.load(folder), read_labels(folder / "labels.npz")


def start(settings: Settings, crew: Crew | None = None) -> Run:
    """A run at step 0: data, network, heads, optimiser, sampler."""
    store, labels = prepare(settings)
    sampler = Sampler(
        store,
        labels,
        read_noises(settings.noise),
        read_rooms(settings.rir, simulated=60, seed=settings.seed),
        settings.seconds,
        settings.synthetic_share,
        settings.seed,
    )
    model = network.build(settings.width, settings.layers, settings.seed)
    heads = network.Heads(settings.width, CODEBOOKS | {"own": OWN_CLUSTERS})
    ear = list(model.feature_extractor.conv_layers[0].conv.parameters())
    rest = [p for p in model.parameters() if all(p is not e for e in ear)]
    rest += list(heads.parameters())
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.02, "scale": 1.0},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0, "scale": 1.0},
        {"params": ear, "weight_decay": 0.0, "scale": 0.1},  # the ear only adapts
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-6, fused=True)
    return Run(model, heads, optimiser, sampler, crew or Crew())


def warm_up(run: Run, settings: Settings) -> None:
    """Teach the convolutions log-mel energies; everything later starts from an ear that hears."""
    torch.manual_seed(settings.seed)
    readout = nn.Linear(settings.width, 2 * targets.MELS)
    parameters = [*run.model.feature_extractor.parameters(), *readout.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0, fused=True)
    run.model.train()
    for step in range(settings.warm_up):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, step / 20) * (1 - 0.9 * step / settings.warm_up)
        waveforms = run.crew.part(run.sampler.draw(1.0)).waveforms
        error = network.log_mel_error(run.model, waveforms, readout) / run.crew.size
        optimiser.zero_grad()
        error.backward()
        run.crew.add_gradients(parameters)
        optimiser.step()
        if run.crew.leads and (step % 50 == 0 or step == settings.warm_up - 1):
            say(f"front end, step {step}: R² of log-mel {1 - run.crew.size * error.item():.3f}")


def progress(run: Run, settings: Settings) -> float:
    """How far the run is, 0 to 1."""
    if settings.steps:
        return run.step / settings.steps
    return min(run.elapsed / (60 * settings.minutes), 1.0)


def learning_rate(done: float, peak: float) -> float:
    """Linear over the first 4 %, cosine down to 2 % of the peak."""
    if done < 0.04:
        return peak * max(done / 0.04, 0.01)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - 0.04) / 0.96)))


def begin_second_round(run: Run, settings: Settings) -> None:
    """Cluster the hidden states of every clean recording; they are the new `own` codebook."""
    path = settings.work / "own.npz"
    if not path.exists():
        say("second round: clustering the network's own hidden states")
        tracks = own_labels(run.model, run.sampler.store, settings, run.crew)
        if run.crew.leads:
            write_labels(path, {"own": tracks})
        run.crew.add(torch.zeros(1))  # nobody reads before it is written
    run.sampler.labels["own"] = read_labels(path)["own"]
    run.own = True


def train_step(run: Run, settings: Settings) -> dict[str, float]:
    """Draw a batch, step, and return what to log. Stops on a non-finite loss."""
    rate = learning_rate(progress(run, settings), settings.peak_rate)
    for group in run.optimiser.param_groups:
        group["lr"] = rate * group["scale"]
    batch = run.sampler.draw(settings.voice_share)
    found = network.losses(
        run.model,
        run.heads,
        batch,
        settings.weights(run.own),
        settings.reading_layers(),
        run.crew,
    )
    if not torch.isfinite(found.total):
        raise RuntimeError(f"step {run.step}: the loss is {found.total.item()}; lower peak_rate")
    run.optimiser.zero_grad()
    found.total.backward()
    parameters = [p for g in run.optimiser.param_groups for p in g["params"]]
    run.crew.add_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    run.optimiser.step()
    run.step += 1
    parts = {name: value.item() for name, value in found.parts.items()}
    for name in parts.keys() - {batch.kind}:
        parts[name] *= run.crew.size  # each process has about its share of the sum
    return {"rate": rate, "norm": float(norm), **parts}


def finished(run: Run, settings: Settings) -> bool:
    return progress(run, settings) >= 1.0


def train(run: Run, settings: Settings, stop_after: int = 0) -> None:
    """The loop: step, log, checkpoint, export. `stop_after` steps it returns early (0 = never)."""
    log = (settings.work / "log.jsonl").open("a", encoding="utf-8")
    checkpoint = settings.work / "checkpoint.pt"
    saved = exported = time.monotonic()
    window: list[dict[str, float]] = []
    first = run.step
    run.model.train()
    while not finished(run, settings):
        begun = time.monotonic()
        if not run.own and progress(run, settings) >= settings.second_round < 1.0:
            begin_second_round(run, settings)
        window.append(train_step(run, settings))
        now = time.monotonic()
        run.elapsed += run.crew.share(torch.tensor(now - begun, dtype=torch.float64)).item()
        if run.step % 25 == 0 and run.crew.leads:
            line = summary(run, window)
            window = []
            log.write(json.dumps(line) + "\n")
            log.flush()
            if run.step % 250 == 0:
                run.history.append(line)
        early = run.step in (300, 900) and not settings.steps
        if now - saved > 240 or early:
            run.save(checkpoint)
            saved = time.monotonic()
        if now - exported > 60 * settings.export_every or early:
            finish(run, settings)
            exported = time.monotonic()
        if stop_after and run.step - first >= stop_after:
            break
    run.save(checkpoint)
    finish(run, settings)
    log.close()


def summary(run: Run, window: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means of what the last steps logged, with the step and the minutes."""
    names = sorted({name for line in window for name in line})
    means = {n: round(float(np.mean([w[n] for w in window if n in w])), 4) for n in names}
    return {"step": run.step, "minutes": round(run.elapsed / 60, 2), **means}


def finish(run: Run, settings: Settings) -> None:
    """Export the encoder and training.json beside it."""
    if not run.crew.leads:
        return
    network.export(run.model, settings.out)
    described = {
        "phases": run.phases,
        "codebooks": CODEBOOKS | {"own": OWN_CLUSTERS},
        "data": run.sampler.store.fingerprints,
        "steps": run.step,
        "minutes": round(run.elapsed / 60, 1),
        "complete": finished(run, settings),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "history": run.history,
    }
    temporary = settings.out / ".training.json"
    temporary.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, settings.out / "training.json")


def say(message: str) -> None:
    print(time.strftime("%H:%M:%S"), message, flush=True)


def main(settings: Settings) -> None:
    """Prepare, warm up, train; or continue. In as many processes as asked for."""
    settings.work.mkdir(parents=True, exist_ok=True)
    prepare(settings)
    if not settings.resume:
        (settings.work / "own.npz").unlink(missing_ok=True)
    if settings.processes == 1:
        work(0, settings, Path())
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            work, (settings, Path(folder) / "meeting"), nprocs=settings.processes
        )


def work(rank: int, settings: Settings, meeting: Path) -> None:
    """One process of the run."""
    torch.set_num_threads(1)
    crew = join(rank, settings.processes, meeting)
    run = start(settings, crew)
    if settings.resume:
        run.restore(settings.work / "checkpoint.pt")
        if run.own:
            begin_second_round(run, settings)
        say(f"continuing at step {run.step}, {run.elapsed / 60:.1f} minutes in")
    else:
        warm_up(run, settings)
        run.save(settings.work / "checkpoint.pt")
    if not run.phases or run.phases[-1]["settings"] != settings.described():
        run.phases.append({"step": run.step, "settings": settings.described()})
    train(run, settings)
    if crew.leads:
        say(f"finished: {run.step} steps, {run.elapsed / 60:.1f} minutes")


if __name__ == "__main__":
    main(tyro.cli(Settings))
