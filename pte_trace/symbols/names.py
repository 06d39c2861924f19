"""Names of functions, from the symbol tables of the files that traced programs have mapped.

Programs and files may be anybody's: they are read in a process of its own (see fence.py).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

import cxxfilt

from pte_trace import fence
from pte_trace.counted.stacks import Named, Place
from pte_trace.symbols import elf, files
from pte_trace.symbols.elf import Found

# For all files together, for each, and for names of C++ at once; in memory beside our own.
_SECONDS, _SECONDS_EACH, _SECONDS_READABLE = 7.0, 2.5, 2.0
_MEMORY = 64 << 20
_MOST_KNOWN = 1 << 16
# As C++ has it. A few hundred letters can stand for more than there is memory: each part may
# repeat those before it.
_LONGEST_READABLE = 1000
# Three numbers and a name, in hexadecimal digits.
_LONGEST_LINE = 3 * 17 + 2 * (elf.LONGEST_NAME + len(elf.CUT)) + 1
_LONGEST_ANSWER = 16 << 20
_NO_PATH = "its path is not known"
_NO_TIME = "the names in other files took too long"
_NOT_LOADED = "no part of the file is loaded there"
_NO_FUNCTION = "its symbols name no function there"

Looked = tuple[Mapping[int, Found], str | None]


def names(places: Iterable[Place]) -> Mapping[Place, Named]:
    """The function at each of *places*, or why it has no name."""
    by_file: dict[tuple[int, int, str], list[Place]] = defaultdict(list)
    for place in places:
        mapping = place.mapping
        by_file[mapping.dev, mapping.inode, mapping.name].append(place)
    until = time.monotonic() + _SECONDS
    # What most calls came through first: one file that takes long is no reason to know nothing.
    in_turn = sorted(by_file.items(), key=lambda each: -len(each[1]))
    looked = {file: _look(of, until) for file, of in in_turn}
    symbols = {each.name for found, _ in looked.values() for each in found.values()}
    readable = _readable(symbols, until)
    return {
        place: _named(place, *looked[file], readable)
        for file, of in by_file.items()
        for place in of
    }


def _named(
    place: Place, found: Mapping[int, Found], why: str | None, readable: Mapping[bytes, str]
) -> Named:
    """As ``main+0x1c``, which is as far behind the place as its address is."""
    if place.offset not in found:
        return Named(why=why or _NO_FUNCTION)
    _, address, start, name = found[place.offset]
    if address is None:
        return Named(why=_NOT_LOADED)
    told = address + place.after
    if start is None:
        return Named(address=told, why=_NO_FUNCTION)
    return Named(f"{readable[name]}+{told - start:#x}", told)


class Remembered:
    """Names of places, each file looked into once for what is new in it.

    What is asked for at every interval takes time but for the first.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Named] = {}

    def names(self, places: Iterable[Place]) -> Mapping[Place, Named]:
        """As `names` does."""
        by_key = {place: _same(place) for place in places}
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        new = {key: place for place, key in by_key.items() if key not in self._known}
        if new:
            found = names(new.values())
            self._known |= {key: found[place] for key, place in new.items()}
        return {place: self._known[key] for place, key in by_key.items()}


def _same(place: Place) -> tuple[object, ...]:
    """What two places have in common that are one in a file."""
    mapping = place.mapping
    return mapping.dev, mapping.inode, mapping.name, place.offset, place.after


def _look(places: Sequence[Place], until: float) -> Looked:
    """What is found in the one file of *places* by offset, and why that is not all."""
    mapping = places[-1].mapping
    left = until - time.monotonic()
    if not mapping.name.startswith("/"):
        return {}, _NO_PATH
    if left <= 0:
        return {}, _NO_TIME
    offsets = sorted({place.offset for place in places})
    bounds = fence.Bounds(min(left, _SECONDS_EACH), _MEMORY, _longest(len(offsets)))
    answer = fence.ask(
        lambda file: map(_line, elf.functions(file, offsets)), bounds, lambda: files.opened(mapping)
    )
    return dict(_lines(answer.said, frozenset(offsets))), answer.why


def _longest(number: int) -> int:
    """The longest answer about so many places."""
    return min(number * _LONGEST_LINE, _LONGEST_ANSWER)


def _line(found: Found) -> bytes:
    numbers = ("-" if each is None else f"{each:x}" for each in found[:3])
    return f"{' '.join(numbers)} {found.name.hex()}\n".encode()


def _lines(said: bytes, asked: frozenset[int]) -> Iterator[tuple[int, Found]]:
    """Those that are whole and about what was *asked*."""
    for line in said.split(b"\n")[:-1]:
        with suppress(ValueError):
            offset, address, start, name = line.split(b" ")
            found = Found(
                int(offset, 16), _number(address), _number(start), bytes.fromhex(name.decode())
            )
            if found.offset in asked:
                yield found.offset, found


def _number(digits: bytes) -> int | None:
    return None if digits == b"-" else int(digits, 16)


def _readable(symbols: Iterable[bytes], until: float) -> Mapping[bytes, str]:
    """*symbols* as text, and as C++ has them where that is of a sensible length."""
    found = {symbol: symbol.decode("utf-8", "backslashreplace") for symbol in symbols}
    left = sorted(symbol for symbol in found if symbol.startswith(b"_Z"))
    while left and (seconds := until - time.monotonic()) > 0:
        bounds = fence.Bounds(
            min(seconds, _SECONDS_READABLE), _MEMORY, len(left) * (2 * _LONGEST_READABLE + 1)
        )
        answer = fence.ask(partial(_demangle, [found[symbol] for symbol in left]), bounds)
        lines = answer.said.split(b"\n")[:-1]
        for symbol, line in zip(left, lines, strict=False):
            with suppress(ValueError):
                name = bytes.fromhex(line.decode()).decode("utf-8", "backslashreplace")
                found[symbol] = name or found[symbol]
        if answer.why is None:
            break
        left = left[len(lines) + 1 :]  # the one after them was too much
    return found


def _demangle(symbols: Iterable[str], _: int) -> Iterator[bytes]:
    return map(_demangled, symbols)


def _demangled(name: str) -> bytes:
    """As a line of hexadecimal digits; an empty one where it stays as it is."""
    try:
        readable = str(cxxfilt.demangle(name)).encode("utf-8", "backslashreplace")
    except cxxfilt.InvalidName:
        readable = b""
    return (readable.hex() if len(readable) <= _LONGEST_READABLE else "").encode() + b"\n"
