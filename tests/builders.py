"""Values to test with: a capable host, records, snapshots. For BTF see btf_writer.py.

Each builder gives a plain, complete value; a test says only in what its own differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pte_trace import plan
from pte_trace.behavior import Behavior
from pte_trace.facts import CAPABILITIES, FunctionFacts, HostFacts
from pte_trace.records import (
    BUCKETS,
    CAUSES,
    OMISSIONS,
    OUTCOMES,
    REASONS,
    UNMEASURED,
    Counts,
    Histogram,
    VmaRecord,
)
from pte_trace.snapshot import Health, Kernel, ReuseCost, Snapshot, build

# The functions as Linux 6.18 has them.
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "change_pte_range": ("tlb", "vma", "pmd", "addr", "end", "newprot", "cp_flags"),
    "change_protection": ("tlb", "vma", "start", "end", "cp_flags"),
    "do_wp_page": ("vmf",),
    "handle_mm_fault": ("vma", "address", "flags", "regs"),
    "mmap_region": ("file", "addr", "len", "vm_flags", "pgoff", "uf"),
}


def host(**changes: Any) -> HostFacts:
    """A host that lets us do everything, but for *changes*."""
    capable = HostFacts(
        release="6.18.0-test",
        machine="x86_64",
        root=True,
        initial_pid_namespace=True,
        capabilities=frozenset(CAPABILITIES),
        lockdown="none",
        btf=True,
        current_task_btf=True,
        preemptible=False,
        kernel_memory_readable=True,
        kprobes=True,
        kprobes_armed=True,
        ftrace_enabled=True,
        tracefs=True,
        kptr_restrict=0,
        perf_event_paranoid=2,
        tables_are_locked_memory=False,
        five_level_page_tables=False,
        behavior=Behavior(optimization=True, clean_pages=True, soft_dirty=True),
        bcc_version="0.26.0",
        functions={
            name: FunctionFacts(parameters, fentry=True, kprobe=True)
            for name, parameters in PARAMETERS.items()
        },
    )
    return replace(capable, **changes)


def host_whose(function: str, **changes: Any) -> HostFacts:
    """The capable host, but for *changes* to the facts of one function."""
    functions = dict(host().functions)
    functions[function] = replace(functions[function], **changes)
    return host(functions=functions)


def host_without(function: str) -> HostFacts:
    """The capable host, its compiler having inlined *function* away."""
    return host_whose(function, parameters=None, fentry=False, kprobe=False)


def counts(
    changes: Mapping[str, int] | None = None,
    ptes: Mapping[str, int] | None = None,
    faults: Mapping[str, int] | None = None,
    *,
    writable: Mapping[str, int] | None = None,
    readonly: Mapping[str, int] | None = None,
    omitted: Mapping[str, int] | None = None,
    costs: Mapping[str, Histogram] | None = None,
) -> Counts:
    """Counts by name; the rest is 0.

    *changes*, *ptes* and *writable* by cause, *faults* and *costs* by outcome, *readonly* by
    reason, *omitted* by omission.
    """
    measured = costs or {}
    assert set(measured) <= set(OUTCOMES)
    return Counts(
        changes=_in_order(CAUSES, changes or {}),
        ptes_changed=_in_order(CAUSES, ptes or {}),
        made_writable=_in_order(CAUSES, writable or {}),
        left_readonly=_in_order(REASONS, readonly or {}),
        not_inspected=_in_order(OMISSIONS, omitted or {}),
        write_faults=_in_order(OUTCOMES, faults or {}),
        costs=tuple(measured.get(name, UNMEASURED) for name in OUTCOMES),
    )


def histogram(*durations_ns: int) -> Histogram:
    """The histogram of faults that took so long."""
    log2 = [0] * BUCKETS
    for duration in durations_ns:
        log2[min(max(duration.bit_length(), 1), BUCKETS) - 1] += 1
    return Histogram(sum(durations_ns), tuple(log2))


def _in_order(names: Iterable[str], given: Mapping[str, int]) -> tuple[int, ...]:
    order = tuple(names)
    assert set(given) <= set(order)
    return tuple(given.get(name, 0) for name in order)


def record(**changes: Any) -> VmaRecord:
    """An anonymous mapping of 16 pages in which one fault happened, but for *changes*."""
    plain = VmaRecord(
        pid=100,
        ppid=1,
        comm="worker",
        image=1000,
        start=0x10000,
        end=0x20000,
        inode=0,
        dev=0,
        kind="anon",
        name="[anon]",
        perms="rw-p",
        seen_ns=10,
        born_ns=0,
        changed_ns=0,
        named_ns=10,
        counts=counts(faults={"other": 1}),
    )
    if "seen_ns" in changes:
        changes.setdefault("named_ns", changes["seen_ns"])
    return replace(plain, **changes)


def snapshot(
    *records: VmaRecord,
    split: bool = False,
    calibration: ReuseCost | None = None,
    **changes: Any,
) -> Snapshot:
    """The snapshot of *records* on the capable host, but for *changes*."""
    plain = build(
        records,
        kernel=Kernel("6.18.0-test", True),
        hooks=plan.make(host()).attachments,
        duration_s=1.5,
        health=Health(),
        calibration=calibration,
        split=split,
    )
    return replace(plain, **changes)
