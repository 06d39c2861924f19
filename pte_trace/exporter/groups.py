"""Which series there are: bounded, and each only ever rises.

A process may call itself anything and map any file, so the number of series is not the
machine's to choose. What gets no series of its own is added up in OTHER: the groups always add
up to all that was counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pte_trace.records import NOTHING, Counts
from pte_trace.snapshot import VmaRow, total
from pte_trace.views.printable import printable

_DELETED = " (deleted)"
_INODE = re.compile(r"\[inode \d+\]")


class Group(NamedTuple):
    """What one group of series is about, as label values; ``pid`` is empty unless asked for."""

    comm: str
    kind: str
    mapping: str
    pid: str = ""


OTHER = Group("other", "other", "other", "")


def group_of(vma: VmaRow, *, by_pid: bool = False) -> Group:
    """The group of a mapping. No address and no path: a file's last component is its name."""
    return Group(
        printable(vma.comm),
        vma.kind,
        printable(_mapping(vma.name)),
        str(vma.pid) if by_pid else "",
    )


def _mapping(name: str) -> str:
    if _INODE.fullmatch(name):
        return "[file]"
    if not name.startswith("/"):
        return name
    return name.removesuffix(_DELETED).rpartition("/")[2] or name


class Groups:
    """The counts of at most *limit* groups and OTHER.

    Who comes first gets a series, until half of them are given away. From then on a group must
    account for a share of 1/limit of all events, so that what matters on this machine still
    finds room. None is ever taken away: a series that ends and comes back would fall.
    """

    def __init__(self, limit: int, *, by_pid: bool = False) -> None:
        self.limit = limit
        self._by_pid = by_pid
        self._counts: dict[Group, Counts] = {OTHER: NOTHING}
        self._candidates: Counter[Group] = Counter()
        self._events = 0
        self.folded = 0

    @property
    def counts(self) -> Mapping[Group, Counts]:
        """A copy: what was counted, by group."""
        return dict(self._counts)

    @property
    def totals(self) -> Counts:
        return total(self._counts.values())

    def add(self, vmas: Iterable[VmaRow]) -> None:
        """Add what one reading brought. ``folded`` rises by the groups that went to OTHER."""
        reading: dict[Group, Counts] = {}
        for vma in vmas:
            group = group_of(vma, by_pid=self._by_pid)
            reading[group] = reading.get(group, NOTHING) + vma.counts
        self._events += sum(counts.events for counts in reading.values())
        for group, counts in reading.items():
            if group not in self._counts and not self._admits(group, counts):
                self.folded += 1
                group = OTHER
            self._counts[group] = self._counts.get(group, NOTHING) + counts
        self._candidates = Counter(dict(self._candidates.most_common(self.limit)))

    def _admits(self, group: Group, counts: Counts) -> bool:
        given_away = len(self._counts) - 1
        if given_away < self.limit // 2:
            return True
        self._candidates[group] += counts.events
        if given_away >= self.limit:
            return False
        if self._candidates[group] * self.limit < self._events:
            return False
        del self._candidates[group]
        return True
