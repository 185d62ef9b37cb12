"""The numbers of an evaluation as tables."""

from typing import Any

from rich.table import Table

from refine.cli.console import say, tables

# what of a factor is shown; the rest is in the JSON
CLASSES = (
    "probe_uar",
    "knn_uar",
    "shot_1",
    "shot_5",
    "shot_10",
    "spread_ratio",
    "davies_bouldin",
    "silhouette",
    "nc1",
    "cdnv",
    "explained",
)
CLIPS = 10  # left out, named in the terminal
VERIFICATION = ("eer", "min_dcf_05", "min_dcf_01")
CELLS = ("probe_uar", "leakage_bits", "eer")
Numbers = dict[str, dict[str, Any]]


def show(result: dict[str, Any]) -> None:
    """Isotropy, then each factor, then the subspaces where there are two or more."""
    about = f"{result['encoder']} on {result['corpus']}, {result['n_clips']} clips"
    say(f"{about}, layer {result.get('layer')}")
    console = tables()
    factors: dict[str, Numbers] = {"isotropy": result["isotropy"]}
    for factor in {**result["classes"], **result["verification"]}:
        spread = result["classes"].get(factor, {})
        pairs = result["verification"].get(factor, {})
        factors[factor] = {name: spread[name] for name in CLASSES if name in spread}
        factors[factor] |= {name: pairs[name] for name in VERIFICATION if name in pairs}
    console.print(_rows(factors))
    if len(result["subspaces"]) > 1:
        console.print(_matrix(result["subspaces"]))
        for pair, numbers in result["disentanglement"]["pairs"].items():
            shown = ", ".join(f"{name} {_show(n['value'])}" for name, n in numbers.items())
            console.print(f"{pair}: {shown}", highlight=False)
    for factor, reason in result["left_out_factors"].items():
        say(f"left out: {factor}: {reason}")
    unmeasured(result["left_out"])


def unmeasured(left_out: dict[str, str]) -> None:
    """How many clips are not in the numbers, and the first of them with their reasons."""
    if left_out:
        say(f"{len(left_out):,} clip{'s' * (len(left_out) > 1)} left out of every number:")
    for clip, reason in list(left_out.items())[:CLIPS]:
        say(f"  {clip}: {reason}")
    if len(left_out) > CLIPS:
        say(f"  and {len(left_out) - CLIPS:,} more; --json names them all")


def _rows(groups: dict[str, Numbers]) -> Table:
    table = Table("of", "metric", "value", "95 % interval", "null", "control", "better", box=None)
    for group, numbers in groups.items():
        for place, (name, number) in enumerate(numbers.items()):
            table.add_row(
                "" if place else group,
                name,
                _show(number["value"]),
                f"{_show(number['low'])} to {_show(number['high'])}",
                _show(number["null"]),
                _show(number["control"]),
                number["direction"],
            )
    return table


def _matrix(subspaces: dict[str, dict[str, Numbers]]) -> Table:
    """A row a subspace and factor: what it tells of it."""
    table = Table("subspace", "factor", "chance", *CELLS, box=None)
    for name, factors in subspaces.items():
        for place, (factor, cell) in enumerate(factors.items()):
            shown = [_interval(cell[key]) if key in cell else "" for key in CELLS]
            table.add_row("" if place else name, factor, _show(cell["chance"]["value"]), *shown)
    return table


def _interval(number: dict[str, Any]) -> str:
    return f"{_show(number['value'])} ({_show(number['low'])} to {_show(number['high'])})"


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
