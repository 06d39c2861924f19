"""A snapshot as JSON (schema 1) and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import IO, Any

from pte_trace.effort import Effort
from pte_trace.plan import Attachment
from pte_trace.records import CAUSES, NOTHING, OMISSIONS, OUTCOMES, REASONS, Counts, Histogram
from pte_trace.snapshot import Snapshot
from pte_trace.views.printable import cell

SCHEMA = 1


def row(counts: Counts, effort: Effort) -> dict[str, Any]:
    """The counts as JSON's ROW. None (null) is what was not looked at, which is not 0."""
    inspected = effort.inspects
    return {
        "protection_changes": dict(zip(CAUSES, counts.changes, strict=True)),
        "ptes_changed": sum(counts.ptes_changed),
        "ptes_inspected": counts.inspected if inspected else None,
        "ptes_made_writable": sum(counts.made_writable) if inspected else None,
        "ptes_left_readonly": {
            reason: number if inspected else None
            for reason, number in zip(REASONS, counts.left_readonly, strict=True)
        },
        "write_faults": dict(zip(OUTCOMES, counts.write_faults, strict=True)),
        "fault_ns": {
            outcome: _histogram(cost) if effort.times else None
            for outcome, cost in zip(OUTCOMES, counts.costs, strict=True)
        },
    }


def _histogram(cost: Histogram) -> dict[str, Any]:
    """``log2[n]`` counts the faults that took 2^n ns up to 2^(n+1), up to the last one not 0."""
    last = max((n for n, number in enumerate(cost.log2) if number), default=-1)
    return {"count": cost.count, "sum": cost.sum, "log2": list(cost.log2[: last + 1])}


def _hook(attachment: Attachment) -> dict[str, Any]:
    return {
        "attached": attachment.function,
        "how": attachment.how.value,
        "degraded": attachment.degraded,
    }


def _saved(snapshot: Snapshot, counts: Counts) -> dict[str, Any]:
    """What *counts*, all or a part of the snapshot's, say that was saved."""
    seconds, cost = snapshot.seconds_saved(counts), snapshot.reuse_cost
    return {
        "efficacy": counts.efficacy if snapshot.effort.inspects else None,
        "seconds_saved_at_most": seconds,
        "estimated_from": None if seconds is None or cost is None else cost.source,
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
        "totals": row(snapshot.totals, snapshot.effort),
        "processes": [
            {"pid": process.pid, "comm": process.comm, **row(process.counts, snapshot.effort)}
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
                **row(vma.counts, snapshot.effort),
            }
            for vma in snapshot.vmas
        ],
        "health": {
            "map_full": snapshot.health.map_full,
            "missed_runs": snapshot.health.missed_runs,
            "probe_seconds": snapshot.health.probe_seconds,
            "ptes_not_inspected": {
                omission: number if snapshot.effort.inspects else None
                for omission, number in zip(OMISSIONS, snapshot.totals.not_inspected, strict=True)
            },
        },
        "savings": {
            **_saved(snapshot, snapshot.totals),
            "avoidable_faults": snapshot.totals.avoidable,
            "reuse_fault_ns": snapshot.reuse_cost and snapshot.reuse_cost.nanoseconds,
        },
    }


def write_json(snapshot: Snapshot, stream: IO[str]) -> None:
    """One document on one line, so that several make a stream of them."""
    json.dump(document(snapshot), stream)
    stream.write("\n")


def _flat(entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """One column per number; of a histogram its count and its sum."""
    for name, value in entry.items():
        if name == "fault_ns":
            for outcome, cost in value.items():
                for what in ("count", "sum"):
                    yield f"{name}_{outcome}_{what}", cost and cost[what]
        elif isinstance(value, dict):
            yield from ((f"{name}_{inner}", count) for inner, count in value.items())
        else:
            yield name, value


def write_csv(
    snapshot: Snapshot,
    stream: IO[str],
    *,
    header: bool = True,
    first: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """A line per row of ``vmas``, each beginning with the columns *first*; what was saved is last.

    Control characters in names are shown as escapes, and no name is a formula to a spreadsheet.
    """
    counted = {**row(NOTHING, snapshot.effort), **_saved(snapshot, NOTHING)}
    columns = [name for name, _ in _flat({**first, **_VMA_COLUMNS, **counted})]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    for vma, shown in zip(snapshot.vmas, document(snapshot)["vmas"], strict=True):
        names = {"comm": cell(vma.comm), "name": cell(vma.name)}
        saved = _saved(snapshot, vma.counts)
        writer.writerow(dict(_flat({**first, **shown, **names, **saved})))


_VMA_COLUMNS = dict.fromkeys(("pid", "comm", "start", "end", "perms", "kind", "name"))
