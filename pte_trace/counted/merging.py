"""Which VMAs are one mapping: what overlaps or touches, under one name, in one program image.

mprotect() splits a VMA and the kernel merges it again, so one mapping is seen under many ranges in
turn. A range that mmap() made after the others were seen is a mapping of its own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter

from pte_trace.counted.arrays import Array, Grouping, Numbers, group, highest, in_groups, np
from pte_trace.counted.columns import SHARED, Columns


def by_mapping(columns: Columns, *, split: bool = False) -> tuple[Columns, Numbers]:
    """One row for each mapping, in the order of process and address; with *split* for each VMA.

    *columns* has a row for each VMA. The second is the row of each.
    """
    if not len(columns):
        return columns, np.zeros(0, np.int64)
    identities, row_of = _merged(columns.rows, split=split)
    return columns.by(row_of, identities), row_of


def _merged(rows: Array, *, split: bool) -> tuple[Array, Numbers]:
    """The identities of all mappings, and which of them each of *rows* belongs to."""
    comms = _latest_comms(rows)
    groups = group(np.arange(len(rows))) if split else _mappings(rows)
    newest = highest(groups, rows["changed_ns"], rows["seen_ns"])
    oldest = highest(groups, -rows["seen_ns"] + rows["seen_ns"].max())
    identities = rows[newest]
    identities["comm"] = comms[newest]
    identities["start"] = groups.least(rows["start"])
    identities["end"] = groups.most(rows["end"])
    for first in ("seen_ns", "born_ns"):
        identities[first] = rows[first][oldest]
    order = np.lexsort(tuple(identities[name] for name in ("seen_ns", "start", "image", "pid")))
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    return identities[order], place_of[groups.of]


def _latest_comms(rows: Array) -> Array:
    """Of each row the last name that its program image is known by."""
    images = group(rows["pid"], rows["image"])
    comms: Array = rows["comm"][highest(images, rows["named_ns"])][images.of]
    return comms


def _mappings(rows: Array) -> Grouping:
    touching = _touching(rows)
    later = touching.most(rows["born_ns"]) > touching.least(rows["seen_ns"])
    if not later.any():
        return touching
    of = touching.of
    number, ends = len(touching.starts), touching.ends
    for place in np.flatnonzero(later).tolist():
        members = touching.order[touching.starts[place] : ends[place]]
        for mapping in _apart(rows, members):
            of[mapping] = number
            number += 1
    return group(of)


def _touching(rows: Array) -> Grouping:
    """Rows that are alike and overlap or touch, by way of others if need be."""
    by_start = rows["start"].argsort(kind="stable")
    alike = group(
        *(rows[name][by_start] for name in ("pid", "image", "kind", "name", "inode", "dev")),
        rows["perms"][by_start] & SHARED,
    )
    order = by_start[alike.order]
    # The highest end so far, of those alike. Ranks stand for the ends, which leaves room above.
    ends, ranks = np.unique(rows["end"][order], return_index=True, return_inverse=True)[::2]
    above = alike.of[alike.order] * len(ends)
    highest_so_far = ends[np.maximum.accumulate(ranks + above) - above]
    apart = rows["start"][order][1:] > highest_so_far[:-1]
    return in_groups(order, apart | (above[1:] != above[:-1]))


class _Mapping:
    """VMAs that belong together, while they are being found."""

    def __init__(self, member: int, start: int, end: int, seen_ns: int) -> None:
        self.members = [member]
        self.start = start
        self.end = end
        self.seen_ns = seen_ns

    def overlaps(self, other: _Mapping) -> bool:
        return self.start < other.end and other.start < self.end

    def take(self, other: _Mapping) -> None:
        self.members += other.members
        self.start = min(self.start, other.start)
        self.end = max(self.end, other.end)
        self.seen_ns = min(self.seen_ns, other.seen_ns)


def _apart(rows: Array, members: Numbers) -> list[list[int]]:
    """*members* that touch, some of which mmap() made after others were seen.

    The mappings that are still there do not overlap: in order of address they are found fast.
    """
    there: list[_Mapping] = []
    replaced: list[_Mapping] = []
    by_time = members[rows["seen_ns"][members].argsort(kind="stable")]
    fields = [rows[name][by_time].tolist() for name in ("start", "end", "seen_ns", "born_ns")]
    for member, start, end, seen_ns, born_ns in zip(by_time.tolist(), *fields, strict=True):
        new = _Mapping(member, start, end, seen_ns)
        first = bisect_left(there, start, key=attrgetter("end"))
        last = bisect_right(there, end, key=attrgetter("start"))
        near = there[first:last]
        joined = [each for each in near if born_ns <= each.seen_ns]
        others = [each for each in near if each not in joined]
        replaced += [each for each in others if each.overlaps(new)]
        parts = sorted([*joined, new], key=lambda each: len(each.members))
        whole = parts.pop()
        for part in parts:
            whole.take(part)
        beside = [each for each in others if not each.overlaps(new)]
        there[first:last] = sorted([*beside, whole], key=attrgetter("start"))
    return [mapping.members for mapping in replaced + there]
