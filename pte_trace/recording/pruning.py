"""Leave out of a recording's file the counts that are 0 (or not known) in all of it.

Most are; a column costs a kilobyte of memory for each of its row groups, and time to read.
"""

from __future__ import annotations

from collections.abc import Set

import pyarrow as pa

from pte_trace.counted.counters import (
    OUTCOMES,
)
from pte_trace.counted.counts import Counts
from pte_trace.effort import Effort
from pte_trace.recording import layout
from pte_trace.recording.layout import (
    ADDED,
    GROUPS,
    IDENTITY,
    INSPECTED,
    ORDER,
    RECORDED,
    VMA,
)

Path = tuple[str, str]


def counted(totals: Counts) -> frozenset[Path]:
    """The counts that are not 0, each by its group and its name."""
    numbers = {
        (family.name, name)
        for family in RECORDED
        for name, value in totals.by_name(family).items()
        if value
    }
    timed = zip(OUTCOMES, totals.costs, strict=True)
    return frozenset(numbers | {("fault_ns", outcome) for outcome, cost in timed if cost.count})


def schema(kept: Set[Path], effort: Effort) -> pa.Schema:
    """The schema of a file that holds the counts *kept*; one in any case, as Parquet wants it."""
    whole = layout.schema(effort)
    kept = kept | {("write_faults", "other")}
    return pa.schema([pa.field(field.name, _pruned(field.type, kept)) for field in whole])


def _pruned(kind: pa.DataType, kept: Set[Path]) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_pruned(kind.value_type, kept))
    if not pa.types.is_struct(kind):
        return kind
    fields = []
    for field in kind:
        if field.name in GROUPS or field.name == "fault_ns":
            inner = [each for each in field.type if (field.name, each.name) in kept]
            if inner:
                fields.append(pa.field(field.name, pa.struct(inner)))
        else:
            fields.append(field)
    return pa.struct(fields)


def conform(array: pa.Array, kind: pa.DataType, effort: Effort) -> pa.Array:
    """*array* as *kind*: what that lacks is left out, what is missing is 0, or null if not known.

    *array* is no slice.
    """
    if array.type == kind:
        return array
    if pa.types.is_list(kind):
        offsets = array.buffers()[1]
        values = conform(array.values, kind.value_type, effort)
        return pa.Array.from_buffers(kind, len(array), [None, offsets], children=[values])
    if not pa.types.is_struct(kind):
        return array
    there = {field.name for field in array.type}
    columns = [
        conform(array.field(field.name), field.type, effort)
        if field.name in there
        else _nothing(field, len(array), effort)
        for field in kind
    ]
    return pa.StructArray.from_arrays(columns, fields=list(kind))


def identities(rows: pa.StructArray) -> dict[str, pa.Array]:
    """What tells mappings apart, by name; blank where *rows* were recorded before it was known."""
    there = {field.name for field in rows.type}
    return {
        name: _zeros(VMA.field(name).type, len(rows)) if name in ADDED - there else rows.field(name)
        for name in (*IDENTITY, *ORDER)
    }


def _nothing(field: pa.Field, length: int, effort: Effort) -> pa.Array:
    inspected = effort.inspects or field.name not in INSPECTED
    timed = effort.times or field.name != "fault_ns"
    return _zeros(field.type, length) if inspected and timed else pa.nulls(length, field.type)


def _zeros(kind: pa.DataType, length: int) -> pa.Array:
    if pa.types.is_struct(kind):
        children = [_zeros(field.type, length) for field in kind]
        return pa.StructArray.from_arrays(children, fields=list(kind))
    if pa.types.is_list(kind):
        offsets = pa.py_buffer(bytes(4 * (length + 1)))
        empty = _zeros(kind.value_type, 0)
        return pa.Array.from_buffers(kind, length, [None, offsets], children=[empty])
    if pa.types.is_string(kind):
        offsets = pa.py_buffer(bytes(4 * (length + 1)))
        return pa.Array.from_buffers(kind, length, [None, offsets, pa.py_buffer(b"")])
    return pa.Array.from_buffers(kind, length, [None, pa.py_buffer(bytes(8 * length))])
