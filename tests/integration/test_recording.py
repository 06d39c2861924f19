"""Recordings: what was written is read again, or it is said why it cannot be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pte_trace.errors import RecordingError
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata
from pte_trace.recording.reading import Recording
from pte_trace.recording.replay import Replay
from pte_trace.recording.summary import summarize
from pte_trace.records import VmaRecord
from pte_trace.snapshot import Ledger, Snapshot, VmaRow, total
from tests.builders import counts, histogram, record, snapshot
from tests.recordings import STARTED, interval, metadata, recorded, recordings

ENDED = pytest.mark.parametrize("ended", [True, False], ids=["ended", "killed"])


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


@ENDED
@given(made=recordings())
@settings(max_examples=60)
def test_every_snapshot_is_given_back(
    tmp_path_factory: pytest.TempPathFactory, ended: bool, made: tuple[Metadata, list[Interval]]
) -> None:
    about, intervals = made
    path = recorded(tmp_path_factory.mktemp("given") / "r.parquet", intervals, about, ended=ended)

    with Recording(path) as recording:
        assert recording.metadata == about
        assert recording.ended is ended
        assert list(recording.intervals()) == intervals


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


def as_run(readings: Sequence[Sequence[VmaRecord]], *, split: bool = False) -> set[VmaRow]:
    """The rows that `run` reports of these readings."""
    ledger = Ledger()
    for records in readings:
        ledger.add(records)
    return rows_of(snapshot(*ledger.records(), split=split))


def as_report(
    path: Path, readings: Sequence[Sequence[VmaRecord]], *, split: bool = False
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
    tmp_path: Path, readings: list[list[VmaRecord]], rows: int
) -> None:
    found = as_report(tmp_path / "r.parquet", readings)
    assert found == as_run(readings)
    assert len(found) == rows


@st.composite
def readings(draw: st.DrawFn) -> list[list[VmaRecord]]:
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
    some = st.lists(records, max_size=5, unique_by=lambda each: each.vma)
    found = draw(st.lists(some, min_size=1, max_size=5))
    clock = count(1)
    return [[replace(each, seen_ns=next(clock)) for each in some] for some in found]


@given(taken=readings())
def test_a_report_has_each_vma_that_run_has(
    tmp_path_factory: pytest.TempPathFactory, taken: list[list[VmaRecord]]
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
