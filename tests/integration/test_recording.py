"""Recordings: what was written is read again, or it is said why it cannot be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from pte_trace import load
from pte_trace.counted.columns import Columns
from pte_trace.counted.counts import total
from pte_trace.counted.ledger import Ledger
from pte_trace.counted.mapping import Event, Frame, Stack, VmaRow
from pte_trace.counted.rows import Rows
from pte_trace.counted.snapshot import Snapshot
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.errors import RecordingError
from pte_trace.recording import layout, parquet, pruning
from pte_trace.recording.encoding import encode
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata, dumps
from pte_trace.recording.reading import Recording
from pte_trace.recording.replay import Replay
from pte_trace.recording.summary import summarize
from tests.builders import counts, histogram, record, snapshot
from tests.fuzz.test_recordings import journal_of
from tests.recordings import STARTED, interval, metadata, recorded, recordings

ENDED = pytest.mark.parametrize("ended", [True, False], ids=["ended", "killed"])


# What a mapping keeps while it is there, and whether it is shared.
SAME = ("pid", "image", "start", "end", "kind", "name", "inode", "dev")
CHANGED = counts({"mprotect": 1}, {"mprotect": 2})


def at(second: float) -> datetime:
    return STARTED + timedelta(seconds=second)


def read(path: Path) -> list[Interval]:
    with Recording(path) as recording:
        return list(recording.intervals())


def some(count: int = 3) -> list[Interval]:
    seen = record(
        counts=counts(
            {"mprotect": 2},
            {"mprotect": 46},
            {"wp_reuse": 2, "other": 23},
            writable={"mprotect": 21},
            readonly={"clean": 2},
            costs={"wp_reuse": histogram(700, 1500)},
        )
    )
    return [interval(snapshot(seen, duration_s=1.0), second) for second in range(1, count + 1)]


def seen_at(*seen_ns: int) -> tuple[Metadata, list[Interval]]:
    """Intervals with one mapping beside another, which each says was first seen at another time."""
    return metadata(), [
        interval(snapshot(record(), record(start=1, end=2, seen_ns=each)), second)
        for second, each in enumerate(seen_ns)
    ]


def by_event(snapshots: Iterable[Snapshot]) -> Counter[tuple[Event, tuple[Frame, ...]]]:
    """What happened how often, by where it came from."""
    found: Counter[tuple[Event, tuple[Frame, ...]]] = Counter()
    for each in snapshots:
        for _, stack in each.stacks:
            found[stack.event, stack.frames] += stack.count
    return found


def kept(intervals: list[Interval]) -> list[Interval]:
    """A mapping that was in the interval before keeps when it was first seen."""
    seen: dict[tuple[object, ...], int] = {}
    found = []
    for each in intervals:
        keys = [
            (*(getattr(vma, name) for name in SAME), vma.perms[3]) for vma in each.snapshot.vmas
        ]
        vmas = tuple(
            replace(vma, seen_ns=seen.get(key, vma.seen_ns))
            for key, vma in zip(keys, each.snapshot.vmas, strict=True)
        )
        seen = {key: vma.seen_ns for key, vma in zip(keys, vmas, strict=True)}
        rows = Rows(Columns.of(vmas), each.snapshot.vmas.stacks)
        found.append(replace(each, snapshot=replace(each.snapshot, vmas=rows)))
    return found


@ENDED
@given(made=recordings())
@example(made=seen_at(0, 1))
@example(made=seen_at(5, 7, 3))
@settings(max_examples=60)
def test_every_snapshot_is_given_back(
    tmp_path_factory: pytest.TempPathFactory, ended: bool, made: tuple[Metadata, list[Interval]]
) -> None:
    about, intervals = made
    path = recorded(tmp_path_factory.mktemp("given") / "r.parquet", intervals, about, ended=ended)

    with Recording(path) as recording:
        assert recording.metadata == about
        assert recording.ended is ended
        assert list(recording.intervals()) == kept(intervals)


@ENDED
@given(made=recordings())
@settings(max_examples=30)
def test_a_summary_adds_up_to_what_was_recorded(
    tmp_path_factory: pytest.TempPathFactory, ended: bool, made: tuple[Metadata, list[Interval]]
) -> None:
    about, intervals = made
    path = recorded(tmp_path_factory.mktemp("summed") / "r.parquet", intervals, about, ended=ended)

    with Recording(path) as recording:
        summary = summarize(recording, spans=2)
    whole = total(each.snapshot.totals for each in intervals)
    assert summary.whole.totals == whole
    assert by_event([summary.whole]) == by_event(each.snapshot for each in intervals)
    assert total(run.counts for run in summary.runs) == whole
    assert total(span.counts for span in summary.timeline) == whole
    assert total(vma.counts for vma in summary.whole.vmas) == whole
    assert summary.intervals == len(intervals)


def test_the_timeline_is_no_longer_than_asked_for(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.parquet", some(100))

    with Recording(path) as recording:
        summary = summarize(recording, spans=10)
    assert len(summary.timeline) == 10
    assert sum(span.duration_s for span in summary.timeline) == 100


def test_a_mapping_seen_in_parts_is_one_mapping_of_the_summary(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "r.parquet",
        [
            interval(snapshot(record(start=0x1000, end=0x2000, perms="rw-p")), 1),
            interval(snapshot(record(start=0x1000, end=0x3000, perms="r--p")), 2),
        ],
    )

    with Recording(path) as recording:
        (row,) = summarize(recording).whole.vmas
    assert (row.start, row.end, row.perms) == (0x1000, 0x3000, "r--p")
    assert row.counts == counts(faults={"other": 2})


def rows_of(whole: Snapshot) -> set[VmaRow]:
    assert len(set(whole.vmas)) == len(whole.vmas)
    return set(whole.vmas)


def as_run(readings: Sequence[Sequence[VmaRow]], *, split: bool = False) -> set[VmaRow]:
    """The rows that `run` reports of these readings."""
    ledger = Ledger()
    for records in readings:
        ledger.add(Columns.of(records))
    return rows_of(snapshot(*Rows(ledger.columns()), split=split))


def as_report(
    path: Path, readings: Sequence[Sequence[VmaRow]], *, split: bool = False
) -> set[VmaRow]:
    """Those that `report` has of a recording of them; a replay ends with the same."""
    intervals = [
        interval(snapshot(*records, split=split), second)
        for second, records in enumerate(readings, 1)
    ]
    with Recording(recorded(path, intervals, metadata(split=split))) as recording:
        replay = Replay(recording)
        for _ in readings:
            replay.read()
        found = rows_of(summarize(recording).whole)
    assert rows_of(replay.total()) == found
    return found


OLD = record(start=0x1000, end=0x3000, seen_ns=10)
READINGS = {
    "two files of one name": (
        [[record(name="/x", kind="file", inode=1), record(name="/x", kind="file", inode=2)]],
        2,
    ),
    "a file of that name on another file system, later": (
        [[record(name="/x", kind="file", inode=1, dev=dev, seen_ns=dev)] for dev in (1, 2)],
        2,
    ),
    "mapped anew in its place": (
        [[OLD, record(start=0x1000, end=0x2000, born_ns=15, seen_ns=16)]],
        2,
    ),
    "mapped anew in its place, later": (
        [[OLD], [OLD], [record(start=0x1000, end=0x2000, born_ns=15, seen_ns=30)]],
        2,
    ),
    "mapped before it was first seen": (
        [[record(start=0x1000, end=0x2000, seen_ns=16)], [replace(OLD, born_ns=15, seen_ns=20)]],
        1,
    ),
    "seen in each interval, mapped in the first": (
        [[replace(OLD, seen_ns=10 * n, born_ns=5)] for n in range(1, 5)]
        + [[record(start=0x1000, end=0x2000, seen_ns=60)]],
        1,
    ),
    "changed, then written to in another part": (
        [
            [record(start=0x1000, end=0x2000, perms="r--p", counts=CHANGED, changed_ns=11)],
            [record(start=0x2000, end=0x3000, seen_ns=20)],
        ],
        1,
    ),
}


@pytest.mark.parametrize(("readings", "rows"), READINGS.values(), ids=READINGS.keys())
def test_a_report_has_the_rows_of_run(
    tmp_path: Path, readings: list[list[VmaRow]], rows: int
) -> None:
    found = as_report(tmp_path / "r.parquet", readings)
    assert found == as_run(readings)
    assert len(found) == rows


@st.composite
def readings(draw: st.DrawFn) -> list[list[VmaRow]]:
    """Of a few ranges, over and over, each no more than once in a reading."""
    records = st.builds(
        lambda start, pages, **given: record(
            start=start << 12, end=start + pages << 12, counts=CHANGED, **given
        ),
        start=st.integers(1, 3),
        pages=st.integers(1, 2),
        perms=st.sampled_from(["rw-p", "r--p", "rw-s"]),
        name=st.sampled_from(["/x", "/y"]),
        inode=st.integers(0, 2),
    )
    some = st.lists(records, max_size=5, unique_by=lambda each: (each.key, each.name))
    found = draw(st.lists(some, min_size=1, max_size=5))
    clock = count(1)
    return [[replace(each, seen_ns=next(clock)) for each in some] for some in found]


@given(taken=readings())
def test_a_report_has_each_vma_that_run_has(
    tmp_path_factory: pytest.TempPathFactory, taken: list[list[VmaRow]]
) -> None:
    path = tmp_path_factory.mktemp("split") / "r.parquet"
    assert as_report(path, taken, split=True) == as_run(taken, split=True)


def test_a_clock_that_is_set_back_does_not_turn_time_round(tmp_path: Path) -> None:
    seconds = [*range(1, 51), *range(-3600, -3550)]
    path = recorded(tmp_path / "r.parquet", (replace(some(1)[0], time=at(n)) for n in seconds))

    with Recording(path) as recording:
        timeline = summarize(recording, spans=10).timeline
    assert [span.end for span in timeline] == [at(10 * n) for n in range(1, 11)]
    assert {span.duration_s for span in timeline} == {10}


@ENDED
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_found(tmp_path: Path, ended: bool, data: st.DataObject) -> None:
    path = tmp_path / "flipped.parquet"
    content = bytearray(recorded(path, some(), ended=ended).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)

    with pytest.raises(RecordingError, match=r"flipped\.parquet"):
        read(path)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_recording_that_was_cut_off_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "cut.parquet"
    content = recorded(path, some()).read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])

    with pytest.raises(RecordingError, match=r"cut\.parquet"):
        read(path)


def journal(path: Path) -> tuple[bytes, list[int]]:
    """What a recorder of three intervals wrote until it was killed, and its sizes until then."""
    ends = [recorded(path, some(count), ended=False).stat().st_size for count in range(4)]
    return path.read_bytes(), ends


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_journal_is_read_up_to_its_last_whole_interval(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "journal.parquet"
    content, ends = journal(path)
    size = data.draw(st.integers(ends[0], len(content)))
    path.write_bytes(content[:size])

    assert read(path) == some(sum(end <= size for end in ends[1:]))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_journal_whose_end_the_power_took_is_read_up_to_its_last_whole_interval(
    tmp_path: Path, data: st.DataObject
) -> None:
    """The file has the length that it had, or that was reserved, and zeros at its end."""
    path = tmp_path / "journal.parquet"
    content, ends = journal(path)
    size = data.draw(st.integers(ends[0], len(content)))
    zeros = max(data.draw(st.integers(16, 10_000)), len(content) - size)
    path.write_bytes(content[:size] + bytes(zeros))

    assert read(path) == some(sum(end <= size for end in ends[1:]))


@pytest.mark.parametrize("zeros", [0, 16, 5000])
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_zeros_at_the_end_hide_no_flipped_bit(
    tmp_path: Path, zeros: int, data: st.DataObject
) -> None:
    path = tmp_path / "flipped.parquet"
    content = bytearray(recorded(path, some(), ended=False).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    # A last byte of zero before zeros is one that was never written.
    assume(content[-1] or not zeros)
    path.write_bytes(content + bytes(zeros))

    with pytest.raises(RecordingError, match=r"flipped\.parquet"):
        read(path)


@pytest.mark.parametrize(
    "content", [b"PAR1", b"PAR1PAR1", b"\0" * 100, b"pid,comm\n1,init\n", b"pte-trace journal"]
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.parquet"
    path.write_bytes(content)

    with pytest.raises(RecordingError, match="is not a recording"):
        read(path)


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any"
    for begin in (b"", b"PAR1", b"pte-trace journal 1\n"):
        path.write_bytes(begin + content)
        with pytest.raises(RecordingError):
            read(path)


def test_parquet_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pd.DataFrame({"pid": [1]}).to_parquet(path)

    with pytest.raises(RecordingError, match="is not a recording"):
        read(path)


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(RecordingError, match="is empty"):
        read(tmp_path / "empty")
    with pytest.raises(RecordingError, match="No such file"):
        read(tmp_path / "absent")
    with pytest.raises(RecordingError, match="directory"):
        read(tmp_path)


def test_another_version_is_told_apart_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pte_trace.recording.metadata.FORMAT", 2)
    path = recorded(tmp_path / "newer.parquet", some(), ended=False)

    with pytest.raises(RecordingError, match="another version"):
        read(path)


_RECORD_FOREVER = """
import sys
from pathlib import Path
from tests.recordings import metadata
from tests.integration.test_recording import some
from pte_trace.recording.writing import Recorder
recorder = Recorder(Path(sys.argv[1]), metadata())
while True:
    recorder.add(some(1)[0])
    print(flush=True)
"""


def test_a_recorder_that_was_killed_leaves_what_it_had_written(tmp_path: Path) -> None:
    path = tmp_path / "killed.parquet"
    with subprocess.Popen(
        [sys.executable, "-c", _RECORD_FOREVER, path], stdout=subprocess.PIPE
    ) as recorder:
        assert recorder.stdout is not None
        for _ in range(5):
            recorder.stdout.readline()
        recorder.send_signal(signal.SIGKILL)
        written = 5 + len(recorder.stdout.read())

    intervals = read(path)
    assert written <= len(intervals) <= written + 1
    assert intervals == some(1) * len(intervals)


def test_a_full_disk_leaves_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pte_trace.recording.parquet.write", full)
    path = tmp_path / "r.parquet"
    with pytest.raises(OSError, match="No space"):
        recorded(path, some())

    assert read(path) == some()
    assert os.listdir(tmp_path) == ["r.parquet"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred intervals of a thousand mappings."""
    many = snapshot(*(record(start=n << 12, end=n << 12 | 1, name=str(n)) for n in range(1000)))
    path = tmp_path_factory.mktemp("large") / "r.parquet"
    return recorded(path, (interval(many, second) for second in range(100)))


def test_a_row_group_is_no_larger_however_long_the_recording(large: Path) -> None:
    groups = pq.ParquetFile(large).metadata
    sizes = [groups.row_group(place).num_rows for place in range(groups.num_row_groups)]
    assert sum(sizes) == 100
    assert max(sizes) <= 40


def test_other_programs_read_it_too(large: Path) -> None:
    """One file, though its row groups were written one by one: as many rows as intervals."""
    table = pq.read_table(large)
    assert table.num_rows == 100
    assert (
        table["vmas"].combine_chunks().flatten().field("name").to_pylist()
        == [str(n) for n in range(1000)] * 100
    )


def without_cgroups(kind: pa.Schema | pa.DataType) -> Any:
    """*kind* as recorders had it before they knew cgroups."""
    if isinstance(kind, pa.Schema):
        return pa.schema([(field.name, without_cgroups(field.type)) for field in kind])
    if pa.types.is_struct(kind):
        return pa.struct(
            [(each.name, without_cgroups(each.type)) for each in kind if each.name != "cgroup"]
        )
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return pa.list_(without_cgroups(kind.value_type))
    return kind


@ENDED
def test_recordings_from_before_there_were_cgroups_are_read(tmp_path: Path, ended: bool) -> None:
    path = tmp_path / "r.parquet"
    schema = without_cgroups(layout.SCHEMA)
    whole = encode(some())
    columns = [
        pruning.conform(column, field.type, EVERYTHING)
        for column, field in zip(whole.columns, schema, strict=True)
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    assert "cgroup" not in str(batch.schema)
    about = dumps(metadata())
    if ended:
        with path.open("wb+", buffering=0) as file:
            parquet.write(file, about, schema, iter([batch]))
    else:
        frames = (about, schema.serialize().to_pybytes(), batch.serialize().to_pybytes())
        path.write_bytes(journal_of(*frames))
    assert read(path) == some()
    with Recording(path) as recording:
        assert summarize(recording).whole.processes[0].cgroup == ""
    assert set(load(path)["cgroup"]) == {""}


@ENDED
def test_stacks_are_recorded_and_added_up(tmp_path: Path, ended: bool) -> None:
    """Of each interval, of the whole, and in a replay; those of a mapping that grew as well."""
    effort = Effort(stacks=1)
    wrote, called = Event("write_faults", "other", "user"), Event("protection_changes", "mprotect")
    frames = (Frame(0x4010, "/p", 0x10, "f+0x2"), Frame(0x66), Frame(0x9000, "/p", None, None, "?"))
    intervals = [
        interval(
            snapshot(
                record(end=end, stacks=(Stack(wrote, frames, 5), Stack(called, frames[1:], 1))),
                record(pid=101, stacks=(Stack(wrote._replace(origin="remote"), (), 2),)),
                effort=effort,
            ),
            second,
        )
        for second, end in enumerate((0x20000, 0x30000))
    ]
    path = recorded(tmp_path / "r.parquet", intervals, metadata(effort), ended=ended)
    assert read(path) == intervals
    with Recording(path) as recording:
        whole = summarize(recording).whole
        replay = Replay(recording)
        shown = [replay.read() for _ in intervals]
        for each in (whole, replay.total()):
            first, second = each.vmas
            assert (first.end, second.pid) == (0x30000, 101)
            assert first.stacks == (Stack(wrote, frames, 10), Stack(called, frames[1:], 2))
            assert second.stacks == (Stack(wrote._replace(origin="remote"), (), 4),)
    assert shown == [each.snapshot for each in intervals]


def test_recordings_that_had_no_stacks_of_write_faults_are_read(tmp_path: Path) -> None:
    """What was asked for was a yes or a no then; and no such one was recorded."""
    about = dumps(metadata()).replace(b'"stacks": 0', b'"stacks": false')
    assert b'"stacks": false' in about
    whole = encode(some())
    path = tmp_path / "r.parquet"
    frames = (about, whole.schema.serialize().to_pybytes(), whole.serialize().to_pybytes())
    path.write_bytes(journal_of(*frames))
    assert read(path) == some()
    with Recording(path) as recording:
        assert recording.metadata == metadata()
        assert list(summarize(recording).whole.stacks) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"vma": 1},
        {"frames": [1]},
        {"frames": [0] * 33},
        {"counted": "ptes_changed"},
        {"value": "mprotect"},
        {"origin": ""},
        {"origin": "nobody"},
        {"count": -1},
    ],
    ids=str,
)
def test_stacks_that_no_recorder_writes_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    effort = Effort(stacks=1)
    stack = Stack(Event("write_faults", "other", "user"), (Frame(1),), 1)
    batch = encode([interval(snapshot(record(stacks=(stack,)), effort=effort))])
    (row,) = batch.to_pylist()
    row["stacks"][0] |= wrong
    made = pa.RecordBatch.from_pylist([row], batch.schema)
    frames = (dumps(metadata(effort)), batch.schema.serialize().to_pybytes())
    path = tmp_path / "r.parquet"
    path.write_bytes(journal_of(*frames, made.serialize().to_pybytes()))
    with Recording(path) as recording, pytest.raises(RecordingError, match="no recorder writes"):
        list(recording.intervals())


@ENDED
def test_a_summary_has_the_last_cgroup_of_a_process(tmp_path: Path, ended: bool) -> None:
    given = [
        interval(snapshot(record(cgroup=path)), second) for second, path in enumerate(("/a", "/b"))
    ]
    with Recording(recorded(tmp_path / "r.parquet", given, ended=ended)) as recording:
        assert [each.cgroup for each in summarize(recording).whole.processes] == ["/b"]
