"""The JSON document is schema 1 of the design, key by key; CSV has the same rows."""

from __future__ import annotations

import csv
import json
from io import StringIO
from typing import Any

import pytest

from pte_trace import plan
from pte_trace.snapshot import Health, Kernel, Snapshot
from pte_trace.views.document import document, write_csv, write_json
from pte_trace.views.text import printable
from tests.unit.builders import counts, host_without, record, snapshot


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


def some_row(**of: Any) -> dict[str, Any]:
    """JSON's ROW; null is what this version does not look at, which is not 0."""
    return {
        "protection_changes": {"mprotect": 2, "numa_hint": 0, "uffd_wp": 0, "uffd_unprotect": 1},
        "ptes_changed": 1040,
        "ptes_inspected": None,
        "ptes_made_writable": None,
        "ptes_left_readonly": None,
        "write_faults": {
            "wp_reuse": 3,
            "wp_copy": 0,
            "wp_shared": 0,
            "wp_uffd": 0,
            "other": 5,
            "error": 0,
        },
        "fault_ns": None,
        **of,
    }


SOME_COUNTS = counts(
    changes={"mprotect": 2, "uffd_unprotect": 1},
    ptes={"mprotect": 1024, "uffd_unprotect": 16},
    faults={"wp_reuse": 3, "other": 5},
)


def test_the_document_is_schema_1() -> None:
    made = snapshot(
        record(pid=7, comm="gc", start=0x7F00_0000_0000, end=0x7F00_0001_0000, counts=SOME_COUNTS),
        kernel=Kernel("6.12.9-amd64", True),
        hooks=plan.make(host_without("change_pte_range")).attachments,
        duration_s=1.23456789,
        health=Health(map_full=1, missed_runs=2, probe_seconds=0.25),
    )
    assert document(made) == {
        "schema": 1,
        "kernel": {"release": "6.12.9-amd64", "optimization": True},
        "hooks": {
            "change_pte_range": {
                "attached": "change_protection",
                "how": "fentry",
                "degraded": "change_pte_range is not traceable here (inlined);"
                " using change_protection, its caller, which counts a huge page as 512 PTEs.",
            },
            "change_protection": {
                "attached": "change_protection",
                "how": "fentry",
                "degraded": None,
            },
            "do_wp_page": {"attached": "do_wp_page", "how": "fentry", "degraded": None},
            "handle_mm_fault": {"attached": "handle_mm_fault", "how": "fentry", "degraded": None},
            "mmap_region": {"attached": "mmap_region", "how": "fentry", "degraded": None},
        },
        "duration_s": 1.234568,
        "totals": some_row(),
        "processes": [some_row(pid=7, comm="gc")],
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
        "health": {"map_full": 1, "missed_runs": 2, "probe_seconds": 0.25},
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
    ]


def test_what_could_not_be_found_out_is_null() -> None:
    made = document(snapshot(kernel=Kernel("unknown", None)))
    assert made["kernel"]["optimization"] is None
    assert made["health"]["probe_seconds"] is None


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
        *("ptes_changed", "ptes_inspected", "ptes_made_writable", "ptes_left_readonly"),
        "write_faults_wp_reuse",
        "write_faults_wp_copy",
        "write_faults_wp_shared",
        "write_faults_wp_uffd",
        "write_faults_other",
        "write_faults_error",
        "fault_ns",
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
        "ptes_inspected": "",
        "ptes_made_writable": "",
        "ptes_left_readonly": "",
        "write_faults_wp_reuse": "3",
        "write_faults_wp_copy": "0",
        "write_faults_wp_shared": "0",
        "write_faults_wp_uffd": "0",
        "write_faults_other": "5",
        "write_faults_error": "0",
        "fault_ns": "",
    }


def test_intervals_in_turn_have_one_header() -> None:
    rows = csv_rows(snapshot(record(pid=1)), snapshot(record(pid=2)))
    assert [row["pid"] for row in rows] == ["1", "2"]


@pytest.mark.parametrize("name", ["/a,b", '/a"b', "/a\nb", "/a\rb", " /a "])
def test_csv_keeps_every_name_and_no_control_character(name: str) -> None:
    rows = csv_rows(snapshot(record(name=name), record(pid=101)))
    assert [row["name"] for row in rows] == [printable(name), "[anon]"]
