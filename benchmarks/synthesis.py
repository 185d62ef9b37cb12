"""Speed of `refine.synthesis`, in seconds of speech a second.

    python benchmarks/synthesis.py

Takes about 15 s. Expected: at least 300 × real time per core. The figure per core counts the
processor time of this process, the workers and their forks, so that a busy machine does not
change it much; the others are what a clock on the wall shows.
"""

import os
import time

from refine.demo import sentences, speakers
from refine.synthesis import speak_many

REPEATS = 3  # the best of


def main() -> None:
    texts, cast = sentences(), speakers()
    items = [(text, cast[i % len(cast)].voice) for i, text in enumerate(texts * 4)]
    print(f"{len(items)} utterances of {len(texts)} sentences in {len(cast)} voices")
    for workers in (1, 2):
        best_wall = best_core = seconds = 0.0
        for _ in range(REPEATS):
            wall, cpu = time.perf_counter(), processor_time()
            seconds = sum(w.size for w in speak_many(items, workers)) / 16_000
            best_wall = max(best_wall, seconds / (time.perf_counter() - wall))
            best_core = max(best_core, seconds / (processor_time() - cpu))
        print(
            f"workers={workers}: {best_wall:.0f} × real time, "
            f"{best_core:.0f} × per core of processor time "
            f"({seconds:.0f} s of speech, {seconds / len(items):.1f} s an utterance)"
        )


def processor_time() -> float:
    """Seconds, of this process and of those it has waited for (workers wait for their forks)."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    main()
