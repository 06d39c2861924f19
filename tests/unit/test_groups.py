"""Bounded series that only rise, and always add up to all that was counted."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pte_trace.counted.columns import Columns
from pte_trace.counted.counters import WRITE_FAULTS
from pte_trace.counted.counts import total
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.rows import Rows
from pte_trace.exporter.group import OTHER, Group, mapping_label
from pte_trace.exporter.groups import Groups
from pte_trace.views.cut import LONGEST
from tests.builders import counts, record, snapshot

_ROW = snapshot(record()).vmas[0]


def vma(
    comm: str = "worker",
    name: str = "[anon]",
    *,
    pid: int | None = None,
    uid: int = 0,
    faults: int = 1,
) -> VmaRow:
    """Processes of other names have other PIDs, where that is not said."""
    counted = counts(faults={"other": faults})
    pid = crc32(comm.encode()) >> 8 if pid is None else pid
    return replace(_ROW, comm=comm, name=name, pid=pid, uid=uid, counts=counted)


def add(groups: Groups, rows: Iterable[VmaRow]) -> None:
    """One reading, that brought *rows*."""
    groups.add(Columns.of(rows))


def faults(groups: Groups) -> dict[Group, int]:
    counted = Rows(groups.counted)
    return {
        group: row.counts.sum(WRITE_FAULTS)
        for group, row in zip(groups.names, counted, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "libc.so.6"),
        ("/tmp/gone (deleted)", "gone"),
        ("/memfd:jit (deleted)", "memfd:jit"),
        ("[heap]", "[heap]"),
        ("[anon:arena/3]", "[anon:arena/3]"),
        ("[inode 4711]", "[file]"),
        ("/", "/"),
        ("/srv/\x1b[31mred\n", "\\x1b[31mred\\n"),
    ],
)
def test_a_mapping_is_a_name_without_a_path(name: str, shown: str) -> None:
    assert mapping_label(name) == shown


def test_a_long_name_is_cut() -> None:
    groups = Groups(10)
    add(groups, [vma("\x01" * 15, "[anon:" + "\x02" * 200 + "]")])
    *_, group = groups.names
    assert len(group.mapping.encode()) == LONGEST
    assert "…" in group.mapping


@pytest.mark.parametrize(("by_pid", "shown"), [(False, ""), (True, "7")])
def test_the_pid_is_a_label_only_where_asked_for(by_pid: bool, shown: str) -> None:
    groups = Groups(10, by_pid=by_pid)
    add(groups, [vma(pid=7)])
    assert Group("worker", "anon", "[anon]", shown) in groups.names


def test_processes_of_one_name_are_one_group() -> None:
    groups = Groups(10)
    add(groups, [vma(pid=1), vma(pid=2)])
    add(groups, [vma(pid=1)])
    assert faults(groups) == {OTHER: 0, Group("worker", "anon", "[anon]"): 3}


def test_what_finds_no_room_is_other_and_counted() -> None:
    groups = Groups(0)
    add(groups, [vma("a", faults=2), vma("b", faults=3)])
    assert faults(groups) == {OTHER: 5}
    assert groups.folded == 2


def test_half_of_the_groups_go_to_who_comes_first() -> None:
    groups = Groups(10)
    add(groups, [vma("big", faults=1_000_000)])
    add(groups, [vma(f"small{n}") for n in range(20)])
    assert len(groups.names) - 1 == 5


def test_the_other_half_goes_to_who_has_a_share() -> None:
    groups = Groups(10)
    add(groups, [vma(f"first{n}", faults=10) for n in range(5)])
    add(groups, [vma("newcomer", faults=1)])
    assert Group("newcomer", "anon", "[anon]") not in groups.names
    add(groups, [vma("newcomer", faults=7)])
    assert faults(groups)[Group("newcomer", "anon", "[anon]")] == 7
    assert faults(groups)[OTHER] == 1


def a_month_of(groups: Groups) -> None:
    """Of a machine that is always as busy; shorter, for the test."""
    add(groups, [vma(f"first{n}", faults=1) for n in range(groups.limit // 2)])
    for _ in range(2_000):
        add(groups, [vma("first0", faults=1_000)])


def test_what_becomes_hot_finds_room_within_minutes_after_a_month() -> None:
    groups = Groups(10)
    a_month_of(groups)
    for _ in range(50):
        add(groups, [vma("first0", faults=500), vma("hot", faults=500)])
    assert Group("hot", "anon", "[anon]") in groups.names


def test_what_is_busy_while_nothing_else_is_does_not_use_up_the_room() -> None:
    groups = Groups(10)
    a_month_of(groups)
    for night in range(20):
        for _ in range(100):
            add(groups, [vma(f"cron{night}", faults=5)])
    assert len(groups.names) - 1 == 5


def test_the_busiest_come_first() -> None:
    groups = Groups(4)
    add(
        groups,
        [*(vma(f"idle{n}") for n in range(10)), vma("busy", faults=9), vma("hot", faults=99)],
    )
    assert {group.comm for group in groups.names} == {"other", "hot", "busy"}


def test_a_group_is_folded_once_however_often_it_is_read() -> None:
    groups = Groups(0)
    for _ in range(3):
        add(groups, [vma("a"), vma("b")])
    assert groups.folded == 2
    add(groups, [vma(f"job{n}", faults=2) for n in range(2_000)])
    assert groups.folded == 2_002


def test_a_process_that_calls_itself_other_is_not_lost() -> None:
    groups = Groups(10)
    add(groups, [vma("other", "other")])
    assert sum(faults(groups).values()) == 1


def in_use() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


_READINGS = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcdefghij"), st.integers(1, 5), st.integers(0, 1000)),
        max_size=8,
    ),
    max_size=12,
)


@given(readings=_READINGS, limit=st.integers(0, 6), by_pid=st.booleans())
def test_no_count_falls_and_none_is_lost(
    readings: list[list[tuple[str, int, int]]], limit: int, by_pid: bool
) -> None:
    groups = Groups(limit, by_pid=by_pid)
    before = faults(groups)
    sent = 0
    for reading in readings:
        add(groups, [vma(comm, pid=pid, faults=number) for comm, pid, number in reading])
        sent += sum(number for _, _, number in reading)
        after = faults(groups)
        assert all(after[group] >= number for group, number in before.items())
        assert sum(after.values()) == sent
        assert total(row.counts for row in Rows(groups.counted)) == groups.totals
        assert len(after) <= limit + 1
        before = after


def test_short_lived_processes_leave_nothing_behind() -> None:
    groups = Groups(50)
    # Made before: numpy keeps some of what it makes of single rows. Each is forgotten once added.
    readings = [
        Columns.of(vma(f"job-{each}", pid=each) for each in range(pid, pid + 100))
        for pid in reversed(range(0, 36_000, 100))
    ]
    grown = []
    tracemalloc.start()
    try:
        before = 0
        for number in range(1, len(readings) + 1):
            groups.add(readings.pop())
            if number % 80 == 0:
                grown.append(in_use() - before)
                before = in_use()
    finally:
        tracemalloc.stop()
    assert sum(faults(groups).values()) == 36_000
    # As long as the first ones are remembered it does grow; what leaks leaks each time.
    assert min(grown[1:]) < 10_000


@pytest.mark.parametrize(
    ("rows", "most"),
    [
        ([vma(f"name{n}", pid=1, uid=1000) for n in range(400)], 25),
        ([vma("one", f"[anon:{n}]", pid=n, uid=n) for n in range(400)], 25),
        ([vma(f"name{n}", pid=n, uid=1000) for n in range(200)], 100),
        ([vma(f"name{n}", pid=n, uid=0) for n in range(200)], 150),
    ],
    ids=["a process", "a name", "a user", "root"],
)
def test_nobody_takes_more_than_a_part_of_all_groups(rows: list[VmaRow], most: int) -> None:
    groups = Groups(200)
    for _ in range(5):
        add(groups, rows)
    assert len(groups.names) - 1 == most
    assert sum(faults(groups).values()) == 5 * len(rows)
    add(groups, [vma("newcomer", pid=9, uid=1001, faults=1_000_000)])
    assert Group("newcomer", "anon", "[anon]") in groups.names


def in_cgroup(path: str, row: VmaRow) -> VmaRow:
    return replace(row, cgroup=path)


def test_by_cgroup_one_program_in_two_units_is_two_groups_that_add_up() -> None:
    rows = [in_cgroup(f"/system.slice/{unit}.service", vma(faults=3)) for unit in ("a", "b")]
    together, apart = Groups(10), Groups(10, by_cgroup=True)
    for groups in (together, apart):
        add(groups, rows)
    assert faults(together) == {OTHER: 0, Group("worker", "anon", "[anon]"): 6}
    assert faults(apart) == {
        OTHER: 0,
        **{
            Group(
                *("worker", "anon", "[anon]"),
                cgroup=f"/system.slice/{unit}.service",
                unit=f"{unit}.service",
            ): 3
            for unit in ("a", "b")
        },
    }


def test_ten_thousand_dead_cgroups_are_no_more_series_than_the_limit() -> None:
    """A unit that ends within an interval, over and over: each time another container."""
    groups = Groups(40, by_cgroup=True)
    for number in range(100):
        gone = [
            in_cgroup(f"/docker/{number * 100 + each:064x}", vma(f"job-{each % 3}"))
            for each in range(100)
        ]
        add(groups, gone)
    assert len(groups.names) <= 1 + 40
    assert sum(faults(groups).values()) == 10_000


def test_no_cgroup_has_more_than_its_part() -> None:
    groups = Groups(40, by_cgroup=True)
    add(groups, [in_cgroup("/one", vma(f"w{number}")) for number in range(30)])
    assert len(groups.names) == 1 + 40 // 8
    add(groups, [in_cgroup("/two", vma("w"))])
    assert any(name.cgroup == "/two" for name in groups.names)


def test_a_hostile_cgroup_is_a_label_of_a_stated_length() -> None:
    path = "/" + "/".join(["\n\x1b[2J" + "ü" * 120] * 3)
    groups = Groups(40, by_cgroup=True)
    add(groups, [in_cgroup(path, vma())])
    (_, name) = groups.names
    assert len(name.cgroup.encode()) <= 512
    assert name.cgroup.isprintable()
