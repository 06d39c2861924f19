"""Processes that come and go by the thousand, CPUs that do, memory that runs short.

All counts are those that the kernel's own accounts give, and nothing grows.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pte_trace.filters import Filters
from pte_trace.records import NOTHING, OUTCOMES, Counts
from pte_trace.session import Session
from pte_trace.snapshot import VmaRow
from tests.kernel.conftest import WORKLOADS
from tests.kernel.ground import (
    a_cpu_that_comes_and_goes,
    cgroup,
    compaction,
    inside,
    setting,
    swap,
)
from tests.kernel.tables import entries

pytestmark = [pytest.mark.once, pytest.mark.timeout(7200)]

PAGES = 3
READING_S = 1.0
WARM_UP = 1000
MOST_GROWTH = 8 << 20
FEW_PIDS = 512

SHORT_OF = 2003
TOGGLES = 50  # of tests/workloads/threads.c
FIRST_PLACE = 0x600000000000
CHURN = "memfd:churn"

Account = Mapping[str, Any]


@pytest.fixture(scope="module")
def tracer() -> Iterator[Session]:
    with Session(Filters(children=True), keep=False) as session:
        session.start()
        yield session


@pytest.fixture(scope="module")
def processes(pytestconfig: pytest.Config) -> int:
    """How many are to come and go."""
    return int(pytestconfig.getoption("--churn"))


@dataclass(frozen=True)
class Footprint:
    """What must not grow: entries of tables, open files, memory."""

    entries: Counter[str]
    files: int
    resident: int

    @staticmethod
    def now(tracer: Session) -> Footprint:
        # The tables are in pairs, and each is emptied at the second reading.
        tracer.read()
        tracer.read()
        pairs = Counter[str]()
        for table, number in entries().items():
            pairs[table.removesuffix("_a").removesuffix("_b")] += number
        _, resident, *_ = Path("/proc/self/statm").read_text().split()
        files = len(os.listdir("/proc/self/fd"))
        return Footprint(pairs, files, int(resident) * os.sysconf("SC_PAGE_SIZE"))


Churn = Callable[..., tuple[list[Account], dict[Hashable, Counts]]]


@pytest.fixture(scope="module")
def churn(tracer: Session) -> Churn:
    """Run commands, all at once. What each printed last, and what was counted meanwhile.

    That is by PID and start of the mapping, and of all mappings of the file `churn` together.
    """

    def churn(*commands: list[str]) -> tuple[list[Account], dict[Hashable, Counts]]:
        counts: dict[Hashable, Counts] = {}
        before = tracer.read().health
        with tracer.following():
            started = [
                subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in commands
            ]
        for process in started:
            running = True
            while running:
                try:
                    process.wait(READING_S)
                    running = False
                except subprocess.TimeoutExpired:
                    pass
                snapshot = tracer.read()
                for row in filter(_wanted, snapshot.vmas):
                    key = CHURN if CHURN in row.name else (row.pid, hex(row.start))
                    counts[key] = counts.get(key, NOTHING) + row.counts
        said = [process.communicate()[0].splitlines() for process in started]
        assert [process.returncode for process in started] == [0] * len(started)
        after = snapshot.health
        assert (after.map_full, after.missed_runs) == (before.map_full, before.missed_runs)
        return [json.loads(lines[-1]) for lines in said], counts

    return churn


def _wanted(row: VmaRow) -> bool:
    return CHURN in row.name or (row.start >= FIRST_PLACE and row.comm != "churn")


@pytest.fixture(scope="module")
def warm(churn: Churn) -> None:
    """Python keeps the memory that the largest reading took."""
    churn(_short_lived("one-by-one", WARM_UP))


@pytest.fixture
def nothing_grows(tracer: Session, warm: None) -> Iterator[None]:
    """Tables are as empty as before, no file is open, memory is as it was after the first many."""
    before = Footprint.now(tracer)
    yield
    after = Footprint.now(tracer)
    assert after.entries == before.entries
    assert after.files == before.files
    assert after.resident < before.resident + MOST_GROWTH


def _short_lived(how: str, processes: int) -> list[str]:
    return [str(WORKLOADS / "churn"), how, str(processes), str(PAGES)]


def _exact(account: Account, counted: Counts, optimized: bool) -> None:
    """Each process wrote to its pages, toggled them and wrote again."""
    faults = dict(zip(OUTCOMES, counted.write_faults, strict=True))
    processes = account["processes"]
    pages = processes * PAGES
    assert sum(faults.values()) == account["faults"]
    assert faults["other"] == pages
    assert counted.avoidable == (0 if optimized else pages)
    assert sum(counted.made_writable) == (pages if optimized else 0)
    assert sum(counted.changes) == 2 * processes
    assert sum(counted.ptes_changed) == 2 * pages


@pytest.mark.usefixtures("nothing_grows")
def test_short_lived_processes_whose_pids_come_again(
    churn: Churn, processes: int, optimized: bool
) -> None:
    with setting("kernel.pid_max", FEW_PIDS):
        (account,), counts = churn(_short_lived("one-by-one", processes))
    assert account["processes"] == processes
    assert account["wraps"] >= processes // FEW_PIDS
    _exact(account, counts[CHURN], optimized)


@pytest.mark.usefixtures("nothing_grows")
def test_a_fork_bomb_in_a_cgroup(
    churn: Churn, processes: int, optimized: bool, tmp_path: Path
) -> None:
    with cgroup(tmp_path, pids_max=64) as group:
        (account,), counts = churn(inside(group, *_short_lived("bomb", processes)))
    assert account["processes"] == processes
    assert account["refused"] > 0
    _exact(account, counts[CHURN], optimized)


@pytest.mark.usefixtures("nothing_grows")
def test_a_storm_of_execs(churn: Churn, processes: int, optimized: bool) -> None:
    execs = processes // 4
    (account,), counts = churn(_short_lived("storm", execs))
    assert account["processes"] == execs
    _exact(account, counts[CHURN], optimized)


def _agree(accounts: list[Account], counts: dict[Hashable, Counts], touched: int) -> None:
    for account in accounts:
        faults = counts[account["pid"], account["start"]].write_faults
        assert sum(faults) == touched + account["faults"]


@pytest.mark.usefixtures("nothing_grows")
def test_threads_that_toggle_and_write_on_cpus_that_come_and_go(churn: Churn) -> None:
    with a_cpu_that_comes_and_goes():
        accounts, counts = churn(*[[str(WORKLOADS / "threads"), "101"]] * 4)
    for account in accounts:
        assert sum(counts[account["pid"], account["start"]].changes) == 2 * TOGGLES
    _agree(accounts, counts, touched=101)


@pytest.mark.usefixtures("nothing_grows")
def test_memory_that_runs_short_is_swapped_and_compacted(churn: Churn, tmp_path: Path) -> None:
    with (
        setting("vm.compact_unevictable_allowed", 0),
        swap(),
        cgroup(tmp_path, memory_max=4 << 20) as group,
        compaction(),
    ):
        accounts, counts = churn(inside(group, WORKLOADS / "pressure", SHORT_OF))
    assert accounts[0]["faults"] > 2 * SHORT_OF
    _agree(accounts, counts, touched=0)
