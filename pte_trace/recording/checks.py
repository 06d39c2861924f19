"""Whether a recording holds what a recorder writes.

Its checksums tell that it is whole, not who wrote it: it may come from anywhere. Each check raises
ValueError.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pte_trace.counted.arrays import Numbers, np
from pte_trace.counted.counters import CAUSES, ORIGINS, OUTCOMES, PROTECTION_CHANGES, WRITE_FAULTS
from pte_trace.counted.mapping import Event
from pte_trace.counted.packed import BUCKETS, KINDS
from pte_trace.host.plan import HOOKS
from pte_trace.recording.decoding import numbers_of
from pte_trace.recording.layout import ADDED, FRAMES, GROUPS, SCHEMA, STACKS, WITH_STACKS

_PERMS = re.compile(r"[r-][w-][x-][sp]")
# What pandas takes for a time ends in 2262; a recording's is today's.
_LATEST_US = 2**53
_MAY_LACK = {"probe_seconds", "nanoseconds", "fault_ns", "offset", *GROUPS}
# With room to spare: see struct call_site.
_MOST_FRAMES = 32
# As many as VMAs may be asked for.
_MOST_STACKS = 1 << 20
_EVENTS = {
    *(f"{PROTECTION_CHANGES.name} {cause} " for cause in CAUSES),
    *(f"{WRITE_FAULTS.name} {outcome} {origin}" for outcome in OUTCOMES for origin in ORIGINS),
}

_REQUIRED = {hook.name for hook in HOOKS if hook.degraded_without is None}

_Check = Callable[[Any], bool]


def _is(*kinds: type) -> _Check:
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _line(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _list_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


_NUMBER, _TEXT = _is(int, float), _is(str)
_FIELDS: Mapping[str, Mapping[str, _Check]] = {
    "": {
        "started": _TEXT,
        "pte_trace": _line,
        "interval_s": lambda value: _NUMBER(value) and 0 < value < _LATEST_US,
        "command": _list_of(_TEXT),
        "split": _is(bool),
        # There since huge pages are counted.
        "needless": lambda value: value is None or _list_of(_line)(value),
        "facts": _is(dict),
    },
    "kernel": {"release": _line, "optimization": _or_none(_is(bool))},
    "effort": {
        "inspect": _or_none(_is(int)),
        "costs": _is(int),
        # Whether there were any, before write faults had them.
        "stacks": _is(int, bool),
    },
    "options": {
        "pids": _or_none(_list_of(_is(int))),
        "comm": _or_none(_TEXT),
        "cgroup": _or_none(_TEXT),
    },
}
_HOOK: Mapping[str, _Check] = {
    "attached": _line,
    "how": _line,
    "parameters": _list_of(_line),
    "degraded": _or_none(_line),
}


def metadata(document: Any) -> None:
    """*document* is that of `pte_trace.recording.metadata.Metadata`."""
    for section, fields in _FIELDS.items():
        _check(document[section] if section else document, fields)
    if not set(document["hooks"]) >= _REQUIRED:
        raise ValueError("hooks")
    for name, hook in document["hooks"].items():
        _check({"name": name, **hook}, {"name": _line, **_HOOK})


def _check(given: Any, fields: Mapping[str, _Check]) -> None:
    if not isinstance(given, dict):
        raise ValueError(given)
    for name, check in fields.items():
        if not check(given.get(name)):
            raise ValueError(name)


def pruned(schema: pa.Schema) -> bool:
    """Whether *schema* is the recorder's, but for counts left out (see pruning.py), or for what
    there was not yet."""
    return schema.names in (SCHEMA.names, WITH_STACKS.names) and all(
        _pruned(field.type, WITH_STACKS.field(field.name).type) for field in schema
    )


def _pruned(kind: pa.DataType, whole: pa.DataType) -> bool:
    if pa.types.is_list(kind) and pa.types.is_list(whole):
        return _pruned(kind.value_type, whole.value_type)
    if not (pa.types.is_struct(kind) and pa.types.is_struct(whole)):
        return bool(kind == whole)
    known = {field.name: field.type for field in whole}
    there = [field.name for field in kind]
    countable = {*GROUPS, "fault_ns"}
    counted = {name for name in known if name in countable or countable & set(known) == set()}
    counted |= ADDED & set(known)
    return (
        len(there) == len(set(there))
        and set(known) - set(there) <= counted
        and all(field.name in known and _pruned(field.type, known[field.name]) for field in kind)
    )


# Fields of Message and RecordBatch, in Arrow's Message.fbs.
_HEADER, _COMPRESSION = 2, 3


def message(frame: bytes) -> None:
    """*frame* holds a record batch that is not packed within, where it could be of any size."""
    about = pa.ipc.read_message(pa.py_buffer(frame)).metadata.to_pybytes()
    header = _field(about, struct.unpack_from("<I", about)[0], _HEADER)
    batch = header + struct.unpack_from("<I", about, header)[0]
    if not header or _field(about, batch, _COMPRESSION):
        raise ValueError("packed twice")


def _field(buffer: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table is; 0 where it is left out."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    size = struct.unpack_from("<H", buffer, vtable)[0]
    entry = 4 + 2 * number
    within = struct.unpack_from("<H", buffer, vtable + entry)[0] if entry < size else 0
    return table + within if within else 0


def row_groups(found: pq.FileMetaData) -> None:
    """Each comes after the one before: what is in a file is there once."""
    before = 0
    for number in range(found.num_row_groups):
        place = found.row_group(number).column(0).data_page_offset
        if place <= before and found.row_group(number).num_rows:
            raise ValueError(place)
        before = place


def number(found: pa.Table, most: int) -> None:
    """A table of intervals has no more of them, of mappings, of stacks and places than *most*."""
    for name in ("vmas", FRAMES, STACKS):
        chunks = found.column(name).chunks if name in found.column_names else []
        if max(sum(len(chunk.values) for chunk in chunks), len(found)) > most:
            raise ValueError(name)


def batch(found: pa.RecordBatch) -> None:
    """A batch of intervals, some of the columns or of their fields perhaps left out."""
    found.validate(full=True)
    for name, column in zip(found.schema.names, found.columns, strict=True):
        _no_nulls(name, column)
        if name == "time":
            _within(column.cast(pa.int64()), 0, _LATEST_US)
        elif name == "duration_s":
            _within(column, 0, _LATEST_US / 1e6)
        else:
            _counts(column)
        if name == "totals":
            _costs(column)
        elif name == "vmas":
            _vmas(column.flatten())
    if STACKS in found.schema.names:
        _stacks(found)


def _counts(column: pa.Array) -> None:
    """Nothing that is counted, nor an address or an identity, is below 0."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        _within(column, 0, math.inf)
    for _, values in _children(column):
        _counts(values)


def _no_nulls(name: str, column: pa.Array) -> None:
    """No interval, and nothing that tells mappings apart, may be unknown; counts may."""
    if name in _MAY_LACK:
        return
    if column.null_count:
        raise ValueError(name)
    for inner, values in _children(column):
        _no_nulls(inner, values)


def _children(column: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if pa.types.is_list(column.type):
        yield "element", column.flatten()
    elif pa.types.is_struct(column.type):
        for field in column.type:
            yield field.name, column.field(field.name)


def _within(numbers: pa.Array, least: int, most: float) -> None:
    if pc.any(pc.is_nan(numbers)).as_py():
        raise ValueError("nan")
    found = pc.min_max(numbers).as_py()
    if found["min"] is not None and not least <= found["min"] <= found["max"] <= most:
        raise ValueError(found)


def _vmas(rows: pa.StructArray) -> None:
    for each in _unique(rows, "kind"):
        if each not in KINDS:
            raise ValueError(each)
    for each in _unique(rows, "perms"):
        if not _PERMS.fullmatch(each):
            raise ValueError(each)
    _costs(rows)


def _stacks(found: pa.RecordBatch) -> None:
    """Each is of a mapping that is there, and of an event that there is; so are its places."""
    vmas, frames, stacks = (found.column(name) for name in ("vmas", FRAMES, STACKS))
    for column in (frames, stacks):
        _within(column.value_lengths(), 0, _MOST_STACKS)
    rows = stacks.flatten()
    places = rows.field("frames")
    _within(places.value_lengths(), 0, _MOST_FRAMES)
    each = numbers_of(stacks.value_lengths())
    room = np.repeat(numbers_of(frames.value_lengths()), each)
    _below(rows.field("vma"), np.repeat(numbers_of(vmas.value_lengths()), each))
    _below(places.flatten(), np.repeat(room, numbers_of(places.value_lengths())))
    said = (rows.field(name) for name in Event._fields)
    events = pc.unique(pc.binary_join_element_wise(*said, " "))
    if not set(events.to_pylist()) <= _EVENTS:
        raise ValueError(events)


def _below(numbers: pa.Array, ends: Numbers) -> None:
    if (numbers_of(numbers) >= ends).any():
        raise ValueError(ends)


def _unique(rows: pa.StructArray, name: str) -> list[str]:
    found: list[str] = pc.unique(rows.field(name)).to_pylist() if name in _names(rows) else []
    return found


def _names(rows: pa.StructArray) -> set[str]:
    return {field.name for field in rows.type}


def _costs(rows: pa.StructArray) -> None:
    """Histograms have their buckets where there are some."""
    if "fault_ns" not in _names(rows):
        return
    costs = rows.field("fault_ns")
    for outcome in set(OUTCOMES) & _names(costs):
        cost = costs.field(outcome)
        if {"first", "log2"} <= _names(cost):
            first, log2 = cost.field("first"), cost.field("log2")
            _within(first, 0, BUCKETS)
            after = pc.add(first.cast(pa.int64()), log2.value_lengths().cast(pa.int64()))
            _within(after, 0, BUCKETS)
            if after.null_count > log2.null_count:
                raise ValueError("first")
