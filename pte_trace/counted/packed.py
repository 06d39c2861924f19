"""bpf/records.h and bpf/counters.h as Python sees them: sizes, and the names of enums.

`make layout` parses them. What is packed is unpacked by `pte_trace.counted.reading`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pte_trace.counted.layout import ffi

DELETED = " (deleted)"
VmaKey = tuple[int, int, int, int, int, int, bool]
# The packed struct file_record of a packed struct file_key, None where there was no room for it.
ReadFile = Callable[[bytes], bytes | None]


class _Layout:
    """The structs of the programs. Sizes in bytes."""

    def __init__(self) -> None:
        self.ffi: Any = ffi
        self.record_size = self.ffi.sizeof("struct vma_record")
        self.timing_size = self.ffi.sizeof("struct timing")
        self.file_key_size = self.ffi.sizeof("struct file_key")
        self.file_size = self.ffi.sizeof("struct file_record")
        self.call_site_size = self.ffi.sizeof("struct call_site")
        self.code_key_size = self.ffi.sizeof("struct code_key")
        self.code_size = self.ffi.sizeof("struct code_record")
        # What a struct birth (bpf/vma.h) and its time take.
        self.birth_size = 40
        self.health_size = self.ffi.sizeof("struct health_record")

    def names(self, enum: str, prefix: str) -> tuple[str, ...]:
        """An enum's names in order, without *prefix* and in lower case."""
        members: dict[str, int] = self.ffi.typeof(f"enum {enum}").relements
        named = sorted((value, name) for name, value in members.items() if name.startswith(prefix))
        return tuple(name.removeprefix(prefix).lower() for _, name in named)


LAYOUT = _Layout()
TRACING = {name: value for value, name in enumerate(LAYOUT.names("tracing", "TRACE_"))}
KINDS = LAYOUT.names("kind", "KIND_")
BUCKETS: int = dict(LAYOUT.ffi.typeof("struct timing").fields)["log2"].type.length
# struct file_key's dev where it is the name of a mapping without a file, and of a cgroup.
ANON_NAME = 0xFFFFFFFF
CGROUP_NAME = 0xFFFFFFFE
# Before a path of which the first directories are not known.
CUT = "…"


class Packed(NamedTuple):
    """What was counted in one interval, as it lies in the kernel's tables.

    ``vmas``, ``remainders`` and ``nobodys``: structs vma_record. ``timings``: structs timing of
    those, which have the first VMA at the place ``first_vma``, the first remainder at
    ``first_remainder`` and nobody's at ``nobodys_place``.
    """

    vmas: memoryview | bytes
    remainders: memoryview | bytes = b""
    nobodys: memoryview | bytes = b""
    timings: memoryview | bytes = b""
    first_vma: int = 0
    first_remainder: int = 1 << 31
    nobodys_place: int = -1


def file_key(inode: int, dev: int, path: int) -> bytes:
    """A packed ``struct file_key``."""
    key = LAYOUT.ffi.new("struct file_key *", {"inode": inode, "dev": dev, "path": path})
    return bytes(LAYOUT.ffi.buffer(key))


def file_name(inode: int, dev: int, path: int, read_file: ReadFile) -> str:
    """A file's path as /proc/PID/maps shows it, or its inode where the path is not known."""
    packed = read_file(file_key(inode, dev, path))
    if packed is None:
        return f"[inode {inode}]"
    return path_of(packed) + (DELETED if path & 1 else "")


def path_of(packed: bytes) -> str:
    """The path in a packed ``struct file_record``."""
    cut = LAYOUT.ffi.from_buffer("struct file_record *", packed).cut
    return (CUT if cut else "") + "/" + "/".join(reversed(name_of(packed).split("\0")))


def name_of(packed: bytes) -> str:
    """All text in a packed ``struct file_record``, without the last NUL."""
    record = LAYOUT.ffi.from_buffer("struct file_record *", packed)
    raw = bytes(LAYOUT.ffi.buffer(record.components)[: record.length])
    return raw.decode("utf-8", "backslashreplace").rstrip("\0")
