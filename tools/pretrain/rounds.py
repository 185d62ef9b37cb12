"""The second round: the network's own hidden states become  And labels on disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import HubertModel

from pretrain.corpora import Store
from pretrain.crew import Crew
from pretrain.settings import Settings
from pretrain.targets import Labels, fit_codebook, frame_count
from refine.audio import SAMPLE_RATE

OWN_CLUSTERS = 400  # codes over the hidden states


def write_labels(path: Path, tracks: dict[str, list[Labels]]) -> None:
    ends = np.cumsum([len(t) for t in next(iter(tracks.values()))])[:-1]
    temporary = path.with_suffix(".tmp.npz")
    arrays = {name: np.concatenate(track) for name, track in tracks.items()} | {"ends": ends}
    np.savez(temporary, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, path)


def read_labels(path: Path) -> dict[str, list[Labels]]:
    data = np.load(path)
    return {name: np.split(data[name], data["ends"]) for name in data.files if name != "ends"}


@torch.inference_mode()
def own_labels(model: HubertModel, store: Store, settings: Settings, crew: Crew) -> list[Labels]:
    """k-means codes of layer `own_layer`, mean-normalised over each recording."""
    model.eval()
    order = np.random.default_rng(settings.seed).permutation(len(store))
    share = int(np.searchsorted(np.cumsum(store.lengths()[order]), 1800 * SAMPLE_RATE)) + 1
    book = torch.zeros(OWN_CLUSTERS + 2, settings.width)  # mean, spread, centres
    if crew.leads:
        rows = torch.cat(
            [rows for _, rows in clean_states(model, store, settings.own_layer, order[:share])]
        )
        mean, spread = rows.mean(0), rows.std(0) + 1e-6
        found = fit_codebook(((rows - mean) / spread).numpy(), OWN_CLUSTERS, settings.seed)
        book = torch.cat([mean[None], spread[None], torch.from_numpy(found.cluster_centers_)])
        book = book.float().contiguous()
    mean, spread, centres = crew.share(book).split([1, 1, OWN_CLUSTERS])
    offsets = centres.square().sum(1) / 2
    starts = np.concatenate([[0], np.cumsum([frame_count(n) for n in store.lengths()])])
    codes = torch.zeros(int(starts[-1]), dtype=torch.int32)
    mine = np.argsort(store.lengths(), kind="stable")[crew.rank :: crew.size]
    for index, rows in clean_states(model, store, settings.own_layer, mine):
        nearest = (((rows - mean) / spread) @ centres.T - offsets).argmax(1)
        codes[starts[index] : starts[index + 1]] = nearest.int()
    tracks = np.split(crew.add(codes).numpy().astype(np.uint16), starts[1:-1])
    model.train()
    return tracks


def clean_states(
    model: HubertModel, store: Store, layer: int, chosen: np.ndarray
) -> Iterator[tuple[int, torch.Tensor]]:
    """(recording, its hidden states (frames, width) less their mean), by rising length."""
    lengths = store.lengths()
    ordered = chosen[np.argsort(lengths[chosen], kind="stable")]
    at = 0
    while at < len(ordered):
        size = max(int(60 * SAMPLE_RATE / (lengths[ordered[at]] + 4000)), 1)
        rows = ordered[at : at + size]
        at += size
        sound = torch.zeros(len(rows), int(lengths[rows].max()))
        shown = torch.zeros(sound.shape, dtype=torch.long)
        for row, index in enumerate(rows):
            wave = torch.from_numpy(store.waveform(index).astype(np.float32))
            wave = (wave - wave.mean()) / torch.sqrt(wave.var(unbiased=False) + 1e-7)
            sound[row, : len(wave)] = wave
            shown[row, : len(wave)] = 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(sound, attention_mask=shown, output_hidden_states=True)
        hidden = output.hidden_states[layer].float()
        for row, index in enumerate(rows):
            frames = hidden[row, : frame_count(int(lengths[index]))]
            yield int(index), frames - frames.mean(0)
