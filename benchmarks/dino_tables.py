"""The tables of the benchmark of dino."""

from typing import Any

from dino_systems import CELLS, SYSTEMS, Options, Systems


def table(found: dict[str, Any], systems: Systems, options: Options) -> str:
    """Everything measured, as Markdown."""
    cells = found["cells"]
    many = options.seeds > 1
    lines = [
        f"{options.seeds} seed{'s' * many}; {found['minutes']:.0f} minutes on {options.jobs} "
        f"processes of one thread, {found['processor_minutes']:.0f} of processor.",
        "",
        "EER [95 % interval by speaker] and minDCF at a target prior of 0.05; lower is better.",
        "",
        "| voices | back-end | " + " | ".join(SYSTEMS) + " |",
        "| --- " * (2 + len(SYSTEMS)) + "|",
    ]
    for seed in range(options.seeds):
        measured = [cells.get(f"verification, {system}, seed {seed}") for system in SYSTEMS]
        for name, (_, split, _) in systems.tests.items():
            where = f"{name}, {split}" + (f", seed {seed}" if many else "")
            for by in ("cosine", "PLDA"):
                shown = ["–" if side is None else _errors(side[name][by]) for side in measured]
                lines.append(f"| {where} | {by} | " + " | ".join(shown) + " |")
    lines += ["", "| change of the EER by cosine | after the x-vector | after log-mel |"]
    lines += ["| --- " * 3 + "|"]
    for seed in range(options.seeds):
        for name in systems.tests:
            shown = [
                cell(cells[f"change, dino after {before}, {name}, seed {seed}"]["eer"], "+")
                for before in ("x-vector", "log-mel")
            ]
            lines.append(f"| dino, {name}, seed {seed} | " + " | ".join(shown) + " |")
    for seed in range(options.seeds):
        for row in cells.get(f"rounds, seed {seed}", []):
            lines += [
                "",
                f"Pseudo labels, seed {seed}, round {row['round']}: {row['clusters']} clusters of "
                f"{row['kept']} of {row['of']} clips, purity {row.get('purity', 0):.2f}, NMI "
                f"{row.get('nmi', 0):.2f} (speakers, where known).",
            ]
    lines += _transfer_lines(cells)
    return "\n".join(lines) + "\n"


def _errors(numbers: dict[str, Any]) -> str:
    return f"{cell(numbers['eer'])}; {numbers['min_dcf_05']['value']:.2f}"


def _transfer_lines(cells: dict[str, Any]) -> list[str]:
    names = [name for name in CELLS if f"transfer, dino, {name}" in cells]
    if not names:
        return []
    lines = ["", "Emotions of emodb, fine-tuned, 5 folds of speakers: UAR [interval]; micro-F1."]
    lines += ["", "| start | " + " | ".join(names) + " |", "| --- " * (1 + len(names)) + "|"]
    for system in ("dino", "x-vector", "untrained"):
        shown = []
        for name in names:
            row = cells.get(f"transfer, {system}, {name}")
            numbers = row["numbers"] if row else None
            shown.append(
                f"{cell(numbers['uar'])}; {numbers['accuracy']['value']:.3f}" if numbers else "–"
            )
        lines.append(f"| {system} | " + " | ".join(shown) + " |")
    return lines


def cell(number: dict[str, Any], sign: str = "") -> str:
    value, low, high = (format(number[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
