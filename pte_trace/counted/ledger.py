"""Adds up readings: one row for each VMA, however often it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pte_trace.counted.arrays import Array, Filled, Grouping, Numbers, group, mixed, np
from pte_trace.counted.columns import ROW, SHARED, TEXTS, Columns, Times
from pte_trace.counted.counters import OUTCOMES, SIZE
from pte_trace.counted.packed import BUCKETS

_VMA = ("pid", "image", "start", "end", "inode", "dev", "name")
# Of two rows of one VMA the later one tells these, and either one the others.
_LATEST = ("ppid", "uid", "comm", "cgroup", "kind", "perms", "named_ns")
_CHOSEN = {"seen_ns": np.minimum, "born_ns": np.maximum, "changed_ns": np.maximum}


def _key(rows: Array, *more: str) -> Iterator[Array]:
    for name in (*_VMA, *more):
        yield rows[name]
    yield rows["perms"] & SHARED


def same_vmas(rows: Array, *more: str) -> Grouping:
    """Rows (of dtype ROW) that are of one VMA and name of it, and have *more* in common."""
    return group(*_key(rows, *more))


def by_vma(columns: Columns) -> Columns:
    """One row for each VMA and name of it, as the last one says; numbers are its own."""
    if columns.distinct:
        return columns
    rows = columns.rows
    groups = same_vmas(rows)
    if len(groups.starts) == len(rows):
        return replace(columns, distinct=True)
    identities = rows[groups.lasts]
    identities["seen_ns"] = groups.least(rows["seen_ns"])
    for latest in ("born_ns", "changed_ns"):
        identities[latest] = groups.most(rows[latest])
    return replace(columns.by(groups.of, identities), distinct=True)


class Ledger:
    """What was counted in all readings so far, a row for each VMA and name of it.

    A reading is added to what is there in place: most of its VMAs were in the one before.
    """

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._rows = _Growing(ROW)
        self._numbers = _Growing(np.dtype((np.int64, (SIZE,))))
        # Of each row and outcome the place of its times, -1 where there is none.
        self._timed = _Growing(np.dtype((np.int32, (len(OUTCOMES),))), -1)
        self._row_and_outcome = _Growing(np.dtype((np.int64, (2,))))
        self._ns = _Growing(np.dtype(np.int64))
        self._log2 = _Growing(np.dtype((np.int64, (BUCKETS,))))
        # Sorted, with the row of each.
        self._hashes = np.zeros(0, np.uint64)
        self._row_of_hash = np.zeros(0, np.int64)

    def add(self, reading: Columns) -> None:
        """*reading* came after all that were added before."""
        reading = by_vma(reading)
        rows = self._with_our_texts(reading)
        place_of = self._places(rows)
        known = place_of >= 0
        self._renew(place_of[known], rows[known])
        place_of[~known] = self._begin(rows[~known])
        reading.filled.add(self._numbers.used, place_of)
        self._add_times(reading.times, place_of)

    def columns(self) -> Columns:
        """They may be the ledger's own, which is added to."""
        row, outcome = self._row_and_outcome.used.T
        times = Times(row, outcome, self._ns.used, self._log2.used)
        return by_vma(Columns(self._rows.used, self._numbers.used, times, tuple(self._texts)))

    def _add_times(self, times: Times, place_of: Numbers) -> None:
        rows, outcome = place_of[times.row], times.outcome
        place_of_timed = self._timed.used
        places = place_of_timed[rows, outcome].astype(np.int64)
        new = places < 0
        places[new] = self._row_and_outcome.grow(np.stack((rows[new], outcome[new]), axis=1))
        place_of_timed[rows[new], outcome[new]] = places[new]
        for each in (self._ns, self._log2):
            each.grow_by(int(new.sum()))
        Filled.of(times.ns).add(self._ns.used, places)
        times.filled.add(self._log2.used, places)

    def _with_our_texts(self, reading: Columns) -> Array:
        ours = self._texts
        places = np.array([ours.setdefault(text, len(ours)) for text in reading.texts], np.int32)
        rows = reading.rows.copy()
        if len(rows):
            for name in TEXTS:
                rows[name] = places[rows[name]]
        return rows

    def _places(self, rows: Array) -> Numbers:
        """Where each is already; -1 where it is new."""
        place_of = np.full(len(rows), -1)
        if not len(self._hashes) or not len(rows):
            return place_of
        hashes = mixed(_key(rows))
        found = np.searchsorted(self._hashes, hashes)
        found[found == len(self._hashes)] = 0
        place = self._row_of_hash[found]
        same = self._hashes[found] == hashes
        ours = self._rows.used[place]
        for one, other in zip(_key(rows), _key(ours), strict=True):
            same &= one == other
        place_of[same] = place[same]
        return place_of

    def _renew(self, places: Numbers, rows: Array) -> None:
        """What the rows at *places* say now; when they were first seen they know."""
        ours = self._rows.used
        for name in _LATEST:
            ours[name][places] = rows[name]
        for name, choose in _CHOSEN.items():
            ours[name][places] = choose(ours[name][places], rows[name])

    def _begin(self, rows: Array) -> Numbers:
        """The places of new rows. One whose hash another has is found by nobody: it gets a row in
        each reading, and `by_vma` puts them together.
        """
        places = self._rows.grow(rows)
        for each in (self._numbers, self._timed):
            each.grow_by(len(rows))
        if len(rows):
            hashes = np.concatenate((self._hashes, mixed(_key(rows))))
            order = hashes.argsort(kind="stable")
            self._hashes = hashes[order]
            self._row_of_hash = np.concatenate((self._row_of_hash, places))[order]
        return places


class _Growing:
    """An array that grows at its end; ``used`` is what there is of it."""

    def __init__(self, kind: Any, blank: int = 0) -> None:
        self._kind = kind
        self._blank = blank
        self._room = self._made(0)
        self._number = 0

    def _made(self, number: int) -> Array:
        room = np.zeros(number, self._kind)
        if self._blank:
            room.fill(self._blank)
        return room

    @property
    def used(self) -> Array:
        return self._room[: self._number]

    def grow(self, values: Array) -> Numbers:
        """The places of *values*, that come after those there are."""
        places = self.grow_by(len(values))
        self._room[places] = values
        return places

    def grow_by(self, number: int) -> Numbers:
        """The places of so many more, that are blank."""
        first, self._number = self._number, self._number + number
        if self._number > len(self._room):
            room = self._made(max(self._number, 2 * len(self._room)))
            room[:first] = self._room[:first]
            self._room = room
        return np.arange(first, self._number)
