"""What the dashboard of a machine asks for, answered of a recording, and drawn without Grafana.

The queries are those of the JSON; a Prometheus answers them that was given what `serve` would have
shown at the end of each recorded interval.
"""

from __future__ import annotations

import html
import json
import math
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from dashboards.parts import MACHINE, PER_SECOND, SECONDS, SHARE
from pte_trace.exporter.metrics import StateCollector
from pte_trace.exporter.state import State
from pte_trace.views import page, plots
from pte_trace.views.sentences import duration

# What is drawn of each kind of panel, from above: the others have nothing to show of a short time.
_SHOWN = {"stat": 9, "timeseries": 4, "table": 2}
_ROWS = 8
_INSTANCE = "node-7:9818"
# A longer title is cut by a phone.
_LONGEST = 40
# Grafana takes four times as long as two scrapes are apart.
_RATES = 4
_DIGITS = 6
Answer = list[dict[str, Any]]


def panels() -> list[dict[str, Any]]:
    """Those that are drawn, and of each what the drawing rests on."""
    dashboard = json.loads(Path(__file__).with_name(f"{MACHINE}.json").read_text())
    return [
        {
            "kind": kind,
            "title": panel["title"],
            "unit": panel["fieldConfig"]["defaults"]["unit"],
            "named": panel["options"].get("textMode") == "name",
            "asked": [(each["expr"], each["legendFormat"]) for each in panel["targets"]],
        }
        for kind, most in _SHOWN.items()
        for panel in [each for each in dashboard["panels"] if each["type"] == kind][:most]
    ]


def exposed(states: Iterable[tuple[datetime, State]], version: str) -> str:
    """What a Prometheus would have scraped, at the time of each: as promtool reads it."""
    lines = []
    for at, state in states:
        collected = StateCollector(state, {"instance": _INSTANCE, "job": "pte-trace"}, version)
        for family in collected.collect():
            # What it says of its own process is of whoever asks.
            if not family.name.startswith("pte_trace_"):
                continue
            for sample in family.samples:
                labels = ",".join(f'{k}="{_escaped(v)}"' for k, v in sorted(sample.labels.items()))
                value = repr(float(sample.value))
                lines.append(f"{sample.name}{{{labels}}} {value} {at.timestamp():.3f}")
    return "\n".join([*lines, "# EOF\n"])


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def answers(text: str, began: datetime, ended: datetime, every_s: float) -> list[list[Answer]]:
    """What a Prometheus that holds *text* says to each query of each panel."""
    with _holding(text) as prometheus:
        return [
            [
                _ask(prometheus, expr, panel["kind"] == "timeseries", began, ended, every_s)
                for expr, _ in panel["asked"]
            ]
            for panel in panels()
        ]


@contextmanager
def _holding(text: str) -> Iterator[Any]:
    # Not needed to draw what was answered, and no part of what a test of that loads.
    from tests.e2e.fleet import alone

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "metrics").write_text(text)
        make = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "metrics", "data"]
        subprocess.run(make, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        with alone(directory) as prometheus:
            yield prometheus


def _ask(
    prometheus: Any, expr: str, over_time: bool, began: datetime, ended: datetime, every_s: float
) -> Answer:
    length_s = (ended - began).total_seconds()
    variables = {
        "$__rate_interval": f"{math.ceil(_RATES * every_s)}s",
        "$__range": f"{math.ceil(length_s)}s",
        "$instance": _INSTANCE,
        "$comm": ".*",
    }
    for name, value in variables.items():
        expr = expr.replace(name, value)
    end = f"{ended.timestamp():.3f}"
    if over_time:
        start, step = f"{began.timestamp():.3f}", f"{every_s}"
        found = prometheus.ask("query_range", query=expr, start=start, end=end, step=step)
        return [_series(each["metric"], each["values"]) for each in found["result"]]
    found = prometheus.ask("query", query=expr, time=end)
    return [_series(each["metric"], [each["value"]]) for each in found["result"]]


def _series(labels: Mapping[str, str], values: Sequence[tuple[float, str]]) -> dict[str, Any]:
    rounded = [(at, None if v == "NaN" else float(f"{float(v):.{_DIGITS}g}")) for at, v in values]
    return {"labels": labels, "values": rounded}


def drawn(title: str, shown: Sequence[dict[str, Any]], said: Sequence[Sequence[Answer]]) -> str:
    """A page of the panels with their answers."""
    both = list(zip(shown, said, strict=True))
    numbers = "".join(_number(panel, of) for panel, of in both if panel["kind"] == "stat")
    tables = "".join(_table(panel, of) for panel, of in both if panel["kind"] == "table")
    return page.page(
        title,
        [
            '<div style="display: flex; flex-wrap: wrap; gap: .5rem; margin-bottom: 1rem">'
            f"{numbers}</div>",
            page.plot_grid(
                _lines(panel, of) for panel, of in both if panel["kind"] == "timeseries"
            ),
            f'<div class="plots">{tables}</div>',
        ],
    )


def _number(panel: Mapping[str, Any], said: Sequence[Answer]) -> str:
    (answer,) = said
    ((_, legend),) = panel["asked"]
    if not answer:
        value = "no data"
    elif panel["named"]:
        value = _named(legend, answer[0]["labels"])
    else:
        value = _in_unit(answer[0]["values"][0][1], panel["unit"])
    size, width = ("1rem", "16rem") if panel["named"] else ("1.4rem", "8rem")
    return (
        '<div style="border: 1px solid #ddd; border-radius: .4rem; padding: .5rem .75rem;'
        f' flex: 1 1 {width}">{html.escape(panel["title"])}'
        f'<b style="display: block; font-size: {size}">{html.escape(value)}</b></div>'
    )


def _lines(panel: Mapping[str, Any], said: Sequence[Answer]) -> go.Figure:
    unit = {SHARE: "share (%)", PER_SECOND: "a second"}.get(panel["unit"], panel["unit"])
    percent = 100 if panel["unit"] == SHARE else 1
    title = panel["title"]
    made = plots.figure(
        title if len(title) <= _LONGEST else title.partition(",")[0],
        [
            go.Scatter(
                x=[datetime.fromtimestamp(at, UTC) for at, _ in series["values"]],
                y=[None if v is None else percent * v for _, v in series["values"]],
                name=_named(legend, series["labels"]),
                mode="lines",
            )
            for (_, legend), answer in zip(panel["asked"], said, strict=True)
            for series in answer
            if any(v for _, v in series["values"])
        ],
        x="time (UTC)",
        y=unit,
    )
    made.update_xaxes(nticks=4, tickformat="%H:%M:%S", tickangle=0)
    made.update_yaxes(rangemode="tozero")
    return made.update_layout(showlegend=True, margin_b=110)


def _table(panel: Mapping[str, Any], said: Sequence[Answer]) -> str:
    (answer,) = said
    rows = sorted(answer, key=lambda each: -each["values"][0][1])[:_ROWS]
    heads = sorted({name for each in rows for name in each["labels"]})
    cells = [
        [
            *(each["labels"].get(name, "") for name in heads),
            _in_unit(each["values"][0][1], panel["unit"]),
        ]
        for each in rows
    ] or [["none"]]
    table = page.table(panel["title"], [*heads, ""][-len(cells[0]) :], cells, words=heads)
    return f"<div>{table}</div>"


def _named(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)


def _in_unit(value: float | None, unit: str) -> str:
    if value is None:
        return "no data"
    if unit == SHARE:
        return f"{value:.1%}"
    return duration(value) if unit == SECONDS else f"{value:,.0f}"
