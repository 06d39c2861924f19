"""A recording that has ended: Parquet, with the metadata and a digest of the whole file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pte_trace.recording.footer import Footer

MAGIC = b"PAR1"
METADATA = b"pte_trace"
_DIGEST = b"pte_trace_digest"
_DIGITS = 64
_BLANK = b"0" * _DIGITS
_MARK = re.compile(rb"blake2b:([0-9a-f]{%d})" % _DIGITS)
_TAIL = 8
_BLOCK = 1 << 20
_ROWS_OF_A_GROUP = 32768


def write(
    path: Path, metadata: bytes, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
) -> None:
    """Raises OSError."""
    _write_blank(path, metadata, schema, batches)
    with path.open("r+b") as file:
        place = _mark(file)
        assert place is not None
        digits = _digest(file, place).encode()
        file.seek(place)
        file.write(digits)
        file.flush()
        os.fsync(file.fileno())


def _write_blank(
    path: Path, metadata: bytes, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
) -> None:
    """In row groups of about as many mappings, with a blank digest."""
    footer = Footer()
    with path.open("wb") as file:
        file.write(MAGIC)
        for table in _groups(schema, batches):
            whole = _file_of(table)
            end = len(whole) - _TAIL - int.from_bytes(whole[-_TAIL:-4], "little")
            footer.add(whole[end:-_TAIL].tobytes(), file.tell() - len(MAGIC))
            file.write(whole[len(MAGIC) : end])
        parts = footer.serialize({METADATA: metadata, _DIGEST: b"blake2b:" + _BLANK})
        file.writelines(parts)
        file.write(sum(map(len, parts)).to_bytes(4, "little") + MAGIC)


def _file_of(table: pa.Table) -> memoryview:
    """A Parquet file that has *table* in one row group."""
    stream = pa.BufferOutputStream()
    pq.write_table(
        table,
        stream,
        row_group_size=max(1, len(table)),
        compression="zstd",
        write_statistics=["time"],
        store_schema=False,
    )
    return memoryview(stream.getvalue())


def _groups(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """As many batches in each as have that many rows; an empty one, if there are no batches."""
    group: list[pa.RecordBatch] = []
    rows = 0
    number = 0
    for batch in batches:
        group.append(batch)
        rows += len(batch) + len(batch.column("vmas").values)
        if rows >= _ROWS_OF_A_GROUP:
            yield pa.Table.from_batches(group)
            group, rows, number = [], 0, number + 1
    if group or not number:
        yield pa.Table.from_batches(group, schema)


def intact(file: IO[bytes]) -> bool | None:
    """Whether *file* is as it was written; None where it bears no digest of ours."""
    place = _mark(file)
    if place is None:
        return None
    file.seek(place)
    return file.read(_DIGITS) == _digest(file, place).encode()


def _mark(file: IO[bytes]) -> int | None:
    """Where the digits of the digest are: in the footer, whose length stands before the end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    start = size - _TAIL - int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or start < 0:
        return None
    file.seek(start)
    found = _MARK.search(file.read())
    return start + found.start(1) if found else None


def _digest(file: IO[bytes], place: int) -> str:
    """Of the whole file, the digits at *place* being blank."""
    digest = hashlib.blake2b(digest_size=_DIGITS // 2)
    file.seek(0)
    left = place
    while left:
        block = file.read(min(_BLOCK, left))
        digest.update(block)
        left -= len(block)
    digest.update(_BLANK)
    file.seek(place + _DIGITS)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
