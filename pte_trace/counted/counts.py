"""What was counted, as one value: numbers that add up, and how long faults took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

from pte_trace.counted.counters import (
    AVOIDABLE,
    EVENTS,
    OUTCOMES,
    PMDS_LEFT_READONLY,
    PMDS_MADE_WRITABLE,
    PTES_INSPECTED,
    PTES_MADE_WRITABLE,
    SIZE,
    WP_PROTECTED_BY,
    Family,
)
from pte_trace.counted.packed import BUCKETS

_AVOIDABLE = tuple(WP_PROTECTED_BY.at("wp_reuse", cause) for cause in AVOIDABLE)
_TIMED_AVOIDABLE = OUTCOMES.index("wp_reuse")


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long faults took inside handle_mm_fault(): ``log2[n]`` of them 2^n ns up to 2^(n+1).

    ``log2`` has BUCKETS places; the last one takes what is longer too. ``sum`` in nanoseconds.
    """

    sum: int
    log2: tuple[int, ...]

    @property
    def count(self) -> int:
        return sum(self.log2)

    @property
    def mean(self) -> float | None:
        """Nanoseconds; None where nothing was measured."""
        return self.sum / self.count if self.count else None

    def __add__(self, other: Histogram) -> Histogram:
        if other is UNMEASURED:
            return self
        if self is UNMEASURED:
            return other
        return Histogram(self.sum + other.sum, _add(self.log2, other.log2))


UNMEASURED = Histogram(0, (0,) * BUCKETS)


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of all counters in their order, and a histogram for each of OUTCOMES.

    ``counts[FAMILY]`` are those of one family, in the order of its label's values. Where costs are
    sampled, they count less than the faults.
    """

    numbers: tuple[int, ...]
    costs: tuple[Histogram, ...]

    def __getitem__(self, family: Family) -> tuple[int, ...]:
        return self.numbers[family.place]

    def one(self, family: Family, *names: str) -> int:
        """The number for one value of each of the family's labels."""
        return self.numbers[family.at(*names)]

    def sum(self, family: Family) -> int:
        return sum(self.numbers[family.place])

    def by_name(self, family: Family) -> dict[str, int]:
        return dict(zip(family.parts, self[family], strict=True))

    def __add__(self, other: Counts) -> Counts:
        if other is NOTHING:
            return self
        if self is NOTHING:
            return other
        costs = tuple(a + b for a, b in zip(self.costs, other.costs, strict=True))
        return Counts(_add(self.numbers, other.numbers), costs)

    @property
    def events(self) -> int:
        """Protection changes and write faults."""
        return sum(map(self.sum, EVENTS))

    @property
    def inspected(self) -> int:
        """PTEs looked at after a change that asked for writable ones."""
        return self.sum(PTES_INSPECTED)

    @property
    def entries_inspected(self) -> int:
        """With the PMDs of huge pages."""
        return self.inspected + self.sum(PMDS_MADE_WRITABLE) + self.sum(PMDS_LEFT_READONLY)

    @property
    def made_writable(self) -> int:
        """Entries: PTEs, and the PMDs of huge pages."""
        return self.sum(PTES_MADE_WRITABLE) + self.sum(PMDS_MADE_WRITABLE)

    @property
    def avoidable(self) -> int:
        """`wp_reuse` faults of pages that a protection change had write-protected."""
        return sum(self.numbers[place] for place in _AVOIDABLE)

    @property
    def efficacy(self) -> float | None:
        """The share of avoidable faults that was avoided; None where there was neither.

        Known only where PTEs were inspected.
        """
        made = self.made_writable
        return made / (made + self.avoidable) if made + self.avoidable else None

    @property
    def reuse_cost(self) -> Histogram:
        """The cost of the `wp_reuse` faults that were measured."""
        return self.costs[_TIMED_AVOIDABLE]


NOTHING = Counts((0,) * SIZE, (UNMEASURED,) * len(OUTCOMES))


def total(counts: Iterable[Counts]) -> Counts:
    return reduce(add, counts, NOTHING)


def _add(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(add, one, other))
