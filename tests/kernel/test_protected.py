"""What had write-protected a page, and who wrote to it, beyond the workload table."""

from __future__ import annotations

from typing import Any

from pte_trace.session import Session
from tests.kernel.conftest import Run

PROGRAM, KERNEL, REMOTE = 23, 29, 31


def some(numbers: dict[str, int]) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if number}


def test_who_writes_is_told_apart(run: Run) -> None:
    measured = run("origin", PROGRAM, KERNEL, REMOTE).measured
    assert some(measured["write_faults"]) == {"other": PROGRAM + KERNEL + REMOTE}
    assert measured["write_faults_origin"] == {"user": PROGRAM, "kernel": KERNEL, "remote": REMOTE}


def test_what_protected_a_page_is_remembered_over_readings(run: Run, session: Session) -> None:
    """No kernel makes hugetlb pages writable. The change is in a reading before its faults."""

    def look(pid: int, workload: dict[str, Any]) -> None:
        session.read()

    measured = run("sized", "2m", "toggled", look=look).measured
    assert some(measured["protection_changes"]) == {}
    assert some(measured["wp_protected_by"]["wp_reuse"]) == {"mprotect": 7}


def test_what_is_left_of_a_mapping_is_a_forks_still(run: Run) -> None:
    """Before Linux 5.19 pages do not tell, and another mapping of the process was changed."""
    measured = run("fork_parts", PROGRAM).measured
    assert measured["ptes_protected_by_fork"] == PROGRAM + 1
    assert some(measured["wp_protected_by"]["wp_reuse"]) == {"fork": PROGRAM}
