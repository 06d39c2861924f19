"""What is said of the numbers: only what they bear out, and what they leave out."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pte_trace.counted.counts import Counts, Histogram
from pte_trace.counted.snapshot import Health, Kernel, ReuseCost, Snapshot
from pte_trace.effort import TABLES_PER_CHANGE, Effort
from pte_trace.host import plan
from pte_trace.programs.program import source
from pte_trace.views import sentences
from tests.builders import counts, histogram, host_without, record, snapshot


def summary(of: Counts, **changes: Any) -> str:
    return sentences.summary(snapshot(record(counts=of), **changes)).plain


def fault_cost(*durations_ns: int) -> dict[str, Histogram]:
    return {"wp_reuse": histogram(*durations_ns)}


@pytest.mark.parametrize(
    ("optimization", "said"), [(True, "at work"), (False, "absent"), (None, "unknown")]
)
def test_the_heading_says_whether_the_optimization_works(
    optimization: bool | None, said: str
) -> None:
    made = snapshot(kernel=Kernel("5.10.0", optimization), duration_s=0.1239)
    assert sentences.heading(made).plain == (
        f"Linux 5.10.0, mprotect optimization {said}; 0.124 s traced"
    )


def test_the_summary_can_be_quoted() -> None:
    some = counts(
        writable={"mprotect": 2219},
        readonly={"clean": 97},
        faults={"wp_reuse": 97},
        costs=fault_cost(*[1036] * 96, 1047),
    )
    assert summary(some) == (
        "The optimization made 2,219 PTEs writable at once; at 1.04 µs a fault that is at most"
        " 2.3 ms saved (an estimate, from 97 wp_reuse faults timed here)."
        " 97 avoidable faults remained: clean pages."
    )


def test_the_estimate_names_its_source_where_no_fault_was_timed_here() -> None:
    some = counts(writable={"mprotect": 3})
    assert summary(some, calibration=ReuseCost(1500.0, "wp_reuse faults of pte-trace's own")) == (
        "The optimization made 3 PTEs writable at once; at 1.5 µs a fault that is at most"
        " 4.5 µs saved (an estimate, from wp_reuse faults of pte-trace's own)."
        " No avoidable fault remained."
    )


def test_without_a_cost_nothing_is_estimated() -> None:
    assert summary(counts(writable={"mprotect": 3})) == (
        "The optimization made 3 PTEs writable at once. No avoidable fault remained."
    )


def test_one_is_not_several() -> None:
    some = counts(writable={"mprotect": 1}, readonly={"clean": 1}, faults={"wp_reuse": 1})
    assert summary(some) == (
        "The optimization made 1 PTE writable at once. 1 avoidable fault remained: clean pages."
    )


def test_nothing_made_writable_is_said() -> None:
    assert summary(counts(), calibration=ReuseCost(1000.0, "elsewhere")) == (
        "No PTE was made writable by a protection change. No avoidable fault remained."
    )


def test_nothing_is_said_of_ptes_that_were_not_inspected() -> None:
    made = summary(
        counts(faults={"wp_reuse": 4}),
        effort=Effort(inspect=0),
        calibration=ReuseCost(1000.0, "elsewhere"),
    )
    assert made == "4 avoidable faults remained."


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (60, "The optimization made 60 PTEs of the 100 inspected writable at once. "),
        (0, "No PTE of the 40 inspected was made writable by a protection change. "),
    ],
)
def test_where_not_all_were_inspected_the_summary_speaks_of_those_that_were(
    made: int, said: str
) -> None:
    some = counts(writable={"mprotect": made}, readonly={"shared": 40}, omitted={"limit": 900})
    assert summary(some).startswith(said)


def test_huge_pages_have_no_ptes_to_speak_of() -> None:
    some = counts(writable={"mprotect": 60}, omitted={"huge": 512})
    assert summary(some).startswith("The optimization made 60 PTEs writable at once.")


def test_huge_pages_are_entries_too() -> None:
    alone = counts(huge_writable={"mprotect": 7})
    assert summary(alone).startswith("The optimization made 7 huge pages writable at once.")
    both = counts(writable={"mprotect": 60}, huge_writable={"mprotect": 1})
    assert summary(both).startswith("The optimization made 60 PTEs and 1 huge page writable")
    left = counts(faults={"wp_reuse": 7}, huge_readonly={"huge": 7})
    said = "7 avoidable faults remained: huge pages, which this kernel leaves read-only."
    assert summary(left).endswith(said)


def test_a_kernel_without_the_optimization_is_the_reason() -> None:
    some = counts(readonly={"shared": 20_000}, faults={"wp_reuse": 10_081})
    assert summary(some, kernel=Kernel("5.10.0", False)) == (
        "No PTE was made writable by a protection change."
        " 10,081 avoidable faults remained: this kernel lacks the optimization."
    )


def test_what_is_not_there_is_not_praised() -> None:
    """Older kernels make dirty pages of shared mappings writable too."""
    some = counts(writable={"mprotect": 512})
    assert summary(some, kernel=Kernel("5.10.0", False)).startswith(
        "Protection changes made 512 PTEs writable at once."
    )


NOT_SAID = "; the changes that were seen do not explain why."


@pytest.mark.parametrize(
    ("readonly", "why"),
    [
        ({"clean": 9}, ": clean pages."),
        ({"clean": 8}, ": clean pages (8 PTEs); no change that was seen explains 1 of them."),
        # What somebody tracks, or another process has too, is not avoidable.
        ({"clean": 9, "soft_dirty": 1200, "shared": 30}, ": clean pages."),
        ({"soft_dirty": 1200}, NOT_SAID),
        ({}, NOT_SAID),
    ],
)
def test_a_reason_alone_stands_for_all_only_if_it_can(readonly: dict[str, int], why: str) -> None:
    some = counts(readonly=readonly, faults={"wp_reuse": 9})
    assert summary(some).endswith(f" 9 avoidable faults remained{why}")


@pytest.mark.parametrize(
    ("copies", "why"),
    [
        (499, NOT_SAID),
        (495, ": clean pages (4 PTEs); no change that was seen explains 5 of them."),
        (490, ": clean pages."),
    ],
)
def test_a_page_that_was_copied_is_no_reason(copies: int, why: str) -> None:
    some = counts(readonly={"clean": 499}, faults={"wp_reuse": 9, "wp_copy": copies})
    assert f" 9 avoidable faults remained{why}" in summary(some)


def test_what_another_mapping_was_left_with_is_no_reason() -> None:
    """As in the demo: pages shared with a child, pages only read, a fork whose child is gone."""
    made = snapshot(
        record(start=0x10000, end=0x20000, counts=counts(faults={"wp_reuse": 12})),
        record(start=0x30000, end=0x40000, counts=counts(readonly={"shared": 499, "clean": 251})),
    )
    assert sentences.summary(made).plain.endswith(f" 12 avoidable faults remained{NOT_SAID}")


def test_reasons_of_several_mappings_add_up() -> None:
    one = counts(readonly={"clean": 5}, faults={"wp_reuse": 5})
    other = counts(readonly={"clean": 90}, faults={"wp_reuse": 7})
    far = {"start": 0x30000, "end": 0x40000}
    made = snapshot(record(counts=one), record(counts=other, **far))
    assert sentences.summary(made).plain.endswith(" 12 avoidable faults remained: clean pages.")
    made = snapshot(record(counts=one), record(counts=counts(faults={"wp_reuse": 7}), **far))
    assert sentences.summary(made).plain.endswith(
        ": clean pages (5 PTEs); no change that was seen explains 7 of them."
    )


def test_writes_that_no_change_is_to_blame_for_are_said_by_what_is() -> None:
    causes = {"soft_dirty": 6754, "fork": 23, "unknown": 1, "mprotect": 2}
    some = counts(faults={"wp_reuse": sum(causes.values())}, protected={"wp_reuse": causes})
    assert summary(some).endswith(
        " 2 avoidable faults remained; the changes that were seen do not explain why."
        " 6,778 other writes reused a write-protected page: 6,754 of soft-dirty tracking, 23 of a"
        " fork, 1 of what is not known."
    )
    one = counts(faults={"wp_reuse": 1}, protected={"wp_reuse": {"fork": 1}})
    assert summary(one).endswith(
        " No avoidable fault remained. 1 other write reused a write-protected page: 1 of a fork."
    )


def test_what_was_not_inspected_may_be_why() -> None:
    some = counts(faults={"wp_reuse": 9}, omitted={"limit": 9})
    assert summary(some).endswith(" 9 avoidable faults remained: what was not inspected.")


def test_userfaultfd_that_asks_for_nothing_is_why() -> None:
    some = counts({"uffd_unprotect": 1}, {"uffd_unprotect": 9}, {"wp_reuse": 9})
    assert summary(some).endswith(
        " 9 avoidable faults remained: userfaultfd's write protection lifted without asking for"
        " writable PTEs."
    )


def test_where_only_totals_are_known_no_reason_is_said() -> None:
    some = counts(readonly={"clean": 9}, faults={"wp_reuse": 9})
    made = snapshot(record(counts=some), vmas=())
    assert sentences.summary(made).plain.endswith(" 9 avoidable faults remained.")


def saved_at_most(of: Counts, **changes: Any) -> str:
    return sentences.saved_at_most(snapshot(record(counts=of), **changes)).plain


def test_the_time_saved_is_said_in_a_line_with_its_source() -> None:
    some = counts(writable={"mprotect": 2219}, costs=fault_cost(*[1036] * 96, 1047))
    assert saved_at_most(some) == (
        "At most 2.3 ms saved: an estimate, from 97 wp_reuse faults timed here."
    )
    some = counts(writable={"mprotect": 3}, omitted={"limit": 1})
    assert saved_at_most(some, calibration=ReuseCost(1000.0, "faults of our own")) == (
        "At most 3 µs saved, of what was inspected: an estimate, from faults of our own."
    )


def test_a_time_saved_that_is_not_known_is_said_so() -> None:
    some = counts(writable={"mprotect": 3})
    assert saved_at_most(some) == "Time saved: not known, for no wp_reuse fault was timed."
    assert saved_at_most(some, effort=Effort(inspect=0)) == (
        "Time saved: not known (--inspect none)."
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 ns"),
        (0.4e-9, "0.4 ns"),
        (87e-9, "87 ns"),
        (999e-9, "999 ns"),
        (999.7e-9, "1 µs"),
        (1.0364e-6, "1.04 µs"),
        (999.6e-6, "1 ms"),
        (2.306e-3, "2.31 ms"),
        (0.9996, "1 s"),
        (61.25, "61.2 s"),
        (999.4, "999 s"),
        (999.5, "1,000 s"),
        (123_456.7, "123,457 s"),
    ],
)
def test_a_duration_has_three_digits_and_a_unit(seconds: float, said: str) -> None:
    assert sentences.duration(seconds) == said


def test_healthy_tracing_needs_no_notes() -> None:
    assert sentences.notes(snapshot(record())) == []


def with_omitted(inspect: int | None = None, **omitted: int) -> Snapshot:
    return snapshot(record(counts=counts(omitted=omitted)), effort=Effort(inspect))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            snapshot(hooks=plan.make(host_without("change_pte_range")).attachments),
            "change_pte_range cannot have a trampoline here (inlined, more"
            " parameters than that takes, or a kernel that may be preempted);"
            " using its caller change_protection, and page tables are looked for from the top.",
        ),
        (
            snapshot(foreign_pids=True),
            "PIDs are the host's: pte-trace runs in a PID namespace.",
        ),
        (
            snapshot(effort=Effort(inspect=0)),
            "PTEs made writable and left read-only are not known (--inspect none).",
        ),
        (
            with_omitted(limit=12_345, inspect=10),
            "Not inspected (--inspect 10): 12,345 changed PTEs, in neither WRITABLE nor READONLY.",
        ),
        (
            with_omitted(limit=12_345),
            "Not inspected (beyond the 4,096 page tables that are looked at of one change):"
            " 12,345 changed PTEs, in neither WRITABLE nor READONLY.",
        ),
        (
            with_omitted(huge=1024),
            "In pages larger than 2 MiB, whose entries are not inspected: 1,024 changed PTEs.",
        ),
        (snapshot(effort=Effort(costs=1000)), "One of 1,000 write faults was timed (--costs)."),
        (
            snapshot(health=Health(map_full=1234)),
            "1,234 events found no room for their VMA: they are counted in"
            " their process's row [not attributed]. More room: --max-vmas.",
        ),
        (
            snapshot(health=Health(paths_full=7)),
            "7 names found no room: such mappings are called [inode N] or [anon:?]. More room:"
            " --max-vmas.",
        ),
        (
            snapshot(health=Health(timings_full=1)),
            "1 write fault found no room to be timed. More room: --max-vmas.",
        ),
        (
            snapshot(health=Health(missed_runs=5678)),
            "The kernel skipped 5,678 runs of our programs: not counted.",
        ),
    ],
    ids=[
        "degraded",
        "PID namespace",
        "not inspected",
        "limit of an option",
        "limit of the programs",
        "huge",
        "sampled",
        "map full",
        "names full",
        "timings full",
        "missed runs",
    ],
)
def test_what_was_left_out_is_said(made: Snapshot, said: str) -> None:
    assert [note.plain for note in sentences.notes(made)] == [said]


def test_the_limit_that_is_said_is_the_programs() -> None:
    assert re.findall(r"define TABLES_PER_CHANGE\s+(\d+)", source("walk.h")) == [
        str(TABLES_PER_CHANGE)
    ]
