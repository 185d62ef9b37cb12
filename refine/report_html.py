"""How a report looks: sections of HTML around pictures of `drawing`, and its style sheet inside.

Every text that comes from a file (labels, names, messages) is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from refine import drawing, lineage, lineup, names, paths
from refine.drawing import Line, Look
from refine.report import Report, confusions, curves_of

LOOK = Look()
TOP = 4  # changes named in each card at the top
SMOOTH = 40  # points of a curve, above which a smooth line is drawn through it
MOVED = ("rose", "fell")


def page(report: Report) -> str:
    """The whole file."""
    style = (paths.ASSETS / "theme" / "report.css").read_text(encoding="utf-8")
    sections = {
        "numbers": ("Numbers", numbers(report)),
        "maps": ("The same clips on one map", maps(report)),
        "confusion": ("Who is taken for whom", confused(report)),
        "training": ("Training", training(report)),
        "configuration": ("Configuration", configuration(report)),
        "again": ("The same again", commands(report)),
        "definitions": ("Definitions", definitions(report)),
    }
    shown = {key: pair for key, pair in sections.items() if pair[1]}
    links = "".join(f'<a href="#{key}">{title}</a>' for key, (title, _) in shown.items())
    body = "".join(
        f'<section id="{key}" class="{"page" if key in ("maps", "training") else ""}">'
        f"<h2>{title}</h2>{text}</section>"
        for key, (title, text) in shown.items()
    )
    title = escape(report.title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="refine"><style>{style}</style></head><body><main>'
        f"<h1>{title}</h1>{head(report)}<nav>{links}</nav>{summary(report)}{warnings(report)}"
        f"{body}</main></body></html>\n"
    )


def head(report: Report) -> str:
    """What was compared on what."""
    corpus = report.corpus
    clips = report.changes["n_clips"]
    speakers = report.results["after"]["isotropy"]["isoscore"]["groups"]
    voices = f" by {speakers} speakers" if speakers else ""
    about = report.after.info
    recipe = f"refined by {report.after.recipe}" if report.after.recipe else "as pretrained"
    shape = f" ({about.shape})" if about else ""
    return (
        f'<p class="lead">The same {clips:,} clips{voices} of {escape(corpus["name"])} '
        f'({escape(corpus["split"])}) through <b class="before">{escape(report.before.label)}</b> '
        f'and <b class="after">{escape(report.after.label)}</b>, {escape(recipe)}'
        f"{escape(shape)}.</p>"
        f'<p class="about">Made {report.made} with refine '
        f"{escape(str(report.measured.get('versions', {}).get('refine', '')))}. 95 % intervals; "
        "changes are paired on the same clips, both sides with the same speakers.</p>"
    )


def summary(report: Report) -> str:
    """What surely became better, worse, or moved: the clearest first."""
    table = lineup.table(_pair(report))
    told = table["metric"].isin(names.HEADLINE) | (table["group"] == "isotropy")
    rows = table[told & (table["verdict"] != "")].copy()
    if not len(rows):
        return ""
    width = np.maximum(rows["change_high"] - rows["change_low"], 1e-12).astype(float)
    rows["clear"] = rows["change"].abs().astype(float) / width
    cards = []
    for title, words, kind in (
        ("Surely better", ("better",), "better"),
        ("Surely worse", ("worse",), "worse"),
        ("Surely moved, for better or worse", MOVED, ""),
    ):
        found = rows[rows["verdict"].isin(words)].sort_values("clear", ascending=False)
        items = "".join(_headline(row, kind) for row in found.head(TOP).to_dict("records"))
        rest = f"<li><small>and {len(found) - TOP} more</small></li>" if len(found) > TOP else ""
        none = "<li><small>nothing that this many speakers can show</small></li>"
        cards.append(f'<div class="card"><h3>{title}</h3><ul>{items or none}{rest}</ul></div>')
    return f'<div class="three">{"".join(cards)}</div>'


def _headline(row: dict[Any, Any], kind: str) -> str:
    of = "" if row["group"] == "isotropy" else f" of {escape(row['group'])}"
    low, high = names.signed(row["change_low"]), names.signed(row["change_high"])
    return (
        f'<li class="{kind}">{escape(names.name(row["metric"]))}{of} '
        f"<b>{names.signed(row['change'])}</b><small>{low} to {high}</small></li>"
    )


def warnings(report: Report) -> str:
    """What must not be concluded."""
    items = "".join(f"<li>{escape(text)}</li>" for text in report.caveats)
    return f'<section class="warn"><h3>Before you believe it</h3><ul>{items}</ul></section>'


def numbers(report: Report) -> str:
    """Every metric of every group: the first as strips, the rest as values, subspaces crossed."""
    found = _pair(report)
    parts = [
        '<div class="legend">'
        f"{_mark('before', True)} before {_mark('after', False)} after &ensp;│ nothing to find "
        "(null) &ensp;◇ control &ensp;bar: 95 % interval</div>"
    ]
    before, after = found["encoders"]["before"], found["encoders"]["after"]
    for group in lineup.groups(found):
        if group == lineup.SUBSPACES:
            parts.append(_crossed(report))
            continue
        rows: dict[bool, list[str]] = {True: [], False: []}
        first = before["numbers"].get(group, {})
        second = after["numbers"].get(group, {})
        metrics = dict.fromkeys([*names.HEADLINE, *second, *first])
        for metric in metrics:
            sides = {
                role: side[metric]
                for role, side in (("before", first), ("after", second))
                if metric in side
            }
            if sides:
                change = after["changes"].get(group, {}).get(metric)
                drawn = group == "isotropy" or metric in names.HEADLINE
                rows[drawn].append(_row(metric, sides, change, drawn))
        title = "Isotropy" if group == "isotropy" else escape(group)
        parts.append(
            f'<h3>{title}</h3><table class="numbers"><thead><tr><th>metric</th><th></th>'
            "<th>before</th><th>after</th><th>change</th></tr></thead>"
            f"<tbody>{''.join(rows[True])}{''.join(rows[False])}</tbody></table>"
        )
    return "".join(parts)


def _row(
    metric: str, sides: Mapping[str, Mapping[str, Any]], change: dict[str, Any] | None, drawn: bool
) -> str:
    """A metric; `drawn`: with its strip, else in one quiet line."""
    between = "<small>{} – {}</small>" if drawn else " <em>{} – {}</em>"
    cells = "".join(
        f'<td class="{role}"><b>{names.short(sides[role]["value"])}</b>'
        + between.format(names.short(sides[role]["low"]), names.short(sides[role]["high"]))
        + "</td>"
        if role in sides
        else "<td>–</td>"
        for role in ("before", "after")
    )
    told = "<td></td>"
    if change:
        word = lineup.verdict(change, next(iter(sides.values()))["direction"])
        ends = f"{names.signed(change['low'])} to {names.signed(change['high'])}: {word}"
        inner = f"<small>{ends}</small>" if drawn else f" <em>{word}</em>"
        told = f'<td><b class="{word}">{names.signed(change["value"])}</b>{inner}</td>'
    gist = escape(names.gist(metric))
    about = f"<small>{gist}</small>" if drawn else ""
    strip = drawing.strip(sides, LOOK) if drawn else f"<em>{gist}</em>"
    quiet = "" if drawn else ' class="quiet"'
    return (
        f"<tr{quiet}><th>{escape(names.name(metric))}{about}</th><td>{strip}</td>{cells}{told}</tr>"
    )


def _crossed(report: Report) -> str:
    """What each subspace of the refined encoder tells of each factor."""
    blocks = report.results["after"]["subspaces"]
    factors = list(dict.fromkeys(factor for cells in blocks.values() for factor in cells))
    parts = []
    for metric in ("probe_uar", "leakage_bits", "eer"):
        rows = []
        for block, cells in blocks.items():
            row = "".join(_cell(cells.get(factor, {}).get(metric)) for factor in factors)
            rows.append(f"<tr><th>{escape(block)}</th>{row}</tr>")
        head = "".join(f"<th>{escape(factor)}</th>" for factor in factors)
        gist = names.gist(metric)
        parts.append(
            f"<p class='note'><b>{names.name(metric)}</b>, {escape(gist)}</p><table>"
            f"<thead><tr><th>subspace</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )
    return f"<h3>Subspaces of {escape(report.after.label)}</h3>{''.join(parts)}"


def _cell(number: Mapping[str, Any] | None) -> str:
    if number is None:
        return "<td>–</td>"
    between = f"{names.short(number['low'])} – {names.short(number['high'])}"
    wanted = {"higher": "should be high", "lower": "should be low"}.get(number["direction"], "")
    note = f" · {wanted}" if wanted else ""
    return f"<td><b>{names.short(number['value'])}</b><small>{between}{note}</small></td>"


def maps(report: Report) -> str:
    """One plane for both, coloured by each of a few factors."""
    found = report.maps
    every = np.concatenate(list(found.xy.values()))
    window = (
        (float(every[:, 0].min()), float(every[:, 0].max())),
        (float(every[:, 1].min()), float(every[:, 1].max())),
    )
    parts = []
    for factor in found.factors or ("",):
        groups = _groups(found.table, factor)
        panels = "".join(
            f'<figure><figcaption><b class="{role}">{role}</b> · {escape(found.titles[role])}'
            f"</figcaption>{drawing.scatter(xy, groups, LOOK, window, f'Map {role} by {factor}')}"
            "</figure>"
            for role, xy in found.xy.items()
        )
        legend = "".join(
            f'<span><i style="background:{colour}"></i>{escape(label)}</span>'
            for label, _, colour in groups
        )
        parts.append(
            f'<h3>Coloured by {escape(factor or "nothing")}</h3><div class="legend">{legend}</div>'
            f'<div class="two">{panels}</div>'
        )
    note = f"{found.note} Distances on a map are a shadow of those in the space."
    return f"{''.join(parts)}<p class='note'>{escape(note)}</p>"


def _groups(table: pd.DataFrame, factor: str) -> list[tuple[str, np.ndarray, str]]:
    if factor not in table:
        return [("clips", np.arange(len(table)), LOOK.after)]
    values = table[factor].to_numpy()
    counts = table[factor][table[factor] != ""].value_counts()
    levels = sorted(counts.index[: drawing.PALETTE])
    rest = np.flatnonzero(~np.isin(values, levels))
    found = [(str(v), np.flatnonzero(values == v), LOOK.colour(i)) for i, v in enumerate(levels)]
    others = len(counts) - len(levels)
    name = f"{others} others" if others > 0 else "unknown"
    return [(name, rest, LOOK.quiet), *found] if len(rest) else found


def confused(report: Report) -> str:
    """Confusion matrices of the probes, before and after."""
    parts = []
    for factor, roles in confusions(report.results).items():
        panels = "".join(
            f'<figure><figcaption><b class="{role}">{role}</b></figcaption>'
            + drawing.confusion(
                one["confusion"],
                one["classes"],
                LOOK,
                LOOK.before if role == "before" else LOOK.after,
                f"Confusion of {factor}, {role}",
            )
            + "</figure>"
            for role, one in roles.items()
        )
        parts.append(f"<h3>{escape(factor)}</h3><div class='two'>{panels}</div>")
    told = "Rows: what it is; columns: what a linear probe says, in per cent of the row."
    return f"<p class='note'>{told}</p>{''.join(parts)}" if parts else ""


def training(report: Report) -> str:
    """The curves of the run, each on axes of its own."""
    rows, pictures = report.training, []
    for column in curves_of(rows):
        part = rows[["step", column]].dropna()
        lines = [Line(column, part["step"].tolist(), part[column].tolist(), LOOK.after)]
        if len(part) > SMOOTH:
            smooth = part[column].ewm(span=max(5, len(part) // 20)).mean()
            lines = [
                Line(column, lines[0].x, lines[0].y, "color-mix(in srgb, var(--after) 35%, "
                     "transparent)"),
                Line("smoothed", lines[0].x, smooth.tolist(), LOOK.after),
            ]  # fmt: skip
        name = names.name(column)
        picture = drawing.curves(lines, LOOK, "step", name, f"{name} over steps", legend=False)
        pictures.append(f"<figure><figcaption>{escape(name)}</figcaption>{picture}</figure>")
    return f'<div class="two">{"".join(pictures)}</div>' if pictures else ""


def configuration(report: Report) -> str:
    """Lineage, options beside the recipe's defaults, corpus and environment."""
    origins = [report.before, report.after]
    nodes = lineage.tree(origins)
    colours = {report.before.name: LOOK.before, report.after.name: LOOK.after}
    tree = f'<div class="tree">{drawing.lineage(nodes, LOOK, colours)}</div>'
    rows = [(name, _text(value)) for name, value in report.after.options.items()]
    corpus = report.corpus
    clips = ", ".join(f"{name} {count:,}" for name, count in corpus["clips"].items())
    facts = [
        ("corpus", f"{corpus['name']}, {corpus['hours']:.2f} h, {corpus['speakers']} speakers"),
        ("clips", clips),
        ("factors", ", ".join(corpus["factors"])),
        ("corpus fingerprint", corpus["fingerprint"][:16]),
        ("before", f"{report.before.name}, {report.before.fingerprint[:16]}"),
        ("after", f"{report.after.name}, {report.after.fingerprint[:16]}"),
        ("trained on", report.after.corpus or "unknown"),
    ]
    trained = report.after.run.environment if report.after.run else {}
    return (
        f"{tree}<h3>What was compared</h3>{_table(facts)}"
        + (
            f"<h3>Options of {escape(report.after.recipe or '')}</h3>{_options(rows)}"
            if rows
            else ""
        )
        + (f"<h3>Trained in</h3>{_table(_environment(trained))}" if trained else "")
        + f"<h3>Measured in</h3>{_table(_environment(report.measured))}"
    )


def commands(report: Report) -> str:
    """What to type."""
    return "".join(
        f"<h3>{escape(what)}</h3><pre>{escape(line)}</pre>" for what, line in report.commands
    )


def definitions(report: Report) -> str:
    """What each number is, once; of a factor's metrics as they stand for the first factor."""
    table = lineup.table(_pair(report))
    table = table[(table["encoder"] == "after") & (table["group"] != lineup.SUBSPACES)]
    rows = [
        f"<tr><th>{escape(names.name(row['metric']))}</th><td>{escape(row['definition'])}</td>"
        f"<td>{escape(row['better'])}</td></tr>"
        for row in table.drop_duplicates("metric").to_dict("records")
    ]
    return (
        '<table class="plain small"><thead><tr><th>metric</th><th>definition</th>'
        f"<th>better</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _environment(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions, machine and commit; the host's name and paths stay at home."""
    versions = ", ".join(f"{k} {v}" for k, v in (found.get("versions") or {}).items() if v)
    memory = found.get("memory_bytes")
    rows = [
        ("python", found.get("python")),
        ("system", found.get("platform")),
        ("processors", found.get("cpus")),
        ("memory", f"{memory / 1e9:.0f} GB" if memory else None),
        ("versions", versions),
        ("commit", found.get("git_commit")),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _table(rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows)
    return f'<table class="plain">{body}</table>'


def _options(rows: Sequence[tuple[str, str]]) -> str:
    """Many short rows, in two columns."""
    half = (len(rows) + 1) // 2
    return f'<div class="two">{_table(rows[:half])}{_table(rows[half:])}</div>'


def _mark(role: str, hollow: bool) -> str:
    colour = LOOK.before if role == "before" else LOOK.after
    dot = drawing.svg(18, 18, drawing.dot(9, 9, colour, LOOK, hollow))
    return f'<span style="width:18px">{dot}</span>'


def _pair(report: Report) -> dict[str, Any]:
    return lineup.of_pair(report.results, report.changes)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
