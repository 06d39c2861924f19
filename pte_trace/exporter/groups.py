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

# At one reading every five seconds: eight minutes, and a day.
_LATELY = 100
_USUALLY = 17_280
# Groups without a series of which is known how busy they were.
_REMEMBERED = 1_000
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
    have had lately, in the last `_LATELY` readings or so, a share of 1/limit of what the machine
    usually has, in `_USUALLY` readings. So what becomes hot finds room within minutes, however
    long the exporter ran, and what is busy while nothing else is does not use it up. None is ever
    taken away: a series that ends and comes back would fall.
    """

    def __init__(self, limit: int, *, by_pid: bool = False) -> None:
        self.limit = limit
        self._by_pid = by_pid
        self._counts: dict[Group, Counts] = {OTHER: NOTHING}
        # Events a reading: of groups without a series the busiest, and of all there is.
        self._candidates: dict[Group, float] = {}
        self._usual = 0.0
        self._readings = 0
        self.folded = 0

    @property
    def counts(self) -> Mapping[Group, Counts]:
        """A copy: what was counted, by group."""
        return dict(self._counts)

    @property
    def totals(self) -> Counts:
        return total(self._counts.values())

    def add(self, vmas: Iterable[VmaRow]) -> None:
        """Add what one reading brought, the busiest group first.

        ``folded`` rises by the groups that go to OTHER and are not remembered from before.
        """
        reading: dict[Group, Counts] = {}
        for vma in vmas:
            group = group_of(vma, by_pid=self._by_pid)
            reading[group] = reading.get(group, NOTHING) + vma.counts
        self._readings += 1
        events = sum(counts.events for counts in reading.values())
        self._usual += (events - self._usual) * self._weight(_USUALLY)
        passed = 1 - self._weight(_LATELY)
        self._candidates = {group: rate * passed for group, rate in self._candidates.items()}
        for group, counts in sorted(reading.items(), key=_events, reverse=True):
            if group not in self._counts and not self._admits(group, counts):
                group = OTHER
            self._counts[group] = self._counts.get(group, NOTHING) + counts
        busiest = Counter(self._candidates).most_common(_REMEMBERED)
        self._candidates = dict(busiest)

    def _weight(self, readings: int) -> float:
        """Of one reading in a mean over the last *readings*, or all where there are not so many."""
        return 1 / min(self._readings, readings)

    def _admits(self, group: Group, counts: Counts) -> bool:
        given_away = len(self._counts) - 1
        if given_away < self.limit // 2:
            return True
        rate = self._candidates.get(group, 0.0) + counts.events * self._weight(_LATELY)
        if given_away < self.limit and rate * self.limit >= self._usual:
            self._candidates.pop(group, None)
            return True
        self.folded += group not in self._candidates
        self._candidates[group] = rate
        return False


def _events(entry: tuple[Group, Counts]) -> int:
    return entry[1].events
