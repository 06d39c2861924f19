"""How much memory a part of a recording may take: it may have been made to take all there is.

What is read grows as what a recorder writes was seen to grow, with room to spare, and no further.
"""

from __future__ import annotations

import io
import mmap
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# A frame of nothing but zeros and addresses in order is 40 times as long unpacked.
_FRAME, _FRAME_GROWS = 4 << 20, 100
# A mapping takes two bytes of a file at least, where no others are like it; those that each
# interval has again take none, but a row group ends when it has so many.
_GROUP, _MAPPINGS_OF_A_BYTE = 1 << 15, 2
# While Arrow reads.
_ARROW, _ARROW_GROWS = 48 << 20, 100
# Of proc_pid_statm(5).
_DATA = 5


def frame(packed: int) -> int:
    """The most bytes that a frame of so many packed ones may have."""
    return _FRAME + _FRAME_GROWS * packed


def mappings(groups: int, size: int) -> int:
    """The most of all intervals together in so many row groups, in a file of *size* bytes."""
    return _GROUP * groups + _MAPPINGS_OF_A_BYTE * size


@contextmanager
def memory(size: int, grows: int = _ARROW_GROWS) -> Iterator[None]:
    """While so many bytes are read, what takes more memory than they can need is a MemoryError.

    That is a limit of the whole process; its own comes back afterwards. Arrow's own memory pools
    reserve more than they need; the one thread that it reads with is there before.
    """
    pool, threads = pa.default_memory_pool(), pa.io_thread_count()
    pa.set_io_thread_count(1)
    _begin_the_thread()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[_DATA])
    most = pages * mmap.PAGESIZE + _ARROW + grows * size
    if before[0] == resource.RLIM_INFINITY or most < before[0]:
        resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)
        resource.setrlimit(resource.RLIMIT_DATA, before)
        pa.set_io_thread_count(threads)


@cache
def _begin_the_thread() -> None:
    """Arrow begins it with the first work, and ends the process where there is no room for it."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.nulls(1, pa.int64())], ["any"]), file)
    pq.ParquetFile(file).read_row_groups([0], use_threads=False)
