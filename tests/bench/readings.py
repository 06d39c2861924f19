"""What many mappings take: 10,000 to 200,000 of them, in `serve`, `top`, `record` and a report.

No kernel is needed: the tables are made as the programs fill them (tests/bench/mappings.py), and
each figure is of a process of its own. CPU time is this machine's, so limits are shares of a CPU.

    python -m tests.bench.readings
"""

from __future__ import annotations

import asyncio
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pte_trace.exporter.reader import Reader
from tests.bench import mappings

# What draws is imported where something is drawn: each figure of memory is without it.
if TYPE_CHECKING:
    from rich.table import Table

MAPPINGS = {
    "serve": (10_000, 50_000, 100_000, 200_000),
    "top": (10_000, 60_000, 200_000),
    "record": (20_000, 200_000),
    "report": (30_000, 200_000),
}
RECORDED = Path(__file__).parents[2] / "docs/overhead/readings.json"
_READINGS = 5
_SCRAPERS = 3
_SCRAPED_S = 6.0
_ROWS = 40
_MIB = 1 << 20

Figures = dict[str, float]


def _resident() -> float:
    """MiB at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _cpu(what: Callable[[], object]) -> float:
    begun = time.process_time()
    what()
    return time.process_time() - begun


def _times(what: Callable[[], object]) -> float:
    """Seconds of CPU; the median of some after the first."""
    what()
    return median(_cpu(what) for _ in range(_READINGS))


def serve(vmas: int) -> Figures:
    """A reading and its groups; and what three who scrape without a pause wait for."""
    from pte_trace.exporter import memory
    from pte_trace.exporter.app import Exporter, Wanted
    from pte_trace.exporter.groups import Groups

    memory.keep_small()
    session = mappings.session(vmas, keep=False)
    before = _resident()
    waited: list[float] = []

    async def scrape(exporter: Exporter, until: float) -> None:
        while time.monotonic() < until:
            begun = time.monotonic()
            await exporter.metrics(Wanted(openmetrics=True, compressed=True))
            waited.append(time.monotonic() - begun)

    async def all_of_them(exporter: Exporter) -> None:
        until = time.monotonic() + _SCRAPED_S
        await asyncio.gather(*(scrape(exporter, until) for _ in range(_SCRAPERS)))

    with Reader(session, Groups(200), print) as reader:
        cpu = _times(lambda: _read(reader))
        longest = max(_wall(lambda: _read(reader)) for _ in range(_READINGS))
        exporter = Exporter(reader, {}, "bench")
        asyncio.run(all_of_them(exporter))
        exporter.close()
    return {
        "cpu_s": cpu,
        "grown_mib": _resident() - before,
        "reading_s": longest,
        "scrape_s": median(waited),
        "longest_scrape_s": max(waited),
    }


def _read(reader: Reader) -> None:
    """One at a time: every five seconds it reads by itself."""
    with reader._lock:
        reader._try_to_read()


def _wall(what: Callable[[], object]) -> float:
    begun = time.monotonic()
    what()
    return time.monotonic() - begun


def top(vmas: int) -> Figures:
    """A reading that is added up, and a screen of 40 rows."""
    from rich.console import Console

    from pte_trace.views import text

    session = mappings.session(vmas, keep=True)
    before = _resident()
    console = Console(file=io.StringIO(), width=160)

    def shown() -> None:
        console.print(text.screen(session.read(), "faults", _ROWS))

    return {"cpu_s": _times(shown), "grown_mib": _resident() - before}


def record(vmas: int) -> Figures:
    """A reading that is written to a recording's journal."""
    from pte_trace.recording.interval import Interval
    from pte_trace.recording.writing import Recorder
    from tests.recordings import metadata

    session = mappings.session(vmas, keep=False)
    before = _resident()
    with tempfile.TemporaryDirectory() as directory:
        recorder = Recorder(Path(directory) / "r.parquet", metadata())
        cpu = _times(lambda: recorder.add(Interval(datetime.now(UTC), 1, session.read())))
    return {"cpu_s": cpu, "grown_mib": _resident() - before}


def report(vmas: int) -> Figures:
    """The report at the end of `run`."""
    from pte_trace.views import write

    session = mappings.session(vmas, keep=True)
    for _ in range(2):
        session.gather()
    before = _resident()
    cpu = _cpu(lambda: write.report(session.total(), "text", io.StringIO(), rows=100))
    return {"cpu_s": cpu, "grown_mib": _resident() - before}


WAYS = {each.__name__: each for each in (serve, top, record, report)}


def measured(way: str, vmas: int) -> Figures:
    """In a process of its own: what is kept of one is not in the memory of the next."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.readings", way, str(vmas)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Figures = json.loads(done.stdout)
    return found


def _shown(found: dict[str, dict[str, Figures]]) -> Table:
    from rich.table import Table

    table = Table(title="What many mappings take", box=None)
    for heading in ("", "MAPPINGS", "CPU, MS", "µS EACH", "MiB", "SCRAPE, S"):
        table.add_column(heading, justify="right" if heading else "left")
    for way, by_number in found.items():
        for number, figures in by_number.items():
            cpu = figures["cpu_s"]
            table.add_row(
                way,
                f"{int(number):,}",
                f"{cpu * 1e3:,.0f}",
                f"{cpu * 1e6 / int(number):.2f}",
                f"{figures['grown_mib']:,.0f}",
                f"{figures['scrape_s']:.2f}" if "scrape_s" in figures else "",
            )
    return table


def main() -> None:
    from tests.bench.guest import record as written

    found: dict[str, Any] = {
        way: {str(vmas): measured(way, vmas) for vmas in MAPPINGS[way]} for way in WAYS
    }
    written(found, _shown(found), RECORDED)


if __name__ == "__main__":
    if sys.argv[1:]:
        _, way, vmas = sys.argv
        found = WAYS[way](int(vmas))
        found["own_mib"] = _resident() - mappings.table_bytes(int(vmas)) / _MIB
        print(json.dumps(found))
    else:
        main()
