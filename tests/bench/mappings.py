"""A kernel's tables with many mappings, made without a kernel: packed as the programs pack them.

The mix is that of a node with containers: some 140 VMAs a process, 44 % of them of files, one to
eight VMAs that touch in a mapping, each with events.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import cast

from pte_trace import session as sessions
from pte_trace.counted.arrays import Array, np
from pte_trace.counted.packed import KINDS, LAYOUT, Packed, file_key
from pte_trace.counted.reading import RECORD, TIMING
from pte_trace.filters import Filters
from pte_trace.host import plan
from pte_trace.kernel.syscalls import Account
from pte_trace.programs.driver import Driver
from pte_trace.programs.program import Capacity
from pte_trace.session import Session
from tests.builders import host

VMAS_A_PROCESS = 140
_OF_FILES = 0.44
_MOST_PARTS = 8
_PAGE = 4096
_COMMS = 40
_FILES = 2000
_DEV = 0x00100003


class Machine:
    """In place of a driver (`pte_trace.programs.driver`): every reading brings all *vmas*."""

    def __init__(self, vmas: int) -> None:
        random = Random(vmas)
        self._records = np.zeros(vmas, RECORD)
        self._timings = np.zeros(vmas, TIMING)
        for place, vma in enumerate(_vmas(vmas, random)):
            _write(self._records[place], vma)
        self._count(random)
        # What a driver lends it zeroes afterwards; here tables as large are zeroed in their place.
        self._others = self._records.copy(), self._timings.copy()
        self._names = {file_key(inode, _DEV, 0): _path(inode) for inode in range(1, _FILES + 1)}

    def _count(self, random: Random) -> None:
        counted = self._records["counted"]
        for place in range(len(self._records)):
            outcome = random.choice((0, 1, 4))  # reuse, copy, other
            faults = random.randint(1, 50)
            counted["write_faults"][place, outcome] = faults
            if random.random() < 0.3:
                counted["protection_changes"][place, 0] = 2
                counted["ptes_changed"][place, 0] = 64
                counted["ptes_inspected"][place] = 32
                counted["ptes_made_writable"][place, 0] = 32
            timing = self._timings[place]
            timing["record"], timing["outcome"] = place, outcome
            timing["ns"] = faults * 1500
            timing["log2"][10] = faults

    @contextmanager
    def reading(self) -> Iterator[Packed]:
        records, timings = (table.view(np.uint8).data for table in (self._records, self._timings))
        yield Packed(records, timings=timings)
        for table in self._others:
            ctypes.memset(table.ctypes.data, 0, table.nbytes)

    def file(self, key: bytes) -> bytes | None:
        return self._names.get(key)

    def health(self) -> bytes:
        return bytes(LAYOUT.health_size)

    def programs(self) -> dict[str, Account]:
        return {}

    def follow(self, tgid: int, tracing: int) -> None:
        pass

    def is_followed(self, tgid: int) -> bool:
        return True

    def close(self) -> None:
        pass


def _path(inode: int) -> bytes:
    components = f"lib{inode}.so.{inode % 7}\0x86_64-linux-gnu\0lib\0usr\0".encode()
    record = {"length": len(components), "components": components}
    return bytes(LAYOUT.ffi.buffer(LAYOUT.ffi.new("struct file_record *", record)))


def _vmas(number: int, random: Random) -> Iterator[dict[str, int | bytes]]:
    """One after the other, in runs that touch."""
    made = 0
    while made < number:
        process = made // VMAS_A_PROCESS
        inode = random.randint(1, _FILES) if random.random() < _OF_FILES else 0
        start = (0x7F0000000000 + made * 64 * _PAGE) & ~(_PAGE - 1)
        for _ in range(min(random.randint(1, _MOST_PARTS), number - made)):
            end = start + random.randint(1, 16) * _PAGE
            yield {
                "tgid": 1000 + process,
                "image": 10**9 + process,
                "start": start,
                "end": end,
                "inode": inode,
                "dev": _DEV if inode else 0,
                "kind": KINDS.index("file" if inode else "anon"),
                "comm": f"worker-{process % _COMMS}".encode(),
                "first_seen_ns": 10**9 + made,
                "vm_flags": 0b11,
            }
            start = end
            made += 1


_KEY = set(RECORD["vma"].names or ())


def _write(record: Array, vma: dict[str, int | bytes]) -> None:
    for name, value in vma.items():
        (record["vma"] if name in _KEY else record)[name] = value
    record["uid"] = 1000


def table_bytes(vmas: int) -> int:
    """What its tables take, which are the kernel's elsewhere: both of each."""
    sizes: int = LAYOUT.record_size + LAYOUT.timing_size
    return 2 * vmas * sizes


def session(vmas: int, *, keep: bool) -> Session:
    """A session that traces such a machine."""
    made = Session(Filters(), capacity=Capacity.of(vmas), keep=keep)
    made._host = sessions._Host(host(), plan.make(host()), None)
    made._driver = cast(Driver, Machine(vmas))
    made.start()
    return made
