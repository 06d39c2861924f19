"""One immutable account of what was counted. Every view renders it; none computes a total."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add, attrgetter
from typing import TypeVar

from pte_trace.effort import EVERYTHING, Effort
from pte_trace.plan import Attachment
from pte_trace.records import (
    NOTHING,
    CallSite,
    Counts,
    Histogram,
    VmaRecord,
)


@dataclass(frozen=True)
class Kernel:
    """``optimization`` is None where it could not be found out."""

    release: str
    optimization: bool | None


@dataclass(frozen=True)
class Health:
    """What got lost, and what tracing cost. ``map_full`` counts events that found no room for
    their VMA: their rows are not attributed. ``probe_seconds`` is None where the kernel
    does not measure it (sysctl kernel.bpf_stats_enabled). ``entries`` of the kernel's table of
    VMAs were taken at the last reading; it has room for ``capacity``. ``stacks_full`` counts call
    sites and mappings of code that found no room."""

    map_full: int = 0
    missed_runs: int = 0
    probe_seconds: float | None = None
    entries: int = 0
    capacity: int = 0
    stacks_full: int = 0


@dataclass(frozen=True)
class VmaRow:
    """One mapping: the VMAs that mprotect split off it are together in it.

    ``image`` tells programs of one PID apart. ``call_sites``: who changed its protection, as far
    as that was asked for, the most calls first. ``ppid`` is its parent's PID. ``inode`` and ``dev``
    are its file's. ``seen_ns`` and ``born_ns``: as of the VmaRecord of it that was seen first.
    """

    pid: int
    comm: str
    start: int
    end: int
    perms: str
    kind: str
    name: str
    counts: Counts
    image: int = 0
    call_sites: tuple[CallSite, ...] = ()
    ppid: int = 0
    inode: int = 0
    dev: int = 0
    seen_ns: int = 0
    born_ns: int = 0


@dataclass(frozen=True)
class ProcessRow:
    pid: int
    comm: str
    counts: Counts


@dataclass(frozen=True)
class ReuseCost:
    """The mean time of a `wp_reuse` fault in nanoseconds, and what it was measured on."""

    nanoseconds: float
    source: str


@dataclass(frozen=True)
class Snapshot:
    """Rows of ``vmas`` add up to ``processes``, those to ``totals``. Times in seconds.

    What ``effort`` left out is 0 in the counts and not known. ``reuse_cost`` is None where it
    could not be measured. ``foreign_pids``: not those by which pte-trace itself finds a process.
    """

    kernel: Kernel
    hooks: Mapping[str, Attachment]
    duration_s: float
    totals: Counts
    processes: tuple[ProcessRow, ...]
    vmas: tuple[VmaRow, ...]
    health: Health
    effort: Effort = EVERYTHING
    reuse_cost: ReuseCost | None = None
    foreign_pids: bool = False

    def seconds_saved(self, counts: Counts) -> float | None:
        """An estimate, and the most it can be: each PTE made writable one fault avoided."""
        if self.reuse_cost is None or not self.effort.inspects:
            return None
        return sum(counts.made_writable) * self.reuse_cost.nanoseconds / 1e9


_SORT_KEYS: Mapping[str, Callable[[VmaRow], object]] = {
    "faults": lambda vma: sum(vma.counts.write_faults),
    "avoidable": lambda vma: vma.counts.avoidable,
    "changes": lambda vma: sum(vma.counts.changes),
    "ptes": lambda vma: sum(vma.counts.ptes_changed),
    "writable": lambda vma: sum(vma.counts.made_writable),
    "readonly": lambda vma: sum(vma.counts.left_readonly),
    "pid": lambda vma: vma.pid,
    "comm": lambda vma: vma.comm,
    "name": lambda vma: vma.name,
}
SORT_FIELDS = tuple(_SORT_KEYS)
_ASCENDING = {"pid", "comm", "name"}


def ordered(vmas: Iterable[VmaRow], field: str) -> list[VmaRow]:
    """*vmas* by one of SORT_FIELDS: counts largest first, names and PIDs ascending."""
    by_address = sorted(vmas, key=lambda vma: (vma.pid, vma.start))
    return sorted(by_address, key=_SORT_KEYS[field], reverse=field not in _ASCENDING)  # type: ignore[arg-type]


def total(counts: Iterable[Counts]) -> Counts:
    return reduce(add, counts, NOTHING)


class Ledger:
    """Adds up readings: one record per VMA, however often it is read."""

    def __init__(self) -> None:
        self._records: dict[tuple[object, ...], VmaRecord] = {}

    def add(self, records: Iterable[VmaRecord]) -> None:
        for record in records:
            before = self._records.get(record.vma)
            if before is not None:
                record = replace(
                    record,
                    seen_ns=before.seen_ns,
                    born_ns=record.born_ns or before.born_ns,
                    changed_ns=record.changed_ns or before.changed_ns,
                    counts=before.counts + record.counts,
                )
            self._records[record.vma] = record

    def records(self) -> tuple[VmaRecord, ...]:
        return tuple(self._records.values())


def build(
    records: Iterable[VmaRecord],
    *,
    kernel: Kernel,
    hooks: Mapping[str, Attachment],
    duration_s: float,
    health: Health,
    effort: Effort = EVERYTHING,
    calibration: ReuseCost | None = None,
    split: bool = False,
) -> Snapshot:
    """Make a snapshot of *records*; with *split* each VMA keeps a row of its own.

    *calibration* stands in where no `wp_reuse` fault of *records* was timed.
    """
    records = tuple(records)
    images = _group(records, lambda record: (record.pid, record.image))
    comms = {image: max(members, key=_named).comm for image, members in images.items()}
    mappings = [(record,) for record in records] if split else _mappings(records)
    vmas = tuple(_vma_row(members, comms) for members in mappings)
    processes = processes_of(vmas)
    totals = total(process.counts for process in processes)
    return Snapshot(
        kernel=kernel,
        hooks=hooks,
        duration_s=duration_s,
        totals=totals,
        processes=processes,
        vmas=vmas,
        health=health,
        effort=effort,
        reuse_cost=mean_reuse_cost(totals.reuse_cost, calibration),
    )


def processes_of(vmas: Iterable[VmaRow]) -> tuple[ProcessRow, ...]:
    """A row for each PID and name, in the order of their first mappings.

    A process that executed a program of another name is two; by these two a mapping's is found.
    """
    named = _group(vmas, lambda vma: (vma.pid, vma.comm))
    return tuple(
        ProcessRow(pid, comm, total(vma.counts for vma in members))
        for (pid, comm), members in named.items()
    )


def mean_reuse_cost(measured: Histogram, calibration: ReuseCost | None) -> ReuseCost | None:
    """Of the faults *measured*; *calibration* where there are none."""
    if measured.mean is None:
        return calibration
    faults = "fault" if measured.count == 1 else "faults"
    return ReuseCost(measured.mean, f"{measured.count:,} wp_reuse {faults} timed here")


def _named(record: VmaRecord) -> int:
    return record.named_ns


def _seen(record: VmaRecord) -> int:
    return record.seen_ns


_Key = TypeVar("_Key", bound=Hashable)
_Member = TypeVar("_Member")


def _group(members: Iterable[_Member], key: Callable[[_Member], _Key]) -> dict[_Key, list[_Member]]:
    groups: dict[_Key, list[_Member]] = defaultdict(list)
    for member in members:
        groups[key(member)].append(member)
    return groups


class _Mapping:
    """VMAs that belong together, while they are being found."""

    def __init__(self, first: VmaRecord) -> None:
        self.members = [first]
        self.start = first.start
        self.end = first.end
        self.seen_ns = first.seen_ns

    def overlaps(self, record: VmaRecord) -> bool:
        return self.start < record.end and record.start < self.end

    def take(self, other: _Mapping) -> None:
        self.members += other.members
        self.start = min(self.start, other.start)
        self.end = max(self.end, other.end)
        self.seen_ns = min(self.seen_ns, other.seen_ns)


def _mappings(records: Iterable[VmaRecord]) -> list[tuple[VmaRecord, ...]]:
    """Put together what overlaps or touches, under one name, in one program image.

    mprotect splits a VMA and the kernel merges it again, so one mapping is seen under many
    ranges in turn. A range that mmap made after the others were seen is a mapping of its own.
    """
    alike = _group(
        records,
        lambda record: (
            record.pid,
            record.image,
            record.kind,
            record.name,
            record.inode,
            record.dev,
            record.perms[3],
        ),
    )
    return [tuple(mapping.members) for members in alike.values() for mapping in _cluster(members)]


def _cluster(alike: list[VmaRecord]) -> list[_Mapping]:
    """The mappings that are still there do not overlap: in order of address they are found fast."""
    there: list[_Mapping] = []
    replaced: list[_Mapping] = []
    for record in sorted(alike, key=_seen):
        first = bisect_left(there, record.start, key=attrgetter("end"))
        last = bisect_right(there, record.end, key=attrgetter("start"))
        near = there[first:last]
        joined = [each for each in near if record.born_ns <= each.seen_ns]
        others = [each for each in near if each not in joined]
        replaced += [each for each in others if each.overlaps(record)]
        parts = sorted([*joined, _Mapping(record)], key=lambda each: len(each.members))
        whole = parts.pop()
        for part in parts:
            whole.take(part)
        beside = [each for each in others if not each.overlaps(record)]
        there[first:last] = sorted([*beside, whole], key=attrgetter("start"))
    return replaced + there


def _vma_row(members: tuple[VmaRecord, ...], comms: Mapping[tuple[int, int], str]) -> VmaRow:
    newest = max(members, key=lambda record: (record.changed_ns, record.seen_ns))
    oldest = min(members, key=_seen)
    return VmaRow(
        pid=newest.pid,
        comm=comms[(newest.pid, newest.image)],
        start=min(record.start for record in members),
        end=max(record.end for record in members),
        perms=newest.perms,
        kind=newest.kind,
        name=newest.name,
        counts=total(record.counts for record in members),
        image=newest.image,
        call_sites=_together(site for record in members for site in record.call_sites),
        ppid=newest.ppid,
        inode=newest.inode,
        dev=newest.dev,
        seen_ns=oldest.seen_ns,
        born_ns=oldest.born_ns,
    )


def _together(sites: Iterable[CallSite]) -> tuple[CallSite, ...]:
    """One for each cause and stack, with the calls of all."""
    alike = _group(sites, lambda site: (site.cause, site.frames))
    summed = [replace(same[0], calls=sum(each.calls for each in same)) for same in alike.values()]
    return tuple(sorted(summed, key=lambda site: -site.calls))
