"""From intervals to Arrow: columns to columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa

from pte_trace.counted.arrays import Array, Numbers, np
from pte_trace.counted.columns import PERMS, TEXTS, Columns, concatenated
from pte_trace.counted.counters import OUTCOMES
from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.counted.packed import BUCKETS, KINDS
from pte_trace.counted.snapshot import Health, ReuseCost, Snapshot
from pte_trace.effort import Effort
from pte_trace.recording.interval import Interval
from pte_trace.recording.layout import (
    COST,
    FRAME,
    FRAMES,
    HEALTH,
    IDENTITY,
    INSPECTED,
    ORDER,
    RECORDED,
    REUSE_COST,
    SCHEMA,
    STACK,
    STACKS,
    TOTALS,
    VMA,
    WITH_STACKS,
    schema,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode(intervals: Sequence[Interval], seen_ns: Numbers | None = None) -> pa.RecordBatch:
    """One row for each of *intervals*; *seen_ns* replaces that of their mappings."""
    snapshots = [interval.snapshot for interval in intervals]
    effort = snapshots[0].effort
    parts = [snapshot.vmas.columns for snapshot in snapshots]
    columns = [
        _numbers(SCHEMA.field("time").type, [_microseconds(each.time) for each in intervals]),
        _numbers(pa.int32(), [interval.run for interval in intervals]),
        _numbers(pa.float64(), [snapshot.duration_s for snapshot in snapshots]),
        _struct(HEALTH, _health([snapshot.health for snapshot in snapshots])),
        _struct(REUSE_COST, _reuse_costs([snapshot.reuse_cost for snapshot in snapshots])),
        _struct(TOTALS, _counts(Columns.of_counts([each.totals for each in snapshots]), effort)),
        _list(
            SCHEMA.field("vmas").type,
            map(len, parts),
            _vmas(parts[0] if len(parts) == 1 else concatenated(parts), seen_ns, effort),
        ),
    ]
    if effort.stacks:
        columns += _stacks(snapshots)
    return pa.RecordBatch.from_arrays(columns, schema=schema(effort))


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _health(health: Sequence[Health]) -> Iterator[pa.Array]:
    for field in HEALTH:
        yield _numbers(field.type, [getattr(each, field.name) for each in health])


def _reuse_costs(costs: Sequence[ReuseCost | None]) -> Iterator[pa.Array]:
    """Without nanoseconds there is no cost."""
    yield _numbers(pa.float64(), [cost and cost.nanoseconds for cost in costs])
    yield _strings([cost.source if cost else "" for cost in costs])


def _stacks(snapshots: Sequence[Snapshot]) -> tuple[pa.Array, pa.Array]:
    """The places and the stacks of each interval."""
    frames: list[Frame] = []
    stacks: list[tuple[int, Stack]] = []
    places: list[list[int]] = []
    numbers: list[tuple[int, int]] = []
    for snapshot in snapshots:
        known: dict[Frame, int] = {}
        before = len(stacks)
        for row, of_row in sorted(snapshot.vmas.stacks.items()):
            stacks += [(row, stack) for stack in of_row]
        for _, stack in stacks[before:]:
            places.append([known.setdefault(frame, len(known)) for frame in stack.frames])
        frames += known
        numbers.append((len(known), len(stacks) - before))
    of_frames, of_stacks = zip(*numbers, strict=True)
    return (
        _list(WITH_STACKS.field(FRAMES).type, of_frames, _frames(frames)),
        _list(WITH_STACKS.field(STACKS).type, of_stacks, _each_stack(stacks, places)),
    )


def _frames(frames: Sequence[Frame]) -> pa.StructArray:
    return _struct(
        FRAME,
        [
            _numbers(pa.uint64(), [each.address for each in frames]),
            _strings([each.file or "" for each in frames]),
            _numbers(pa.uint64(), [each.offset for each in frames]),
            _strings([each.function or "" for each in frames]),
            _strings([each.unnamed or "" for each in frames]),
        ],
    )


def _each_stack(
    stacks: Sequence[tuple[int, Stack]], places: Sequence[Sequence[int]]
) -> pa.StructArray:
    """With the places of its frames."""
    return _struct(
        STACK,
        [
            _numbers(pa.int32(), [row for row, _ in stacks]),
            *(
                _strings([stack.event[field] or "" for _, stack in stacks])
                for field in range(len(Event._fields))
            ),
            _numbers(pa.int64(), [stack.count for _, stack in stacks]),
            _list(
                STACK.field("frames").type,
                map(len, places),
                _numbers(pa.int32(), [*chain.from_iterable(places)]),
            ),
        ],
    )


def _vmas(columns: Columns, seen_ns: Numbers | None, effort: Effort) -> pa.StructArray:
    rows = columns.rows
    said = {
        **{name: (columns.texts, rows[name]) for name in TEXTS},
        "perms": (PERMS, rows["perms"]),
        "kind": (KINDS, rows["kind"]),
    }
    given = {} if seen_ns is None else {"seen_ns": seen_ns}
    identity = (
        _chosen(*said[name])
        if name in said
        else _column(VMA.field(name).type, given.get(name, rows[name]))
        for name in (*IDENTITY, *ORDER)
    )
    return _struct(VMA, [*identity, *_counts(columns, effort)])


def _counts(columns: Columns, effort: Effort) -> Iterator[pa.StructArray]:
    nothing = pa.nulls(len(columns), pa.int64())
    for family in RECORDED:
        known = effort.inspects or family.name not in INSPECTED
        yield _struct(
            TOTALS.field(family.name).type,
            [
                _column(pa.int64(), number) if known else nothing
                for number in columns.numbers_of(family).T
            ],
        )
    timed = columns.times.by(np.arange(len(columns)))
    yield _struct(
        TOTALS.field("fault_ns").type,
        [
            _costs(len(columns), *(each[timed.outcome == outcome] for each in timed.columns))
            if effort.times
            else pa.nulls(len(columns), COST)
            for outcome in range(len(OUTCOMES))
        ],
    )


def _costs(rows: int, row: Numbers, _: Numbers, ns: Array, log2: Array) -> pa.StructArray:
    """The histograms of one outcome, each from its first bucket that is not 0 to its last."""
    in_order = row.argsort(kind="stable")
    row, ns, log2 = row[in_order], ns[in_order], log2[in_order]
    filled = log2 != 0
    first = filled.argmax(axis=1)
    last = BUCKETS - 1 - filled[:, ::-1].argmax(axis=1)
    bucket = np.arange(BUCKETS)
    kept = (bucket >= first[:, None]) & (bucket <= last[:, None])
    return _struct(
        COST,
        [
            _column(pa.int64(), _spread(rows, row, log2.sum(axis=1))),
            _column(pa.int64(), _spread(rows, row, ns)),
            _column(pa.int8(), _spread(rows, row, first)),
            _list(
                COST.field("log2").type,
                _spread(rows, row, last - first + 1).tolist(),
                _column(pa.int64(), log2[kept]),
            ),
        ],
    )


def _spread(rows: int, row: Numbers, values: Array) -> Numbers:
    """*values* at their rows, 0 elsewhere."""
    spread = np.zeros(rows, np.int64)
    spread[row] = values
    return spread


def _struct(kind: pa.StructType, children: Iterable[pa.Array]) -> pa.StructArray:
    return pa.StructArray.from_arrays(list(children), fields=list(kind))


def _column(kind: pa.DataType, values: Array) -> pa.Array:
    """As pa.array(), which would import pandas."""
    numbers = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


_CODES = {
    pa.int32(): "i",
    pa.int64(): "q",
    pa.uint64(): "Q",
    pa.float64(): "d",
    pa.timestamp("us", "UTC"): "q",
}


def _numbers(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """A few of them, some of which may be None."""
    known = [value is not None for value in values]
    validity = None
    if not all(known):
        bits = sum(1 << place for place, each in enumerate(known) if each)
        validity = pa.py_buffer(bits.to_bytes(len(known) // 8 + 1, "little"))
    numbers = array(_CODES[kind], (value or 0 for value in values) if validity else values)
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(numbers)])


def _strings(values: Sequence[str]) -> pa.Array:
    return _chosen(values, np.arange(len(values)))


def _chosen(texts: Sequence[str], which: Array) -> pa.Array:
    """Strings, each of which is one of *texts*."""
    encoded = [text.encode() for text in texts]
    chosen = b"".join(map(encoded.__getitem__, which.tolist()))
    lengths = np.array([len(each) for each in encoded], np.int32)[which]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(which), [None, pa.py_buffer(offsets), pa.py_buffer(chosen)]
    )


def _list(kind: pa.ListType, lengths: Iterable[int], values: pa.Array) -> pa.ListArray:
    offsets = array("i", accumulate(lengths, initial=0))
    return pa.Array.from_buffers(
        kind, len(offsets) - 1, [None, pa.py_buffer(offsets)], children=[values]
    )
