"""Write the tables of counters and of metrics in docs/, from where they are declared.

python docs/counters.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import Metric

from pte_trace.counted.columns import Columns
from pte_trace.counted.counters import OUTCOMES
from pte_trace.counted.counts import NOTHING, Counts, Histogram
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.packed import BUCKETS
from pte_trace.counted.rows import Rows
from pte_trace.counted.snapshot import Health, Kernel, ReuseCost, Snapshot
from pte_trace.exporter.group import Group
from pte_trace.exporter.metrics import StateCollector
from pte_trace.exporter.state import State
from pte_trace.views.legend import entries

_DOCS = Path(__file__).parent
READING, METRICS = _DOCS / "reading.md", _DOCS / "metrics.md"
_BEGIN, _END = "<!-- {}: make manual -->", "<!-- end of {} -->"


def counters() -> str:
    rows = [f"| {column}, `{name}` | {said} |" for column, name, said in entries()]
    return "\n".join(["| column, JSON field | what is counted |", "|---|---|", *rows])


def metrics() -> str:
    rows = [
        f"| `{name}` | {metric.type} | {', '.join(f'`{each}`' for each in labels)} |"
        f" {metric.documentation} |"
        for metric, name, labels in _metrics()
    ]
    return "\n".join(["| metric | type | labels | what it is |", "|---|---|---|---|", *rows])


def _metrics() -> Iterator[tuple[Metric, str, list[str]]]:
    """Our own, of which all have a sample where everything is measured."""
    for metric in StateCollector(_everything(), {}, "").collect():
        if metric.name.startswith("pte_trace_"):
            suffix = "_total" if metric.type == "counter" else ""
            labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
            yield metric, metric.name + suffix, sorted(labels)


def _everything() -> State:
    timed = (Histogram(1, (1, *(0,) * (BUCKETS - 1))),) * len(OUTCOMES)
    row = VmaRow(1, "comm", 0, 1, "rw-p", "anon", "[anon]", Counts(NOTHING.numbers, timed))
    columns = Columns.of([row])
    snapshot = Snapshot(
        kernel=Kernel("", None),
        hooks={},
        duration_s=0,
        totals=NOTHING,
        vmas=Rows(columns),
        health=Health(probe_seconds=0),
        reuse_cost=ReuseCost(0, ""),
    )
    names = (Group("comm", "anon", "[anon]"),)
    return State(snapshot, names, columns, 1, 0, 0, 0, 0)


def written() -> dict[Path, str]:
    """The files, with the tables of today."""
    return {
        READING: _with(READING, "counters", counters()),
        METRICS: _with(METRICS, "metrics", metrics()),
    }


def _with(path: Path, name: str, table: str) -> str:
    begin, end = _BEGIN.format(name), _END.format(name)
    before, _, rest = path.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n{end}{after}"


def main() -> None:
    for path, text in written().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
