"""Which hidden state tells most of a factor: a probe of every one, compared on dev."""

from collections.abc import Callable

from refine import probes
from refine.corpus import Corpus
from refine.embeddings import Embeddings

Progress = Callable[[int, int], None]  # layers done, layers in all


def best_layer(
    table: Embeddings, corpus: Corpus, factor: str, seed: int = 0, progress: Progress | None = None
) -> tuple[str, dict[str, float]]:
    """The layer of a table whose linear probe does best on dev, and the dev UAR of each.

    No test clip is touched, so that a number measured on them later is honest. A tie goes to the
    lower layer. Raises: `probes.ProbeError` for a factor that cannot be probed.
    """
    frame = table.table
    splits = corpus.table.set_index("clip")["split"]
    frame = frame.assign(split=splits.reindex(frame["clip"]).to_numpy())
    split = probes.split_of(frame, factor, seed)
    found: dict[str, float] = {}
    for done, layer in enumerate(table.layers):
        if progress:
            progress(done, len(table.layers))
        found[layer] = probes.best(table.vectors(layer), frame[factor].tolist(), split).uar
    return max(found, key=lambda layer: found[layer]), found
