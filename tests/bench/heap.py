"""A program whose heap is some hundred MiB of huge pages, and the kernel's own account of it.

Run by docs/results.py, traced. It fills its heap; writes to it again after a fork whose child is
gone, as a program does that writes a snapshot of itself; while such a child still has it, to an
eighth; and after making it read-only and writable again, as a garbage collector may. What the
kernel counted in each of these is the last line, as JSON.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

_HUGE, _SMALL = 2 << 20, 4096
_PAGES, _SHARED = 192, 24
# MAP_NORESERVE: what has it is not merged with what has not.
_ALONE = 0x4000
_COUNTERS = ("thp_fault_alloc", "thp_split_pmd")


def _counted() -> dict[str, int]:
    """Of this process, and of the machine."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    lines = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    vmstat = {name: int(number) for name, number in lines if name in _COUNTERS}
    return {"faults": usage.ru_minflt + usage.ru_majflt, **vmstat}


def _meanwhile(does: Callable[[], object]) -> dict[str, int]:
    _counted()
    before = _counted()
    does()
    after = _counted()
    return {name: after[name] - before[name] for name in after}


def _rewritten(heap: memoryview, pages: int) -> None:
    for place in range(0, pages * _HUGE, _SMALL):
        heap[place] = 1


def _child(*, stays: bool) -> int:
    child = os.fork()
    if not child:
        if stays:
            signal.pause()
        os._exit(0)
    if not stays:
        os.waitpid(child, 0)
    return child


def main() -> None:
    # The heap begins where a huge page does: what is before is never written to.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _ALONE
    whole = mmap.mmap(-1, (_PAGES + 1) * _HUGE, flags)
    first = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    skipped = -first % _HUGE
    heap = memoryview(whole)[skipped : skipped + _PAGES * _HUGE]
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    found = {"filled": _meanwhile(lambda: _rewritten(heap, _PAGES))}
    _child(stays=False)
    found["after a child that is gone"] = _meanwhile(lambda: _rewritten(heap, _PAGES))
    child = _child(stays=True)
    found["beside a living child"] = _meanwhile(lambda: _rewritten(heap, _SHARED))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found["when it is gone too"] = _meanwhile(lambda: _rewritten(heap, _PAGES))
    for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
        if protect(first + skipped, _PAGES * _HUGE, protection):
            raise OSError("mprotect")
    found["after mprotect() and back"] = _meanwhile(lambda: _rewritten(heap, _PAGES))
    print(json.dumps({"start": hex(first), "phases": found}))


if __name__ == "__main__":
    main()
