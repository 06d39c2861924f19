"""A recording as a source of snapshots, one recorded interval after the other."""

from __future__ import annotations

from dataclasses import replace

from pte_trace.counted.arrays import np
from pte_trace.counted.building import build
from pte_trace.counted.columns import Columns
from pte_trace.counted.counters import PROTECTION_CHANGES
from pte_trace.counted.ledger import Ledger
from pte_trace.counted.snapshot import Snapshot
from pte_trace.counted.stacks import Collected
from pte_trace.errors import RecordingError
from pte_trace.recording.interval import Interval
from pte_trace.recording.reading import Recording


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
        self._stacks = Collected()
        self._rows = 0
        self._latest: Snapshot | None = None

    def read(self) -> Snapshot:
        """The next interval."""
        assert self._next is not None
        snapshot = self._next.snapshot
        self._next, self._after = self._after, next(self._intervals, None)
        self._ledger.add(self._dated(snapshot.vmas.columns))
        for row in snapshot.vmas.with_stacks():
            self._stacks.add(row.key, row.stacks)
        self._duration_s += snapshot.duration_s
        self._latest = snapshot
        return snapshot

    def _dated(self, columns: Columns) -> Columns:
        """With numbers for times: of the rows read so far, which is the latest that says so."""
        rows = columns.rows.copy()
        rows["named_ns"] = self._rows + 1 + np.arange(len(rows))
        changed = columns.numbers_of(PROTECTION_CHANGES).any(axis=1)
        rows["changed_ns"] = np.where(changed, rows["named_ns"], 0)
        self._rows += len(rows)
        return replace(columns, rows=rows, distinct=False)

    def total(self) -> Snapshot:
        """All intervals read so far."""
        assert self._latest is not None
        whole = build(
            self._ledger.columns(),
            kernel=self._metadata.kernel,
            hooks=self._metadata.hooks,
            needless=self._metadata.needless,
            duration_s=self._duration_s,
            health=self._latest.health,
            effort=self._metadata.effort,
            split=self._metadata.split,
            stacks=self._stacks.by_vma(),
        )
        return whole if whole.reuse_cost else replace(whole, reuse_cost=self._latest.reuse_cost)

    def processes_ended(self) -> bool:
        """Whether the next interval is the last."""
        return self._after is None
