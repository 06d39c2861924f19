"""What tracing adds to a fault where there are many mappings, or many CPUs that fault.

    make bench-scale

Runs build/workloads/scale as it is and with everything traced. By mappings in a guest whose clock
counts instructions, which can have one CPU only: a fault's mean. By CPUs in a guest of eight, where
tests/bench/instructions.c counts those of each fault: the median, as the timer ticks more often
there, the slower this machine is. Prints a table and writes the figures to
docs/overhead/scale.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from pte_trace.filters import Filters
from pte_trace.programs.program import Capacity
from pte_trace.session import Session
from tests.bench import guest
from tests.kernel.ground import setting

MAPPINGS = (10, 100, 1_000, 10_000, 100_000)
CPUS = (1, 2, 4, 8)
PAGES = 10_000  # at least
_FEW = 1_000  # mappings, where CPUs are added
_CHECKOUT = Path(__file__).parents[2]
_PROGRAM = _CHECKOUT / "build/workloads/scale"
_PLUGIN = _CHECKOUT / "build/bench/instructions.so"
_RECORDED = _CHECKOUT / "docs/overhead/scale.json"
_MODULE = "tests.bench.scale"
_TIMEOUT = 3000.0


def measure() -> dict[str, Any]:
    """In the guest: instructions by mappings where it has one CPU, else the faults by CPUs."""
    return _by_mappings() if os.cpu_count() == 1 else _counted_outside()


def _by_mappings() -> dict[str, Any]:
    with setting("vm.max_map_count", 2 * MAPPINGS[-1]):
        untraced = {mappings: _took(mappings) for mappings in MAPPINGS}
        traced = {mappings: _traced(mappings) for mappings in MAPPINGS}
    return {"release": os.uname().release, "mappings": _compared(untraced, traced)}


def _counted_outside() -> dict[str, Any]:
    """How many faults each run had, in the order of the runs."""
    untraced = {cpus: _run(_FEW, cpus)["faults"] for cpus in CPUS}
    with _session() as session:
        session.start()
        return {"untraced": untraced, "traced": {cpus: _run(_FEW, cpus)["faults"] for cpus in CPUS}}


def _session() -> Session:
    return Session(Filters(), capacity=Capacity(records=2 * MAPPINGS[-1]))


def _traced(mappings: int) -> float:
    with _session() as session:
        session.start()
        took = _took(mappings)
        assert not session.read().health.map_full
    return took


def _took(mappings: int) -> float:
    """Nanoseconds per fault."""
    took = _run(mappings, 1)
    return took["ns"] / took["faults"]


def _run(mappings: int, cpus: int) -> dict[str, int]:
    command = [str(_PROGRAM), *map(str, (mappings, cpus, max(mappings, PAGES)))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    took: dict[str, int] = json.loads(done.stdout)
    return took


def _by_cpus(kernel: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        counts = Path(directory, "counts")
        plugin = f"{_PLUGIN},to={counts}"
        faults = guest.measured(_MODULE, kernel, _TIMEOUT, cpus=CPUS[-1], plugin=plugin)
        counted = [int(line) for line in counts.read_text().splitlines()]
    assert len(counted) == sum(sum(runs.values()) for runs in faults.values())
    each = iter(counted)
    untraced, traced = (
        {cpus: median(islice(each, many)) for cpus, many in faults[way].items()}
        for way in ("untraced", "traced")
    )
    return _compared(untraced, traced)


def _compared(untraced: dict[Any, float], traced: dict[Any, float]) -> dict[str, Any]:
    """What a fault takes untraced, and what tracing adds to it."""
    return {"untraced": untraced, "added": {of: traced[of] - untraced[of] for of in untraced}}


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"A write-protect fault, Linux {found['release']}", box=None)
    for heading in ("", "INSTRUCTIONS", "ADDED", "OF THE FIRST"):
        table.add_column(heading, justify="right" if heading else "left")
    for what in ("mappings", "cpus"):
        first, *_ = found[what]["added"].values()
        for many, added in found[what]["added"].items():
            untraced = found[what]["untraced"][many]
            cells = f"{untraced:,.0f}", f"{added:,.0f}", f"{added / first:.2f}"
            table.add_row(f"{int(many):,} {what}", *cells)
    return table


def main(kernel: str) -> None:
    found = guest.measured(_MODULE, kernel, _TIMEOUT)
    found["cpus"] = _by_cpus(kernel)
    guest.record(found, _table(found), _RECORDED)


if __name__ == "__main__":
    guest.program(measure, main)
