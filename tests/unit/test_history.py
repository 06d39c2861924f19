"""The last hour, as the page draws it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pte_trace.counted.counters import OUTCOMES
from pte_trace.counted.counts import NOTHING, Counts
from pte_trace.exporter import charts
from pte_trace.exporter.history import HOUR_S, History, Span, spans
from tests.builders import counts

EACH = counts(
    {"mprotect": 1}, {"mprotect": 9}, {"wp_reuse": 10, "other": 40}, writable={"mprotect": 30}
)


def history(readings: int, every_s: float = 5.0) -> History:
    made, totals = History(), NOTHING
    for number in range(readings):
        made.add(number * every_s, totals)
        totals = totals + EACH
    return made


def test_a_span_has_what_was_counted_in_it() -> None:
    (first, second) = spans(history(3).kept())
    assert (first.end_s, first.duration_s) == (5.0, 5.0)
    assert dict(zip(OUTCOMES, second.faults, strict=True))["other"] == 40
    assert (second.made_writable, second.avoidable, second.efficacy) == (30, 10, 0.75)


def test_readings_between_two_steps_are_in_the_next_one() -> None:
    found = list(spans(history(21, every_s=0.5).kept()))
    assert [each.duration_s for each in found] == [5.0, 5.0]
    assert sum(each.made_writable for each in found) == 20 * 30


def test_it_holds_an_hour_and_no_more() -> None:
    long, longer = history(5000).kept(), history(10_000).kept()
    assert len(long) == len(longer) == 721 * (1 + len(OUTCOMES) + 2) * 8
    found = list(spans(longer))
    assert sum(each.duration_s for each in found) == HOUR_S


def test_nothing_is_drawn_of_one_reading() -> None:
    assert charts.of(list(spans(history(1).kept()))) == []


def points(shape: charts.Shape) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.-]+),([\d.-]+)", shape.points)]


@pytest.mark.parametrize("readings", [2, 100, 2000])
def test_what_is_drawn_is_within_its_frame(readings: int) -> None:
    efficacy, faults, writable = charts.of(list(spans(history(readings).kept())))
    assert (efficacy.now, faults.now, writable.now) == ("75.0%", "10", "6.0")
    assert faults.legend == ("wp_reuse", "other")
    for chart in (efficacy, faults, writable):
        for shape in chart.shapes:
            found = points(shape)
            assert len(found) <= 2 * 181
            assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in found)
    assert {y for _, y in points(efficacy.shapes[0])} == {charts.HEIGHT * 0.25}


@pytest.mark.parametrize(
    ("readings", "began"),
    [(2, "5 s ago"), (100, "8 min ago"), (720, "60 min ago"), (721, "1 h ago")],
)
def test_what_there_is_of_an_hour_fills_the_frame(readings: int, began: str) -> None:
    efficacy, faults, writable = charts.of(list(spans(history(readings).kept())))
    assert {efficacy.began, faults.began, writable.began} == {began}
    for shape in (*faults.shapes, *writable.shapes):
        across = [x for x, _ in points(shape)]
        assert (min(across), max(across)) == (0, charts.WIDTH)


def test_each_outcome_has_a_colour_of_its_own_in_the_page() -> None:
    css = Path(charts.__file__).with_name("page.css").read_text()
    colours = [
        re.search(rf"^\.{each} {{ fill: (\S+); color: \1; }}$", css, re.M) for each in OUTCOMES
    ]
    assert all(colours)
    assert len({each[1] for each in colours if each}) == len(OUTCOMES)


def test_an_hour_without_any_event_is_drawn_too() -> None:
    still = [Span(5.0, 5.0, (0,) * len(OUTCOMES), 0, 0)]
    efficacy, faults, writable = charts.of(still)
    assert (efficacy.now, faults.now, writable.most) == ("-", "0", "0")
    assert faults.shapes == ()


def test_the_sums_are_those_of_the_counts() -> None:
    total: Counts = EACH + EACH
    (span,) = spans(b"".join([_kept(NOTHING, 0.0, total)]))
    assert sum(span.faults) == 100


def _kept(before: Counts, at_s: float, after: Counts) -> bytes:
    made = History()
    made.add(at_s, before)
    made.add(at_s + 5, after)
    return made.kept()
