"""Processes that come and go by the thousand, CPUs that do, memory that runs short.

All counts are those that the kernel's own accounts give, and nothing grows.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pte_trace.counted.counters import (
    PROTECTION_CHANGES,
    PTES_CHANGED,
    PTES_MADE_WRITABLE,
    WRITE_FAULTS,
)
from pte_trace.counted.counts import NOTHING, Counts
from pte_trace.counted.mapping import VmaRow
from pte_trace.exporter import memory
from pte_trace.filters import Filters
from pte_trace.session import Session
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
from tests.soak.exporter import exporter

# How long each may take is in conftest.py: it depends on how many processes are asked for.
pytestmark = pytest.mark.once

PAGES = 3
READING_S = 1.0
# What Python keeps may not grow by as much as one object for each process that it was told of. What
# is resident rises with the largest reading, which is chance here; of 100,000 processes it is 84
# bytes for each of the second half.
MOST_MORE_BLOCKS = 200
MOST_GROWTH = 4 << 20
# Where readings are alike it is 10 bytes for each of 50,000.
MOST_GROWTH_IN_LIKE_READINGS = 512 << 10
READ_AT_ONCE = 500
LEAST_READINGS = 10  # in each half: the first few are not yet like those after
FEW_PIDS = 512
STORMS = 4

SHORT_OF = 2003
TOGGLES = 50  # of tests/workloads/threads.c
FIRST_PLACE = 0x600000000000
CHURN = "memfd:churn"

Account = Mapping[str, Any]


@pytest.fixture(scope="module")
def tracer() -> Iterator[Session]:
    memory.keep_small()
    with Session(Filters(children=True), keep=False) as session:
        session.start()
        yield session


@pytest.fixture(scope="module")
def processes(pytestconfig: pytest.Config) -> int:
    """How many are to come and go."""
    return int(pytestconfig.getoption("--churn"))


@dataclass(frozen=True)
class Footprint:
    """What must not grow: entries of tables, open files, what Python keeps, memory."""

    entries: Counter[str]
    files: int
    blocks: int
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
        gc.collect()
        blocks = sys.getallocatedblocks()
        return Footprint(pairs, files, blocks, int(resident) * os.sysconf("SC_PAGE_SIZE"))


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


def _kept_still(before: Footprint, after: Footprint) -> None:
    """Tables are as empty as before, no file stayed open, memory is as it was."""
    assert after.entries == before.entries
    assert after.files == before.files
    assert after.blocks < before.blocks + MOST_MORE_BLOCKS
    assert after.resident < before.resident + MOST_GROWTH


@pytest.fixture
def nothing_grows(tracer: Session) -> Iterator[None]:
    before = Footprint.now(tracer)
    yield
    _kept_still(before, Footprint.now(tracer))


Halves = Callable[..., tuple[list[Account], Counts]]


@pytest.fixture
def in_halves(tracer: Session, churn: Churn) -> Halves:
    """Run commands, and then again: nothing grows from one end to the other.

    What each of both said, and what was counted of short-lived processes.
    """

    def short_lived(*commands: list[str]) -> tuple[list[Account], Counts]:
        accounts, counts = churn(*commands)
        return accounts, counts[CHURN]

    def in_halves(*commands: list[str]) -> tuple[list[Account], Counts]:
        accounts, counted = short_lived(*commands)
        half = Footprint.now(tracer)
        more_accounts, more_counted = short_lived(*commands)
        _kept_still(half, Footprint.now(tracer))
        return accounts + more_accounts, counted + more_counted

    return in_halves


def _short_lived(how: str, processes: int) -> list[str]:
    return [str(WORKLOADS / "churn"), how, str(processes), str(PAGES)]


def _exact(accounts: list[Account], counted: Counts, optimized: bool) -> None:
    """Each process wrote to its pages, toggled them and wrote again."""
    faults = counted.by_name(WRITE_FAULTS)
    processes = sum(account["processes"] for account in accounts)
    pages = processes * PAGES
    assert sum(faults.values()) == sum(account["faults"] for account in accounts)
    assert faults["other"] == pages
    assert counted.avoidable == (0 if optimized else pages)
    assert counted.sum(PTES_MADE_WRITABLE) == (pages if optimized else 0)
    assert counted.sum(PROTECTION_CHANGES) == 2 * processes
    assert counted.sum(PTES_CHANGED) == 2 * pages


def test_short_lived_processes_whose_pids_come_again(
    in_halves: Halves, processes: int, optimized: bool
) -> None:
    half = processes // 2
    with setting("kernel.pid_max", FEW_PIDS):
        accounts, counts = in_halves(_short_lived("one-by-one", half))
    assert [account["processes"] for account in accounts] == [half, half]
    assert all(account["wraps"] >= half // FEW_PIDS for account in accounts)
    _exact(accounts, counts, optimized)


def test_a_fork_bomb_in_a_cgroup(
    in_halves: Halves, processes: int, optimized: bool, tmp_path: Path
) -> None:
    half = processes // 2
    with cgroup(tmp_path, pids_max=64) as group:
        accounts, counts = in_halves(inside(group, *_short_lived("bomb", half)))
    assert [account["processes"] for account in accounts] == [half, half]
    assert all(account["refused"] > 0 for account in accounts)
    _exact(accounts, counts, optimized)


def test_storms_of_execs(in_halves: Halves, processes: int, optimized: bool) -> None:
    """Programs that execute themselves, several at once."""
    each = processes // 2 // STORMS
    accounts, counts = in_halves(*[_short_lived("storm", each)] * STORMS)
    assert [account["processes"] for account in accounts] == [each] * STORMS * 2
    _exact(accounts, counts, optimized)


def test_serve_grows_by_nothing(processes: int, optimized: bool, tmp_path: Path) -> None:
    readings = max(LEAST_READINGS, processes // 2 // READ_AT_ONCE)
    accounts: list[Account] = []
    ends = []
    with cgroup(tmp_path) as group, exporter("--cgroup", group) as serve:
        for _ in range(2):
            for _ in range(readings):
                # Each batch is one reading: what the largest reading took stays the process's.
                with serve.stopped():
                    said = subprocess.check_output(
                        inside(group, *_short_lived("one-by-one", READ_AT_ONCE))
                    )
                accounts.append(json.loads(said))
                serve.scrape()
            serve.scrape()
            ends.append((serve.footprint(), serve.sum("map_entries")))
        counted = {
            name: serve.by(f"{name}_total", "mapping")[CHURN]
            for name in ("write_faults", "protection_changes", "ptes_changed", "ptes_made_writable")
        }
        lost = {name: serve.sum(f"{name}_total") for name in ("map_full", "missed_runs")}
    (first, entries_then), (last, entries_now) = ends
    assert lost == {"map_full": 0, "missed_runs": 0}
    ran = sum(account["processes"] for account in accounts)
    assert ran == 2 * readings * READ_AT_ONCE
    assert counted == {
        "write_faults": sum(account["faults"] for account in accounts),
        "protection_changes": 2 * ran,
        "ptes_changed": 2 * ran * PAGES,
        "ptes_made_writable": ran * PAGES if optimized else 0,
    }
    assert (last.files, entries_now) == (first.files, entries_then)
    assert last.resident < first.resident + MOST_GROWTH_IN_LIKE_READINGS


def _agree(accounts: list[Account], counts: dict[Hashable, Counts], touched: int) -> None:
    for account in accounts:
        faults = counts[account["pid"], account["start"]][WRITE_FAULTS]
        assert sum(faults) == touched + account["faults"]


@pytest.mark.usefixtures("nothing_grows")
def test_threads_that_toggle_and_write_on_cpus_that_come_and_go(churn: Churn) -> None:
    with a_cpu_that_comes_and_goes():
        accounts, counts = churn(*[[str(WORKLOADS / "threads"), "101"]] * 4)
    for account in accounts:
        assert counts[account["pid"], account["start"]].sum(PROTECTION_CHANGES) == 2 * TOGGLES
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
