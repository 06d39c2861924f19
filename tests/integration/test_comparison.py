"""`compare`: differences, noise, and what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pte_trace.effort import Effort
from pte_trace.plan import How
from pte_trace.recording.comparison import (
    Comparison,
    Judgement,
    Line,
    Subject,
    compare,
)
from pte_trace.recording.reading import Recording
from pte_trace.recording.summary import summarize
from pte_trace.snapshot import Health
from pte_trace.views import compared, comparison_plots
from tests.builders import counts, histogram, record, snapshot
from tests.command import pte_trace
from tests.recordings import interval, metadata, recorded


def subject(
    tmp_path: Path, name: str, reuse: Sequence[int], effort: Effort | None = None, **about: Any
) -> Subject:
    """A recording of a run for each number of `wp_reuse` faults."""
    effort = effort or Effort()
    health = about.pop("health", Health())
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
                duration_s=1.0,
                effort=effort,
                health=health,
            ),
            run,
            run,
        )
        for run, number in enumerate(reuse, 1)
    ]
    path = recorded(tmp_path / f"{name}.parquet", intervals, metadata(effort, **about))
    with Recording(path) as recording:
        return Subject(name, recording.metadata, summarize(recording), recording.ended)


def line(comparison: Comparison, name: str) -> Line:
    (found,) = (line for line in comparison.lines if line.metric.name == name)
    return found


@pytest.mark.parametrize(
    ("one", "two", "judgement"),
    [
        ([10, 11, 12], [20, 21, 22], Judgement.BEYOND),
        ([20, 21, 22], [10, 11, 12], Judgement.BEYOND),
        ([10, 11, 12], [12, 13, 14], Judgement.WITHIN),
        ([10, 11, 40], [20, 21, 22], Judgement.WITHIN),
        ([10, 11], [20, 21, 22], Judgement.TOO_FEW),
        ([10], [20], Judgement.TOO_FEW),
        ([10], [10], Judgement.SAME),
        ([10, 10, 10], [10, 10, 10], Judgement.SAME),
    ],
)
def test_a_difference_is_judged_by_the_spread_of_the_runs(
    tmp_path: Path, one: list[int], two: list[int], judgement: Judgement
) -> None:
    comparison = compare([subject(tmp_path, "a", one), subject(tmp_path, "b", two)])

    assert line(comparison, "wp_reuse").differences[0].judgement is judgement
    assert not comparison.reservations


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
    (why,) = comparison.reservations[1]
    assert "all page tables and 8 page tables a change" in why
    assert plotted(comparison) == ["Write faults, by outcome"]


def test_another_share_of_the_faults_timed_is_not_comparable(tmp_path: Path) -> None:
    comparison = compare(
        [subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], Effort(costs=100))]
    )

    assert judged(comparison, "mean wp_reuse fault") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "time in write faults") is Judgement.UNKNOWN
    assert judged(comparison, "PTEs made writable") is Judgement.SAME
    assert comparison.reservations[1] == ["Different faults timed: all and one of 100."]
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
    (why,) = comparison.reservations[1]
    assert "change_protection is attached to change_protection and to mprotect_fixup" in why


def test_a_stand_in_that_finds_the_same_rules_out_times(tmp_path: Path) -> None:
    hooks = dict(metadata().hooks)
    hooks["change_pte_range"] = replace(hooks["change_pte_range"], function="change_protection")
    comparison = compare([subject(tmp_path, "a", [5]), subject(tmp_path, "b", [5], hooks=hooks)])

    assert judged(comparison, "duration") is Judgement.NOT_COMPARABLE
    assert judged(comparison, "PTEs made writable") is Judgement.SAME
    (why,) = comparison.reservations[1]
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
    assert comparison.reservations[1] == ["Events were lost in b."]


def test_the_text_says_what_is_compared(tmp_path: Path) -> None:
    comparison = compare(
        [subject(tmp_path, name, runs) for name, runs in (("a", [9, 8, 7]), ("b", [1, 1, 1]))]
    )
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(compared.text(comparison))
    text = console.export_text()

    assert "A: a. Recorded 2026-03-01" in text
    assert "The optimization made 60 PTEs writable at once" in text.replace("\n", " ")
    assert "8 (7 to 9)" in text
    assert "beyond the noise" in text


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
