"""Read a recording, whether it ended or its recorder was killed."""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from pte_trace.errors import RecordingError
from pte_trace.recording import bounds, checks, journal, layout, parquet, pruning
from pte_trace.recording.decoding import decode
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import FORMAT, Metadata, from_document

# Arrow's own pool keeps what a batch took; a file of many large ones is read within bounds.
pa.set_memory_pool(pa.system_memory_pool())

_RECORD = "Make one: sudo pte-trace record -o FILE.parquet -- CMD"
_AGAIN = "Record again, or take an undamaged copy."
# A file that ends too early, for Arrow, is an EOFError; too deep a JSON is a RecursionError.
_NONSENSE = (
    *(pa.ArrowException, ArithmeticError, EOFError, LookupError, MemoryError, OSError),
    *(RecursionError, TypeError, ValueError, struct.error),
)
_BATCH = 4
# Row groups, or columns of one, or what was left out: in one list of the footer.
_MOST_IN_A_LIST = 1 << 17
_MOST_FIELDS = 1000
_FOOTER_GROWS, _JSON_GROWS = 20, 20
_GROUPS_AT_ONCE = 8


class Recording:
    """A recording that was found intact. Use as a context manager.

    ``ended`` is False where the recorder was killed: the intervals up to then are there.
    """

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        self.name = str(path)
        try:
            # A pipe that nobody writes to would be waited for.
            self._file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        except OSError as error:
            raise RecordingError(f"{path} cannot be read: {error.strerror}.", _RECORD) from error
        try:
            self.ended = self._check()
            with self._believed():
                self.metadata = self._metadata()
        except BaseException:
            self._file.close()
            raise

    def _check(self) -> bool:
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise RecordingError(f"{self.name} is no file, but a pipe or a device.", _RECORD)
        self._size = found.st_size
        try:
            begin = self._file.read(len(journal.MAGIC))
        except OSError as error:
            raise RecordingError(f"{self.name} cannot be read: {error.strerror}.") from error
        if begin == journal.MAGIC:
            return False
        if not begin:
            raise RecordingError(f"{self.name} is empty: nothing was recorded in it.", _RECORD)
        if not begin.startswith(parquet.MAGIC):
            raise RecordingError(f"{self.name} is not a recording of pte-trace.", _RECORD)
        intact = parquet.intact(self._file)
        if intact is None:
            raise RecordingError(
                f"{self.name} is not a recording of pte-trace, or its end is missing.", _RECORD
            )
        if not intact:
            raise RecordingError(
                f"{self.name} was damaged after it was written: its checksum does not fit.", _AGAIN
            )
        return True

    def _metadata(self) -> Metadata:
        if self.ended:
            if not 0 < parquet.fields_in_schema(self._file) <= _MOST_FIELDS:
                raise ValueError("schema")
            self._file.seek(0)
            with bounds.memory(parquet.footer_size(self._file), _FOOTER_GROWS):
                self._parquet = pq.ParquetFile(
                    self._file, thrift_container_size_limit=_MOST_IN_A_LIST
                )
            text = self._parquet.metadata.metadata[parquet.METADATA]
            checks.row_groups(self._parquet.metadata)
            known = checks.pruned(self._parquet.schema_arrow)
        else:
            frames = self._frames()
            text = next(frames, b"")
            schema = next(frames, b"")
            if not schema:
                raise RecordingError(
                    f"{self.name} holds nothing yet: its recorder was killed at once.", _RECORD
                )
            self._schema = pa.ipc.read_schema(pa.py_buffer(schema))
            known = checks.pruned(self._schema)
        if f'"recording": {FORMAT},'.encode() not in text or not known:
            raise RecordingError(
                f"{self.name} was made by another version of pte-trace.",
                "Read it with the version that made it.",
            )
        with bounds.memory(len(text), _JSON_GROWS):
            document = json.loads(text)
        checks.metadata(document)
        return from_document(document)

    @contextmanager
    def _believed(self) -> Iterator[None]:
        """What is whole by its checksum may have been made by anybody, and hold anything."""
        try:
            yield
        except _NONSENSE as error:
            raise RecordingError(
                f"{self.name} holds what no recorder writes, whole as it is.",
                "Have it from where it was recorded.",
            ) from error

    def _frames(self) -> Iterator[bytes]:
        self._file.seek(len(journal.MAGIC))
        return journal.frames(self._file, self.name)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The intervals in order, many in a batch. Raises RecordingError.

        With *columns*, as Parquet names them, they need not have more than these. A column of the
        schema is whole; of one named by its leaves only those are there.
        """
        with self._believed():
            for batch in self._batches(columns):
                checks.batch(batch)
                yield batch

    def _batches(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        if self.ended:
            groups = range(self._parquet.num_row_groups)
            step = _GROUPS_AT_ONCE if columns else 1
            for begin in groups[::step]:
                some = groups[begin : begin + step]
                with bounds.memory(self._size):
                    table = self._parquet.read_row_groups(some, columns, use_threads=False)
                checks.number(table, bounds.mappings(len(some), self._size))
                for batch in _merged(table):
                    yield self._whole(batch, columns)
            return
        frames = self._frames()
        next(frames), next(frames)
        batches: list[pa.RecordBatch] = []
        for frame in frames:
            checks.message(frame)
            with bounds.memory(len(frame), grows=1):
                batch = pa.ipc.read_record_batch(pa.py_buffer(frame), self._schema)
            batch.validate(full=True)
            # No two of its columns are in one place.
            if batch.nbytes > len(frame):
                raise ValueError(batch.nbytes)
            batches.append(self._whole(batch, None))
            if len(batches) == _BATCH:
                yield from _merged(pa.Table.from_batches(batches))
                batches = []
        if batches:
            yield from _merged(pa.Table.from_batches(batches))

    def _whole(self, batch: pa.RecordBatch, columns: Sequence[str] | None) -> pa.RecordBatch:
        effort = self.metadata.effort
        return pa.RecordBatch.from_pydict(
            {
                name: pruning.conform(column, layout.WITH_STACKS.field(name).type, effort)
                if columns is None or name in columns
                else column
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }
        )

    def intervals(self) -> Iterator[Interval]:
        """Every interval, as it was recorded. Raises RecordingError."""
        for batch in self.batches():
            yield from decode(batch, self.metadata)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _merged(table: pa.Table) -> Iterator[pa.RecordBatch]:
    return iter(table.combine_chunks().to_batches())
