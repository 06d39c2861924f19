"""Write a recording: a journal while it grows, Parquet when it has ended."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pte_trace.effort import Effort
from pte_trace.recording import journal, parquet, pruning
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata, dumps
from pte_trace.recording.reading import Recording


class Recorder:
    """Killed at any moment, what was written up to the last interval can be read.

    While intervals are added, *path* is a journal; `finish` puts Parquet in its place. What is
    read back is what was added, but for one thing: a mapping that was in the interval before keeps
    when it was first seen.
    """

    def __init__(self, path: Path, metadata: Metadata) -> None:
        """Raises OSError."""
        # Arrow's own keep what was given back to them.
        pa.set_memory_pool(pa.system_memory_pool())
        self._journal = journal.Writer(path, metadata)
        self._counted: frozenset[pruning.Path] = frozenset()

    def add(self, interval: Interval) -> None:
        """Raises OSError."""
        self._journal.write(interval)
        self._counted |= pruning.counted(interval.snapshot.totals)

    def finish(self) -> None:
        """Raises OSError; the journal is left then."""
        target = self._journal.target
        try:
            with (
                Recording(Path(f"/proc/self/fd/{target.fileno()}")) as recording,
                target.other() as file,
            ):
                effort = recording.metadata.effort
                schema = pruning.schema(self._counted, effort)
                pruned = (_pruned(batch, schema, effort) for batch in recording.batches())
                parquet.write(file, dumps(recording.metadata), schema, pruned)
        finally:
            self._journal.close()


def _pruned(batch: pa.RecordBatch, schema: pa.Schema, effort: Effort) -> pa.RecordBatch:
    columns = [pruning.conform(batch.column(field.name), field.type, effort) for field in schema]
    pruned = pa.RecordBatch.from_arrays(columns, schema=schema)
    # A copy, or what was left out would be kept in memory with the rest.
    return pa.ipc.read_record_batch(pruned.serialize(), schema)
