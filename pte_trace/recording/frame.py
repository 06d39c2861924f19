"""A recording as a pandas DataFrame."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pte_trace.counted.counters import OUTCOMES
from pte_trace.recording.layout import GROUPS, IDENTITY, SCHEMA
from pte_trace.recording.reading import Recording

_CATEGORIES = ("comm", "perms", "kind", "name", "cgroup")
_INTERVAL = ("time", "run", "duration_s")
_EMPTY = pa.RecordBatch.from_pylist([], SCHEMA)
_TYPES = {pa.int64(): pd.Int64Dtype()}


def load(
    path: str | os.PathLike[str], *, each: Literal["mapping", "interval"] = "mapping"
) -> pd.DataFrame:
    """Read a recording made with `pte-trace record -o FILE.parquet`.

    A row for *each* ``mapping``: for each interval and each mapping in which something was counted
    in it. Rows of one interval add up to what the whole machine (or what was filtered for) did in
    it; all rows to the whole recording. An interval in which nothing was counted has no row.

    A row for *each* ``interval``, also where nothing was counted: what to make rates of, as in
    ``frame["write_faults_wp_reuse"] / frame["duration_s"]``.

    Index: ``time``, the end of the interval (DatetimeIndex, UTC, microseconds), as the clock was:
    ascending unless it was set back. With ``mapping`` as often in it as mappings were seen.

    Columns, and their types:

    - ``run`` (int32): the run of the command, from 1; ``duration_s`` (float64): the interval's
      length in seconds
    - counts (Int64), in PTEs, calls or faults: ``protection_changes_CAUSE``,
      ``ptes_changed_CAUSE``, ``ptes_made_writable_CAUSE``, ``ptes_left_readonly_REASON``,
      ``ptes_not_inspected_OMISSION``, ``write_faults_OUTCOME``
    - ``fault_ns_OUTCOME_count`` (Int64): the faults that were timed, and
      ``fault_ns_OUTCOME_sum`` (Int64): nanoseconds inside handle_mm_fault() they took in all

    Of each mapping also:

    - ``pid``, ``ppid`` (int32), ``comm`` (category), ``image`` (uint64: tells programs of one PID
      apart)
    - ``start``, ``end`` (uint64): addresses in bytes; ``perms``, ``kind``, ``name`` (categories);
      ``inode`` (uint64), ``dev`` (uint32): of its file, 0 where it has none
    - ``cgroup`` (category): the path of its process's cgroup (version 2), empty where it is not
      known

    Of each interval also what was lost since recording began, and what tracing cost:

    - ``health_map_full``, ``health_missed_runs`` (Int64): events that found no room for their
      VMA, and runs of our programs that the kernel skipped
    - ``health_probe_seconds`` (float64): time in our programs; NaN where it was not measured
    - ``health_entries``, ``health_capacity`` (Int64): of the table of VMAs, in use and in all

    ``<NA>`` is what was not looked at, which is not 0. ``DataFrame.attrs`` holds what the
    recording says of itself: kernel, hooks (the plan), options, facts (``metadata``), whether
    it came to its end or its recorder was killed (``ended``), how many ``intervals`` it has,
    their length in all (``duration_s``), and ``health`` as of the last of them.

    Raises `pte_trace.errors.RecordingError` for what is no recording, or damaged.
    """
    flat = {"mapping": _mappings, "interval": _intervals}[each]
    with Recording(Path(path)) as recording:
        table = pa.concat_tables(map(flat, [_EMPTY, *recording.batches()]))
        frame: pd.DataFrame = table.to_pandas(types_mapper=_TYPES.get).set_index("time")
        frame.attrs = _attributes(recording)
    return frame.astype({name: "category" for name in _CATEGORIES if name in frame})


def _mappings(batch: pa.RecordBatch) -> pa.Table:
    lists = batch.column("vmas")
    rows = pc.list_flatten(lists)
    interval = pc.list_parent_indices(lists)
    columns = {name: batch.column(name).take(interval) for name in _INTERVAL}
    columns |= {name: rows.field(name) for name in IDENTITY}
    return pa.table(columns | _counts(rows))


def _intervals(batch: pa.RecordBatch) -> pa.Table:
    health = batch.column("health")
    columns = {name: batch.column(name) for name in _INTERVAL}
    columns |= {f"health_{field.name}": health.field(field.name) for field in health.type}
    return pa.table(columns | _counts(batch.column("totals")))


def _counts(rows: pa.StructArray) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    for group, names in GROUPS.items():
        columns |= {f"{group}_{name}": rows.field(group).field(name) for name in names}
    for outcome in OUTCOMES:
        cost = rows.field("fault_ns").field(outcome)
        columns |= {f"fault_ns_{outcome}_{what}": cost.field(what) for what in ("count", "sum")}
    return columns


def _attributes(recording: Recording) -> dict[Hashable | None, Any]:
    lasted: list[float] = []
    health = None
    for batch in recording.batches(["duration_s", "health"]):
        lasted += batch.column("duration_s").to_pylist()
        health = batch.column("health")[-1].as_py()
    return {
        "metadata": recording.metadata.document(),
        "ended": recording.ended,
        "intervals": len(lasted),
        "duration_s": sum(lasted),
        "health": health,
    }
