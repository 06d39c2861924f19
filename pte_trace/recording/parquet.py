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

from pte_trace.recording.layout import SCHEMA

MAGIC = b"PAR1"
METADATA = b"pte_trace"
_DIGEST = b"pte_trace_digest"
_DIGITS = 64
_BLANK = b"0" * _DIGITS
_MARK = re.compile(rb"blake2b:([0-9a-f]{%d})" % _DIGITS)
_TAIL = 8
_BLOCK = 1 << 20
_ROWS_OF_A_GROUP = 65536


def write(path: Path, metadata: bytes, batches: Iterator[pa.RecordBatch]) -> None:
    """Write *batches* in row groups of about as many mappings. Raises OSError."""
    with pq.ParquetWriter(
        path, SCHEMA, compression="zstd", write_statistics=["time"], store_schema=False
    ) as writer:
        for table in _groups(batches):
            writer.write_table(table, row_group_size=len(table))
        writer.add_key_value_metadata({METADATA: metadata, _DIGEST: b"blake2b:" + _BLANK})
    with path.open("r+b") as file:
        place = _mark(file)
        assert place is not None
        digits = _digest(file, place).encode()
        file.seek(place)
        file.write(digits)
        file.flush()
        os.fsync(file.fileno())


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    group: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        group.append(batch)
        rows += len(batch) + len(batch.column("vmas").values)
        if rows >= _ROWS_OF_A_GROUP:
            yield pa.Table.from_batches(group)
            group, rows = [], 0
    if group:
        yield pa.Table.from_batches(group)


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
