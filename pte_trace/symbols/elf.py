"""Functions at addresses of an ELF file, which may be a stranger's.

It is read piece by piece, and of names only those that are asked for: a table of a million
symbols takes no memory, and a second, in which pyelftools would read a few ten thousand.
"""

from __future__ import annotations

import os
import stat
import struct
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from elftools.elf.elffile import ELFFile

from pte_trace.fence import RefusedError

# Where Debian's packages put the symbols they take out of programs.
SEPARATE = Path("/usr/lib/debug/.build-id")
LONGEST_NAME = 1000
CUT = b"\xe2\x80\xa6"  # an ellipsis

_MAGIC = b"\x7fELF"
# As many as the kernel itself takes of a program, and no more than 16 bits can count.
_MOST_SEGMENTS = 65536 // 56
_MOST_SECTIONS = 0xFFFF
_MOST_NOTES, _LONGEST_NOTES = 16, 4096
_LONGEST_BUILD_ID = 64
_ALIKE = 16
_AT_ONCE = 1 << 12

_SYMTAB, _NOTE, _DYNSYM = 2, 7, 11
_FUNCTION_TYPES = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_NT_GNU_BUILD_ID = 3


class Found(NamedTuple):
    """The function at an offset of the file.

    ``address``: of *offset* in the file's own terms, None where no part of it is loaded there.
    ``start``: the function's, with its name; None where there is none.
    """

    offset: int
    address: int | None
    start: int | None = None
    name: bytes = b""


class _Table(NamedTuple):
    """A symbol table, and where the names in it are in the same file."""

    file: int
    place: int
    size: int
    symbol: struct.Struct
    names: int
    names_size: int

    def name(self, offset: int) -> bytes:
        """Cut where it is longer than `LONGEST_NAME`."""
        room = min(LONGEST_NAME + 1, max(0, self.names_size - offset))
        name = os.pread(self.file, room, self.names + offset).partition(b"\0")[0]
        name = name.partition(b"@")[0]
        return name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + CUT


@dataclass
class _Nearest:
    """Of the functions around an address those that begin last, with where their names are."""

    start: int = -1
    names: list[tuple[_Table, int]] | None = None

    def offer(self, start: int, table: _Table, name: int) -> None:
        if start > self.start or self.names is None:
            self.start, self.names = start, []
        if start == self.start and len(self.names) < _ALIKE:
            self.names.append((table, name))

    def name(self) -> bytes:
        """Of several the one with the fewest underscores before it is preferred."""
        return max((table.name(offset) for table, offset in self.names or ()), key=_preference)


def _preference(name: bytes) -> tuple[bool, int, int, bytes]:
    underscores = len(name) - len(name.lstrip(b"_"))
    return bool(name), -underscores, -len(name), name


def functions(file: int, offsets: Sequence[int]) -> Iterator[Found]:
    """Each of *offsets* once. Raises RefusedError, and what pyelftools raises; OSError."""
    elf = _Elf(file)
    addresses = {offset: elf.address_of(offset) for offset in offsets}
    wanted = sorted({address for address in addresses.values() if address is not None})
    nearest: dict[int, _Nearest] = defaultdict(_Nearest)
    for table in (*elf.tables(), *_separate(elf)):
        _search(table, wanted, nearest)
    for offset, address in addresses.items():
        if address is None or address not in nearest:
            yield Found(offset, address)
        else:
            found = nearest[address]
            yield Found(offset, address, found.start, found.name())


def _search(table: _Table, wanted: Sequence[int], nearest: dict[int, _Nearest]) -> None:
    step = _AT_ONCE * table.symbol.size
    wide = table.symbol.size == _SYMBOLS[64].size
    for place in range(0, table.size - table.size % table.symbol.size, step):
        block = os.pread(table.file, min(step, table.size - place), table.place + place)
        whole = len(block) - len(block) % table.symbol.size
        if not whole:
            return
        for fields in table.symbol.iter_unpack(block[:whole]):
            if wide:
                name, info, _, section, value, size = fields
            else:
                name, value, size, info, _, section = fields
            if info & 0xF in _FUNCTION_TYPES and section and size:
                at = bisect_left(wanted, value)
                while at < len(wanted) and wanted[at] < value + size:
                    nearest[wanted[at]].offer(value, table, name)
                    at += 1


# Of a symbol, and the sizes of headers: elf(5).
_SYMBOLS = {32: struct.Struct("<IIIBBH"), 64: struct.Struct("<IBBHQQ")}
_SECTION_SIZES = {32: 40, 64: 64}
_SEGMENT_SIZES = {32: 32, 64: 56}


class _Elf:
    """The headers of one file."""

    def __init__(self, file: int) -> None:
        if os.pread(file, len(_MAGIC), 0) != _MAGIC:
            raise RefusedError("it is no ELF file")
        self._file = file
        self._elf = ELFFile(os.fdopen(file, "rb", closefd=False))
        if not self._elf.little_endian:
            raise RefusedError("it is of another kind of machine")

    def address_of(self, offset: int) -> int | None:
        """The address in the file's own terms, as `addr2line -e` takes it."""
        for start, size, address in self._segments:
            if start <= offset < start + size:
                return address + offset - start
        return None

    @cached_property
    def _segments(self) -> list[tuple[int, int, int]]:
        number, size = self._elf["e_phnum"], _SEGMENT_SIZES[self._elf.elfclass]
        if number > _MOST_SEGMENTS:
            raise RefusedError("it has more segments than a program can have")
        headers = os.pread(self._file, number * size, self._elf["e_phoff"])
        segments = [
            self._elf.structs.Elf_Phdr.parse(headers[at : at + size])
            for at in range(0, len(headers) - size + 1, size)
        ]
        return [
            (segment["p_offset"], segment["p_filesz"], segment["p_vaddr"])
            for segment in segments
            if segment["p_type"] == "PT_LOAD"
        ]

    def tables(self) -> Iterator[_Table]:
        """The first of each kind: a file has no more than one."""
        for kind in (_SYMTAB, _DYNSYM):
            for section in islice(self._sections(kind), 1):
                names = self._section(section["sh_link"])
                yield _Table(
                    self._file,
                    section["sh_offset"],
                    section["sh_size"],
                    _SYMBOLS[self._elf.elfclass],
                    names["sh_offset"],
                    names["sh_size"],
                )

    def build_id(self) -> bytes | None:
        for section in islice(self._sections(_NOTE), _MOST_NOTES):
            size = min(section["sh_size"], _LONGEST_NOTES)
            for kind, content in _notes(os.pread(self._file, size, section["sh_offset"])):
                if kind == _NT_GNU_BUILD_ID and 1 < len(content) <= _LONGEST_BUILD_ID:
                    return content
        return None

    def _sections(self, kind: int) -> Iterator[Any]:
        size = _SECTION_SIZES[self._elf.elfclass]
        headers, sought = self._headers, kind.to_bytes(4, "little")
        for at in range(0, len(headers) - size + 1, size):
            if headers[at + 4 : at + 8] == sought:
                yield self._section(at // size)

    def _section(self, number: int) -> Any:
        size = _SECTION_SIZES[self._elf.elfclass]
        header = self._headers[number * size : (number + 1) * size]
        return self._elf.structs.Elf_Shdr.parse(header)

    @cached_property
    def _headers(self) -> bytes:
        """Of all sections; none where there are none."""
        size = _SECTION_SIZES[self._elf.elfclass]
        if not self._elf["e_shoff"]:
            return b""
        if self._elf["e_shentsize"] != size:
            raise RefusedError("its section headers are of another size than any")
        number = self._elf["e_shnum"] or _MOST_SECTIONS
        return os.pread(self._file, number * size, self._elf["e_shoff"])


def _notes(section: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each: a name and a content, each filled up to four bytes."""
    place = 0
    while place + 12 <= len(section):
        name_size, size, kind = struct.unpack_from("<III", section, place)
        place += 12 + (name_size + 3) // 4 * 4
        yield kind, section[place : place + size]
        place += (size + 3) // 4 * 4


def _separate(elf: _Elf) -> Iterator[_Table]:
    """Symbols that are kept apart, in a file of the system's named by the build ID."""
    build_id = elf.build_id()
    if not build_id:
        return
    named = build_id.hex()
    try:
        path = SEPARATE / named[:2] / f"{named[2:]}.debug"
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(file).st_mode):
            yield from _Elf(file).tables()
    except Exception:  # what is kept apart is missing, or of no use
        return
