"""How far to look: what is left out is told, and what is not looked at is unknown, not 0."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pte_trace.effort import Effort
from pte_trace.filters import Filters
from pte_trace.session import Session
from pte_trace.views.document import document
from tests.kernel.conftest import MOST_TABLES, WORKLOADS, Run

BEYOND_THE_LIMIT = 60013
PAGES = 23
TABLE = 512
# One page in each of so many page tables is written, and all are toggled at once.
MANY_TABLES = 1500
SPARSE = """
import ctypes, mmap, sys
tables, span = int(sys.argv[1]), 1 << 21
memory = mmap.mmap(-1, (tables + 1) * span, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
place = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
length = ctypes.c_size_t(tables * span)
for table in range(tables):
    memory[table * span] = 1
for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
    assert not ctypes.CDLL(None).mprotect(place, length, protection)
"""


def test_what_is_beyond_the_limit_is_counted_apart(run: Run, optimized: bool) -> None:
    """The mapping begins where a page table does."""
    traced = run("toggle", BEYOND_THE_LIMIT)

    row = traced.measured
    inspected = MOST_TABLES * TABLE if optimized else 0
    assert row["ptes_changed"] == 2 * BEYOND_THE_LIMIT
    assert row["ptes_inspected"] == inspected
    assert row["ptes_made_writable"] == inspected
    assert traced.document["health"]["ptes_not_inspected"] == {
        "huge": 0,
        "limit": BEYOND_THE_LIMIT - inspected if optimized else 0,
    }
    timed = {outcome: cost["count"] for outcome, cost in row["fault_ns"].items()}
    assert timed == row["write_faults"]


@pytest.mark.once
def test_as_many_page_tables_are_looked_at_as_there_are(optimized: bool) -> None:
    with Session(Filters(children=True)) as session:
        session.start()
        with session.following():
            process = subprocess.Popen([sys.executable, "-c", SPARSE, str(MANY_TABLES)])
        assert process.wait(timeout=120) == 0
        found = document(session.read())

    row = max(found["vmas"], key=lambda row: int(row["ptes_changed"]))
    assert row["ptes_changed"] == 2 * MANY_TABLES
    assert row["ptes_made_writable"] == (MANY_TABLES if optimized else 0)
    assert found["health"]["ptes_not_inspected"]["limit"] == 0


@pytest.mark.once
def test_what_is_not_looked_at_is_unknown(optimized: bool) -> None:
    with Session(Filters(children=True), effort=Effort(inspect=0, costs=0)) as session:
        session.start()
        with session.following():
            process = subprocess.Popen(
                [WORKLOADS / "toggle", str(PAGES)], stdout=subprocess.PIPE, text=True
            )
        output, _ = process.communicate(timeout=120)
        found = document(session.read())

    start = json.loads(output.splitlines()[-1])["start"]
    (row,) = (row for row in found["vmas"] if row["start"] == start)
    assert row["write_faults"]["wp_reuse"] == (0 if optimized else PAGES)
    assert row["ptes_inspected"] is None
    assert row["ptes_made_writable"] is None
    assert set(row["ptes_left_readonly"].values()) == {None}
    assert set(row["fault_ns"].values()) == {None}
    assert set(found["health"]["ptes_not_inspected"].values()) == {None}
