"""The live view: what its keys do, and that it fits its terminal."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pte_trace.counted.order import SORT_FIELDS
from pte_trace.counted.snapshot import Health, Snapshot
from pte_trace.host import plan
from pte_trace.views import sentences
from pte_trace.views.live import View
from tests.builders import counts, host_without, record, snapshot


def busy_machine(**changes: Any) -> Snapshot:
    """60 processes with a mapping each."""
    return snapshot(*(record(pid=pid) for pid in range(1000, 1060)), **changes)


def with_every_note() -> Snapshot:
    return snapshot(
        *(record(pid=pid, counts=counts(omitted={"limit": 1})) for pid in range(1000, 1060)),
        hooks=plan.make(host_without("change_pte_range")).attachments,
        health=Health(map_full=12_345, missed_runs=678),
    )


def lines(view: View, shown: Snapshot, height: int, width: int = 150) -> list[str]:
    """The view as a terminal of this size shows it."""
    console = Console(file=StringIO(), width=width, height=height)
    rendered = console.render_lines(view.render(shown, height, width), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in rendered]


def rows(view: View, shown: Snapshot, height: int) -> int:
    return sum("worker" in line for line in lines(view, shown, height))


def test_q_quits() -> None:
    view = View("faults", None)
    assert not view.quit
    view.press("q")
    assert view.quit


@pytest.mark.parametrize("key", ["", "x", "Q", "\x1b", "\n"])
def test_other_keys_change_nothing(key: str) -> None:
    view = View("faults", None)
    view.press(key)
    assert (view.quit, view.sort, view.accumulated) == (False, "faults", False)


def test_s_takes_each_field_in_turn() -> None:
    view = View(SORT_FIELDS[0], None)
    seen = []
    for _ in SORT_FIELDS:
        seen.append(view.sort)
        view.press("s")
    assert tuple(seen) == SORT_FIELDS
    assert view.sort == SORT_FIELDS[0]


def test_s_goes_on_from_the_field_asked_for() -> None:
    view = View("pid", None)
    view.press("s")
    assert view.sort == SORT_FIELDS[SORT_FIELDS.index("pid") + 1]


def test_a_switches_to_all_since_the_start_and_back() -> None:
    view = View("faults", None)
    assert "last interval" in lines(view, snapshot(), 24)[-1]
    view.press("a")
    assert "since the start" in lines(view, snapshot(), 24)[-1]
    view.press("a")
    assert "last interval" in lines(view, snapshot(), 24)[-1]


def test_the_last_line_tells_the_keys_and_the_order() -> None:
    view = View("avoidable", None)
    assert lines(view, busy_machine(), 24)[-1] == (
        "q quit  s sort  a accumulate   last interval, by avoidable"
    )


def test_rows_are_in_the_order_of_the_field() -> None:
    many, few = record(pid=1, comm="few"), record(pid=2, comm="many")
    shown = lines(View("pid", None), snapshot(many, few), 24)
    assert [line.split()[0] for line in shown[2:4]] == ["1", "2"]


@pytest.mark.parametrize("width", [40, 80, 100, 150])
@pytest.mark.parametrize("height", [6, 7, 10, 24, 50])
def test_the_view_fits_its_terminal(height: int, width: int) -> None:
    shown = lines(View("faults", None), busy_machine(), height, width)
    assert len(shown) <= height
    assert "q quit" in shown[-1]
    assert all(len(line) <= width for line in shown)


@pytest.mark.parametrize("width", [40, 80, 150])
@pytest.mark.parametrize("height", [24, 25, 30, 50])
def test_the_view_fits_its_terminal_with_every_note(height: int, width: int) -> None:
    shown = lines(View("faults", None), with_every_note(), height, width)
    assert len(shown) <= height
    assert "q quit" in shown[-1]


@pytest.mark.parametrize("width", [70, 80, 150])
def test_what_is_said_is_not_cut_where_there_is_room(width: int) -> None:
    shown = lines(View("faults", None), with_every_note(), 60, width)
    assert not any("…" in line for line in shown)
    said = " ".join(" ".join(shown).split())
    assert all(each.plain in said for each in sentences.notes(with_every_note()))


def test_rows_come_before_whole_sentences() -> None:
    shown = lines(View("faults", None), with_every_note(), 16, 60)
    assert any(line.endswith("…") for line in shown)
    assert sum(line[:2] == "10" for line in shown) >= 5


@pytest.mark.parametrize("height", [1, 3, 5])
def test_a_terminal_too_small_for_all_has_no_more_than_one_row(height: int) -> None:
    """What is below its last line is cut off by rich."""
    assert rows(View("faults", None), busy_machine(), height) <= 1


def test_a_tall_terminal_is_used() -> None:
    assert rows(View("faults", None), busy_machine(), 50) >= 40


def test_no_more_rows_are_shown_than_asked_for() -> None:
    assert rows(View("faults", 5), busy_machine(), 50) == 5
    assert rows(View("faults", 1000), busy_machine(), 10) < 10


def test_rows_that_do_not_fit_are_counted() -> None:
    view = View("faults", None)
    hidden = 60 - rows(view, busy_machine(), 24)
    assert any(f"total ({hidden} more)" in line for line in lines(view, busy_machine(), 24))


def test_nothing_seen_yet_is_shown_as_such() -> None:
    shown = lines(View("faults", None), snapshot(), 24)
    assert shown[0].startswith("Linux 6.18.0-test")
    assert any(line.split() == ["total", *["-"] * 12] for line in shown)
