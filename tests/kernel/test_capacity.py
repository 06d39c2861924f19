"""No room in the kernel's tables: sums stay exact, and what could not be attributed is said.

Two sessions trace the same processes at once: one with room for all, one with next to none.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pte_trace.filters import Filters
from pte_trace.programs.program import Capacity
from pte_trace.session import Session
from pte_trace.views.document import document
from tests.kernel.conftest import WORKLOADS

pytestmark = pytest.mark.once

PAGES = 3
FEW = Capacity(records=64, remainders=256)
UNATTRIBUTED = "[not attributed]"
EXACT = ("protection_changes", "ptes_changed", "ptes_made_writable", "write_faults")

Document = dict[str, Any]
Both = Callable[[int], tuple[Document, Document]]


@pytest.fixture(scope="module")
def cramped() -> Iterator[Session]:
    with Session(Filters(children=True), capacity=FEW) as session:
        session.start()
        yield session


@pytest.fixture
def both(session: Session, cramped: Session) -> Both:
    """What the two saw of so many short-lived children: with room for all, and without."""

    def both(children: int) -> tuple[Document, Document]:
        for each in (session, cramped):
            each.read()
        with session.following(), cramped.following():
            subprocess.run(
                [WORKLOADS / "children", str(PAGES), str(children)],
                stdout=subprocess.DEVNULL,
                check=True,
            )
        return document(session.read()), document(cramped.read())

    return both


def exact(row: Document) -> Document:
    return {name: row[name] for name in EXACT}


def by_process(found: Document) -> dict[int, Document]:
    processes = {row["pid"]: exact(row) for row in found["processes"]}
    assert len(processes) == len(found["processes"])
    return processes


def unattributed(found: Document) -> list[Document]:
    return [row for row in found["vmas"] if row["name"] == UNATTRIBUTED]


def events(rows: list[Document]) -> int:
    kinds = ("write_faults", "protection_changes")
    return sum(sum(row[kind].values()) for row in rows for kind in kinds)


def test_each_process_keeps_its_sums_when_its_vmas_find_no_room(both: Both) -> None:
    before = both(1)[1]["health"]["map_full"]
    roomy, cramped = both(200)

    assert len(roomy["vmas"]) > 1000
    assert unattributed(roomy) == []
    assert by_process(cramped) == by_process(roomy)
    assert exact(cramped["totals"]) == exact(roomy["totals"])
    lost = unattributed(cramped)
    assert len(cramped["vmas"]) - len(lost) <= FEW.records
    assert len({row["pid"] for row in lost}) == len(lost) > 100
    assert cramped["health"]["map_full"] - before == events(lost)


def test_what_ended_makes_room_at_the_next_reading(both: Both) -> None:
    before = both(200)[1]["health"]["map_full"]
    _, cramped = both(3)

    assert unattributed(cramped) == []
    assert cramped["health"]["map_full"] == before


def test_the_total_stays_exact_when_processes_find_no_room_either(both: Both) -> None:
    roomy, cramped = both(400)

    assert exact(cramped["totals"]) == exact(roomy["totals"])
    (nobodys,) = (row for row in unattributed(cramped) if row["pid"] == 0)
    assert nobodys["write_faults"]["other"] > 0
    assert len(unattributed(cramped)) == FEW.remainders + 1
