"""Recordings that are whole by their checksums, and made by somebody else."""

from __future__ import annotations

import copy
import csv
import json
import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pte_trace
from pte_trace.errors import RecordingError
from pte_trace.recording import journal, layout, parquet
from pte_trace.recording.comparison import Subject, compare
from pte_trace.recording.encoding import encode
from pte_trace.recording.metadata import dumps
from pte_trace.recording.reading import Recording
from pte_trace.recording.replay import Replay
from pte_trace.recording.summary import summarize
from pte_trace.views import compared, document, recorded, text
from tests.builders import counts, histogram, record, snapshot
from tests.fuzz.examples import one_of
from tests.recordings import interval, metadata
from tests.recordings import recorded as recorded_at

pytestmark = pytest.mark.timeout(3600)

SEEN = snapshot(
    record(counts=counts({"mprotect": 1}, faults={"other": 2}, costs={"other": histogram(9)})),
    record(pid=101, start=0x40000, end=0x50000, name="/srv/data", kind="file"),
)
INTERVALS = [interval(SEEN, second) for second in (1, 2)]


def refused_or_shown(path: Path) -> None:
    """All that reads a recording."""
    with suppress(RecordingError), Recording(path) as found:
        summary = summarize(found)
        stream = StringIO()
        text.console(stream).print(recorded.report(found.metadata, summary, ended=True, rows=9))
        json.dumps(recorded.document(found.metadata, summary, ended=True))
        document.write_csv(summary.whole, stream)
        list(csv.reader(StringIO(stream.getvalue())))
        subject = Subject("r", found.metadata, summary, found.ended)
        text.console(stream).print(compared.text(compare([subject, subject])))
        assert all(each.isprintable() or each == "\n" for each in stream.getvalue())
    with suppress(RecordingError), Recording(path) as found:
        replay = Replay(found)
        replay.read()
        replay.total()
    with suppress(RecordingError):
        pte_trace.load(path)
        pte_trace.load(path, each="interval")


def frame(payload: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(payload, asbytes=True)
    sizes = struct.pack("<III", len(packed), len(payload), zlib.crc32(packed))
    return sizes + struct.pack("<I", zlib.crc32(sizes)) + packed


def journal_of(*payloads: bytes) -> bytes:
    return journal.MAGIC + b"".join(map(frame, payloads))


ABOUT = dumps(metadata())
SCHEMA = layout.SCHEMA.serialize().to_pybytes()
BATCH = encode(INTERVALS).serialize().to_pybytes()
CHANGES = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), min_size=1
)


def damaged(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    found = bytearray(data)
    for place, new in changes:
        begin = place % len(found)
        found[begin : begin + len(new)] = new
    return bytes(found)


@one_of(2)
@given(
    frames=st.lists(st.binary(max_size=99) | st.sampled_from([ABOUT, SCHEMA, BATCH]), max_size=4)
)
def test_frames_of_anything(tmp_path: Path, frames: list[bytes]) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(journal_of(*frames))
    refused_or_shown(path)


@one_of(1)
@given(which=st.integers(0, 2), changes=CHANGES)
def test_damaged_frames_with_the_right_checksums(
    tmp_path: Path, which: int, changes: list[tuple[int, bytes]]
) -> None:
    frames = [ABOUT, SCHEMA, BATCH]
    frames[which] = damaged(frames[which], changes)
    path = tmp_path / "r.parquet"
    path.write_bytes(journal_of(*frames))
    refused_or_shown(path)


@one_of(1)
@given(changes=CHANGES)
def test_damaged_parquet_with_the_right_digest(
    tmp_path: Path, changes: list[tuple[int, bytes]]
) -> None:
    path = recorded_at(tmp_path / "r.parquet", INTERVALS)
    path.write_bytes(damaged(path.read_bytes(), changes))
    with path.open("r+b") as file:
        if (place := parquet._mark(file)) is not None:
            digits = parquet._digest(file, place).encode()
            file.seek(place)
            file.write(digits)
    refused_or_shown(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """*value* with something somewhere in it replaced or taken out."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 9)):
            return {**value, key: draw(changed(value[key]))}
        return {other: each for other, each in value.items() if other != key}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(changed(value[place])), *value[place + 1 :]]
    return draw(JSON)


@one_of(1)
@given(about=changed(metadata(command=("a", "b")).document()))
def test_metadata_of_anything(tmp_path: Path, about: Any) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(journal_of(json.dumps(about).encode(), SCHEMA, BATCH))
    refused_or_shown(path)


INTEGERS = st.sampled_from([-(2**63), -1, 0, 1, 31, 32, 33, 2**31 - 1, 2**63 - 1]) | st.integers(
    -(2**63), 2**63 - 1
)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): INTEGERS,
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(),
    pa.string(): st.text(max_size=9) | st.sampled_from(["", "rw-p", "anon", "\x1b[2J"]),
    pa.timestamp("us", "UTC"): st.datetimes(
        datetime(1, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)
    ),
}


@st.composite
def replaced(draw: st.DrawFn, value: Any, kind: pa.DataType) -> Any:
    """*value* of that type with something somewhere in it replaced by another of its type."""
    if not draw(st.integers(0, 9)):
        return None
    if pa.types.is_struct(kind) and value:
        field = draw(st.sampled_from([each for each in kind if each.name in value]))
        return {**value, field.name: draw(replaced(value[field.name], field.type))}
    if pa.types.is_list(kind):
        if not value or not draw(st.integers(0, 9)):
            inner = kind.value_type
            return draw(st.lists(VALUES.get(inner, st.none()), max_size=40))
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(replaced(value[place], kind.value_type)), *value[place + 1 :]]
    return draw(VALUES.get(kind, st.none()))


@pytest.mark.parametrize("seconds", [-1.0, 1e12, float("nan"), float("inf")])
def test_a_duration_that_cannot_be_is_refused(tmp_path: Path, seconds: float) -> None:
    lasting = interval(replace(SEEN, duration_s=seconds))
    path = recorded_at(tmp_path / "r.parquet", [lasting], ended=False)
    with pytest.raises(RecordingError, match="what no recorder writes"), Recording(path) as found:
        summarize(found)


ROW = encode(INTERVALS).to_pylist()[0]


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (("health", "map_full"), -1),
        (("totals", "write_faults", "other"), -1),
        (("reuse_cost", "nanoseconds"), -1.0),
        (("reuse_cost", "nanoseconds"), float("nan")),
    ],
    ids=str,
)
def test_a_count_that_cannot_be_is_refused(
    tmp_path: Path, where: tuple[str, ...], what: float
) -> None:
    row: Any = copy.deepcopy(ROW)
    inner = row
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = what
    batch = pa.RecordBatch.from_pylist([row], layout.SCHEMA)
    path = tmp_path / "r.parquet"
    path.write_bytes(journal_of(ABOUT, SCHEMA, batch.serialize().to_pybytes()))
    with pytest.raises(RecordingError, match="what no recorder writes"), Recording(path) as found:
        summarize(found)


@one_of(1)
@given(row=replaced(ROW, pa.struct(list(layout.SCHEMA))))
def test_numbers_and_names_of_anything(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "r.parquet"
    try:
        batch = pa.RecordBatch.from_pylist([ROW, row or {}], layout.SCHEMA)
    except (pa.ArrowException, TypeError, OverflowError):
        return  # Arrow itself cannot hold it.
    path.write_bytes(journal_of(ABOUT, SCHEMA, batch.serialize().to_pybytes()))
    refused_or_shown(path)
