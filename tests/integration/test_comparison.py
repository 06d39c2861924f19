"""`compare`: differences, noise, and what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pte_trace.counted.snapshot import Health
from pte_trace.effort import Effort
from pte_trace.host.plan import How
from pte_trace.recording import noise
from pte_trace.recording.comparison import (
    Comparison,
    Judgement,
    Line,
    Subject,
    Unit,
    compare,
)
from pte_trace.recording.reading import Recording
from pte_trace.recording.summary import summarize
from pte_trace.views import compared, comparison_plots
from tests.builders import counts, histogram, record, snapshot
from tests.command import pte_trace
from tests.recordings import interval, metadata, recorded

COMMAND = ("./gc", "--fast")


def subject(
    tmp_path: Path,
    name: str,
    reuse: Sequence[int],
    effort: Effort | None = None,
    *,
    health: Health | None = None,
    seconds: float = 1.0,
    ended: bool = True,
    **about: Any,
) -> Subject:
    """A recording of a run for each number of `wp_reuse` faults, each so many seconds long."""
    effort = effort or Effort()
    intervals = [
        interval(
            snapshot(
                record(
                    counts=counts(
                        {"mprotect": 2},
                        {"mprotect": 40},
                        {"wp_reuse": number},
                        writable={"mprotect": 20} if effort.inspects else {},
                        readonly={"clean": 20} if effort.inspects else {},
                        costs={"wp_reuse": histogram(*[1000] * number)} if effort.times else {},
                    )
                ),
                duration_s=seconds,
                effort=effort,
                health=health or Health(),
            ),
            run,
            run,
        )
        for run, number in enumerate(reuse, 1)
    ]
    path = recorded(
        tmp_path / f"{name}.parquet",
        intervals,
        metadata(effort, **{"command": COMMAND, **about}),
        ended=ended,
    )
    with Recording(path) as recording:
        return Subject(name, recording.metadata, summarize(recording), recording.ended)


def line(comparison: Comparison, name: str) -> Line:
    (found,) = (line for line in comparison.lines if line.metric.name == name)
    return found


@pytest.mark.parametrize(
    ("one", "two", "judgement"),
    [
        ([10, 11, 12, 13, 14], [20, 21, 22, 23, 24], Judgement.BEYOND),
        ([20, 21, 22, 23, 24], [10, 11, 12, 13, 14], Judgement.BEYOND),
        ([10, 11, 12, 13, 14], [14, 15, 16, 17, 18], Judgement.WITHIN),
        ([10, 11, 12, 13, 40], [20, 21, 22, 23, 24], Judgement.WITHIN),
        ([10, 11, 12], [20, 21, 22], Judgement.TOO_FEW),
        ([10, 11, 12, 13], [20, 21, 22, 23], Judgement.TOO_FEW),
        ([10], [20], Judgement.TOO_FEW),
        ([10, 10], [20, 20], Judgement.TOO_FEW),
        ([10, 10, 10], [20, 20, 20], Judgement.BEYOND),
        ([10, 10, 10], [20, 20, 21], Judgement.TOO_FEW),
        ([10], [10], Judgement.SAME),
        ([10, 10, 10], [10, 10, 10], Judgement.SAME),
    ],
)
def test_a_difference_is_judged_by_the_runs(
    tmp_path: Path, one: list[int], two: list[int], judgement: Judgement
) -> None:
    comparison = compare([subject(tmp_path, "a", one), subject(tmp_path, "b", two)])

    assert line(comparison, "wp_reuse").differences[0].judgement is judgement
    assert not comparison.reservations


def test_more_runs_tell_more(tmp_path: Path) -> None:
    """A tenth more, which is two standard deviations: the runs reach far into each other."""
    draw = random.Random(6)
    few, many = (
        [
            subject(tmp_path, name, [round(draw.gauss(mean, 50)) for _ in range(runs)])
            for name, mean in (("a", 1000), ("b", 1100))
        ]
        for runs in (3, 30)
    )

    assert judged(compare(few), "wp_reuse") is Judgement.TOO_FEW
    assert judged(compare(many), "wp_reuse") is Judgement.BEYOND


VALUES = st.lists(st.integers(0, 6), min_size=1, max_size=6)


@given(one=VALUES, other=VALUES)
def test_a_p_value_is_the_share_of_all_ways_to_deal_the_runs_out(
    one: list[int], other: list[int]
) -> None:

    def distance(dealt: Sequence[int]) -> int:
        """By how many pairs one is larger more often than the other."""
        left = Counter([*one, *other]) - Counter(dealt)
        return abs(sum((a > b) - (a < b) for a in dealt for b in left.elements()))

    ways = [distance(dealt) for dealt in combinations([*one, *other], len(one))]
    expected = sum(each >= distance(one) for each in ways) / len(ways)
    assert noise.p_value(one, other) == pytest.approx(expected)


def test_a_p_value_of_many_runs_is_the_normal_distributions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(6)
    one, other = ([round(draw.gauss(mean, 5)) for _ in range(30)] for mean in (100, 103))
    exact = noise.p_value(one, other)
    monkeypatch.setattr(noise, "_MOST_EXACT", 0)

    assert 0.001 < exact < 0.1
    assert noise.p_value(one, other) == pytest.approx(exact, rel=0.1)


def test_alike_recordings_seldom_differ_beyond_the_noise() -> None:
    draw = random.Random(6)
    found = [
        noise.p_value(*([draw.gauss(100, 5) for _ in range(5)] for _ in range(2))) <= noise.ALPHA
        for _ in range(4000)
    ]

    assert 0.003 < sum(found) / len(found) < noise.ALPHA + 0.003


def test_differences_and_ratios_are_of_the_medians(tmp_path: Path) -> None:
    comparison = compare([subject(tmp_path, "a", [10, 12, 90]), subject(tmp_path, "b", [3, 3, 9])])

    reuse = line(comparison, "wp_reuse")
    assert [sample.median for sample in reuse.samples] == [12, 3]
    assert reuse.samples[0].spread == (10, 90)
    assert (reuse.differences[0].difference, reuse.differences[0].ratio) == (-9, 0.25)


def test_nothing_to_divide_by_gives_no_ratio(tmp_path: Path) -> None:
    comparison = compare([subject(tmp_path, "a", [0]), subject(tmp_path, "b", [5])])

    assert line(comparison, "wp_reuse").differences[0].ratio is None
    assert line(comparison, "wp_reuse").differences[0].difference == 5


def judged(comparison: Comparison, name: str) -> Judgement:
    return line(comparison, name).differences[0].judgement


def whys(comparison: Comparison) -> list[str]:
    return [each.why for each in comparison.reservations.get(1, [])]


def printed(comparison: Comparison) -> str:
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(compared.text(comparison))
    return console.export_text()


def plotted(comparison: Comparison) -> list[str]:
    return [each.layout.title.text for each in comparison_plots.of_comparison(comparison)]


def test_another_inspection_is_not_comparable_the_faults_are(tmp_path: Path) -> None:
    comparison = compare(
        [subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], Effort(inspect=8))]
    )

    assert judged(comparison, "PTEs made writable") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "efficacy") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "duration") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "wp_reuse") is Judgement.SAME
    (why,) = whys(comparison)
    assert "all page tables and 8 page tables a change" in why
    assert plotted(comparison) == ["Write faults, by outcome"]


def test_another_share_of_the_faults_timed_is_not_comparable(tmp_path: Path) -> None:
    comparison = compare(
        [subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], Effort(costs=100))]
    )

    assert judged(comparison, "mean wp_reuse fault") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "time in write faults") is Judgement.UNKNOWN
    assert judged(comparison, "PTEs made writable") is Judgement.SAME
    assert whys(comparison) == ["Different faults timed: all and one of 100."]
    assert plotted(comparison) == [
        "Write faults, by outcome",
        "PTEs made writable, or left read-only",
    ]


def test_what_one_did_not_look_at_is_not_known(tmp_path: Path) -> None:
    known = {"duration", "write faults", "wp_reuse", "protection changes", "PTEs changed"}
    comparison = compare(
        [subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], Effort(inspect=0, costs=0))]
    )

    assert judged(comparison, "PTEs made writable") is Judgement.UNKNOWN
    assert judged(comparison, "left read-only: clean") is Judgement.UNKNOWN
    assert judged(comparison, "mean wp_reuse fault") is Judgement.UNKNOWN
    for metric in compared.document(comparison)["metrics"]:
        one, other = (each["median"] for each in metric["recordings"])
        assert other == (one if metric["name"] in known else None)


def test_other_filters_rule_everything_out(tmp_path: Path) -> None:
    comparison = compare(
        [
            subject(tmp_path, "a", [5]),
            subject(tmp_path, "b", [5], options={"comm": "gc", "pids": []}),
        ]
    )

    assert {each.differences[0].judgement for each in comparison.lines} == {
        Judgement.NOT_COMPARABLE
    }


def test_another_pid_is_no_other_filter(tmp_path: Path) -> None:
    comparison = compare(
        [
            subject(tmp_path, name, [5], options={"pids": [pid]})
            for name, pid in (("a", 1), ("b", 2))
        ]
    )

    assert not comparison.reservations


def test_another_hook_rules_out_what_it_counts(tmp_path: Path) -> None:
    hooks = dict(metadata().hooks)
    hooks["change_protection"] = replace(hooks["change_protection"], function="mprotect_fixup")
    comparison = compare([subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], hooks=hooks)])

    assert judged(comparison, "PTEs changed") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "wp_reuse") is Judgement.SAME
    (why,) = whys(comparison)
    assert "change_protection is attached to change_protection and to mprotect_fixup" in why


def test_a_stand_in_that_finds_the_same_rules_out_times(tmp_path: Path) -> None:
    hooks = dict(metadata().hooks)
    hooks["change_pte_range"] = replace(hooks["change_pte_range"], function="change_protection")
    comparison = compare([subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], hooks=hooks)])

    assert judged(comparison, "duration") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "PTEs made writable") is Judgement.SAME
    (why,) = whys(comparison)
    assert "change_pte_range is attached to change_pte_range and to change_protection" in why


def test_another_way_to_hook_rules_out_times(tmp_path: Path) -> None:
    hooks = {name: replace(hook, how=How.KPROBE) for name, hook in metadata().hooks.items()}
    comparison = compare([subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], hooks=hooks)])

    assert judged(comparison, "duration") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "mean wp_reuse fault") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "wp_reuse") is Judgement.SAME


def test_lost_events_rule_counts_out(tmp_path: Path) -> None:
    comparison = compare(
        [subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], health=Health(missed_runs=3))]
    )

    assert judged(comparison, "wp_reuse") is Judgement.NOT_COMPARABLE
    assert whys(comparison) == ["Events were lost in b."]


def test_what_found_no_room_for_its_vma_is_in_the_totals(tmp_path: Path) -> None:
    full = subject(tmp_path, "b", [5], health=Health(map_full=3))
    comparison = compare([subject(tmp_path, "a", [5]), full])

    assert judged(comparison, "wp_reuse") is Judgement.SAME
    assert not comparison.reservations
    assert "B: 3 events found no room for their VMA" in printed(comparison)


def test_other_commands_are_compared_and_said(tmp_path: Path) -> None:
    other = subject(tmp_path, "b", [5], command=("./gc", "--slow"))
    comparison = compare([subject(tmp_path, "a", [5]), other])

    assert judged(comparison, "wp_reuse") is Judgement.SAME
    assert whys(comparison) == ["Different commands: `./gc --fast` and `./gc --slow`."]
    assert "A and B: Different commands" in printed(comparison)


def test_a_command_is_not_compared_with_a_machine(tmp_path: Path) -> None:
    one, two = subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], command=())

    for comparison in (compare([one, two]), compare([two, one])):
        assert {each.differences[0].judgement for each in comparison.lines} == {
            Judgement.NOT_COMPARABLE
        }
        assert whys(comparison) == ["One is of a command, the other of what ran meanwhile."]


def test_of_machines_what_they_do_in_a_second_is_compared(tmp_path: Path) -> None:
    comparison = compare(
        [
            subject(tmp_path, name, [reuse], command=(), seconds=seconds)
            for name, reuse, seconds in (("a", 600, 60), ("b", 6000, 600))
        ]
    )

    reuse = line(comparison, "wp_reuse")
    assert [sample.median for sample in reuse.samples] == [10, 10]
    assert (reuse.metric.unit, judged(comparison, "wp_reuse")) == (Unit.RATE, Judgement.SAME)
    assert line(comparison, "time in write faults").metric.unit is Unit.SHARE
    assert line(comparison, "duration").differences[0].ratio == 10
    assert judged(comparison, "mean wp_reuse fault") is Judgement.SAME
    assert "10/s" in printed(comparison)
    bars = comparison_plots.of_comparison(comparison)[1]
    assert bars.layout.xaxis.title.text == "write faults per second"
    assert [max(each.x) for each in bars.data] == [10, 10]


def test_a_run_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    one = subject(tmp_path, "a", [5, 5])
    cut = subject(tmp_path, "b", [5, 5, 2], ended=False)
    once = subject(tmp_path, "c", [2], ended=False)
    comparison = compare([one, cut, once])

    reuse = line(comparison, "wp_reuse")
    assert [sample.values for sample in reuse.samples] == [(5, 5), (5, 5), ()]
    assert [each.judgement for each in reuse.differences] == [Judgement.SAME, Judgement.UNKNOWN]
    text = printed(comparison)
    assert "B: Its last run was cut short" in text
    assert "A: Its last run" not in text
    assert len(comparison_plots.of_comparison(comparison)) == 4


def test_a_machine_whose_recorder_was_killed_is_compared(tmp_path: Path) -> None:
    one = subject(tmp_path, "a", [5], command=())
    comparison = compare([one, subject(tmp_path, "b", [5], command=(), ended=False)])

    assert judged(comparison, "wp_reuse") is Judgement.SAME


def test_what_a_recording_says_of_itself_does_nothing(tmp_path: Path) -> None:
    hostile: dict[str, Any] = {"command": ("\x1b[2J",), "options": {"comm": "\x1b[2J", "pids": []}}
    comparison = compare([subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], **hostile)])

    assert len(whys(comparison)) == 2
    assert not [each for each in compared.reservations(comparison) if not each.isprintable()]


def test_the_text_says_what_is_compared(tmp_path: Path) -> None:
    comparison = compare(
        [subject(tmp_path, name, runs) for name, runs in (("a", [9, 8, 7]), ("b", [1, 1, 1]))]
    )
    text = printed(comparison)

    assert "A: a. Recorded 2026-03-01" in text
    assert "The optimization made 60 PTEs writable at once" in text
    assert "8 (7 to 9)" in text
    assert "too few runs to tell" in text


def test_the_text_says_what_is_noise_and_how_often_that_was_asked(tmp_path: Path) -> None:
    comparison = compare(
        [subject(tmp_path, name, range(least, least + 5)) for name, least in (("a", 1), ("b", 9))]
    )

    metrics = {"write faults", "wp_reuse", "efficacy", "time in write faults"}
    differences = {each.metric.name: each.differences[0] for each in comparison.lines}
    assert {name for name, each in differences.items() if each.p is not None} == metrics
    assert differences["wp_reuse"].p == pytest.approx(2 / 252)
    text = printed(comparison)
    assert "beyond the noise" in text
    assert "in 1% of all cases at most (Mann-Whitney U test, two-sided; 5 runs of each" in text
    assert "4 differences tested, each by itself: were there none, chance would have 0.04" in text
    found = compared.document(comparison)
    assert found["noise"] == {"test": "Mann-Whitney U, two-sided", "alpha": 0.01, "tested": 4}


def test_every_plot_has_a_title_and_axes(tmp_path: Path) -> None:
    comparison = compare([subject(tmp_path, name, [9, 8, 7]) for name in ("a", "b", "c")])

    figures = comparison_plots.of_comparison(comparison)
    assert len(figures) == 4
    for figure in figures:
        assert figure.layout.title.text
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
        assert len(figure.data) == 3


def test_the_command_writes_each_format(tmp_path: Path) -> None:
    for name, runs in (("a", [9, 8, 7]), ("b", [1, 2, 3]), ("c", [4, 5, 6])):
        subject(tmp_path, name, runs)
    files = [tmp_path / f"{name}.parquet" for name in "abc"]

    done = pte_trace("compare", *files)
    assert done.returncode == 0, done.stderr
    assert "C / A" in done.stdout
    found = json.loads(pte_trace("compare", *files, "--format", "json").stdout)
    reuse = next(metric for metric in found["metrics"] if metric["name"] == "wp_reuse")
    assert [each["median"] for each in reuse["recordings"]] == [8, 2, 5]
    rows = list(csv.DictReader(io.StringIO(pte_trace("compare", *files, "--format", "csv").stdout)))
    assert [row["median"] for row in rows if row["metric"] == "wp_reuse"] == ["8", "2", "5"]
    done = pte_trace("compare", *files, "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert "Side by side" in (tmp_path / "page.html").read_text()


def test_one_recording_cannot_be_compared(tmp_path: Path) -> None:
    subject(tmp_path, "a", [1])
    done = pte_trace("compare", tmp_path / "a.parquet")

    assert done.returncode == 2
    assert "Give two to 26" in done.stderr
