"""Is the optimization at work here? Found by doing it, not from the kernel's version."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource

PAGES = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


def _rewrite_faults() -> int:
    """Minor faults taken by rewriting PAGES pages after mprotect(R) and mprotect(RW)."""
    size = PAGES * mmap.PAGESIZE
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    pages = range(0, size, mmap.PAGESIZE)
    for page in pages:
        memory[page] = 1
    for protection in (mmap.PROT_READ, _READ_WRITE):
        if _libc.mprotect(address, size, protection):
            raise OSError(ctypes.get_errno(), "mprotect")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for page in pages:
        memory[page] = 2
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def at_work() -> bool | None:
    """Toggle protection in a child and count its faults. None where the answer is not clear.

    In a child, so that no other thread's faults are counted (getrusage(2), ru_minflt).
    """
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(sender, str(_rewrite_faults()).encode())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        return None
    faults = int(answer)
    if faults < PAGES // 4:
        return True
    return False if faults >= PAGES else None
