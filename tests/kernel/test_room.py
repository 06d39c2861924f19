"""What the programs' tables take of the kernel's memory is what is said of them."""

from __future__ import annotations

import pytest

from pte_trace.filters import Filters
from pte_trace.programs.program import Capacity
from pte_trace.session import Session
from tests.kernel import tables

MOST = 32e6
# Said in Capacity.kernel_bytes: what does not grow with them; and a byte for each PID there can be,
# where processes are followed.
FIXED, FOLLOWED = 2_600_000, 4_200_000


def taken(filters: Filters, capacity: Capacity) -> int:
    others = tables.memory()
    with Session(filters, capacity=capacity):
        return sum(table.bytes for number, table in tables.memory().items() if number not in others)


@pytest.mark.parametrize("vmas", [Capacity.records, 50_000])
def test_tables_take_what_is_said_of_them(vmas: int) -> None:
    capacity = Capacity.of(vmas)
    found = taken(Filters(), capacity)

    assert 0.95 * capacity.kernel_bytes < found < 1.02 * capacity.kernel_bytes + FIXED
    if vmas == Capacity.records:
        assert found <= MOST


def test_what_follows_processes_takes_a_byte_for_each_pid_more() -> None:
    capacity = Capacity(records=64)
    more = taken(Filters(children=True), capacity) - taken(Filters(), capacity)

    assert more == pytest.approx(FOLLOWED, rel=0.02)
