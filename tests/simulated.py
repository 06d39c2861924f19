"""`pte-trace` with a simulated kernel: run as a program, it is `pte_trace.__main__` otherwise.

With --once as its first argument only the first reading brings anything.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from pte_trace.commands import options
from pte_trace.plan import make
from pte_trace.records import VmaRecord
from pte_trace.snapshot import Health, Ledger, Snapshot
from tests.builders import counts, histogram, host, record, snapshot

HOSTILE = 'a"b\\c\n\x1b[31m<script>\udce9\\xff'

RECORDS: tuple[VmaRecord, ...] = (
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

    def __init__(self, *, once: bool) -> None:
        self._once = once
        self._records = RECORDS
        self._ledger = Ledger()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        pass

    def following(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gather(self) -> tuple[VmaRecord, ...]:
        brought = self._records
        if self._once:
            self._records = ()
        self._ledger.add(brought)
        return brought

    def read(self) -> Snapshot:
        health = Health(probe_seconds=0.25, entries=2, capacity=64)
        return replace(snapshot(*self.gather(), health=health), duration_s=1.0)

    def total(self) -> Snapshot:
        return snapshot(*self._ledger.records())

    def processes_ended(self) -> bool:
        return False


def main(source: Source) -> None:
    """`pte-trace` with *source* for a kernel."""
    options.Request.session = lambda request, **_: source  # type: ignore[assignment,method-assign]
    from pte_trace import __main__ as program

    program.main()


if __name__ == "__main__":
    once = "--once" in sys.argv[1:2]
    sys.argv[1:2] = [] if once else sys.argv[1:2]
    main(Source(once=once))
