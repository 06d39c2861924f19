"""The table of mappings: what its columns show, and that no width cuts a number."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pte_trace.counted.counters import OMISSIONS, OUTCOMES
from pte_trace.counted.counts import NOTHING, Counts, total
from pte_trace.counted.mapping import VmaRow
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.views.table import VmaTable
from tests.builders import counts

WIDE = 400
ALL_COLUMNS = (
    *("PID", "COMM", "RANGE", "PERM", "MAPPING", "CHANGES", "PTES", "WRITABLE", "READONLY"),
    *("FAULTS", "REUSE", "COPY", "SHARED", "UFFD", "OTHER", "ERROR", "EFFICACY"),
)


def mapping(
    of: Counts = NOTHING, *, pid: int = 1, name: str = "[anon]", cgroup: str = ""
) -> VmaRow:
    return VmaRow(pid, "java", 0x1000, 0x2000, "rw-p", "anon", name, of, cgroup=cgroup)


def shown(
    rows: list[VmaRow], width: int = WIDE, effort: Effort = EVERYTHING, hidden: int = 0
) -> list[list[str]]:
    """The cells of the header, of each row and of the totals."""
    console = Console(file=StringIO(), width=width)
    table = VmaTable(rows, total(row.counts for row in rows), effort, hidden)
    lines = console.render_lines(table, pad=False)
    return ["".join(segment.text for segment in line).split() for line in lines]


def cells(of: Counts, effort: Effort = EVERYTHING) -> dict[str, str]:
    """A row's cells by heading."""
    header, row, _ = shown([mapping(of)], effort=effort)
    return dict(zip(header, row, strict=True))


SOME = counts(
    changes={"mprotect": 40, "uffd_wp": 2},
    ptes={"mprotect": 20_480},
    writable={"mprotect": 9_999, "uffd_unprotect": 1},
    readonly={"clean": 1000, "shared": 234},
    faults={"wp_reuse": 2500, "wp_copy": 3, "wp_shared": 4, "wp_uffd": 5, "other": 6, "error": 7},
)


def test_each_column_shows_its_number() -> None:
    assert cells(SOME) == {
        "PID": "1",
        "COMM": "java",
        "RANGE": "1000-2000",
        "PERM": "rw-p",
        "MAPPING": "[anon]",
        "CHANGES": "42",
        "PTES": "20,480",
        "WRITABLE": "10,000",
        "READONLY": "1,234",
        "FAULTS": "2,525",
        "REUSE": "2,500",
        "COPY": "3",
        "SHARED": "4",
        "UFFD": "5",
        "OTHER": "6",
        "ERROR": "7",
        "EFFICACY": "80.0%",
    }


def test_nothing_is_shown_as_a_dash() -> None:
    assert set(list(cells(NOTHING).values())[5:]) == {"-"}


def test_what_was_not_inspected_is_not_known() -> None:
    row = cells(SOME, Effort(inspect=0))
    assert {heading for heading, cell in row.items() if cell == "?"} == {
        *("WRITABLE", "READONLY", "EFFICACY")
    }


def test_what_was_inspected_in_part_is_shown() -> None:
    assert cells(SOME, Effort(inspect=1, costs=0)) == cells(SOME)


@pytest.mark.parametrize("omission", OMISSIONS)
def test_a_row_that_was_not_inspected_in_full_is_marked(omission: str) -> None:
    some = counts(
        ptes={"mprotect": 100},
        writable={"mprotect": 10},
        faults={"wp_reuse": 2},
        omitted={omission: 90},
    )
    header, marked, other, totals, *legend = shown([mapping(some), mapping(SOME)])
    in_part = dict(zip(header, marked, strict=True))
    assert in_part["PTES"] == "100"
    assert [in_part[each] for each in ("WRITABLE", "READONLY", "EFFICACY")] == [
        *("≥10", "≥0", "≥83.3%")
    ]
    assert other == list(cells(SOME).values())
    assert [each for each in totals if each.startswith("≥")] == ["≥10,010", "≥1,234", "≥80.0%"]
    assert " ".join(legend[0]).startswith("≥ at least: not every PTE that was changed")


def test_of_nothing_inspected_no_efficacy_is_known() -> None:
    header, row, *_ = shown([mapping(counts(ptes={"mprotect": 9}, omitted={"limit": 9}))])
    assert row[header.index("EFFICACY")] == "?"


def test_where_all_was_inspected_nothing_is_marked() -> None:
    assert not any("≥" in cell for line in shown([mapping(SOME)]) for cell in line)


def test_the_last_line_has_the_totals() -> None:
    header, *_, totals = shown([mapping(SOME), mapping(SOME, pid=2)])
    assert totals[0] == "total"
    assert header == list(ALL_COLUMNS)
    assert totals[1:] == list(cells(SOME + SOME).values())[5:]


def test_hidden_rows_are_counted() -> None:
    *_, totals = shown([], hidden=1234)
    assert totals[:3] == ["total", "(1,234", "more)"]


def test_a_name_cannot_write_to_the_terminal() -> None:
    _, row, _ = shown([mapping(name="\x1b[31m[bold]evil\n")])
    assert row[4] == "\\x1b[31m[bold]evil\\n"


@pytest.mark.parametrize("number", [0, 20_480, 10**9, 10**11])
def test_80_columns_show_what_matters_most(number: int) -> None:
    many = counts(
        changes={"mprotect": number},
        ptes={"mprotect": number},
        writable={"mprotect": number},
        readonly={"shared": number},
        faults=dict.fromkeys(OUTCOMES, number),
    )
    rows = [mapping(many, pid=4_194_304, name="/usr/lib/jvm/lib/server/libjvm.so")]
    header, _, totals = shown(rows, 80, hidden=12_345)
    assert {"PID", "MAPPING", "WRITABLE", "FAULTS", "REUSE"} <= set(header)
    assert totals[:3] == ["total", "(12,345", "more)"]


def test_80_columns_show_the_efficacy_of_an_ordinary_row() -> None:
    for width in (80, 100):
        header, *_ = shown([mapping(SOME, pid=12_345, name="/usr/lib/libc.so.6")], width)
        assert {"WRITABLE", "FAULTS", "REUSE", "EFFICACY"} <= set(header)


def test_columns_come_back_one_by_one_with_width() -> None:
    before: set[str] = set()
    for width in range(10, 200):
        header = set(shown([mapping(SOME)], width)[0])
        assert before <= header
        assert len(header) <= len(before) + 1 or not before
        before = header
    assert before == set(ALL_COLUMNS)


def test_a_long_name_takes_the_width_that_is_left_and_is_then_cut() -> None:
    long = "/very/long" * 30
    for width in (80, 120, 200):
        _, row, _ = shown([mapping(SOME, name=long)], width)
        (name,) = (cell for cell in row if cell.startswith("/very"))
        assert name.endswith("…")
    assert long in shown([mapping(SOME, name=long)], 1000)[1]


some_numbers = st.one_of(st.integers(0, 10), st.integers(0, 10**13))


@settings(max_examples=100)
@given(
    width=st.integers(20, 250),
    made=some_numbers,
    faults=st.lists(some_numbers, min_size=len(OUTCOMES), max_size=len(OUTCOMES)),
    pid=st.integers(1, 4_194_304),
    hidden=st.integers(0, 99_999),
)
def test_no_width_cuts_a_number(
    width: int, made: int, faults: list[int], pid: int, hidden: int
) -> None:
    some = counts(
        changes={"mprotect": made},
        ptes={"mprotect": made},
        writable={"mprotect": made},
        readonly={"shared": made},
        faults=dict(zip(OUTCOMES, faults, strict=True)),
    )
    rows = [mapping(some, pid=pid), mapping(some, pid=1)]
    wide_header, *wide_rows = shown(rows)
    header, *narrow_rows = shown(rows, width, hidden=hidden)
    assert header == [heading for heading in wide_header if heading in header]
    for wide, narrow in zip(wide_rows[:2], narrow_rows[:2], strict=True):
        whole = dict(zip(wide_header, wide, strict=True))
        assert narrow == [whole[heading] for heading in header]


def where_of(*cgroups: str) -> list[str]:
    header, *rows, _ = shown([mapping(SOME, cgroup=each) for each in cgroups])
    return [row[header.index("WHERE")] for row in rows] if "WHERE" in header else []


def test_where_processes_belong_is_shown_if_they_belong_to_several() -> None:
    container = "0123456789abcdef" * 4
    assert where_of("/a", "/a") == []
    assert where_of("/system.slice/nginx.service", f"/docker/{container}", "/by-hand", "", "/") == [
        "nginx.service",
        "0123456789ab",
        "/by-hand",
        "?",
        "/",
    ]


def test_where_is_cut_and_writes_nothing_to_the_terminal() -> None:
    long, hostile = where_of("/" + "x" * 300, "/\x1b[2J")
    assert long == "/" + "x" * 30 + "…"
    assert hostile == "/\\x1b[2J"
