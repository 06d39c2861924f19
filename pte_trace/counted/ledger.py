"""Adds up readings: one row for each VMA, however often it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pte_trace.counted.arrays import Array, Filled, Grouping, Numbers, blocks, group, mixed, np
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
        self._by_hash = _ByHash()

    def add(self, reading: Columns) -> None:
        """*reading* came after all that were added before."""
        reading = by_vma(reading)
        text_of = self._our_texts(reading)
        place_of = np.full(len(reading), -1)
        for block in blocks(len(reading)):
            rows = _with_texts(reading.rows[block], text_of)
            places = place_of[block] = self._places(rows)
            known = places >= 0
            self._renew(places[known], rows[known])
        new = np.flatnonzero(place_of < 0)
        place_of[new] = self._begin(_with_texts(reading.rows[new], text_of))
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

    def _our_texts(self, reading: Columns) -> Numbers:
        """The place here of each of its texts."""
        ours = self._texts
        return np.array([ours.setdefault(text, len(ours)) for text in reading.texts], np.int64)

    def _places(self, rows: Array) -> Numbers:
        """Where each is already; -1 where it is new."""
        if not len(self._rows.used):
            return np.full(len(rows), -1)
        places = self._by_hash.find(mixed(_key(rows)))
        same = places >= 0
        ours = self._rows.used[places]
        for one, other in zip(_key(rows), _key(ours), strict=True):
            same &= one == other
        return np.where(same, places, -1)

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
            self._by_hash.add(mixed(_key(rows)), places)
        return places


def _with_texts(rows: Array, text_of: Numbers) -> Array:
    """A copy of *rows*, with *text_of* in the place of each text."""
    copied = rows.copy()
    for name in TEXTS:
        copied[name] = text_of[rows[name]]
    return copied


class _ByHash:
    """The first row of each hash."""

    def __init__(self) -> None:
        # Sorted, with the row of each; and where those begin that have their first bits in common.
        self._hashes = np.zeros(0, np.uint64)
        self._rows = np.zeros(0, np.int64)
        self._begins = np.zeros(1, np.int64)
        self._shift = np.uint64(0)

    def add(self, hashes: Array, rows: Numbers) -> None:
        hashes = np.concatenate((self._hashes, hashes))
        order = hashes.argsort(kind="stable")
        self._hashes = hashes[order]
        self._rows = np.concatenate((self._rows, rows))[order]
        # So many bits that most have them for themselves.
        bits = len(hashes).bit_length() + 2
        self._shift = np.uint64(64 - bits)
        begins = np.arange(1 << bits, dtype=np.uint64) << self._shift
        self._begins = np.searchsorted(self._hashes, begins)

    def find(self, hashes: Array) -> Numbers:
        """The row of each, -1 where there is none. Some must have been added."""
        last = len(self._hashes) - 1
        found = np.minimum(self._begins[hashes >> self._shift], last)
        further = np.flatnonzero(self._hashes[found] < hashes)
        found[further] = np.minimum(np.searchsorted(self._hashes, hashes[further]), last)
        return np.where(self._hashes[found] == hashes, self._rows[found], -1)


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
