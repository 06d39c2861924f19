"""What a scrape takes, in instructions, beside prometheus-client's own counters: at most twice.

    make bench

Boots a kernel in a guest that counts instructions. There the metrics of a machine are rendered, and
as many counters of prometheus-client's own. Prints a table, writes the figures to
docs/overhead/scrape.json and fails where ours take more than MOST times as much.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest
from prometheus_client.registry import Collector
from rich.table import Table

from pte_trace.counted.snapshot import Snapshot
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.metrics import StateCollector
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.state import State
from tests.bench import guest
from tests.builders import counts, histogram, record, snapshot

SERIES = 10_000
MOST = 2.0
_RECORDED = Path(__file__).parents[2] / "docs/overhead/scrape.json"
_TIMEOUT = 900.0


class _Once:
    """A machine whose groups make SERIES series."""

    def read(self) -> Snapshot:
        cost = histogram(900, 1_100, 40_000)
        counted = counts(
            {"mprotect": 4},
            {"mprotect": 700},
            {"wp_reuse": 11, "wp_copy": 5, "other": 1_009},
            writable={"mprotect": 511},
            readonly={"clean": 23},
            costs={"wp_reuse": cost, "other": cost},
        )
        one = record(counts=counted)
        return snapshot(
            *(replace(one, pid=pid, comm=f"process-{pid}") for pid in range(1, SERIES // 50))
        )


def _lines(collector: Collector) -> int:
    text = generate_latest(collector).decode()
    return sum(not line.startswith("#") for line in text.splitlines())


def _static(number: int) -> CollectorRegistry:
    """As many counters of prometheus-client's own, with as many labels as ours have."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    counter = Counter(
        "static", "As many series.", ["comm", "kind", "mapping", "outcome"], registry=registry
    )
    for each in range(number):
        counter.labels(f"process-{each}", "anon", "[anon]", "wp_reuse").inc(each)
    return registry


def _took(what: Callable[[], object]) -> int:
    """Nanoseconds of CPU, which are instructions in such a guest; the second time."""
    what()
    begun = time.process_time_ns()
    what()
    return time.process_time_ns() - begun


def _state() -> State:
    with Reader(_Once(), Groups(SERIES), print) as reader:
        return reader.state()


def measure() -> dict[str, Any]:
    """In the guest: how many series, and the instructions of a scrape of them."""
    ours = StateCollector(_state(), {}, "bench")
    series = _lines(ours)
    theirs = _static(series)
    return {
        "series": series,
        "ways": {
            "`pte-trace serve`": _took(lambda: generate_latest(ours)),
            "prometheus-client's counters": _took(lambda: generate_latest(theirs)),
        },
    }


def _shown(found: dict[str, Any]) -> Table:
    table = Table(title=f"Instructions of a scrape of {found['series']:,} series", box=None)
    for heading in ("METRICS", "MILLIONS", "OF prometheus-client's"):
        table.add_column(heading, justify="left" if heading == "METRICS" else "right")
    *_, theirs = found["ways"].values()
    for name, took in found["ways"].items():
        table.add_row(name, f"{took / 1e6:,.1f}", f"{took / theirs:.2f}")
    return table


def main(kernel: str) -> None:
    found = guest.measured("tests.bench.scrape", kernel, _TIMEOUT)
    guest.record(found, _shown(found), _RECORDED)
    ours, theirs = found["ways"].values()
    if ours > MOST * theirs:
        sys.exit(f"A scrape takes {ours / theirs:.2f} times as much, {MOST} at most was wanted.")


if __name__ == "__main__":
    guest.program(measure, main)
