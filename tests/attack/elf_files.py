"""ELF files that no linker makes: each would do some harm to who reads it without care.

In all of them one function, `honest`, is where a reader that is not led astray finds it. Layouts:
elf(5).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

HONEST_AT, HONEST_SIZE = 0x1000, 0x100
HONEST = b"honest"

_HEADER, _SEGMENT, _SECTION, _SYMBOL = (
    struct.Struct("<16sHHIQQQIHHHHHH"),
    struct.Struct("<IIQQQQQQ"),
    struct.Struct("<IIQQQQIIQQ"),
    struct.Struct("<IBBHQQ"),
)
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
SYMTAB, STRTAB, NOTE, NOBITS = 2, 3, 7, 8
_FUNCTION = 0x12  # global
GIB = 1 << 30


@dataclass(frozen=True)
class Section:
    """``size`` is that of *content*, unless it is said to be another."""

    kind: int
    content: bytes = b""
    link: int = 0
    size: int | None = None


def symbol(name: int, start: int = HONEST_AT, size: int = HONEST_SIZE) -> bytes:
    return _SYMBOL.pack(name, _FUNCTION, 0, 1, start, size)


@dataclass(frozen=True)
class Elf:
    """Sections, and one segment with all of the file, but for what is said to be otherwise.

    ``headers``: the section headers, by where the first section is.
    """

    sections: Sequence[Section] = ()
    headers: Callable[[int], bytes] | None = None
    segments: bytes = _SEGMENT.pack(1, 5, 0, 0, 0, 1 << 40, 1 << 40, 4096)
    phnum: int | None = None
    shnum: int | None = None
    shoff: int | None = None
    shentsize: int = _SECTION.size
    ident: bytes = _IDENT
    file_size: int | None = None

    def write(self, path: Path, program: bytes = b"") -> Path:
        """Sparse where nothing is written.

        With *program* it is that, but for its sections: it runs as before, since the kernel looks
        at segments alone.
        """
        base = place = max(HONEST_AT + HONEST_SIZE, len(program))
        headers = [_SECTION.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
        contents = []
        for section in self.sections:
            size = len(section.content) if section.size is None else section.size
            headers.append(
                _SECTION.pack(0, section.kind, 0, 0, place, size, section.link, 0, 1, 24)
            )
            contents.append((place, section.content))
            place += len(section.content)
        table = self.headers(base) if self.headers else b"".join(headers)
        contents.append((place, table))
        begin = self._begin(place, len(table) // _SECTION.size)
        if program:
            begin = program[:40] + begin[40:48] + program[48:58] + begin[58:64] + program[64:]
        with path.open("wb") as file:
            for at, content in [(0, begin), *contents]:
                file.seek(at)
                file.write(content)
            if self.file_size is not None:
                file.truncate(self.file_size)
        return path

    def _begin(self, table: int, number: int) -> bytes:
        """The header and the segments; the header tells of so many sections at *table*."""
        shnum = number if self.shnum is None else self.shnum
        phnum = len(self.segments) // _SEGMENT.size if self.phnum is None else self.phnum
        header = _HEADER.pack(
            *(self.ident, 3, 62, 1, HONEST_AT, _HEADER.size),
            *(table if self.shoff is None else self.shoff, 0),
            *(_HEADER.size, _SEGMENT.size, phnum, self.shentsize, shnum & 0xFFFF, 0),
        )
        return header + self.segments


NAMES = b"\0" + HONEST + b"\0"


def tables(names: bytes, symbols: Iterable[bytes] = (), **changes: int) -> tuple[Section, Section]:
    """A symbol table that begins with `honest`, and its names after NAMES."""
    return (
        Section(STRTAB, NAMES + names),
        Section(SYMTAB, symbol(1) + b"".join(symbols), link=1, **changes),
    )


def note(content: bytes, size: int | None = None) -> bytes:
    said = len(content) if size is None else size
    return struct.pack("<III", 4, said, 3) + b"GNU\0" + content


AFTER = len(NAMES)
PLAIN = Elf(tables(b""))
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PAIRS = [f"S{_DIGITS[at]}_" for at in range(35)] + [f"S1{_DIGITS[at]}_" for at in range(5)]


def _named(name: bytes, number: int = 1) -> Elf:
    return Elf(tables(name, (symbol(AFTER) for _ in range(number))))


def _mangled(name: str) -> Elf:
    """`honest` has this one as well, and so has what is before it."""
    return _named(name.encode() + b"\0")


def _many_sections() -> Elf:
    names, symbols = Section(STRTAB, NAMES), Section(SYMTAB, symbol(1) * 50_000, link=1)

    def headers(base: int) -> bytes:
        first = _SECTION.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        strings = _SECTION.pack(0, STRTAB, 0, 0, base, len(NAMES), 0, 0, 1, 0)
        place, size = base + len(NAMES), len(symbols.content)
        return (
            first
            + strings
            + 60_000 * _SECTION.pack(0, SYMTAB, 0, 0, place, size, 1, 0, 1, _SYMBOL.size)
        )

    return Elf((names, symbols), headers=headers)


# Each under a name that says what is wrong with it.
HOSTILE: dict[str, Callable[[], Elf]] = {
    "1,000 symbols with one name of 20 MB": lambda: _named(b"n" * 20_000_000 + b"\0", 1000),
    "60,000 sections that are one table": _many_sections,
    "a build ID of 4 GiB": lambda: Elf(
        (*tables(b""), Section(NOTE, note(b"", 0xFFFFFFFF), size=4 * GIB)), file_size=6 * GIB
    ),
    "a table of a terabyte": lambda: Elf(tables(b"", size=1 << 40), file_size=1 << 40),
    "a table larger than the file": lambda: Elf(tables(b"", size=1 << 62)),
    "a million functions at one place": lambda: Elf(
        tables(b"x\0", (symbol(AFTER) for _ in range(1_000_000)))
    ),
    "functions that are everywhere": lambda: Elf(
        tables(b"x\0", (symbol(AFTER, 0, 1 << 63) for _ in range(200_000)))
    ),
    "names that do not end": lambda: Elf(tables(b"y" * 5000, [symbol(AFTER)])),
    "a name outside the names": lambda: Elf(tables(b"", [symbol(0xFFFFFFFF)])),
    "names that are no section": lambda: Elf(
        (Section(STRTAB, NAMES), Section(SYMTAB, symbol(1), link=0xFFFFFFFF))
    ),
    "more sections than 16 bits count": lambda: replace(
        PLAIN, headers=lambda _: _SECTION.pack(0, 0, 0, 0, 0, (1 << 64) - 1, 0, 0, 0, 0), shnum=0
    ),
    "sections after the end": lambda: replace(PLAIN, shoff=1 << 50, shnum=40),
    "sections of no size": lambda: replace(PLAIN, shentsize=0),
    "65,535 segments": lambda: replace(PLAIN, phnum=0xFFFF),
    "segments after the end": lambda: replace(PLAIN, segments=b"", phnum=500),
    "segments at the end of all addresses": lambda: replace(
        PLAIN,
        segments=_SEGMENT.pack(1, 5, 0, (1 << 64) - 1, 0, (1 << 64) - 1, (1 << 64) - 1, 1),
    ),
    "another order of bytes": lambda: replace(PLAIN, ident=_IDENT[:5] + b"\x02" + _IDENT[6:]),
    "another class": lambda: replace(PLAIN, ident=_IDENT[:4] + b"\x01" + _IDENT[5:]),
    "no class at all": lambda: replace(PLAIN, ident=_IDENT[:4] + b"\x09" + _IDENT[5:]),
    "a header and nothing more": lambda: replace(PLAIN, file_size=_HEADER.size),
    "half a header": lambda: replace(PLAIN, file_size=30),
    "a million notes": lambda: Elf((*tables(b""), Section(NOTE, note(b"") * 1_000_000))),
    "notes that contradict themselves": lambda: Elf(
        (*tables(b""), Section(NOTE, struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 3) * 9))
    ),
    "10,000 sections of notes": lambda: Elf(
        (*tables(b""), *(Section(NOTE, note(b"x" * 20)) for _ in range(10_000)))
    ),
    "a build ID that leads elsewhere": lambda: Elf(
        (*tables(b""), Section(NOTE, note(b"../../../../etc/shadow\0\0")))
    ),
    "a name that stands for 2^40 names": lambda: _mangled(
        "_Z1fSt4pairIiiE" + "".join(f"S_I{each}{each}E" for each in _PAIRS)
    ),
    "a name of nested pointers": lambda: _mangled("_Z1f" + "P" * 900 + "i"),
    "a name of nested templates": lambda: _mangled("_Z1f" + "I1aS0_" * 150),
    "a name of nested numbers": lambda: _mangled("_ZN" + "9" * 900),
    "a name that writes to the terminal": lambda: _named(b"\x1b[2J\x1b]0;x\x07\r\n\0"),
    "a name of bytes that are no text": lambda: _named(bytes(range(128, 256)) + b"\0"),
    "a name from right to left": lambda: _named("a\u202etxt\u2066\u0000".encode()),
}
