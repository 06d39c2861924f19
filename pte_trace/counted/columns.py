"""Rows as columns: many VMAs or mappings, without an object for each.

A row becomes a `VmaRow` where it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pte_trace.counted.arrays import Array, Filled, Numbers, np, numbered, row_sums, sums
from pte_trace.counted.counters import (
    EVENTS,
    OUTCOMES,
    PROTECTED_BY,
    PTES_INSPECTED,
    PTES_LEFT_READONLY,
    PTES_MADE_WRITABLE,
    SIZE,
    WP_OUTCOME,
    WP_PROTECTED_BY,
    WRITE_FAULTS,
    Family,
)
from pte_trace.counted.counts import UNMEASURED, Counts, Histogram
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.packed import BUCKETS, KINDS

# TEXTS are places in the texts beside them; ``perms`` are bits of vm_flags.
ROW = np.dtype(
    [
        ("pid", np.int32),
        ("ppid", np.int32),
        ("uid", np.uint32),
        ("comm", np.int32),
        ("name", np.int32),
        ("cgroup", np.int32),
        ("dev", np.uint32),
        ("image", np.uint64),
        ("start", np.uint64),
        ("end", np.uint64),
        ("inode", np.uint64),
        ("seen_ns", np.int64),
        ("born_ns", np.int64),
        ("changed_ns", np.int64),
        ("named_ns", np.int64),
        ("kind", np.uint8),
        ("perms", np.uint8),
    ],
    align=True,
)
TEXTS = ("comm", "name", "cgroup")
SHARED = 8
PERMS = tuple(
    "".join(
        letter if bits & bit else other
        for bit, letter, other in ((1, "r", "-"), (2, "w", "-"), (4, "x", "-"), (SHARED, "s", "p"))
    )
    for bits in range(16)
)


@dataclass(frozen=True, eq=False)
class Times:
    """Histograms of some rows: ``ns`` and ``log2`` of the faults of one outcome in ``row``.

    As many as rows and outcomes were timed, in no order; those of one row and outcome add up.
    """

    row: Numbers
    outcome: Numbers
    ns: Array
    log2: Array

    @property
    def columns(self) -> tuple[Array, Array, Array, Array]:
        return self.row, self.outcome, self.ns, self.log2

    @cached_property
    def filled(self) -> Filled:
        """Of ``log2``."""
        return Filled.of(self.log2)

    @classmethod
    def none(cls) -> Times:
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, nothing, np.zeros((0, BUCKETS), np.int64))

    def by(self, new_rows: Numbers) -> Times:
        """These added up, with *new_rows* in the place of each row."""
        if not len(self.row):
            return self
        keys, of = numbered(new_rows[self.row] * len(OUTCOMES) + self.outcome)
        row, outcome = np.divmod(keys, len(OUTCOMES))
        ns, log2 = sums(self.ns, of, len(keys)), self.filled.sums(of, len(keys))
        return Times(row, outcome, ns, log2)


@dataclass(frozen=True, eq=False)
class Columns:
    """Identities (of dtype ROW) and numbers (a column for each counter) of the same rows.

    ``distinct``: it is known that no two rows are of one VMA.
    """

    rows: Array
    numbers: Array
    times: Times
    texts: Sequence[str]
    distinct: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def none(cls) -> Columns:
        return cls(np.zeros(0, ROW), np.zeros((0, SIZE), np.int64), Times.none(), ())

    @classmethod
    def of(cls, rows: Iterable[VmaRow]) -> Columns:
        """Without their stacks."""
        given = list(rows)
        named = cls.named(given)
        counted = cls.of_counts([row.counts for row in given])
        return replace(counted, rows=named.rows, texts=named.texts)

    @classmethod
    def named(cls, rows: Iterable[VmaRow]) -> Columns:
        """Without what was counted."""
        given = list(rows)
        texts: dict[str, int] = {}
        identities = np.zeros(len(given), ROW)
        for identity, row in zip(identities, given, strict=True):
            for name in _SAME:
                identity[name] = getattr(row, name)
            for name in TEXTS:
                identity[name] = texts.setdefault(getattr(row, name), len(texts))
            identity["kind"] = KINDS.index(row.kind)
            identity["perms"] = PERMS.index(row.perms)
        return cls(identities, np.zeros((len(given), 0), np.int64), Times.none(), [*texts])

    @classmethod
    def of_counts(cls, given: Sequence[Counts]) -> Columns:
        """Rows that are nobody's."""
        timed = [
            (place, outcome, cost)
            for place, counts in enumerate(given)
            for outcome, cost in enumerate(counts.costs)
            if cost.count
        ]
        return cls(
            np.zeros(len(given), ROW),
            np.array([counts.numbers for counts in given], np.int64).reshape(-1, SIZE),
            Times(
                np.array([place for place, _, _ in timed], np.int64),
                np.array([outcome for _, outcome, _ in timed], np.int64),
                np.array([cost.sum for _, _, cost in timed], np.int64),
                np.array([cost.log2 for _, _, cost in timed], np.int64).reshape(-1, BUCKETS),
            ),
            ("",),
        )

    def numbers_of(self, family: Family) -> Numbers:
        """A column for each value of the family's label."""
        numbers: Numbers = self.numbers[:, family.place]
        return numbers

    @cached_property
    def filled(self) -> Filled:
        """Of ``numbers``."""
        return Filled.of(self.numbers)

    @property
    def not_attributed(self) -> int:
        """Events that found no room for their VMA."""
        found = self.numbers[self.rows["end"] == 0]
        return sum(int(found[:, family.place].sum()) for family in EVENTS)

    def some(self, places: Sequence[int] | Numbers) -> list[VmaRow]:
        """The rows at *places*."""
        identities = self.rows[places].tolist()
        numbers = self.numbers[places].tolist()
        return [
            self._row(dict(zip(ROW.names or (), identity, strict=True)), Counts(tuple(each), costs))
            for identity, each, costs in zip(
                identities, numbers, map(self._costs, places), strict=True
            )
        ]

    def _row(self, identity: dict[str, Any], counts: Counts) -> VmaRow:
        said = {
            **{name: self.texts[identity[name]] for name in TEXTS},
            "kind": KINDS[identity["kind"]],
            "perms": PERMS[identity["perms"]],
        }
        return VmaRow(**{**identity, **said}, counts=counts)

    @cached_property
    def _timed(self) -> tuple[Numbers, Numbers]:
        """The times in the order of their rows, and where those of each row begin in that."""
        order = self.times.row.argsort(kind="stable")
        return order, np.searchsorted(self.times.row[order], np.arange(len(self) + 1))

    def _costs(self, place: int) -> tuple[Histogram, ...]:
        order, bounds = self._timed
        return self._histograms(order[bounds[place] : bounds[place + 1]])

    def _histograms(self, places: Numbers) -> tuple[Histogram, ...]:
        """By outcome, of some of the times."""
        if not len(places):
            return _UNTIMED
        costs = list(_UNTIMED)
        times = self.times
        for place in places.tolist():
            outcome = int(times.outcome[place])
            found = Histogram(int(times.ns[place]), tuple(times.log2[place].tolist()))
            costs[outcome] = costs[outcome] + found
        return tuple(costs)

    @cached_property
    def totals(self) -> Counts:
        whole = self.times.by(np.zeros(len(self), np.int64))
        numbers = self.numbers.sum(axis=0, dtype=np.int64).tolist()
        every = np.arange(len(whole.row))
        return Counts(tuple(numbers), replace(self, times=whole)._histograms(every))

    def by(self, of: Numbers, identities: Array) -> Columns:
        """Added up: *of* is the new row of each, *identities* has one for each of these."""
        numbers = self.filled.sums(of, len(identities))
        return Columns(identities, numbers, self.times.by(of), self.texts)

    @property
    def events(self) -> Numbers:
        """Protection changes and write faults, of each row."""
        changes, faults = (row_sums(self.numbers_of(family)) for family in EVENTS)
        return changes + faults

    @property
    def nobodys(self) -> Columns:
        """Without whose it was."""
        return Columns(np.zeros(len(self), ROW), self.numbers, self.times, ("",))

    @property
    def identities(self) -> Columns:
        """Without what was counted."""
        return Columns(self.rows, self.numbers[:, :0], Times.none(), self.texts)

    def between(self, begin: int, end: int) -> Columns:
        """The rows from *begin* up to *end*."""
        order, bounds = self._timed
        within = order[bounds[begin] : bounds[end]]
        row, *others = (each[within] for each in self.times.columns)
        times = Times(row - begin, *others)
        return Columns(self.rows[begin:end], self.numbers[begin:end], times, self.texts)


def tell_what_follows(numbers: Array) -> None:
    """What is not recorded but follows from what is, in rows of all counters.

    Of faults that were recorded before it was told it is not known what protected the page.
    """
    for family in (PTES_MADE_WRITABLE, PTES_LEFT_READONLY):
        numbers[:, PTES_INSPECTED.place.start] += numbers[:, family.place].sum(
            axis=1, dtype=numbers.dtype
        )
    for outcome in WP_OUTCOME.names:
        causes = [WP_PROTECTED_BY.at(outcome, cause) for cause in PROTECTED_BY.names]
        told = numbers[:, causes].sum(axis=1, dtype=numbers.dtype)
        untold = numbers[:, WRITE_FAULTS.at(outcome)] - told
        numbers[:, WP_PROTECTED_BY.at(outcome, "unknown")] += np.maximum(untold, 0)


_UNTIMED = (UNMEASURED,) * len(OUTCOMES)
# What has the same value in a row of columns and in a VmaRow.
_SAME = tuple(name for name in ROW.names or () if name not in (*TEXTS, "kind", "perms"))


def concatenated(parts: Sequence[Columns]) -> Columns:
    """One below the other."""
    texts: dict[str, int] = {}
    rows = np.concatenate([part.rows for part in parts])
    begins = np.cumsum([0, *map(len, parts)])
    for part, begin in zip(parts, begins.tolist(), strict=False):
        places = np.array([texts.setdefault(each, len(texts)) for each in part.texts], np.int32)
        for name in TEXTS:
            rows[name][begin : begin + len(part)] = places[part.rows[name]]
    times = Times(
        np.concatenate(
            [part.times.row + begin for part, begin in zip(parts, begins, strict=False)]
        ),
        *(
            np.concatenate(each)
            for each in zip(*(part.times.columns[1:] for part in parts), strict=True)
        ),
    )
    return Columns(rows, np.concatenate([part.numbers for part in parts]), times, tuple(texts))
