"""A day at one reading a second with 1,000 mappings, simulated: recorded, then reported.

Prints what it took, and fails where that is more than was promised.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pte_trace.counted.columns import Columns
from pte_trace.counted.counts import Histogram
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.packed import BUCKETS
from pte_trace.counted.rows import Rows
from pte_trace.counted.snapshot import Health, Kernel, Snapshot
from pte_trace.effort import EVERYTHING
from pte_trace.host.plan import Attachment, How
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata
from pte_trace.recording.writing import Recorder
from tests.builders import counts

MOST_RESIDENT_MB = 150
MOST_REPORT_S = 60
_STARTED = datetime(2026, 1, 1, tzinfo=UTC)
_KERNEL = Kernel("simulated", True)
_HOOKS = {
    name: Attachment(name, name, How.FENTRY, (), None)
    for name in ("change_pte_range", "change_protection", "do_wp_page", "handle_mm_fault")
}


class Source:
    """Mappings of a garbage-collected server: toggled, rewritten, sometimes faulting."""

    def __init__(self, mappings: int) -> None:
        self._random = random.Random(64)
        self._identities = [
            {
                "pid": 1000 + number // 40,
                "comm": f"server-{number // 40}",
                "start": 0x7F0000000000 + (number << 24),
                "end": 0x7F0000000000 + (number << 24) + (1 << 20),
                "perms": "rw-p",
                "kind": "anon",
                "name": f"[anon:heap-{number % 25}]",
                "image": 77 * (number // 40),
                "born_ns": number << 20,
            }
            for number in range(mappings)
        ]
        self._histograms = [self._histogram() for _ in range(64)]

    def _histogram(self) -> Histogram:
        log2 = [0] * BUCKETS
        for _ in range(self._random.randint(1, 30)):
            log2[min(BUCKETS - 1, int(self._random.lognormvariate(2.4, 0.1)))] += 1
        spent = sum(number * int(1.4 * 2**place) for place, number in enumerate(log2))
        return Histogram(spent, tuple(log2))

    def snapshot(self, second: int) -> Snapshot:
        number = len(self._identities)
        draw = self._random.choices
        changes = draw(range(0, 40, 2), k=number)
        ptes = draw(range(2000), k=number)
        clean = draw(range(50), k=number)
        reuse = draw(self._histograms, k=number)
        other = draw(range(20), k=number)
        seen_ns = draw(range(second * 10**9, (second + 1) * 10**9), k=number)
        vmas = Columns.of(
            VmaRow(
                **identity,
                seen_ns=seen,
                counts=counts(
                    {"mprotect": change},
                    {"mprotect": pte + left},
                    {"wp_reuse": cost.count, "other": first},
                    writable={"mprotect": pte},
                    readonly={"clean": left},
                    costs={"wp_reuse": cost},
                ),
            )
            for identity, change, pte, left, cost, first, seen in zip(
                self._identities, changes, ptes, clean, reuse, other, seen_ns, strict=True
            )
        )
        return Snapshot(
            kernel=_KERNEL,
            hooks=_HOOKS,
            duration_s=1.0,
            totals=vmas.totals,
            vmas=Rows(vmas),
            health=Health(),
        )


def _resident_mb() -> float:
    """The most that was resident so far, in 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _record(path: Path, seconds: int, mappings: int) -> None:
    metadata = Metadata(_STARTED, "simulated", _KERNEL, _HOOKS, EVERYTHING, 1.0)
    recorder = Recorder(path, metadata)
    source = Source(mappings)
    spent = 0.0
    for second in range(seconds):
        interval = Interval(_STARTED + timedelta(seconds=second + 1), 1, source.snapshot(second))
        before = time.process_time()
        recorder.add(interval)
        spent += time.process_time() - before
    print(f"recorded: {1000 * spent / seconds:.1f} ms of CPU an interval")
    print(f"journal: {path.stat().st_size / 1e6:,.0f} MB; resident: {_resident_mb():.0f} MB")
    before = time.process_time()
    recorder.finish()
    print(f"ended: {time.process_time() - before:.0f} s of CPU")


def _report(*arguments: str | Path) -> float:
    """Seconds of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pte_trace", "report", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _checks(path: Path) -> Iterator[bool]:
    resident = _resident_mb()
    print(f"resident at most: {resident:.0f} MB ({MOST_RESIDENT_MB} allowed)")
    yield resident <= MOST_RESIDENT_MB
    print(f"file: {path.stat().st_size / 1e6:,.0f} MB")
    for arguments in ([path], [path, "--html", path.with_suffix(".html")]):
        spent = _report(*arguments)
        print(f"reported: {spent:.0f} s of CPU ({MOST_REPORT_S} allowed)")
        yield spent <= MOST_REPORT_S


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--mappings", type=int, default=1000)
    given = parser.parse_args()
    seconds = int(3600 * given.hours)
    print(f"{seconds:,} intervals of {given.mappings:,} mappings")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "day.parquet"
        _record(path, seconds, given.mappings)
        return 0 if all(list(_checks(path))) else 1


if __name__ == "__main__":
    sys.exit(main())
