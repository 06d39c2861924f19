"""A snapshot as JSON (schema 1) and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import IO, Any

from pte_trace.plan import Attachment
from pte_trace.records import CAUSES, OUTCOMES, Counts
from pte_trace.snapshot import Snapshot
from pte_trace.views.text import printable

SCHEMA = 1


def row(counts: Counts) -> dict[str, Any]:
    """The counts as JSON's ROW. None (null) is what was not looked at, which is not 0."""
    return {
        "protection_changes": dict(zip(CAUSES, counts.changes, strict=True)),
        "ptes_changed": sum(counts.ptes_changed),
        "ptes_inspected": None,
        "ptes_made_writable": None,
        "ptes_left_readonly": None,
        "write_faults": dict(zip(OUTCOMES, counts.write_faults, strict=True)),
        "fault_ns": None,
    }


def _hook(attachment: Attachment) -> dict[str, Any]:
    return {
        "attached": attachment.function,
        "how": attachment.how.value,
        "degraded": attachment.degraded,
    }


def document(snapshot: Snapshot) -> dict[str, Any]:
    """The whole snapshot, as JSON's schema 1 has it."""
    return {
        "schema": SCHEMA,
        "kernel": {
            "release": snapshot.kernel.release,
            "optimization": snapshot.kernel.optimization,
        },
        "hooks": {name: _hook(attachment) for name, attachment in snapshot.hooks.items()},
        "duration_s": round(snapshot.duration_s, 6),
        "totals": row(snapshot.totals),
        "processes": [
            {"pid": process.pid, "comm": process.comm, **row(process.counts)}
            for process in snapshot.processes
        ],
        "vmas": [
            {
                "pid": vma.pid,
                "comm": vma.comm,
                "start": hex(vma.start),
                "end": hex(vma.end),
                "perms": vma.perms,
                "kind": vma.kind,
                "name": vma.name,
                **row(vma.counts),
            }
            for vma in snapshot.vmas
        ],
        "health": {
            "map_full": snapshot.health.map_full,
            "missed_runs": snapshot.health.missed_runs,
            "probe_seconds": snapshot.health.probe_seconds,
        },
    }


def write_json(snapshot: Snapshot, stream: IO[str]) -> None:
    """One document on one line, so that several make a stream of them."""
    json.dump(document(snapshot), stream)
    stream.write("\n")


def _flat(entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in entry.items():
        if isinstance(value, dict):
            yield from ((f"{name}_{inner}", count) for inner, count in value.items())
        else:
            yield name, value


def write_csv(snapshot: Snapshot, stream: IO[str], *, header: bool = True) -> None:
    """A line per row of ``vmas``. Control characters in names are shown as escapes."""
    columns = [name for name, _ in _flat({**_VMA_COLUMNS, **row(snapshot.totals)})]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    for vma in document(snapshot)["vmas"]:
        vma["comm"], vma["name"] = printable(vma["comm"]), printable(vma["name"])
        writer.writerow(dict(_flat(vma)))


_VMA_COLUMNS = dict.fromkeys(("pid", "comm", "start", "end", "perms", "kind", "name"))
