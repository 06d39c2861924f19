"""`pte-trace` with a simulated kernel: run as a program, it is `pte_trace.__main__` otherwise.

With --once as its first argument only the first reading brings anything; with --plain names are
those that a process has, and can be recorded.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from pte_trace.commands import options
from pte_trace.counted.columns import Columns
from pte_trace.counted.ledger import Ledger
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.rows import Rows
from pte_trace.counted.snapshot import Health, Kernel, Snapshot
from pte_trace.effort import EVERYTHING
from pte_trace.host.plan import make
from tests import checked
from tests.builders import counts, histogram, host, record, snapshot

HOSTILE = 'a"b\\c\n\x1b[31m<script>\udce9\\xff'

RECORDS: tuple[VmaRow, ...] = (
    record(
        comm="worker",
        counts=counts(
            {"mprotect": 2},
            {"mprotect": 20},
            {"wp_reuse": 3, "other": 7},
            writable={"mprotect": 9},
            readonly={"clean": 11},
            costs={"wp_reuse": histogram(1000, 2000, 3000)},
        ),
    ),
    record(pid=101, comm=HOSTILE, kind="file", name=f"/srv/data/{HOSTILE}"),
)


class Source:
    """Every reading brings RECORDS once more, or with *once* the first one only."""

    facts = host()
    plan = make(facts)
    kernel = Kernel("6.18.0-test", True)
    effort = EVERYTHING

    def __init__(self, *, once: bool, plain: bool = False) -> None:
        self._once = once
        self._records = RECORDS[:1] if plain else RECORDS
        self._ledger = Ledger()

    def examine(self) -> None:
        pass

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        pass

    def following(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gather(self) -> tuple[VmaRow, ...]:
        brought = self._records
        if self._once:
            self._records = ()
        self._ledger.add(Columns.of(brought))
        return brought

    def read(self) -> Snapshot:
        health = Health(probe_seconds=0.25, entries=2, capacity=64)
        return replace(snapshot(*self.gather(), health=health), duration_s=1.0)

    def total(self) -> Snapshot:
        return snapshot(*Rows(self._ledger.columns()))

    def processes_ended(self) -> bool:
        return False


def main(source: Source) -> None:
    """`pte-trace` with *source* for a kernel."""
    checked.install()
    options.Request.session = lambda request, **_: source  # type: ignore[assignment,method-assign]
    from pte_trace import __main__ as program

    program.main()


if __name__ == "__main__":
    first = sys.argv[1:2]
    sys.argv[1:2] = [] if first in (["--once"], ["--plain"]) else first
    main(Source(once=first == ["--once"], plain=first == ["--plain"]))
