"""Values to test with: a capable host, records, snapshots. For BTF see btf_writer.py.

Each builder gives a plain, complete value; a test says only in what its own differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from pte_trace.counted.building import build
from pte_trace.counted.columns import Columns
from pte_trace.counted.counters import (
    CAUSES,
    FAMILIES,
    OMISSIONS,
    ORIGIN,
    OUTCOMES,
    PMD_REASONS,
    PMDS_LEFT_READONLY,
    PMDS_MADE_WRITABLE,
    PMDS_PROTECTED_BY_FORK,
    PMDS_SPLIT,
    PROTECTED_BY,
    PROTECTION_CHANGES,
    PTES_CHANGED,
    PTES_INSPECTED,
    PTES_LEFT_READONLY,
    PTES_MADE_WRITABLE,
    PTES_NOT_INSPECTED,
    PTES_PROTECTED_BY_FORK,
    REASONS,
    WP_OUTCOME,
    WP_PROTECTED_BY,
    WRITE_FAULTS,
    WRITE_FAULTS_ORIGIN,
    Family,
)
from pte_trace.counted.counts import NOTHING, UNMEASURED, Counts, Histogram
from pte_trace.counted.mapping import Stack, VmaRow
from pte_trace.counted.packed import BUCKETS, VmaKey
from pte_trace.counted.snapshot import Health, Kernel, ReuseCost, Snapshot
from pte_trace.host import plan
from pte_trace.host.behavior import Behavior
from pte_trace.host.facts import CAPABILITIES, FunctionFacts, HostFacts

# The functions as Linux 6.18 has them.
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "change_pte_range": ("tlb", "vma", "pmd", "addr", "end", "newprot", "cp_flags"),
    "change_protection": ("tlb", "vma", "start", "end", "cp_flags"),
    "do_wp_page": ("vmf",),
    "handle_mm_fault": ("vma", "address", "flags", "regs"),
    "do_huge_pmd_wp_page": ("vmf",),
    "pmdp_set_access_flags": ("vma", "address", "pmdp", "entry", "dirty"),
    "__split_huge_pmd": ("vma", "pmd", "address", "freeze"),
    "hugetlb_fault": ("mm", "vma", "address", "flags"),
    "handle_userfault": ("vmf", "reason"),
    "numa_migrate_check": ("folio", "vmf", "addr", "flags", "writable", "last_cpupid"),
    "migrate_misplaced_folio_prepare": ("folio", "vma", "node"),
    "copy_page_range": ("dst_vma", "src_vma"),
    "mmap_region": ("file", "addr", "len", "vm_flags", "pgoff", "uf"),
}


def host(**changes: Any) -> HostFacts:
    """A host that lets us do everything, but for *changes*."""
    capable = HostFacts(
        release="6.18.0-test",
        machine="x86_64",
        root=True,
        initial_pid_namespace=True,
        cgroups="2",
        capabilities=frozenset(CAPABILITIES),
        lockdown="none",
        btf=True,
        current_task_btf=True,
        preemptible=False,
        realtime=False,
        sessions_unbounded=True,
        life_probes=False,
        casts=True,
        kernel_memory_readable=True,
        kprobes=True,
        kprobes_armed=True,
        ftrace_enabled=True,
        tracefs=True,
        kptr_restrict=0,
        perf_event_paranoid=2,
        tables_are_locked_memory=False,
        five_level_page_tables=False,
        behavior=Behavior(optimization=True, clean_pages=True, huge_pages=True, soft_dirty=True),
        bcc_version="0.26.0",
        functions={
            name: FunctionFacts(parameters, fentry=True, kprobe=True, session=True)
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
    return host_whose(function, parameters=None, fentry=False, kprobe=False, session=False)


def counts(
    changes: Mapping[str, int] | None = None,
    ptes: Mapping[str, int] | None = None,
    faults: Mapping[str, int] | None = None,
    *,
    writable: Mapping[str, int] | None = None,
    readonly: Mapping[str, int] | None = None,
    omitted: Mapping[str, int] | None = None,
    huge_writable: Mapping[str, int] | None = None,
    huge_readonly: Mapping[str, int] | None = None,
    protected: Mapping[str, Mapping[str, int]] | None = None,
    origin: Mapping[str, int] | None = None,
    forked: int = 0,
    huge_forked: int = 0,
    split: int = 0,
    costs: Mapping[str, Histogram] | None = None,
    inspected: int | None = None,
) -> Counts:
    """Counts by name; the rest is 0.

    Where it is not said what *protected* pages, mprotect() did those that were reused and a fork
    those that were copied; and the program itself wrote. *changes*, *ptes* and *writable* by cause,
    *faults* and *costs* by outcome, *readonly* by reason, *omitted* by omission; those of huge
    pages alike. What became of PTEs adds up to those *inspected*, if that is not given.
    """
    measured, given = costs or {}, faults or {}
    assert set(measured) <= set(OUTCOMES)
    if protected is None:
        protected = {
            "wp_reuse": {"mprotect": given.get("wp_reuse", 0)},
            "wp_copy": {"fork": given.get("wp_copy", 0)},
        }
    told_apart = {
        f"{outcome}_{cause}": number
        for outcome, causes in protected.items()
        for cause, number in causes.items()
    }
    became = sum((writable or {}).values()) + sum((readonly or {}).values())
    return counts_of(
        {
            PTES_INSPECTED: (became if inspected is None else inspected,),
            PROTECTION_CHANGES: _in_order(CAUSES, changes or {}),
            PTES_CHANGED: _in_order(CAUSES, ptes or {}),
            PTES_MADE_WRITABLE: _in_order(CAUSES, writable or {}),
            PTES_LEFT_READONLY: _in_order(REASONS, readonly or {}),
            PTES_NOT_INSPECTED: _in_order(OMISSIONS, omitted or {}),
            PMDS_MADE_WRITABLE: _in_order(CAUSES, huge_writable or {}),
            PMDS_LEFT_READONLY: _in_order(PMD_REASONS, huge_readonly or {}),
            PMDS_SPLIT: (split,),
            WRITE_FAULTS: _in_order(OUTCOMES, given),
            WP_PROTECTED_BY: _in_order(WP_PROTECTED_BY.parts, told_apart),
            WRITE_FAULTS_ORIGIN: _in_order(ORIGIN.names, origin or {"user": sum(given.values())}),
            PTES_PROTECTED_BY_FORK: (forked,),
            PMDS_PROTECTED_BY_FORK: (huge_forked,),
        },
        tuple(measured.get(name, UNMEASURED) for name in OUTCOMES),
    )


def counts_of(
    found: Mapping[Family, tuple[int, ...]], costs: tuple[Histogram, ...] = NOTHING.costs
) -> Counts:
    """The counts of some families; of others they are 0, and what follows from these follows."""
    whole = {family: (0,) * family.width for family in FAMILIES} | dict(found)
    if PTES_INSPECTED not in found:
        became = (PTES_MADE_WRITABLE, PTES_LEFT_READONLY)
        whole[PTES_INSPECTED] = (sum(sum(whole[family]) for family in became),)
    whole[WP_PROTECTED_BY] = tuple(_with_untold(whole))
    return Counts(tuple(chain.from_iterable(whole[family] for family in FAMILIES)), costs)


def _with_untold(whole: Mapping[Family, tuple[int, ...]]) -> Iterator[int]:
    """Of the faults whose cause was not told it is not known."""
    causes, width = whole[WP_PROTECTED_BY], len(PROTECTED_BY.names)
    for place, faults in enumerate(whole[WRITE_FAULTS][: len(WP_OUTCOME.names)]):
        told = [*causes[place * width : (place + 1) * width]]
        told[PROTECTED_BY.names.index("unknown")] += max(0, faults - sum(told))
        yield from told


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


def record(**changes: Any) -> VmaRow:
    """An anonymous mapping of 16 pages in which one fault happened, but for *changes*."""
    plain = VmaRow(
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
    *records: VmaRow,
    split: bool = False,
    calibration: ReuseCost | None = None,
    stacks: Mapping[VmaKey, Sequence[Stack]] | None = None,
    **changes: Any,
) -> Snapshot:
    """The snapshot of *records* on the capable host, but for *changes*."""
    plain = build(
        Columns.of(records),
        kernel=Kernel("6.18.0-test", True),
        hooks=plan.make(host()).attachments,
        duration_s=1.5,
        health=Health(),
        calibration=calibration,
        split=split,
        stacks=stacks or {each.key: each.stacks for each in records},
    )
    return replace(plain, **changes)
