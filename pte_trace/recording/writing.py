"""Write a recording: a journal while it grows, Parquet when it has ended."""

from __future__ import annotations

import os
from pathlib import Path

from pte_trace.recording import journal, layout, parquet
from pte_trace.recording.metadata import Metadata, dumps
from pte_trace.recording.reading import Recording


class Recorder:
    """Killed at any moment, what was written up to the last interval can be read.

    While intervals are added, *path* is a journal; `finish` puts Parquet in its place.
    """

    def __init__(self, path: Path, metadata: Metadata) -> None:
        """Raises OSError."""
        self._path = path
        self._journal = journal.Writer(path, metadata)

    def add(self, interval: layout.Interval) -> None:
        """Raises OSError."""
        self._journal.write(interval)

    def finish(self) -> None:
        """Raises OSError; the journal is left then."""
        self._journal.close()
        beside = self._path.with_name(self._path.name + ".unfinished")
        try:
            with Recording(self._path) as recording:
                parquet.write(beside, dumps(recording.metadata), recording.batches())
            os.replace(beside, self._path)
        finally:
            beside.unlink(missing_ok=True)
