"""The views of the classes page: maps, numbers, confusions, pairs."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import changes, figures, guard, player, space, tables, theme
from pages.components import class_figures as charts
from pages.components.class_looks import Look
from refine import class_changes, confusion
from refine.corpus import Corpus
from refine.metrics.classes import MOST_CLASSES

READ = ("probe_uar", "knn_uar", "shot_1", "shot_5", "shot_10", "probe_accuracy", "probe_bits")
APART = (
    "spread_ratio", "davies_bouldin", "silhouette", "cdnv", "nc1", "nc2_equinorm",
    "nc2_equiangle", "alignment", "within_spread", "between_centroids",
)  # fmt: skip
TURNS = {
    "fixed": "read right only after",
    "broken": "only before",
    "right": "by both",
    "wrong": "by neither",
}

Results = dict[str, dict[str, Any]]


def verdict(results: Results, look: Look, factor: str) -> None:
    """Four tiles: can it be read, are its classes apart, what does it explain, who moved."""
    numbers = {role: result["classes"][factor] for role, result in results.items()}
    paired = look.paired["changes"]
    read = "probe_uar" if all("probe_uar" in n for n in numbers.values()) else "silhouette"
    words = {
        "probe_uar": f"a linear probe reads {factor}",
        "silhouette": f"silhouette of {factor}",
    }
    tiles = [
        tile(words[read], read, numbers, paired.get(read), read == "probe_uar"),
        tile("width of a class over the gap", "spread_ratio", numbers, paired.get("spread_ratio")),
        tile(f"of the variance is {factor}", "explained", numbers, paired.get("explained"), True),
    ]
    if look.near.number is not None:
        one = look.near.number.as_dict()
        tiles.append(
            tile("of a clip's nearest are so after", "kept", {"after": {"kept": one}}, None, True)
        )
    st.html(f'<div class="refine-tiles">{"".join(tiles)}</div>')
    st.caption(measured_on(results, look) + drawn_of(look, factor))


def drawn_of(look: Look, factor: str) -> str:
    """How many classes stand for all of them, where there are too many."""
    counts = look.map.table[factor].replace("", pd.NA).value_counts()
    n = int((counts > 1).sum())
    if n <= MOST_CLASSES:
        return ""
    return f" Spreads and pairs are of {MOST_CLASSES} of its {n:,} classes, drawn with a seed."


def measured_on(results: Results, look: Look) -> str:
    """How many clips stand behind it."""
    n = {role: result["n_clips"] for role, result in results.items()}
    text = f"{n['before']:,} clips"
    if len(set(n.values())) > 1:
        both = look.paired["n_clips"]
        text += f" before and {n['after']:,} after; changes are of the {both:,} that both have"
    groups = results["before"]["isotropy"]["uniformity"].get("groups")
    return text + (f", {groups:,} speakers." if groups else ".")


def tile(
    words: str,
    metric: str,
    numbers: Mapping[str, Mapping[str, Any]],
    change: Mapping[str, Any] | None,
    share: bool = False,
) -> str:
    """One number, before and after, in large type; whether the change is sure below."""
    found = {role: n[metric] for role, n in numbers.items() if metric in n}
    values = " → ".join(
        f'<b style="color:{theme.words(role)}">{_said(one["value"], share)}</b>'
        for role, one in found.items()
    )
    last = list(found.values())[-1]
    if change is not None:
        sure = change["low"] > 0 or change["high"] < 0
        better = _better(change) if sure else ""
        low, high = (_said(change[end], share, sign=True) for end in ("low", "high"))
        unit = " points" if share else ""
        note = f"{low} to {high}{unit}: <i>{'sure' if sure else 'unsure'}</i>{better}"
    else:
        note = f"{_said(last['low'], share)} to {_said(last['high'], share)}"
    if last.get("null") is not None and share:
        note += f"<br>by chance {_said(last['null'], share)}"
    return f"<div><span>{values}</span><p>{escape(words)}</p><small>{note}</small></div>"


def _better(change: Mapping[str, Any]) -> str:
    if change["direction"] == "neither":
        return ""
    return ", better" if (change["value"] > 0) == (change["direction"] == "higher") else ", worse"


def _said(value: float, share: bool, sign: bool = False) -> str:
    text = f"{100 * value:+.0f}" if sign else f"{100 * value:.0f} %"
    text = text if share else changes.short(value)
    if sign and not share and value > 0:
        text = f"+{text}"
    return text.replace("-", "−")


def numbers(results: Results, look: Look, factor: str) -> None:
    """Every metric of the factor, then what each factor explains."""
    found = {role: result["classes"][factor] for role, result in results.items()}
    paired = look.paired["changes"]
    unit = {role: result["isotropy"]["uniformity"] for role, result in results.items()}
    moved = space.paired(results, None) or {}
    st.subheader(f"Can {player.escape(factor)} be read?")
    read = {role: {m: n[m] for m in READ if m in n} for role, n in found.items()}
    if any(read.values()):
        alt = f"How well {factor} is read"
        changes.rows("classes_read", alt, read, paired, null="always the commonest class")
    else:
        st.info(_left_out(results, factor, "probes"), icon=":material/info:")
    st.subheader("How tight are its classes, how far apart?")
    apart = {
        role: {m: n[m] for m in APART if m in n} | {"uniformity": unit[role]}
        for role, n in found.items()
    }
    both = paired | ({"uniformity": moved["uniformity"]} if "uniformity" in moved else {})
    alt = f"How tight the classes of {factor} are, and how far apart"
    changes.rows("classes_apart", alt, apart, both, null="without class structure")
    st.caption(
        "Choose a row for its definition and n. Uniformity is of the whole space: alignment alone "
        "is won by a collapsed one. The probe, its neighbours and shots are fitted on other clips; "
        "a change without an interval of its own is judged by both intervals, which is strict."
    )
    st.subheader("What is the spread about?")
    names = list(results["before"]["classes"])
    share = {
        role: {name: r["classes"][name]["explained"] for name in names if name in r["classes"]}
        for role, r in results.items()
    }
    alt = "What the spread is about"
    explained = look.paired["explained"]
    changes.rows("classes_explained", alt, share, explained, null="labels that mean nothing")
    st.caption(
        "Share of the variance of the vectors that the class means of each factor hold. Less is "
        "more invariant. Shares do not add up: factors overlap (gender lies within speaker), and "
        "a factor can be read from directions that hold next to no variance."
    )
    neighbours(look)
    rows = _table(results, look, factor, share)
    tables.folded("All of it as a table", "class_numbers", rows)


def neighbours(look: Look) -> None:
    """How many clips kept how many of their nearest."""
    near = look.near
    if near.number is None or near.kept is None:
        return
    k = neighbours_of(look)
    st.subheader("How many neighbours does a clip keep?")
    chart = charts.kept(near.kept, near.number.null or 0.0, k)
    figures.show(chart, "class_kept", "How many of its nearest clips each clip kept")


def _table(
    results: Results, look: Look, factor: str, share: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """A row a number and side; downloads as CSV."""
    rows = [
        (role, factor, metric, one)
        for role, result in results.items()
        for metric, one in result["classes"][factor].items()
    ]
    rows += [("change", factor, metric, one) for metric, one in look.paired["changes"].items()]
    for role, found in [*share.items(), ("change", look.paired["explained"])]:
        rows += [(role, name, "explained", one) for name, one in found.items() if name != factor]
    keys = ("value", "low", "high", "n", "null", "control", "groups", "direction", "definition")
    return pd.DataFrame(
        [{"side": s, "factor": f, "metric": m} | {k: n[k] for k in keys} for s, f, m, n in rows]
    )


@st.fragment
def confusions(results: Results, look: Look, factor: str, corpus: Corpus) -> None:
    """The matrices, the clips of a cell, or the most confused ones; and one to hear."""
    with guard.sentences():
        found = confusion.matrices(results, factor)
        cell_key = f"class_cell_{factor}"
        if found is None:
            st.info(_left_out(results, factor, "probes"), icon=":material/info:")
            cell = None
        else:
            cell = _matrices(results, found, factor, cell_key)
        if cell is None:
            st.subheader("The most confused clips")
            st.caption(
                "Fewest neighbours of their own class first, among the "
                f"{neighbours_of(look)} nearest of {len(look.near.table):,} clips (own: how many)."
            )
            table = class_changes.confused(results, look.near, factor)
        else:
            role, truth, said = cell
            st.subheader(f"{player.escape(truth)} read as {player.escape(said)}, {role}")
            st.button("Show the most confused instead", on_click=forget, args=(cell_key,))
            table = confusion.cell(confusion.clips(results, factor), role, truth, said)
            table = table.merge(look.near.told(factor), on="clip", how="left")
        clip = clips_table(table, f"class_confused_{factor}_{cell}", neighbours_of(look))
        if clip is not None:
            with st.container(border=True, key="card_confused"):
                player.play(corpus, clip, "confused_sound", wide=True)


def _matrices(
    results: Results, found: confusion.Confusion, factor: str, cell_key: str
) -> tuple[str, str, str] | None:
    """Draw them; returns the role, true and predicted class of the cell that was chosen."""
    chosen = st.session_state.get(cell_key)
    k, roles = len(found.names), list(found.counts)
    if chosen is not None and (chosen[0] not in roles or max(chosen[1:]) >= k):
        chosen = None
    st.subheader("What is taken for what?")

    def remember() -> None:
        points = st.session_state["class_confusion"]["selection"]["points"]
        if points:
            code = points[0]["customdata"]
            code = int(code[0] if isinstance(code, list) else code)
            place, rest = divmod(code, k * k)
            st.session_state[cell_key] = (roles[place], rest // k, rest % k)

    figures.show(
        charts.confusions(found, chosen),
        "class_confusion",
        f"Confusion matrices of {factor}, before and after",
        on_select=remember,
        selection_mode="points",
    )
    turns = confusion.clips(results, factor)["turn"].value_counts()
    told = [f"{turns.get(t, 0):,} {words}" for t, words in TURNS.items()]
    text = f"Of {found.n:,} test clips, {', '.join(told)}. " if len(roles) > 1 else ""
    if found.left_out:
        text += f"The {k} classes most often confused; {found.left_out:,} are not shown. "
    st.caption(text + "Rows add up to all clips of a class. Choose a cell to hear its clips.")
    if chosen is None:
        return None
    return chosen[0], found.names[chosen[1]], found.names[chosen[2]]


def clips_table(table: pd.DataFrame, key: str, k: int) -> str | None:
    """Clips with what is known of them; returns the one to hear. k: neighbours of a clip."""
    if not len(table):
        st.caption("No clip.")
        return None
    words = {"truth": "is", "class": "is", "before": "probe before", "after": "probe after"}
    words |= {f"probe_{role}": f"probe {role}" for role in ("before", "after")}
    words |= {f"own_{role}": f"own {role}" for role in ("before", "after")}
    order = ["clip", "truth", "class", "before", "after", "probe_before", "probe_after"]
    shown = table[[name for name in [*order, "own_before", "own_after"] if name in table]].copy()
    if "truth" in shown and "class" in shown:
        shown = shown.drop(columns="class")
    for name in ("own_before", "own_after"):
        if name in shown:
            shown[name] = (shown[name] * k).round()
    event = st.dataframe(
        shown.rename(columns=words),
        key=key,
        hide_index=True,
        height=min(38 + 35 * len(shown), 330),
        on_select="rerun",
        selection_mode="single-row",
        column_config=own_columns(k),
    )
    rows = event["selection"]["rows"]
    return str(table["clip"].iloc[rows[0] if rows and rows[0] < len(table) else 0])


def own_columns(k: int) -> dict[str, Any]:
    """How many of the k nearest clips are of the clip's own class."""
    help = f"how many of its {k} nearest clips are of its own class"
    return {
        f"own {role}": st.column_config.NumberColumn(format=f"%d of {k}", help=f"{role}, {help}")
        for role in ("before", "after")
    }


def neighbours_of(look: Look) -> int:
    """k."""
    return int(look.near.near["before"].shape[1])


def forget(key: str) -> None:
    st.session_state.pop(key, None)


@st.fragment
def pairs(results: Results, look: Look, factor: str, corpus: Corpus) -> None:
    """The worst pairs, every class, and two clips of a pair side by side."""
    with guard.sentences():
        roles = list(results)
        st.subheader("Which classes lie closest?")
        rows = [
            (" · ".join(pair["classes"]), {role: pair[role] for role in roles})
            for pair in look.paired["pairs"]
        ]
        notes = [charts.note_of(pair.get("change")) for pair in look.paired["pairs"]]
        figures.show(
            charts.dumbbells(rows, "overlap of the two classes", notes, "as wide as apart"),
            "class_pairs",
            f"Worst separated pairs of {factor}",
        )
        one = look.paired["pairs"][0][roles[0]]
        st.caption(
            f"The worst of {look.paired['n_pairs']:,} pairs on either side; sum of both widths "
            f"over the distance of their means, n = {one['n']:,}. {_interval_of(one)} Picked "
            "because they are the worst: on other clips they would look a little better."
        )
        hear(look, factor, corpus, roles)
        st.subheader("Class by class")
        metric = st.segmented_control(
            "Of a class",
            ["overlap", "width"],
            default="overlap",
            key="class_metric",
            format_func={
                "overlap": "Overlap with its worst neighbour",
                "width": "Width",
            }.__getitem__,
            required=True,
            label_visibility="collapsed",
        )
        each = look.paired["classes"]
        rows = [(c["name"], {role: c[str(metric)][role] for role in roles}) for c in each]
        notes = [charts.note_of(c[str(metric)].get("change")) for c in each]
        words = {
            "overlap": "overlap with the class it overlaps most with",
            "width": "distance of its clips to their mean, over the mean distance of two classes",
        }
        figures.show(
            charts.dumbbells(rows, words[str(metric)], notes), "class_each", f"Classes of {factor}"
        )
        more = look.paired["of"] - len(each)
        mean = {"overlap": "Davies–Bouldin index", "width": "spread ratio"}[str(metric)]
        st.caption(
            f"Their mean over {'all ' if not drawn_of(look, factor) else ''}"
            f"{look.paired['of']:,} classes is the {mean}."
            + (f" {more:,} classes with less overlap are not shown." if more > 0 else "")
        )
        table = tables.of_numbers(_pair_rows(look, roles))
        tables.folded(f"All {len(table)} numbers", "class_pair_numbers", table)


def _pair_rows(look: Look, roles: list[str]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Every number of the pairs and of the classes, and what it is of."""
    kinds = [(" · ".join(pair["classes"]), "overlap", pair) for pair in look.paired["pairs"]]
    kinds += [
        (one["name"], f"{what} of the class", one[what])
        for one in look.paired["classes"]
        for what in ("overlap", "width")
    ]
    for name, metric, found in kinds:
        for side in [*roles, "change"]:
            if side in found:
                yield {"of": name, "metric": metric, "side": side}, found[side]


def hear(look: Look, factor: str, corpus: Corpus, roles: list[str]) -> None:
    """Two clips of a pair that are neighbours in the last space."""
    names = [tuple(pair["classes"]) for pair in look.paired["pairs"]]
    role = roles[-1]
    chosen = st.pills(
        "Hear two clips that lie next to each other",
        range(len(names)),
        format_func=lambda place: player.escape(" · ".join(names[place])),
        key=f"class_hear_{factor}",
        wrap=True,
    )
    if chosen is None:
        return
    met = look.near.meeting(factor, names[chosen], role)
    if met is None:
        st.caption(f"No clip of the one is among the nearest of the other, {role}.")
        return
    for place, (column, clip) in enumerate(zip(st.columns(2), met, strict=True)):
        with column, st.container(border=True, key=f"card_pair_{place}"):
            player.play(corpus, clip, f"pair_sound_{place}")


def _interval_of(one: Mapping[str, Any]) -> str:
    """The last sentence of a definition: what was resampled."""
    return f"95 % intervals over {one['groups']} speakers." if one["groups"] else (
        "95 % intervals over clips, nothing is said about other speakers."
    )  # fmt: skip


def _left_out(results: Results, factor: str, what: str) -> str:
    for result in results.values():
        if factor in result["left_out_factors"]:
            reason = result["left_out_factors"][factor]
            return f"No probe of {player.escape(factor)}: {player.escape(reason)}."
    return f"No {what} of {player.escape(factor)} in this evaluation."
