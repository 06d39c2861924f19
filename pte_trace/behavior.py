"""What this kernel does to the pages of a process: found by doing it, not from its version."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass

PAGES = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_SOFT_DIRTY = 1 << 55


@dataclass(frozen=True)
class Behavior:
    """None where it is not clear.

    ``optimization``: mprotect() makes exclusive dirty pages writable at once.
    ``clean_pages``: clean ones too (commit d84887739d5c, Linux 6.2).
    ``soft_dirty``: writes can be tracked by soft-dirty bits (CONFIG_MEM_SOFT_DIRTY).
    """

    optimization: bool | None = None
    clean_pages: bool | None = None
    soft_dirty: bool | None = None


def observe() -> Behavior:
    """Try it in a child, so that no other thread's faults are counted (getrusage(2))."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(sender, json.dumps(_observations()).encode())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        return Behavior()
    seen = json.loads(answer)
    return Behavior(_avoided(seen["dirty"]), _avoided(seen["clean"]), seen["soft_dirty"])


def _observations() -> dict[str, int | bool | None]:
    """Faults of rewriting dirty and clean pages after a toggle; whether soft-dirty bits are set."""
    return {
        "dirty": _rewrite_faults(lambda memory: None),
        "clean": _rewrite_faults(lambda memory: memory.madvise(mmap.MADV_FREE)),
        "soft_dirty": _just_written_is_soft_dirty(),
    }


def _avoided(faults: int) -> bool | None:
    if faults < PAGES // 4:
        return True
    return False if faults >= PAGES else None


def _written_memory() -> tuple[mmap.mmap, int]:
    memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
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
    for protection in (mmap.PROT_READ, _READ_WRITE):
        if _libc.mprotect(address, len(memory), protection):
            raise OSError(ctypes.get_errno(), "mprotect")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    _write(memory)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _just_written_is_soft_dirty() -> bool | None:
    """From the page's entry in /proc/self/pagemap (proc_pid_pagemap(5))."""
    _memory, address = _written_memory()
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            pagemap.seek(address // mmap.PAGESIZE * 8)
            return bool(int.from_bytes(pagemap.read(8), "little") & _SOFT_DIRTY)
    except OSError:
        return None
