"""Stacks of write faults as FlameGraph's scripts read them: a line for each, and its number.

COMM;OUTERMOST;…;INNERMOST;OUTCOME ORIGIN MAPPING NUMBER
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from pte_trace.counted.flames import faults
from pte_trace.counted.snapshot import Snapshot
from pte_trace.views.printable import printable


def lines(snapshot: Snapshot) -> Iterator[str]:
    for parts, number in sorted(faults(snapshot).items()):
        # What separates frames is in none of them.
        yield f"{';'.join(printable(part).replace(';', ':') for part in parts)} {number}\n"


def write(snapshot: Snapshot, stream: IO[str]) -> None:
    stream.writelines(lines(snapshot))
