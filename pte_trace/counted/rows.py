"""Rows of a snapshot, made of its columns where they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import overload

from pte_trace.counted.arrays import Numbers, group, highest, np, row_sums
from pte_trace.counted.columns import Columns
from pte_trace.counted.counters import Family
from pte_trace.counted.mapping import ProcessRow, Stack, VmaRow
from pte_trace.counted.order import BY_NUMBERS

_AT_ONCE = 1024


class Rows(Sequence[VmaRow]):
    """One row for each mapping, in the order of process and address."""

    def __init__(
        self,
        columns: Columns,
        stacks: Mapping[int, tuple[Stack, ...]] = MappingProxyType({}),
    ) -> None:
        """*stacks* are of the rows at those places."""
        self.columns = columns
        self.stacks = stacks

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, place: int) -> VmaRow: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[VmaRow]: ...

    def __getitem__(self, place: int | slice) -> VmaRow | Sequence[VmaRow]:
        if isinstance(place, slice):
            return self.at(range(len(self))[place])
        return self.at([range(len(self))[place]])[0]

    def __iter__(self) -> Iterator[VmaRow]:
        for begin in range(0, len(self), _AT_ONCE):
            yield from self[begin : begin + _AT_ONCE]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(tuple(self))

    def at(self, places: Sequence[int] | Numbers) -> list[VmaRow]:
        rows = self.columns.some(list(places))
        if not self.stacks:
            return rows
        return [
            replace(row, stacks=self.stacks[place]) if place in self.stacks else row
            for place, row in zip(places, rows, strict=True)
        ]

    def none(self) -> Rows:
        return Rows(Columns.none())

    def with_any(self, family: Family, name: str) -> Iterator[VmaRow]:
        """Those in which the counter is not 0."""
        places = np.flatnonzero(self.columns.numbers[:, family.at(name)])
        for begin in range(0, len(places), _AT_ONCE):
            yield from self.at(places[begin : begin + _AT_ONCE].tolist())

    def with_stacks(self) -> list[VmaRow]:
        return self.at(sorted(self.stacks))

    def ordered(self, field: str, number: int | None = None) -> list[VmaRow]:
        """The first *number* by one of SORT_FIELDS: counts largest first, names, PIDs ascending."""
        if not len(self):
            return []
        return self.at(_order(self.columns, field)[:number].tolist())

    def processes(self) -> tuple[ProcessRow, ...]:
        """A row for each PID and name, in the order of their first mappings.

        A process that executed a program of another name is two; by these two a mapping's is found.
        """
        columns = self.columns
        if not len(columns):
            return ()
        groups = group(columns.rows["pid"], columns.rows["comm"])
        identities = columns.rows[groups.firsts]
        latest = highest(groups, columns.rows["named_ns"])
        identities["cgroup"] = columns.rows["cgroup"][latest]
        added = columns.by(groups.of, identities)
        return tuple(
            ProcessRow(row.pid, row.comm, row.counts, row.cgroup)
            for row in added.some(groups.firsts.argsort(kind="stable").tolist())
        )


def _order(columns: Columns, field: str) -> Numbers:
    if field in BY_NUMBERS:
        ranks = -row_sums(columns.numbers[:, BY_NUMBERS[field]])
    elif field == "pid":
        ranks = columns.rows["pid"]
    else:
        rank = {text: place for place, text in enumerate(sorted(columns.texts))}
        ranks = np.array([rank[text] for text in columns.texts])[columns.rows[field]]
    order: Numbers = ranks.argsort(kind="stable")
    return order
