"""numpy, and what is done to columns of any kind: find rows that are alike, and add them up.

All sorting is stable, which asks numpy for the sort it has on every CPU: its faster ones were seen
to rank wrongly, and silently, under QEMU's emulation of AVX2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

# Its threads are for matrices, which there are none of.
_THREADS = "OPENBLAS_NUM_THREADS"


@contextmanager
def _one_thread() -> Iterator[None]:
    """A traced command must not inherit what we ask for."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_THREADS]
        if before is not None:
            os.environ[_THREADS] = before


with _one_thread():
    import numpy as np

__all__ = [
    "Array",
    "Filled",
    "Grouping",
    "Numbers",
    "ascending",
    "blocks",
    "group",
    "highest",
    "in_groups",
    "np",
    "numbered",
    "row_sums",
    "sums",
]

Array = np.ndarray[Any, np.dtype[Any]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_AT_ONCE = 4096


class Grouping(NamedTuple):
    """Which rows are alike. ``order``: all rows, those of a group side by side, in the order that
    they had. ``starts``: where in it each group begins. ``of``: the group of each row.
    """

    order: Numbers
    starts: Numbers
    of: Numbers

    @property
    def firsts(self) -> Numbers:
        """The first row of each group."""
        firsts: Numbers = self.order[self.starts]
        return firsts

    @property
    def ends(self) -> Numbers:
        """Where in ``order`` each group has ended."""
        return np.append(self.starts[1:], len(self.order))

    @property
    def lasts(self) -> Numbers:
        """The last row of each group."""
        lasts: Numbers = self.order[self.ends - 1]
        return lasts

    def least(self, values: Array) -> Array:
        """The least of *values* in each group; like `most`, of rows."""
        least: Array = np.minimum.reduceat(values[self.order], self.starts)
        return least

    def most(self, values: Array) -> Array:
        most: Array = np.maximum.reduceat(values[self.order], self.starts)
        return most


def blocks(rows: int) -> Iterator[slice]:
    """All of so many, some at a time: few enough that what is made of them on the way stays in a
    CPU's cache, where memory is neither asked for nor waited for.
    """
    return (slice(begin, begin + _AT_ONCE) for begin in range(0, rows, _AT_ONCE))


def mixed(keys: Iterable[Array]) -> Array:
    """A hash of each row's *keys*."""
    given = tuple(keys)
    hashes = np.zeros(len(given[0]), np.uint64)
    for block in blocks(len(hashes)):
        some = hashes[block]
        for key in given:
            some ^= key[block].astype(np.uint64)
            some *= _GOLDEN
            some ^= some >> _HALF
    return hashes


def group(*keys: Array) -> Grouping:
    """The rows that have all *keys* in common. There is one key at least."""
    hashes = mixed(keys)
    order = hashes.argsort(kind="stable")
    in_order = hashes[order]
    same_hash = in_order[1:] == in_order[:-1]
    if not same_hash.any():
        return in_groups(order, ~same_hash)
    differ = _differ(keys, order)
    if (differ & same_hash).any():  # two keys of one hash
        order = np.lexsort(keys[::-1])
        differ = _differ(keys, order)
    return in_groups(order, differ)


def ascending(keys: Numbers) -> Grouping:
    """The rows of one key, a group for each key there is, from the least on."""
    order = keys.argsort(kind="stable")
    return in_groups(order, _differ((keys,), order))


def numbered(keys: Numbers) -> tuple[Numbers, Array]:
    """The keys there are, from 0 on, and the place of each of *keys* among them.

    Without sorting: up to the largest each key has a place in a table.
    """
    there = np.zeros(keys.max(initial=-1) + 1, np.bool_)
    there[keys] = True
    return np.flatnonzero(there), (np.cumsum(there, dtype=np.int32) - 1)[keys]


def _differ(keys: tuple[Array, ...], order: Numbers) -> Array:
    """Whether each row but the first differs from the one before it."""
    differ = np.zeros(max(0, len(order) - 1), np.bool_)
    for key in keys:
        in_order = key[order]
        differ |= in_order[1:] != in_order[:-1]
    return differ


def in_groups(order: Numbers, differ: Array) -> Grouping:
    """The groups of rows in *order*, where each row but the first *differs* from the one before."""
    begins = np.ones(len(order), np.bool_)
    begins[1:] = differ
    of = np.empty(len(order), np.int64)
    of[order] = np.cumsum(begins) - 1
    return Grouping(order, np.flatnonzero(begins), of)


class Filled(NamedTuple):
    """Those of some rows of numbers that are not 0, as most are: where they are, and what.

    To find them takes longer than to add them up, so whoever adds twice finds them once. A place
    counts all numbers, row after row. Values are of 32 bits where all of them together would fit:
    so are those of most readings.
    """

    place: Array
    value: Array
    width: int

    @classmethod
    def of(cls, numbers: Array) -> Filled:
        width = numbers.shape[1] if numbers.ndim > 1 else 1
        wide = numbers.reshape(len(numbers), width)
        places, values = [np.zeros(0, np.int32)], [np.zeros(0, numbers.dtype)]
        for block in blocks(len(wide)):
            some = wide[block]
            # Several times as fast as to find rows and columns.
            place = np.flatnonzero(some != 0)
            row = place // width
            values.append(some[row, place - row * width])
            places.append((place + block.start * width).astype(np.int32))
        value = np.concatenate(values)
        small = 0 <= value.sum(dtype=np.int64) <= np.iinfo(np.int32).max
        return cls(np.concatenate(places), value.astype(np.int32 if small else np.int64), width)

    def sums(self, of: Numbers, groups: int) -> Array:
        """Added up by group: as wide, as many rows as there are *groups*."""
        added = np.zeros((groups, self.width), self.value.dtype)
        self.add(added, of)
        return added

    def add(self, to: Array, rows: Numbers) -> None:
        """Add each row to that of *to* among *rows*. *to* has all its numbers side by side."""
        flat, width = to.reshape(-1), self.width
        for block in blocks(len(self.place)):
            place, value = self.place[block], self.value[block]
            row = place // width
            moved = place + (rows[row] - row) * width
            np.add.at(flat, moved, value.astype(to.dtype))


def sums(numbers: Array, of: Numbers, groups: int) -> Array:
    """*numbers* added up by group, as `Filled.sums` does."""
    return Filled.of(numbers).sums(of, groups).reshape(groups, *numbers.shape[1:])


def row_sums(numbers: Array) -> Numbers:
    """Of each row. `sum` takes several times as long where there are few columns."""
    added: Numbers = np.einsum("ij->i", numbers, dtype=np.int64)
    return added


def highest(groups: Grouping, *ranks: Array) -> Numbers:
    """The row in each group that ranks highest, by the later *ranks* where it ties in the first.

    The last of those that tie in all.
    """
    inside = groups.of[groups.order]
    eligible = np.ones(len(inside), np.bool_)
    for rank in ranks:
        values = np.where(eligible, rank[groups.order], 0)
        eligible &= values == np.maximum.reduceat(values, groups.starts)[inside]
    places = np.where(eligible, np.arange(len(inside)), -1)
    highest: Numbers = groups.order[np.maximum.reduceat(places, groups.starts)]
    return highest
