"""In a guest: `python -m tests.soak MINUTES [--attacked]`. What was tried, and what was lost.

Attacked, clients do to the exporter what tests/attack knows, all the time.
"""

from __future__ import annotations

import itertools
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tests.kernel.ground import (
    a_cpu_that_comes_and_goes,
    cgroup,
    compaction,
    disk,
    inside,
    setting,
    swap,
)
from tests.soak.exporter import BACK_S, Attacker, Exporter, Footprint, die_while_scraping, exporter
from tests.soak.judge import judge

_TESTS = Path(__file__).parents[1]
_WORKLOADS = _TESTS.parent / "build" / "workloads"
_ZOO = [
    shlex.split(row["run"])
    for row in tomllib.loads((_TESTS / "workloads" / "expected.toml").read_text())["workload"]
]
_CHURN = [
    ["churn", how, count]
    for how, count in (("one-by-one", "100"), ("bomb", "100"), ("storm", "25"))
]
_ALL = [*_ZOO, *_CHURN]
# PTEs that a short-lived process has made writable: three of the file's, and its scratch page's.
# Each exec has one more: setup_arg_pages() changes the protection of the stack's only page.
_MADE_BY_EACH, _MADE_BY_EXEC = 4, 1
# A process that executes /proc/self/exe is called that until it names itself again.
_SHORT_LIVED = ("churn", "exe")
# Series of no mapping are folded: each is asked for by its process's name.
_SERIES = 5000
_MOST_PIDS = 64
# The fewest that may be asked for.
_VMAS = 64
_MOST_GROWTH = 8 << 20
_MOST_SAID = 20_000
_TO_BE_KILLED = ["threads", "1009"]
_LIFE_S = 0.5
_MADE = "made writable, short-lived"

Disturbance = Callable[[], AbstractContextManager[None]]


class Soak:
    """Runs of workloads in the cgroup, and what is known of them."""

    def __init__(self, group: Path, place: Path) -> None:
        self._group = group
        self._place = place
        self.tried: Counter[str] = Counter()
        self.short_lived = 0
        self.executed = 0

    def run(self, workload: list[str]) -> None:
        """One workload, to its end; those of short-lived processes give an account."""
        with self._started(workload) as process:
            said, _ = process.communicate()
        self.tried["workloads"] += 1
        if workload in _CHURN:
            account: dict[str, Any] = json.loads(said)
            self.short_lived += account["processes"]
            self.executed += 1 + account["processes"] * ("storm" in workload)

    @property
    def made_writable(self) -> int:
        """PTEs of short-lived processes, which no bpftrace counts."""
        return _MADE_BY_EACH * self.short_lived + _MADE_BY_EXEC * self.executed

    def kill_one(self) -> None:
        """One is killed as it faults."""
        with self._started(_TO_BE_KILLED) as process:
            time.sleep(_LIFE_S)
            process.send_signal(signal.SIGKILL)
        self.tried["workloads killed"] += 1

    def _started(self, workload: list[str]) -> subprocess.Popen[str]:
        name, *arguments = workload
        return subprocess.Popen(
            inside(self._group, _WORKLOADS / name, *arguments),
            cwd=self._place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def _turns(serve: Exporter) -> Iterator[tuple[list[str], str, Disturbance]]:
    """All workloads, over and over, each with another disturbance every time."""
    disturbances: tuple[tuple[str, Disturbance], ...] = (
        ("undisturbed", nullcontext),
        ("the exporter stopped", serve.stopped),
        ("a CPU off and on", a_cpu_that_comes_and_goes),
        ("scrapers that die", _scraped),
        ("memory compacted", compaction),
    )
    for cycle in itertools.count():
        for position, workload in enumerate(_ALL):
            yield workload, *disturbances[(cycle + position) % len(disturbances)]


@contextmanager
def _scraped() -> Iterator[None]:
    die_while_scraping()
    yield
    die_while_scraping()


def _counted(serve: Exporter) -> dict[str, int]:
    """The last scrape's sums, by the names that the judge gives the same."""
    made = serve.by("ptes_made_writable_total", "comm")
    found = {_MADE: sum(made.get(comm, 0) for comm in _SHORT_LIVED)}
    for name, metric, label in (
        ("faults", "write_faults", "outcome"),
        ("changes", "protection_changes", "cause"),
        ("ptes", "ptes_changed", "cause"),
    ):
        for value, number in serve.by(f"{metric}_total", label).items():
            found[f"{name}.{value}"] = number
    return found


def main() -> int:
    seconds = 60 * float(sys.argv[1])
    attacked = "--attacked" in sys.argv[2:]
    attacker = Attacker()
    with (
        tempfile.TemporaryDirectory() as place,
        disk(Path(place)) as mounted,
        swap(),
        setting("kernel.numa_balancing", 1),
        setting("vm.compact_unevictable_allowed", 0),
        cgroup(Path(place), pids_max=_MOST_PIDS) as group,
        exporter(
            *("--cgroup", group, "--max-vmas", _VMAS, "--top-mappings", _SERIES),
            more=_MOST_SAID if attacked else None,
        ) as serve,
        judge(group) as independent,
        ExitStack() as attacks,
    ):
        quiet: Disturbance = nullcontext
        if attacked:
            attacks.enter_context(attacker.at_work())
            quiet = attacker.paused
        soak = Soak(group, mounted)
        end = time.monotonic() + seconds
        footprint = None
        for workload, name, disturbance in _turns(serve):
            with disturbance():
                soak.run(workload)
            soak.tried[name] += 1
            last = workload is _ALL[-1]
            if last:
                soak.kill_one()
            serve.scrape()
            if last:
                with quiet():
                    footprint = footprint or serve.footprint()
                    print(dict(soak.tried), serve.footprint(), flush=True)
            if time.monotonic() > end:
                break
        if attacked:
            attacks.close()
            time.sleep(BACK_S)
            serve.scrape()
        ours, theirs = _counted(serve), {**independent.counted(), _MADE: soak.made_writable}
        grown = serve.footprint()
        lost = {name: serve.sum(f"{name}_total") for name in ("missed_runs", "scrape_errors")}
        full = serve.sum("map_full_total")
        print(f"tried: {dict(soak.tried)}, {soak.short_lived} short-lived processes")
        print(
            f"scrapes: {serve.scrapes}, of {serve.longest_s:.1f} s at most, {serve.missed} missed;"
            f" events that found their table full: {full}"
        )
        print(f"after the first cycle {footprint}, last {grown}; {lost}")
        for name in sorted(ours.keys() | theirs.keys()):
            print(f"{name:30} {ours.get(name, 0):12,} {theirs.get(name, 0):12,}", flush=True)
    same = all(ours.get(name, 0) == theirs.get(name, 0) for name in ours.keys() | theirs.keys())
    if footprint is None:
        print("Not every workload ran: it takes more minutes.")
    return 0 if same and _kept_still(footprint, grown) and not any(lost.values()) else 1


def _kept_still(before: Footprint | None, after: Footprint) -> bool:
    return (
        before is not None
        and after.files == before.files
        and after.resident < before.resident + _MOST_GROWTH
    )


if __name__ == "__main__":
    sys.exit(main())
