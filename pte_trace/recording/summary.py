"""A recording added up: by time, by run, and as one snapshot of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pte_trace.counted.arrays import Numbers, np
from pte_trace.counted.building import build
from pte_trace.counted.columns import Columns, Times, tell_what_follows
from pte_trace.counted.counters import OUTCOMES, SIZE
from pte_trace.counted.counts import NOTHING, Counts, total
from pte_trace.counted.mapping import Stack, VmaRow
from pte_trace.counted.packed import BUCKETS, VmaKey
from pte_trace.counted.snapshot import Health, ReuseCost, Snapshot
from pte_trace.counted.stacks import Collected
from pte_trace.recording.decoding import (
    decode_counts,
    numbers_of,
    reuse_cost,
    stacks_of,
)
from pte_trace.recording.layout import FRAMES, IDENTITY, ORDER, RECORDED, STACKS
from pte_trace.recording.pruning import counted, identities
from pte_trace.recording.reading import Recording

_INTERVAL = ("time", "run", "duration_s", "health", "reuse_cost", "totals")
# Some three hundred years: as far as a time may be from the first.
_LONGEST_S = 2**53 / 1e6


@dataclass(frozen=True)
class Span:
    """What was counted in ``duration_s`` seconds up to ``end`` (UTC).

    By the clock as it was when recording began: where it was set meanwhile, times go on.
    """

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
    """``timeline`` in order of time; ``whole`` is what `run` would have reported.

    But what mprotect split is one mapping in it where it was in one interval.
    """

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
        self._health = Health()
        self._cost: ReuseCost | None = None

    def summary(self) -> Summary:
        lasted = [
            each
            for batch in self._recording.batches(["duration_s"])
            for each in batch.column("duration_s").to_pylist()
        ]
        timeline: dict[int, Span] = {}
        runs: dict[int, Run] = {}
        width_s = sum(lasted) / self._spans or 1.0
        elapsed_s = 0.0
        began = None
        for time, number, duration_s, counts in self._totals():
            began = began or time - timedelta(seconds=duration_s)
            place = min(int(elapsed_s / width_s), self._spans - 1)
            elapsed_s += duration_s
            end = began + timedelta(seconds=min(elapsed_s, _LONGEST_S))
            span = timeline.get(place) or Span(end, 0.0, NOTHING)
            timeline[place] = Span(end, span.duration_s + duration_s, span.counts + counts)
            run = runs.get(number) or Run(number, 0.0, NOTHING)
            runs[number] = Run(number, run.duration_s + duration_s, run.counts + counts)
        return Summary(
            tuple(timeline.values()),
            tuple(runs.values()),
            self._whole(tuple(runs.values())),
            len(lasted),
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

    def _stacks(self) -> Mapping[VmaKey, Sequence[Stack]]:
        """Of all intervals, by mapping."""
        found = Collected()
        keys = [".".join((_ROW, name)) for name in _OF_A_KEY]
        for batch in self._recording.batches([*keys, FRAMES, STACKS]):
            for vmas, stacks in zip(batch.column("vmas"), stacks_of(batch), strict=True):
                for place, of_row in stacks.items():
                    found.add(_key(vmas[place].as_py()), of_row)
        return found.by_vma()

    def _whole(self, runs: tuple[Run, ...]) -> Snapshot:
        metadata = self._recording.metadata
        leaves = _leaves(total(run.counts for run in runs))
        mappings = _Mappings(leaves)
        paths = [
            *zip((*IDENTITY, *ORDER)),
            *leaves,
            *((*path[:2], "first") for path in leaves if "log2" in path),
        ]
        for batch in self._recording.batches([".".join((_ROW, *path)) for path in paths]):
            mappings.add(batch.column("vmas").flatten())
        whole = build(
            mappings.columns(),
            kernel=metadata.kernel,
            hooks=metadata.hooks,
            needless=metadata.needless,
            duration_s=sum(run.duration_s for run in runs),
            health=self._health,
            effort=metadata.effort,
            split=metadata.split,
            stacks=self._stacks() if metadata.effort.stacks else {},
        )
        # Where no fault was timed, each interval has the cost of pte-trace's own.
        return whole if whole.reuse_cost else replace(whole, reuse_cost=self._cost)


_Path = tuple[str, ...]
_ROW = "vmas.list.element"
_OF_A_KEY = ("pid", "image", "start", "end", "inode", "dev", "perms")


def _key(vma: Mapping[str, Any]) -> VmaKey:
    *numbers, perms = (vma[name] for name in _OF_A_KEY)
    pid, image, start, end, inode, dev = numbers
    return pid, image, start, end, inode, dev, perms.endswith("s")


def _leaves(totals: Counts) -> list[_Path]:
    """The columns that hold anything but 0 and null: only they need be read."""
    paths: list[_Path] = []
    for group, name in sorted(counted(totals)):
        if group == "fault_ns":
            paths += [(group, name, "sum"), (group, name, "log2")]
        else:
            paths.append((group, name))
    return paths


# What makes two rows be of one VMA (see `same_vmas`), and what is as in the latest of them.
_KEY = ("pid", "image", "start", "end", "inode", "dev", "shared", "name")
_LATEST = ("ppid", "comm", "cgroup", "perms", "kind")
_NUMBERS = [("row", "max"), ("changed", "max"), ("seen_ns", "min"), ("born_ns", "max")]


@dataclass
class _Mapping:
    """What is known of a mapping but its counts: those have the same place in each column."""

    place: int
    seen_ns: int
    born_ns: int = 0
    changed: int = 0
    named: int = 0
    latest: tuple[Any, ...] = ()


class _Mappings:
    """Adds up rows of mappings, column by column: there may be many millions of them."""

    def __init__(self, leaves: Sequence[_Path]) -> None:
        self._leaves = leaves
        self._mappings: dict[tuple[Any, ...], _Mapping] = {}
        self._sums: dict[_Path, Numbers] = {
            path: np.zeros((0, BUCKETS) if "log2" in path else 0, np.int64) for path in leaves
        }
        self._rows = 0

    def add(self, rows: pa.StructArray) -> None:
        """Add the structs of *rows*, in the order of time."""
        if not len(rows):
            return
        columns = identities(rows)
        columns["shared"] = pc.ends_with(columns["perms"], "s")
        columns["row"] = np.arange(len(rows))
        columns["changed"] = np.where(self._changed(rows), self._rows + 1 + columns["row"], 0)
        table = pa.table({name: columns[name] for name in (*_KEY, *ORDER, "row", "changed")})
        groups = table.group_by(list(_KEY), use_threads=False).aggregate(
            [("row", "list"), *_NUMBERS]
        )
        members = groups.column("row_list").combine_chunks()
        group_of = np.empty(len(rows), np.int64)
        group_of[members.flatten().to_numpy()] = np.repeat(
            np.arange(len(groups)), members.value_lengths().to_numpy()
        )
        latest = groups.column("row_max").combine_chunks()
        places = self._known(groups, [columns[name].take(latest) for name in _LATEST])
        self._rows += len(rows)
        for path in self._leaves:
            # Recorded before there was such a thing, it follows from others.
            if rows.type.get_field_index(path[0]) < 0:
                continue
            group = reduce(pa.StructArray.field, path[:-1], rows)
            if path[-1] == "log2":
                numbers = _buckets(group, group_of, len(groups))
            else:
                numbers = _by_group(numbers_of(group.field(path[-1])), group_of, len(groups))
            self._put(path, places, numbers)

    def _changed(self, rows: pa.StructArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether protection was changed in it, of each row."""
        changed = np.zeros(len(rows), np.bool_)
        for path in self._leaves:
            if path[0] == "protection_changes":
                changed |= numbers_of(reduce(pa.StructArray.field, path, rows)) > 0
        return changed

    def _known(self, groups: pa.Table, latest: Sequence[pa.Array]) -> Numbers:
        """The place of each group, new ones added."""
        keys = zip(*(groups.column(name).to_pylist() for name in _KEY), strict=True)
        numbers = zip(
            *(groups.column("_".join(each)).to_pylist() for each in _NUMBERS), strict=True
        )
        said = zip(*(column.to_pylist() for column in latest), strict=True)
        places = np.empty(len(groups), np.int64)
        for index, (key, (row, changed, seen_ns, born_ns), described) in enumerate(
            zip(keys, numbers, said, strict=True)
        ):
            mapping = self._mappings.get(key)
            if mapping is None:
                mapping = self._mappings[key] = _Mapping(len(self._mappings), seen_ns)
            mapping.born_ns = max(mapping.born_ns, born_ns)
            mapping.changed = max(mapping.changed, changed)
            mapping.named = self._rows + 1 + row
            mapping.latest = described
            places[index] = mapping.place
        return places

    def _put(self, path: _Path, places: Numbers, numbers: Numbers) -> None:
        sums = self._sums[path]
        if len(sums) < len(self._mappings):
            grown = np.zeros((2 * len(self._mappings), *sums.shape[1:]), np.int64)
            grown[: len(sums)] = sums
            self._sums[path] = sums = grown
        sums[places] += numbers

    def columns(self) -> Columns:
        """A row for each mapping, program image and range; its times are numbers of rows."""
        rows = Columns.named(self._rows_of_nothing())
        fits = sum(int(sums.sum()) for sums in self._sums.values()) <= np.iinfo(np.int32).max
        numbers = np.zeros((len(rows), SIZE), np.int32 if fits else np.int64)
        for family in RECORDED:
            for name in family.parts:
                numbers[:, family.at(name)] = self._of((family.name, name), len(rows))
        tell_what_follows(numbers)
        return replace(rows, numbers=numbers, times=self._times(len(rows)))

    def _rows_of_nothing(self) -> Iterator[VmaRow]:
        for key, mapping in self._mappings.items():
            row = dict(zip(_KEY, key, strict=True)) | dict(
                zip(_LATEST, mapping.latest, strict=True)
            )
            del row["shared"]
            yield VmaRow(
                **row,
                seen_ns=mapping.seen_ns,
                born_ns=mapping.born_ns,
                changed_ns=mapping.changed,
                named_ns=mapping.named,
                counts=NOTHING,
            )

    def _of(self, path: _Path, rows: int) -> Numbers:
        """0 for what is in no column."""
        found = self._sums.get(path)
        return np.zeros(rows, np.int64) if found is None or not len(found) else found[:rows]

    def _times(self, rows: int) -> Times:
        parts = [Times.none()]
        for place, outcome in enumerate(OUTCOMES):
            log2 = self._sums.get(("fault_ns", outcome, "log2"))
            if log2 is None or not len(log2):
                continue
            timed = np.flatnonzero(log2[:rows].any(axis=1))
            ns = self._of(("fault_ns", outcome, "sum"), rows)[timed]
            parts.append(Times(timed, np.full(len(timed), place), ns, log2[timed]))
        return Times(*map(np.concatenate, zip(*(part.columns for part in parts), strict=True)))


def _by_group(numbers: Numbers, group_of: Numbers, groups: int) -> Numbers:
    """Exact: what a batch adds up to is far below 2^53."""
    return np.bincount(group_of, numbers, groups).astype(np.int64)


def _buckets(costs: pa.StructArray, group_of: Numbers, groups: int) -> Numbers:
    """The histograms of each group added up, bucket by bucket."""
    lists = costs.field("log2")
    lengths = numbers_of(lists.value_lengths())
    before = np.cumsum(lengths) - lengths
    starts = group_of * BUCKETS + numbers_of(costs.field("first")) - before
    numbers = numbers_of(lists.flatten())
    places = np.arange(len(numbers)) + np.repeat(starts, lengths)
    return _by_group(numbers, places, groups * BUCKETS).reshape(-1, BUCKETS)
