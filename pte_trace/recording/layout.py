"""Intervals as Arrow record batches: a row for each interval, its mappings a list in it.

The fields are those of JSON's schema 1, with the cause where JSON has the sum over causes. Null
is what was not looked at.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa

from pte_trace.effort import Effort
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata
from pte_trace.records import (
    BUCKETS,
    CAUSES,
    OMISSIONS,
    OUTCOMES,
    REASONS,
    UNMEASURED,
    Counts,
    Histogram,
)
from pte_trace.snapshot import Health, ReuseCost, Snapshot, VmaRow, processes_of

# The groups of counts in the order of the fields of Counts, each with its names.
GROUPS = {
    "protection_changes": CAUSES,
    "ptes_changed": CAUSES,
    "ptes_made_writable": CAUSES,
    "ptes_left_readonly": REASONS,
    "ptes_not_inspected": OMISSIONS,
    "write_faults": OUTCOMES,
}
INSPECTED = ("ptes_made_writable", "ptes_left_readonly")

# ``log2[n]`` counts the faults that took 2^(first+n) ns up to twice that, from the first to the
# last that is not 0.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COST = pa.struct(
    [
        ("count", pa.int64()),
        ("sum", pa.int64()),
        ("first", pa.int8()),
        ("log2", pa.list_(pa.field("element", pa.int64(), nullable=False))),
    ]
)
_COUNTS = [
    *(
        (group, pa.struct([(name, pa.int64()) for name in names]))
        for group, names in GROUPS.items()
    ),
    ("fault_ns", pa.struct([(outcome, _COST) for outcome in OUTCOMES])),
]
_IDENTITY = [
    ("pid", pa.int32()),
    ("comm", pa.string()),
    ("ppid", pa.int32()),
    ("image", pa.uint64()),
    ("start", pa.uint64()),
    ("end", pa.uint64()),
    ("perms", pa.string()),
    ("kind", pa.string()),
    ("name", pa.string()),
    ("inode", pa.uint64()),
    ("dev", pa.uint32()),
]
# On the monotonic clock, as in VmaRow: they tell in which order mappings were there.
_ORDER = [("seen_ns", pa.int64()), ("born_ns", pa.int64())]
IDENTITY = tuple(name for name, _ in _IDENTITY)
ORDER = tuple(name for name, _ in _ORDER)
_VMA = pa.struct([*_IDENTITY, *_ORDER, *_COUNTS])
_TOTALS = pa.struct(_COUNTS)
_HEALTH = pa.struct(
    [
        ("map_full", pa.int64()),
        ("missed_runs", pa.int64()),
        ("probe_seconds", pa.float64()),
        ("entries", pa.int64()),
        ("capacity", pa.int64()),
    ]
)
_REUSE_COST = pa.struct([("nanoseconds", pa.float64()), ("source", pa.string())])
SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", "UTC")),
        ("run", pa.int32()),
        ("duration_s", pa.float64()),
        ("health", _HEALTH),
        ("reuse_cost", _REUSE_COST),
        ("totals", _TOTALS),
        ("vmas", pa.list_(_VMA)),
    ]
)


_CODES = {
    pa.int8(): "b",
    pa.int32(): "i",
    pa.int64(): "q",
    pa.uint32(): "I",
    pa.uint64(): "Q",
    pa.float64(): "d",
    pa.timestamp("us", "UTC"): "q",
}


def _column(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """As pa.array(), which would import pandas, and takes longer."""
    known = [value is not None for value in values]
    validity = None
    if not all(known):
        bits = sum(1 << place for place, each in enumerate(known) if each)
        validity = pa.py_buffer(bits.to_bytes(len(known) // 8 + 1, "little"))
    numbers = array(_CODES[kind], (value or 0 for value in values) if validity else values)
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(numbers)])


def _strings(values: Sequence[str]) -> pa.Array:
    texts = [value.encode() for value in values]
    offsets = array("i", accumulate(map(len, texts), initial=0))
    return pa.Array.from_buffers(
        pa.string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
    )


def _list(kind: pa.ListType, lengths: Iterable[int], values: pa.Array) -> pa.ListArray:
    offsets = array("i", accumulate(lengths, initial=0))
    return pa.Array.from_buffers(
        kind, len(offsets) - 1, [None, pa.py_buffer(offsets)], children=[values]
    )


def encode(intervals: Sequence[Interval], seen_ns: Sequence[int] | None = None) -> pa.RecordBatch:
    """One row for each of *intervals*; *seen_ns* replaces that of their mappings."""
    snapshots = [interval.snapshot for interval in intervals]
    effort = snapshots[0].effort
    lengths = [len(snapshot.vmas) for snapshot in snapshots]
    vmas = [vma for snapshot in snapshots for vma in snapshot.vmas]
    columns = [
        _column(SCHEMA.field("time").type, [_microseconds(each.time) for each in intervals]),
        _column(pa.int32(), [interval.run for interval in intervals]),
        _column(pa.float64(), [snapshot.duration_s for snapshot in snapshots]),
        _struct(_HEALTH, _health([snapshot.health for snapshot in snapshots])),
        _struct(_REUSE_COST, _reuse_costs([snapshot.reuse_cost for snapshot in snapshots])),
        _struct(_TOTALS, _counts([snapshot.totals for snapshot in snapshots], effort)),
        _list(SCHEMA.field("vmas").type, lengths, _vmas(vmas, seen_ns, effort)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _health(health: Sequence[Health]) -> Iterator[pa.Array]:
    for field in _HEALTH:
        yield _column(field.type, [getattr(each, field.name) for each in health])


def _reuse_costs(costs: Sequence[ReuseCost | None]) -> Iterator[pa.Array]:
    """Without nanoseconds there is no cost."""
    yield _column(pa.float64(), [cost and cost.nanoseconds for cost in costs])
    yield _strings([cost.source if cost else "" for cost in costs])


def _struct(kind: pa.StructType, children: Iterable[pa.Array]) -> pa.StructArray:
    return pa.StructArray.from_arrays(list(children), fields=list(kind))


def _vmas(vmas: Sequence[VmaRow], seen_ns: Sequence[int] | None, effort: Effort) -> pa.StructArray:
    given: dict[str, Sequence[Any]] = {} if seen_ns is None else {"seen_ns": seen_ns}
    identity = (
        _strings(values) if kind == pa.string() else _column(kind, values)
        for name, kind in (*_IDENTITY, *_ORDER)
        for values in [given.get(name) or [getattr(vma, name) for vma in vmas]]
    )
    return _struct(_VMA, [*identity, *_counts([vma.counts for vma in vmas], effort)])


def _counts(counts: Sequence[Counts], effort: Effort) -> Iterator[pa.StructArray]:
    numbers = [
        [
            *each.changes,
            *each.ptes_changed,
            *each.made_writable,
            *each.left_readonly,
            *each.not_inspected,
            *each.write_faults,
        ]
        for each in counts
    ]
    columns = iter(
        zip(*numbers, strict=True) if numbers else ((),) * sum(map(len, GROUPS.values()))
    )
    for group, names in GROUPS.items():
        values = list(islice(columns, len(names)))
        known = effort.inspects or group not in INSPECTED
        yield _struct(
            _TOTALS.field(group).type,
            [_column(pa.int64(), value) if known else _unknown(counts) for value in values],
        )
    yield _struct(
        _TOTALS.field("fault_ns").type,
        [
            _costs([each.costs[position] for each in counts], effort)
            for position in range(len(OUTCOMES))
        ],
    )


def _unknown(counts: Sequence[Counts]) -> pa.Array:
    return pa.nulls(len(counts), pa.int64())


def _costs(costs: Sequence[Histogram], effort: Effort) -> pa.StructArray:
    if not effort.times:
        return pa.nulls(len(costs), _COST)
    firsts, buckets = zip(*map(_trimmed, costs), strict=True) if costs else ((), ())
    return _struct(
        _COST,
        [
            _column(pa.int64(), [sum(each) for each in buckets]),
            _column(pa.int64(), [cost.sum for cost in costs]),
            _column(pa.int8(), firsts),
            _list(
                _COST.field("log2").type,
                map(len, buckets),
                _column(pa.int64(), [number for each in buckets for number in each]),
            ),
        ],
    )


def _trimmed(cost: Histogram) -> tuple[int, tuple[int, ...]]:
    """The first bucket that is not 0, and the buckets from it to the last one that is not."""
    if cost is UNMEASURED:
        return 0, ()
    filled = [place for place, number in enumerate(cost.log2) if number]
    return (filled[0], cost.log2[filled[0] : filled[-1] + 1]) if filled else (0, ())


def decode(batch: pa.RecordBatch, metadata: Metadata) -> Iterator[Interval]:
    """The intervals of *batch*, which has all columns."""
    times, runs, durations, health, reuse = (
        batch.column(name).to_pylist() for name in SCHEMA.names[:5]
    )
    totals = decode_counts(batch.column("totals"))
    lists = batch.column("vmas")
    vmas = decode_vmas(lists.flatten())
    for position, length in enumerate(lists.value_lengths().to_pylist()):
        rows = tuple(islice(vmas, length))
        yield Interval(
            time=times[position],
            run=runs[position],
            snapshot=Snapshot(
                kernel=metadata.kernel,
                hooks=metadata.hooks,
                duration_s=durations[position],
                totals=next(totals),
                processes=processes_of(rows),
                vmas=rows,
                health=Health(**health[position]),
                effort=metadata.effort,
                reuse_cost=reuse_cost(reuse[position]),
            ),
        )


def reuse_cost(found: Mapping[str, Any]) -> ReuseCost | None:
    """From what a row has under that name."""
    return None if found["nanoseconds"] is None else ReuseCost(**found)


def decode_vmas(array: pa.StructArray) -> Iterator[VmaRow]:
    names = (*IDENTITY, *ORDER)
    identity = zip(*(array.field(name).to_pylist() for name in names), strict=True)
    for row, counts in zip(identity, decode_counts(array), strict=True):
        yield VmaRow(**dict(zip(names, row, strict=True)), counts=counts)


def decode_counts(array: pa.StructArray) -> Iterator[Counts]:
    """The counts in an array of ``totals`` or of ``vmas``; 0 for null."""
    groups = [_tuples(array.field(group), names) for group, names in GROUPS.items()]
    costs = [_histograms(array.field("fault_ns").field(outcome)) for outcome in OUTCOMES]
    rows = zip(*groups, zip(*costs, strict=True), strict=True)
    for changes, ptes, writable, readonly, omitted, faults, timed in rows:
        yield Counts(changes, ptes, writable, readonly, omitted, faults, timed)


def _tuples(array: pa.StructArray, names: Sequence[str]) -> Iterator[tuple[int, ...]]:
    return zip(*(array.field(name).fill_null(0).to_pylist() for name in names), strict=True)


def _histograms(array: pa.StructArray) -> Iterator[Histogram]:
    columns = (array.field(name).to_pylist() for name in ("sum", "first", "log2"))
    for total, first, buckets in zip(*columns, strict=True):
        if buckets:
            after = BUCKETS - first - len(buckets)
            yield Histogram(total, (*(0,) * first, *buckets, *(0,) * after))
        else:
            yield UNMEASURED
