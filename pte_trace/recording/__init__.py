"""Recordings: intervals written to a file as they come, and read again.

While it is written, a recording is a journal (`journal`): whole intervals, each with its checksum,
whatever moment it is killed at. When it ends it becomes Parquet (`parquet`). Both are read by
`reading`. Nothing here imports pandas.
"""

from __future__ import annotations

import mmap
import resource
from pathlib import Path

# Of addresses, to load Arrow and what it loads: they end the process where they find less.
_ROOM = 400 << 20


def _check_room() -> None:
    """Raises MemoryError."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    if most != resource.RLIM_INFINITY and most - has < _ROOM:
        raise MemoryError("too few addresses for Arrow")


_check_room()
