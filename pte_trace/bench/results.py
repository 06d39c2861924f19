"""What the benchmarks found: times, the faults beside them, and the ratios of the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pte_trace.counted.counters import OUTCOMES
from pte_trace.counted.snapshot import Health, Kernel

PAGE = 4096
PHASES = {
    "first": "first",
    "second": "second",
    "mprotect": "after mprotect",
    "soft_dirty": "after soft-dirty",
}
ACCESSES = {"memset": "memset", "byte_per_page": "a byte per page"}


@dataclass(frozen=True)
class Times:
    """Nanoseconds, over all iterations."""

    min_ns: float
    max_ns: float
    avg_ns: float


@dataclass(frozen=True)
class Faults:
    """Write faults per iteration by outcome, in the order of OUTCOMES, of a traced run."""

    per_iteration: tuple[float, ...]

    def of(self, outcome: str) -> float:
        return self.per_iteration[OUTCOMES.index(outcome)]

    @property
    def all(self) -> float:
        return sum(self.per_iteration)


@dataclass(frozen=True)
class Write:
    """One phase; ``faults`` is None where nothing was traced."""

    times: Times
    faults: Faults | None


@dataclass(frozen=True)
class Case:
    """One size in bytes, written to in one way; ``writes`` by phase, a key of PHASES."""

    size: int
    access: str
    writes: Mapping[str, Write]

    @property
    def pages(self) -> int:
        return self.size // PAGE

    def after_mprotect_to(self, phase: str) -> float | None:
        """The average write after mprotect in units of *phase*'s; None without such a phase."""
        if phase not in self.writes:
            return None
        return self.writes["mprotect"].times.avg_ns / self.writes[phase].times.avg_ns


@dataclass(frozen=True)
class Tracing:
    """How the faults were counted: in so many iterations, and what got lost."""

    iterations: int
    health: Health


@dataclass(frozen=True)
class Micro:
    """Fresh memory of each size, written to four times over, by ``iterations``."""

    kernel: Kernel
    iterations: int
    soft_dirty: bool
    cases: tuple[Case, ...]
    tracing: Tracing | None


@dataclass(frozen=True)
class Macro:
    """``size`` bytes made read-only, writable again and rewritten, ``loops`` times over."""

    kernel: Kernel
    size: int
    loops: int
    seconds: float
    faults: Faults | None
    tracing: Tracing | None
