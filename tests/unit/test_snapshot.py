"""From records to rows: everything adds up, and what belongs together is one row."""

from __future__ import annotations

import weakref
from collections import defaultdict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pte_trace.counted.columns import Columns
from pte_trace.counted.counters import OUTCOMES, SIZE, WRITE_FAULTS
from pte_trace.counted.counts import NOTHING, UNMEASURED, Counts, total
from pte_trace.counted.ledger import Ledger
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.order import SORT_FIELDS
from pte_trace.counted.rows import Rows
from pte_trace.counted.snapshot import ReuseCost, Snapshot
from pte_trace.effort import Effort
from tests.builders import counts, histogram, record, snapshot

PAGE = 0x1000
ONE_FAULT = counts(faults={"wp_reuse": 1})


def pages(first: int, last: int) -> dict[str, int]:
    """The range of these pages, *last* not included."""
    return {"start": first * PAGE, "end": last * PAGE}


def ranges(snapshot: Snapshot) -> list[tuple[int, int]]:
    """The rows' ranges in pages, in order."""
    return sorted((vma.start // PAGE, vma.end // PAGE) for vma in snapshot.vmas)


numbers = st.integers(0, 1000)
some_histograms = st.sampled_from([UNMEASURED, histogram(5), histogram(0x300, 0x310, 1)])
some_counts = st.builds(
    Counts,
    numbers=st.tuples(*[numbers] * SIZE),
    costs=st.tuples(*[some_histograms] * len(OUTCOMES)),
)
some_records = st.builds(
    lambda first, length, **fields: record(**pages(first, first + length), **fields),
    first=st.integers(1, 12),
    length=st.integers(1, 6),
    pid=st.integers(1, 2),
    image=st.integers(1, 2),
    comm=st.sampled_from(["one", "two"]),
    name=st.sampled_from(["[anon]", "/bin/cat"]),
    perms=st.sampled_from(["r--p", "rw-p", "rw-s"]),
    seen_ns=st.integers(0, 50),
    born_ns=st.integers(0, 50),
    changed_ns=st.integers(0, 50),
    counts=some_counts,
)


@settings(max_examples=50)
@given(records=st.lists(some_records, max_size=12), split=st.booleans())
def test_mappings_add_up_to_processes_and_those_to_totals(
    records: list[VmaRow], split: bool
) -> None:
    made = snapshot(*records, split=split)
    rows: dict[tuple[int, str], list[Counts]] = defaultdict(list)
    for vma in made.vmas:
        rows[vma.pid, vma.comm].append(vma.counts)
    assert [(each.pid, each.comm) for each in made.processes] == list(rows)
    for process in made.processes:
        assert process.counts == total(rows[process.pid, process.comm])
    assert made.totals == total(process.counts for process in made.processes)
    assert made.totals == total(vma.counts for vma in made.vmas)
    assert made.totals == total(each.counts for each in records)


@settings(max_examples=50)
@given(
    records=st.lists(some_records, max_size=10, unique_by=lambda each: each.seen_ns),
    random=st.randoms(use_true_random=False),
)
def test_the_order_in_which_records_are_read_does_not_matter(
    records: list[VmaRow], random: Random
) -> None:
    shuffled = list(records)
    random.shuffle(shuffled)
    assert ranges(snapshot(*shuffled)) == ranges(snapshot(*records))


@settings(max_examples=50)
@given(records=st.lists(some_records, max_size=10))
def test_each_record_lies_within_a_row(records: list[VmaRow]) -> None:
    made = snapshot(*records)
    for each in records:
        assert any(
            vma.pid == each.pid
            and vma.name == each.name
            and vma.start <= each.start
            and each.end <= vma.end
            for vma in made.vmas
        )


def test_nothing_gives_an_empty_snapshot() -> None:
    made = snapshot()
    assert len(made.vmas) == 0
    assert made.processes == ()
    assert made.totals == NOTHING


@pytest.mark.parametrize(
    "parts",
    [
        [(10, 20), (20, 30)],
        [(20, 30), (10, 20)],
        [(10, 30), (15, 20)],
        [(15, 20), (10, 30)],
        [(10, 25), (20, 30)],
        [(10, 20), (20, 25), (25, 30)],
        [(10, 20), (25, 30), (20, 25)],
        [(10, 30), (10, 20), (20, 30), (12, 13)],
    ],
)
def test_what_mprotect_split_off_one_mapping_is_one_row(parts: list[tuple[int, int]]) -> None:
    records = [
        record(**pages(*part), seen_ns=10 + turn, counts=ONE_FAULT)
        for turn, part in enumerate(parts)
    ]
    made = snapshot(*records)
    assert ranges(made) == [(10, 30)]
    assert made.vmas[0].counts == counts(faults={"wp_reuse": len(parts)})


def test_split_keeps_a_row_for_each_vma() -> None:
    made = snapshot(record(**pages(10, 20)), record(**pages(20, 30)), split=True)
    assert ranges(made) == [(10, 20), (20, 30)]


def test_mappings_with_a_gap_between_them_stay_apart() -> None:
    made = snapshot(record(**pages(10, 20)), record(**pages(21, 30)))
    assert ranges(made) == [(10, 20), (21, 30)]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "[anon:JIT]"},
        {"kind": "shmem"},
        {"pid": 101},
        {"image": 1001},
        {"inode": 5},
        {"dev": 5},
        {"perms": "rw-s"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_is_not_the_same_stays_apart(other: dict[str, object]) -> None:
    made = snapshot(record(**pages(10, 20)), record(**pages(20, 30), **other))
    assert ranges(made) == [(10, 20), (20, 30)]


def test_a_change_of_protection_does_not_keep_parts_apart() -> None:
    made = snapshot(record(**pages(10, 20), perms="r--p"), record(**pages(20, 30), perms="rwxp"))
    assert ranges(made) == [(10, 30)]


def test_a_heap_that_grows_stays_one_row() -> None:
    heap = [
        record(**pages(10, end), kind="heap", name="[heap]", seen_ns=end) for end in (20, 30, 40)
    ]
    assert ranges(snapshot(*heap)) == [(10, 40)]


def test_a_range_mapped_after_the_others_were_seen_is_a_row_of_its_own() -> None:
    before = record(**pages(10, 20), seen_ns=10)
    beside = record(**pages(20, 30), born_ns=15, seen_ns=16)
    over = record(**pages(12, 18), born_ns=15, seen_ns=17)
    assert ranges(snapshot(before, beside)) == [(10, 20), (20, 30)]
    assert ranges(snapshot(before, over)) == [(10, 20), (12, 18)]


def test_a_range_mapped_before_the_others_were_seen_is_one_with_them() -> None:
    parts = [
        record(**pages(10, 20), born_ns=5, seen_ns=10),
        record(**pages(20, 30), born_ns=6, seen_ns=11),
    ]
    assert ranges(snapshot(*parts)) == [(10, 30)]


@pytest.mark.parametrize("ends", [(20, 20, 20), (20, 30, 40), (40, 30, 20), (20, 40, 30)])
def test_three_mappings_made_in_turn_at_one_address_are_three_rows(
    ends: tuple[int, int, int],
) -> None:
    made = snapshot(
        *(
            record(**pages(10, end), born_ns=100 * turn, seen_ns=100 * turn + 1, counts=ONE_FAULT)
            for turn, end in enumerate(ends)
        )
    )
    assert ranges(made) == sorted((10, end) for end in ends)
    assert {vma.counts for vma in made.vmas} == {ONE_FAULT}


def test_a_part_split_off_belongs_to_the_newest_mapping_at_its_address() -> None:
    made = snapshot(
        record(**pages(10, 20), seen_ns=10, counts=ONE_FAULT),
        record(**pages(10, 30), born_ns=20, seen_ns=21, counts=ONE_FAULT),
        record(**pages(12, 14), seen_ns=30, counts=ONE_FAULT),
    )
    faults = {vma.end // PAGE: vma.counts.sum(WRITE_FAULTS) for vma in made.vmas}
    assert faults == {20: 1, 30: 2}


def test_a_mapping_was_seen_when_its_first_part_was() -> None:
    made = snapshot(
        record(**pages(10, 20), seen_ns=10),
        record(**pages(12, 14), seen_ns=30),
        record(**pages(10, 30), born_ns=20, seen_ns=40),
    )
    assert ranges(made) == [(10, 20), (10, 30)]


def test_a_vma_that_spans_two_mappings_makes_them_one_as_the_kernel_did() -> None:
    made = snapshot(
        record(**pages(10, 20), seen_ns=10),
        record(**pages(20, 30), born_ns=15, seen_ns=16),
        record(**pages(10, 30), seen_ns=20),
    )
    assert ranges(made) == [(10, 30)]


def test_permissions_are_those_after_the_latest_change() -> None:
    made = snapshot(
        record(**pages(10, 20), perms="rw-p", changed_ns=50, seen_ns=10),
        record(**pages(20, 30), perms="r--p", changed_ns=60, seen_ns=11),
        record(**pages(30, 40), perms="r-xp", changed_ns=40, seen_ns=12),
    )
    assert made.vmas[0].perms == "r--p"


def test_without_any_change_permissions_are_those_of_the_vma_seen_last() -> None:
    made = snapshot(
        record(**pages(10, 20), perms="rw-p", seen_ns=11),
        record(**pages(20, 30), perms="r--p", seen_ns=10),
    )
    assert made.vmas[0].perms == "rw-p"


def test_a_process_is_called_by_its_latest_name() -> None:
    made = snapshot(
        record(**pages(10, 20), comm="worker", seen_ns=20),
        record(**pages(30, 40), comm="python3", seen_ns=10),
    )
    assert [process.comm for process in made.processes] == ["worker"]
    assert {vma.comm for vma in made.vmas} == {"worker"}


def test_two_programs_that_one_process_executed_are_two() -> None:
    made = snapshot(
        record(image=1, comm="sh", counts=ONE_FAULT),
        record(image=2, comm="cat", counts=ONE_FAULT + ONE_FAULT),
    )
    assert {(each.pid, each.comm, each.counts.avoidable) for each in made.processes} == {
        (100, "sh", 1),
        (100, "cat", 2),
    }


def test_a_program_that_executed_itself_is_one() -> None:
    """Nothing in a row of a mapping would say whose it is."""
    made = snapshot(
        record(image=1, comm="sh", counts=ONE_FAULT), record(image=2, comm="sh", counts=ONE_FAULT)
    )
    assert [(each.pid, each.comm, each.counts.avoidable) for each in made.processes] == [
        (100, "sh", 2)
    ]


def timed(*durations_ns: int) -> Counts:
    return counts(costs={"wp_reuse": histogram(*durations_ns)})


class TestReuseCost:
    def test_faults_timed_here_come_first(self) -> None:
        records = record(pid=1, counts=timed(100)), record(pid=2, counts=timed(200, 300))
        assert snapshot(*records, calibration=ReuseCost(5.0, "elsewhere")).reuse_cost == ReuseCost(
            200.0, "3 wp_reuse faults timed here"
        )

    def test_without_any_the_calibration_stands_in(self) -> None:
        other = counts(faults={"wp_reuse": 9}, costs={"wp_copy": histogram(7)})
        made = snapshot(record(counts=other), calibration=ReuseCost(1050.0, "elsewhere"))
        assert made.reuse_cost == ReuseCost(1050.0, "elsewhere")

    def test_without_either_it_is_not_known(self) -> None:
        assert snapshot(record()).reuse_cost is None

    def test_one_fault_is_a_source_too(self) -> None:
        made = snapshot(record(counts=timed(100)))
        assert made.reuse_cost == ReuseCost(100.0, "1 wp_reuse fault timed here")


class TestSecondsSaved:
    made_3 = counts(writable={"mprotect": 2, "uffd_unprotect": 1})

    def test_each_pte_made_writable_saves_at_most_one_fault(self) -> None:
        made = snapshot(record(counts=self.made_3 + timed(1000, 2000)))
        assert made.seconds_saved(made.totals) == pytest.approx(4.5e-6)

    def test_each_row_has_its_share_at_the_cost_of_all(self) -> None:
        made = snapshot(
            record(pid=1, counts=self.made_3),
            record(pid=2, counts=self.made_3 + self.made_3 + timed(1000)),
        )
        saved = [made.seconds_saved(process.counts) for process in made.processes]
        assert saved == pytest.approx([3e-6, 6e-6])

    def test_nothing_made_writable_saves_nothing(self) -> None:
        assert snapshot(calibration=ReuseCost(1000.0, "elsewhere")).seconds_saved(counts()) == 0

    def test_it_is_not_known_without_a_cost(self) -> None:
        assert snapshot(record(counts=self.made_3)).seconds_saved(self.made_3) is None

    def test_it_is_not_known_where_nothing_was_inspected(self) -> None:
        made = snapshot(record(counts=timed(1000)), effort=Effort(inspect=0))
        assert made.seconds_saved(made.totals) is None

    def test_the_calibration_does_where_none_is_timed(self) -> None:
        made = snapshot(
            record(counts=self.made_3),
            effort=Effort(costs=0),
            calibration=ReuseCost(1000.0, "elsewhere"),
        )
        assert made.seconds_saved(made.totals) == pytest.approx(3e-6)


def test_events_that_were_not_attributed_count_in_the_totals() -> None:
    lost = record(pid=0, image=0, start=0, end=0, kind="other", name="[not attributed]")
    assert snapshot(lost, record()).totals == counts(faults={"other": 2})


def add(ledger: Ledger, records: list[VmaRow]) -> None:
    ledger.add(Columns.of(records))


class TestLedger:
    def test_readings_of_one_vma_add_up(self) -> None:
        ledger = Ledger()
        for reading in range(3):
            add(ledger, [record(seen_ns=10 + reading, counts=ONE_FAULT)])
        (kept,) = Rows(ledger.columns())
        assert kept.counts == counts(faults={"wp_reuse": 3})
        assert kept.seen_ns == 10

    def test_one_reading_may_hold_a_vma_twice(self) -> None:
        ledger = Ledger()
        add(ledger, [record(counts=ONE_FAULT), record(counts=ONE_FAULT)])
        assert [kept.counts.avoidable for kept in Rows(ledger.columns())] == [2]

    @pytest.mark.parametrize(
        "other",
        [
            {"pid": 101},
            {"image": 1001},
            {"start": 0x11000},
            {"end": 0x21000},
            {"inode": 1},
            {"dev": 1},
            {"perms": "rw-s"},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_vmas_that_differ_stay_apart(self, other: dict[str, object]) -> None:
        ledger = Ledger()
        add(ledger, [record()])
        add(ledger, [record(**other)])
        assert len(Rows(ledger.columns())) == 2

    def test_protection_may_change_between_two_readings(self) -> None:
        ledger = Ledger()
        add(ledger, [record(perms="r--p", changed_ns=11)])
        add(ledger, [record(perms="rw-p", changed_ns=12)])
        assert [kept.perms for kept in Rows(ledger.columns())] == ["rw-p"]

    def test_a_reading_without_a_change_does_not_forget_the_latest(self) -> None:
        ledger = Ledger()
        latest = record(**pages(10, 20), perms="r--p", changed_ns=60)
        earlier = record(**pages(20, 30), perms="rwxp", changed_ns=50)
        add(ledger, [latest, earlier])
        add(ledger, [record(**pages(10, 20), perms="r--p", changed_ns=0, seen_ns=70)])
        (row,) = snapshot(*Rows(ledger.columns())).vmas
        assert row.perms == "r--p"

    def test_a_new_name_of_a_process_is_that_of_all_its_rows(self) -> None:
        ledger = Ledger()
        add(ledger, [record(**pages(10, 20), comm="python3", seen_ns=10)])
        add(ledger, [record(**pages(30, 40), comm="python3", seen_ns=20)])
        add(ledger, [record(**pages(10, 20), comm="worker", seen_ns=30)])
        assert {vma.comm for vma in snapshot(*Rows(ledger.columns())).vmas} == {"worker"}

    def test_a_birth_once_known_is_not_forgotten(self) -> None:
        """The kernel keeps the latest births only; a later reading may not know of it any more."""
        ledger = Ledger()
        add(ledger, [record(**pages(10, 20), seen_ns=10)])
        add(ledger, [record(**pages(10, 30), born_ns=20, seen_ns=21)])
        add(ledger, [record(**pages(10, 30), born_ns=0, seen_ns=31)])
        assert ranges(snapshot(*Rows(ledger.columns()))) == [(10, 20), (10, 30)]

    @settings(max_examples=50)
    @given(records=st.lists(some_records, max_size=12))
    def test_nothing_is_lost(self, records: list[VmaRow]) -> None:
        ledger = Ledger()
        for each in records:
            add(ledger, [each])
        assert snapshot(*Rows(ledger.columns())).totals == total(each.counts for each in records)


def row(**fields: object) -> VmaRow:
    plain: dict[str, object] = {
        "pid": 1,
        "comm": "a",
        "start": 0,
        "end": PAGE,
        "perms": "rw-p",
        "kind": "anon",
        "name": "a",
        "counts": NOTHING,
    }
    return VmaRow(**{**plain, **fields})  # type: ignore[arg-type]


LARGEST_FIRST = {
    "faults": counts(faults={"other": 5, "error": 5}),
    "avoidable": counts(faults={"wp_reuse": 1}),
    "changes": counts(changes={"mprotect": 1, "uffd_wp": 1}),
    "ptes": counts(ptes={"numa_hint": 512}),
    "writable": counts(writable={"mprotect": 1, "uffd_unprotect": 1}),
    "readonly": counts(readonly={"clean": 1, "shared": 1}),
}


@pytest.mark.parametrize(("field", "most"), LARGEST_FIRST.items())
def test_counts_are_ordered_largest_first(field: str, most: Counts) -> None:
    rows = [row(start=start, counts=each) for start, each in enumerate([NOTHING, most, NOTHING])]
    assert [each.start for each in Rows(Columns.of(rows)).ordered(field)] == [1, 0, 2]


@pytest.mark.parametrize(
    ("field", "values"), [("pid", [3, 1, 2]), ("comm", "cab"), ("name", "cab")]
)
def test_names_and_pids_are_ordered_smallest_first(field: str, values: list[object]) -> None:
    rows = [row(**{field: value}) for value in values]
    ordered = Rows(Columns.of(rows)).ordered(field)
    assert [getattr(each, field) for each in ordered] == sorted(values)  # type: ignore[type-var]


def test_every_field_to_sort_by_is_tested_here() -> None:
    assert set(SORT_FIELDS) == set(LARGEST_FIRST) | {"pid", "comm", "name"}


@pytest.mark.parametrize("field", SORT_FIELDS)
def test_equal_rows_are_in_the_order_of_processes_and_addresses(field: str) -> None:
    rows = snapshot(*(row(start=start) for start in (30, 10, 20)), split=True).vmas
    assert [each.start for each in rows.ordered(field)] == [10, 20, 30]


def test_no_rows_keep_no_memory() -> None:
    """The exporter keeps a snapshot without its rows, while it makes the next one."""
    made = snapshot(record()).vmas
    numbers = weakref.ref(made.columns.numbers)
    nothing = made.none()
    del made
    assert not len(nothing)
    assert numbers() is None
