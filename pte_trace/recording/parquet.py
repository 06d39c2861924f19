"""A recording that has ended: Parquet, with the metadata and a digest of the whole file."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pte_trace.recording.footer import Footer, first_list

MAGIC = b"PAR1"
METADATA = b"pte_trace"
_DIGEST = b"pte_trace_digest"
_DIGITS = 64
_BLANK = b"0" * _DIGITS
_MARK = re.compile(rb"blake2b:([0-9a-f]{%d})" % _DIGITS)
_MARK_SIZE = len(b"blake2b:") + _DIGITS
_TAIL = 8
_BEGIN = 32
# Arrow makes ten times as much of it, in memory.
_LARGEST_FOOTER = 256 << 20
_BLOCK = 1 << 20
_ROWS_OF_A_GROUP = 32768
# Those of which an interval may have many; what is of stacks is a list of few in each.
_LISTS = ("vmas", "frames", "stacks")


def write(
    raw: io.FileIO, metadata: bytes, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
) -> None:
    """Write to *raw*, which is empty. Raises OSError."""
    file = io.BufferedRandom(raw)
    try:
        _write_blank(file, metadata, schema, batches)
        place = _mark(file)
        assert place is not None
        digits = _digest(file, place).encode()
        file.seek(place)
        file.write(digits)
        file.flush()
    finally:
        file.detach()


def _write_blank(
    file: IO[bytes], metadata: bytes, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
) -> None:
    """In row groups of about as many mappings, with a blank digest."""
    footer = Footer()
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
        lists = (batch.column(name) for name in batch.schema.names if name in _LISTS)
        rows += len(batch) + sum(len(each.values) for each in lists)
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


def footer_size(file: IO[bytes]) -> int:
    """As said before the end of *file*; -1 where it cannot be so."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    footer = int.from_bytes(tail[:4], "little")
    return footer if tail[4:] == MAGIC and footer <= min(_LARGEST_FOOTER, size - _TAIL) else -1


def fields_in_schema(file: IO[bytes]) -> int:
    """How many, by the beginning of the footer; 0 where it is another than a writer's."""
    file.seek(-_TAIL - footer_size(file), os.SEEK_END)
    return first_list(file.read(_BEGIN))


def _mark(file: IO[bytes]) -> int | None:
    """Where the digits of the digest are: in the footer, whose length stands before the end."""
    footer = footer_size(file)
    end = file.seek(0, os.SEEK_END) - _TAIL
    place = end - footer
    before = b""
    while 0 <= place < end:
        file.seek(place)
        block = before + file.read(min(_BLOCK, end - place))
        if found := _MARK.search(block):
            return place - len(before) + found.start(1)
        before = block[-_MARK_SIZE:]
        place += _BLOCK
    return None


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
