"""Plots of a recording, with Plotly. Each has a title, its axes named, and their units."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from pte_trace.counted.counters import (
    CAUSES,
    OUTCOMES,
    PTES_LEFT_READONLY,
    PTES_MADE_WRITABLE,
    REASONS,
    WRITE_FAULTS,
)
from pte_trace.counted.counts import Counts
from pte_trace.counted.mapping import ProcessRow, VmaRow
from pte_trace.counted.packed import BUCKETS
from pte_trace.counted.snapshot import Snapshot
from pte_trace.recording.summary import Span
from pte_trace.views.printable import printable
from pte_trace.views.sentences import duration

# Okabe and Ito's colours, which colour-blind readers can tell apart; the sixth is Tol's.
COLOURS = (
    *("#D55E00", "#E69F00", "#CC79A7", "#56B4E9"),
    *("#F0E442", "#332288", "#999999", "#000000"),
)
_OUTCOME_COLOURS = dict(zip(OUTCOMES, COLOURS, strict=True))
_MADE_WRITABLE = "#009E73"
_LEFT_READONLY = "#0072B2"
_LONGEST_LABEL = 20
_TICKS = {"ticks": "outside", "ticklen": 6, "tickcolor": "white"}


def figure(
    title: str, traces: Iterable[object], *, x: str, y: str, rows: int | None = None
) -> go.Figure:
    """*x* and *y* name the axes, with their units; *rows* of bars set the height."""
    return go.Figure(
        list(traces),
        layout={
            "title": {"text": title, "font": {"size": 15}, "x": 0, "xref": "container"},
            # The ticks keep what is written at both axes' beginning apart.
            "xaxis": {"title": {"text": x}, "automargin": True, **_TICKS},
            "yaxis": {"title": {"text": y}, "automargin": True, **_TICKS},
            "legend": {
                "orientation": "h",
                "yref": "container",
                "y": 0,
                "yanchor": "bottom",
                "x": 0,
            },
            "margin": {"l": 10, "r": 10, "t": 48, "b": 70},
            "height": 380 if rows is None else 200 + 24 * rows,
            "template": "plotly_white",
            "barmode": "stack",
            "hoverlabel": {"namelength": -1},
        },
    )


def faults_over_time(timeline: Sequence[Span]) -> go.Figure:
    spans = [span for span in timeline if span.duration_s]
    return figure(
        "Write faults over time, by outcome",
        (
            go.Scatter(
                x=[span.end for span in spans],
                y=[span.counts[WRITE_FAULTS][place] / span.duration_s for span in spans],
                name=outcome,
                stackgroup="faults",
                mode="lines+markers" if len(spans) < 3 else "lines",
                line={"color": _OUTCOME_COLOURS[outcome], "width": 1},
            )
            for place, outcome in enumerate(OUTCOMES)
            if any(span.counts[WRITE_FAULTS][place] for span in spans)
        ),
        x="time (UTC)",
        y="write faults per second",
    )


def efficacy_over_time(timeline: Sequence[Span]) -> go.Figure:
    made = figure(
        "Efficacy over time",
        [
            go.Scatter(
                x=[span.end for span in timeline],
                y=[_percent(span.counts.efficacy) for span in timeline],
                name="efficacy",
                mode="lines+markers",
                line={"color": _MADE_WRITABLE},
            )
        ],
        x="time (UTC)",
        y="avoidable faults avoided (%)",
    )
    made.update_yaxes(range=[-3, 103])
    return made


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def outcomes(totals: Counts) -> go.Figure:
    made = figure(
        "How write faults ended",
        [
            go.Bar(
                x=list(totals[WRITE_FAULTS]),
                y=list(OUTCOMES),
                orientation="h",
                marker={"color": list(_OUTCOME_COLOURS.values())},
                showlegend=False,
            )
        ],
        x="write faults",
        y="outcome",
        rows=len(OUTCOMES),
    )
    return made.update_yaxes(autorange="reversed")


def protection_changes(totals: Counts) -> go.Figure:
    """The optimization acting, PTE by PTE, and where it could not."""
    made = figure(
        "PTEs made writable, or left read-only",
        [
            go.Bar(
                x=list(totals[PTES_MADE_WRITABLE]),
                y=[f"writable: {cause}" for cause in CAUSES],
                name="made writable, by cause",
                orientation="h",
                marker={"color": _MADE_WRITABLE},
            ),
            go.Bar(
                x=list(totals[PTES_LEFT_READONLY]),
                y=[f"read-only: {reason}" for reason in REASONS],
                name="left read-only, by reason",
                orientation="h",
                marker={"color": _LEFT_READONLY},
            ),
        ],
        x="PTEs",
        y="cause or reason",
        rows=len(CAUSES) + len(REASONS),
    )
    return made.update_yaxes(autorange="reversed")


def fault_costs(totals: Counts) -> go.Figure:
    timed = [
        (outcome, cost) for outcome, cost in zip(OUTCOMES, totals.costs, strict=True) if cost.count
    ]
    filled = [n for n in range(BUCKETS) if any(cost.log2[n] for _, cost in timed)] or [0]
    buckets = range(filled[0], filled[-1] + 1)
    return figure(
        "Cost of write faults",
        (
            go.Bar(
                x=[duration(2**n / 1e9) for n in buckets],
                y=[cost.log2[n] for n in buckets],
                name=f"{outcome}, mean {duration((cost.mean or 0) / 1e9)}",
                marker={"color": _OUTCOME_COLOURS[outcome]},
            )
            for outcome, cost in timed
        ),
        x="time in the fault, at least (ns, µs, ms)",
        y="write faults timed",
    )


def top_mappings(vmas: Sequence[VmaRow]) -> go.Figure:
    labels = [
        f"{_label(vma.name)} {vma.perms} · {_label(vma.comm)} {vma.pid} · {vma.start:x}"
        for vma in vmas
    ]
    return _top("Mappings with the most write faults", "mapping", labels, vmas)


def top_processes(processes: Sequence[ProcessRow]) -> go.Figure:
    labels = [f"{_label(process.comm)} {process.pid}" for process in processes]
    return _top("Processes with the most write faults", "process", labels, processes)


def _label(name: str) -> str:
    """*name* as Plotly may show it, its end kept where it is long."""
    safe = printable(name)
    cut = safe if len(safe) <= _LONGEST_LABEL else f"…{safe[1 - _LONGEST_LABEL :]}"
    return html.escape(cut, quote=False)


def _top(
    title: str, what: str, labels: Sequence[str], rows: Sequence[VmaRow | ProcessRow]
) -> go.Figure:
    places = list(range(len(rows)))
    made = figure(
        title,
        (
            go.Bar(
                x=[row.counts[WRITE_FAULTS][place] for row in rows],
                y=places,
                name=outcome,
                orientation="h",
                marker={"color": _OUTCOME_COLOURS[outcome]},
                customdata=labels,
                hovertemplate="%{customdata}: %{x:,} " + outcome + "<extra></extra>",
            )
            for place, outcome in enumerate(OUTCOMES)
            if any(row.counts[WRITE_FAULTS][place] for row in rows)
        ),
        x="write faults",
        y=what,
        rows=2 * len(rows),
    )
    # The label stands above its bar, so that the bars have the width of a phone too.
    made.update_yaxes(autorange="reversed", showticklabels=False)
    made.update_layout(bargap=0.55)
    for place, label in zip(places, labels, strict=True):
        made.add_annotation(
            x=0,
            y=place - 0.38,
            xref="paper",
            text=label,
            showarrow=False,
            xanchor="left",
            yanchor="middle",
            font={"size": 11},
        )
    return made


def of_recording(timeline: Sequence[Span], whole: Snapshot, rows: int = 10) -> list[go.Figure]:
    """All plots there are data for."""
    by_faults = {"key": lambda row: row.counts.sum(WRITE_FAULTS), "reverse": True}
    vmas = sorted(whole.vmas, **by_faults)[:rows]  # type: ignore[call-overload]
    processes = sorted(whole.processes, **by_faults)[:rows]  # type: ignore[call-overload]
    plots = [faults_over_time(timeline)]
    if whole.effort.inspects:
        plots.append(efficacy_over_time(timeline))
    plots.append(outcomes(whole.totals))
    if whole.effort.inspects:
        plots.append(protection_changes(whole.totals))
    if whole.effort.times:
        plots.append(fault_costs(whole.totals))
    return [*plots, top_mappings(vmas), top_processes(processes)]
