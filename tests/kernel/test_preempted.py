"""Kernels that may be preempted anywhere, and hundreds of calls at once: no run is missed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pte_trace.counted.snapshot import Snapshot
from pte_trace.filters import Filters
from pte_trace.host.plan import How
from pte_trace.session import Session
from pte_trace.views.document import document
from tests.kernel.conftest import GUEST, WORKLOADS

PREEMPTION = Path("/sys/kernel/debug/sched/preempt")
TASKS, PAGES, ROUNDS = 8, 199, 40
SLEEPERS = 500
# Each compiles programs of its own.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def preempted() -> Iterator[None]:
    """As a kernel that was booted with preempt=full, where that can be chosen."""
    if not PREEMPTION.exists():
        yield
        return
    before = PREEMPTION.read_text().partition("(")[2].partition(")")[0]
    PREEMPTION.write_text("full")
    yield
    PREEMPTION.write_text(before)


def counted(*command: object, times: int = 1) -> tuple[Session, Snapshot, list[dict[str, object]]]:
    """So many of a workload at once; what was counted, and what each said of itself."""
    with Session(Filters(children=True)) as session:
        session.start()
        with session.following():
            started = [
                subprocess.Popen(
                    [WORKLOADS / str(command[0]), *map(str, command[1:])],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for _ in range(times)
            ]
        said = [json.loads(each.communicate(timeout=600)[0]) for each in started]
        assert [each.returncode for each in started] == [0] * times
        return session, session.read(), said


def row_of(found: dict[str, Any], account: dict[str, object]) -> dict[str, Any]:
    """The row of the mapping that a workload said it wrote to."""
    row: dict[str, Any]
    (row,) = (
        row
        for row in found["vmas"]
        if (row["pid"], row["start"]) == (account["pid"], account["start"])
    )
    return row


@pytest.mark.usefixtures("preempted")
def test_busy_tasks_on_few_cpus_are_counted_to_the_last_fault(optimized: bool) -> None:
    session, snapshot, said = counted("busy", PAGES, times=TASKS)
    found = document(snapshot)
    rows = [row_of(found, account) for account in said]
    each = ROUNDS * PAGES
    expected = {"other": each, "wp_reuse": each, "wp_copy": each}
    for row in rows:
        assert {name: number for name, number in row["write_faults"].items() if number} == expected
    changes = sum(row["protection_changes"]["mprotect"] for row in rows)
    missed = found["health"]["missed_runs"]
    assert TASKS * 2 * ROUNDS - changes <= missed
    if missed:
        # A kretprobe has room for as many calls as there are CPUs where a kernel is not
        # preempted, and this one may sleep: Linux 5.10 says what it loses.
        assert session.plan.attachments["change_protection"].how is How.KPROBE
        assert GUEST == "bullseye"
    assert sum(row["ptes_changed"] for row in rows) == changes * PAGES
    assert sum(row["ptes_made_writable"] for row in rows) == (TASKS * each if optimized else 0)


@pytest.mark.usefixtures("preempted")
def test_hundreds_of_calls_that_sleep_at_once() -> None:
    """A kretprobe has room for some ten of them, and then says how many it lost."""
    session, snapshot, (account,) = counted("asleep", SLEEPERS)
    found = document(snapshot)
    row = row_of(found, account)
    seen = sum(row["write_faults"].values())
    if session.plan.attachments["handle_mm_fault"].how is How.KPROBE:
        assert GUEST != "sid"
        assert seen <= SLEEPERS
        assert found["health"]["missed_runs"] or seen == SLEEPERS
        return
    assert found["health"]["missed_runs"] == 0
    assert row["write_faults"]["wp_copy"] == seen == SLEEPERS
