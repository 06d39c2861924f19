"""Plots of recordings side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import plotly.graph_objects as go

from pte_trace.counted.counters import (
    CAUSES,
    OUTCOMES,
    PTES_LEFT_READONLY,
    PTES_MADE_WRITABLE,
    REASONS,
    WRITE_FAULTS,
)
from pte_trace.counted.counts import Histogram, total
from pte_trace.counted.packed import BUCKETS
from pte_trace.recording.comparison import Basis, Comparison, Subject
from pte_trace.recording.summary import Run
from pte_trace.views.plots import COLOURS, figure
from pte_trace.views.sentences import duration


def _names(comparison: Comparison) -> list[str]:
    return [
        f"{chr(ord('A') + place)}: Linux {subject.metadata.kernel.release}"
        for place, subject in enumerate(comparison.subjects)
    ]


def _medians(
    subject: Subject, values: Callable[[Run], Sequence[int]], *, per_second: bool
) -> list[float]:
    runs = [run for run in subject.runs if run.duration_s]
    numbers = (
        [each / (run.duration_s if per_second else 1) for each in values(run)] for run in runs
    )
    return [median(column) for column in zip(*numbers, strict=True)]


def _bars(
    comparison: Comparison,
    title: str,
    labels: Sequence[str],
    values: Callable[[Run], Sequence[int]],
    *,
    what: str,
    y: str,
) -> go.Figure:
    per_second = comparison.per_second
    made = figure(
        title,
        (
            go.Bar(
                x=_medians(subject, values, per_second=per_second),
                y=list(labels),
                name=name,
                orientation="h",
                marker={"color": COLOURS[place % len(COLOURS)]},
            )
            for place, (name, subject) in enumerate(
                zip(_names(comparison), comparison.subjects, strict=True)
            )
        ),
        x=f"{what} per second" if per_second else f"{what} (median of the runs)",
        y=y,
        rows=len(labels) * len(comparison.subjects),
    )
    made.update_layout(barmode="group")
    made.update_yaxes(autorange="reversed")
    return made


def _costs(comparison: Comparison) -> go.Figure:
    costs = [
        total(run.counts for run in subject.runs).reuse_cost for subject in comparison.subjects
    ]
    filled = [n for n in range(BUCKETS) if any(cost.log2[n] for cost in costs)] or [0]
    buckets = range(filled[0], filled[-1] + 1)
    made = figure(
        "Cost of a wp_reuse fault",
        (
            go.Bar(
                x=[duration(2**n / 1e9) for n in buckets],
                y=[_percent(cost, n) for n in buckets],
                name=name,
                marker={"color": COLOURS[place % len(COLOURS)]},
            )
            for place, (name, cost) in enumerate(zip(_names(comparison), costs, strict=True))
        ),
        x="time in the fault, at least (ns, µs, ms)",
        y="share of the faults timed (%)",
    )
    made.update_layout(barmode="group")
    return made


def _percent(cost: Histogram, bucket: int) -> float | None:
    return 100 * cost.log2[bucket] / cost.count if cost.count else None


def _runs(comparison: Comparison) -> go.Figure:
    return figure(
        "Each run's duration",
        (
            go.Box(
                y=[run.duration_s for run in subject.runs],
                name=name,
                boxpoints="all",
                marker={"color": COLOURS[place % len(COLOURS)]},
                showlegend=False,
            )
            for place, (name, subject) in enumerate(
                zip(_names(comparison), comparison.subjects, strict=True)
            )
        ),
        x="recording",
        y="duration (seconds)",
    )


def of_comparison(comparison: Comparison) -> list[go.Figure]:
    """All plots there are comparable data for."""
    apart = comparison.apart
    effort = comparison.subjects[0].metadata.effort
    plots = [] if Basis.TIME in apart else [_runs(comparison)]
    if Basis.FAULTS not in apart:
        plots.append(
            _bars(
                comparison,
                "Write faults, by outcome",
                OUTCOMES,
                lambda run: run.counts[WRITE_FAULTS],
                what="write faults",
                y="outcome",
            )
        )
    if effort.inspects and not apart & {Basis.CHANGES, Basis.INSPECTION}:
        plots.append(
            _bars(
                comparison,
                "PTEs made writable, or left read-only",
                [
                    *(f"writable: {each}" for each in CAUSES),
                    *(f"read-only: {each}" for each in REASONS),
                ],
                lambda run: run.counts[PTES_MADE_WRITABLE] + run.counts[PTES_LEFT_READONLY],
                what="PTEs",
                y="cause or reason",
            )
        )
    if effort.times and not apart & {Basis.FAULTS, Basis.TIME}:
        plots.append(_costs(comparison))
    return plots
