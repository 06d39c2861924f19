"""The state as Prometheus metrics. Names and labels are a contract: dashboards rest on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from pte_trace.counted.counters import FAMILIES, OUTCOMES, Family
from pte_trace.counted.counts import Counts, Histogram
from pte_trace.counted.packed import BUCKETS
from pte_trace.exporter.group import PLACE, Group
from pte_trace.exporter.state import State
from pte_trace.host.plan import HOOKS

Labels = Mapping[str, str]

# By powers of two where faults end that touch memory only, wider above.
_BOUNDS = (8, 9, 10, 11, 12, 13, 15, 17, 20, 24, 28)
# Durations are whole nanoseconds, and log2[n] counts those below 2^(n+1).
_LE = tuple((bound, str((2**bound - 1) / 1e9)) for bound in _BOUNDS)
assert _BOUNDS[-1] < BUCKETS

_OPTIMIZATION = {True: "true", False: "false", None: "unknown"}


class StateCollector(Collector):
    """The metrics of one state; *constant* labels are on each series."""

    def __init__(self, state: State, constant: Labels, version: str) -> None:
        self._state = state
        self._constant = dict(constant)
        self._version = version

    def collect(self) -> Iterator[Metric]:
        groups = [
            (self._group_labels(group), counts) for group, counts in self._state.groups.items()
        ]
        for family in FAMILIES:
            if self._state.snapshot.effort.inspects or not family.inspected:
                yield _counter(groups, family)
        if self._state.snapshot.effort.times:
            yield _fault_duration(groups)
        yield from self._machine()
        yield from self._process()

    def _group_labels(self, group: Group) -> dict[str, str]:
        labels = {
            **self._constant,
            "comm": group.comm,
            "kind": group.kind,
            "mapping": group.mapping,
        }
        for name in ("pid", *PLACE):
            if value := getattr(group, name):
                labels[name] = value
        return labels

    def _machine(self) -> Iterator[Metric]:
        state, health = self._state, self._state.snapshot.health
        kernel = state.snapshot.kernel
        yield self._gauge(
            "kernel_info",
            "The running kernel; optimization: whether mprotect() maps pages writable at once.",
            1,
            release=kernel.release,
            optimization=_OPTIMIZATION[kernel.optimization],
        )
        yield self._gauge("build_info", "The version of pte-trace.", 1, version=self._version)
        yield self._hooks()
        cost = state.snapshot.reuse_cost
        if cost is not None:
            yield self._gauge(
                "wp_reuse_cost_seconds",
                "Mean time of a wp_reuse fault: what the estimate of time saved rests on.",
                cost.nanoseconds / 1e9,
            )
        yield self._gauge(
            "map_entries",
            "Entries found at the last reading in the kernel's table of VMAs.",
            health.entries,
            map="records",
        )
        yield self._gauge(
            "map_capacity",
            "Room for entries in the kernel's table of VMAs.",
            health.capacity,
            map="records",
        )
        yield self._counter(
            "map_full",
            "Events that found no room for their VMA; they are counted under [not attributed].",
            health.map_full,
        )
        yield self._counter(
            "names_full",
            "Times that a mapping's name found no room; it is called [file] or [anon:?].",
            health.paths_full,
        )
        yield self._counter(
            "timings_full", "Write faults that found no room to be timed.", health.timings_full
        )
        yield self._counter(
            "missed_runs", "Runs of our BPF programs that the kernel skipped.", health.missed_runs
        )
        if health.probe_seconds is not None:
            yield self._counter(
                "probe_seconds",
                "Time spent in our BPF programs (needs sysctl kernel.bpf_stats_enabled).",
                health.probe_seconds,
            )
        yield self._gauge(
            "series_groups",
            "Groups of series, one per comm, kind and mapping.",
            len(state.groups) - 1,
        )
        yield self._gauge(
            "series_groups_limit", "The most groups there can be (--top-mappings).", state.limit
        )
        yield self._counter(
            "series_folded",
            'Groups added up under mapping="other" instead; counted once, as long as remembered.',
            state.folded,
        )
        yield self._counter("readings", "Readings of the kernel's tables.", state.readings)
        yield self._counter(
            "reading_seconds", "Time the readings took in this process.", state.reading_s
        )
        yield self._counter("scrape_errors", "Readings that failed.", state.errors)

    def _hooks(self) -> Metric:
        attachments = self._state.snapshot.hooks
        family = GaugeMetricFamily(
            "pte_trace_hook_attached",
            "1 where a hook is attached and the kernel runs it, and to which function; else 0.",
        )
        for hook in HOOKS:
            attachment = attachments.get(hook.name)
            self._add(
                family,
                "",
                int(attachment is not None and hook.name not in self._state.silent),
                hook=hook.name,
                attached=attachment.function if attachment else "",
                how=attachment.how.value if attachment else "",
            )
        return family

    def _process(self) -> Iterator[Metric]:
        """This process's own CPU, memory and files, under their usual names."""
        for family in ProcessCollector(registry=CollectorRegistry()).collect():
            family.samples = [
                sample._replace(labels={**self._constant, **sample.labels})
                for sample in family.samples
            ]
            yield family

    def _add(self, family: Metric, suffix: str, value: float, **labels: str) -> None:
        family.add_sample(family.name + suffix, {**self._constant, **labels}, value)

    def _gauge(self, name: str, said: str, value: float, **labels: str) -> Metric:
        family = GaugeMetricFamily(f"pte_trace_{name}", said)
        self._add(family, "", value, **labels)
        return family

    def _counter(self, name: str, said: str, value: float) -> Metric:
        family = CounterMetricFamily(f"pte_trace_{name}", said)
        self._add(family, "_total", value)
        return family


_DURATION = "Time inside handle_mm_fault() of the write faults that were timed."

_Groups = list[tuple[dict[str, str], Counts]]


def _counter(rows: _Groups, family: Family) -> Metric:
    """For each group and each value of the labels; all of them, so that none begins late."""
    metric = CounterMetricFamily(f"pte_trace_{family.metric or family.name}", family.said)
    told_apart = [
        {label.name: value for label, value in zip(family.labels, values, strict=True)}
        for values in family.values
    ]
    name = metric.name + "_total"
    for labels, counts in rows:
        for apart, number in zip(told_apart, counts[family], strict=True):
            metric.add_sample(name, {**labels, **apart}, number)
    return metric


def _fault_duration(groups: _Groups) -> Metric:
    """Only for outcomes that were timed: an empty histogram would be fourteen series of zeros."""
    family = HistogramMetricFamily("pte_trace_fault_duration_seconds", _DURATION)
    for labels, counts in groups:
        for outcome, cost in zip(OUTCOMES, counts.costs, strict=True):
            if cost.count:
                _add_histogram(family, {**labels, "outcome": outcome}, cost)
    return family


def _add_histogram(family: Metric, labels: dict[str, str], cost: Histogram) -> None:
    below = tuple(accumulate(cost.log2, initial=0))
    for bound, le in _LE:
        family.add_sample(family.name + "_bucket", {**labels, "le": le}, below[bound])
    family.add_sample(family.name + "_bucket", {**labels, "le": "+Inf"}, below[-1])
    family.add_sample(family.name + "_sum", labels, cost.sum / 1e9)
    family.add_sample(family.name + "_count", labels, below[-1])
