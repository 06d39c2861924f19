"""Run a benchmark twice: untraced for its times, then traced for its counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from pte_trace.bench import compiler, seed
from pte_trace.bench.results import Case, Faults, Macro, Micro, Times, Tracing, Write
from pte_trace.counted.counters import WRITE_FAULTS
from pte_trace.counted.snapshot import Kernel
from pte_trace.host import behavior
from pte_trace.session import Session

SIZES = (4 << 10, 16 << 10, 64 << 10, 512 << 10)
# Each does the same: more would only take longer, with a reading at both edges of each write.
_TRACED_ITERATIONS = 5
_TRACED_LOOPS = 2


class Bench:
    """Where a benchmark runs: traced by *session*, which counts this process's children.

    Without a session no faults are counted. *working* is entered with what is being done.
    """

    def __init__(
        self, session: Session | None, working: Callable[[str], AbstractContextManager[object]]
    ) -> None:
        """Raises HostError where the host cannot be traced or the program cannot be compiled."""
        self._session = session
        self._working = working
        if session is not None:
            session.examine()
            self._kernel = session.kernel
        else:
            self._kernel = Kernel(os.uname().release, behavior.observe().optimization)
        self._program = compiler.program()

    def micro(self, iterations: int) -> Micro:
        """Write to fresh memory of each of SIZES four times over, *iterations* times."""
        times = self._timed("micro", iterations, *SIZES)
        traced = min(iterations, _TRACED_ITERATIONS)
        faults, tracing = self._traced(traced, "micro", traced, *SIZES)
        cases = tuple(
            _case(result, iterations, faults[number] if faults else {})
            for number, result in enumerate(times.results)
        )
        return Micro(self._kernel, iterations, times.soft_dirty, cases, tracing)

    def macro(self, size: int, loops: int) -> Macro:
        """Make *size* bytes read-only, writable again and rewrite them, *loops* times over."""
        (result,) = self._timed("macro", size, loops).results
        traced = min(loops, _TRACED_LOOPS)
        faults, tracing = self._traced(traced, "macro", size, traced)
        return Macro(
            self._kernel,
            size,
            loops,
            result["total_ns"] / 1e9,
            faults[0]["loops"] if faults else None,
            tracing,
        )

    def _timed(self, *arguments: object) -> seed.Run:
        with self._working("Measuring, untraced"):
            return seed.timed(self._program, arguments)

    def _traced(
        self, iterations: int, *arguments: object
    ) -> tuple[list[dict[str, Faults]], Tracing | None]:
        """For each result line the faults of each phase; nothing without a session."""
        if self._session is None:
            return [], None
        with self._session as session:
            session.start()
            with self._working("Counting faults, traced"):
                run = seed.watched(self._program, arguments, session)
            health = session.total().health
        faults = [
            {
                phase: Faults(tuple(fault / iterations for fault in counted[WRITE_FAULTS]))
                for phase, counted in phases.items()
            }
            for phases in run.counts
        ]
        return faults, Tracing(iterations, health)


def _case(result: Mapping[str, Any], iterations: int, faults: Mapping[str, Faults]) -> Case:
    writes = {
        phase: Write(
            Times(times["min_ns"], times["max_ns"], times["total_ns"] / iterations),
            faults.get(phase),
        )
        for phase, times in result["phases"].items()
    }
    return Case(result["size"], result["access"], writes)
