"""What this kernel does to the pages of a process: found by doing it, not from its version."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pte_trace import apart

PAGES = 64
_ROUNDS = 5
_HUGE, _HUGE_PAGES = 2 << 20, 4
_MADV_COLD = 20  # madvise(2); not in Python's mmap

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_SOFT_DIRTY = 1 << 55


@dataclass(frozen=True)
class Behavior:
    """None where it is not clear.

    ``optimization``: mprotect() makes exclusive dirty pages writable at once.
    ``clean_pages``: clean ones too (commit d84887739d5c, Linux 6.2).
    ``huge_pages``: huge ones too (commit 6a56ccbcf6c6's series, Linux 6.2).
    ``soft_dirty``: writes can be tracked by soft-dirty bits (CONFIG_MEM_SOFT_DIRTY).
    ``reuse_fault_ns``: what a `wp_reuse` fault costs the program that takes it.
    """

    optimization: bool | None = None
    clean_pages: bool | None = None
    huge_pages: bool | None = None
    soft_dirty: bool | None = None
    reuse_fault_ns: float | None = None


def observe() -> Behavior:
    """Try it in a child, so that no other thread's faults are counted (getrusage(2))."""
    answer = apart.answer(lambda: json.dumps(_observations()).encode())
    if not answer:
        return Behavior()
    seen = json.loads(answer)
    return Behavior(
        _avoided(seen["dirty"]),
        _avoided(seen["clean"]),
        _avoided(seen["huge"], _HUGE_PAGES * _ROUNDS),
        seen["soft_dirty"],
        seen["reuse_fault_ns"],
    )


def _observations() -> dict[str, float | bool | None]:
    """Faults of rewriting dirty, clean and huge pages after a toggle; whether soft-dirty bits are
    set; the time of a fault.
    """
    return {
        "dirty": _rewrite_faults(lambda memory: None),
        "clean": _rewrite_faults(lambda memory: memory.madvise(mmap.MADV_FREE)),
        "huge": _huge_rewrite_faults(),
        "soft_dirty": _just_written_is_soft_dirty(),
        "reuse_fault_ns": _reuse_fault_ns(),
    }


def _avoided(faults: int | None, writes: int = PAGES) -> bool | None:
    """A few faults are the interpreter's own."""
    if faults is None:
        return None
    if faults < writes // 4:
        return True
    return False if faults >= writes else None


def _written_memory() -> tuple[mmap.mmap, int]:
    memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError, AttributeError):  # a kernel without huge pages, and a C library
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    _write(memory)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _write(memory: mmap.mmap) -> None:
    for page in range(0, len(memory), mmap.PAGESIZE):
        memory[page] = 1


def _rewrite_faults(prepare: Callable[[mmap.mmap], object]) -> int:
    """Minor faults of rewriting written pages after *prepare*, mprotect(R) and mprotect(RW)."""
    memory, address = _written_memory()
    prepare(memory)
    _toggle(address, len(memory))
    return _faults(lambda: _write(memory))


def _toggle(address: int, length: int) -> None:
    for protection in (mmap.PROT_READ, _READ_WRITE):
        if _libc.mprotect(address, length, protection):
            raise OSError(ctypes.get_errno(), "mprotect")


def _faults(act: Callable[[], object]) -> int:
    """Minor faults of *act* (getrusage(2))."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    act()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _huge_rewrite_faults() -> int | None:
    """The same of huge pages, several times over. None where none are to be had."""
    memory = mmap.mmap(-1, (_HUGE_PAGES + 1) * _HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    first = -start % _HUGE

    def write(within: int = 0) -> None:
        for page in range(first, first + _HUGE_PAGES * _HUGE, _HUGE):
            memory[page + within] = 1

    def rewrite() -> None:
        for _ in range(_ROUNDS):
            _toggle(start + first, _HUGE_PAGES * _HUGE)
            write()

    write()
    if _faults(lambda: write(mmap.PAGESIZE)) >= _HUGE_PAGES:
        return None
    return _faults(rewrite)


def _just_written_is_soft_dirty() -> bool | None:
    """From the page's entry in /proc/self/pagemap (proc_pid_pagemap(5))."""
    _memory, address = _written_memory()
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            pagemap.seek(address // mmap.PAGESIZE * 8)
            return bool(int.from_bytes(pagemap.read(8), "little") & _SOFT_DIRTY)
    except OSError:
        return None


def _reuse_fault_ns() -> float | None:
    """The median of several rounds; None where the clock is too coarse for it."""
    took = statistics.median(_rewrite_without_sharer() for _ in range(_ROUNDS))
    return took / PAGES if took > 0 else None


def _rewrite_without_sharer() -> int:
    """Nanoseconds of PAGES faults: of pages whose other user is gone, which the kernel notices
    only as they are written to.
    """
    warm, _ = _written_memory()
    memory, _ = _written_memory()
    # Takes them off this CPU's LRU batch: up to Linux 5.17 pages in it were copied.
    memory.madvise(_MADV_COLD)
    sharer = os.fork()
    if sharer == 0:
        os._exit(0)
    os.waitpid(sharer, 0)
    _write(warm)
    faulting, again = _timed_write(memory), _timed_write(memory)
    return faulting - again


def _timed_write(memory: mmap.mmap) -> int:
    begun = time.monotonic_ns()
    _write(memory)
    return time.monotonic_ns() - begun
