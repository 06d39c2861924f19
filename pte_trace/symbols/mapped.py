"""What a running process has mapped: as much of it as is of use, whatever the process does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import IO

from pte_trace import fence
from pte_trace.counted.stacks import CodeMapping, code_in

# A process may have more mappings than memory holds the names of: the first are looked at.
_MOST_MAPPINGS = 16384
_MOST_BYTES = 16 << 20
# As long as a path can be, each byte of it perhaps escaped, and what is before it.
_LONGEST_LINE = 4 * 4096 + 100
_BOUNDS = fence.Bounds(seconds=2.0, memory=_MOST_BYTES, answer=_MOST_BYTES)


def code(pid: int) -> list[CodeMapping]:
    """The executable memory that a process has at this moment; none if it is gone."""
    path = f"/proc/{pid}/maps"
    answer = fence.ask(_executable, _BOUNDS, partial(os.open, path, os.O_RDONLY))
    return list(code_in(answer.said.split(b"\n"), pid))


def _executable(file: int) -> Iterator[bytes]:
    """Its lines."""
    with os.fdopen(file, "rb", closefd=False) as maps:
        yield from islice(filter(_is_executable, _lines(maps)), _MOST_MAPPINGS)


def _is_executable(line: bytes) -> bool:
    _, _, after = line.partition(b" ")
    return after[2:3] == b"x"


def _lines(maps: IO[bytes]) -> Iterator[bytes]:
    """Those that are not too long: the rest of such a one could be made to look like another."""
    whole = True
    for part in iter(partial(maps.readline, _LONGEST_LINE), b""):
        begins, whole = whole, part.endswith(b"\n")
        if begins and whole:
            yield part
