"""Rows of mappings add up to processes, those to the totals."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pte_trace.host.plan import How
from pte_trace.session import Session
from pte_trace.views.document import document
from tests.kernel.conftest import WORKLOADS, Run

PLACE = "0x600000000000"
PAGES = 23
MANY_PAGES = 40009
READINGS = 12
AT_ONCE = 4


def figures(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """The figures of a ROW that are not 0, under dotted names; a histogram's one by one."""
    for name, figure in row.items():
        if isinstance(figure, Mapping):
            yield from figures(figure, f"{prefix}{name}.")
        elif isinstance(figure, list):
            yield from figures({f"{name}.{n}": each for n, each in enumerate(figure)}, prefix)
        elif figure and not isinstance(figure, str) and name not in ("pid", "ppid"):
            yield prefix + name, figure


def added_up(rows: list[dict[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        for name, figure in figures(row):
            found[name] = found.get(name, 0) + figure
    return found


@pytest.mark.parametrize("workload", ["toggle", "fork_child", "uffd_wp"])
def test_rows_add_up(run: Run, workload: str) -> None:
    found = run(workload, PAGES).document

    totals = dict(figures(found["totals"]))
    assert totals["write_faults.other"] >= PAGES
    assert added_up(found["processes"]) == totals
    for process in found["processes"]:
        rows = [row for row in found["vmas"] if row["pid"] == process["pid"]]
        assert added_up(rows) == dict(figures(process))


def test_readings_while_there_are_faults_lose_none(session: Session) -> None:
    missed = document(session.read())["health"]["missed_runs"]
    started: list[subprocess.Popen[bytes]] = []
    found = []
    with session.following():
        for _ in range(READINGS):
            while sum(process.poll() is None for process in started) < AT_ONCE:
                started.append(subprocess.Popen([WORKLOADS / "toggle", str(MANY_PAGES)]))
            found.append(document(session.read()))
    for process in started:
        process.wait()
    found.append(document(session.read()))

    touched: Counter[int] = Counter()
    for row in (row for each in found for row in each["vmas"] if row["start"] == PLACE):
        touched[row["pid"]] += row["write_faults"]["other"]
    # A kretprobe has room for as many calls as there are CPUs, and a change may sleep (Linux 5.10).
    if session.plan.attachments["change_protection"].how is not How.KPROBE:
        assert found[-1]["health"]["missed_runs"] == missed
    assert touched == {process.pid: MANY_PAGES for process in started}
