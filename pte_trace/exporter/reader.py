"""Reads the source regularly, so that the kernel's maps never fill between two scrapes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from pte_trace.counted.snapshot import Snapshot, mean_reuse_cost
from pte_trace.errors import PteTraceError
from pte_trace.exporter.history import History
from pte_trace.exporter.state import State
from pte_trace.exporter.switches import Switches, not_run

if TYPE_CHECKING:
    from pte_trace.exporter.groups import Groups

INTERVAL_S = 5.0
FRESH_S = 0.5


class Source(Protocol):
    """Where snapshots come from: a session."""

    def read(self) -> Snapshot:
        """The snapshot of the interval since the last call."""


class Reader:
    """Adds up readings, from entering to leaving: every INTERVAL_S, and when a scrape asks.

    Many scrapes at once are one reading. A reading that fails, for whatever reason, is counted
    and said; the state stays what it was, until one succeeds.
    """

    def __init__(
        self,
        source: Source,
        groups: Groups,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        *,
        switches: Switches | None = None,
    ) -> None:
        self._source = source
        self._groups = groups
        self._say = say
        self._now = now
        self._switches = switches
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._regularly, name="readings", daemon=True)
        self._readings = self._errors = 0
        self._reading_s = self._duration_s = 0.0
        self._failed: str | None = None
        self._history = History()
        self._read_at = -FRESH_S

    def __enter__(self) -> Reader:
        """Read once, so that there is a state. Raises what the source raises."""
        self._state = self._read()
        self._read_at = self._now()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def ready(self) -> bool:
        """Whether the last reading succeeded."""
        return self._failed is None

    def state(self) -> State:
        """All counted so far, FRESH_S old at most. Safe to call from any thread."""
        with self._lock:
            if self._now() - self._read_at >= FRESH_S:
                self._try_to_read()
            return self._state

    def _regularly(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            self.state()

    def _try_to_read(self) -> None:
        before = self._state.silent
        try:
            self._state = self._read()
        except Exception as error:
            self._errors += 1
            self._state = replace(self._state, errors=self._errors)
            said_last, self._failed = self._failed, _sentence(error)
            if self._failed != said_last:
                self._tell(self._failed)
        else:
            self._failed = None
            self._tell_of_switches(before)
        finally:
            # From its end on it is fresh: whoever waited for a long one has no other to wait for.
            self._read_at = self._now()

    def _tell_of_switches(self, before: Mapping[str, Path]) -> None:
        if self._state.silent and self._state.silent != before:
            self._tell(not_run(self._state.silent))
        elif before and not self._state.silent:
            self._tell("The kernel runs all hooks again.")

    def _tell(self, sentence: str) -> None:
        """Who reads what we say may be gone; we go on."""
        with suppress(OSError):
            self._say(sentence)

    def _read(self) -> State:
        begun = self._now()
        interval = self._source.read()
        self._groups.add(interval.vmas.columns)
        self._readings += 1
        self._duration_s += interval.duration_s
        self._reading_s += self._now() - begun
        totals = self._groups.totals
        self._history.add(self._now(), totals)
        cost = mean_reuse_cost(totals.reuse_cost, interval.reuse_cost)
        return State(
            snapshot=replace(
                interval,
                duration_s=self._duration_s,
                totals=totals,
                vmas=interval.vmas.none(),
                reuse_cost=cost,
            ),
            names=self._groups.names,
            counted=self._groups.counted,
            limit=self._groups.limit,
            folded=self._groups.folded,
            readings=self._readings,
            errors=self._errors,
            reading_s=self._reading_s,
            silent=self._switches.silent(interval.hooks) if self._switches else {},
            history=self._history.kept(),
        )


def _sentence(error: Exception) -> str:
    if isinstance(error, PteTraceError):
        return error.what
    return f"A reading failed: {type(error).__name__}: {error}."
