"""From Arrow to intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa

from pte_trace.counted.arrays import Array, Numbers, np
from pte_trace.counted.columns import PERMS, ROW, Columns, Times, tell_what_follows
from pte_trace.counted.counters import OUTCOMES, SIZE
from pte_trace.counted.counts import Counts
from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.counted.packed import BUCKETS, KINDS
from pte_trace.counted.rows import Rows
from pte_trace.counted.snapshot import Health, ReuseCost, Snapshot
from pte_trace.recording.interval import Interval
from pte_trace.recording.layout import FRAMES, IDENTITY, ORDER, RECORDED, SCHEMA, STACKS
from pte_trace.recording.metadata import Metadata


def decode(batch: pa.RecordBatch, metadata: Metadata) -> Iterator[Interval]:
    """The intervals of *batch*, which has all columns."""
    times, runs, durations, health, reuse = (
        batch.column(name).to_pylist() for name in SCHEMA.names[:5]
    )
    totals = decode_counts(batch.column("totals"))
    lists = batch.column("vmas")
    vmas = _vmas(lists.flatten())
    stacks = stacks_of(batch)
    bounds = pairwise(accumulate(lists.value_lengths().to_pylist(), initial=0))
    for position, (begin, end) in enumerate(bounds):
        yield Interval(
            time=times[position],
            run=runs[position],
            snapshot=Snapshot(
                kernel=metadata.kernel,
                hooks=metadata.hooks,
                needless=metadata.needless,
                duration_s=durations[position],
                totals=next(totals),
                vmas=Rows(vmas.between(begin, end), next(stacks)),
                health=Health(**health[position]),
                effort=metadata.effort,
                reuse_cost=reuse_cost(reuse[position]),
            ),
        )


def stacks_of(batch: pa.RecordBatch) -> Iterator[dict[int, tuple[Stack, ...]]]:
    """Of each interval those of its mappings, by which of them it is; {} where there are none."""
    if STACKS not in batch.schema.names:
        yield from ({} for _ in range(len(batch)))
        return
    for frames, stacks in zip(batch.column(FRAMES), batch.column(STACKS), strict=True):
        known = [_frame(**each) for each in frames.as_py()]
        found: dict[int, list[Stack]] = defaultdict(list)
        for each in stacks.as_py():
            event = Event(each["counted"], each["value"], each["origin"] or None)
            places = tuple(known[place] for place in each["frames"])
            found[each["vma"]].append(Stack(event, places, each["count"]))
        yield {row: tuple(of_row) for row, of_row in found.items()}


def _frame(address: int, offset: int | None, **said: str) -> Frame:
    return Frame(address, offset=offset, **{name: text or None for name, text in said.items()})


def reuse_cost(found: Mapping[str, Any]) -> ReuseCost | None:
    """From what a row has under that name."""
    return None if found["nanoseconds"] is None else ReuseCost(**found)


def decode_counts(array: pa.StructArray) -> Iterator[Counts]:
    """The counts in an array of ``totals`` or of ``vmas``; 0 for null."""
    columns = _columns(array, np.zeros(len(array), ROW), ("",))
    return (row.counts for row in Rows(columns))


def _vmas(array: pa.StructArray) -> Columns:
    rows = np.zeros(len(array), ROW)
    texts: list[str] = []
    for name in (*IDENTITY, *ORDER):
        column = array.field(name)
        if not pa.types.is_string(column.type):
            rows[name] = numbers_of(column)
            continue
        found = column.dictionary_encode()
        values = found.dictionary.to_pylist()
        rows[name] = _codes(name, values, texts)[numbers_of(found.indices)]
    return _columns(array, rows, tuple(texts))


def _codes(name: str, values: Sequence[str], texts: list[str]) -> Numbers:
    """What stands for *values* in a column of ROW; those that have no code go to *texts*."""
    known = {"perms": PERMS, "kind": KINDS}.get(name)
    if known is not None:
        return np.array([known.index(value) for value in values], np.int64)
    texts += values
    return np.arange(len(texts) - len(values), len(texts))


def _columns(array: pa.StructArray, rows: Array, texts: Sequence[str]) -> Columns:
    numbers = np.zeros((len(array), SIZE), np.int64)
    for family in RECORDED:
        for name in family.parts:
            numbers[:, family.at(name)] = numbers_of(array.field(family.name).field(name))
    tell_what_follows(numbers)
    return Columns(rows, numbers, _times(array.field("fault_ns")), texts)


def _times(costs: pa.StructArray) -> Times:
    parts = [_times_of(costs.field(outcome), place) for place, outcome in enumerate(OUTCOMES)]
    return Times(*map(np.concatenate, zip(*(part.columns for part in parts), strict=True)))


def _times_of(costs: pa.StructArray, outcome: int) -> Times:
    """The histograms of one outcome that have a bucket."""
    lists = costs.field("log2")
    lengths = numbers_of(lists.value_lengths())
    rows = np.flatnonzero(lengths)
    log2 = np.zeros((len(rows), BUCKETS), np.int64)
    row_of = np.repeat(np.arange(len(rows)), lengths[rows])
    begins = np.cumsum(lengths) - lengths
    bucket = np.arange(len(row_of)) - np.repeat(
        (begins - numbers_of(costs.field("first")))[rows], lengths[rows]
    )
    log2[row_of, bucket] = numbers_of(lists.flatten())
    return Times(rows, np.full(len(rows), outcome), numbers_of(costs.field("sum"))[rows], log2)


def numbers_of(array: pa.Array) -> Numbers:
    """0 for null."""
    numbers: Numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
    return numbers
