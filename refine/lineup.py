"""Several encoders on the same clips: every metric beside a reference, each change paired.

    found = lineup(["mini", "mini-rewire"], "mini", open_corpus(folder), split="test")
    table(found)                    # a row a metric and encoder

Evaluations and changes are kept in the cache by their fingerprints, so that a page reads them back
(`cached`) without loading torch.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from refine import comparison, evaluation, paths
from refine.corpus import Corpus, open_corpus
from refine.files import read_json, to_json
from refine.runs import Run

VERSION = 1  # raised when a change is computed otherwise
MOST = 8  # encoders beside each other: more colours cannot be told apart
SUBSPACES = "subspaces"  # the group of subspace metrics
SKIPPED = ("chance", "min_dcf")  # no metric of an encoder; the same as min_dcf_05

Numbers = dict[str, dict[str, dict[str, Any]]]  # group -> metric -> Number as a dict
Progress = Callable[[str, int, int], None]


class LineupError(ValueError):
    """Encoders that cannot stand beside each other. The message says why."""


def check(names: Sequence[str], against: str) -> list[str]:
    """The encoders to measure, the reference first, none twice. Raises `LineupError`."""
    every = list(dict.fromkeys([against, *names]))
    if len(every) > MOST:
        raise LineupError(f"encoders: got {len(every)} with the reference; choose at most {MOST}")
    return every


def lineup(
    names: Sequence[str],
    against: str,
    source: Corpus | str | Path,
    split: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure what is missing, and compare each encoder with the reference `against`.

    Returns: `corpus, split, against, encoders`: name -> `n_clips`, `layer`, `numbers` (group ->
        metric -> Number dict), `changes` (the same, after minus reference on the same clips),
        `left_out` (factor -> why). Groups are "isotropy", each factor, and "subspaces".
    Raises: `LineupError`, `EncoderError`, `CorpusError`, `ComparisonError`.
    """
    every = check(names, against)
    corpus = source if isinstance(source, Corpus) else open_corpus(source)
    results = {}
    for place, name in enumerate(every):
        if progress:
            progress(f"encoder {place + 1} of {len(every)}", place, len(every))
        results[name] = evaluation.evaluate(name, corpus, split=split, progress=progress)
    paired = {}
    for place, name in enumerate(every[1:]):
        if progress:
            progress("comparing on the same clips", place, len(every) - 1)
        paired[name] = changes(results[against], results[name])
    return _assembled(results, paired, against)


def cached(
    names: Sequence[str], against: str, source: Corpus | str | Path, split: str | None = None
) -> dict[str, Any] | None:
    """What an earlier `lineup` found, or None while something of it is missing. No torch."""
    corpus = source if isinstance(source, Corpus) else open_corpus(source)
    results, paired = {}, {}
    for name in check(names, against):
        results[name] = evaluation.cached(name, corpus, split=split)
    for name, result in results.items():
        first = results[against]
        if result is None or first is None:
            return None
        if name != against:
            kept = read_json(_path(first, result))
            if kept is None:
                return None
            paired[name] = kept
    return _assembled(results, paired, against)


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """`comparison.changes`, from the cache where it has been computed before."""
    path = _path(before, after)
    kept = read_json(path)
    if kept is not None:
        return kept
    found = comparison.changes(before, after)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.write_text(to_json(found), encoding="utf-8")
    os.replace(temporary, path)
    return found


def flat(found: dict[str, Any]) -> Numbers:
    """The metrics of an evaluation (or of changes) by group: isotropy, each factor, subspaces."""
    groups: Numbers = {"isotropy": dict(found["isotropy"])}
    for factor in dict.fromkeys([*found["classes"], *found["verification"]]):
        both = found["classes"].get(factor, {}) | found["verification"].get(factor, {})
        groups[factor] = {name: number for name, number in both.items() if name not in SKIPPED}
    blocks = found.get("subspaces") or {}
    if len(blocks) > 1:
        groups[SUBSPACES] = {
            f"{block} → {factor}: {metric}": number
            for block, factors in blocks.items()
            for factor, cell in factors.items()
            for metric, number in cell.items()
            if metric not in SKIPPED
        }
    return groups


def of_pair(results: dict[str, dict[str, Any]], changed: dict[str, Any]) -> dict[str, Any]:
    """A line-up of two evaluations ("before", "after") and their `changes`."""
    return _assembled(results, {"after": changed}, "before")


def groups(found: dict[str, Any]) -> list[str]:
    """The groups that any encoder has, in order."""
    names = (group for one in found["encoders"].values() for group in one["numbers"])
    listed = list(dict.fromkeys(names))
    return [name for name in listed if name != SUBSPACES] + [SUBSPACES] * (SUBSPACES in listed)


def verdict(change: dict[str, Any] | None, direction: str) -> str:
    """A paired change in a word: better, worse, rose, fell, unsure; "" where there is none.

    Sure is a change whose 95 % interval leaves out 0: the two-sided paired test at 5 %.
    """
    if change is None:
        return ""
    if change["low"] <= 0 <= change["high"]:
        return "unsure"
    rose = change["low"] > 0
    if direction == "neither":
        return "rose" if rose else "fell"
    return "better" if rose == (direction == "higher") else "worse"


def table(found: dict[str, Any], group: str | None = None) -> pd.DataFrame:
    """A row a metric and encoder, with interval, paired change, null, control and definition."""
    rows = []
    for part in [group] if group else groups(found):
        for name, one in found["encoders"].items():
            for metric, n in one["numbers"].get(part, {}).items():
                change = one["changes"].get(part, {}).get(metric)
                rows.append(
                    {
                        "group": part, "metric": metric, "encoder": name, "value": n["value"],
                        "low": n["low"], "high": n["high"],
                        "change": change and change["value"],
                        "change_low": change and change["low"],
                        "change_high": change and change["high"],
                        "verdict": verdict(change, n["direction"]),
                        "better": n["direction"], "null": n["null"], "control": n["control"],
                        "n": n["n"], "speakers": n["groups"], "definition": n["definition"],
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def tested(found: dict[str, Any]) -> tuple[int, int]:
    """How many paired changes there are, and how many of them are sure."""
    verdicts = [word for word in table(found)["verdict"] if word]
    return len(verdicts), sum(word != "unsure" for word in verdicts)


def work(run: Run, resume: bool) -> dict[str, Any]:
    """The task of a page: measure and compare; the page reads the cache afterwards."""
    from refine.worker import progress

    options, report = run.config["options"], progress(run)
    corpus = open_corpus(run.config["corpus"], progress=lambda *n: report("opening the corpus", *n))
    found = lineup(options["encoders"], options["against"], corpus, options.get("split"), report)
    return {"encoders": list(found["encoders"])}


def _assembled(
    results: dict[str, Any], paired: dict[str, dict[str, Any]], against: str
) -> dict[str, Any]:
    first = results[against]
    return {
        "corpus": first["corpus"],
        "split": first["split"],
        "against": against,
        "encoders": {
            name: {
                "n_clips": result["n_clips"],
                "n_paired": paired[name]["n_clips"] if name in paired else result["n_clips"],
                "layer": result["layer"],
                "numbers": flat(result),
                "changes": flat(paired[name]) if name in paired else {},
                "left_out": result.get("left_out_factors") or {},
            }
            for name, result in results.items()
        },
    }


def _path(before: dict[str, Any], after: dict[str, Any]) -> Path:
    """By encoders, clips and what they were measured on."""
    sides = [f"{one['encoder_fingerprint'][:12]}-{one['layer']}" for one in (before, after)]
    clips = before["corpus_fingerprint"][:12]
    version = f"v{VERSION}.{evaluation.VERSION}"
    return paths.cache() / "changes" / f"{'-'.join(sides)}-{clips}-{version}.json"
