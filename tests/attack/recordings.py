"""Recordings that are whole by their checksums, and made to do harm to who reads them."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pte_trace.recording import footer, journal, layout, parquet
from pte_trace.recording.encoding import encode
from pte_trace.recording.metadata import dumps
from tests.builders import counts, record, snapshot
from tests.recordings import interval, metadata

ABOUT = dumps(metadata())
SCHEMA = layout.SCHEMA.serialize().to_pybytes()
_MAGIC_SIZE = len(parquet.MAGIC)
_TAIL = 8


def _batch(number: int = 1, **named: Any) -> pa.RecordBatch:
    """One interval with so many mappings, all alike."""
    one = encode([interval(snapshot(record(counts=counts(faults={"other": 1}), **named)), 1)])
    alike = one.column("vmas").values.take(_zeros(number))
    kind = layout.SCHEMA.field("vmas").type
    offsets = pa.py_buffer(struct.pack("=ii", 0, number))
    vmas = pa.Array.from_buffers(kind, 1, [None, offsets], children=[alike])
    return pa.RecordBatch.from_arrays([*one.columns[:-1], vmas], schema=layout.SCHEMA)


def _zeros(number: int) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), number, [None, pa.py_buffer(bytes(4 * number))])


BATCH = _batch().serialize().to_pybytes()


def _frame(payload: bytes, claim: int | None = None) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(payload, asbytes=True)
    said = len(payload) if claim is None else claim
    sizes = struct.pack("<III", len(packed), said, zlib.crc32(packed))
    return sizes + struct.pack("<I", zlib.crc32(sizes)) + packed


def _journal(*frames: bytes) -> bytes:
    return journal.MAGIC + b"".join(frames)


def _of(*payloads: bytes) -> bytes:
    return _journal(*map(_frame, payloads))


def _packed_again(batch: pa.RecordBatch) -> bytes:
    """As Arrow's own format allows, within the frame that is packed as a whole."""
    stream = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(stream, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    messages = pa.ipc.MessageReader.open_stream(stream.getvalue())
    messages.read_next_message()
    found: bytes = messages.read_next_message().serialize().to_pybytes()
    return found


def _parquet(batch: pa.RecordBatch, about: bytes = ABOUT) -> bytes:
    kept = io.BytesIO()
    raw = _Raw(kept)
    parquet.write(raw, about, batch.schema, iter([batch]))
    return kept.getvalue()


class _Raw(io.FileIO):
    """A raw file that is in memory."""

    def __init__(self, kept: io.BytesIO) -> None:
        self._kept = kept

    def write(self, data: Any, /) -> int:
        return self._kept.write(data)

    def readinto(self, buffer: Any, /) -> int:
        return self._kept.readinto(buffer)

    def seek(self, place: int, whence: int = 0, /) -> int:
        return self._kept.seek(place, whence)

    def tell(self) -> int:
        return self._kept.tell()

    def readable(self) -> bool:
        return True

    writable = seekable = readable

    @property
    def closed(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def __del__(self) -> None:
        pass


def _with_footer(whole: bytes, change: Callable[[footer.Struct], None]) -> bytes:
    """*whole* with another footer, and the right digest."""
    end = len(whole) - _TAIL - int.from_bytes(whole[-_TAIL:-4], "little")
    fields = footer._Reader(whole[end:-_TAIL]).struct()
    change(fields)
    packed = footer._struct(fields)
    return _sealed(whole[:end] + packed + len(packed).to_bytes(4, "little") + parquet.MAGIC)


def _sealed(data: bytes) -> bytes:
    file = io.BytesIO(data)
    place = parquet._mark(file)
    assert place is not None
    digest = parquet._digest(file, place)
    return data[:place] + digest.encode() + data[place + len(digest) :]


def _lying(fields: footer.Struct) -> None:
    """Every column says that it has one value, and takes a hundred bytes."""
    for group in fields[4][1][1]:
        for chunk in group[1][1][1]:
            about = chunk[3][1]
            about[5] = (about[5][0], 1)
            about[6] = (about[6][0], 100)


def _deep(fields: footer.Struct) -> None:
    """A column in a column, 50,000 times."""
    kind, elements = fields[2][1]
    inner: footer.Struct = {3: (5, 1), 4: (8, b"a"), 5: (5, 1)}
    fields[2] = (9, (kind, [*elements[:1], *[inner] * 50_000, *elements[1:]]))


def _wide(fields: footer.Struct) -> None:
    kind, elements = fields[2][1]
    root = dict(elements[0])
    root[5] = (5, 100_000)
    leaf: footer.Struct = {1: (5, 1), 3: (5, 1), 4: (8, b"a")}
    fields[2] = (9, (kind, [root, *[leaf] * 100_000]))


def _many_groups(fields: footer.Struct) -> None:
    kind, groups = fields[4][1]
    fields[4] = (9, (kind, groups * 300))


def _many_values(fields: footer.Struct) -> None:
    kind, pairs = fields[5][1]
    fields[5] = (9, (kind, [*pairs, *[{1: (8, b"k"), 2: (8, b"v")}] * 200_000]))


def _no_columns(fields: footer.Struct) -> None:
    for group in fields[4][1][1]:
        group[1] = (9, (12, [{2: (6, 4)}] * 100_000))


def _about(**changes: Any) -> bytes:
    return json.dumps({**metadata().document(), **changes}).encode()


def _nested(depth: int) -> bytes:
    return ABOUT[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"


MILLION = 1_000_000
NASTY = "\x1b[2J\x1b]0;x\x07\u202ea\r\n" + "n" * 4096

# Each under a name that says what is wrong with it. Others than bytes are written by a function.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a frame of 4 GiB": lambda: _journal(
        _frame(ABOUT), _frame(SCHEMA), _frame(BATCH, claim=0xFFFFFFFF)
    ),
    "metadata of 4 GiB": lambda: _journal(_frame(ABOUT, claim=0xFFFFFFFF), _frame(SCHEMA)),
    "a frame that says too little": lambda: _journal(
        _frame(ABOUT), _frame(SCHEMA), _frame(BATCH, claim=10)
    ),
    "a frame of zeros": lambda: _of(ABOUT, SCHEMA, bytes(400 << 20)),
    "metadata of blanks": lambda: _of(ABOUT[:-1] + b" " * (400 << 20) + b"}", SCHEMA),
    "a schema of zeros": lambda: _of(ABOUT, bytes(400 << 20)),
    "an interval packed twice": lambda: _of(ABOUT, SCHEMA, _packed_again(_batch(MILLION))),
    "100 intervals packed twice": lambda: _of(
        ABOUT, SCHEMA, *[_packed_again(_batch(50_000))] * 100
    ),
    "100,000 mappings that are one": lambda: _of(ABOUT, SCHEMA, _batch(100_000).serialize()),
    "20 intervals of 10,000 mappings": lambda: _of(
        ABOUT, SCHEMA, *[_batch(10_000).serialize()] * 20
    ),
    "a frame longer than the file": lambda: _of(ABOUT, SCHEMA) + b"\xff" * 16,
    "half a frame": lambda: _of(ABOUT, SCHEMA, BATCH)[:-20],
    "no frame": lambda: _of(),
    "metadata alone": lambda: _of(ABOUT),
    "frames in another order": lambda: _of(SCHEMA, ABOUT, BATCH),
    "metadata nested deeply": lambda: _of(_nested(200_000), SCHEMA),
    "metadata with a long list": lambda: _of(
        ABOUT[:-1] + b', "x": [' + b"[]," * MILLION + b"[]]}", SCHEMA
    ),
    "metadata that is no object": lambda: _of(b'["recording": 1,]', SCHEMA),
    "metadata with numbers that are none": lambda: _of(_about(interval_s=float("nan")), SCHEMA),
    "a time that is none": lambda: _of(_about(started="99999-01-01"), SCHEMA),
    "names that write to the terminal": lambda: _of(
        _about(command=[NASTY] * 100), SCHEMA, _batch(1, comm=NASTY, name=NASTY).serialize()
    ),
    "a name of 3 MB": lambda: _of(ABOUT, SCHEMA, _batch(1, name="n" * 3_000_000).serialize()),
    "Parquet: a million mappings that are one": lambda: _parquet(_batch(MILLION)),
    "Parquet: 30,000 times a name of 1 MB": lambda: _parquet(_batch(2_000, name="n" * MILLION)),
    "Parquet: a million that say they are one": lambda: _with_footer(
        _parquet(_batch(MILLION)), _lying
    ),
    "Parquet: a schema 50,000 deep": lambda: _with_footer(_parquet(_batch()), _deep),
    "Parquet: a schema 100,000 wide": lambda: _with_footer(_parquet(_batch()), _wide),
    "Parquet: 300 row groups that are one": lambda: _with_footer(_parquet(_batch()), _many_groups),
    "Parquet: 200,000 values of nothing": lambda: _with_footer(_parquet(_batch()), _many_values),
    "Parquet: 100,000 columns of nothing": lambda: _with_footer(_parquet(_batch()), _no_columns),
    "Parquet: metadata nested deeply": lambda: _parquet(_batch(), _nested(100_000)),
    "Parquet: metadata of 100 MB": lambda: _parquet(
        _batch(), ABOUT[:-1] + b" " * 100_000_000 + b"}"
    ),
    "Parquet: without its beginning": lambda: _parquet(_batch())[100:],
    "Parquet: without its end": lambda: _parquet(_batch())[:-9],
    "Parquet: without its middle": lambda: _sealed(
        _parquet(_batch())[:200] + bytes(2000) + _parquet(_batch())[2200:]
    ),
    "Parquet: nothing but its marks": lambda: parquet.MAGIC + bytes(4) + parquet.MAGIC,
    "Parquet: a footer of 4 GiB": lambda: parquet.MAGIC + b"\xff" * 4 + parquet.MAGIC,
    "nothing": lambda: b"",
    "one byte": lambda: b"P",
    "another file": lambda: b"#!/bin/sh\n" * 1000,
}


def sparse(path: Path) -> Path:
    """6 GiB, of which the end says that 4 GiB are its footer."""
    with path.open("wb") as file:
        file.write(parquet.MAGIC)
        file.truncate((6 << 30) - _TAIL)
        file.seek(0, io.SEEK_END)
        file.write(b"\xf0\xff\xff\xff" + parquet.MAGIC)
    return path
