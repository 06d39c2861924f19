"""Bounded series that only rise, and always add up to all that was counted."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pte_trace.exporter.groups import OTHER, Group, Groups, group_of
from pte_trace.snapshot import VmaRow, total
from tests.builders import counts, record, snapshot

_ROW = snapshot(record()).vmas[0]


def vma(comm: str = "worker", name: str = "[anon]", *, pid: int = 100, faults: int = 1) -> VmaRow:
    counted = counts(faults={"other": faults})
    return replace(_ROW, comm=comm, name=name, pid=pid, counts=counted)


def faults(groups: Groups) -> dict[Group, int]:
    return {group: sum(each.write_faults) for group, each in groups.counts.items()}


@pytest.mark.parametrize(
    ("name", "label"),
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
def test_a_mapping_is_a_name_without_a_path(name: str, label: str) -> None:
    assert group_of(vma(name=name)).mapping == label


def test_the_pid_is_a_label_only_where_asked_for() -> None:
    assert group_of(vma(pid=7)).pid == ""
    assert group_of(vma(pid=7), by_pid=True).pid == "7"


def test_processes_of_one_name_are_one_group() -> None:
    groups = Groups(10)
    groups.add([vma(pid=1), vma(pid=2)])
    groups.add([vma(pid=1)])
    assert faults(groups) == {OTHER: 0, Group("worker", "anon", "[anon]"): 3}


def test_what_finds_no_room_is_other_and_counted() -> None:
    groups = Groups(0)
    groups.add([vma("a", faults=2), vma("b", faults=3)])
    assert faults(groups) == {OTHER: 5}
    assert groups.folded == 2


def test_half_of_the_groups_go_to_who_comes_first() -> None:
    groups = Groups(10)
    groups.add([vma("big", faults=1_000_000)])
    groups.add([vma(f"small{n}") for n in range(20)])
    assert len(groups.counts) - 1 == 5


def test_the_other_half_goes_to_who_has_a_share() -> None:
    groups = Groups(10)
    groups.add([vma(f"first{n}", faults=10) for n in range(5)])
    groups.add([vma("newcomer", faults=1)])
    assert Group("newcomer", "anon", "[anon]") not in groups.counts
    groups.add([vma("newcomer", faults=7)])
    assert faults(groups)[Group("newcomer", "anon", "[anon]")] == 7
    assert faults(groups)[OTHER] == 1


def a_month_of(groups: Groups) -> None:
    """Of a machine that is always as busy; shorter, for the test."""
    groups.add([vma(f"first{n}", faults=1) for n in range(groups.limit // 2)])
    for _ in range(2_000):
        groups.add([vma("first0", faults=1_000)])


def test_what_becomes_hot_finds_room_within_minutes_after_a_month() -> None:
    groups = Groups(10)
    a_month_of(groups)
    for _ in range(50):
        groups.add([vma("first0", faults=500), vma("hot", faults=500)])
    assert Group("hot", "anon", "[anon]") in groups.counts


def test_what_is_busy_while_nothing_else_is_does_not_use_up_the_room() -> None:
    groups = Groups(10)
    a_month_of(groups)
    for night in range(20):
        for _ in range(100):
            groups.add([vma(f"cron{night}", faults=5)])
    assert len(groups.counts) - 1 == 5


def test_the_busiest_come_first() -> None:
    groups = Groups(4)
    groups.add(
        [*(vma(f"idle{n}") for n in range(10)), vma("busy", faults=9), vma("hot", faults=99)]
    )
    assert {group.comm for group in groups.counts} == {"other", "hot", "busy"}


def test_a_group_is_folded_once_however_often_it_is_read() -> None:
    groups = Groups(0)
    for _ in range(3):
        groups.add([vma("a"), vma("b")])
    assert groups.folded == 2
    groups.add(vma(f"job{n}", faults=2) for n in range(2_000))
    assert groups.folded == 2_002


def test_a_process_that_calls_itself_other_is_not_lost() -> None:
    groups = Groups(10)
    groups.add([vma("other", "other")])
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
        groups.add(vma(comm, pid=pid, faults=number) for comm, pid, number in reading)
        sent += sum(number for _, _, number in reading)
        after = faults(groups)
        assert all(after[group] >= number for group, number in before.items())
        assert sum(after.values()) == sent
        assert total(groups.counts.values()) == groups.totals
        assert len(after) <= limit + 1
        before = after


def test_short_lived_processes_leave_nothing_behind() -> None:
    groups = Groups(50)

    def live(first: int, last: int) -> None:
        for pid in range(first, last, 100):
            groups.add(vma(f"job-{each}", pid=each) for each in range(pid, pid + 100))

    live(0, 1_000)
    tracemalloc.start()
    try:
        live(1_000, 2_000)
        before = in_use()
        live(2_000, 6_000)
        grown = in_use() - before
    finally:
        tracemalloc.stop()
    assert sum(faults(groups).values()) == 6_000
    assert grown < 10_000
