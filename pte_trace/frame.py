"""A recording as a pandas DataFrame."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pte_trace.recording.layout import GROUPS, IDENTITY, SCHEMA
from pte_trace.recording.reading import Recording
from pte_trace.records import OUTCOMES

_CATEGORIES = ("comm", "perms", "kind", "name")
_EMPTY = pa.RecordBatch.from_pylist([], SCHEMA)
_TYPES = {pa.int64(): pd.Int64Dtype()}


def load(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a recording made with `pte-trace record -o FILE.parquet`.

    One row for each interval and each mapping in which something was counted in it. Rows of one
    interval add up to what the whole machine (or what was filtered for) did in it; all rows
    to the whole recording.

    Index: ``time``, the end of the interval (DatetimeIndex, UTC, microseconds), ascending; as
    often in it as mappings were seen.

    Columns, and their types:

    - ``run`` (int32): the run of the command, from 1; ``duration_s`` (float64): the interval's
      length in seconds
    - ``pid``, ``ppid`` (int32), ``comm`` (category), ``image`` (uint64: tells programs of one PID
      apart)
    - ``start``, ``end`` (uint64): addresses in bytes; ``perms``, ``kind``, ``name`` (categories)
    - counts (Int64), in PTEs, calls or faults: ``protection_changes_CAUSE``,
      ``ptes_changed_CAUSE``, ``ptes_made_writable_CAUSE``, ``ptes_left_readonly_REASON``,
      ``ptes_not_inspected_OMISSION``, ``write_faults_OUTCOME``
    - ``fault_ns_OUTCOME_count`` (Int64): the faults that were timed, and
      ``fault_ns_OUTCOME_sum`` (Int64): nanoseconds inside handle_mm_fault() they took in all

    ``<NA>`` is what was not looked at, which is not 0. ``DataFrame.attrs`` holds what the
    recording says of itself: kernel, hooks, options, facts (``metadata``), and whether
    it came to its end or its recorder was killed (``ended``).

    Raises `pte_trace.errors.RecordingError` for what is no recording, or damaged.
    """
    with Recording(Path(path)) as recording:
        table = pa.concat_tables(map(_flat, [_EMPTY, *recording.batches()]))
        frame: pd.DataFrame = table.to_pandas(types_mapper=_TYPES.get).set_index("time")
        frame.attrs = {"metadata": recording.metadata.document(), "ended": recording.ended}
    return frame.astype(dict.fromkeys(_CATEGORIES, "category"))


def _flat(batch: pa.RecordBatch) -> pa.Table:
    lists = batch.column("vmas")
    rows = pc.list_flatten(lists)
    interval = pc.list_parent_indices(lists)
    columns = {name: batch.column(name).take(interval) for name in ("time", "run", "duration_s")}
    columns |= {name: rows.field(name) for name in IDENTITY}
    for group, names in GROUPS.items():
        columns |= {f"{group}_{name}": rows.field(group).field(name) for name in names}
    for outcome in OUTCOMES:
        cost = rows.field("fault_ns").field(outcome)
        columns |= {f"fault_ns_{outcome}_{what}": cost.field(what) for what in ("count", "sum")}
    return pa.table(columns)
