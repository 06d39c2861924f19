"""Tests on a real kernel: they run inside a guest of the lab, where a skip is a failure."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pte_trace.counted.snapshot import Snapshot
from pte_trace.effort import Effort
from pte_trace.filters import Filters
from pte_trace.host import behavior
from pte_trace.host.plan import How
from pte_trace.programs.program import Capacity
from pte_trace.session import EVERY_WAY, Session
from pte_trace.views.document import document
from tests.kernel import leftovers

# The first start of each kind compiles the BPF programs, which takes half a minute under
# emulation. What does not depend on the kernel is tested on one, spread so that all take as long.
ONCE_ON = {
    "test_readme": "trixie",
    "test_commands": "bullseye",
    "test_record": "sid",
    "test_ends": "sid",
    "test_churn": "trixie",
    "test_strangers": "trixie",
}
ONCE_ON_OTHERWISE = "bookworm"
# With --spread, these on one kernel each too: each compiles programs of its own.
SPREAD_ON = {"test_explain": "bullseye", "test_rights": "trixie"}
GUEST = os.environ.get("PTE_TRACE_LAB")
# Room for the files of one reading: few, so that a test can use up what is not given back.
MOST_FILES = 64
# More page tables than any workload of the zoo changes at once.
MOST_TABLES = 100
WORKLOADS = Path(__file__).parents[2] / "build" / "workloads"
# Faults and changes alone: the least that can be asked for.
LITTLE = ("--inspect", "none", "--costs", "none")
# What a test of test_churn takes at most: to begin, and for each process.
CHURN_BEGINS_S, CHURN_S = 600, 0.5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--churn",
        type=int,
        default=1000,
        help="how many short-lived processes come and go in each test of them",
    )
    parser.addoption(
        "--spread",
        action="store_true",
        help="run on one kernel what traces in another way than all other tests, not on each",
    )

    parser.addoption(
        "--attach",
        choices=[how.value for how in How],
        help="attach in this way alone what most tests count with, not as the plan would",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not GUEST:
        reason = "needs a kernel that may be traced: `make test-kernel` boots one in the lab"
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))
    else:
        elsewhere = [item for item in items if not _runs_here(item)]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
    churning = pytest.mark.timeout(CHURN_BEGINS_S + CHURN_S * config.getoption("--churn"))
    for item in items:
        if item.path.stem == "test_churn":
            item.add_marker(churning)
    items.sort(key=lambda item: item.get_closest_marker("lasting") is not None)


def _runs_32_bit_programs() -> bool:
    """CONFIG_IA32_EMULATION: not in the kernels that the lab builds."""
    try:
        subprocess.run([WORKLOADS / "stacks32"], stdout=subprocess.DEVNULL, check=True)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return False
    return True


def _runs_here(item: pytest.Item) -> bool:
    name = item.path.stem
    if item.get_closest_marker("of_32_bits") and not _runs_32_bit_programs():
        return False
    if item.get_closest_marker("once"):
        return ONCE_ON.get(name, ONCE_ON_OTHERWISE) == GUEST
    spread = item.config.getoption("--spread") and name in SPREAD_ON
    return not spread or SPREAD_ON[name] == GUEST


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if GUEST and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped inside the lab: {report.longrepr}"
    return report


@dataclass(frozen=True)
class Traced:
    """What a workload printed, what was counted in the interval and lost in it."""

    status: int
    lines: list[str]
    snapshot: Snapshot
    lost: int

    @cached_property
    def document(self) -> dict[str, Any]:
        """The interval's JSON document."""
        return document(self.snapshot)

    @property
    def account(self) -> dict[str, Any]:
        """The workload's own account, from getrusage(2) and /proc/vmstat."""
        account: dict[str, Any] = json.loads(self.lines[-1])
        return account

    def vma(self, start: str, pid: int | None = None) -> dict[str, Any]:
        """The row of the mapping that begins at *start*."""
        rows: list[dict[str, Any]] = [
            row
            for row in self.document["vmas"]
            if row["start"] == start and pid in (None, row["pid"])
        ]
        assert len(rows) == 1, rows
        return rows[0]

    @property
    def measured(self) -> dict[str, Any]:
        """The row of the mapping that the workload gave its account of."""
        return self.vma(self.account["start"], self.account["pid"])


Run = Callable[..., Traced]
Look = Callable[[int, dict[str, Any]], None]


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Iterator[Session]:
    """The programs, compiled and attached once for all tests."""
    few, enough = Capacity(files=MOST_FILES), Effort(inspect=MOST_TABLES)
    attach = pytestconfig.getoption("--attach")
    ways = (How(attach),) if attach else EVERY_WAY
    with Session(Filters(children=True), capacity=few, effort=enough, ways=ways) as session:
        session.start()
        yield session


@pytest.fixture
def run(session: Session) -> Run:
    """Run a workload, traced from its first instruction on.

    Where it looks at its pages before the last writes, *look* is called with its PID and what
    it saw, while it waits.
    """

    def run(
        name: str, *arguments: object, cwd: Path | None = None, look: Look | None = None
    ) -> Traced:
        before = session.read().health
        with session.following():
            process = subprocess.Popen(
                [WORKLOADS / name, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=cwd,
                env=dict(os.environ, LOOK_WITH_ME="1") if look else None,
            )
        seen = ""
        if look:
            assert process.stdout is not None
            seen = process.stdout.readline()
            if "pagemap" in seen:
                look(process.pid, json.loads(seen))
        output, _ = process.communicate(timeout=120)
        lines = (seen + output).splitlines()
        snapshot = session.read()
        after = snapshot.health
        lost = after.missed_runs - before.missed_runs + after.map_full - before.map_full
        return Traced(process.returncode, lines, snapshot, lost)

    return run


@pytest.fixture(scope="session")
def optimized() -> bool:
    """Whether this kernel has the optimization, found by doing it."""
    at_work = behavior.observe().optimization
    assert at_work is not None
    return at_work


@pytest.fixture(scope="module")
def leaves_nothing() -> Iterator[None]:
    """However the module's tests ended pte-trace, nothing of it is left."""
    before = leftovers.now()
    yield
    assert leftovers.since(before) == {}


@dataclass(frozen=True)
class Finished:
    status: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def pte_trace() -> Callable[..., Finished]:
    """Run the command line itself."""

    def pte_trace(*arguments: object) -> Finished:
        finished = subprocess.run(
            [sys.executable, "-m", "pte_trace", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Finished(finished.returncode, finished.stdout, finished.stderr)

    return pte_trace


def until_recorded(recorder: subprocess.Popen[bytes], path: Path) -> None:
    """Wait until *recorder* has written an interval to *path*: it makes the file at the first."""
    sizes: set[int] = set()
    while len(sizes) < 2:
        assert recorder.poll() is None
        time.sleep(0.2)
        if path.exists() and path.stat().st_size:
            sizes.add(path.stat().st_size)


@pytest.fixture(scope="session")
def doctor(pte_trace: Callable[..., Finished]) -> dict[str, Any]:
    """What the doctor says of this kernel."""
    done = pte_trace("doctor", "--json")
    assert done.status == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
