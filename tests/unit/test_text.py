"""The report as a person reads it, letter by letter."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from pte_trace import plan
from pte_trace.snapshot import Health, Kernel, Snapshot
from pte_trace.views import text, write
from tests.unit.builders import counts, host_without, record, snapshot


def three_mappings(**changes: Any) -> Snapshot:
    return snapshot(
        record(
            comm="java",
            start=0x7F00_0000_0000,
            end=0x7F00_0020_0000,
            counts=counts(
                changes={"mprotect": 40},
                ptes={"mprotect": 20480},
                faults={"wp_reuse": 512, "other": 512},
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

 PID  COMM      RANGE                      PERM  MAPPING              CHANGES    PTES  FAULTS  REUSE  COPY  SHARED  UFFD  OTHER  ERROR
 100  java      7f0000000000-7f0000200000  rw-p  [anon]                    40  20,480   1,024    512     -       -     -    512      -
 100  java      55d0c0000000-55d0c0021000  rw-p  [heap]                     -       -      33      -     -       -     -     33      -
2345  postgres  7f1200000000-7f1200001000  rw-s  /dev/zero (deleted)        -       -       3      -     -       1     -      -      2
                                                 total                     40  20,480   1,060    512     -       1     -    545      2

mprotect changed 20,480 PTEs; of 1,060 write faults 512 found their page ready to be reused (avoidable).
"""  # noqa: E501


def test_a_report_in_a_pipe_is_plain_text() -> None:
    assert printed(text.report(three_mappings())) == REPORT


def test_an_empty_report_has_totals() -> None:
    assert printed(text.report(snapshot())) == (
        "Linux 6.18.0-test, mprotect optimization at work; 1.500 s traced\n"
        "\n"
        "PID  COMM  RANGE  PERM  MAPPING  CHANGES  PTES  FAULTS  REUSE  COPY  SHARED  UFFD"
        "  OTHER  ERROR\n"
        "                        total          -     -       -      -     -       -     -"
        "      -      -\n"
        "\n"
        "mprotect changed 0 PTEs; of 0 write faults 0 found their page ready to be reused"
        " (avoidable).\n"
    )


def test_the_report_is_written_where_it_is_asked_for() -> None:
    stream = StringIO()
    write.report(three_mappings(), "text", stream)
    assert stream.getvalue() == REPORT


@pytest.mark.parametrize(
    ("optimization", "said"), [(True, "at work"), (False, "absent"), (None, "unknown")]
)
def test_the_heading_says_whether_the_optimization_works(
    optimization: bool | None, said: str
) -> None:
    made = snapshot(kernel=Kernel("5.10.0", optimization), duration_s=0.1239)
    assert text.heading(made).plain == (
        f"Linux 5.10.0, mprotect optimization {said}; 0.124 s traced"
    )


def test_an_interval_shows_the_rows_asked_for_and_counts_the_hidden() -> None:
    lines = printed(text.interval(three_mappings(), "faults", 1)).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["100", "total"]
    assert "total (2 more)" in lines[3]
    assert "1,060" in lines[3]


@pytest.mark.parametrize("rows", [None, 3, 4])
def test_an_interval_that_shows_all_rows_hides_none(rows: int | None) -> None:
    assert "more mappings" not in printed(text.interval(three_mappings(), "faults", rows))


def test_an_interval_is_ordered_as_asked_for() -> None:
    lines = printed(text.interval(three_mappings(), "comm", None)).splitlines()
    assert [line.split()[1] for line in lines[2:5]] == ["java", "java", "postgres"]
    assert lines[2].split()[2].startswith("55d0c")


def test_healthy_tracing_needs_no_notes() -> None:
    assert text.notes(three_mappings()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"hooks": plan.make(host_without("change_pte_range")).attachments},
            "Hook change_pte_range: change_pte_range is not traceable here (inlined);"
            " using change_protection, its caller, which counts a huge page as 512 PTEs.",
        ),
        (
            {"health": Health(map_full=1234)},
            "1,234 events found no room for their VMA: they are counted in the totals",
        ),
        (
            {"health": Health(missed_runs=5678)},
            "The kernel skipped 5,678 runs of our programs: not counted.",
        ),
    ],
    ids=["degraded", "map full", "missed runs"],
)
def test_what_could_not_be_counted_is_said_below_the_numbers(
    changes: dict[str, object], said: str
) -> None:
    made = three_mappings(**changes)
    (note,) = text.notes(made)
    assert note.plain.startswith(said)
    assert said in printed(text.report(made))
    assert said in printed(text.interval(made, "faults", 1))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("java", "java"),
        ("with space", "with space"),
        ("ünï", "ünï"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\\xe9", "caf\\xe9"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_are_shown_as_escapes(given: str, shown: str) -> None:
    assert text.printable(given) == shown


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
    for number in ("100", "2345", "20,480", "1,024", "1,060"):
        assert number in shown
