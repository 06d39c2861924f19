"""The metrics: names and labels as design.md has them, values exact, unknown absent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pte_trace.counted.counters import OUTCOMES
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.snapshot import Health, Kernel, ReuseCost, Snapshot
from pte_trace.effort import Effort
from pte_trace.exporter import labels
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.metrics import StateCollector
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.state import State
from tests.builders import counts, histogram, record, snapshot
from tests.simulated import HOSTILE

Sample = tuple[str, tuple[tuple[str, str], ...]]


class Once:
    def __init__(self, shown: Snapshot) -> None:
        self._shown = shown

    def read(self) -> Snapshot:
        return self._shown


def state_of(*records: VmaRow, limit: int = 200, **changes: Any) -> State:
    source = Once(snapshot(*records, **changes))
    with Reader(source, Groups(limit), print) as reader:
        return reader.state()


def samples(state: State, constant: dict[str, str] | None = None) -> dict[Sample, float]:
    text = generate_latest(StateCollector(state, constant or {}, "1.2.3")).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def names(state: State) -> set[str]:
    return {name for name, _ in samples(state)}


def value(state: State, name: str, **labels: str) -> float:
    return samples(state)[name, tuple(sorted(labels.items()))]


WORKER = {"comm": "worker", "kind": "anon", "mapping": "[anon]"}


def test_each_count_has_its_metric() -> None:
    state = state_of(
        record(
            counts=counts(
                {"mprotect": 2},
                {"mprotect": 20},
                {"wp_reuse": 3, "error": 1},
                writable={"uffd_unprotect": 9},
                readonly={"soft_dirty": 11},
                omitted={"limit": 5},
                huge_writable={"numa_hint": 2},
                huge_readonly={"hugetlb": 12},
                split=13,
            )
        )
    )
    assert value(state, "pte_trace_write_faults_total", outcome="wp_reuse", **WORKER) == 3
    assert value(state, "pte_trace_write_faults_total", outcome="error", **WORKER) == 1
    assert value(state, "pte_trace_protection_changes_total", cause="mprotect", **WORKER) == 2
    assert value(state, "pte_trace_ptes_changed_total", cause="mprotect", **WORKER) == 20
    made = value(state, "pte_trace_ptes_made_writable_total", cause="uffd_unprotect", **WORKER)
    assert made == 9
    left = value(state, "pte_trace_ptes_left_readonly_total", reason="soft_dirty", **WORKER)
    assert left == 11
    assert value(state, "pte_trace_ptes_inspected_total", **WORKER) == 20
    assert value(state, "pte_trace_ptes_not_inspected_total", omission="limit", **WORKER) == 5
    made = value(state, "pte_trace_pmds_made_writable_total", cause="numa_hint", **WORKER)
    assert made == 2
    left = value(state, "pte_trace_pmds_left_readonly_total", reason="hugetlb", **WORKER)
    assert left == 12
    assert value(state, "pte_trace_pmds_split_total", **WORKER) == 13


def test_the_histogram_is_exact() -> None:
    cost = histogram(255, 256, 1_000, 1_000_000_000)
    state = state_of(record(counts=counts(faults={"wp_reuse": 4}, costs={"wp_reuse": cost})))
    name = "pte_trace_fault_duration_seconds"
    labels = {**WORKER, "outcome": "wp_reuse"}
    assert value(state, f"{name}_count", **labels) == 4
    assert value(state, f"{name}_sum", **labels) == pytest.approx(1.000001511, abs=1e-12)
    assert value(state, f"{name}_bucket", le="2.55e-07", **labels) == 1
    assert value(state, f"{name}_bucket", le="5.11e-07", **labels) == 2
    assert value(state, f"{name}_bucket", le="1.023e-06", **labels) == 3
    assert value(state, f"{name}_bucket", le="0.268435455", **labels) == 3
    assert value(state, f"{name}_bucket", le="+Inf", **labels) == 4


def test_buckets_only_rise() -> None:
    cost = histogram(*(3**n for n in range(1, 21)))
    state = state_of(record(counts=counts(costs={"other": cost})))
    buckets = sorted(
        (float(dict(labels)["le"]), number)
        for (name, labels), number in samples(state).items()
        if name == "pte_trace_fault_duration_seconds_bucket"
    )
    numbers = [number for _, number in buckets]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 20


def said_in_the_readme(what: str) -> list[int]:
    """The numbers in a row of its table of series."""
    text = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {what}"))
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", row)]


def test_there_are_as_many_series_as_the_readme_says() -> None:
    probed = Health(probe_seconds=1.0)
    cost = ReuseCost(1_000, "ours")
    bare = samples(state_of(record(), health=probed, reuse_cost=cost))
    costs = {outcome: histogram(1) for outcome in OUTCOMES}
    full = record(counts=counts(costs=costs))
    of_group = sum("worker" in dict(labels).values() for _, labels in bare)
    of_outcome = sum(
        "bucket" in name or "seconds_sum" in name or "seconds_count" in name
        for name, _ in samples(state_of(full))
    ) // len(OUTCOMES)
    own = sum("comm" not in dict(labels) for _, labels in bare)
    most = of_group + len(OUTCOMES) * of_outcome
    assert said_in_the_readme("a group (")[:2] == [of_group, of_outcome]
    assert said_in_the_readme("a group (")[-1] == most
    assert said_in_the_readme("a machine, when all")[-1] == (200 + 1) * most
    assert said_in_the_readme("a machine's own state") == [own]


def test_unknown_is_not_zero() -> None:
    blind = state_of(record(), effort=Effort(inspect=0, costs=0))
    absent = names(state_of(record(counts=counts(costs={"other": histogram(1)})))) - names(blind)
    assert absent == {
        "pte_trace_ptes_made_writable_total",
        "pte_trace_ptes_left_readonly_total",
        "pte_trace_ptes_inspected_total",
        "pte_trace_ptes_not_inspected_total",
        "pte_trace_pmds_made_writable_total",
        "pte_trace_pmds_left_readonly_total",
        "pte_trace_ptes_protected_by_fork_total",
        "pte_trace_pmds_protected_by_fork_total",
        "pte_trace_fault_duration_seconds_bucket",
        "pte_trace_fault_duration_seconds_count",
        "pte_trace_fault_duration_seconds_sum",
    }


def test_the_kernel_and_its_hooks() -> None:
    state = state_of(kernel=Kernel("6.1.0-x", None))
    assert value(state, "pte_trace_kernel_info", release="6.1.0-x", optimization="unknown") == 1
    hook = {"hook": "do_wp_page", "attached": "do_wp_page", "how": "fentry"}
    assert value(state, "pte_trace_hook_attached", **hook) == 1
    silent = replace(state, silent={"do_wp_page": Path("/proc/sys/kernel/ftrace_enabled")})
    assert value(silent, "pte_trace_hook_attached", **hook) == 0
    blind = replace(state, snapshot=replace(state.snapshot, hooks={}))
    assert value(blind, "pte_trace_hook_attached", hook="do_wp_page", attached="", how="") == 0


def test_our_own_account() -> None:
    health = Health(map_full=3, missed_runs=4, probe_seconds=0.5, entries=6, capacity=64)
    state = state_of(record(), record(pid=7, comm="x"), limit=1, health=health)
    assert value(state, "pte_trace_map_full_total") == 3
    assert value(state, "pte_trace_missed_runs_total") == 4
    assert value(state, "pte_trace_probe_seconds_total") == 0.5
    assert value(state, "pte_trace_map_entries", map="records") == 6
    assert value(state, "pte_trace_map_capacity", map="records") == 64
    assert (
        value(state, "pte_trace_series_groups") + value(state, "pte_trace_series_folded_total") == 2
    )
    assert value(state, "pte_trace_build_info", version="1.2.3") == 1
    assert value(state, "process_resident_memory_bytes") > 0


def test_time_in_our_programs_is_absent_where_the_kernel_does_not_measure_it() -> None:
    assert "pte_trace_probe_seconds_total" not in names(state_of())


def test_the_cost_of_a_fault_is_measured_or_of_our_own() -> None:
    own = ReuseCost(2_000, "ours")
    measured = record(counts=counts(costs={"wp_reuse": histogram(1_000, 3_001)}))
    assert "pte_trace_wp_reuse_cost_seconds" not in names(state_of())
    assert value(state_of(reuse_cost=own), "pte_trace_wp_reuse_cost_seconds") == 2e-6
    cost = value(state_of(measured, reuse_cost=own), "pte_trace_wp_reuse_cost_seconds")
    assert cost == pytest.approx(2.0005e-6)


def test_a_hostile_name_comes_out_whole_and_harmless() -> None:
    state = state_of(record(comm=HOSTILE, name=f"/tmp/{HOSTILE}"))
    shown = generate_latest(StateCollector(state, {}, "1"))
    assert b"\x1b" not in shown
    comms = {dict(labels).get("comm") for _, labels in samples(state)}
    assert 'a"b\\c\\n\\x1b[31m<script>\\udce9\\xff' in comms


def test_constant_labels_are_on_each_series() -> None:
    for _, found in samples(state_of(record()), labels.parse(["team=a b", "_x="])):
        assert dict(found)["team"] == "a b"
