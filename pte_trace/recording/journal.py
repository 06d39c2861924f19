"""A recording while it is written: frames, each a whole interval with its checksum.

A frame is a header (length of the payload, its length when unpacked, its CRC-32, the CRC-32 of
these three) and the payload, packed with zstd: first the metadata, then the Arrow schema, then
one record batch for each interval. A frame that the file ends in was being written when the
recorder was killed; it is left out. So is what the file system knew the length of, but had not
written when the power failed: zeros up to the end.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import pyarrow as pa

from pte_trace.counted.arrays import Numbers, np
from pte_trace.counted.columns import Columns, concatenated
from pte_trace.counted.ledger import same_vmas
from pte_trace.errors import RecordingError
from pte_trace.recording import bounds, layout
from pte_trace.recording.encoding import encode
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata, dumps
from pte_trace.target import Target

MAGIC = b"pte-trace journal 1\n"
_SIZES = struct.Struct("<III")
_CHECK = struct.Struct("<I")
_HEADER_SIZE = _SIZES.size + _CHECK.size
# No frame ends in so many: they are no damage to one that was whole.
_FEWEST_ZEROS = 16
_BLOCK = 1 << 20


class Writer:
    """Appends intervals; each is handed to the kernel whole, and at once."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        """Raises OSError."""
        self._codec = pa.Codec("zstd")
        # The last row first: of two that are alike, that one tells.
        self._before = Columns.none().identities
        self.target = Target(path)
        self.target.append(
            MAGIC
            + self._frame(dumps(metadata))
            + self._frame(layout.schema(metadata.effort).serialize().to_pybytes())
        )

    def write(self, interval: Interval) -> None:
        """Raises OSError."""
        batch = encode([interval], self._first_seen(interval.snapshot.vmas.columns))
        self.target.append(self._frame(batch.serialize()))

    def _first_seen(self, columns: Columns) -> Numbers:
        """When each was; of one that was in the interval before, what that says.

        What is the same in each interval takes no room.
        """
        known = len(self._before)
        rows = concatenated([self._before, columns.identities]).rows
        alike = same_vmas(rows, "kind")
        first = alike.firsts[alike.of]
        seen_ns: Numbers = np.where(first < known, rows["seen_ns"][first], rows["seen_ns"])[known:]
        self._before = replace(columns.identities, rows=columns.rows[::-1].copy())
        self._before.rows["seen_ns"] = seen_ns[::-1]
        return seen_ns

    def _frame(self, payload: bytes | pa.Buffer) -> bytes:
        packed: bytes = self._codec.compress(payload, asbytes=True)
        sizes = _SIZES.pack(len(packed), len(payload), zlib.crc32(packed))
        return sizes + _CHECK.pack(zlib.crc32(sizes)) + packed

    def close(self) -> None:
        self.target.close()


def frames(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The payloads of a journal after its MAGIC, up to the last whole one.

    Raises RecordingError where a frame was damaged, unless it and all after it never was written;
    ValueError where one says that it is longer than any can be.
    """
    codec = pa.Codec("zstd")
    while len(header := stream.read(_HEADER_SIZE)) == _HEADER_SIZE:
        sizes = header[: _SIZES.size]
        if _CHECK.pack(zlib.crc32(sizes)) != header[_SIZES.size :]:
            _check_unwritten(header, stream, name)
            return
        length, unpacked, check = _SIZES.unpack(sizes)
        if length > os.fstat(stream.fileno()).st_size - stream.tell():
            return
        packed = stream.read(length)
        if zlib.crc32(packed) != check:
            _check_unwritten(packed, stream, name)
            return
        if unpacked > bounds.frame(length):
            raise ValueError(unpacked)
        yield codec.decompress(packed, unpacked, asbytes=True)


def _check_unwritten(part: bytes, stream: IO[bytes], name: str) -> None:
    """All is zeros from within *part*, read last, to the end. Raises RecordingError."""
    zeros = len(part) - len(part.rstrip(b"\0"))
    while zeros and (block := stream.read(_BLOCK)):
        zeros = 0 if block.strip(b"\0") else zeros + len(block)
    if zeros < _FEWEST_ZEROS:
        raise RecordingError(
            f"{name} was damaged after it was written: a checksum does not fit.",
            "Record again, or take an undamaged copy.",
        )
