"""What tracing adds to a fault where there are many mappings, or many CPUs that fault.

    make bench-scale

Runs build/workloads/scale as it is and with everything traced. By mappings in a guest that counts
instructions, which has one CPU; by CPUs in one that has eight, where time is all there is: each is
the least of ROUNDS, and only the ratio of the two is kept. Prints a table and writes the figures to
docs/overhead/scale.json.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from rich.table import Table

from pte_trace.filters import Filters
from pte_trace.program import Capacity
from pte_trace.session import Session
from tests.bench import guest
from tests.kernel.ground import setting

MAPPINGS = (10, 100, 1_000, 10_000, 100_000)
CPUS = (1, 2, 4, 8)
ROUNDS = 3
PAGES = 10_000  # at least
_FEW = 1_000  # mappings, where CPUs are added
_CHECKOUT = Path(__file__).parents[2]
_PROGRAM = _CHECKOUT / "build/workloads/scale"
_RECORDED = _CHECKOUT / "docs/overhead/scale.json"
_TIMEOUT = 3000.0


def measure() -> dict[str, Any]:
    """In the guest: by mappings where it has one CPU, else by CPUs."""
    return _by_mappings() if os.cpu_count() == 1 else _by_cpus()


def _by_mappings() -> dict[str, Any]:
    """Instructions that a fault takes untraced, and that tracing adds."""
    with setting("vm.max_map_count", 2 * MAPPINGS[-1]):
        untraced = {mappings: _took(mappings) for mappings in MAPPINGS}
        added = {mappings: _traced(mappings) - untraced[mappings] for mappings in MAPPINGS}
    return {"release": os.uname().release, "untraced": untraced, "added": added}


def _by_cpus() -> dict[str, Any]:
    """How many times as long a fault takes when it is traced."""
    untraced = {cpus: min(_took(_FEW, cpus) for _ in range(ROUNDS)) for cpus in CPUS}
    with _session() as session:
        session.start()
        traced = {cpus: min(_took(_FEW, cpus) for _ in range(ROUNDS)) for cpus in CPUS}
    return {"ratio": {cpus: traced[cpus] / untraced[cpus] for cpus in CPUS}}


def _session() -> Session:
    return Session(Filters(), capacity=Capacity(records=2 * MAPPINGS[-1]))


def _traced(mappings: int) -> float:
    with _session() as session:
        session.start()
        took = _took(mappings)
        assert not session.read().health.map_full
    return took


def _took(mappings: int, cpus: int = 1) -> float:
    """Nanoseconds per fault."""
    command = [str(_PROGRAM), *map(str, (mappings, cpus, max(mappings, PAGES)))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    took: dict[str, int] = json.loads(done.stdout)
    return took["ns"] / took["faults"]


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"A copying fault, Linux {found['release']}", box=None)
    for heading in ("", "INSTRUCTIONS", "ADDED", "OF THE FIRST", "TIMES AS LONG"):
        table.add_column(heading, justify="right" if heading else "left")
    first, *_ = found["added"].values()
    for mappings, added in found["added"].items():
        cells = f"{found['untraced'][mappings]:,.0f}", f"{added:,.0f}", f"{added / first:.2f}"
        table.add_row(f"{int(mappings):,} mappings", *cells)
    for cpus, ratio in found["ratio"].items():
        table.add_row(f"{cpus} CPUs", "", "", "", f"{ratio:.2f}")
    return table


def main(kernel: str) -> None:
    module = "tests.bench.scale"
    found = guest.measured(module, kernel, _TIMEOUT)
    found |= guest.measured(module, kernel, _TIMEOUT, icount=False, cpus=CPUS[-1])
    guest.record(found, _table(found), _RECORDED)


if __name__ == "__main__":
    guest.program(measure, main)
