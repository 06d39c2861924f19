"""The calls behind protection changes: from the addresses the programs noted to names.

Where the stack's frames are comes from the kernel, which follows frame pointers. A function
that was compiled without them hides its caller; what called into the kernel is never lost, nor is
the caller of the C library's mprotect(), which the word on top of the stack tells.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pte_trace.records import (
    CAUSES,
    DELETED,
    JIT,
    LAYOUT,
    CallSite,
    Frame,
    VmaKey,
    VmaRecord,
    file_name,
)

Symbolize = Callable[[str, int, int], tuple[str | None, int | None]]

_LOWEST_ADDRESS = 0x10000  # sysctl vm.mmap_min_addr
_MAPS_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) \S+ (\d+) *(.*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class CodeMapping:
    """Executable memory: addresses, and what of which file is there (inode 0: no file).

    ``image`` is None where it is not known which of the process's programs it belongs to.
    """

    pid: int
    image: int | None
    start: int
    end: int
    offset: int
    inode: int
    name: str


@dataclass(frozen=True, slots=True)
class RawCall:
    """A call site as addresses: see ``struct call_site``."""

    vma: VmaKey
    cause: str
    stack_top: int
    frames: tuple[int, ...]
    calls: int


class Code:
    """The executable memory of the traced processes. Of two that overlap the later one holds."""

    def __init__(self, mappings: Iterable[CodeMapping], parents: Mapping[int, int]) -> None:
        """*parents* are PIDs by PID: a process that was forked has its parent's memory."""
        self._by_pid: dict[int, list[CodeMapping]] = defaultdict(list)
        for mapping in mappings:
            self._by_pid[mapping.pid].append(mapping)
        self._parents = parents

    def find(self, pid: int, image: int, address: int) -> CodeMapping | None:
        """What is at *address* of a process's program."""
        found = self._find(pid, {image, None}, address)
        seen = {pid}
        while not found and self._parents.get(pid, pid) not in seen:
            pid = self._parents[pid]
            seen.add(pid)
            found = self._find(pid, None, address)
        return found

    def _find(self, pid: int, images: set[int | None] | None, address: int) -> CodeMapping | None:
        return next(
            (
                each
                for each in reversed(self._by_pid.get(pid, []))
                if each.start <= address < each.end and (images is None or each.image in images)
            ),
            None,
        )


def decode_calls(keys: bytes, values: bytes, count: int) -> Iterator[RawCall]:
    """Packed structs call_site, and the calls of each."""
    sites = LAYOUT.ffi.from_buffer("struct call_site[]", keys)
    calls = LAYOUT.ffi.from_buffer("uint64_t[]", values)
    for index in range(count):
        site, vma = sites[index], sites[index].vma
        key = (vma.tgid, vma.image, vma.start, vma.end, vma.inode, vma.dev, bool(vma.shared))
        frames = tuple(address for address in site.frames if address)
        yield RawCall(key, CAUSES[site.cause], site.stack_top, frames, calls[index])


def decode_code(
    keys: bytes, values: bytes, count: int, read_file: Callable[[bytes], bytes | None]
) -> Iterator[CodeMapping]:
    """Packed structs code_key and code_record, the oldest first.

    *read_file* is as `pte_trace.records.decode` has it.
    """
    all_keys = LAYOUT.ffi.from_buffer("struct code_key[]", keys)
    all_values = LAYOUT.ffi.from_buffer("struct code_record[]", values)
    for index in sorted(range(count), key=lambda index: all_values[index].mapped_ns):
        key, value = all_keys[index], all_values[index]
        name = JIT
        if value.inode:
            name = file_name(value.inode, value.dev, value.unlinked, read_file)
        yield CodeMapping(
            key.tgid, key.image, key.start, value.end, value.offset, value.inode, name
        )


def mapped_now(pid: int) -> list[CodeMapping]:
    """The executable memory that a process has at this moment; none if it is gone."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return []
    return list(code_in(maps, pid))


def code_in(maps: bytes, pid: int) -> Iterator[CodeMapping]:
    """From a /proc/PID/maps (proc_pid_maps(5)), where a name has no newline, but all else."""
    for line in maps.decode("utf-8", "backslashreplace").split("\n"):
        if found := _MAPS_LINE.fullmatch(line):
            yield _code_mapping(pid, *found.groups())


def _code_mapping(
    pid: int, start: str, end: str, offset: str, inode: str, name: str
) -> CodeMapping:
    named = name if name.startswith(("/", "[v")) else JIT
    return CodeMapping(pid, None, int(start, 16), int(end, 16), int(offset, 16), int(inode), named)


def attach(
    records: Iterable[VmaRecord], calls: Iterable[RawCall], code: Code, symbolize: Symbolize
) -> tuple[VmaRecord, ...]:
    """*records*, each with the calls that changed its protection.

    *symbolize* takes a file's path and inode and an offset in it, and gives the function and the
    address as the file has it.
    """
    sites: dict[VmaKey, list[CallSite]] = defaultdict(list)
    for call in calls:
        frames = tuple(_frames(call, code, symbolize))
        sites[call.vma].append(CallSite(call.cause, frames, call.calls))
    return tuple(replace(record, call_sites=tuple(sites.pop(record.key, ()))) for record in records)


def _frames(call: RawCall, code: Code, symbolize: Symbolize) -> Iterator[Frame]:
    """What called into the kernel, its caller, and on as far as frame pointers lead to code."""
    pid, image, *_ = call.vma

    def frame(address: int) -> Frame:
        mapping = code.find(pid, image, address)
        return _frame(address, mapping, symbolize) if mapping else Frame(address)

    inner, *others = call.frames or (0,)
    if inner:
        yield frame(inner)
    if call.stack_top not in others[:1]:
        caller = frame(call.stack_top)
        # Not code: no return address, but what the function that called the kernel keeps there.
        if caller.file:
            yield caller
    for each in map(frame, others):
        if each.file or each.address >= _LOWEST_ADDRESS:
            yield each
        if each.file is None:
            return


def _frame(address: int, mapping: CodeMapping, symbolize: Symbolize) -> Frame:
    if not mapping.inode:
        return Frame(address, mapping.name)
    # The instruction before: a call may be the last one of its function.
    offset = address - mapping.start + mapping.offset - 1
    function, inside = None, None
    if not mapping.name.endswith(DELETED):
        function, inside = symbolize(mapping.name, mapping.inode, offset)
    return Frame(address, mapping.name, inside, function)
