"""What is measured beside the counts, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How far to look.

    ``inspect``: page tables looked at after each protection change, at most; None for all, 0 for
    none. ``costs``: one of so many write faults is timed; 1 for all, 0 for none. ``stacks``: of
    one of so many write faults and protection changes it is noted where in the program they come
    from; 1 for all, 0 for none.
    """

    inspect: int | None = None
    costs: int = 1
    stacks: int = 0

    @property
    def inspects(self) -> bool:
        return self.inspect != 0

    @property
    def times(self) -> bool:
        return self.costs != 0


EVERYTHING = Effort()
# What the programs look at by themselves: of one change no more (bpf/walk.h).
TABLES_PER_CHANGE = 4096
