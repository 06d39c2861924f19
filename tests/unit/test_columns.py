"""Columns give what the same done row by row gives, in every field."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pte_trace
from pte_trace.counted import arrays, ledger
from pte_trace.counted.arrays import Array, group, highest, np, numbered, sums
from pte_trace.counted.columns import Columns, concatenated
from pte_trace.counted.counters import SIZE
from pte_trace.counted.ledger import Ledger, by_vma
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.merging import by_mapping
from pte_trace.counted.rows import Rows
from tests import plain
from tests.builders import counts, histogram, record, snapshot
from tests.unit.test_snapshot import some_records


@st.composite
def readings(draw: st.DrawFn) -> list[list[VmaRow]]:
    """Of a few VMAs, over and over, each seen at a time of its own."""
    clock = count(1)
    found = draw(st.lists(st.lists(some_records, max_size=8), max_size=4))
    return [
        [replace(row, seen_ns=(now := next(clock)), named_ns=now) for row in reading]
        for reading in found
    ]


def kept(given: list[list[VmaRow]]) -> Rows:
    """In a ledger."""
    made = Ledger()
    for reading in given:
        made.add(Columns.of(reading))
    return Rows(made.columns())


def fields(rows: list[VmaRow]) -> list[tuple[object, ...]]:
    """All, also those that two rows need not have in common to be equal."""
    return sorted(
        (*row.key, row.name, row.changed_ns, row.named_ns, row.uid, repr(row)) for row in rows
    )


@settings(max_examples=80)
@given(taken=readings(), split=st.booleans())
def test_rows_are_those_of_the_plain_way(taken: list[list[VmaRow]], split: bool) -> None:
    vmas = plain.added(taken)
    assert fields(list(kept(taken))) == fields(vmas)
    made = snapshot(*kept(taken), split=split)
    assert fields(list(made.vmas)) == fields(plain.merged(vmas, split=split))


@settings(max_examples=30)
@given(taken=readings())
def test_two_vmas_of_one_hash_are_two(taken: list[list[VmaRow]]) -> None:
    """All have the same: whatever is found by it is compared."""

    def one_hash(keys: Iterable[Array]) -> Array:
        first, *_ = keys
        return np.zeros(len(first), np.uint64)

    with pytest.MonkeyPatch.context() as patch:
        for module in (arrays, ledger):
            patch.setattr(module, "mixed", one_hash)
        found = fields(list(kept(taken)))
    assert found == fields(plain.added(taken))


@given(
    keys=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=200),
)
def test_groups_are_those_of_a_dict(keys: list[tuple[int, int]]) -> None:
    one, other = (np.array(column) for column in zip(*keys, strict=True))
    groups = group(one, other)
    assert sorted(keys[first] for first in groups.firsts) == sorted(set(keys))
    numbers = np.arange(len(keys))
    by_key = {key: [n for n, each in enumerate(keys) if each == key] for key in set(keys)}
    added = sums(numbers, groups.of, len(groups.starts))
    assert {keys[first]: added[n] for n, first in enumerate(groups.firsts)} == {
        key: sum(members) for key, members in by_key.items()
    }
    assert {keys[row]: row for row in highest(groups, one)} == {
        key: members[-1] for key, members in by_key.items()
    }


def test_many_numbers_are_added_exactly() -> None:
    """More at a time than are gathered at once, and beyond what a float holds."""
    numbers = np.full((10_000, SIZE), 2**40 + 1, np.int64)
    (added,) = sums(numbers, np.zeros(10_000, np.int64), 1)
    assert set(added.tolist()) == {10_000 * (2**40 + 1)}


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint32])
def test_what_is_not_0_is_what_is_added(kind: type) -> None:
    """Of rows in more than one block, which do not lie side by side."""
    rows, of = 10_000, np.arange(10_000) % 7
    numbers: Array = np.zeros((rows, 6), kind)[:, ::2]
    numbers[::3, 1] = np.arange(len(numbers[::3]))
    numbers[-1] = 5
    added = sums(numbers, of, 7)
    assert added.tolist() == [numbers[of == group].sum(axis=0).tolist() for group in range(7)]


def test_it_is_found_once_for_mappings_and_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    plainly = arrays.Filled.of

    def of(numbers: Array) -> arrays.Filled:
        looked_at.append(id(numbers))
        return plainly(numbers)

    monkeypatch.setattr(arrays.Filled, "of", of)
    reading = by_vma(Columns.of(some_rows()))
    Ledger().add(reading)
    by_mapping(reading)
    assert looked_at.count(id(reading.numbers)) == 1
    assert looked_at.count(id(reading.times.log2)) == 1


@given(st.lists(st.integers(0, 50)))
def test_numbered_keys_are_those_there_are(keys: list[int]) -> None:
    found, of = numbered(np.array(keys, np.int64))
    assert found.tolist() == sorted(set(keys))
    assert found[of].tolist() == keys


@pytest.mark.parametrize("step", [1, 2**50, 0x9E3779B97F4A7C15])
def test_a_row_is_found_by_its_hash(step: int) -> None:
    """Also where all begin with the same bits, as whoever chooses addresses can have it."""
    hashes = np.arange(10_000, dtype=np.uint64) * np.uint64(step)
    rows = np.arange(10_000)
    found = ledger._ByHash()
    found.add(hashes[::2], rows[::2])
    assert found.find(hashes).tolist() == [row if row % 2 == 0 else -1 for row in range(10_000)]
    found.add(hashes[1::2], rows[1::2])
    assert found.find(hashes).tolist() == rows.tolist()


def test_one_below_the_other_keeps_names_and_times() -> None:
    rows = list(kept([[row] for row in some_rows()]))
    parts = [Columns.of(rows[:2]), Columns.none(), Columns.of(rows[2:])]
    assert list(Rows(concatenated(parts))) == rows


def some_rows() -> list[VmaRow]:
    return [
        record(pid=n, name=f"/{n % 2}", counts=counts(costs={"wp_copy": histogram(n)}))
        for n in range(1, 5)
    ]


def test_nothing_sorts_the_way_that_was_seen_to_be_wrong() -> None:
    """numpy's default sort, under emulation: see `pte_trace.counted.arrays`."""
    package = Path(pte_trace.__file__).parent
    for source in package.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            given = {each.arg for each in node.keywords}
            if node.func.attr in ("argsort", "sort_values"):
                assert "kind" in given, (source, node.lineno)
            if node.func.attr == "unique" and ast.unparse(node.func.value) == "np":
                assert "return_index" in given, (source, node.lineno)
