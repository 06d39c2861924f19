"""A recording as a source of snapshots, one recorded interval after the other."""

from __future__ import annotations

from dataclasses import replace

from pte_trace.errors import RecordingError
from pte_trace.recording.interval import Interval
from pte_trace.recording.reading import Recording
from pte_trace.recording.summary import record_of
from pte_trace.snapshot import Ledger, Snapshot, build


class Replay:
    """What `top` shows of a session, of a recording. Raises RecordingError as it reads."""

    def __init__(self, recording: Recording) -> None:
        """Raises RecordingError, also where there is no interval to show."""
        self._metadata = recording.metadata
        self._intervals = recording.intervals()
        self._next: Interval | None = next(self._intervals, None)
        self._after: Interval | None = next(self._intervals, None)
        if self._next is None:
            raise RecordingError(f"{recording.name} holds no interval.", "Record for longer.")
        self._ledger = Ledger()
        self._duration_s = 0.0
        self._rows = 0
        self._latest: Snapshot | None = None

    def read(self) -> Snapshot:
        """The next interval."""
        assert self._next is not None
        snapshot = self._next.snapshot
        self._next, self._after = self._after, next(self._intervals, None)
        for vma in snapshot.vmas:
            self._rows += 1
            changed = self._rows if any(vma.counts.changes) else 0
            self._ledger.add([record_of(vma, changed=changed, named=self._rows)])
        self._duration_s += snapshot.duration_s
        self._latest = snapshot
        return snapshot

    def total(self) -> Snapshot:
        """All intervals read so far."""
        assert self._latest is not None
        whole = build(
            self._ledger.records(),
            kernel=self._metadata.kernel,
            hooks=self._metadata.hooks,
            duration_s=self._duration_s,
            health=self._latest.health,
            effort=self._metadata.effort,
            split=self._metadata.split,
        )
        return whole if whole.reuse_cost else replace(whole, reuse_cost=self._latest.reuse_cost)

    def processes_ended(self) -> bool:
        """Whether the next interval is the last."""
        return self._after is None
