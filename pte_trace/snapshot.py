"""One immutable account of what was counted. Every view renders it; none computes a total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

from pte_trace.plan import Attachment
from pte_trace.records import NOTHING, Counts, VmaRecord


@dataclass(frozen=True)
class Kernel:
    """``optimization`` is None where it could not be found out."""

    release: str
    optimization: bool | None


@dataclass(frozen=True)
class Health:
    """What got lost, and what tracing cost. ``probe_seconds`` is None where the kernel
    does not measure it (sysctl kernel.bpf_stats_enabled)."""

    map_full: int = 0
    missed_runs: int = 0
    probe_seconds: float | None = None


@dataclass(frozen=True)
class VmaRow:
    """One mapping: the VMAs that mprotect split off it are together in it."""

    pid: int
    comm: str
    start: int
    end: int
    perms: str
    kind: str
    name: str
    counts: Counts


@dataclass(frozen=True)
class ProcessRow:
    pid: int
    comm: str
    counts: Counts


@dataclass(frozen=True)
class Snapshot:
    """Rows of ``vmas`` add up to ``processes``, those to ``totals``. Times in seconds."""

    kernel: Kernel
    hooks: Mapping[str, Attachment]
    duration_s: float
    totals: Counts
    processes: tuple[ProcessRow, ...]
    vmas: tuple[VmaRow, ...]
    health: Health


def total(counts: Iterable[Counts]) -> Counts:
    return reduce(add, counts, NOTHING)


class Ledger:
    """Adds up readings: one record per VMA, however often it is read."""

    def __init__(self) -> None:
        self._records: dict[tuple[object, ...], VmaRecord] = {}

    def add(self, records: Iterable[VmaRecord]) -> None:
        for record in records:
            key = (
                record.pid,
                record.image,
                record.start,
                record.end,
                record.inode,
                record.dev,
                record.perms[3],
            )
            before = self._records.get(key)
            if before is not None:
                record = replace(
                    record, seen_ns=before.seen_ns, counts=before.counts + record.counts
                )
            self._records[key] = record

    def records(self) -> tuple[VmaRecord, ...]:
        return tuple(self._records.values())


def build(
    records: Iterable[VmaRecord],
    *,
    kernel: Kernel,
    hooks: Mapping[str, Attachment],
    duration_s: float,
    health: Health,
    split: bool = False,
) -> Snapshot:
    """Make a snapshot of *records*; with *split* each VMA keeps a row of its own."""
    records = tuple(records)
    images = _group(records, lambda record: (record.pid, record.image))
    comms = {image: max(members, key=_seen).comm for image, members in images.items()}
    mappings = [(record,) for record in records] if split else _mappings(records)
    vmas = tuple(_vma_row(members, comms) for members in mappings)
    processes = tuple(
        ProcessRow(image[0], comms[image], total(record.counts for record in members))
        for image, members in images.items()
    )
    return Snapshot(
        kernel=kernel,
        hooks=hooks,
        duration_s=duration_s,
        totals=total(process.counts for process in processes),
        processes=processes,
        vmas=vmas,
        health=health,
    )


def _seen(record: VmaRecord) -> int:
    return record.seen_ns


def _group(records, key):  # type: ignore[no-untyped-def]
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def _mappings(records: Iterable[VmaRecord]) -> list[tuple[VmaRecord, ...]]:
    """Put together what overlaps or touches, under one name, in one program image.

    mprotect splits a VMA and the kernel merges it again, so one mapping is seen
    under many ranges in turn.
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
    mappings: list[tuple[VmaRecord, ...]] = []
    for members in alike.values():
        members.sort(key=lambda record: record.start)
        cluster: list[VmaRecord] = []
        end = 0
        for record in members:
            if cluster and record.start > end:
                mappings.append(tuple(cluster))
                cluster = []
            cluster.append(record)
            end = max(end, record.end)
        mappings.append(tuple(cluster))
    return mappings


def _vma_row(
    members: tuple[VmaRecord, ...], comms: Mapping[tuple[int, int], str]
) -> VmaRow:
    newest = max(members, key=lambda record: (record.changed_ns, record.seen_ns))
    return VmaRow(
        pid=newest.pid,
        comm=comms[(newest.pid, newest.image)],
        start=min(record.start for record in members),
        end=max(record.end for record in members),
        perms=newest.perms,
        kind=newest.kind,
        name=newest.name,
        counts=total(record.counts for record in members),
    )
