"""The JSON document is schema 1 of the design, key by key; CSV has the same rows."""

from __future__ import annotations

import csv
import json
from io import StringIO
from typing import Any

import pytest

from pte_trace.counted.counters import OUTCOMES, PROTECTED_BY
from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.counted.packed import BUCKETS
from pte_trace.counted.snapshot import Health, Kernel, ReuseCost, Snapshot
from pte_trace.effort import Effort
from pte_trace.host import plan
from pte_trace.views.document import document, write_csv, write_json
from pte_trace.views.printable import printable
from tests.builders import counts, histogram, host_without, record, snapshot

NOWHERE = dict.fromkeys(("cgroup", "unit", "container", "pod"))


def written(snapshot: Snapshot) -> str:
    stream = StringIO()
    write_json(snapshot, stream)
    return stream.getvalue()


def csv_rows(*snapshots: Snapshot) -> list[dict[str, str]]:
    """What a reader of CSV gets of the intervals in turn."""
    stream = StringIO(newline="")
    for number, each in enumerate(snapshots):
        write_csv(each, stream, header=number == 0)
    stream.seek(0)
    return list(csv.DictReader(stream))


UNTIMED = {"count": 0, "sum": 0, "log2": []}
UNPROTECTED = dict.fromkeys(PROTECTED_BY.names, 0)


def some_row(**of: Any) -> dict[str, Any]:
    """SOME_COUNTS as JSON's ROW."""
    return {
        "protection_changes": {"mprotect": 2, "numa_hint": 0, "uffd_wp": 0, "uffd_unprotect": 1},
        "ptes_changed": 1040,
        "ptes_inspected": 850,
        "ptes_made_writable": 720,
        "ptes_left_readonly": {"clean": 100, "soft_dirty": 20, "uffd_wp": 7, "shared": 3},
        "ptes_not_inspected": {"huge": 512, "limit": 1},
        "pmds_made_writable": 2,
        "pmds_left_readonly": {"hugetlb": 0, "uffd_wp": 0, "soft_dirty": 0, "huge": 0, "shared": 1},
        "pmds_split": 6,
        "write_faults": {
            "wp_reuse": 3,
            "wp_copy": 0,
            "wp_shared": 0,
            "wp_uffd": 0,
            "wp_tracked": 0,
            "uffd_missing": 0,
            "other": 5,
            "error": 0,
        },
        "wp_protected_by": {
            "wp_reuse": {**UNPROTECTED, "unknown": 1, "mprotect": 2},
            "wp_copy": UNPROTECTED,
        },
        "write_faults_origin": {"user": 5, "kernel": 2, "remote": 1},
        "ptes_protected_by_fork": 29,
        "pmds_protected_by_fork": 4,
        "fault_ns": {
            "wp_reuse": {"count": 3, "sum": 9, "log2": [0, 2, 1]},
            "wp_copy": UNTIMED,
            "wp_shared": UNTIMED,
            "wp_uffd": UNTIMED,
            "wp_tracked": UNTIMED,
            "uffd_missing": UNTIMED,
            "other": {"count": 1, "sum": 1, "log2": [1]},
            "error": UNTIMED,
        },
        **of,
    }


SOME_COUNTS = counts(
    changes={"mprotect": 2, "uffd_unprotect": 1},
    ptes={"mprotect": 1024, "uffd_unprotect": 16},
    faults={"wp_reuse": 3, "other": 5},
    writable={"mprotect": 704, "uffd_unprotect": 16},
    readonly={"clean": 100, "soft_dirty": 20, "uffd_wp": 7, "shared": 3},
    omitted={"huge": 512, "limit": 1},
    huge_writable={"mprotect": 2},
    huge_readonly={"shared": 1},
    split=6,
    protected={"wp_reuse": {"unknown": 1, "mprotect": 2}},
    origin={"user": 5, "kernel": 2, "remote": 1},
    forked=29,
    huge_forked=4,
    costs={"wp_reuse": histogram(2, 3, 4), "other": histogram(1)},
)


def test_the_document_is_schema_1() -> None:
    made = snapshot(
        record(pid=7, comm="gc", start=0x7F00_0000_0000, end=0x7F00_0001_0000, counts=SOME_COUNTS),
        kernel=Kernel("6.12.9-amd64", True),
        hooks=plan.make(host_without("change_pte_range")).attachments,
        duration_s=1.23456789,
        health=Health(1, 2, 0.25, paths_full=3, timings_full=4),
    )
    assert document(made) == {
        "schema": 1,
        "kernel": {"release": "6.12.9-amd64", "optimization": True},
        "hooks": {
            "change_pte_range": {
                "attached": "change_protection",
                "how": "fentry",
                "degraded": "change_pte_range cannot have a trampoline here (inlined, more"
                " parameters than that takes, or a kernel that may be preempted);"
                " using its caller change_protection, and page tables are looked for from the top.",
            },
            "change_protection": {
                "attached": "change_protection",
                "how": "fentry",
                "degraded": None,
            },
            "do_wp_page": {"attached": "do_wp_page", "how": "fentry", "degraded": None},
            "handle_mm_fault": {"attached": "handle_mm_fault", "how": "fentry", "degraded": None},
            "do_huge_pmd_wp_page": {
                "attached": "do_huge_pmd_wp_page",
                "how": "fentry",
                "degraded": None,
            },
            "pmdp_set_access_flags": {
                "attached": "pmdp_set_access_flags",
                "how": "fentry",
                "degraded": None,
            },
            "__split_huge_pmd": {"attached": "__split_huge_pmd", "how": "fentry", "degraded": None},
            "hugetlb_fault": {"attached": "hugetlb_fault", "how": "fentry", "degraded": None},
            "handle_userfault": {"attached": "handle_userfault", "how": "fentry", "degraded": None},
            "numa_migrate_check": {
                "attached": "numa_migrate_check",
                "how": "fentry",
                "degraded": None,
            },
            "migrate_misplaced_folio_prepare": {
                "attached": "migrate_misplaced_folio_prepare",
                "how": "fentry",
                "degraded": None,
            },
            "copy_page_range": {"attached": "copy_page_range", "how": "fentry", "degraded": None},
            "mmap_region": {"attached": "mmap_region", "how": "fentry", "degraded": None},
        },
        "duration_s": 1.234568,
        "totals": some_row(),
        "processes": [some_row(pid=7, comm="gc", **NOWHERE)],
        "vmas": [
            some_row(
                pid=7,
                comm="gc",
                start="0x7f0000000000",
                end="0x7f0000010000",
                perms="rw-p",
                kind="anon",
                name="[anon]",
            )
        ],
        "health": {
            "map_full": 1,
            "missed_runs": 2,
            "probe_seconds": 0.25,
            "names_full": 3,
            "timings_full": 4,
            "ptes_not_inspected": {"huge": 512, "limit": 1},
        },
        "savings": {
            "efficacy": 722 / 724,
            "seconds_saved_at_most": 722 * 3e-9,
            "estimated_from": "3 wp_reuse faults timed here",
            "avoidable_faults": 2,
            "reuse_fault_ns": 3.0,
        },
        "stacks": None,
    }


def test_keys_are_in_the_designs_order() -> None:
    assert list(document(snapshot())) == [
        "schema",
        "kernel",
        "hooks",
        "duration_s",
        "totals",
        "processes",
        "vmas",
        "health",
        "savings",
        "stacks",
    ]


def test_what_could_not_be_found_out_is_null() -> None:
    made = document(snapshot(kernel=Kernel("unknown", None)))
    assert made["kernel"]["optimization"] is None
    assert made["health"]["probe_seconds"] is None


def every_row(made: Snapshot) -> list[dict[str, Any]]:
    shown = document(made)
    return [shown["totals"], *shown["processes"], *shown["vmas"]]


def test_what_was_not_inspected_is_null() -> None:
    made = snapshot(record(counts=counts(ptes={"mprotect": 9})), effort=Effort(inspect=0))
    for row in every_row(made):
        assert row["ptes_changed"] == 9
        assert row["ptes_inspected"] is None
        assert row["ptes_made_writable"] is None
        assert row["ptes_left_readonly"] == dict.fromkeys(
            ("clean", "soft_dirty", "uffd_wp", "shared")
        )
        assert row["fault_ns"]["wp_reuse"] == UNTIMED
    assert document(made)["health"]["ptes_not_inspected"] == {"huge": None, "limit": None}


def test_savings_that_are_not_known_are_null() -> None:
    some = record(counts=counts(faults={"wp_reuse": 1}, writable={"mprotect": 3}))
    assert document(snapshot(some))["savings"] == {
        "efficacy": 0.75,
        "seconds_saved_at_most": None,
        "estimated_from": None,
        "avoidable_faults": 1,
        "reuse_fault_ns": None,
    }
    made = snapshot(some, effort=Effort(inspect=0), calibration=ReuseCost(1000.0, "elsewhere"))
    assert document(made)["savings"] == {
        "efficacy": None,
        "seconds_saved_at_most": None,
        "estimated_from": None,
        "avoidable_faults": 1,
        "reuse_fault_ns": 1000.0,
    }


def test_what_was_not_timed_is_null() -> None:
    made = snapshot(record(counts=counts(faults={"wp_reuse": 9})), effort=Effort(costs=0))
    for row in every_row(made):
        assert row["write_faults"]["wp_reuse"] == 9
        assert row["fault_ns"] == dict.fromkeys(OUTCOMES)
        assert row["ptes_inspected"] == row["ptes_made_writable"] == 0


@pytest.mark.parametrize("effort", [Effort(inspect=1), Effort(costs=1000)])
def test_what_was_looked_at_in_part_is_a_number(effort: Effort) -> None:
    made = snapshot(record(counts=SOME_COUNTS), effort=effort)
    assert document(made)["totals"] == some_row()


@pytest.mark.parametrize(
    ("durations", "log2"),
    [
        ((), []),
        ((1,), [1]),
        ((8,), [0, 0, 0, 1]),
        ((1, 9, 8), [1, 0, 0, 2]),
        ((2**40,), [0] * (BUCKETS - 1) + [1]),
    ],
)
def test_a_histogram_ends_with_its_last_fault(durations: tuple[int, ...], log2: list[int]) -> None:
    made = snapshot(record(counts=counts(costs={"wp_copy": histogram(*durations)})))
    assert document(made)["totals"]["fault_ns"]["wp_copy"] == {
        "count": len(durations),
        "sum": sum(durations),
        "log2": log2,
    }


def test_an_empty_snapshot_has_totals_and_no_rows() -> None:
    made = document(snapshot())
    assert made["vmas"] == made["processes"] == []
    assert made["totals"]["ptes_changed"] == 0
    assert set(made["totals"]["write_faults"].values()) == {0}


@pytest.mark.parametrize("name", ["/a\nb", 'quote"', "ünï", "/bad\\xff", "[red]"])
def test_one_document_is_one_line_and_comes_back_as_it_was(name: str) -> None:
    made = snapshot(record(name=name, comm=name, kind="file", inode=1))
    text = written(made)
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert json.loads(text) == document(made)


def test_several_documents_are_a_stream_of_lines() -> None:
    stream = StringIO()
    for duration in (1.0, 2.0):
        write_json(snapshot(duration_s=duration), stream)
    lines = stream.getvalue().splitlines()
    assert [json.loads(line)["duration_s"] for line in lines] == [1.0, 2.0]


def test_csv_has_a_column_for_each_count() -> None:
    stream = StringIO(newline="")
    write_csv(snapshot(), stream)
    stream.seek(0)
    (columns,) = csv.reader(stream)
    assert columns == [
        *("pid", "comm", "start", "end", "perms", "kind", "name"),
        "protection_changes_mprotect",
        "protection_changes_numa_hint",
        "protection_changes_uffd_wp",
        "protection_changes_uffd_unprotect",
        *("ptes_changed", "ptes_inspected", "ptes_made_writable"),
        "ptes_left_readonly_clean",
        "ptes_left_readonly_soft_dirty",
        "ptes_left_readonly_uffd_wp",
        "ptes_left_readonly_shared",
        *("ptes_not_inspected_huge", "ptes_not_inspected_limit"),
        "pmds_made_writable",
        "pmds_left_readonly_hugetlb",
        "pmds_left_readonly_uffd_wp",
        "pmds_left_readonly_soft_dirty",
        "pmds_left_readonly_huge",
        "pmds_left_readonly_shared",
        "pmds_split",
        "write_faults_wp_reuse",
        "write_faults_wp_copy",
        "write_faults_wp_shared",
        "write_faults_wp_uffd",
        "write_faults_wp_tracked",
        "write_faults_uffd_missing",
        "write_faults_other",
        "write_faults_error",
        *(f"wp_protected_by_wp_reuse_{cause}" for cause in PROTECTED_BY.names),
        *(f"wp_protected_by_wp_copy_{cause}" for cause in PROTECTED_BY.names),
        *(f"write_faults_origin_{origin}" for origin in ("user", "kernel", "remote")),
        *("ptes_protected_by_fork", "pmds_protected_by_fork"),
        *("fault_ns_wp_reuse_count", "fault_ns_wp_reuse_sum"),
        *("fault_ns_wp_copy_count", "fault_ns_wp_copy_sum"),
        *("fault_ns_wp_shared_count", "fault_ns_wp_shared_sum"),
        *("fault_ns_wp_uffd_count", "fault_ns_wp_uffd_sum"),
        *("fault_ns_wp_tracked_count", "fault_ns_wp_tracked_sum"),
        *("fault_ns_uffd_missing_count", "fault_ns_uffd_missing_sum"),
        *("fault_ns_other_count", "fault_ns_other_sum"),
        *("fault_ns_error_count", "fault_ns_error_sum"),
        *("efficacy", "seconds_saved_at_most", "estimated_from"),
    ]


def test_csv_has_a_line_for_each_mapping() -> None:
    (row,) = csv_rows(snapshot(record(pid=7, comm="gc", counts=SOME_COUNTS)))
    assert row == {
        "pid": "7",
        "comm": "gc",
        "start": "0x10000",
        "end": "0x20000",
        "perms": "rw-p",
        "kind": "anon",
        "name": "[anon]",
        "protection_changes_mprotect": "2",
        "protection_changes_numa_hint": "0",
        "protection_changes_uffd_wp": "0",
        "protection_changes_uffd_unprotect": "1",
        "ptes_changed": "1040",
        "ptes_inspected": "850",
        "ptes_made_writable": "720",
        "ptes_left_readonly_clean": "100",
        "ptes_left_readonly_soft_dirty": "20",
        "ptes_left_readonly_uffd_wp": "7",
        "ptes_left_readonly_shared": "3",
        "ptes_not_inspected_huge": "512",
        "ptes_not_inspected_limit": "1",
        "pmds_made_writable": "2",
        "pmds_left_readonly_hugetlb": "0",
        "pmds_left_readonly_uffd_wp": "0",
        "pmds_left_readonly_soft_dirty": "0",
        "pmds_left_readonly_huge": "0",
        "pmds_left_readonly_shared": "1",
        "pmds_split": "6",
        "write_faults_wp_reuse": "3",
        "write_faults_wp_copy": "0",
        "write_faults_wp_shared": "0",
        "write_faults_wp_uffd": "0",
        "write_faults_wp_tracked": "0",
        "write_faults_uffd_missing": "0",
        "write_faults_other": "5",
        "write_faults_error": "0",
        **{f"wp_protected_by_wp_reuse_{cause}": "0" for cause in PROTECTED_BY.names},
        **{f"wp_protected_by_wp_copy_{cause}": "0" for cause in PROTECTED_BY.names},
        "wp_protected_by_wp_reuse_unknown": "1",
        "wp_protected_by_wp_reuse_mprotect": "2",
        "write_faults_origin_user": "5",
        "write_faults_origin_kernel": "2",
        "write_faults_origin_remote": "1",
        "ptes_protected_by_fork": "29",
        "pmds_protected_by_fork": "4",
        "fault_ns_wp_reuse_count": "3",
        "fault_ns_wp_reuse_sum": "9",
        "fault_ns_wp_copy_count": "0",
        "fault_ns_wp_copy_sum": "0",
        "fault_ns_wp_shared_count": "0",
        "fault_ns_wp_shared_sum": "0",
        "fault_ns_wp_uffd_count": "0",
        "fault_ns_wp_uffd_sum": "0",
        "fault_ns_wp_tracked_count": "0",
        "fault_ns_wp_tracked_sum": "0",
        "fault_ns_uffd_missing_count": "0",
        "fault_ns_uffd_missing_sum": "0",
        "fault_ns_other_count": "1",
        "fault_ns_other_sum": "1",
        "fault_ns_error_count": "0",
        "fault_ns_error_sum": "0",
        "efficacy": str(722 / 724),
        "seconds_saved_at_most": "2.166e-06",
        "estimated_from": "3 wp_reuse faults timed here",
    }


def test_csv_leaves_empty_what_was_not_looked_at() -> None:
    looked = snapshot(record(counts=SOME_COUNTS))
    not_looked = snapshot(record(counts=SOME_COUNTS), effort=Effort(inspect=0, costs=0))
    first, second = csv_rows(looked, not_looked)
    assert list(first) == list(second)
    empty = {column for column, value in second.items() if value == ""}
    assert empty == {
        column
        for column in first
        if column.startswith(("ptes_inspected", "ptes_not", "fault_ns"))
        or "_made_" in column
        or "_left_" in column
        or "_protected_by_fork" in column
        or column in ("efficacy", "seconds_saved_at_most", "estimated_from")
    }


def test_intervals_in_turn_have_one_header() -> None:
    rows = csv_rows(snapshot(record(pid=1)), snapshot(record(pid=2)))
    assert [row["pid"] for row in rows] == ["1", "2"]


@pytest.mark.parametrize("name", ["/a,b", '/a"b', "/a\nb", "/a\rb", " /a "])
def test_csv_keeps_every_name_and_no_control_character(name: str) -> None:
    rows = csv_rows(snapshot(record(name=name), record(pid=101)))
    assert [row["name"] for row in rows] == [printable(name), "[anon]"]


def test_a_process_has_its_cgroup_and_what_that_is_named_for() -> None:
    container = "0123456789abcdef" * 4
    path = f"/kubepods/burstable/pod0f4c3a5e-7b1d-4c2a-9e8f-1a2b3c4d5e6f/{container}"
    shown = document(
        snapshot(record(cgroup=path), record(pid=2, cgroup="/system.slice/nginx.service"))
    )
    assert [[each[name] for name in NOWHERE] for each in shown["processes"]] == [
        ["/system.slice/nginx.service", "nginx.service", None, None],
        [path, None, container, "0f4c3a5e-7b1d-4c2a-9e8f-1a2b3c4d5e6f"],
    ]


def test_a_process_that_moved_is_where_it_was_last() -> None:
    one = record(cgroup="/one", named_ns=10)
    other = record(start=0x50000, end=0x60000, cgroup="/other", named_ns=20)
    for rows in ((one, other), (other, one)):
        (process,) = document(snapshot(*rows))["processes"]
        assert process["cgroup"] == "/other"


def test_stacks_are_told_by_mapping_and_event() -> None:
    wrote = Stack(
        Event("write_faults", "wp_copy", "user"), (Frame(0x4010, "/p", 0x10, "f+0x2"),), 3
    )
    changed = Stack(Event("protection_changes", "uffd_wp"), (Frame(0x66),), 2)
    made = snapshot(record(stacks=(wrote, changed)), effort=Effort(stacks=7))
    place = {"pid": 100, "start": "0x10000", "end": "0x20000"}
    unknown = {"file": None, "file_address": None, "unnamed": None}
    assert document(made)["stacks"] == {
        "one_of": 7,
        "lost": 0,
        "stacks": [
            {
                **place,
                "counted": "write_faults",
                "cause": None,
                "outcome": "wp_copy",
                "origin": "user",
                "count": 3,
                "frames": [
                    {
                        "address": "0x4010",
                        "function": "f+0x2",
                        "file": "/p",
                        "file_address": "0x10",
                        "unnamed": None,
                    }
                ],
            },
            {
                **place,
                "counted": "protection_changes",
                "cause": "uffd_wp",
                "outcome": None,
                "origin": None,
                "count": 2,
                "frames": [{"address": "0x66", "function": None, **unknown}],
            },
        ],
    }
