"""A recording as lines of text, for other programs: JSON documents, or CSV."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata
from pte_trace.target import Target
from pte_trace.views import document


def _moment(interval: Interval) -> dict[str, Any]:
    return {"time": interval.time.isoformat(timespec="microseconds"), "run": interval.run}


class JsonLines:
    """A line of metadata, then one document of schema 1 for each interval."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        """Raises OSError."""
        self._target = Target(path)
        self._write(metadata.document())

    def add(self, interval: Interval) -> None:
        """Raises OSError."""
        self._write({**_moment(interval), **document.document(interval.snapshot)})

    def _write(self, line: dict[str, Any]) -> None:
        self._target.append(f"{json.dumps(line)}\n".encode())

    def finish(self) -> None:
        self._target.close()


class CsvLines:
    """A line for each interval and mapping. CSV has no room for metadata."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        """Raises OSError."""
        self._target = Target(path)
        self._header = True

    def add(self, interval: Interval) -> None:
        """Raises OSError."""
        lines = io.StringIO()
        document.write_csv(interval.snapshot, lines, header=self._header, first=_moment(interval))
        self._target.append(lines.getvalue().encode())
        self._header = False

    def finish(self) -> None:
        self._target.close()
