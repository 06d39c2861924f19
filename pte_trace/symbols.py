"""Names of functions, from ELF files' symbol tables."""

from __future__ import annotations

import mmap
import os
import resource
import stat
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cxxfilt
from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, Symbol, SymbolTableSection

from pte_trace import apart

# Where Debian's packages put the symbols they take out of programs.
_SEPARATE = Path("/usr/lib/debug/.build-id")
# A file may contradict itself in more ways than pyelftools has an error of its own for.
_UNREADABLE = (ELFError, ConstructError, OSError, ValueError)
_LONGEST_NAME = 1000
_DEMANGLER_BYTES, _DEMANGLER_SECONDS = 64 << 20, 5
_FUNCTIONS = ("STT_FUNC", "STT_GNU_IFUNC", "STT_LOOS")


@dataclass(frozen=True, slots=True)
class _Function:
    start: int
    size: int
    name: str


class _File:
    """The functions of one file by address, and where its parts are in memory."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ELFError."""
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            self._segments = [
                (segment["p_offset"], segment["p_filesz"], segment["p_vaddr"])
                for segment in elf.iter_segments("PT_LOAD")
            ]
            functions = set(_functions(elf))
            build_id = _build_id(elf)
        if build_id:
            functions |= _separate_functions(_SEPARATE / build_id[:2] / f"{build_id[2:]}.debug")
        self._functions = sorted(functions, key=_preferred_last)
        self._starts = [function.start for function in self._functions]

    def address_of(self, offset: int) -> int | None:
        """The address in the file's own terms, as `addr2line -e` takes it."""
        for start, size, address in self._segments:
            if start <= offset < start + size:
                return int(address + offset - start)
        return None

    def function_at(self, address: int) -> _Function | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        function = self._functions[index]
        return function if address < function.start + function.size else None


def _preferred_last(function: _Function) -> tuple[int, int, int, str]:
    """Of several names for one place the one with the fewest underscores before it is preferred."""
    underscores = len(function.name) - len(function.name.lstrip("_"))
    return function.start, -underscores, -len(function.name), function.name


def _functions(elf: ELFFile) -> Iterator[_Function]:
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection):
            yield from map(_function, filter(_is_function, section.iter_symbols()))


def _is_function(symbol: Symbol) -> bool:
    is_function = symbol["st_info"]["type"] in _FUNCTIONS
    return is_function and symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_size"] > 0


def _function(symbol: Symbol) -> _Function:
    name, _, _version = symbol.name.partition("@")
    return _Function(symbol["st_value"], symbol["st_size"], name)


def _separate_functions(path: Path) -> set[_Function]:
    try:
        with path.open("rb") as stream:
            return set(_functions(ELFFile(stream)))
    except _UNREADABLE:
        return set()


def _build_id(elf: ELFFile) -> str | None:
    for section in elf.iter_sections():
        if isinstance(section, NoteSection):
            for note in section.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    return None


@lru_cache(maxsize=256)
def _file(path: str, inode: int) -> _File | None:
    """None where the file that was mapped is not there any more, or not for us to read."""
    try:
        found = os.stat(path)
        same = found.st_ino == inode and stat.S_ISREG(found.st_mode)
        return _File(Path(path)) if same else None
    except _UNREADABLE:
        return None


def function_at(path: str, inode: int, offset: int) -> tuple[str | None, int | None]:
    """The function at *offset* of the file that was mapped, the instruction at its end left out.

    As ``main+0x1c``, which is where the instruction at *offset* ends; with it that address in
    the file's own terms. None is what is not known.
    """
    file = _file(path, inode)
    address = file.address_of(offset) if file else None
    if file is None or address is None:
        return None, None
    function = file.function_at(address)
    if function is None:
        return None, address + 1
    return f"{_readable(function.name)}+{address + 1 - function.start:#x}", address + 1


@lru_cache(maxsize=1024)
def _readable(name: str) -> str:
    """*name* as C++ has it, where that is of a sensible length.

    A few hundred letters can stand for more than there is memory, since each part may repeat
    those before it; and the program that is traced may be anybody's.
    """
    if not name.startswith("_Z"):
        return name
    found = apart.answer(lambda: _demangled(name)).decode("utf-8", "backslashreplace")
    return found if 0 < len(found) <= _LONGEST_NAME else name


def _demangled(name: str) -> bytes:
    """For a process of its own: it may have this much more memory, and time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * mmap.PAGESIZE + _DEMANGLER_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (_DEMANGLER_SECONDS, _DEMANGLER_SECONDS))
    return str(cxxfilt.demangle(name)).encode("utf-8", "backslashreplace")
