"""Which series there are: bounded, and each only ever rises.

A process may call itself anything and map any file, so the number of series is not the
machine's to choose. What gets no series of its own is added up in OTHER: the groups always add
up to all that was counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from pte_trace.counted.arrays import Array, Numbers, ascending, group, highest, np, sums
from pte_trace.counted.columns import Columns, concatenated
from pte_trace.counted.counts import NOTHING, Counts
from pte_trace.counted.packed import KINDS
from pte_trace.exporter.group import OTHER, Group, mapping_label, place_labels
from pte_trace.views.cut import cut

# At one reading every five seconds: eight minutes, and a day.
_LATELY = 100
_USUALLY = 17_280
# Groups without a series of which is known how busy they were.
_REMEMBERED = 1_000
_ROOT = 0
# What one may take of all groups: others would be in OTHER for good. All of a machine's services
# may be root's.
_PROCESS_PART, _NAME_PART, _USER_PART, _ROOT_PART = 1 / 8, 1 / 8, 1 / 2, 3 / 4
_CGROUP_PART = 1 / 8


_Label = TypeVar("_Label")


class Groups:
    """The counts of at most *limit* groups and OTHER.

    Who comes first gets a series, until half of them are given away. From then on a group must
    have had lately, in the last `_LATELY` readings or so, a share of 1/limit of what the machine
    usually has, in `_USUALLY` readings. So what becomes hot finds room within minutes, however
    long the exporter ran, and what is busy while nothing else is does not use it up. No process,
    user or name gets more than its part. None is ever taken away: a series that ends and comes
    back would fall.
    """

    def __init__(self, limit: int, *, by_pid: bool = False, by_cgroup: bool = False) -> None:
        self.limit = limit
        self._by = By(by_pid, by_cgroup)
        self._places: dict[Group, int] = {OTHER: 0}
        self.counted = Columns.of_counts([NOTHING])
        # Groups given away, by process, by user and by name.
        self._taken: Counter[Hashable] = Counter()
        # Events a reading: of groups without a series the busiest, and of all there is.
        self._candidates: dict[Group, float] = {}
        self._usual = 0.0
        self._readings = 0
        self.folded = 0

    @property
    def names(self) -> tuple[Group, ...]:
        return tuple(self._places)

    @property
    def totals(self) -> Counts:
        return self.counted.totals

    def add(self, columns: Columns) -> None:
        """Add what one reading brought, the busiest group first.

        ``folded`` rises by the groups that go to OTHER and are not remembered from before.
        """
        found = _Found(columns, self._by)
        self._readings += 1
        self._usual += (sum(found.events) - self._usual) * self._weight(_USUALLY)
        passed = 1 - self._weight(_LATELY)
        self._candidates = {group: rate * passed for group, rate in self._candidates.items()}
        for place in found.busiest_first():
            name = found.names[place]
            if name not in self._places and self._admits(found, place):
                self._places[name] = len(self._places)
        places = np.array([self._places.get(name, 0) for name in found.names], np.int64)
        self._sum(columns, places[found.of])
        busiest = Counter(self._candidates).most_common(_REMEMBERED)
        self._candidates = dict(busiest)

    def _sum(self, columns: Columns, places: Numbers) -> None:
        """Add each row to the group at its place."""
        by_place = ascending(places)
        brought = columns.by(by_place.of, columns.rows[by_place.firsts]).nobodys
        new = Columns.of_counts([NOTHING] * (len(self._places) - len(self.counted)))
        whole = concatenated([self.counted, new, brought])
        by_place = ascending(
            np.concatenate((np.arange(len(self._places)), places[by_place.firsts]))
        )
        self.counted = whole.by(by_place.of, whole.rows[by_place.firsts])

    def _weight(self, readings: int) -> float:
        """Of one reading in a mean over the last *readings*, or all where there are not so many."""
        return 1 / min(self._readings, readings)

    def _admits(self, found: _Found, place: int) -> bool:
        name = found.names[place]
        given_away = len(self._places) - 1
        rate = self._candidates.get(name, 0.0) + found.events[place] * self._weight(_LATELY)
        early = given_away < self.limit // 2
        has_share = given_away < self.limit and rate * self.limit >= self._usual
        if (early or has_share) and self._have_room(found.owners(place)):
            self._candidates.pop(name, None)
            return True
        self.folded += name not in self._candidates
        self._candidates[name] = rate
        return False

    def _have_room(self, owners: Mapping[Hashable, float]) -> bool:
        """Whether none of them has its part of all groups; then they have one more."""
        if any(self._taken[owner] >= max(1, part * self.limit) for owner, part in owners.items()):
            return False
        self._taken.update(owners.keys())
        return True


class By(NamedTuple):
    """By what groups are told apart beside process name, kind and name of the mapping."""

    pid: bool
    cgroup: bool


class _Found:
    """The groups of one reading: ``names``, the ``events`` of each, and ``of`` each row its place
    among them.
    """

    def __init__(self, columns: Columns, by: By) -> None:
        rows = columns.rows
        if not len(rows):
            self.names: tuple[Group, ...] = ()
            self.events: list[int] = []
            self.of = np.zeros(0, np.int64)
            return
        keys = ["comm", "kind", "name", *(each for each in By._fields if getattr(by, each))]
        alike = group(*(rows[key] for key in keys))
        place_of: dict[Group, int] = {}
        places = [
            place_of.setdefault(name, len(place_of))
            for name in _names(columns, rows[alike.firsts], by)
        ]
        self.names = tuple(place_of)
        self.of = np.array(places, np.int64)[alike.of]
        groups = ascending(self.of)
        events = columns.events
        self.events = sums(events, groups.of, len(place_of)).tolist()
        self._busiest = rows[highest(groups, events)]

    def busiest_first(self) -> list[int]:
        """The places of all. Equally busy ones are in the order of their names: which come first
        must not depend on the order of rows.
        """
        events, names = self.events, self.names
        return sorted(range(len(names)), key=lambda place: (-events[place], names[place]))

    def owners(self, place: int) -> dict[Hashable, float]:
        """Whose a group is, and which part of all groups each of them may have."""
        row = self._busiest[place]
        uid = int(row["uid"])
        name = self.names[place]
        return {
            **({("cgroup", name.cgroup): _CGROUP_PART} if name.cgroup else {}),
            ("process", int(row["pid"]), int(row["image"])): _PROCESS_PART,
            ("name", name.comm): _NAME_PART,
            ("user", uid): _ROOT_PART if uid == _ROOT else _USER_PART,
        }


def _names(columns: Columns, rows: Array, by: By) -> Iterator[Group]:
    comm_of, mapping_of = (_Labels(columns.texts, each) for each in (cut, mapping_label))
    place_of = _Labels(columns.texts, place_labels)
    for row in rows[["comm", "kind", "name", "pid", "cgroup"]].tolist():
        comm, kind, name, pid, cgroup = row
        yield Group(
            comm_of[comm],
            KINDS[kind],
            mapping_of[name],
            str(pid) if by.pid else "",
            *(place_of[cgroup] if by.cgroup else ()),
        )


class _Labels(dict[int, _Label]):
    """The label of a text, or its labels, by its place."""

    def __init__(self, texts: Sequence[str], label: Callable[[str], _Label]) -> None:
        self._texts = texts
        self._label = label

    def __missing__(self, place: int) -> _Label:
        self[place] = self._label(self._texts[place])
        return self[place]
