"""The report as a person reads it, letter by letter."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from pte_trace.counted.snapshot import Health, Snapshot
from pte_trace.views import sentences, text, write
from tests.builders import counts, histogram, record, snapshot


def three_mappings(**changes: Any) -> Snapshot:
    return snapshot(
        record(
            comm="java",
            start=0x7F00_0000_0000,
            end=0x7F00_0020_0000,
            counts=counts(
                changes={"mprotect": 40},
                ptes={"mprotect": 20480},
                faults={"wp_reuse": 500, "other": 512},
                writable={"mprotect": 9500},
                readonly={"clean": 740},
                costs={"wp_reuse": histogram(*[1200] * 500)},
            ),
        ),
        record(
            comm="java",
            start=0x55D0_C000_0000,
            end=0x55D0_C002_1000,
            kind="heap",
            name="[heap]",
            counts=counts(faults={"other": 33}),
        ),
        record(
            pid=2345,
            comm="postgres",
            start=0x7F12_0000_0000,
            end=0x7F12_0000_1000,
            kind="shmem",
            name="/dev/zero (deleted)",
            perms="rw-s",
            counts=counts(faults={"wp_shared": 1, "error": 2}),
        ),
        **changes,
    )


def printed(shown: RenderableType) -> str:
    """What a pipe gets."""
    stream = StringIO()
    text.console(stream).print(shown)
    return stream.getvalue()


REPORT = """\
Linux 6.18.0-test, mprotect optimization at work; 1.500 s traced

 PID  COMM      RANGE                      PERM  MAPPING              CHANGES    PTES  WRITABLE  READONLY  FAULTS  REUSE  COPY  SHARED  UFFD  OTHER  ERROR  EFFICACY
 100  java      7f0000000000-7f0000200000  rw-p  [anon]                    40  20,480     9,500       740   1,012    500     -       -     -    512      -     95.0%
 100  java      55d0c0000000-55d0c0021000  rw-p  [heap]                     -       -         -         -      33      -     -       -     -     33      -         -
2345  postgres  7f1200000000-7f1200001000  rw-s  /dev/zero (deleted)        -       -         -         -       3      -     -       1     -      -      2         -
                                                 total                     40  20,480     9,500       740   1,048    500     -       1     -    545      2     95.0%

The optimization made 9,500 PTEs writable at once; at 1.2 µs a fault that is at most 11.4 ms saved (an estimate, from 500 wp_reuse faults timed here). 500 avoidable faults remained: clean pages.
"""  # noqa: E501


def test_a_report_in_a_pipe_is_plain_text() -> None:
    assert printed(text.report(three_mappings())) == REPORT


def test_an_empty_report_has_totals() -> None:
    assert printed(text.report(snapshot())) == (
        "Linux 6.18.0-test, mprotect optimization at work; 1.500 s traced\n"
        "\n"
        "PID  COMM  RANGE  PERM  MAPPING  CHANGES  PTES  WRITABLE  READONLY  FAULTS  REUSE  COPY"
        "  SHARED  UFFD  OTHER  ERROR  EFFICACY\n"
        "                        total          -     -         -         -       -      -     -"
        "       -     -      -      -         -\n"
        "\n"
        "No PTE was made writable by a protection change. No avoidable fault remained.\n"
    )


def test_a_report_has_so_many_rows_and_the_totals_of_all() -> None:
    made = three_mappings()
    some, whole = (printed(text.report(made, rows)).splitlines() for rows in (1, None))
    assert "total (2 more)" in some[4]
    assert len(whole) == len(some) + 2
    assert some[4].split()[-10:] == whole[6].split()[-10:]


def test_the_report_is_written_where_it_is_asked_for() -> None:
    stream = StringIO()
    write.report(three_mappings(), "text", stream)
    assert stream.getvalue() == REPORT


def test_an_interval_shows_the_rows_asked_for_and_counts_the_hidden() -> None:
    lines = printed(text.interval(three_mappings(), "faults", 1)).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["100", "total"]
    assert "total (2 more)" in lines[3]
    assert "1,048" in lines[3]


@pytest.mark.parametrize("rows", [None, 3, 4])
def test_an_interval_that_shows_all_rows_hides_none(rows: int | None) -> None:
    assert "more)" not in printed(text.interval(three_mappings(), "faults", rows))


def test_an_interval_is_ordered_as_asked_for() -> None:
    lines = printed(text.interval(three_mappings(), "comm", None)).splitlines()
    assert [line.split()[1] for line in lines[2:5]] == ["java", "java", "postgres"]
    assert lines[2].split()[2].startswith("55d0c")


def test_an_interval_says_what_was_saved() -> None:
    lines = printed(text.interval(three_mappings(), "faults", 1)).splitlines()
    assert lines[4] == "At most 11.4 ms saved: an estimate, from 500 wp_reuse faults timed here."


def test_notes_stand_below_the_numbers() -> None:
    made = three_mappings(health=Health(map_full=1234, missed_runs=5678))
    said = [note.plain for note in sentences.notes(made)]
    assert len(said) == 2
    assert printed(text.report(made)).splitlines()[-2:] == said
    assert printed(text.interval(made, "faults", 1)).splitlines()[-3:] == [*said, ""]


@pytest.mark.parametrize("field", ["comm", "name"])
def test_a_process_cannot_write_to_the_terminal_by_what_it_calls_itself(field: str) -> None:
    out = printed(text.report(snapshot(record(**{field: "\x1b[31m[bold]evil\n"}))))
    assert "\x1b" not in out
    assert "\\x1b[31m[bold]evil\\n" in out


def test_on_a_narrow_terminal_no_number_is_cut() -> None:
    console = Console(file=StringIO(), width=80, force_terminal=True, no_color=True)
    with console.capture() as capture:
        console.print(text.interval(three_mappings(), "faults", None))
    shown = capture.get()
    for number in ("100", "2345", "20,480", "9,500", "1,012", "1,048"):
        assert number in shown
