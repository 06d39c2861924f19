"""What `pte_trace.counted` does with columns, row by row: slower, and easier to believe."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from pte_trace.counted.counts import total
from pte_trace.counted.mapping import VmaRow


def added(readings: Iterable[Iterable[VmaRow]]) -> list[VmaRow]:
    """One row for each VMA and name of it."""
    found: dict[tuple[object, ...], VmaRow] = {}
    for row in (row for reading in readings for row in reading):
        key = (*row.key, row.name)
        if before := found.get(key):
            row = replace(
                row,
                seen_ns=min(before.seen_ns, row.seen_ns),
                born_ns=max(before.born_ns, row.born_ns),
                changed_ns=max(before.changed_ns, row.changed_ns),
                counts=before.counts + row.counts,
            )
        found[key] = row
    return list(found.values())


def merged(vmas: list[VmaRow], *, split: bool) -> list[VmaRow]:
    """One row for each mapping, in the order of process and address."""
    alike: dict[tuple[object, ...], list[VmaRow]] = defaultdict(list)
    for vma in vmas:
        what = (vma.pid, vma.image, vma.kind, vma.name, vma.inode, vma.dev, vma.perms[3])
        alike[what].append(vma)
    mappings = (
        [[vma] for vma in vmas]
        if split
        else [mapping for each in alike.values() for mapping in _mappings(each)]
    )
    rows = [_row(mapping, vmas) for mapping in mappings]
    return sorted(rows, key=lambda row: (row.pid, row.image, row.start, row.seen_ns))


def _mappings(alike: list[VmaRow]) -> list[list[VmaRow]]:
    """In the order in which they were seen; one that mmap() made later begins another mapping."""
    there: list[list[VmaRow]] = []
    replaced: list[list[VmaRow]] = []
    for vma in sorted(alike, key=lambda vma: vma.seen_ns):
        near = [each for each in there if _start(each) <= vma.end and vma.start <= _end(each)]
        joined = [each for each in near if vma.born_ns <= min(one.seen_ns for one in each)]
        gone = [
            each
            for each in near
            if each not in joined and _start(each) < vma.end and vma.start < _end(each)
        ]
        there = [each for each in there if each not in joined and each not in gone]
        replaced += gone
        there.append([*(one for each in joined for one in each), vma])
    return there + replaced


def _start(mapping: list[VmaRow]) -> int:
    return min(vma.start for vma in mapping)


def _end(mapping: list[VmaRow]) -> int:
    return max(vma.end for vma in mapping)


def _row(mapping: list[VmaRow], vmas: list[VmaRow]) -> VmaRow:
    newest = max(mapping, key=lambda vma: (vma.changed_ns, vma.seen_ns))
    oldest = min(mapping, key=lambda vma: vma.seen_ns)
    image = [vma for vma in vmas if (vma.pid, vma.image) == (newest.pid, newest.image)]
    return replace(
        newest,
        comm=max(image, key=lambda vma: vma.named_ns).comm,
        start=_start(mapping),
        end=_end(mapping),
        seen_ns=oldest.seen_ns,
        born_ns=oldest.born_ns,
        counts=total(vma.counts for vma in mapping),
    )
