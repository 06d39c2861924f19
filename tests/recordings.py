"""Recordings to test with, and strategies that make any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st

from pte_trace.counted.building import build
from pte_trace.counted.columns import Columns
from pte_trace.counted.counters import CAUSES, ORIGINS, OUTCOMES
from pte_trace.counted.counts import NOTHING, UNMEASURED, Counts, Histogram
from pte_trace.counted.mapping import Event, Frame, Stack, VmaRow
from pte_trace.counted.packed import BUCKETS, KINDS
from pte_trace.counted.snapshot import Health, Kernel, Snapshot
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.host import plan
from pte_trace.recording.interval import Interval
from pte_trace.recording.layout import INSPECTED, RECORDED
from pte_trace.recording.metadata import Metadata
from pte_trace.recording.writing import Recorder
from tests.builders import counts_of, host

STARTED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
_KERNEL = Kernel("6.18.0-test", True)
_HOOKS = plan.make(host()).attachments


def metadata(effort: Effort = EVERYTHING, **changes: object) -> Metadata:
    plain: dict[str, object] = {
        "started": STARTED,
        "pte_trace": "0.1.0",
        "kernel": _KERNEL,
        "hooks": _HOOKS,
        "effort": effort,
        "interval_s": 1.0,
        "options": {"pids": [], "comm": None, "cgroup": None},
    }
    return Metadata(**{**plain, **changes})  # type: ignore[arg-type]


def interval(snapshot: Snapshot, second: float = 1, run: int = 1) -> Interval:
    """*snapshot* as of so many seconds after STARTED."""
    return Interval(STARTED + timedelta(seconds=second), run, snapshot)


def recorded(
    path: Path, intervals: Iterable[Interval], of: Metadata | None = None, *, ended: bool = True
) -> Path:
    """Record *intervals* at *path*; a recorder that did not end was killed."""
    recorder = Recorder(path, of or metadata())
    for each in intervals:
        recorder.add(each)
    if ended:
        recorder.finish()
    return path


_numbers = st.integers(0, 2**50)
_health = st.builds(Health, _numbers, _numbers, st.none() | st.floats(0, 1e6), _numbers, _numbers)


_Value = TypeVar("_Value")


def _some_of(
    names: Sequence[str], values: st.SearchStrategy[_Value], nothing: _Value
) -> st.SearchStrategy[tuple[_Value, ...]]:
    """A value for up to three of *names*, *nothing* for the rest."""
    places = range(len(names))
    drawn = st.dictionaries(st.sampled_from(places), values, max_size=3)
    return drawn.map(lambda found: tuple(found.get(place, nothing) for place in places))


@st.composite
def _histograms(draw: st.DrawFn) -> Histogram:
    filled = draw(_FILLED)
    return Histogram(draw(_numbers), tuple(filled.get(place, 0) for place in range(BUCKETS)))


_FILLED = st.dictionaries(
    st.integers(0, BUCKETS - 1), st.integers(1, 2**32), min_size=1, max_size=4
)
_COSTS = _some_of(OUTCOMES, _histograms(), UNMEASURED)


@cache
def _counts(effort: Effort) -> st.SearchStrategy[Counts]:
    """What may be counted with *effort*."""
    families = {
        family: _some_of(family.parts, _numbers, 0)
        for family in RECORDED
        if effort.inspects or family.name not in INSPECTED
    }
    return st.builds(
        counts_of,
        st.fixed_dictionaries(families),
        _COSTS if effort.times else st.just(NOTHING.costs),
    )


_TEXT = st.none() | st.text(min_size=1, max_size=20)
_ADDRESSES = st.integers(0, 2**64 - 1)
_EVENTS = st.builds(
    Event, st.just("protection_changes"), st.sampled_from(CAUSES), st.none()
) | st.builds(Event, st.just("write_faults"), st.sampled_from(OUTCOMES), st.sampled_from(ORIGINS))
_FRAMES = st.builds(Frame, _ADDRESSES, _TEXT, st.none() | _ADDRESSES, _TEXT, _TEXT)
_STACKS = st.lists(
    st.builds(Stack, _EVENTS, st.lists(_FRAMES, max_size=3).map(tuple), st.integers(1, 2**40)),
    max_size=3,
)


@st.composite
def _records(draw: st.DrawFn, effort: Effort) -> VmaRow:
    start = draw(st.integers(0, 2**47 - 2))
    return VmaRow(
        pid=draw(st.integers(0, 2**22)),
        ppid=1,
        comm=draw(st.text(max_size=15)),
        image=draw(st.integers(0, 2**64 - 1)),
        start=start,
        end=draw(st.integers(start + 1, 2**47)),
        inode=draw(st.integers(0, 2**64 - 1)),
        dev=0,
        kind=draw(st.sampled_from(KINDS)),
        name=draw(st.text(max_size=40)),
        perms=draw(st.sampled_from(["rw-p", "r--s", "---p"])),
        seen_ns=draw(_numbers),
        born_ns=0,
        changed_ns=draw(_numbers),
        named_ns=draw(_numbers),
        counts=draw(_counts(effort)),
        cgroup=draw(st.text(max_size=40)),
    )


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Metadata, list[Interval]]:
    """What a recorder may be given."""
    some = st.sampled_from([0, 1, 16])
    effort = draw(st.builds(Effort, st.sampled_from([None, 0, 8]), some, some))
    intervals = [
        interval(
            build(
                Columns.of(rows),
                kernel=_KERNEL,
                hooks=_HOOKS,
                duration_s=draw(st.floats(0, 1e6)),
                health=Health(
                    draw(_numbers),
                    draw(_numbers),
                    draw(st.none() | st.floats(0, 1e6)),
                    draw(_numbers),
                ),
                effort=effort,
                stacks={row.key: draw(_STACKS) for row in rows} if effort.stacks else {},
            ),
            second,
            run=draw(st.integers(1, 3)),
        )
        for second in range(draw(st.integers(0, 4)))
        for rows in [draw(st.lists(_records(effort), max_size=4))]
    ]
    return metadata(effort), intervals
