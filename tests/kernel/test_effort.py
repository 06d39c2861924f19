"""How far to look: what is left out is told, and what is not looked at is unknown, not 0."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from pte_trace.effort import Effort
from pte_trace.filters import Filters
from pte_trace.session import Session
from pte_trace.views.document import document
from tests.kernel.conftest import WORKLOADS

PAGES = 40009
TABLE = 512
LIMIT = 3
START = "0x600000000000"


def traced(effort: Effort) -> dict[str, Any]:
    """The document of a change over 79 page tables. Its mapping begins where a table does."""
    with Session(Filters(children=True), effort=effort) as session:
        session.start()
        with session.following():
            process = subprocess.Popen(
                [WORKLOADS / "toggle", str(PAGES)], stdout=subprocess.PIPE, text=True
            )
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert json.loads(output.splitlines()[-1])["start"] == START
        return document(session.read())


def measured(found: dict[str, Any]) -> dict[str, Any]:
    (row,) = (row for row in found["vmas"] if row["start"] == START)
    return dict(row)


def test_what_is_beyond_the_limit_is_counted_apart(optimized: bool) -> None:
    found = traced(Effort(inspect=LIMIT, costs=1))

    row = measured(found)
    inspected = LIMIT * TABLE if optimized else 0
    assert row["ptes_changed"] == 2 * PAGES
    assert row["ptes_inspected"] == inspected
    assert row["ptes_made_writable"] == inspected
    assert found["health"]["ptes_not_inspected"] == {
        "huge": 0,
        "limit": PAGES - inspected if optimized else 0,
    }
    timed = {outcome: cost["count"] for outcome, cost in row["fault_ns"].items()}
    assert timed == row["write_faults"]


def test_what_is_not_looked_at_is_unknown(optimized: bool) -> None:
    found = traced(Effort(inspect=0, costs=0))

    row = measured(found)
    assert row["write_faults"]["wp_reuse"] == (0 if optimized else PAGES)
    assert row["ptes_inspected"] is None
    assert row["ptes_made_writable"] is None
    assert set(row["ptes_left_readonly"].values()) == {None}
    assert set(row["fault_ns"].values()) == {None}
    assert set(found["health"]["ptes_not_inspected"].values()) == {None}
