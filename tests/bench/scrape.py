"""What a scrape costs, beside prometheus-client's own counters: at most twice as much.

    make bench

Both render the same number of series, in turn. Fails where ours takes more than twice as long.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest
from prometheus_client.registry import Collector

from pte_trace.exporter.groups import Groups
from pte_trace.exporter.metrics import StateCollector
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.state import State
from pte_trace.snapshot import Snapshot
from tests.builders import counts, histogram, record, snapshot

SERIES = 10_000
ROUNDS = 15
MOST = 2.0


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


def _seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def _state() -> State:
    with Reader(_Once(), Groups(SERIES), print) as reader:
        return reader.state()


def main() -> int:
    state = _state()
    number = _lines(StateCollector(state, {}, "bench"))
    static = _static(number)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_seconds(lambda: generate_latest(StateCollector(state, {}, "bench"))))
        theirs.append(_seconds(lambda: generate_latest(static)))
    ratio = median(ours) / median(theirs)
    print(f"One scrape of {number:,} series, the median of {ROUNDS}:")
    print(f"  pte-trace serve                       {median(ours) * 1e3:6.1f} ms")
    print(f"  prometheus-client's static counters   {median(theirs) * 1e3:6.1f} ms")
    print(f"  ratio {ratio:.2f}, at most {MOST:.1f} wanted")
    return ratio > MOST


if __name__ == "__main__":
    sys.exit(main())
