"""`pte-trace` with a simulated kernel: run as a program, it is `pte_trace.__main__` otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pte_trace.commands import options
from pte_trace.records import VmaRecord
from pte_trace.snapshot import Health, Snapshot
from tests.unit.builders import counts, histogram, record, snapshot

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
    """Every reading brings RECORDS once more."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        pass

    def read(self) -> Snapshot:
        health = Health(probe_seconds=0.25, entries=2, capacity=64)
        return replace(snapshot(*RECORDS, health=health), duration_s=1.0)


def _session(request: options.Request, **kept: Any) -> Source:
    return Source()


if __name__ == "__main__":
    options.Request.session = _session  # type: ignore[assignment,method-assign]
    from pte_trace.__main__ import main

    main()
