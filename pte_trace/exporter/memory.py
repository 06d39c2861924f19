"""A reading's memory goes back to the kernel: the exporter is to run for months.

glibc gives each thread a heap of its own, and once a large block was freed it takes blocks of
that size from the heaps too, where whatever comes after one keeps it. So each thread's heap grows
to what its largest reading took, and stays. See mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE = 128 << 10


def keep_small() -> None:
    """One heap for all threads, and none of it for large blocks. Call it before there are any.

    Without effect where the C library has no mallopt.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Give the kernel back what lies free between what is in use, as after a crowd of clients.

    What they left in circles of references, as tasks and their errors do, is free only then.
    """
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
