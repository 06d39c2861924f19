"""A row: one VMA, or one mapping with the VMAs that mprotect() split off it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pte_trace.counted.counters import WRITE_FAULTS
from pte_trace.counted.counts import Counts
from pte_trace.counted.packed import VmaKey

JIT = "[jit]"


@dataclass(frozen=True, slots=True)
class Frame:
    """One place on a stack. ``function`` is its name and the offset in it, as in ``main+0x1c``.

    ``file`` is the file mapped there, `JIT` for code that is in none, None where the address is
    not in memory known to be executable. ``offset``: the address as the file has it. ``unnamed``:
    why a place in a file has no function.
    """

    address: int
    file: str | None = None
    offset: int | None = None
    function: str | None = None
    unnamed: str | None = None

    @property
    def name(self) -> str | None:
        """The function's alone."""
        return None if self.function is None else self.function.rpartition("+")[0]


class Event(NamedTuple):
    """What a stack is of. ``counted`` is a family's name.

    ``value`` is the cause of a protection change, or the outcome of a write fault. Of such a one
    ``origin`` is who wrote: the program itself (``user``), the kernel on its behalf (``kernel``),
    another process or a kernel thread (``remote``).
    """

    counted: str
    value: str
    origin: str | None = None

    @property
    def is_fault(self) -> bool:
        return self.counted == WRITE_FAULTS.name


@dataclass(frozen=True, slots=True)
class Stack:
    """From where in a program something happened, innermost frame first, and how often."""

    event: Event
    frames: tuple[Frame, ...]
    count: int


@dataclass(frozen=True, slots=True)
class VmaRow:
    """One mapping, and what was counted in it.

    ``start`` and ``end`` are addresses, ``image`` tells programs of one PID apart (see struct
    vma_key), ``uid`` is the user's that the process belongs to, ``ppid`` its parent's PID,
    ``cgroup`` the path of its cgroup (empty: not known), ``inode`` and ``dev`` its file's.
    ``stacks``: who wrote to it and changed its protection, as far as that was asked for, what
    happened most often first.
    On the monotonic clock: when it was first seen, when mmap() made just this range (0: not
    known), when its protection was changed last (0: never), when its name was read.
    """

    pid: int
    comm: str
    start: int
    end: int
    perms: str
    kind: str
    name: str
    counts: Counts
    image: int = 0
    stacks: tuple[Stack, ...] = ()
    ppid: int = 0
    inode: int = 0
    dev: int = 0
    seen_ns: int = 0
    born_ns: int = 0
    uid: int = field(default=0, compare=False)
    changed_ns: int = field(default=0, compare=False)
    named_ns: int = field(default=0, compare=False)
    cgroup: str = ""

    @property
    def key(self) -> VmaKey:
        """As a ``struct vma_key``."""
        return (
            self.pid,
            self.image,
            self.start,
            self.end,
            self.inode,
            self.dev,
            self.perms[3] == "s",
        )

    @property
    def attributed(self) -> bool:
        """False for what was counted while there was no room for its VMA.

        It is of the process ``pid``, or of any where that is 0.
        """
        return self.end != 0


@dataclass(frozen=True)
class ProcessRow:
    """``cgroup``: the path of the one it was in last; empty where it is not known."""

    pid: int
    comm: str
    counts: Counts
    cgroup: str = ""
