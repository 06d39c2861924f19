"""One immutable account of what was counted. Every view renders it; none computes a total."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pte_trace.counted.counts import Counts, Histogram
from pte_trace.counted.mapping import ProcessRow, Stack, VmaRow
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.host.plan import Attachment

if TYPE_CHECKING:
    from pte_trace.counted.rows import Rows


@dataclass(frozen=True)
class Kernel:
    """``optimization`` is None where it could not be found out."""

    release: str
    optimization: bool | None


@dataclass(frozen=True)
class Health:
    """What got lost, and what tracing cost. ``map_full`` counts events that found no room for
    their VMA: their rows are not attributed. ``probe_seconds`` is None where the kernel
    does not measure it (sysctl kernel.bpf_stats_enabled). ``entries`` of the kernel's table of
    VMAs were taken at the last reading; it has room for ``capacity``. ``stacks_full`` counts
    the stacks of faults and changes and the mappings of code that found no room, ``paths_full`` the
    times that a name found none, ``timings_full`` the faults that were not timed for want of it."""

    map_full: int = 0
    missed_runs: int = 0
    probe_seconds: float | None = None
    entries: int = 0
    capacity: int = 0
    stacks_full: int = 0
    paths_full: int = 0
    timings_full: int = 0


@dataclass(frozen=True)
class ReuseCost:
    """The mean time of a `wp_reuse` fault in nanoseconds, and what it was measured on."""

    nanoseconds: float
    source: str


@dataclass(frozen=True)
class Snapshot:
    """Rows of ``vmas`` add up to ``processes``, those to ``totals``. Times in seconds.

    What ``effort`` left out is 0 in the counts and not known. ``reuse_cost`` is None where it
    could not be measured. ``foreign_pids``: not those by which pte-trace itself finds a process.
    ``needless``: hooks without which nothing is missed on this kernel.
    """

    kernel: Kernel
    hooks: Mapping[str, Attachment]
    duration_s: float
    totals: Counts
    vmas: Rows
    health: Health
    effort: Effort = EVERYTHING
    reuse_cost: ReuseCost | None = None
    foreign_pids: bool = False
    needless: frozenset[str] = frozenset()

    @cached_property
    def processes(self) -> tuple[ProcessRow, ...]:
        return self.vmas.processes()

    @property
    def stacks(self) -> Iterator[tuple[VmaRow, Stack]]:
        """Of each mapping those of what was counted in it, as far as they were asked for."""
        for vma in self.vmas.with_stacks():
            for stack in vma.stacks:
                yield vma, stack

    def seconds_saved(self, counts: Counts) -> float | None:
        """An estimate, and the most it can be: each entry made writable one fault avoided."""
        if self.reuse_cost is None or not self.effort.inspects:
            return None
        return counts.made_writable * self.reuse_cost.nanoseconds / 1e9


def mean_reuse_cost(measured: Histogram, calibration: ReuseCost | None) -> ReuseCost | None:
    """Of the faults *measured*; *calibration* where there are none."""
    if measured.mean is None:
        return calibration
    faults = "fault" if measured.count == 1 else "faults"
    return ReuseCost(measured.mean, f"{measured.count:,} wp_reuse {faults} timed here")
