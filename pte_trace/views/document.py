"""A snapshot as JSON (schema 1) and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import IO, Any

from pte_trace.counted.counters import FAMILIES, OUTCOMES, PTES_NOT_INSPECTED, Family
from pte_trace.counted.counts import NOTHING, Counts, Histogram
from pte_trace.counted.snapshot import Snapshot
from pte_trace.counted.where import where
from pte_trace.effort import Effort
from pte_trace.host.plan import Attachment
from pte_trace.views import stacks
from pte_trace.views.printable import cell

SCHEMA = 1


def row(counts: Counts, effort: Effort) -> dict[str, Any]:
    """The counts as JSON's ROW. None (null) is what was not looked at, which is not 0."""
    numbers = {family.name: _numbers(counts, family, effort) for family in FAMILIES}
    costs = {
        outcome: _histogram(cost) if effort.times else None
        for outcome, cost in zip(OUTCOMES, counts.costs, strict=True)
    }
    return {**numbers, "fault_ns": costs}


def _numbers(counts: Counts, family: Family, effort: Effort) -> Any:
    """A number, or one by each value of the labels, the outer one's first."""
    known = effort.inspects or not family.inspected
    if family.label is None or family.summed:
        return counts.sum(family) if known else None
    numbers: dict[str, Any] = {}
    for (*outer, name), number in zip(family.values, counts[family], strict=True):
        at = numbers
        for value in outer:
            at = at.setdefault(value, {})
        at[name] = number if known else None
    return numbers


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


def belongs(cgroup: str) -> dict[str, str | None]:
    """Where a process belongs; None (null) for what is not known, or what there is not."""
    return {"cgroup": cgroup or None, **where(cgroup)._asdict()}


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
            {
                "pid": process.pid,
                "comm": process.comm,
                **belongs(process.cgroup),
                **row(process.counts, snapshot.effort),
            }
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
            "names_full": snapshot.health.paths_full,
            "timings_full": snapshot.health.timings_full,
            PTES_NOT_INSPECTED.name: _numbers(snapshot.totals, PTES_NOT_INSPECTED, snapshot.effort),
        },
        "savings": {
            **_saved(snapshot, snapshot.totals),
            "avoidable_faults": snapshot.totals.avoidable,
            "reuse_fault_ns": snapshot.reuse_cost and snapshot.reuse_cost.nanoseconds,
        },
        "stacks": stacks.document(snapshot),
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
            yield from ((f"{name}_{inner}", count) for inner, count in _flat(value))
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
