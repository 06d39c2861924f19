"""Write faults, counted exactly: against getrusage(2) and /proc/vmstat's pgreuse."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.conftest import Run

PAGES = 23


def faults(row: dict[str, Any], **expected: int) -> None:
    outcomes = {name: count for name, count in row["write_faults"].items() if count}
    assert outcomes == {name: count for name, count in expected.items() if count}


def test_toggled_pages_fault_only_without_the_optimization(run: Run, optimized: bool) -> None:
    traced = run("toggle", PAGES)

    rewritten = 0 if optimized else PAGES
    faults(traced.measured, other=PAGES, wp_reuse=rewritten)
    assert traced.account["faults"] == rewritten
    assert traced.account["reused"] == rewritten


def test_pages_shared_with_a_child_are_copied(run: Run) -> None:
    traced = run("fork_child", PAGES)

    faults(traced.measured, other=PAGES, wp_copy=PAGES)
    assert traced.account["faults"] == PAGES
    assert traced.account["reused"] == 0


def test_a_fault_that_waits_for_userfaultfd_counts_once(run: Run) -> None:
    traced = run("uffd_wp", PAGES)

    faults(traced.measured, other=PAGES, wp_uffd=PAGES)
    assert traced.account["faults"] == PAGES
    changes = traced.measured["protection_changes"]
    assert (changes["uffd_wp"], changes["uffd_unprotect"]) == (1, PAGES)


def test_protection_changes_count_ptes(run: Run) -> None:
    traced = run("toggle", PAGES)

    row = traced.measured
    assert row["protection_changes"]["mprotect"] == 2
    assert row["ptes_changed"] == 2 * PAGES


@pytest.mark.parametrize("workload", ["toggle", "fork_child", "uffd_wp"])
def test_rows_add_up(run: Run, workload: str) -> None:
    document = run(workload, PAGES).document

    for outer, inner in (("processes", "vmas"), ("totals", "processes")):
        wholes = [document["totals"]] if outer == "totals" else document[outer]
        for field in ("protection_changes", "write_faults"):
            for name in document["totals"][field]:
                whole = sum(row[field][name] for row in wholes)
                assert whole == sum(row[field][name] for row in document[inner])
        whole = sum(row["ptes_changed"] for row in wholes)
        assert whole == sum(row["ptes_changed"] for row in document[inner])
    for process in document["processes"]:
        rows = [row for row in document["vmas"] if row["pid"] == process["pid"]]
        for name, count in process["write_faults"].items():
            assert count == sum(row["write_faults"][name] for row in rows)


def test_nothing_was_lost(run: Run) -> None:
    health = run("toggle", PAGES).document["health"]

    assert health["map_full"] == 0
    assert health["missed_runs"] == 0
