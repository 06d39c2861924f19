"""The records the BPF programs count into, as Python values.

Layout, names and order come from bpf/records.h, which the programs compile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import add, itemgetter
from typing import Any

from pte_trace.layout import ffi

DELETED = " (deleted)"


class _Layout:
    """bpf/records.h; `make layout` parses it."""

    def __init__(self) -> None:
        self.ffi: Any = ffi
        self.record_size = self.ffi.sizeof("struct vma_record")
        self.file_key_size = self.ffi.sizeof("struct file_key")
        self.file_size = self.ffi.sizeof("struct file_record")
        self.call_site_size = self.ffi.sizeof("struct call_site")
        self.code_key_size = self.ffi.sizeof("struct code_key")
        self.code_size = self.ffi.sizeof("struct code_record")
        self.health_size = self.ffi.sizeof("struct health_record")

    def names(self, enum: str, prefix: str) -> tuple[str, ...]:
        """An enum's names in order, without *prefix* and in lower case."""
        members: dict[str, int] = self.ffi.typeof(f"enum {enum}").relements
        named = sorted((value, name) for name, value in members.items() if name.startswith(prefix))
        return tuple(name.removeprefix(prefix).lower() for _, name in named)


LAYOUT = _Layout()
CAUSES = LAYOUT.names("cause", "CAUSE_")
REASONS = ("clean", "soft_dirty", "uffd_wp", "shared")
OMISSIONS = LAYOUT.names("omission", "OMITTED_")
TRACING = {name: value for value, name in enumerate(LAYOUT.names("tracing", "TRACE_"))}
KINDS = LAYOUT.names("kind", "KIND_")
OUTCOMES = ("wp_reuse", "wp_copy", "wp_shared", "wp_uffd", "other", "error")
VmaKey = tuple[int, int, int, int, int, int, bool]
BUCKETS: int = LAYOUT.ffi.typeof("struct vma_record").fields[-1][1].type.item.length
# From an array in the order of the kernel's enum to a tuple in ours.
_by_outcome = itemgetter(*map(LAYOUT.names("outcome", "OUTCOME_").index, OUTCOMES))
_by_reason = itemgetter(*map(LAYOUT.names("reason", "REASON_").index, REASONS))

_VM_READ, _VM_WRITE, _VM_EXEC, _VM_SHARED = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long faults took inside handle_mm_fault(): ``log2[n]`` of them 2^n ns up to 2^(n+1).

    ``log2`` has BUCKETS places; the last one takes what is longer too. ``sum`` in nanoseconds.
    """

    sum: int
    log2: tuple[int, ...]

    @property
    def count(self) -> int:
        return sum(self.log2)

    @property
    def mean(self) -> float | None:
        """Nanoseconds; None where nothing was measured."""
        return self.sum / self.count if self.count else None

    def __add__(self, other: Histogram) -> Histogram:
        if other is UNMEASURED:
            return self
        if self is UNMEASURED:
            return other
        return Histogram(self.sum + other.sum, _add(self.log2, other.log2))


UNMEASURED = Histogram(0, (0,) * BUCKETS)


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted.

    Tuples in the order of CAUSES (``changes``, ``ptes_changed``, ``made_writable``), REASONS
    (``left_readonly``), OMISSIONS (``not_inspected``, in PTEs) and OUTCOMES (``write_faults``,
    ``costs``). Where costs are sampled, their counts are less than the faults. ``ptes_inspected``
    has a counter of its own; None in a recording, which keeps what became of them.
    """

    changes: tuple[int, ...]
    ptes_changed: tuple[int, ...]
    made_writable: tuple[int, ...]
    left_readonly: tuple[int, ...]
    not_inspected: tuple[int, ...]
    write_faults: tuple[int, ...]
    costs: tuple[Histogram, ...]
    ptes_inspected: int | None = field(default=None, compare=False)

    def __add__(self, other: Counts) -> Counts:
        if other is NOTHING:
            return self
        if self is NOTHING:
            return other
        return Counts(
            _add(self.changes, other.changes),
            _add(self.ptes_changed, other.ptes_changed),
            _add(self.made_writable, other.made_writable),
            _add(self.left_readonly, other.left_readonly),
            _add(self.not_inspected, other.not_inspected),
            _add(self.write_faults, other.write_faults),
            tuple(a + b for a, b in zip(self.costs, other.costs, strict=True)),
            self.inspected + other.inspected,
        )

    @property
    def events(self) -> int:
        """Protection changes and write faults."""
        return sum(self.changes) + sum(self.write_faults)

    @property
    def inspected(self) -> int:
        """PTEs looked at after a change that asked for writable ones."""
        if self.ptes_inspected is None:
            return sum(self.made_writable) + sum(self.left_readonly)
        return self.ptes_inspected

    @property
    def avoidable(self) -> int:
        """`wp_reuse` faults: counted in private mappings only."""
        return self.write_faults[OUTCOMES.index("wp_reuse")]

    @property
    def efficacy(self) -> float | None:
        """The share of avoidable faults that was avoided; None where there was neither.

        Known only where PTEs were inspected.
        """
        made = sum(self.made_writable)
        return made / (made + self.avoidable) if made + self.avoidable else None

    @property
    def reuse_cost(self) -> Histogram:
        """The cost of the `wp_reuse` faults that were measured."""
        return self.costs[OUTCOMES.index("wp_reuse")]


NOTHING = Counts(
    changes=(0,) * len(CAUSES),
    ptes_changed=(0,) * len(CAUSES),
    made_writable=(0,) * len(CAUSES),
    left_readonly=(0,) * len(REASONS),
    not_inspected=(0,) * len(OMISSIONS),
    write_faults=(0,) * len(OUTCOMES),
    costs=(UNMEASURED,) * len(OUTCOMES),
)


def _add(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(add, one, other))


@dataclass(frozen=True, slots=True)
class Frame:
    """One place on a stack. ``function`` is its name and the offset in it, as in ``main+0x1c``.

    ``file`` is the file mapped there, `JIT` for code that is in none, None where the address is
    not in memory known to be executable. ``offset``: the address as the file has it.
    """

    address: int
    file: str | None = None
    offset: int | None = None
    function: str | None = None


JIT = "[jit]"


@dataclass(frozen=True, slots=True)
class CallSite:
    """From where a protection change was asked for, innermost frame first, and how often."""

    cause: str
    frames: tuple[Frame, ...]
    calls: int


@dataclass(frozen=True, slots=True)
class VmaRecord:
    """One VMA of one program image, and what was counted in it.

    ``start`` and ``end`` are addresses, ``image`` tells processes of one PID apart
    (see struct vma_key). On the monotonic clock: when it was first seen, when mmap() made just
    this range (0: not known), when its protection was changed last (0: never), when its name
    was read.
    """

    pid: int
    ppid: int
    comm: str
    image: int
    start: int
    end: int
    inode: int
    dev: int
    kind: str
    name: str
    perms: str
    seen_ns: int
    born_ns: int
    changed_ns: int
    named_ns: int
    counts: Counts
    call_sites: tuple[CallSite, ...] = ()

    @property
    def vma(self) -> tuple[object, ...]:
        """What makes two records be of one VMA."""
        return (*self.key, self.name)

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


def decode(packed: bytes, read_file: Callable[[bytes], bytes | None]) -> Iterator[VmaRecord]:
    """The records of one reading, without those that count nothing.

    *packed*: ``struct vma_record``. *read_file* looks up a packed ``struct file_key``.
    """
    for value in LAYOUT.ffi.from_buffer("struct vma_record[]", packed):
        key, counts = value.vma, _counts(value)
        if counts == NOTHING:
            continue
        yield VmaRecord(
            pid=key.tgid,
            ppid=value.ppid,
            comm=_text(value.comm),
            image=key.image,
            start=key.start,
            end=key.end,
            inode=key.inode,
            dev=key.dev,
            kind=KINDS[value.kind] if key.end else "other",
            name=_name(key, value, read_file),
            perms=_perms(value.vm_flags if key.end else 0),
            seen_ns=value.first_seen_ns,
            born_ns=value.born_ns,
            changed_ns=value.last_change_ns,
            named_ns=value.first_seen_ns,
            counts=counts,
        )


def _counts(value: Any) -> Counts:
    return Counts(
        changes=tuple(value.changes),
        ptes_changed=tuple(value.ptes_changed),
        made_writable=tuple(value.made_writable),
        left_readonly=_by_reason(value.left_readonly),
        not_inspected=tuple(value.not_inspected),
        write_faults=_by_outcome(value.write_faults),
        costs=tuple(map(_histogram, _by_outcome(value.fault_ns), _by_outcome(value.fault_log2))),
        ptes_inspected=value.ptes_inspected,
    )


def _histogram(total: int, buckets: Any) -> Histogram:
    log2 = tuple(LAYOUT.ffi.unpack(buckets, BUCKETS))
    return UNMEASURED if log2 == UNMEASURED.log2 else Histogram(total, log2)


def _text(array: Any) -> str:
    text: bytes = LAYOUT.ffi.string(array)
    return text.decode("utf-8", "backslashreplace")


def _perms(vm_flags: int) -> str:
    """As in /proc/PID/maps."""
    return (
        ("r" if vm_flags & _VM_READ else "-")
        + ("w" if vm_flags & _VM_WRITE else "-")
        + ("x" if vm_flags & _VM_EXEC else "-")
        + ("s" if vm_flags & _VM_SHARED else "p")
    )


def _name(key: Any, value: Any, read_file: Callable[[bytes], bytes | None]) -> str:
    """A path, or a name in brackets for what has none, as in /proc/PID/maps."""
    if not key.end:
        return "[not attributed]"
    if key.inode:
        return file_name(key.inode, key.dev, value.unlinked, read_file)
    anon_name = _text(value.anon_name)
    kind = KINDS[value.kind]
    if anon_name:
        return f"[anon:{anon_name}]"
    return f"[{kind}]"


def file_name(
    inode: int, dev: int, unlinked: int, read_file: Callable[[bytes], bytes | None]
) -> str:
    """A file's path as /proc/PID/maps shows it, or its inode where the path is not known."""
    key = LAYOUT.ffi.new("struct file_key *", {"inode": inode, "dev": dev, "unlinked": unlinked})
    packed = read_file(bytes(LAYOUT.ffi.buffer(key)))
    if packed is None:
        return f"[inode {inode}]"
    return path_of(packed) + (DELETED if unlinked else "")


def path_of(packed: bytes) -> str:
    """The path in a packed ``struct file_record``."""
    record = LAYOUT.ffi.from_buffer("struct file_record *", packed)
    raw = bytes(LAYOUT.ffi.buffer(record.components)[: record.length])
    components = raw.decode("utf-8", "backslashreplace").rstrip("\0").split("\0")
    return "/" + "/".join(reversed(components))
