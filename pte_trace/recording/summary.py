"""A recording added up: by time, by run, and as one snapshot of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa

from pte_trace.recording.layout import (
    GROUPS,
    IDENTITY,
    decode_counts,
    reuse_cost,
)
from pte_trace.recording.pruning import counted
from pte_trace.recording.reading import Recording
from pte_trace.records import BUCKETS, NOTHING, OUTCOMES, UNMEASURED, Counts, Histogram, VmaRecord
from pte_trace.snapshot import Health, Ledger, ReuseCost, Snapshot, VmaRow, build, total

_INTERVAL = (
    "time",
    "run",
    "duration_s",
    "health",
    "reuse_cost",
    "totals",
)


@dataclass(frozen=True)
class Span:
    """What was counted in ``duration_s`` seconds up to ``end`` (UTC)."""

    end: datetime
    duration_s: float
    counts: Counts


@dataclass(frozen=True)
class Run:
    """One run of the command; a recording without a command is one run."""

    number: int
    duration_s: float
    counts: Counts


@dataclass(frozen=True)
class Summary:
    """``timeline`` in order of time; ``whole`` is what `run` would have reported."""

    timeline: tuple[Span, ...]
    runs: tuple[Run, ...]
    whole: Snapshot
    intervals: int


def summarize(recording: Recording, spans: int = 600) -> Summary:
    """Add *recording* up, its time cut into at most *spans* parts. Raises RecordingError."""
    return _Summing(recording, spans).summary()


class _Summing:
    def __init__(self, recording: Recording, spans: int) -> None:
        self._recording = recording
        self._spans = spans
        self._intervals = 0
        self._health = Health()
        self._cost: ReuseCost | None = None

    def summary(self) -> Summary:
        times = [
            time
            for batch in self._recording.batches(["time"])
            for time in batch.column("time").to_pylist()
        ]
        timeline: dict[int, Span] = {}
        runs: dict[int, Run] = {}
        width = _width(times, self._spans)
        for time, number, duration_s, counts in self._totals():
            place = (time - times[0]) // width
            span = timeline.get(place) or Span(time, 0.0, NOTHING)
            timeline[place] = Span(time, span.duration_s + duration_s, span.counts + counts)
            run = runs.get(number) or Run(number, 0.0, NOTHING)
            runs[number] = Run(number, run.duration_s + duration_s, run.counts + counts)
        return Summary(
            tuple(timeline.values()),
            tuple(runs.values()),
            self._whole(tuple(runs.values())),
            len(times),
        )

    def _totals(self) -> Iterator[tuple[datetime, int, float, Counts]]:
        for batch in self._recording.batches(_INTERVAL):
            last = batch.num_rows - 1
            self._health = Health(**batch.column("health")[last].as_py())
            self._cost = reuse_cost(batch.column("reuse_cost")[last].as_py()) or self._cost
            yield from zip(
                *(batch.column(name).to_pylist() for name in ("time", "run", "duration_s")),
                decode_counts(batch.column("totals")),
                strict=True,
            )

    def _whole(self, runs: tuple[Run, ...]) -> Snapshot:
        metadata = self._recording.metadata
        leaves = _leaves(total(run.counts for run in runs))
        mappings = _Mappings(leaves)
        paths = [
            *zip(IDENTITY),
            *leaves,
            *((*path[:2], "first") for path in leaves if "log2" in path),
        ]
        for batch in self._recording.batches([".".join((_ROW, *path)) for path in paths]):
            mappings.add(batch.column("vmas").flatten())
        ledger = Ledger()
        ledger.add(mappings.records())
        whole = build(
            ledger.records(),
            kernel=metadata.kernel,
            hooks=metadata.hooks,
            duration_s=sum(run.duration_s for run in runs),
            health=self._health,
            effort=metadata.effort,
            split=metadata.split,
        )
        # Where no fault was timed, each interval has the cost of pte-trace's own.
        return whole if whole.reuse_cost else replace(whole, reuse_cost=self._cost)


def _width(times: Sequence[datetime], spans: int) -> timedelta:
    if len(times) < 2:
        return timedelta(seconds=1)
    return max(timedelta(microseconds=1), (times[-1] - times[0]) / spans)


def record_of(vma: VmaRow, first: int, last: int) -> VmaRecord:
    """A row as a ledger adds it up; *first* and *last* number its earliest and latest sight."""
    return VmaRecord(
        pid=vma.pid,
        ppid=vma.ppid,
        comm=vma.comm,
        image=vma.image,
        start=vma.start,
        end=vma.end,
        inode=0,
        dev=0,
        kind=vma.kind,
        name=vma.name,
        perms=vma.perms,
        seen_ns=first,
        born_ns=0,
        changed_ns=last,
        named_ns=last,
        counts=vma.counts,
    )


_Path = tuple[str, ...]
_ROW = "vmas.list.element"


def _leaves(totals: Counts) -> list[_Path]:
    """The columns that hold anything but 0 and null: only they need be read."""
    paths: list[_Path] = []
    for group, name in sorted(counted(totals)):
        if group == "fault_ns":
            paths += [(group, name, "sum"), (group, name, "log2")]
        else:
            paths.append((group, name))
    return paths


def _columns(leaves: Sequence[_Path]) -> list[str]:
    """What Parquet calls them, and what tells the rows apart."""
    firsts = [(*path[:-1], "first") for path in leaves if path[-1] == "log2"]
    paths = [*((name,) for name in IDENTITY), *leaves, *firsts]
    return [".".join((_ROW, *path)) for path in paths]


_Numbers = np.ndarray[Any, np.dtype[np.int64]]


class _Mappings:
    """Adds up rows of mappings, column by column: there may be many millions of them."""

    def __init__(self, leaves: Sequence[_Path]) -> None:
        self._leaves = leaves
        self._places: dict[tuple[Any, ...], int] = {}
        self._first: list[int] = []
        self._last: list[int] = []
        self._sums: dict[_Path, _Numbers] = {
            path: np.zeros((0, BUCKETS) if "log2" in path else 0, np.int64) for path in leaves
        }
        self._rows = 0

    def add(self, rows: pa.StructArray) -> None:
        """Add the structs of *rows*, in the order of time."""
        if not len(rows):
            return
        table = pa.table(
            {**{name: rows.field(name) for name in IDENTITY}, "row": np.arange(len(rows))}
        )
        groups = table.group_by(list(IDENTITY), use_threads=False).aggregate(
            [("row", "list"), ("row", "max")]
        )
        members = groups.column("row_list").combine_chunks()
        group_of = np.empty(len(rows), np.int64)
        group_of[members.flatten().to_numpy()] = np.repeat(
            np.arange(len(groups)), members.value_lengths().to_numpy()
        )
        places = self._known(groups)
        self._rows += len(rows)
        for path in self._leaves:
            group = reduce(pa.StructArray.field, path[:-1], rows)
            if path[-1] == "log2":
                numbers = _buckets(group, group_of, len(groups))
            else:
                numbers = _by_group(_numbers(group.field(path[-1])), group_of, len(groups))
            self._put(path, places, numbers)

    def _known(self, groups: pa.Table) -> _Numbers:
        """The place of each group, new ones added."""
        keys = list(zip(*(groups.column(name).to_pylist() for name in IDENTITY), strict=True))
        latest = groups.column("row_max").to_pylist()
        places = np.empty(len(keys), np.int64)
        for index, (key, row) in enumerate(zip(keys, latest, strict=True)):
            place = self._places.setdefault(key, len(self._places))
            if place == len(self._last):
                self._first.append(self._rows)
                self._last.append(0)
            self._last[place] = self._rows + row
            places[index] = place
        return places

    def _put(self, path: _Path, places: _Numbers, numbers: _Numbers) -> None:
        sums = self._sums[path]
        if len(sums) < len(self._places):
            grown = np.zeros((2 * len(self._places), *sums.shape[1:]), np.int64)
            grown[: len(sums)] = sums
            self._sums[path] = sums = grown
        sums[places] += numbers

    def records(self) -> Iterator[VmaRecord]:
        """One for each mapping, program image and range, the latest seen last."""
        keys = list(self._places)
        for place in sorted(range(len(keys)), key=self._last.__getitem__):
            row = dict(zip(IDENTITY, keys[place], strict=True))
            vma = VmaRow(**row, counts=self._counts(place))
            yield record_of(vma, self._first[place], self._last[place])

    def _counts(self, place: int) -> Counts:
        changes, ptes, writable, readonly, omitted, faults = (
            tuple(self._sum((group, name), place) for name in names)
            for group, names in GROUPS.items()
        )
        costs = tuple(self._cost(outcome, place) for outcome in OUTCOMES)
        return Counts(changes, ptes, writable, readonly, omitted, faults, costs)

    def _sum(self, path: _Path, place: int) -> int:
        return int(self._sums[path][place]) if path in self._sums else 0

    def _cost(self, outcome: str, place: int) -> Histogram:
        log2 = self._sums.get(("fault_ns", outcome, "log2"))
        if log2 is None or not log2[place].any():
            return UNMEASURED
        return Histogram(
            self._sum(("fault_ns", outcome, "sum"), place), tuple(log2[place].tolist())
        )


def _numbers(array: pa.Array) -> _Numbers:
    numbers: _Numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
    return numbers


def _by_group(numbers: _Numbers, group_of: _Numbers, groups: int) -> _Numbers:
    """Exact: what a batch adds up to is far below 2^53."""
    return np.bincount(group_of, numbers, groups).astype(np.int64)


def _buckets(costs: pa.StructArray, group_of: _Numbers, groups: int) -> _Numbers:
    """The histograms of each group added up, bucket by bucket."""
    lists = costs.field("log2")
    lengths = _numbers(lists.value_lengths())
    before = np.cumsum(lengths) - lengths
    starts = group_of * BUCKETS + _numbers(costs.field("first")) - before
    numbers = _numbers(lists.flatten())
    places = np.arange(len(numbers)) + np.repeat(starts, lengths)
    return _by_group(numbers, places, groups * BUCKETS).reshape(-1, BUCKETS)
