"""Recordings to test with, and strategies that make any."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st

from pte_trace import plan
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.recording.layout import Interval
from pte_trace.recording.metadata import Metadata
from pte_trace.recording.writing import Recorder
from pte_trace.records import (
    BUCKETS,
    CAUSES,
    KINDS,
    OMISSIONS,
    OUTCOMES,
    REASONS,
    UNMEASURED,
    Counts,
    Histogram,
    VmaRecord,
)
from pte_trace.snapshot import Health, Kernel, Snapshot, build
from tests.unit.builders import host

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


def _tuples(names: tuple[str, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.just(0) | _numbers for _ in names))


@st.composite
def _histograms(draw: st.DrawFn) -> Histogram:
    filled = draw(st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 2**32), max_size=4))
    if not filled:
        return UNMEASURED
    log2 = tuple(filled.get(place, 0) for place in range(BUCKETS))
    return Histogram(draw(_numbers), log2)


@st.composite
def _counts(draw: st.DrawFn, effort: Effort) -> Counts:
    nothing = st.just((0,) * len(CAUSES))
    costs = _histograms() if effort.times else st.just(UNMEASURED)
    return Counts(
        changes=draw(_tuples(CAUSES)),
        ptes_changed=draw(_tuples(CAUSES)),
        made_writable=draw(_tuples(CAUSES) if effort.inspects else nothing),
        left_readonly=draw(_tuples(REASONS) if effort.inspects else nothing),
        not_inspected=draw(_tuples(OMISSIONS)),
        write_faults=draw(_tuples(OUTCOMES)),
        costs=draw(st.tuples(*(costs for _ in OUTCOMES))),
    )


@st.composite
def _records(draw: st.DrawFn, effort: Effort) -> VmaRecord:
    start = draw(st.integers(0, 2**47 - 2))
    return VmaRecord(
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
    )


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Metadata, list[Interval]]:
    """What a recorder may be given."""
    effort = draw(st.builds(Effort, st.sampled_from([None, 0, 8]), st.sampled_from([0, 1, 16])))
    intervals = [
        interval(
            build(
                draw(st.lists(_records(effort), max_size=4)),
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
            ),
            second,
            run=draw(st.integers(1, 3)),
        )
        for second in range(draw(st.integers(0, 4)))
    ]
    return metadata(effort), intervals
