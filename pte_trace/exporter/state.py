"""What the exporter shows: one immutable value for the metrics and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pte_trace.exporter.groups import Group
from pte_trace.records import Counts
from pte_trace.snapshot import Snapshot


@dataclass(frozen=True)
class State:
    """All that was counted since the start.

    ``latest`` is the last reading's snapshot without its rows: kernel, hooks, effort and health
    are current there, its counts are one interval's. ``reuse_cost_s`` is the mean time of a
    `wp_reuse` fault in seconds, None where none was timed. ``folded`` counts, reading by
    reading, the groups that got no series. ``reading_s`` is the time all readings took.
    """

    latest: Snapshot
    groups: Mapping[Group, Counts]
    totals: Counts
    reuse_cost_s: float | None
    limit: int
    folded: int
    readings: int
    errors: int
    reading_s: float

    @property
    def seconds_saved(self) -> float | None:
        """An estimate, and the most it can be: each PTE made writable one fault avoided."""
        if self.reuse_cost_s is None or not self.latest.effort.inspects:
            return None
        return sum(self.totals.made_writable) * self.reuse_cost_s
